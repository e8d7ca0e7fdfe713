"""The night desk: what the crew says of its jobs, in the words its page needs; the one seam to the crew."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from nightcrew.books import RunRow
from nightcrew.crew import Nightcrew
from nightcrew.delivery import NAME as MAIL
from nightcrew.demo.mails import Mails
from nightcrew.errors import NightcrewError
from nightcrew.outcome import State
from nightcrew.report import Report
from nightcrew.roll import JobStatus
from nightcrew.schedule import Schedule

TRIGGER = "night desk"


@dataclass(frozen=True, slots=True)
class Duty:
    """A job as a person sees it: what it does, how much waits for it, what it did last, and when it comes again.

    `due` is None when it could not be counted, and `trouble` then says why.
    """

    name: str
    about: str
    when: str
    path: str
    table: str
    verb: str
    due: int | None
    along: Mapping[str, int]
    trouble: str | None
    last: RunRow | None
    next_slot: datetime | None
    paused: bool


class Desk:
    """What the pages may ask of the crew; `about` says in one sentence what each job is for."""

    def __init__(self, crew: Nightcrew, mails: Mails, about: Mapping[str, str]) -> None:
        self._crew = crew
        self._mails = mails
        self._about = about
        self.ticking = False

    def duties(self) -> list[Duty]:
        """Return every job, in the order they were registered."""
        return [self._duty(status) for status in self._crew.status()]

    def knows(self, name: str) -> bool:
        """Tell whether there is such a job."""
        return name in self._crew.jobs

    def run(self, name: str) -> Report:
        """Run a job now, outside its schedule."""
        return self._crew.run(name, now=True, trigger="manual", caller=TRIGGER)

    def due(self) -> dict[str, int]:
        """Return how many rows wait for each job whose rows can be counted."""
        return {duty.name: duty.due for duty in self.duties() if duty.due is not None}

    def switch(self, *, on: bool) -> None:
        """Start or stop the ticker."""
        (self._crew.start if on else self._crew.stop)()
        self.ticking = on

    def _duty(self, status: JobStatus) -> Duty:
        job = status.job
        due, along, trouble = self._waiting(job.name)
        return Duty(
            name=job.name,
            about=self._about.get(job.name, job.label),
            when=_when(job.schedule),
            path=job.path or job.route,
            table=job.policy.table if job.policy else "",
            verb=job.policy.action.done if job.policy else "sent" if job.name == MAIL else "counted",
            due=due,
            along=along,
            trouble=trouble,
            last=status.last,
            next_slot=status.next_slot,
            paused=status.paused,
        )

    def _waiting(self, name: str) -> tuple[int | None, Mapping[str, int], str | None]:
        if name == MAIL:
            return self._mails.due(), {}, None
        if self._crew.jobs[name].policy is None:
            return None, {}, None
        try:
            plan = self._crew.plan(name)
        except NightcrewError as error:
            return None, {}, str(error)
        return plan.rows, {step.table: step.rows for step in plan.steps if step.form is None and step.leaves}, None


def _when(schedule: Schedule) -> str:
    """Say when a job runs; the schedule names every zone but UTC, and here nobody should have to know that."""
    said = schedule.describe()
    return f"{said} (UTC)" if ":" in said and schedule.timezone == "UTC" else said


def caller(run: RunRow) -> str:
    """Return who started a run, in words."""
    return _CALLERS.get(run.trigger, run.trigger)


def mark(run: RunRow | None) -> tuple[str, str, str]:
    """Return how a last run is shown: its kind, its glyph and its words."""
    if run is None:
        return "quiet", "○", "not yet"
    if run.state is State.DONE:
        return ("good", "✓", "done") if run.deleted else ("quiet", "✓", "nothing to do")
    return _MARKS[run.state]


_CALLERS = {
    "manual": "by hand",
    "http": "by an HTTP call",
    "ticker": "by the ticker",
    "failsafe": "by the ticker, as failsafe",
    "cli": "by a command",
}
_MARKS = {
    State.RUNNING: ("busy", "▸", "running"),
    State.PARTIAL: ("busy", "◐", "partly done"),
    State.RETRYING: ("busy", "↻", "failed, tried again"),
    State.FAILED: ("bad", "✗", "failed"),
    State.CANCELLED: ("quiet", "⊘", "cancelled"),
    State.SKIPPED: ("quiet", "↷", "skipped"),
    State.MISSED: ("busy", "◌", "missed"),
}
