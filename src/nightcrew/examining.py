"""The verb of a crew that looks for what is wrong: every check, one after the other, however many cannot tell."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from nightcrew import guard
from nightcrew import plan as plans
from nightcrew.alarm import Alarm, Kept, Sighting
from nightcrew.alarming import SECRET, Alarming
from nightcrew.checks import callers, schema, secrets, ticking, watchers, yields
from nightcrew.checks.check import Check, Finding, Result, Unable
from nightcrew.chronicle import Chronicle
from nightcrew.clock import Clock
from nightcrew.condition import Condition, Reach
from nightcrew.database import Selection
from nightcrew.errors import DatabaseError, NightcrewError
from nightcrew.job import Job
from nightcrew.listeners.monitors import Monitors
from nightcrew.looking import Looking
from nightcrew.mailing import Mailing
from nightcrew.plan import Plan
from nightcrew.policy import Policy
from nightcrew.roll import JobStatus
from nightcrew.settings import Settings
from nightcrew.station import Station

CHECKS: Sequence[Check] = sorted(
    (check for room in (callers, schema, secrets, ticking, watchers, yields) for check in room.CHECKS),
    key=lambda check: check.code,
)
_LONGEST = 60.0  # seconds for drawing up plans
_PATIENCE = 1.0  # seconds for each count, and each look at a column
_T = TypeVar("_T")


class Examining(Looking):
    """A crew that can be examined."""

    settings: Settings
    clock: Clock
    monitors: Monitors
    alarms: Alarming
    mail: Mailing | None

    def examine(self, only: str = "", *, static: bool = False, folder: Path | None = None) -> list[Result]:
        """Look for what is wrong, changing nothing; return what came of each check whose code begins so.

        `static` ones ask neither the database nor the network. Files of other schedulers are looked for in a folder
        (default: this one). A database that is away is asked no more than once.
        """
        patient, results = Examination(self, self._station, folder or Path()), list[Result]()
        gone = "" if static else self._missing_database()
        for check in CHECKS:
            if check.code.startswith(only.upper()) and (check.static or not static):
                result, away = _looked(check, patient, "" if check.static else gone)
                results.append(result)
                gone = gone or away
        return results

    def _missing_database(self) -> str:
        """Return why the database cannot be asked, without making the file of one."""
        try:
            self.require_database()
        except NightcrewError as error:
            return str(error)
        return ""


def _looked(check: Check, patient: "Examination", gone: str) -> tuple[Result, str]:
    """Return what came of a check, and how the database is away if it is: whoever knows that need not ask."""
    findings: list[Finding] = []
    if gone:
        return Result(check, unable=gone), gone
    try:
        findings.extend(check.look(patient))  # those before an error stay
    except DatabaseError as error:
        return Result(check, tuple(findings), str(error)), str(error) if error.away else ""
    except (NightcrewError, Unable) as error:
        return Result(check, tuple(findings), str(error)), ""
    return Result(check, tuple(findings)), ""


class Examination:
    """A crew as the checks see it: what they ask for is found out once, and a plan that fails does so each time."""

    def __init__(self, crew: Examining, station: Station, folder: Path) -> None:
        self._crew = crew
        self._station = station
        self.folder = folder
        self.settings = crew.settings
        self._until = crew.clock.monotonic() + _LONGEST
        self._plans: dict[str, Plan | NightcrewError] = {}
        self._reaches: dict[str, Reach] = {}

    @property
    def jobs(self) -> Mapping[str, Job]:
        """The crew's."""
        return self._crew.jobs

    @cached_property
    def now(self) -> datetime:
        """The clock of this process."""
        return self._crew.clock.now()

    @cached_property
    def problems(self) -> Mapping[str, list[str]]:
        """What the rooms say, asking nobody."""
        crew = self._crew
        broken, gated = (crew.mail.faults(), crew.mail.doubts()) if crew.mail else ([], [])
        return {"mail": broken, "gate": gated, "archive": crew.archive_doubts(), "stores": crew.stores.problems()} | {
            "monitors": crew.monitors.problems(), "alarms": crew.alarms.problems()
        }  # fmt: skip

    @property
    def watched(self) -> bool:
        """Monitors, or channels of alarms."""
        return bool(self._crew.monitors.some or self._crew.alarms.channels)

    @property
    def database_now(self) -> datetime:
        """Asked each time, for it goes on."""
        return self._station.database.now()

    @cached_property
    def condition(self) -> Condition:
        """Of the tables of all policies."""
        tables = dict.fromkeys(job.policy.table for job in self.jobs.values() if job.policy is not None)
        return self._station.conditions.read(list(tables))

    @cached_property
    def migrated(self) -> bool:
        """Looked at, not made."""
        return self._station.migrations.current

    @cached_property
    def standings(self) -> list[JobStatus]:
        """Where the tables are there."""
        self._demand_tables()
        return self._crew.status()

    @cached_property
    def alarms(self) -> list[tuple[Alarm, Kept | None]]:
        """Where the tables are there."""
        self._demand_tables()
        return self._crew.alarms.standing()

    @property
    def chronicle(self) -> Chronicle:
        """Where the tables are there."""
        self._demand_tables()
        return self._station.chronicle

    @property
    def old_secret(self) -> Sighting | None:
        """Where the tables are there."""
        self._demand_tables()
        return self._station.alarms.sighting(SECRET)

    def plan(self, job: str) -> Plan:
        """Draw it up once, for as long as all of them together may take."""
        if job not in self._plans and self._crew.clock.monotonic() > self._until:
            left = len(self.jobs) - len(self._plans)
            raise Unable(f"{left} jobs are left after a minute: 'nightcrew plan JOB' tells of one")
        return _once(self._plans, job, lambda: self._drawn(self.jobs[job]))

    def reach(self, job: str) -> Reach:
        """Of the job's own table, once it is known to be one."""
        policy = self._policy(job)
        if job not in self._reaches:
            table = self._selection(policy).table.name
            self._reaches[job] = self._station.conditions.reach(table, policy.column, _PATIENCE)
        return self._reaches[job]

    def eligible(self, job: str) -> tuple[int, Mapping[str, int]] | None:
        """Count by the time alone, and then with each condition of the policy alone."""
        whole = self._selection(self._policy(job))
        free = replace(whole, where=None, hold=None, absences=(), living=None, latest=None, shields=())
        rows = self._count(free)
        if not rows:
            return None if rows is None else (0, {})
        left: dict[str, int] = {}
        for name, selection in _alone(whole, free):
            if (found := self._count(selection)) is not None:
                left[name] = found
        return rows, left

    def _drawn(self, job: Job) -> Plan:
        with job.to_blame():
            return guard.draw_up(job, self._station.broom, ready=self.migrated, keep=False)

    def _policy(self, job: str) -> Policy:
        policy = self.jobs[job].policy
        if policy is None:
            raise Unable(f"job {job!r} is a function")
        return policy

    def _selection(self, policy: Policy) -> Selection:
        database = self._station.database
        return plans.compile(policy, database.now(), database, self._station.broom.holds())

    def _count(self, selection: Selection) -> int | None:
        found = self._station.database.expected(selection, _PATIENCE)
        return None if found is None else found.rows

    def _demand_tables(self) -> None:
        if not self.migrated:
            raise Unable("nightcrew's own tables are not there: run 'nightcrew migrate'")


def _alone(whole: Selection, free: Selection) -> Iterator[tuple[str, Selection]]:
    """Yield the conditions of a policy as its keys are called, each with what it alone leaves."""
    if whole.where is not None:
        yield "where", replace(free, where=whole.where)
    if whole.hold is not None:
        yield "hold", replace(free, hold=whole.hold)
    if whole.absences:
        yield "unless_exists", replace(free, absences=whole.absences)
    if whole.latest is not None:
        yield "keep_latest", replace(free, latest=whole.latest)
    if whole.shields:
        yield "the hold of what hangs on it", replace(free, shields=whole.shields)


def _once(known: dict[str, _T | NightcrewError], name: str, find: Callable[[], _T]) -> _T:
    """Return what is found out once, and raise each time what was raised then."""
    if name not in known:
        try:
            known[name] = find()
        except NightcrewError as error:
            known[name] = error
    found = known[name]
    if isinstance(found, NightcrewError):
        raise found
    return found
