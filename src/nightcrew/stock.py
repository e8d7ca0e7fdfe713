"""Stock: the stores of a crew by name, and what is owed to them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial

from nightcrew import orphans, outbox
from nightcrew.archives import frame
from nightcrew.archives.archive import NOWHERE, Archive
from nightcrew.archives.frame import Copy
from nightcrew.archives.manifest import Manifest, Manifests
from nightcrew.archives.seal import Keyring
from nightcrew.archives.undo import Erased, Link, Returning, Undo
from nightcrew.archives.upkeep import UPKEEP, keep_up
from nightcrew.call import Call
from nightcrew.clock import Clock
from nightcrew.comparison import Comparison, Survey
from nightcrew.debt import Balance, Overdue
from nightcrew.depot import Depot
from nightcrew.erased import subject_of
from nightcrew.erasures import receipt
from nightcrew.errors import ConfigurationError, MissingExtra, UsageError, did_you_mean, misfit
from nightcrew.job import Job
from nightcrew.ledger import Entry
from nightcrew.owing import Owing
from nightcrew.policy import Policy
from nightcrew.roll import Roll
from nightcrew.schedule import every
from nightcrew.settings import ERASURE_KEY, Settings
from nightcrew.shelf import check_archive
from nightcrew.station import Stationed
from nightcrew.store import MOST, Store

_KEY = "set NIGHTCREW_ARCHIVE_KEY to a key of its own, which 'nightcrew secret new' makes"


def _links(policy: Policy) -> Iterator[Link]:
    """Return a policy's links: whose column refers to which, without a foreign key."""
    for column, referred in policy.linked:
        table, _, name = column.rpartition(".")
        parent, _, key = referred.rpartition(".") if referred else (policy.table, "", "")
        yield table, name, parent, key or None


class Stock(Roll, Stationed):
    """The jobs of a crew and its stores; once there is one, a job of its own settles every minute what is owed."""

    settings: Settings

    def __init__(self, timezone: str, stores: Depot, archive: str | None = None) -> None:
        super().__init__(timezone)
        self._stores = stores
        self.archive = archive
        self._seals = False
        if archive is not None:
            check_archive(archive, stores.shelves)
            self.add(Job(UPKEEP, every("1 hour"), function=self._keep_up, label="Archive"))
        if stores:
            self.add(outbox.job(self._drain))
        for name, shelf in stores.shelves.items():
            if shelf.orphans is not None:
                self.add(orphans.job(name, shelf, partial(self._sweep_orphans, name)))

    @property
    def stores(self) -> Depot:
        """Every store by name, opened when it is asked for."""
        return self._stores

    def add(self, job: Job) -> Job:
        """Register a job; raises ConfigurationError when its name or path is taken, or it owes to no store."""
        policy = job.policy if isinstance(job, Job) else None
        if policy and policy.archive and self.archive is None:
            raise ConfigurationError(f"job {job.name!r}: {NOWHERE}")
        for key, store in policy.stores if policy else ():
            if store == self.archive:
                raise ConfigurationError(f"{key} of job {job.name!r} names {store!r}, which is the archive")
            if store not in self._stores:
                near = did_you_mean(store, self._stores) or "; declare it, as in [blobs.uploads]"
                raise ConfigurationError(f"{key} of job {job.name!r} names store {store!r}, which is none{near}")
        return super().add(job)

    def columns_of(self, store: str) -> tuple[Owing, ...]:
        """Return the columns that hold keys of a store, as it says itself and as the jobs say."""
        rules = (job.policy for job in self._jobs.values() if job.policy is not None)
        owings = (owing for rule in rules for owing in rule.blobs if owing.store == store)
        own = self._stores.shelves[store].owings(store) if store in self._stores.shelves else ()
        return tuple(dict.fromkeys((*own, *owings)))

    def orphans(self, store: str, heard: Callable[[Survey], None] = lambda _so_far: None) -> tuple[Survey, str | None]:
        """Compare a store of blobs with the columns that name its blobs; return that, and why none would be removed.

        Nothing is removed. `heard` is told what is found so far, page by page. Raises UsageError for a store that is
        none of blobs, SafetyStop for one that no column is declared for, StoreError, DatabaseError and PolicyError
        where one of the two cannot be read.
        """
        if store not in self._stores.shelves:
            near = did_you_mean(str(store), self._stores.shelves) or "; declare it, as in [blobs.uploads]"
            raise UsageError(f"there is no store of blobs {str(store)[:80]!r}{near}")
        self._station.ready(self._jobs, looking=True)
        survey = self._comparison(store).all(heard)
        return survey, orphans.too_many(survey, self._stores.shelves[store])

    def _comparison(self, store: str) -> Comparison:
        found, shelf = self._stores.blobs(store), self._stores.shelves[store]
        return Comparison(store, found, shelf, self.columns_of(store), self._station.debts)

    def _sweep_orphans(self, store: str, run: Call) -> None:
        """Looks for blobs that no row names, and for rows whose blob is missing."""
        orphans.sweep(run, self._comparison(store))

    def owe(self, connection: object, store: str, keys: Iterable[str], *, not_before: datetime | None = None) -> int:
        """Owe the removal of keys to a store, from `not_before` on (aware; default: at once), and return how many.

        It is written in the transaction of `connection`: a SQLAlchemy Session or Connection to the crew's database, or
        a connection of its driver's own. Committed, it is certain; rolled back, it is nothing.
        None and empty keys are nothing owed.

        Raises UsageError for a store that nobody declared, and for a connection that is in no transaction.
        """
        if store not in self._stores:
            near = did_you_mean(str(store), self._stores) or "; declare it with Nightcrew(blobs=…), or as [blobs.NAME]"
            raise UsageError(f"there is no store {str(store)[:80]!r}{near}")
        wrong = misfit(not_before, (datetime, type(None)), "give an aware datetime")
        if wrong or (not_before is not None and not_before.tzinfo is None):
            raise UsageError(f"not_before {wrong or f'{not_before} has no time zone: give an aware datetime'}")
        return self._station.debts.owe(connection, store, keys, not_before)

    def owed(self, store: str | None = None) -> list[Balance]:
        """Return what is owed to every store, those that are declared and those that once were, or to one of them.

        Raises UsageError for one that is neither.
        """
        self._station.ready(self._jobs, looking=True)
        found = {name: Balance(name) for name in self._stores}
        found |= {balance.store: balance for balance in self._station.debts.balances()}
        if store is not None and store not in found:
            raise UsageError(f"there is no store {store[:80]!r}{did_you_mean(store, found)}")
        return [found[name] for name in sorted(found) if store in (None, name)]

    def overdue(self, store: str | None = None, *, limit: int = 20) -> list[Overdue]:
        """Return debts at which an attempt has failed, with the last reason; those that were given up come first."""
        self._station.ready(self._jobs, looking=True)
        return self._station.debts.overdue(store, limit)

    def retry(self, store: str | None = None) -> int:
        """Let the debts that were given up, of one store or all, be tried again; return how many they are."""
        self._station.ready(self._jobs, looking=True)
        return self._station.debts.retry(store)

    def given_up(self) -> Mapping[str, int]:
        """Return how many debts of each store were given up, of those that have any."""
        self._station.ready(self._jobs, looking=True)
        return self._station.debts.failed()

    def undo(
        self, run: str, *, restore: bool = False, by: str = "unknown", stop: Callable[[], bool] = lambda: False
    ) -> Undo:
        """Say what an undo of a run would put back, and what stands in its way; with `restore`, put it back.

        A row that is there already, or that something stands in the way of, is left as it is. It goes frame by frame,
        each in a transaction of its own, until it is to `stop`; the next call goes on, and nothing comes back twice.

        Raises UsageError for a run that archived nothing that is still kept, or is under way, ArchiveError where a
        frame cannot be read, StoreError and DatabaseError where one of the two is away.
        """
        self._station.ready(self._jobs, looking=True)
        if (archive := self._station.archive) is None:
            raise UsageError("there is no archive: name a store of blobs by archive = 'vault' under [nightcrew]")
        frames, ledger = self._undoable(archive, run), self._station.broom.ledger
        job = self._jobs.get(frames[0].job)
        policy = job.policy if job else None
        blobs, links = (policy.blobs, list(_links(policy))) if policy else ((), [])
        returning = Returning(archive, self._station.returns(), self._erased(), blobs, links)
        if not restore:
            return self._with_blobs(returning.look(frames))
        found = returning.carry_out(frames, lambda _so_far: "stopped" if stop() else None)
        self._station.debts.recall(run, self.columns_of)
        label = job.label if job else found.job
        entry = Entry("undone", found.job, run, {"by": by, "rows": found.back, "left": found.conflicts, "label": label})
        if self._station.books.run(run) is not None:
            ledger.write(entry)
        ledger.tell(entry)
        return self._with_blobs(found)

    def _erased(self) -> Erased:
        """Return what tells rows of erased subjects; raises ConfigurationError where there are some, and no key."""
        secret, erasures = self.settings.erasure_key, self._station.erasures
        if secret is None and erasures.last() is not None:
            raise ConfigurationError(
                f"somebody was erased, and must not come back: set {ERASURE_KEY}, by which their rows are known"
            )
        if secret is not None:
            receipt.check_key(secret, erasures.some())

        def places(copy: Copy, among: Sequence[int]) -> set[int]:
            if secret is None:
                return set()
            own, rows = copy.of(copy.key), copy.values
            keys = {place: [str(rows[place][column]) for column in own] for place in among}
            subjects = {place: subject_of(secret, copy.table, key) for place, key in keys.items()}
            known = erasures.known(subjects.values())
            return {place for place, subject in subjects.items() if subject in known}

        return places

    def _with_blobs(self, found: Undo) -> Undo:
        """Look which of the blobs that rows name are still there."""
        gone = {
            name: self._gone(name, sorted(keys)) for name, keys in found.keys.items() if name in self._stores.shelves
        }
        return replace(found, gone={name: number for name, number in gone.items() if number})

    def _gone(self, name: str, keys: Sequence[str]) -> int:
        store = self._stores.blobs(name)
        parts = (keys[start : start + MOST] for start in range(0, len(keys), MOST))
        return len(keys) - sum(len(store.present(part)) for part in parts)

    def _undoable(self, archive: Archive, run: str) -> list[Manifest]:
        row = self._station.books.run(run)
        if row is not None and row.state.open:
            raise UsageError(f"run {run[:150]!r} is under way: wait for its end, or 'nightcrew cancel {run[:150]}'")
        frames = archive.manifests.of(run)
        if not frames:
            known = "archived nothing that is still kept" if row is not None else "is not known"
            raise UsageError(
                f"run {run[:150]!r} {known}: 'nightcrew runs' lists runs, and 'nightcrew show JOB' policies"
            )
        return frames

    def frames(self, clock: Clock) -> Callable[[Manifests], Archive] | None:
        """Return what makes the archive of a database, if there is to be one; raises ConfigurationError for its key."""
        if (name := self.archive) is None:
            return None
        known = self.settings.archive_key, self.settings.previous_archive_key
        keys, opened = Keyring(*known), partial(self._stores.blobs, name)
        self._seals = keys.seals
        return lambda manifests: Archive(name, opened, keys, manifests, clock)

    def archive_doubts(self) -> list[str]:
        """Say what is unwise about the archive, or keeps rows from being archived here; nobody is asked."""
        if self.archive is None or not any(job.policy and job.policy.archive for job in self._jobs.values()):
            return []
        try:
            frame.demand()
        except MissingExtra as problem:
            return [str(problem)]
        return [] if self._seals else [f"what is archived in {self.archive} is not encrypted; {_KEY}"]

    def _keep_up(self, run: Call) -> None:
        """Clears the archive of what has been kept long enough, and of batches that never committed."""
        archive = self._station.archive
        assert archive is not None  # noqa: S101 - the job is there where it is
        keep_up(run, archive, self._station.books.run)

    def _drain(self, run: Call) -> None:
        """Settles what is owed to the stores: removes each key that no row holds any more."""
        outbox.drain(run, self._owed_to(), self.columns_of, self._station.debts)

    def _owed_to(self) -> Mapping[str, Store]:
        """Return whatever something may be owed to, by name."""
        return self._stores
