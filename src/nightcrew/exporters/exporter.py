"""Exporter: what another scheduler is to do for a job, and the files that tell it so."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeAlias, TypeVar

from nightcrew.errors import ConfigurationError, ScheduleError, UsageError
from nightcrew.job import Job
from nightcrew.schedule import Cron

T = TypeVar("T")

KEYS = "/etc/nightcrew"
"""The folder of a machine where its secrets are, each in a file that few may read."""
_YEAR = timedelta(days=366)
HEADER = 'header = "Authorization: Bearer %s"\\n'
"""What of curl's configuration carries the secret, for printf: so that no list of processes has it."""


@dataclass(frozen=True, slots=True)
class Call:
    """The job's route is called over HTTP, at an application that is there already.

    `base` is the address of that application; `patience` is how long one call may take.
    """

    base: str
    patience: timedelta
    variables: tuple[str, ...] = ("CRON_SECRET",)

    def url(self, job: Job) -> str:
        """Return the address of a job."""
        return f"{self.base}{job.route}"

    @property
    def curl(self) -> str:
        """How curl is called, but for where it finds the secret: an answer that is no success is told, and fails."""
        return f"--fail-with-body --silent --show-error --max-time {int(self.patience.total_seconds())}"


@dataclass(frozen=True, slots=True)
class Command:
    """The job is run by a command, which needs these variables of the environment.

    `options` are what stands between the program and the verb: “--app shop.main:crew”.
    """

    program: str
    options: tuple[str, ...]
    variables: tuple[str, ...]

    def words(self, job: Job, *more: str) -> list[str]:
        """Return the command line, in words."""
        return [self.program, "-q", *self.options, "run", job.name, *more]


Way: TypeAlias = Call | Command


@dataclass(frozen=True, slots=True)
class File:
    """A file that belongs to us in part or in whole.

    `merged` takes what the file holds, None where there is none, and gives what it is to hold; it raises UsageError
    for a file that it would spoil.
    """

    path: str
    merged: Callable[[str | None], str]


@dataclass(frozen=True, slots=True)
class Export:
    """What is to be written, and what a person has to know or to do besides.

    `others` are names, as pathlib matches them, of files beside them that are of jobs which are gone.
    """

    files: tuple[File, ...]
    notes: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


def drawn(target: str, jobs: Sequence[Job], draw: Callable[[Job], T], instead: str = "") -> list[tuple[Job, T]]:
    """Return each job with what a target is to be told of it.

    Raises ConfigurationError if some cannot be told, for a file that leaves out a job says so to nobody: `instead` is
    what else may help. Raises UsageError where there is no job.
    """
    if not jobs:
        raise UsageError("there is no enabled job to export; 'nightcrew jobs' lists them")
    found: list[tuple[Job, T]] = []
    refused: list[str] = []
    for job in jobs:
        try:
            found.append((job, draw(job)))
        except ScheduleError as problem:
            refused.append(f"job {job.name!r} cannot be exported to {target}: {problem}")
    if refused:
        ways = ["change the schedule", *([instead] if instead else [])]
        if found:
            ways.append(f"name the jobs that are to be exported: {' '.join(job.name for job, _ in found)}")
        raise ConfigurationError("\n".join([*refused, ", or ".join(ways)]))
    return found


def leaps(target: str, jobs: Iterable[Job], moment: datetime) -> Iterator[str]:
    """Yield a note for every job of which a scheduler, that runs nothing in a gap, leaves out a slot within a year."""
    for job in jobs:
        if isinstance(job.schedule, Cron):
            for slot in job.schedule.leapt(moment, moment + _YEAR):
                yield (
                    f"job {job.name!r}: {target} does not call at {slot:%Y-%m-%d %H:%MZ}, where the clocks of"
                    f" {job.schedule.timezone} leap over its time; the slot is run with the next call, or by a ticker"
                )
                break
