"""The shape of nightcrew's own tables: the jobs' standings, the runs, and the ledger's entries.

They live in the application's database, so that a batch of deletes and the fence that guards it commit together.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Protocol

from nightcrew.database import Connection, Cursor
from nightcrew.errors import ClaimLost, JobPaused, RunCancelled
from nightcrew.outcome import State
from nightcrew.respite import ITSELF


@dataclass(frozen=True, slots=True)
class Registration:
    """What a crew says of a job when it starts; two schedules are the same when their `meaning` is."""

    job: str
    schedule: str
    timezone: str
    meaning: str


class Standing(NamedTuple):
    """A job's row: everything a claim is decided on stands here, so that one compare-and-set decides it.

    `mark` is the newest slot ever claimed, `epoch_at` the instant before which no slot existed, `failed_run` the
    run of the marked slot if it failed. `run` is open while set; nobody holds it when `owner` is None. `stopped_at`,
    set for all jobs or none, says since when every sweep is stopped. So many attempts at the open run were `failures`;
    it is nobody's before `retry_at`. `attempt` counts those that nobody saw the end of and somebody has taken over, and
    `begun` is the fence under which the last one began.
    `cancelled_run` is the run that was cancelled, and is to end if it is the one that is open. `rival` is the meaning
    of a schedule that a crew would put in force.
    """

    job: str
    schedule: str
    timezone: str
    meaning: str
    epoch_at: datetime
    mark: datetime | None
    fence: int
    run: str | None
    owner: str | None
    attempt: int
    lease_until: datetime | None
    failed_run: str | None
    paused_at: datetime | None
    paused_by: str | None
    paused_reason: str | None
    paused_until: datetime | None
    fail_streak: int
    last_ok_at: datetime | None
    stopped_at: datetime | None = None
    stopped_by: str | None = None
    stopped_reason: str | None = None
    failures: int = 0
    retry_at: datetime | None = None
    cancelled_run: str | None = None
    cancelled_by: str | None = None
    cancelled_reason: str | None = None
    rival: str | None = None
    rival_since: datetime | None = None
    begun: int | None = None

    @property
    def losses(self) -> int:
        """How many processes were lost at the open run, if whoever holds it is: none that had not begun its work."""
        return self.attempt + (self.owner is not None and self.begun == self.fence)

    @property
    def cancelled(self) -> bool:
        """Whether the run that is open was cancelled."""
        return self.run is not None and self.cancelled_run == self.run

    @property
    def rests(self) -> bool:
        """Whether all that keeps triggers out, if anything does, is a pause of nightcrew's own."""
        return self.stopped_at is None and self.paused_by == ITSELF

    def left(self, now: datetime) -> bool:
        """Whether a run is open that nobody holds: it was handed over, or its lease has run out."""
        return self.run is not None and (self.lease_until is None or self.lease_until < now)


@dataclass(frozen=True, slots=True)
class Remark:
    """What is to be said of how a run came about, beside what it did: a ledger entry of its `kind`."""

    kind: str
    sentence: str
    facts: Mapping[str, Any] = field(default_factory=dict)


class Bid(NamedTuple):
    """A wish to claim one slot, against the fence that was seen; `lapsed` are the rows for slots nobody ran.

    `trigger`, where given, is what the run is said to be started by in place of the bidder's own.
    One that is `past` lies before the mark, and does not move it.
    """

    job: str
    slot: datetime | None
    run: str
    fence: int
    lapsed: "tuple[RunRow, ...]" = ()
    trigger: str | None = None
    remarks: tuple[Remark, ...] = ()
    past: bool = False


class Won(NamedTuple):
    """A claim that committed: the new fence, the moment it was won at, and how many attempts have failed before."""

    job: str
    run: str
    fence: int
    moment: datetime
    failures: int = 0


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run as it stands in the ledger; or slots that nobody ran, from `since` to `slot` where there are several.

    `done` of `total` is how far a function says that it has come.
    """

    id: str
    job: str
    slot: datetime | None
    state: State
    trigger: str
    caller: str | None = None
    reason: str | None = None
    attempt: int = 1
    fence: int = 0
    owner: str | None = None
    moment: datetime | None = None
    finished_at: datetime | None = None
    deleted: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)
    error: str | None = None
    since: datetime | None = None
    done: int | None = None
    total: int | None = None

    @property
    def late_by(self) -> timedelta | None:
        """How long after its slot it was claimed, below zero before it; None by hand, and where nobody claimed it."""
        if self.slot is None or self.moment is None or self.state in {State.MISSED, State.SKIPPED}:
            return None
        return self.moment - self.slot


class Finished(NamedTuple):
    """A run of a function that is done under its fence, as it is settled together with others."""

    job: str
    fence: int
    run: str
    reason: str | None
    counted: int


@dataclass(frozen=True, slots=True)
class Distance:
    """How far a function says it has come, of what total (None: nobody knows)."""

    done: int
    total: int | None = None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where a function's work can be gone on with: its cursor, any JSON value, and what it has counted up to there."""

    cursor: Any = None
    counted: int = 0
    distance: Distance | None = None


@dataclass(frozen=True, slots=True)
class Sequel:
    """What else is to become of a job when its run ends.

    It is paused when `pause_after` runs in a row have failed by then (0: never), unless somebody has paused it; and
    the mark moves past slots that are `skipped`. One that is left open, having failed, is tried again at `retry_at`.
    """

    pause_after: int = 0
    skipped: RunRow | None = None
    retry_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Pause:
    """Until when nightcrew itself has paused a job whose runs fail, and why."""

    until: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Settled:
    """A run that has ended or was handed over; with it, its job may have been paused."""

    pause: Pause | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """Where the batches of one range stand: the newest cursor, and in `total` the rows per table they took so far.

    A run that is cut has ranges with a `number`; what it took outside of them is number 0.
    """

    cursor: Cursor = field(default_factory=dict)
    total: Mapping[str, int] = field(default_factory=dict)
    number: int | None = None


def altogether(stages: Iterable[Stage]) -> Counter[str]:
    """Return the rows per table that were taken in all ranges."""
    return sum((Counter(stage.total) for stage in stages), Counter())


def cancelled(by: str | None, reason: str | None) -> str:
    """Say who has cancelled a run, and why."""
    return f"cancelled by {by}: {reason}" if reason else f"cancelled by {by}"


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as the ledger has it: when it was accounted for, and its facts."""

    at: datetime
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Bidder:
    """Who bids: the process, what started it, who called, and for how many seconds the lease shall hold.

    Who `waits` does so for a while where somebody's transaction holds the row of the job.
    """

    owner: str
    trigger: str
    caller: str | None
    lease: float
    waits: bool = True


class Books(Protocol):
    """nightcrew's own tables: the jobs' standings, the runs, and the ledger's entries.

    A verb that does not wait passes by a row which somebody's transaction holds, as if it had changed; one that `waits`
    raises DatabaseError if it is held for long.
    """

    def is_away(self, error: BaseException) -> bool:
        """Tell whether an error says that this database is out of reach, and not that another is."""

    def register(self, given: Sequence[Registration]) -> None:
        """Make sure every job has its row; a new one fires nothing that was due before now."""

    def reschedule(
        self,
        standing: Standing,
        registration: Registration,
        seen: datetime,
        unrun: RunRow | None,
        *,
        waits: bool = True,
    ) -> bool:
        """Give a job another schedule from when its row was `seen` on; False when the row has changed since.

        It fires nothing that was due before. Slots of the old one that nobody had run yet end as the row `unrun`.
        """

    def challenge(self, asked: Sequence[tuple[Standing, str]]) -> None:
        """Ask whether any crew has the schedules in force, for those that would take their places; does not wait."""

    def answer(self, asked: Sequence[Standing]) -> None:
        """Say that some crew has the schedules in force; does not wait."""

    def standings(self, jobs: Iterable[str] | None = None) -> tuple[datetime, dict[str, Standing]]:
        """Read the database's clock and the standings in one statement; raises RowLost for a name that has no row."""

    def claim(self, bids: Sequence[Bid], bidder: Bidder, early: float = 0.0) -> list[Won]:
        """Claim all slots that are still free, in one statement; `early` is the seconds a claim may come too soon."""

    def take_over(self, standing: Standing, bidder: Bidder) -> Won | None:
        """Take an open run whose lease has expired, or that was handed over, or (`failed_run`) that failed."""

    def claim_past(self, standing: Standing, bid: Bid, bidder: Bidder) -> Won | None:
        """Claim a slot before the mark, which stays; a run that it has had is opened again."""

    def begin(self, job: str, fence: int, run: str, lease: float) -> None:
        """Note that work begins, which may be an attempt, and renew the lease; raises as `hold` does."""

    def hold(self, connection: Connection, job: str, fence: int, *, locks: bool = True) -> None:
        """Keep a claim from being taken over, or its job from being paused, until the transaction it guards has ended.

        Several may hold it at once. One that does not lock it is only told how it stands.

        Raises ClaimLost for a superseded fence, RunCancelled when the run was cancelled, and JobPaused when the job was
        paused, or every sweep stopped.
        """

    def renew(self, connection: Connection | None, job: str, fence: int, lease: float) -> None:
        """Renew a lease, in the given transaction or its own, once nobody holds the claim; raises as `hold` does."""

    def halted(self, job: str, fence: int) -> ClaimLost | JobPaused | RunCancelled | None:
        """Return why work under a claim has to stop, as `hold` would raise it, where it has to; changes nothing."""

    def renew_all(self, held: Sequence[tuple[str, int]], lease: float) -> set[tuple[str, int]]:
        """Renew many leases in few statements; return those (job, fence) that were renewed."""

    def settle(self, job: str, fence: int, row: RunRow, sequel: Sequel, *, cut: bool = False) -> Settled | None:
        """Close the run, or hand it over (partial), from then on (retrying); None when a newer fence exists.

        The batches of one that may be `cut` keep count in its row, and none of them commits later.
        """

    def settle_done(self, ended: Sequence[Finished]) -> set[tuple[str, int]]:
        """Close runs that are done under these fences, all at once; return those (job, fence) that were the newest."""

    def cancel(self, job: str, run: str, by: str, reason: str) -> bool:
        """Let an open run end where it is, and nobody go on with it; False when the job has no such run open."""

    def close(self, standing: Standing, row: RunRow, sequel: Sequel) -> Settled | None:
        """Close, as the row says, an open run that nobody holds; None when the standing has changed; does not wait."""

    def append(self, connection: Connection | None, run: str, kind: str, facts: Mapping[str, Any]) -> None:
        """Add a ledger entry, in the given transaction or its own."""

    def progress(self, run: str) -> tuple[Stage, ...]:
        """Return where a run's batches stand: in the one range there is, or in each of several."""

    def noted(self, run: str, kind: str) -> Mapping[str, Any] | None:
        """Return the facts of a run's newest entry of a kind."""

    def batches(self, run: str, most: int) -> list[Batch]:
        """Return a run's newest batches, so many at most, the oldest of them first."""

    def save(self, connection: object, won: Won, point: Checkpoint, lease: float) -> None:
        """Keep where a function stands, in the given transaction or its own, and renew the lease; raises as `renew`.

        Of a job that is paused it is kept, too, and JobPaused raised then.
        """

    def saved(self, run: str) -> Checkpoint:
        """Return where the function that a run calls stood when it last said so."""

    def came(self, distances: Mapping[str, Distance]) -> None:
        """Note how far runs have come, except where somebody holds their rows."""

    def stirring(self, jobs: Sequence[str]) -> tuple[datetime, float, dict[str, Standing]]:
        """Read the same of these jobs, and of every one that somebody waits for, whatever its schedule says.

        Also returns the monotonic instant at which the database's clock was known.
        """

    def pause(self, job: str, by: str, reason: str, until: datetime | None) -> None:
        """Keep every trigger from claiming this job's slots."""

    def resume(
        self, standing: Standing, skipped: Sequence[RunRow], mark: datetime | None, *, waits: bool = True
    ) -> bool:
        """End a pause, record its slots and move the mark past them, at once; False when the standing has changed."""

    def runs(self, job: str | None = None, states: Iterable[State] = (), limit: int = 20) -> list[RunRow]:
        """Return the newest runs first."""

    def latest(self, job: str | None = None) -> dict[str, RunRow]:
        """Return the newest run of every job, or of one; slots that nobody ran are not runs."""

    def accounts(self, job: str, since: datetime, until: datetime) -> list[RunRow]:
        """Return what is known of a job's slots from one instant to another, in 5,000 rows at most."""

    def run(self, run: str) -> RunRow | None:
        """Return one run."""

    def entries(self, run: str, limit: int = 1000) -> list[Mapping[str, Any]]:
        """Return a run's ledger entries, oldest first."""
