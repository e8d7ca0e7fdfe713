"""Crew: what the desk asks of a crew, and has it do."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from nightcrew.acts import Acts
from nightcrew.alarm import Alarm
from nightcrew.archives.kept import Kept
from nightcrew.archives.undone import Undo
from nightcrew.books import RunRow
from nightcrew.caller import Caller
from nightcrew.checks.check import Result
from nightcrew.chronicle import Chronicle
from nightcrew.clock import Clock
from nightcrew.consent import Filed
from nightcrew.job import Job
from nightcrew.mail import Mail
from nightcrew.mailer import Letter
from nightcrew.plan import Plan
from nightcrew.report import Report
from nightcrew.roll import JobStatus
from nightcrew.scheduled import Scheduled
from nightcrew.sent import State
from nightcrew.settings import Settings
from nightcrew.suppression import Suppression
from nightcrew.tending import Tending
from nightcrew.trigger import Errand


class Post(Protocol):
    """A crew's mail as the desk sees it."""

    mail: Mail

    @property
    def job(self) -> Job:
        """The job that sends it."""

    def due(self, *, limit: int = 20) -> list[Scheduled]:
        """Return mails that are due by now, the oldest first."""

    def of_state(self, *states: State, limit: int = 20) -> list[Scheduled]:
        """Return mails that stand so, the newest first."""

    def suppressions(self, *, limit: int = 100) -> list[Suppression]:
        """Return to whom nothing is sent."""

    def preview(self, sequence: str, step: str) -> Letter:
        """Return a mail as somebody invented would get it; raises UsageError for a step that there is not."""

    def retry(self, ids: Collection[int], *, states: Collection[State], by: str) -> int:
        """Let mails that stand so be tried again; return how many that are."""


class Alarms(Protocol):
    """A crew's alarms as the desk sees them."""

    def kept(self) -> list[Alarm]:
        """Return the alarms that stood when somebody looked last, the oldest first."""


class Crew(Protocol):
    """A crew as the desk sees it; with an `errand` it runs nothing itself that is asked for."""

    errand: Errand | None
    archive: str | None

    @property
    def alarms(self) -> Alarms:
        """What people are told of."""

    @property
    def mail(self) -> Post | None:
        """What it sends, if it sends any."""

    @property
    def streams(self) -> Tending | None:
        """The streams that it knows of, if it knows of any."""

    @property
    def settings(self) -> Settings:
        """What the environment says."""

    @property
    def clock(self) -> Clock:
        """The process's time and chance."""

    @property
    def jobs(self) -> Mapping[str, Job]:
        """Every registered job by name."""

    @property
    def chronicle(self) -> Chronicle:
        """The runs, as pages show them."""

    @property
    def acts(self) -> Acts:
        """What people did."""

    def job_named(self, name: str) -> Job:
        """Return a job; raises UnknownJob naming the nearest right name."""

    def status(self, name: str | None = None) -> list[JobStatus]:
        """Return every job, or one, with its standing, last run and next slot, in the order they were registered."""

    def examine(self, only: str = "", *, static: bool = False) -> Sequence[Result]:
        """Look for what is wrong, changing nothing."""

    def shown(self, plan: str) -> Filed | None:
        """Return a plan that was kept."""

    def plan(self, name: str, *, keep: bool = False) -> Plan:
        """Say what a run would do now, and what it would be refused for."""

    def ack(self, name: str, *, by: str) -> Plan:
        """Agree to what a run of a job would be refused for now."""

    def run(self, name: str, *, trigger: str, now: bool, plan: str | None, caller: Caller) -> Report:
        """Run a job at once, or what a plan showed."""

    def pause(self, name: str, *, by: str, reason: str, until: datetime | None = None) -> None:
        """Keep every trigger from running a job."""

    def resume(self, name: str, *, by: str, reason: str | None = None) -> None:
        """Let triggers run a job again."""

    def stop_all(self, *, by: str, reason: str) -> None:
        """Stop every sweep after the batch it is in, and keep every trigger from starting another."""

    def resume_all(self, *, by: str, reason: str | None = None) -> None:
        """End a stop of all."""

    def backlog(self, name: str, since: datetime, until: datetime) -> list[datetime]:
        """Return the slots from one instant to another that nobody ran, or that failed or were skipped."""

    def backfill(self, name: str, since: datetime, until: datetime, *, trigger: str, caller: str) -> list[Report]:
        """Run them, the oldest first."""

    def cancel(self, run: str, *, by: str, reason: str = "") -> RunRow:
        """End an open run for good after the batch it is in."""

    def archived(self, *, before: int | None = None, limit: int = 25) -> list[Kept]:
        """Return what the archive has of runs, the newest first, of those behind a place."""

    def archive_of(self, run: str) -> Kept | None:
        """Return what the archive has of one run."""

    def archive_doubts(self) -> list[str]:
        """Say what is unwise about the archive, or keeps rows from being archived here."""

    def undo(
        self, run: str, *, restore: bool = False, by: str = "unknown", reason: str | None = None, longest: float = 60.0
    ) -> Undo:
        """Say what an undo of a run would put back, looking so many seconds; with `restore`, put it back."""

    def tell(self, kind: str, **facts: Any) -> None:
        """Let the listeners hear a fact that belongs to no run."""
