"""Walk: batch after batch through a selection, each in its own short transaction, past the rows that cannot go."""

import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from nightcrew.books import Books
from nightcrew.claim import Claim
from nightcrew.clock import Clock
from nightcrew.consent import Consents
from nightcrew.database import MOST, Connection, Cursor, Database, Form, Key, Selection, Taken
from nightcrew.errors import DatabaseError, SafetyStop
from nightcrew.hold import Hold
from nightcrew.ledger import Entry, Ledger
from nightcrew.metronome import Metronome
from nightcrew.rails import FEW, Permit, canary
from nightcrew.throttle import Size, Take
from nightcrew.watch import Watch

# One window is one index range of rows that nobody waits for; rows that others contend for, or that take children
# with them, are locked one by one, and a writer who waits for them should not yet call it slow. What hangs on rows
# counts with them.
SIZES = {
    Form.RANGE: Size(10_000, 200_000, 0.25),
    Form.CONTENDED: Size(1_000, 200_000, 0.25),
    Form.LOCKED: Size(500, MOST, 0.04, least=250),  # it takes a dozen statements, whatever its size
}
_MOST_LOCKED = 20_000  # rows that are locked by one statement, to be removed by another that lists them
_FILL = 0.9  # of what fits is aimed at, for rows differ
_FIRST = SIZES[Form.LOCKED].first
_RETRIES = 5  # times one batch is tried again after a deadlock, a lock waited for in vain, or a lost connection
_NARROWING = 8  # a batch with an undeletable row among so many is cut into this many
MOST_NAMED = 20  # of the rows that a trigger keeps without a word
_KEPT = "the database says no error, and still has the row: look for a trigger that keeps it"
MOST_PASSED_BY = 100  # rows a run finds one by one; when there are more, it is no row's fault


@dataclass(frozen=True, slots=True)
class Broom:
    """What a sweep works with."""

    database: Database
    books: Books
    consents: Consents
    ledger: Ledger
    clock: Clock
    lease: float
    watch: Watch
    holds: Callable[[], Sequence[Hold]]


@dataclass(frozen=True, slots=True)
class Undeletable:
    """A row that would not go, by its key, and what the database said."""

    key: str
    reason: str


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
        self._alike = self._alike + 1 if _FILL <= weight / before <= 1 / _FILL else 0

    def broken(self) -> None:
        """Hear that it was in vain."""
        self._alike, self._needed = 0, min(2 * self._needed, self._MOST)

    def lost(self) -> None:
        """Hear that rows are in the way of whoever does not look: each is to be looked at from now on."""
        self._needed = sys.maxsize


class Strays(SafetyStop):
    """The first batch of a new policy removed rows of tables that its plan does not know."""

    def __init__(self, job: str, tables: list[str]) -> None:
        self.tables = tables
        named = ", ".join(table or "a table that the server does not name" for table in tables)
        super().__init__(
            f"the first batch also removed rows of {named}, of which no plan knows, and was undone: look"
            f" for triggers there; if that is right, agree with 'nightcrew ack {job}'"
        )


class Walk:
    """One run's way through a selection; `total` is what was taken in all, and the `cursor` where it stands.

    Of what stayed on the latest way, `kept` were kept by a trigger, and `held` hung together with rows that somebody
    else held; `undeletable` rows are passed by for good. From `unsure` on there may be rows left that could go.
    """

    def __init__(self, claim: Claim, selection: Selection, permit: Permit, broom: Broom, metronome: Metronome) -> None:
        self.selection = selection
        self._permit = permit
        self._canary = permit.canary
        self.total = Counter(claim.counts)
        self.kept = 0
        self.undeletable: list[Undeletable] = []
        self.held: list[Key] = []
        self.unsure: Cursor | None = {} if claim.cursor else None  # others have been there before
        self._claim = claim
        self._broom = broom
        self.cursor = claim.cursor
        self._metronome = metronome
        self._retries = 0
        self._renewed = broom.clock.monotonic()  # as the run began
        self._proven = SIZES[selection.form].first  # rows that a batch may take in all
        self._dense = False  # whether the last batch took about as many as it might
        self._weight = 1.0  # rows that are touched for each of ours that goes
        self._trust = Trust()
        self._suspects = 0  # rows yet to be passed of a batch that failed for one of them

    def on(self) -> str | None:
        """Take batch after batch to the end of the selection; return what stopped it before that, or None.

        Raises ClaimLost when a newer fence exists, and DatabaseError for what retrying does not mend and no single
        row is to blame for; the batches before it stay done and accounted for.
        """
        while isinstance(beat := self._metronome.next(), Take):
            most = min(beat.rows, self._proven) if self.selection.form is Form.LOCKED else beat.rows
            started, small = self._broom.clock.monotonic(), bool(self._suspects) or self._canary
            even = self._trust.given and not (small or self._retries)
            size = self._size(most if self._dense else beat.rows, even=even)
            try:
                taken = self._batch(self.selection, size, most, even=even)
            except DatabaseError as error:
                self._cope(error, size, most, even=even)
                continue
            seconds = self._broom.clock.monotonic() - started
            if small:
                self._metronome.spent(seconds)
            else:
                self._metronome.took(beat.rows, seconds)
            self._weigh(taken, most)
            self._retries, self._suspects = 0, max(0, self._suspects - taken.rows)
            if taken.unsure is not None:
                self._doubt(taken.unsure)
            self.cursor = taken.cursor
            self.kept += taken.kept
            if taken.load:
                facts = {"rows": self._rows(taken), "load": taken.load, "ms": round(1000 * seconds, 1)}
                self._broom.ledger.tell(Entry("batch", self._claim.job.name, self._claim.run, facts))
            if taken.exhausted:
                return None
        return beat.because

    def again(self, first: Cursor) -> str | None:
        """Go once more, from the first row that was left, for those that somebody held when we came by."""
        self.kept, self.cursor, self.unsure = 0, first, first
        self.selection = self._by_key()
        self._trust.lost()
        return self.on()

    def once_more(self) -> None:
        """Try each row that hung together with a held one once more, alone."""
        held, self.held = self.held, []
        for key in held:
            self._alone(key)

    def name_kept(self, first: Cursor) -> tuple[str, ...]:
        """Name some of the rows that are still there, from the first on, though nobody holds them."""
        if not self.kept or not self.selection.table.primary_key:
            return ()
        keys = tuple(self._words(key) for key in self._broom.database.nearest(self.selection, first, MOST_NAMED))
        if keys:
            self._account("kept", {"keys": keys, "reason": _KEPT})
        return keys

    def _weigh(self, taken: Taken, most: int) -> None:
        """Learn from a batch how much hangs on rows, and how large the next may be: what is far more is not known."""
        if taken.load:
            weight = taken.load / taken.rows if taken.rows else most
            self._trust.learn(self._weight, weight)
            usual = (self._weight + weight) / 2 if self._weight > 1 else weight
            self._weight = max(usual, most * self._begun(taken))
        self._dense = 2 * taken.load >= most
        if self._dense:
            self._proven = max(self._proven, 2 * most)

    def _size(self, rows: int, *, even: bool) -> int:
        """Return how many rows of the table make so many with what hangs on them, going by the batches before."""
        form = self.selection.form
        listed = form is Form.CONTENDED and not even
        most = FEW if self._canary else min(rows, _MOST_LOCKED if listed else SIZES[form].most)
        size = max(1, int(_FILL * most / self._weight)) if self._weight > 1 else most
        return max(1, min(size, self._suspects // _NARROWING)) if self._suspects else size

    def _rows(self, taken: Taken) -> int:
        return taken.counts.get(self.selection.table.name, 0)

    def _cope(self, error: DatabaseError, size: int, most: int, *, even: bool) -> None:
        """Make the next try a better one, or raise the error."""
        if even and not error.away:
            self._trust.broken()
            self._metronome.stumbled(1)
            return
        self._doubt(self.cursor)
        self._retries += 1
        by_row = _by_row(error) and self.selection.table.primary_key
        if not by_row and not (error.transient and self._retries <= _RETRIES):
            raise error
        if error.transient:
            self._metronome.stumbled(self._retries)
        if by_row:
            self._narrow_down(size)
        else:
            self._metronome.smaller(most // 4)

    def _doubt(self, since: Cursor) -> None:
        """Let the final look begin here, or where it was to begin before: everywhere, for one."""
        self.unsure = since if self.unsure is None or not since else self.unsure

    def _by_key(self) -> Selection:
        by_range = self.selection.form is Form.RANGE and self.selection.table.primary_key
        return replace(self.selection, form=Form.CONTENDED) if by_range else self.selection

    def _narrow_down(self, size: int) -> None:
        """Cut a batch that failed for one of its rows smaller, until that row stands alone and can be passed by."""
        self.selection = self._by_key()
        if size > 1:
            self._suspects = size
            return
        for key in self._broom.database.nearest(self.selection, self.cursor):
            if self._alone(key):
                continue
            self.selection = replace(self.selection, spared=(*self.selection.spared, key))
            self._suspects = 0
            self._metronome.smaller(_NARROWING)  # bad rows often come together

    def _alone(self, key: Key) -> bool:
        """Take one row in a batch of its own; False if it would not go."""
        spared = tuple(other for other in self.selection.spared if other != key)
        try:
            while self._begun(self._batch(replace(self.selection, spared=spared, only=key), 1, _FIRST)):
                if not isinstance(self._metronome.next(), Take):
                    break
        except DatabaseError as error:
            if not _by_row(error):
                raise
            self._pass_by(key, error)
            return False
        return True

    @staticmethod
    def _begun(taken: Taken) -> bool:
        """Tell whether only a slice of what hangs on a row has gone."""
        return taken.load > 0 and taken.rows == 0

    def _pass_by(self, key: Key, error: DatabaseError) -> None:
        if error.of_row:
            self._name(key, error)
        else:
            self.held.append(key)
        if len(self.undeletable) + len(self.held) > MOST_PASSED_BY:
            raise error

    def _name(self, key: Key, error: DatabaseError) -> None:
        row = Undeletable(self._words(key), str(error))
        self._account("undeletable", {"key": row.key, "reason": row.reason})
        self.undeletable.append(row)

    def _words(self, key: Key) -> str:
        # A key may have more to it than the columns tell.
        return ", ".join(f"{name} {value}" for name, value in zip(self.selection.table.primary_key, key, strict=False))

    def _account(self, kind: str, facts: Mapping[str, object]) -> None:
        entry = Entry(kind, self._claim.job.name, self._claim.run, {"table": self.selection.table.name, **facts})
        self._broom.ledger.write(entry)
        self._broom.ledger.tell(entry)

    def _batch(self, selection: Selection, limit: int, most: int, *, even: bool = False) -> Taken:
        """Take a batch; what stopped the first one of a new policy is written down once it has been undone."""
        try:
            return self._committed(selection, limit, most, even=even)
        except Strays as stop:
            self._account("strays", {"tables": stop.tables})
            raise

    def _committed(self, selection: Selection, limit: int, most: int, *, even: bool) -> Taken:
        """Fence, rows and account in one transaction: they commit together or not at all."""
        claim, broom = self._claim, self._broom
        self._renew()
        with broom.database.transaction(claim.job.pace) as connection:
            broom.books.hold(connection, claim.job.name, claim.fence)
            cursor, total = self._look_back() if self._retries else (self.cursor, self.total)
            taken = self._take(connection, selection, cursor, (limit, most), even=even)
            so_far = total + Counter(taken.counts)
            self._permit.demand(so_far, claim.job.name)
            if taken.load:
                facts = {
                    "rows": self._rows(taken),
                    "counts": dict(taken.counts),
                    "total": dict(so_far),
                    "cursor": dict(taken.cursor),
                    "fence": claim.fence,
                    "pace": str(claim.job.pace),
                }
                broom.ledger.write(Entry("batch", claim.job.name, claim.run, facts), connection)
        self.total = so_far
        self._canary = self._canary and not taken.load
        return taken

    def _renew(self) -> None:
        """Renew the lease once a third of it has passed: a batch holds the claim, and cannot renew it.

        Before another try, that also waits for whatever the last one left under way.
        """
        claim, broom, now = self._claim, self._broom, self._broom.clock.monotonic()
        if self._retries or now - self._renewed > broom.lease / 3:
            broom.books.renew(None, claim.job.name, claim.fence, broom.lease)
            self._renewed = now

    def _take(
        self, connection: Connection, selection: Selection, cursor: Cursor, sizes: tuple[int, int], *, even: bool
    ) -> Taken:
        """Take a batch; the first one of a new policy is held against what the database itself saw leave."""
        database, job = self._broom.database, self._claim.job.name
        if not self._canary:
            return database.take(connection, selection, cursor, *sizes, even=even)
        with database.watched(connection, selection.table.name) as removed:
            taken = database.take(connection, selection, cursor, *sizes)
        # A rule that would remove rows of these too stands in the catalog, though no row goes that has any.
        known = {**dict.fromkeys(absence.table for absence in selection.absences), **self._permit.most}
        if strange := canary(taken.counts, removed, known):
            raise Strays(job, strange)
        return taken

    def _look_back(self) -> tuple[Cursor, Counter[str]]:
        """Ask the ledger how far the run is: a commit may have arrived although its answer was lost.

        It is asked once the renewal has waited for whatever the last try left under way.
        """
        cursor, written = self._broom.books.progress(self._claim.run)
        return (self.cursor, self.total) if written == self.total or not written else (cursor, Counter(written))


def _by_row(error: DatabaseError) -> bool:
    """Tell whether some rows are to blame: the database would not have them, or somebody holds them."""
    return (error.of_row or error.transient) and not error.away
