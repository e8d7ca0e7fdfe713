"""Erasing: the verbs of a crew that forget a person: looked at, done, done again after a restore, and proven."""

from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import chain
from threading import Event
from typing import Any

from nightcrew.acts import Act
from nightcrew.archiving import Archiving
from nightcrew.clock import Clock
from nightcrew.database import Connection, Selection
from nightcrew.depot import Depot
from nightcrew.erased import Erasure, State, subject_of
from nightcrew.erasures import completion, coverage, eraser, prospect, receipt, rows
from nightcrew.erasures.prospect import Prospect
from nightcrew.erasures.vault import Vault
from nightcrew.erasures.work import Kit, Mailed
from nightcrew.errors import ConfigurationError, SafetyStop, UsageError, did_you_mean
from nightcrew.job import Job
from nightcrew.ledger import Audience, Entry
from nightcrew.mailing import Mailing
from nightcrew.owing import Owing
from nightcrew.policy import Policy
from nightcrew.settings import ERASURE_KEY
from nightcrew.store import BlobStore, Store
from nightcrew.stores import blob_store
from nightcrew.stores.address import address

_LONGEST_REST = 2.0  # seconds between two batches
_PAGE = 1_000  # primary keys, and receipts, that are looked at together


@dataclass(frozen=True, slots=True)
class _Freely:
    """The gate of an erasure that a person asked for: it rests as long as it has worked."""

    clock: Clock
    stop: Event

    def hold(self, connection: Connection) -> None:
        """Let others in: what two do at once is done once."""

    def heard(self, connection: Connection, counts: Mapping[str, int]) -> None:
        """Keep no account beside the erasure's own."""

    def goes_on(self, seconds: float) -> bool:
        """Go on until somebody says stop."""
        self.clock.wait(self.stop, min(seconds, _LONGEST_REST))
        return not self.stop.is_set()


class Erasing(Archiving):
    """A crew with its stores, and what is erased by it.

    `vault` is where erasures are written down outside of the database: a URL as of a store of blobs, or what returns
    one, or a store.
    """

    clock: Clock
    mail: Mailing | None
    _audience: Audience

    def __init__(
        self, timezone: str, stores: Depot, archive: str | None, vault: str | Callable[[], str] | BlobStore | None
    ) -> None:
        super().__init__(timezone, stores, archive)
        if isinstance(vault, str):
            address(vault)
        self._vault = vault

    def erasure(self, *key: object, job: str | None = None) -> Prospect:
        """Say what `erase` would find of the row with this primary key; nothing is removed."""
        kit = self._kit()
        chosen, policy, selection = self._selected(job)
        return prospect.look(kit, policy, selection, _texts(chosen, selection, key), chosen.name)

    def erase(self, *key: object, by: str, job: str | None = None, stop: Event | None = None) -> Erasure:
        """Remove all that is kept of the row with this primary key, whatever its time; return the receipt.

        The row is one of the table of a job that says erase = true, which is named where there are several. Where
        somebody broke off, it is gone on with. It is `incomplete` where anything could not be removed or looked at,
        and may be called again. Raises UsageError for a row that is not there, SafetyStop for one that is held, and
        where a `stop` ended it before.
        """
        chosen, policy, selection = self._selected(job)
        return self._erase(chosen, policy, selection, _texts(chosen, selection, key), by, stop or Event())

    def replay(
        self, *, by: str, since: datetime | None = None, confirm: bool = False, stop: Event | None = None
    ) -> tuple[int, list[Erasure]]:
        """Erase again whom a restored database does not know to be erased; return how many it found, and the receipts.

        These are the subjects that the vault has and the database has not; and those erased `since` an instant
        (aware), which both may have. Without `confirm` they are only counted.
        """
        kit = self._kit()
        if kit.vault is None and since is None:
            raise UsageError(
                "no erasure is kept outside of the database, so that nobody knows which of them it has forgotten: set"
                " erasures under [nightcrew], or say since when those that it knows are to be done again"
            )
        lost = self._lost(kit)
        if confirm:
            known = {one.id for one in kit.erasures.restored()}
            kit.erasures.restore(one for one in lost.values() if one.id not in known)
        late = (one for one in _all_receipts(kit) if since is not None and one.requested_at >= since)
        subjects = {one.subject for one in chain(lost.values(), late)}
        found, done = 0, []
        for job, policy, selection, key in self._people(kit, subjects):
            if stop is not None and stop.is_set():
                raise SafetyStop("the replay was stopped before its end: call again to go on with it")
            found += 1
            if confirm:
                done.append(self._erase(job, policy, selection, key, by, stop or Event()))
        if confirm:
            kit.erasures.replayed()
        return found, done

    def receipts(self) -> Iterator[dict[str, Any]]:
        """Return what every receipt says, the oldest first."""
        return (receipt.read(one) for one in _all_receipts(self._kit(reading=True)))

    def verify(self) -> list[str]:
        """Say which receipts are missing or not as they were written, in the database and in the vault."""
        kit = self._kit(reading=True)
        found = list(receipt.faults(kit.secret, _all_receipts(kit)))
        if kit.vault is not None:
            found += [f"{kit.vault.place}: {fault}" for fault in receipt.faults(kit.secret, kit.vault.receipts())]
            found += receipt.unlike(_all_receipts(kit), kit.vault.receipts(), kit.vault.place)
        return found

    def coverage(self) -> dict[str, list[str]]:
        """Say by job which columns may refer to what it erases, and are neither followed nor kept for a reason."""
        jobs = [job for job in self._jobs.values() if job.policy and job.policy.erase]
        tables = self._station.subjects.tables() if jobs else {}
        found: dict[str, list[str]] = {}
        for job in jobs:
            with job.to_blame():
                _, policy, selection = self._selected(job.name)
            found[job.name] = list(coverage.gaps(policy, selection, tables))
        return found

    def columns_of(self, store: str) -> tuple[Owing, ...]:
        """Return the columns that hold keys of a store; who is back after all owes no erasure any more."""
        for job in self._completing():
            if completion.store_of(job.name) == store:
                return (completion.owing(job.name, self._selected(job.name)[2]),)
        return super().columns_of(store)

    def _owed_to(self) -> Mapping[str, Store]:
        """Return the stores, and those that erasures are owed to."""
        jobs = {completion.store_of(job.name): job for job in self._completing()}
        own = {name: completion.Completions(name, partial(self._complete, job)) for name, job in jobs.items()}
        return ChainMap(own, self._stores)  # type: ignore[arg-type]  # it only looks up, and opens what is asked for

    def _completing(self) -> list[Job]:
        """Return the jobs whose erasures are completed once nothing can be put back."""
        with_key = self.settings.erasure_key is not None
        return [job for job in self._jobs.values() if with_key and (rule := job.policy) and rule.erase and rule.archive]

    def _complete(self, job: Job, key: str) -> str | None:
        """Complete an erasure that is owed; return why it is incomplete, if it is."""
        chosen, policy, selection = self._selected(job.name)
        try:
            closed = self._erase(chosen, policy, selection, (key,), job.name, Event())
        except SafetyStop as why:
            return str(why)
        if closed.state is State.COMPLETE:
            return None
        return f"receipt {closed.number} of its erasure is incomplete: 'nightcrew erase receipts'"

    def _erase(
        self, job: Job, policy: Policy, selection: Selection, key: Sequence[str], by: str, stop: Event
    ) -> Erasure:
        kit = self._kit()
        erasure = eraser.begin(kit, policy, selection, key, job.name, by)
        if erasure is None:
            raise UsageError(f"table {selection.table.name!r} has no row with that primary key: see how it is written")
        work = eraser.work_of(kit, policy, selection, erasure, _Freely(self.clock, stop))
        try:
            closed = eraser.erase(work)
        except rows.Kept as why:
            raise SafetyStop(f"nothing is removed of that row of table {selection.table.name!r}: {why}") from None
        except rows.Stopped:
            raise SafetyStop("the erasure was stopped before its end: call again to go on with it") from None
        self._station.acts.keep(Act(by, "erase", job.name, reason=f"erasure {closed.id}: {closed.state}"))
        self.tell("erased", job=job.name, label=job.label, erasure=closed.id, state=str(closed.state), by=by)
        return closed

    def _selected(self, name: str | None) -> tuple[Job, Policy, Selection]:
        job = self._erasing(name)
        assert job.policy is not None  # noqa: S101 - it erases
        with job.to_blame():
            return job, job.policy, eraser.whole(job.policy, self._station.database, self._station.broom.holds())

    def _erasing(self, name: str | None) -> Job:
        """Return the job whose table has the subjects."""
        jobs = {job.name: job for job in self._jobs.values() if job.policy and job.policy.erase}
        if name is None and len(jobs) == 1:
            return next(iter(jobs.values()))
        if name in jobs:
            return jobs[str(name)]
        if not jobs:
            raise UsageError("no job says erase = true, so that nobody knows what belongs to a person: add one")
        named = f"job {name!r} does not say erase = true" if name else "several jobs say erase = true"
        raise UsageError(f"{named}: name one of them{did_you_mean(name or '', jobs)}")

    def _lost(self, kit: Kit) -> dict[str, Erasure]:
        """Return what the vault has and the database has not, by ID; of an erasure that was closed, its receipt."""
        if kit.vault is None:
            return {}
        known, receipts = kit.erasures.ids(), list(kit.vault.receipts())
        receipt.check_key(kit.secret, receipts)
        return {one.id: one for one in chain(kit.vault.announced(), receipts) if one.id not in known}

    def _people(self, kit: Kit, subjects: set[str]) -> Iterator[tuple[Job, Policy, Selection, tuple[str, ...]]]:
        """Go through the rows of every table that is erased from, and return those of the subjects."""
        seen = set[str]()
        for name in [job.name for job in self._jobs.values() if job.policy and job.policy.erase]:
            job, policy, selection = self._selected(name)
            table = selection.table
            if table.name in seen or not subjects:
                continue
            seen.add(table.name)
            for begun in kit.erasures.under_way(name, _PAGE):  # the row may be gone, and not all else
                if begun.subject in subjects:
                    yield job, policy, selection, tuple(begun.facts["values"][one] for one in table.primary_key)
            after: tuple[str, ...] | None = None
            while keys := kit.subjects.keys(table, after, _PAGE):
                mine = (key for key in keys if subject_of(kit.secret, table.name, key) in subjects)
                yield from ((job, policy, selection, key) for key in mine)
                after = keys[-1]

    def _kit(self, *, reading: bool = False) -> Kit:
        """Return what erasures are done with; raises ConfigurationError without the key that hashes are made of."""
        if (kit := self._kit_if_any()) is None:
            raise ConfigurationError(
                f"{ERASURE_KEY} is not set, by which erased subjects are known without a name: make one with"
                " 'nightcrew secret new', and keep it as long as the receipts"
            )
        self._station.ready(self._jobs, looking=True)
        if not reading:
            receipt.check_key(kit.secret, kit.erasures.some())
        return kit

    def _kit_if_any(self) -> Kit | None:
        if self.settings.erasure_key is None:
            return None
        station = self._station
        parts = (station.database, station.subjects, station.erasures, station.debts)
        around = self._stores, self.columns_of, self._opened_vault(), self.clock
        mail = None if self.mail is None else Mailed(self.mail.mail.people, station.enrolments)
        return Kit(self.settings.erasure_key, *parts, *around, mail)

    def _opened_vault(self) -> Vault | None:
        if self._vault is None:
            return None
        if isinstance(self._vault, str) or callable(self._vault):
            url = self._vault if isinstance(self._vault, str) else self._vault()
            self._vault = blob_store(url, self.clock)
        return Vault(self._vault)

    def tell(self, kind: str, **facts: Any) -> None:
        """Let the listeners hear a fact that belongs to no run."""
        self._audience.tell(Entry(kind, facts.pop("job", None), None, facts))


def _texts(job: Job, selection: Selection, key: Iterable[object]) -> tuple[str, ...]:
    """Return a primary key as texts; raises UsageError for one of another number of columns."""
    texts, columns = tuple(str(value) for value in key), selection.table.primary_key
    if not columns:
        raise UsageError(f"table {selection.table.name!r} of job {job.name!r} has no primary key: add one")
    if len(texts) != len(columns):
        raise UsageError(
            f"a row of {selection.table.name!r} is known by {', '.join(columns)}: give {len(columns)} values, in that"
            f" order, and not {len(texts)}"
        )
    return texts


def _all_receipts(kit: Kit) -> Iterator[Erasure]:
    after = 0
    while found := kit.erasures.receipts(after, _PAGE):
        yield from found
        after = found[-1].number or 0
