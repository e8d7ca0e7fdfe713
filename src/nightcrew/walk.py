"""Walk: batch after batch through a selection, each in its own short transaction, past the rows that cannot go."""

import copy
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from nightcrew.allowance import Right
from nightcrew.archives.archive import Archive
from nightcrew.books import Books
from nightcrew.claim import Claim
from nightcrew.clock import Clock
from nightcrew.consent import Consents
from nightcrew.database import Connection, Cursor, Database, Form, Key, Selection, Taken
from nightcrew.erasures.work import Kit
from nightcrew.errors import DatabaseError
from nightcrew.hold import Hold
from nightcrew.ledger import Entry, Ledger
from nightcrew.metronome import Metronome
from nightcrew.rails import FEW, Strays, canary
from nightcrew.ranges import Range, Ranges
from nightcrew.throttle import Stop, Take, Throttle
from nightcrew.watch import Watch
from nightcrew.weight import SIZES, Weight, begun, size_of

_MOST_LOCKED = 20_000  # rows that are locked by one statement, to be removed by another that lists them
_FIRST = SIZES[Form.LOCKED].first
_RETRIES = 5  # times one batch is tried again after a deadlock, a lock waited for in vain, or a lost connection
_WORTH = 3  # batches that are ahead are worth another walk's while
_NARROWING = 8  # a batch with an undeletable row among so many is cut into this many
MOST_NAMED = 20  # of the rows that a trigger keeps without a word
_KEPT = "the database says no error, and still has the row: look for a trigger that keeps it"
MOST_PASSED_BY = 100  # rows a run finds one by one; when there are more, it is no row's fault


@dataclass(frozen=True, slots=True)
class Broom:
    """What a sweep works with: `kit` where there is a key of erasures, `living` for the chats with a live stream."""

    database: Database
    books: Books
    ranges: Ranges
    consents: Consents
    ledger: Ledger
    clock: Clock
    lease: float
    watch: Watch
    holds: Callable[[], Sequence[Hold]]
    kit: Callable[[], Kit | None]
    archive: Archive | None = None
    living: Callable[[], Collection[str]] = frozenset


@dataclass(frozen=True, slots=True)
class Undeletable:
    """A row that would not go, by its key, and what the database said."""

    key: str
    reason: str


class Walk:
    """A way through a selection, or one range of it at a time; `total` is what was taken, the `cursor` where it stands.

    Of what stayed on the latest way, `kept` were kept by a trigger, and `held` hung together with rows that somebody
    else held; `undeletable` rows are passed by for good. From `unsure` on there may be rows left that could go; from
    `doubts` on, in ranges before this one. The walks of a run have numbers, once it is `divided` among them.
    """

    def __init__(
        self,
        claim: Claim,
        selection: Selection,
        right: Right,
        broom: Broom,
        metronome: Metronome,
        number: int = 1,
        taken: Range | None = None,
    ) -> None:
        self.selection = selection
        self.number, self.divided = number, len(claim.stages) > 1
        stage = taken.stage if taken else claim.stage(number)
        self._right = right
        self._canary = right.permit.canary and number == 1
        self._few = FEW  # rows of such a batch: more, while all of them stay
        self.total = Counter(stage.total)
        self.kept = 0
        self.undeletable: list[Undeletable] = []
        self.held: list[Key] = []
        since = None if taken is None else taken.begun_at
        self.unsure: Cursor | None = since if taken else {} if stage.cursor else None  # others have been there before
        self.doubts: list[Cursor] = []
        self._claim = claim
        self._broom = broom
        self.cursor = stage.cursor
        self._metronome = metronome
        self._first, self._losses = (stage.cursor, Counter(stage.total)), broom.database.losses
        self._retries = 0
        self.weight = Weight(size_of(selection).first)
        self._step = 0  # rows that the last batch might take
        self._suspects = 0  # rows yet to be passed of a batch that failed for one of them
        self._ended = False
        self._unwritten = False  # whether the ledger has an older cursor, for the last batches took nothing

    def on(self, may_go_on: Callable[[], bool] = lambda: True) -> str | None:
        """Take batch after batch to the end of the range, as long as it may; return what else stopped it, or None.

        Raises ClaimLost when a newer fence exists, and DatabaseError for what retrying does not mend and no single
        row is to blame for; the batches before it stay done and accounted for.
        """
        beat: Take | Stop | None = None
        while may_go_on():
            beat = self._metronome.next()
            if isinstance(beat, Stop):
                break
            weight = self.weight
            most = weight.proven(beat.rows) if self.selection.form is Form.LOCKED else beat.rows
            started, small = self._broom.clock.monotonic(), bool(self._suspects) or self._canary
            # What is not dense is gone through in steps that would be too large if it were: they are looked at.
            even = weight.trust.given and not (small or self._retries) and (weight.dense or most == beat.rows)
            size = self._size(most if weight.dense else beat.rows, even=even)
            try:
                taken = self._batch(self.selection, size, most, even=even)
            except DatabaseError as error:
                if even and not error.away:  # the next try looks first, and waits for nobody
                    weight.trust.broken()
                    self._metronome.spent(self._broom.clock.monotonic() - started)
                else:
                    self._cope(error, size, most)
                continue
            seconds = self._broom.clock.monotonic() - started
            weight.learn(taken, most)
            if small:
                self._metronome.spent(seconds)
            else:
                self._metronome.took(most if weight.dense else beat.rows, seconds)
            self._retries, self._suspects = 0, max(0, self._suspects - taken.rows)
            self._step = 0 if small else size
            if taken.unsure is not None:
                self._doubt(taken.unsure)
            self.cursor, self._unwritten = taken.cursor, not taken.load
            self.kept += taken.kept
            if taken.load:
                facts = {"rows": self._rows(taken), "load": taken.load, "ms": round(1000 * seconds, 1)}
                told = facts | {"counts": dict(taken.counts)}
                self._broom.ledger.tell(Entry("batch", self._claim.job.name, self._claim.run, told))
            self._ended = taken.exhausted
            if taken.exhausted:
                return None
        self._leave_off()
        return beat.because if isinstance(beat, Stop) else None

    def divide(self, other: "Walk") -> bool:
        """Leave what is further on to another walk, and write that down; False where it is not worth its while."""
        claim, broom = self._claim, self._broom
        if not self._step or self._retries or self._suspects:
            return False
        try:
            with broom.database.transaction() as connection:
                self._right.hold(connection)
                parts = broom.database.divide(connection, self.selection, self.cursor, _WORTH * self._step)
                if parts is None:
                    return False
                stages = {self.number: (parts[0], self.total), other.number: (parts[1], other.total)}
                ranges = [{"cursor": dict(stages[n][0]), "total": dict(stages[n][1])} for n in sorted(stages)]
                broom.ledger.write(Entry("divided", claim.job.name, claim.run, {"ranges": ranges}), connection)
        except DatabaseError as error:
            if error.transient:
                return False
            raise
        self.cursor, further = parts
        self.unsure = {**self.unsure, "end": self.cursor["end"]} if self.unsure else self.unsure
        self.divided = True
        other.start(further)
        other.know(copy.deepcopy(self.weight), self._metronome.throttle)
        return True

    @property
    def under_way(self) -> bool:
        """Whether it has taken something, as it should, and has more before it."""
        return bool(self.total) and not (self._canary or self._retries or self._suspects or self._ended)

    @property
    def all_doubts(self) -> list[Cursor]:
        """Where somebody has to look again, in all ranges of this walk."""
        return [*self.doubts, *([] if self.unsure is None else [self.unsure])]

    def start(self, cursor: Cursor) -> None:
        """Begin with another range."""
        self.doubts += [] if self.unsure is None else [self.unsure]
        self.cursor, self.unsure, self._step, self.divided = cursor, None, 0, True

    def know(self, weight: Weight, throttle: Throttle) -> None:
        """Begin with what another walk has learned by now, of its rows and of how many make a batch."""
        self.weight, self._metronome.throttle = weight, throttle

    def gather(self, other: "Walk") -> None:
        """Answer from now on for what another walk left behind, too."""
        self.start({})
        other.start({})
        self.doubts, self.kept = self.doubts + other.doubts, self.kept + other.kept
        self.undeletable += other.undeletable
        self.held += other.held
        spared = dict.fromkeys(self.selection.spared + other.selection.spared)
        self.selection = replace(self.selection, spared=tuple(spared))

    def again(self, first: Cursor) -> str | None:
        """Go once more, from the first row that was left, for those that somebody held when we came by."""
        self.kept, self.cursor, self.unsure, self.doubts = 0, first, first, []
        self.selection = self._by_key()
        self.weight.trust.lost()
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

    def _size(self, rows: int, *, even: bool) -> int:
        """Return how many rows of the table make so many with what hangs on them, going by the batches before."""
        listed = self.selection.form is Form.CONTENDED and not even
        most = (
            min(self._few, rows)
            if self._canary
            else min(rows, _MOST_LOCKED if listed else size_of(self.selection).most)
        )
        size = self.weight.of_ours(most)
        return max(1, min(size, self._suspects // _NARROWING)) if self._suspects else size

    def _rows(self, taken: Taken) -> int:
        return taken.counts.get(self.selection.table.name, 0)

    def _cope(self, error: DatabaseError, size: int, most: int) -> None:
        """Make the next try a better one, or raise the error."""
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
            while begun(self._batch(replace(self.selection, spared=spared, only=key), 1, _FIRST)):
                if not isinstance(self._metronome.next(), Take):
                    break
        except DatabaseError as error:
            if not _by_row(error):
                raise
            self._pass_by(key, error)
            return False
        return True

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
        if self._retries or self._right.fading:
            self.renew()
        database = self._broom.database
        frozen = even and not self._right.shared and database.freezes(selection)
        with database.transaction(self._claim.job.pace, frozen=frozen) as connection:
            self._right.hold(connection)
            losses = database.losses
            doubtful = self._retries or losses != self._losses
            cursor, total = self._look_back() if doubtful else (self.cursor, self.total)
            taken = self._take(connection, selection, cursor, (limit, most), even=even, frozen=frozen)
            so_far = total + Counter(taken.counts)
            self._right.account(connection, self.number, taken.cursor or cursor, so_far)
            if taken.load:
                self._write(connection, taken, so_far)
            self._archive(connection, taken)
        self.total, self._losses = so_far, losses
        self._canary, self._few = self._canary and not taken.load, min(2 * self._few, _FIRST)
        return taken

    def _archive(self, connection: Connection, taken: Taken) -> None:
        """Write what leaves to the archive before it does; last, for what fails before need not be cleared away."""
        claim, policy, archive = self._claim, self._claim.job.policy, self._broom.archive
        if taken.copies and archive and policy and policy.archive:
            archive.keep(connection, claim.run, claim.job.name, policy.archive, taken.copies)

    def _write(self, connection: Connection, taken: Taken, so_far: Mapping[str, int]) -> None:
        claim = self._claim
        facts: dict[str, object] = {"rows": self._rows(taken), "counts": dict(taken.counts), "total": dict(so_far)}
        facts |= {"cursor": dict(taken.cursor), "fence": claim.fence, "pace": str(claim.job.pace)}
        facts |= {"range": self.number} if self.divided else {}
        self._broom.ledger.write(Entry("batch", claim.job.name, claim.run, facts), connection)

    def _leave_off(self) -> None:
        """Write down how far batches came that took nothing: else each call would look through the same rows again."""
        if self._unwritten:
            with self._broom.database.transaction(self._claim.job.pace) as connection:
                self._right.hold(connection)
                if self._broom.database.losses == self._losses:
                    self._write(connection, Taken(0, {}, self.cursor, exhausted=False), self.total)
            self._unwritten = False

    def renew(self) -> None:
        """Renew the lease between two batches, for they hold the claim and cannot.

        Before another try, that also waits for whatever the last one left under way.
        """
        self._right.renew()

    def _take(
        self, connection: Connection, selection: Selection, cursor: Cursor, sizes: tuple[int, int], **how: bool
    ) -> Taken:
        """Take a batch; the first one of a new policy is held against what the database itself saw leave."""
        database, job = self._broom.database, self._claim.job.name
        if not self._canary:
            return database.take(connection, selection, cursor, *sizes, **how)
        with database.watched(connection, selection.table.name) as removed:
            taken = database.take(connection, selection, cursor, *sizes)
        # A rule that would remove rows of these too stands in the catalog, though no row goes that has any.
        known = {**dict.fromkeys(absence.table for absence in selection.absences), **self._right.permit.most}
        if strange := canary(taken.counts, removed, known):
            raise Strays(job, strange)
        return taken

    def _look_back(self) -> tuple[Cursor, Counter[str]]:
        """Ask the ledger how far the run is: a commit may have arrived although its answer was lost, or be undone.

        It is asked once the renewal has waited for whatever the last try left under way.
        """
        stage = self._right.stage(self.number)
        cursor, total = (stage.cursor, Counter(stage.total)) if stage.total or stage.cursor else self._first
        return (self.cursor, self.total) if total == self.total else (cursor, total)


def _by_row(error: DatabaseError) -> bool:
    """Tell whether some rows are to blame: the database would not have them, or somebody holds them."""
    return (error.of_row or error.transient) and not error.away
