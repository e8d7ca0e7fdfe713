"""Chronicle: what ran and what did not, as pages show it: never more rows than a page has, however many there are."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from nightcrew.books import Batch, RunRow
from nightcrew.outcome import State

PAGE = 25
"""How many runs of a job a page has."""

AMONG = 2_000
"""How many of a job's newest runs are looked through for what cannot be found by an index."""


REMEMBERED = 500
"""How many of a job's newest runs are looked through for when it removed rows."""


class Place(NamedTuple):
    """Where in the order of runs a page ends: the moment of its last one, and its id."""

    moment: datetime
    id: str


class Removed(NamedTuple):
    """How many rows the runs since an instant have removed; of more than were looked at, only that it is not all."""

    rows: int = 0
    whole: bool = True


class Traffic(NamedTuple):
    """So many runs of a job began in one span of time, and stand like this."""

    job: str
    span: int
    state: State
    number: int


@dataclass(frozen=True, slots=True)
class Starter:
    """What started runs of a job: how many of those that were looked at, and when last."""

    trigger: str
    number: int
    last: datetime


class Chronicle(Protocol):
    """The runs of nightcrew's own tables, read in pages. Rows come without their errors, which may be long."""

    def missed(self) -> Mapping[str, RunRow]:
        """Return the slots that nobody ran, of each job of which nothing newer is known."""

    def lapsed(self, since: datetime) -> Sequence[RunRow]:
        """Return the slots that nobody ran and that were noted since an instant, among the newest runs there are."""

    def removals(self, jobs: Sequence[str], number: int) -> Mapping[str, Sequence[datetime]]:
        """Return when each job began the newest of its runs that removed rows, so many at most, the newest first."""

    def ended(self) -> Mapping[str, RunRow]:
        """Return the newest run of each job that has come to an end."""

    def strips(self, jobs: Sequence[str], number: int) -> Mapping[str, Sequence[RunRow]]:
        """Return the newest runs of each job, so many at most, the newest first."""

    def traffic(self, jobs: Sequence[str], edges: Sequence[datetime]) -> Sequence[Traffic]:
        """Count the runs of these jobs that began between one edge and the next; slots nobody ran, by their time."""

    def removed(self, jobs: Sequence[str], since: datetime) -> Mapping[str, Removed]:
        """Add up what each of these jobs has removed since an instant, in its newest runs."""

    def removed_in_all(self, since: datetime) -> Removed:
        """Add up what all jobs have removed since an instant, in the newest runs there are."""

    def page(self, job: str, states: Iterable[State] = (), before: Place | None = None) -> Sequence[RunRow]:
        """Return the newest runs of a job first, those before a place where one is given; one more than a page."""

    def starters(self, job: str) -> Sequence[Starter]:
        """Return what started the newest runs of a job, the latest first."""

    def run(self, run: str) -> RunRow | None:
        """Return one run, with all that is known of it."""

    def batches(self, run: str, most: int) -> Sequence[Batch]:
        """Return a run's newest batches, so many at most, the oldest of them first."""

    def remarks(self, run: str) -> Sequence[Mapping[str, Any]]:
        """Return a run's newest entries that are no batches, 100 at most, the oldest of them first."""

    def failures(self, job: str) -> Sequence[RunRow]:
        """Return the newest runs of a job that failed, among those looked at."""
