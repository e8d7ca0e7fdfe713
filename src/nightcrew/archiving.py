"""Archiving: the verbs of a crew that copies what leaves, and puts a run's rows back."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from threading import Event

from nightcrew.acts import Act
from nightcrew.archives import frame
from nightcrew.archives.archive import NOWHERE, Archive
from nightcrew.archives.frame import Copy
from nightcrew.archives.kept import Kept
from nightcrew.archives.manifest import Manifest, Manifests
from nightcrew.archives.seal import Keyring
from nightcrew.archives.undo import LONGEST_LOOK, Erased, Link, Returning
from nightcrew.archives.undone import Undo
from nightcrew.archives.upkeep import UPKEEP, keep_up
from nightcrew.call import Call
from nightcrew.clock import Clock
from nightcrew.depot import Depot
from nightcrew.erased import subject_of
from nightcrew.erasures import receipt
from nightcrew.errors import ConfigurationError, MissingExtra, UsageError
from nightcrew.job import Job
from nightcrew.ledger import Entry
from nightcrew.policy import Policy
from nightcrew.schedule import every
from nightcrew.settings import ERASURE_KEY, Settings
from nightcrew.shelf import check_archive
from nightcrew.stock import Stock
from nightcrew.store import MOST

_KEY = "set NIGHTCREW_ARCHIVE_KEY to a key of its own, which 'nightcrew secret new' makes"


def _links(policy: Policy) -> Iterator[Link]:
    """Return a policy's links: whose column refers to which, without a foreign key."""
    for column, referred in policy.linked:
        table, _, name = column.rpartition(".")
        parent, _, key = referred.rpartition(".") if referred else (policy.table, "", "")
        yield table, name, parent, key or None


class Archiving(Stock):
    """A crew with its stores, one of which may be the archive; then a job of its own keeps that up every hour."""

    settings: Settings
    _stopping: Event

    def __init__(self, timezone: str, stores: Depot, archive: str | None) -> None:
        self.archive = archive
        self._seals = False
        super().__init__(timezone, stores)
        if archive is not None:
            check_archive(archive, stores.shelves)
            self.add(Job(UPKEEP, every("1 hour"), function=self._keep_up, label="Archive"))

    def add(self, job: Job) -> Job:
        """Register a job; raises ConfigurationError for one that archives where there is none, or owes to it, too."""
        policy = job.policy if isinstance(job, Job) else None
        if policy and policy.archive and self.archive is None:
            raise ConfigurationError(f"job {job.name!r}: {NOWHERE}")
        for key, store in policy.stores if policy else ():
            if store == self.archive:
                raise ConfigurationError(f"{key} of job {job.name!r} names {store!r}, which is the archive")
        return super().add(job)

    def archived(self, *, before: int | None = None, limit: int = 25) -> list[Kept]:
        """Return what the archive has of runs, the newest first; `before` is the place of the last one that was shown.

        Only nightcrew's own table is asked. Without an archive there is nothing.
        """
        self._station.ready(self._jobs, looking=True)
        archive = self._station.archive
        return [] if archive is None else archive.manifests.listed(before, limit)

    def archive_of(self, run: str) -> Kept | None:
        """Return what the archive has of one run, also of one whose time is over, until that is cleared away."""
        self._station.ready(self._jobs, looking=True)
        archive = self._station.archive
        return None if archive is None else archive.manifests.told(run)

    def undo(
        self,
        run: str,
        *,
        restore: bool = False,
        by: str = "unknown",
        reason: str | None = None,
        stop: Callable[[], bool] | None = None,
        longest: float = LONGEST_LOOK,
    ) -> Undo:
        """Say what an undo of a run would put back, and what stands in its way; with `restore`, put it back.

        A row that is there already, or that something stands in the way of, is left as it is. It goes frame by frame,
        each in a transaction of its own, until it is to `stop`; the next call goes on, and nothing comes back twice.
        What it would do is looked at for `longest` seconds, and for one frame at least.

        Raises UsageError for a run that archived nothing that is still kept, or is under way, ArchiveError where a
        frame cannot be read, StoreError and DatabaseError where one of the two is away.
        """
        self._station.ready(self._jobs, looking=True)
        if (archive := self._station.archive) is None:
            raise UsageError("there is no archive: name a store of blobs by archive = 'vault' under [nightcrew]")
        frames, ledger = self._undoable(archive, run), self._station.broom.ledger
        job = self._jobs.get(frames[0].job)
        policy = job.policy if job else None
        blobs, links = policy.blobs if policy else (), self._links(frames)
        returning = Returning(archive, self._station.returns(), self._erased(), blobs, links)
        if not restore:
            return self._with_blobs(returning.look(frames, longest))
        self._station.acts.keep(Act(by, "undo", frames[0].job, run, reason=reason))
        halted = stop or self._stopping.is_set
        found = returning.carry_out(frames, lambda _so_far: "stopped" if halted() else None)
        self._station.debts.recall(run, self.columns_of)
        label = job.label if job else found.job
        facts = {"by": by, "rows": found.back, "left": found.conflicts, "stopped": found.stopped, "label": label}
        entry = Entry("undone", found.job, run, facts)
        if self._station.books.run(run) is not None:
            ledger.write(entry)
        ledger.tell(entry)
        return self._with_blobs(found)

    def _links(self, frames: Sequence[Manifest]) -> list[Link]:
        """Return the links of the frames' tables, whichever job says them: what one erased, another may have kept."""
        names = {table.rpartition(".")[2] for manifest in frames for table in manifest.counts}
        policies = [job.policy for job in self._jobs.values() if job.policy]
        links = dict.fromkeys(link for policy in policies for link in _links(policy))
        return [link for link in links if link[0].rpartition(".")[2] in names]

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
