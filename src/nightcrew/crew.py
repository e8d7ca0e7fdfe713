"""Nightcrew: wires the rooms, one verb per stage."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cached_property, partial
from threading import Event, RLock
from typing import Any

from nightcrew import guard
from nightcrew import plan as plans
from nightcrew.absence import FAILURES
from nightcrew.acts import Act
from nightcrew.alarming import Alarming
from nightcrew.backfill import Backfill, backlog
from nightcrew.bid import slot_asked_for
from nightcrew.caller import Caller
from nightcrew.channels.channel import Channel
from nightcrew.claim import Claim
from nightcrew.claims import INSIDE, LEASE
from nightcrew.clock import Budget, Clock, SystemClock, instant
from nightcrew.depot import Depot
from nightcrew.done import turned_away
from nightcrew.errors import UsageError
from nightcrew.examining import Examining
from nightcrew.fleet import Company, Spread
from nightcrew.gauge import hooks
from nightcrew.job import Job
from nightcrew.ledger import Audience, Listener
from nightcrew.listeners.checkin import Monitor
from nightcrew.listeners.log import Log
from nightcrew.listeners.monitors import Monitors
from nightcrew.mail import Mail
from nightcrew.mailing import Mailing
from nightcrew.outcome import Outcome
from nightcrew.plan import Plan
from nightcrew.report import Report
from nightcrew.rivalry import in_force
from nightcrew.run import carry_out, carry_out_together
from nightcrew.settings import Settings
from nightcrew.station import Station
from nightcrew.store import BlobStore
from nightcrew.streaming import Streams
from nightcrew.taken import Taken
from nightcrew.tending import Tending
from nightcrew.trigger import Errand, Work, check_wish
from nightcrew.triggers.hands import side_by_side
from nightcrew.triggers.ticker import Ticker
from nightcrew.web import asgi as doors
from nightcrew.web.asgi import App, Lifespan
from nightcrew.web.monitoring import Monitoring

_GLANCE = 0.5  # seconds that a count may take which only tells of progress


class Nightcrew(Examining):
    """A crew: jobs over one database, and every way to start them.

    `database` is a URL, or a function that returns one (default: DATABASE_URL); nobody asks for it, and nothing
    connects, before the first verb that needs to. `timezone` is the zone of cron schedules given as text. Listeners
    hear every entry; the log listener is always among them. `monitors` hear of runs, and people of alarms by the
    channels in `alarms`; so many `failures` of a job in a row are one (docs/monitoring.md).
    `blobs` are stores by name: a URL, or a mapping of what docs/blobs.md shows; `calls` and `redis` are what else may
    be owed something, as docs/outbox.md says; `erasures` is where they are written down outside of the database, and
    `archive` the one of `blobs` that rows are copied to (docs/archive.md); `mail` and `streams` as docs/mail.md and
    docs/streams.md say. `gauges` hold every sweep back, as a job's `throttle` does its own: functions, or texts.
    """

    def __init__(  # noqa: PLR0913 - whatever a crew is made of is said once
        self,
        database: str | Callable[[], str] | None = None,
        *,
        jobs: Iterable[Job] = (),
        timezone: str = "UTC",
        settings: Settings | None = None,
        listeners: Iterable[Listener] = (),
        monitors: Iterable[Monitor] = (),
        alarms: Iterable[Channel] = (),
        failures: int = FAILURES,
        gauges: Iterable[object] = (),
        blobs: Mapping[str, Any] | None = None,
        calls: Mapping[str, Any] | None = None,
        redis: str | Callable[[], str] | None = None,
        archive: str | None = None,
        erasures: str | Callable[[], str] | BlobStore | None = None,
        mail: Mail | None = None,
        streams: Streams | None = None,
        clock: Clock | None = None,
        lease: float = LEASE,
    ) -> None:
        self.settings = settings or Settings.read()
        self.clock = clock or SystemClock()
        self._audience = Audience((Log(), *listeners), self.settings.censor)
        self.monitors = Monitors(tuple(monitors), self.clock, self._audience)
        self.streams = None if streams is None else Tending(streams, self._audience.censor)
        stores = Depot(self.clock, self._audience.censor, blobs=blobs, calls=calls, redis=redis, streams=self.streams)
        super().__init__(timezone, stores, archive, erasures)
        url, parts = database or self.settings.database, (self._kit_if_any, self.frames(self.clock))
        self._station = Station(url, self.clock, self._audience, lease, hooks(gauges), self._jobs, *parts)
        if self.streams is not None:
            self._station.living = self.streams.chats
        self.mail = None if mail is None else Mailing(mail, self._station, self.settings, self.clock, timezone)
        given = self._station, self.clock, self._audience
        self.alarms = Alarming(self, alarms, *given, failures=failures)
        self.spread: Spread | None = None
        self.errand: Errand | None = None
        self._lock = RLock()
        self._stopping = Event()
        self._ticker: Ticker | None = None
        for job in (*jobs, *(room.job for room in (self.mail, self.streams) if room)):
            self.add(job)

    # ── one verb per stage ───────────────────────────────────────────────────────────────────────────────────────

    def waiting(self) -> list[str]:
        """Return the jobs that `due` would claim something of now; nothing is claimed."""
        return self._registered(lambda: self._station.claims.waiting(self._jobs.values()))

    def due(
        self,
        *,
        trigger: str,
        only: str | None = None,
        start: bool = False,
        deadline: timedelta | None = None,
        stop: Event | None = None,
    ) -> list[Work]:
        """Claim every slot that is due now, or `only` a job's; `start` also the latest slot of jobs that run on start.

        Each piece of work runs one of them, and hands it over after the batch it is in once `stop` is set, or the
        `deadline` has passed; or it only reports a run that was found open, and has failed for good.
        """
        jobs = self._jobs.values() if only is None else [self.job_named(only)]
        budget, buried = Budget.of(self.clock, deadline, stop or self._stopping), list[tuple[Job, Taken]]()
        claims = self._registered(lambda: self._station.claims.due(jobs, trigger, start=start, buried=buried))
        failed = [partial(turned_away, job, trigger, taken, self.clock.now()) for job, taken in buried]
        return [*failed, *(partial(self._carry_out, claim, budget) for claim in claims)]

    def hand_out(self, *, start: bool, stop: Event, hands: int | None = None) -> list[Callable[[], None]]:
        """Claim what `hands` can begin with soon, and what is due in an instant; what is done is settled later."""
        station, budget, whose = self._station, Budget.of(self.clock, stop=stop), self._jobs.values()
        claims = self._registered(lambda: station.claims.due(whose, INSIDE, start=start, stop=stop, hands=hands))
        rooms = station.claims, station.broom, budget, Company(station.claims.heartbeat, self.spread), station.settler
        return [partial(carry_out_together, claim, *rooms) for claim in claims]

    def rest(self, longest: float) -> float:
        """Return for how many seconds nothing becomes due as far as is known, so many at most."""
        return min(longest, self._station.claims.agenda.quiet())

    def tick(self, *, trigger: str, start: bool = False, stop: Event | None = None) -> list[Report]:
        """Run every slot that is due now, once, and return when all have ended; see `due`."""
        return side_by_side(self.due(trigger=trigger, start=start, stop=stop))

    def run(
        self,
        name: str,
        *,
        trigger: str = "manual",
        slot: datetime | None = None,
        now: bool = False,
        plan: str | None = None,
        caller: Caller | str | None = None,
        deadline: timedelta | None = None,
        stop: Event | None = None,
    ) -> Report:
        """Run the job's slot (default: the latest due) unless somebody has; with `now` a run that belongs to no slot.

        With `plan`, the ID of one that was kept, such a run takes what that plan showed, or is refused. A `caller` with
        a key gets one such run, however often they call.

        Raises UnknownJob, UsageError for a slot that cannot be, and DatabaseError when the database is away.
        """
        job = self.job_named(name)
        check_wish(name, slot=slot, now=now, plan=plan, deadline=deadline)
        if plan is not None:
            self._station.ready(self._jobs, looking=True)
            guard.demand(plan, job, self._station.broom)
        if not job.enabled:
            taken = Taken(Outcome.DISABLED, f"Job {name} is disabled {job.disabled}.")
            return turned_away(job, trigger, taken, self.clock.now())
        budget, finished = Budget.of(self.clock, deadline, stop or self._stopping), None

        def bid() -> Claim | Taken:
            claims = self._station.claims
            by_hand = now or plan is not None
            return claims.by_hand(job, trigger, caller) if by_hand else claims.of_slot(job, trigger, caller, slot)

        while True:
            claim = self._registered(bid)
            if isinstance(claim, Taken):
                return finished or turned_away(job, trigger, claim, self.clock.now())
            if claim.at_once and not claim.resumed:
                self._station.sign(claim, Act(Caller.of(caller).name or "unknown", "run", name, claim.run, plan))
            report = self._carry_out(claim if claim.resumed else claim._replace(plan=plan), budget)
            if finished:
                note = f"run {finished.run} was left open, and is finished: {finished.message}"
                report = replace(report, note="; ".join(filter(None, (report.note, note))))
            if not claim.resumed or report.outcome not in (Outcome.SUCCEEDED, Outcome.NOTHING_TO_DO):
                return report
            finished = report  # the slot that was asked for is still to come

    def join(
        self, job: str, run: str, *, trigger: str, called: int | None = None, deadline: timedelta | None = None
    ) -> Report | None:
        """Work at a run that is shared, `called` to one of its ranges perhaps; None where nobody holds it any more."""
        claim = self._registered(lambda: self._station.claims.join(self.job_named(job), run, trigger, called))
        return None if claim is None else self._carry_out(claim, Budget.of(self.clock, deadline, self._stopping))

    def slot_of(self, name: str, asked: datetime) -> datetime | None:
        """Return the slot that an instant falls into, by the database's clock; raises UsageError for one to come."""
        now, standings = self._registered(lambda: self._station.books.standings([name]), looking=True)
        return slot_asked_for(in_force(self.job_named(name), standings[name]), asked, now)

    def adrift(self) -> list[tuple[str, str]]:
        """Return (job, run) of the runs under way that have a range which nobody works at."""
        return [(job, run) for job, run in self._station.ranges.adrift() if job in self._jobs]

    def backlog(self, name: str, since: datetime, until: datetime) -> list[datetime]:
        """Return the slots that `backfill` would run, and raise what it would raise; nothing is run."""
        job = self.job_named(name)
        return self._registered(lambda: backlog(job, since, until, self._station.books), looking=True)

    def backfill(
        self,
        name: str,
        since: datetime,
        until: datetime,
        *,
        trigger: str = "manual",
        caller: str | None = None,
        stop: Event | None = None,
    ) -> list[Report]:
        """Run the slots from one instant to another that nobody ran, or that failed or were skipped, the oldest first.

        Each is run once, whoever calls; the same call goes on with what was broken off. Raises UsageError for more than
        1,000, for a job that removes rows (one run does that for all slots), and for times that cannot be meant.
        """
        job = self.job_named(name)
        if not job.enabled:
            raise UsageError(f"job {name!r} is disabled {job.disabled}: enable it before you backfill it")
        slots = self._registered(lambda: backlog(job, since, until, self._station.books))
        if slots:
            reason = f"slots from {instant(slots[0])} to {instant(slots[-1])}"
            self._station.acts.keep(Act(caller or "unknown", "backfill", name, reason=reason))
        work = partial(self._carry_out, budget=Budget.of(self.clock, stop=stop or self._stopping))
        return Backfill(job, trigger, caller, self._station.claims, self.clock, stop or self._stopping, work).on(slots)

    def plan(self, name: str, *, keep: bool = False) -> Plan:
        """Say what a run would do now, and what it would be refused for; no row of the application is changed.

        One to `keep` gets an ID, under which `run` carries it out, where nightcrew's own tables are there to keep it.
        Raises PolicyError for a policy that does not fit the database.
        """
        with (job := self.job_named(name)).to_blame():
            return guard.draw_up(job, self._station.broom, ready=self._station.migrations.current, keep=keep)

    def ack(self, name: str, *, by: str) -> Plan:
        """Agree to what a run of a job would be refused for now; the next one may take what the plan shows.

        That the database is another one, or its clock was put back, is agreed to for all jobs.
        """
        job = self.job_named(name)
        self._station.ready(self._jobs, looking=True)
        with job.to_blame():
            agreed = guard.agree(job, by, self._station.broom)
        self._station.acts.keep(Act(by, "ack", name, plan=agreed.id))
        self.tell("acked", job=name, label=job.label, by=by, plan=agreed.id, rows=agreed.rows)
        return agreed

    def expected(self, name: str) -> int | None:
        """Return about how many rows a run would take now, found out within about a second; None where nobody knows."""
        if (job := self.job_named(name)).policy is None:
            return None
        database, holds = self._station.database, self._station.broom.holds()
        found = database.expected(plans.compile(job.policy, database.now(), database, holds), _GLANCE)
        return found.rows if found else None

    # ── who starts a run ─────────────────────────────────────────────────────────────────────────────────────────

    def start(self) -> None:
        """Start the ticker, a thread inside this process, unless the settings say that it stays off."""
        with self._lock:
            if self._ticker is None or self._ticker.left_behind:
                self._ticker = Ticker(self)
            self._ticker.start()

    def stop(self) -> None:
        """Stop the ticker: its runs finish the batch they are in and hand over. Returns when monitors heard of them."""
        with self._lock:
            ticker, self._ticker = self._ticker, None
        if ticker is not None:
            ticker.stop()
        self._station.settle()
        self.monitors.close()

    def hand_over(self) -> None:
        """Ask every run of this process, whoever started it, to hand over after the batch it is in; for its end."""
        self._stopping.set()

    @property
    def at_work(self) -> list[str]:
        """The jobs whose runs this process has in hand, whoever started them."""
        return self._station.at_work

    @cached_property
    def asgi(self) -> App:
        """The job routes as a plain ASGI application; under a server of its own it also keeps the ticker."""
        return doors.asgi(self, on_start=self.start, on_stop=self.stop)

    @property
    def router(self) -> Any:
        """The job routes as a Starlette router, for `app.include_router(crew.router)`."""
        from nightcrew.web.starlette import router  # noqa: PLC0415 - Starlette is an extra

        return router(self)

    def dashboard(self, authorize: Any = None) -> App:
        """Return the desk as an ASGI application, to be mounted anywhere: `app.mount("/nightcrew", crew.dashboard(…))`.

        `authorize(request)` says who may look and what they may do: None, "read_only", "all", or a set of permissions;
        and the actor's name beside it, as in `("all", "ada")` (docs/dashboard.md). Raises ConfigurationError without
        one outside of development, and MissingExtra where Jinja2 is not installed.
        """
        from nightcrew.web.dashboard.app import Dashboard  # noqa: PLC0415 - Jinja2 is an extra

        return Dashboard(self, authorize)

    def monitoring(self, authorize: Any = None) -> App:
        """Return what machines ask as an ASGI application: /metrics, /status.json, badges, /healthz and /readyz.

        `authorize` is as for `dashboard`; without it NIGHTCREW_MONITOR_SECRET or CRON_SECRET lets somebody in.
        """
        return Monitoring(self, authorize)

    @cached_property
    def lifespan(self) -> Lifespan:
        """Keeps the ticker as long as an application lives: `FastAPI(lifespan=crew.lifespan)`."""
        return doors.lifespan(self.start, self.stop)

    def listen(self, listener: Listener) -> None:
        """Let one more listener hear every entry, from now on."""
        self._audience.join(listener)

    def close(self) -> None:
        """Stop the ticker and close every connection."""
        self.stop()
        self._station.close()

    def _carry_out(self, claim: Claim, budget: Budget) -> Report:
        claims = self._station.claims
        return carry_out(claim, claims, self._station.broom, budget, Company(claims.heartbeat, self.spread))
