"""Station: one database, and what a crew keeps and does there; wired on first use, and anew in the child of a fork."""

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from threading import Lock
from weakref import ref

from nightcrew.acts import Act
from nightcrew.archives.archive import Archive
from nightcrew.archives.manifest import Manifests
from nightcrew.books import RunRow
from nightcrew.claim import Claim
from nightcrew.claims import Claims
from nightcrew.clock import Clock, instant
from nightcrew.databases.acts import Deeds
from nightcrew.databases.adoptions import Adoptions
from nightcrew.databases.alarms import Board
from nightcrew.databases.books import Ledgers
from nightcrew.databases.chronicle import Pages
from nightcrew.databases.conditions import Ward
from nightcrew.databases.connect import Link
from nightcrew.databases.consents import Records
from nightcrew.databases.directory import Registry
from nightcrew.databases.divisions import Divisions
from nightcrew.databases.dues import Dues
from nightcrew.databases.enrolments import Enrolled
from nightcrew.databases.erasures import Tombs
from nightcrew.databases.mails import Post
from nightcrew.databases.manifests import Inventory
from nightcrew.databases.migrations import Migrations
from nightcrew.databases.outlines import Outlines
from nightcrew.databases.returns import Returns
from nightcrew.databases.rows import Rows
from nightcrew.databases.subjects import People
from nightcrew.databases.suppressions import Silence
from nightcrew.erasures.work import Kit
from nightcrew.errors import NoDatabase
from nightcrew.gauge import Hook, Source
from nightcrew.gauges import source
from nightcrew.hold import holds
from nightcrew.job import Job
from nightcrew.ledger import Audience, Entry, Ledger
from nightcrew.proposal import Prospect, propose
from nightcrew.rivalry import registration
from nightcrew.settler import Settler
from nightcrew.walk import Broom
from nightcrew.watch import Watch

_ROOMS = ("link", "database", "books", "ranges", "consents", "debts", "mails",
          "enrolments", "suppressions", "directory", "adopted", "subjects", "erasures", "archive", "migrations",
          "claims", "settler", "broom", "acts", "alarms", "chronicle", "conditions")  # fmt: skip


class Station:
    """Everything that touches the database of a crew; nothing connects before it is asked for."""

    def __init__(
        self,
        url: str | Callable[[], str] | None,
        clock: Clock,
        audience: Audience,
        lease: float,
        hooks: Sequence[Hook],
        jobs: Mapping[str, Job],
        kit: Callable[[], Kit | None],
        archive: Callable[[Manifests], Archive] | None = None,
    ) -> None:
        self._url = url
        self._clock = clock
        self._audience = audience
        self._lease = lease
        self._hooks = hooks
        self._jobs = jobs
        self._kit = kit
        self._archive = archive
        self.living: Callable[[], Collection[str]] = frozenset
        self._lock = Lock()
        self._seen: set[str] = set()
        self._registered: set[str] = set()
        _start_anew_in_children(self)

    @cached_property
    def link(self) -> Link:
        """The connections."""
        url = self._url() if callable(self._url) else self._url
        if not url:
            raise NoDatabase("no database is configured: pass Nightcrew(database=…) or set DATABASE_URL")
        self._audience.censor.learn_url(url)
        return Link(url, self._clock)

    @cached_property
    def database(self) -> Rows:
        """The application's tables."""
        return Rows(self.link)

    @cached_property
    def books(self) -> Ledgers:
        """nightcrew's own tables."""
        return Ledgers(self.link)

    @cached_property
    def ranges(self) -> Divisions:
        """The ranges of runs that are cut."""
        return Divisions(self.link, self.books)

    @cached_property
    def consents(self) -> Records:
        """What was agreed to, in tables of nightcrew's own."""
        return Records(self.link)

    @cached_property
    def debts(self) -> Dues:
        """What is owed to the stores."""
        return Dues(self.link)

    @cached_property
    def mails(self) -> Post:
        """The mails that people are due."""
        return Post(self.link)

    @cached_property
    def enrolments(self) -> Enrolled:
        """Who is due them."""
        return Enrolled(self.link)

    @cached_property
    def suppressions(self) -> Silence:
        """To whom none is sent."""
        return Silence(self.link)

    @cached_property
    def adopted(self) -> Adoptions:
        """The mails that the application schedules by itself."""
        return Adoptions(self.link)

    @cached_property
    def directory(self) -> Registry:
        """The application's tables, as far as they tell of people."""
        return Registry(self.link)

    @cached_property
    def subjects(self) -> People:
        """The application's rows, asked for one by one."""
        return People(self.link, self.database)

    @cached_property
    def erasures(self) -> Tombs:
        """Who was erased."""
        return Tombs(self.link)

    @cached_property
    def archive(self) -> Archive | None:
        """Where rows are copied before they leave, if anywhere."""
        return self._archive(Inventory(self.link)) if self._archive else None

    @cached_property
    def acts(self) -> Deeds:
        """What people did."""
        return Deeds(self.link)

    @cached_property
    def alarms(self) -> Board:
        """Which alarms stand, and what was told of them."""
        return Board(self.link)

    @cached_property
    def chronicle(self) -> Pages:
        """The runs, as pages show them."""
        return Pages(self.link)

    @cached_property
    def conditions(self) -> Ward:
        """How the database is."""
        return Ward(self.link)

    def returns(self) -> Returns:
        """Return the application's tables, for rows to come back into them."""
        return Returns(self.link)

    @cached_property
    def migrations(self) -> Migrations:
        """The steps that make them."""
        return Migrations(self.link, self._clock)

    @cached_property
    def claims(self) -> Claims:
        """What this process holds."""

        def buried(job: Job, row: RunRow) -> None:
            facts = {"reason": row.reason, "label": job.label, "slot": row.slot and instant(row.slot)}
            self._audience.tell(Entry("buried", job.name, row.id, facts))

        def lost(job: Job, trigger: str) -> None:
            self._audience.tell(Entry("contended", job.name, None, {"trigger": trigger, "label": job.label}))

        return Claims(self.books, self.ranges, self._clock, self._lease, buried, lost)

    @cached_property
    def settler(self) -> Settler:
        """What settles the runs of functions together."""

        def lost(error: BaseException) -> None:
            self._audience.tell(Entry("run_lost", facts={"error": f"{type(error).__name__}: {error}"}))

        return Settler(self.books, self._clock, lost)

    @cached_property
    def broom(self) -> Broom:
        """What a sweep works with."""
        ledger = Ledger(self.books, self._audience)
        watch = Watch(self._clock, self._sources)
        return Broom(
            self.database,
            self.books,
            self.ranges,
            self.consents,
            ledger,
            self._clock,
            self._lease,
            watch,
            lambda: holds(self._jobs.values()),
            self._kit,
            self.archive,
            self.living,
        )

    def _sources(self, job: Job) -> Iterator[Source]:
        """Say what a sweep heeds: the database's own gauges, the crew's hooks, and the job's."""
        yield from self.database.gauges(job.pace)
        yield from (source(hook, self.database) for hook in dict.fromkeys((*self._hooks, *job.throttle)))

    def ready(self, jobs: Mapping[str, Job], *, looking: bool = False) -> None:
        """Make sure the tables are there and every job has its row, with its schedule unless it is only looked at."""
        done = self._seen if looking else self._registered
        if jobs.keys() <= done:
            return
        with self._lock:
            fresh = {name: job for name, job in jobs.items() if name not in done}
            self.migrations.ensure()
            self.books.register([registration(job) for job in fresh.values()])
            self._seen.update(fresh)
            if not looking:
                self._reschedule(fresh)
                self._registered.update(fresh)

    @property
    def at_work(self) -> list[str]:
        """The jobs whose runs this process has in hand; nothing is wired for the question."""
        return self.claims.held if "claims" in self.__dict__ else []

    def sign(self, claim: Claim, act: Act) -> None:
        """Write down who asked for a run; what cannot be written down is not begun, and keeps nobody from the job."""
        try:
            self.acts.keep(act)
        except BaseException:
            self.claims.call_off(claim, "called off: who asked for it could not be written down")
            raise

    def forget(self, jobs: Iterable[str]) -> None:
        """Let the next `ready` make the rows of these jobs anew."""
        with self._lock:
            self._seen.difference_update(jobs)
            self._registered.difference_update(jobs)

    def settle(self) -> None:
        """Return once every run that has ended is settled."""
        if "settler" in self.__dict__:
            self.settler.close()

    def close(self) -> None:
        """Let go of what this process holds, and close every connection."""
        self.settle()
        if "claims" in self.__dict__:
            self.claims.close()
        if "link" in self.__dict__:
            self.link.close()
        self._vacate()

    def _reschedule(self, jobs: Mapping[str, Job]) -> None:
        """Give each job's row the schedule it has now, or begin to; old ones' slots that nobody ran end as missed."""
        now, standings = self.books.standings(jobs)
        self.claims.rivalry.settle(jobs, standings, now, starting=True)

    def start_anew(self) -> None:
        """Forget, in the child of a fork, what belongs to the parent: connections, leases, and locks somebody held."""
        self._lock = Lock()
        if "link" in self.__dict__:
            self.link.forget()
        self._vacate()

    def _vacate(self) -> None:
        """Let whoever comes next find everything new."""
        for room in _ROOMS:
            self.__dict__.pop(room, None)


class Stationed:
    """The verbs of a crew that are about its database alone."""

    _station: Station

    def check_url(self) -> None:
        """Raise ConfigurationError where the database's URL is not set, or is none; the database is not asked."""
        _ = self._station.link

    def require_database(self) -> None:
        """Raise DatabaseError for a database in a file that is not there, which the first verb would make."""
        self._station.link.require()

    def propose(self) -> Prospect:
        """Look at all tables of the database, and propose jobs; changes nothing, and counts no table.

        Raises DatabaseError where it cannot be reached, or takes longer than ten seconds to tell of its tables.
        """
        link = self._station.link
        link.require()
        return propose(Outlines(link), self._station.database, link.now())

    def migrate(self) -> list[str]:
        """Bring nightcrew's own tables to this version; return a line for each step applied."""
        return self._station.migrations.apply()

    def migration(self) -> str:
        """Return the statements of `migrate` as SQL, for those who review before they run."""
        return self._station.migrations.sql()


def _start_anew_in_children(station: Station) -> None:
    """A preloading server forks after the application was imported, and each worker needs connections of its own."""
    seen = ref(station)

    def anew() -> None:
        if (found := seen()) is not None:
            found.start_anew()

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=anew)
