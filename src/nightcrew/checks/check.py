"""Check: one thing that is looked at, by its code; a Finding is what is wrong about it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from nightcrew.alarm import Alarm, Kept, Sighting
from nightcrew.chronicle import Chronicle
from nightcrew.condition import Condition, Reach
from nightcrew.job import Job
from nightcrew.plan import Plan
from nightcrew.roll import JobStatus
from nightcrew.settings import Settings


class Severity(StrEnum):
    """How much a finding matters."""

    PROBLEM = "problem"
    """Something does not work, or will not."""
    WARNING = "warning"
    """It works, and is unwise."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was seen, why it is so as far as that is known, and what to do: a line to paste, wherever there is one."""

    severity: Severity
    says: str
    cause: str
    remedy: str

    def json(self) -> dict[str, str]:
        """Return it as JSON values."""
        return {name: str(getattr(self, name)) for name in Finding.__slots__}


class Unable(Exception):
    """A check cannot tell, for a reason that a person should hear."""


@dataclass(frozen=True, slots=True)
class Check:
    """Something to look at: `look` yields what is wrong, and raises Unable, or any NightcrewError, if it cannot tell.

    A `static` one asks neither the database nor the network.
    """

    code: str
    title: str
    look: "Callable[[Patient], Iterable[Finding]]"
    static: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a check: its findings, and why it could not tell, or not all; neither where all is well."""

    check: Check
    findings: tuple[Finding, ...] = ()
    unable: str | None = None

    @property
    def problem(self) -> bool:
        """Whether something does not work."""
        return any(finding.severity is Severity.PROBLEM for finding in self.findings)

    def json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        state = "unable" if self.unable else "found" if self.findings else "ok"
        said = {"code": self.check.code, "title": self.check.title, "state": state, "unable": self.unable}
        return said | {"findings": [finding.json() for finding in self.findings]}


class Patient(Protocol):
    """The crew, its database and the folder it stands in, as the checks see them; each question is asked once."""

    folder: Path
    settings: Settings

    @property
    def jobs(self) -> Mapping[str, Job]:
        """The jobs."""

    @property
    def now(self) -> datetime:
        """The moment of the examination, by this process's clock."""

    @property
    def problems(self) -> Mapping[str, list[str]]:
        """What the rooms say of themselves, asking nobody: mail, gate, archive, stores, monitors, alarms."""

    @property
    def watched(self) -> bool:
        """Whether anybody hears of what happens, or does not: monitors, or channels of alarms."""

    @property
    def database_now(self) -> datetime:
        """The database's clock."""

    @property
    def condition(self) -> Condition:
        """How the database is."""

    @property
    def migrated(self) -> bool:
        """Whether nightcrew's own tables are there, and of this version."""

    @property
    def standings(self) -> list[JobStatus]:
        """How the jobs stand; raises Unable where nightcrew's own tables are not there."""

    @property
    def alarms(self) -> list[tuple[Alarm, Kept | None]]:
        """The alarms that stand; raises Unable where nightcrew's own tables are not there."""

    @property
    def chronicle(self) -> Chronicle:
        """The runs."""

    @property
    def old_secret(self) -> Sighting | None:
        """Who used the previous secret last."""

    def plan(self, job: str) -> Plan:
        """Return what a job would do now."""

    def reach(self, job: str) -> Reach:
        """Return the ends of the column that a job goes by."""

    def eligible(self, job: str) -> tuple[int, Mapping[str, int]] | None:
        """Return how many rows are old enough, and how many of those are left by each condition alone; None: unknown.

        Neither counts for long.
        """


def problem(says: str, cause: str, remedy: str) -> Finding:
    """Return what does not work."""
    return Finding(Severity.PROBLEM, says, cause, remedy)


def warning(says: str, cause: str, remedy: str) -> Finding:
    """Return what is unwise."""
    return Finding(Severity.WARNING, says, cause, remedy)


def sweeping(patient: Patient) -> list[tuple[str, Any]]:
    """Return the enabled jobs that go by a policy, with their policies."""
    return [(job.name, job.policy) for job in patient.jobs.values() if job.policy is not None and job.enabled]
