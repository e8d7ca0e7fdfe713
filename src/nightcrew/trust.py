"""Trust: whether the next rows are like those before them, so that nobody need look what hangs on each."""

import sys

FILL = 0.9  # of what fits into a batch is aimed at, for rows differ


class Trust:
    """Whether rows may go without a look beforehand: once batches in a row had about as much hanging on each row.

    When that was wrong, a batch was taken in vain: it takes twice as many before the next is trusted.
    """

    _MOST = 64

    def __init__(self) -> None:
        self._alike, self._needed = 0, 1

    @property
    def given(self) -> bool:
        """Whether the next batch is expected to be like the last ones."""
        return self._alike >= self._needed

    def learn(self, before: float, weight: float) -> None:
        """Hear what a row weighed on average, in earlier batches and in this one."""
        self._alike = self._alike + 1 if FILL <= weight / before <= 1 / FILL else 0

    def none(self) -> None:
        """Hear of a batch that tells nothing of the rows that come next."""
        self._alike = 0

    def broken(self) -> None:
        """Hear that it was in vain."""
        self._alike, self._needed = 0, min(2 * self._needed, self._MOST)

    def lost(self) -> None:
        """Hear that rows are in the way of whoever does not look: each is to be looked at from now on."""
        self._needed = sys.maxsize
