"""Weight: how much hangs on the rows of a table, as batch after batch tells, and how many of them make a batch."""

import sys

from nightcrew.database import MOST, Form, Selection, Taken
from nightcrew.throttle import Size
from nightcrew.trust import FILL, Trust

# One window is one index range of rows that nobody waits for; rows that others contend for, or that take children
# with them, are locked one by one, and a writer who waits for them should not yet call it slow. What hangs on rows
# counts with them.
SIZES = {
    Form.RANGE: Size(10_000, 1_000_000, 0.25),
    Form.CONTENDED: Size(1_000, 1_000_000, 0.25),
    Form.LOCKED: Size(500, MOST, 0.035, least=250),  # it takes a dozen statements, whatever its size
}
# Each also locks what hangs on its rows, and writes what is owed for that, in statements of their own.
_OWING = Size(500, MOST, 0.25, least=250)
# Each also writes a blob, however few rows it has.
_ARCHIVED = {
    Form.RANGE: Size(1_000, 60_000, 0.25, least=500),
    Form.CONTENDED: Size(1_000, 60_000, 0.25, least=500),
    Form.LOCKED: Size(1_000, MOST, 0.25, least=500),
}
_RISE = 4  # times as many rows may make the next batch as made the last, once these were all that were looked at


def size_of(selection: Selection) -> Size:
    """Return how large the batches of a selection are."""
    if selection.archived:
        return _ARCHIVED[selection.form]
    return _OWING if selection.blobs and selection.form is Form.LOCKED else SIZES[selection.form]


class Weight:
    """What was learned of rows: the rows that are touched for each of ours that goes, and how far that is proven.

    `dense` is whether the last batch took about as many as it might; `trust`, whether the next need not be looked at.
    """

    def __init__(self, proven: int) -> None:
        self.dense = False
        self.trust = Trust()
        self._usual = 1.0
        self._proven = proven
        self._fitting = sys.maxsize  # rows of ours that may fit, going by the last batch that was cut

    def proven(self, rows: int) -> int:
        """Return how many of so many rows, in all, a batch may be allowed to take: what is far more is not known."""
        return min(rows, self._proven)

    def of_ours(self, rows: int) -> int:
        """Return how many rows of the table make so many with what hangs on them."""
        fill = max(1, int(FILL * rows / self._usual)) if self._usual > 1 else rows
        return min(fill, self._fitting)

    def learn(self, taken: Taken, most: int) -> None:
        """Hear what a batch took that might take so many rows in all."""
        if taken.load:
            weight = taken.load / taken.rows if taken.rows else most
            if begun(taken):
                self.trust.none()
            else:
                self.trust.learn(self._usual, weight)
            usual = (self._usual + (_RISE - 1) * weight) / _RISE if self._usual > 1 else weight
            self._usual = max(usual, most * begun(taken))
            self._fitting = 2 * max(1, taken.rows) if taken.cut else min(sys.maxsize, _RISE * self._fitting)
        self.dense = 2 * taken.load >= most
        if self.dense:
            self._proven = max(self._proven, 2 * most)


def begun(taken: Taken) -> bool:
    """Tell whether only a slice of what hangs on a row has gone."""
    return taken.load > 0 and taken.rows == 0
