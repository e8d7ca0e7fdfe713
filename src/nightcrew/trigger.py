"""The shape: what whoever starts a run may ask of the crew."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from threading import Event
from typing import Any, Protocol, TypeAlias

from nightcrew.clock import Clock
from nightcrew.job import Job
from nightcrew.report import Report
from nightcrew.settings import Settings

Work: TypeAlias = Callable[[], Report]
"""A claim, ready to be carried out."""


class Roster(Protocol):
    """A crew as its triggers see it."""

    @property
    def settings(self) -> Settings:
        """What the environment says: secrets, environment name, switches."""

    @property
    def clock(self) -> Clock:
        """The process's time and chance."""

    @property
    def jobs(self) -> Mapping[str, Job]:
        """Every registered job by name."""

    def due(self, *, trigger: str, start: bool = False, stop: Event | None = None) -> list[Work]:
        """Claim every slot that is due now; `start` also the latest slot of jobs that run on start.

        Each piece of work runs one of them, and hands it over after the batch it is in once `stop` is set.
        """

    def run(
        self,
        name: str,
        *,
        trigger: str,
        slot: datetime | None = None,
        caller: str | None = None,
        deadline: timedelta | None = None,
    ) -> Report:
        """Run the job's slot (default: the latest due) unless somebody has; bounded by `deadline`."""

    def tell(self, kind: str, **facts: Any) -> None:
        """Let the listeners hear a fact that belongs to no run."""
