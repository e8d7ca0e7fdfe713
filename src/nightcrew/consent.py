"""Consent: what a database remembers of itself and of what was agreed to: its identity, known policies, plans shown."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

LASTS = timedelta(days=7)
"""How long a plan may be run, or agreed to, after it was drawn up."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What tells one database from its copies: any one of the marks it is `known_as` is as good as another.

    `own` are the marks to remember it by; `known_as` are those that are true of it now, which name also the servers
    that it is a replica of. Both are empty where the database tells nothing.
    """

    own: tuple[str, ...]
    known_as: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Here:
    """The database as it is now, beside what its own table remembers: `marks`, and how far its clock had come."""

    now: datetime
    identity: Identity
    marks: tuple[str, ...]
    clock_at: datetime | None


@dataclass(frozen=True, slots=True)
class Known:
    """The policy that a job last ran with."""

    fingerprint: str
    terms: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Filed:
    """A plan that was shown: the `counts` of rows by table; None of a table that was agreed to whatever it loses.

    `acked_by` agreed to it, and `run` has ended under it. `shown` is the plan as JSON, without keys of rows.
    """

    id: str
    job: str
    fingerprint: str
    moment: datetime
    counts: Mapping[str, int | None]
    acked_at: datetime | None = None
    acked_by: str | None = None
    run: str | None = None
    shown: Mapping[str, Any] | None = None


class Consents(Protocol):
    """The part of nightcrew's own tables that is about what may run."""

    def stop(self, by: str, reason: str) -> None:
        """Keep every trigger from claiming any job's slots, and let what runs end after the batch it is in."""

    def release(self) -> None:
        """End such a stop."""

    def here(self) -> Here:
        """Look where we are."""

    def settle(self, marks: tuple[str, ...], clock_at: datetime) -> None:
        """Remember this database by these marks, and how far its clock has come."""

    def known(self, job: str) -> Known | None:
        """Return the policy that a job last ran with."""

    def know(self, job: str, known: Known) -> None:
        """Remember it."""

    def file(self, plan: Filed) -> None:
        """Keep a plan that was shown; the job's plans of long ago are forgotten."""

    def plan(self, plan: str) -> Filed | None:
        """Return a plan that was kept."""

    def agreed(self, job: str, fingerprint: str) -> Filed | None:
        """Return the newest plan that somebody agreed to, and no run has ended under."""

    def spend(self, plan: str, run: str) -> None:
        """Note that a run has ended under a plan."""
