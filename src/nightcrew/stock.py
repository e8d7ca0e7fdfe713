"""Stock: the stores of a crew by name, and what is owed to them."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import partial

from nightcrew import orphans, outbox
from nightcrew.call import Call
from nightcrew.comparison import Comparison, Survey
from nightcrew.debt import Balance, Overdue
from nightcrew.depot import STREAMS, Depot
from nightcrew.errors import ConfigurationError, UsageError, did_you_mean, misfit
from nightcrew.job import Job
from nightcrew.owing import Owing
from nightcrew.roll import Roll
from nightcrew.station import Stationed
from nightcrew.store import Store


class Stock(Roll, Stationed):
    """The jobs of a crew and its stores; once there is one, a job of its own settles every minute what is owed."""

    def __init__(self, timezone: str, stores: Depot) -> None:
        super().__init__(timezone)
        self._stores = stores
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
        for key, store in policy.stores if policy else ():
            if store not in self._stores:
                near = did_you_mean(store, self._stores) or "; declare it, as in [blobs.uploads]"
                raise ConfigurationError(f"{key} of job {job.name!r} names store {store!r}, which is none{near}")
        if policy is not None and policy.unless_active_stream and STREAMS not in self._stores:
            raise ConfigurationError(
                f"unless_active_stream of job {job.name!r}: nobody says where streams are kept; write a table [streams]"
            )
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

    def _drain(self, run: Call) -> None:
        """Settles what is owed to the stores: removes each key that no row holds any more."""
        outbox.drain(run, self._owed_to(), self.columns_of, self._station.debts)

    def _owed_to(self) -> Mapping[str, Store]:
        """Return whatever something may be owed to, by name."""
        return self._stores
