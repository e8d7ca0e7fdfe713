"""Sentry Crons: check-ins over HTTP, as docs.sentry.io/product/crons has them, with the schedule that we go by."""

import json
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, ClassVar
from urllib.parse import quote, urlsplit

from nightcrew.errors import ConfigurationError
from nightcrew.listeners.checkin import CheckIn, Stage, base, required, slug
from nightcrew.ping import Ping
from nightcrew.schedule import Cron, Schedule

_STATES = {Stage.BEGUN: "in_progress", Stage.WELL: "ok", Stage.BADLY: "error"}
_LONGEST_SLUG = 50
_MARGIN = 10  # minutes past the slot: the in-process failsafe of an outside caller has come by then, too
_MINUTE = timedelta(minutes=1)
_UNITS = {"day": timedelta(days=1), "hour": timedelta(hours=1), "minute": _MINUTE}


@dataclass(frozen=True, slots=True)
class Sentry:
    """A project, by its DSN. A job's monitor is called like the job; its schedule is told with each run that begins.

    `max_runtime` is how long a run may take before Sentry says that it has failed.
    """

    dsn: str = field(repr=False)
    environment: str = "production"
    max_runtime: timedelta = timedelta(hours=1)
    name: ClassVar[str] = "Sentry"

    def __post_init__(self) -> None:
        self._parts()
        if self.max_runtime < _MINUTE:
            raise ConfigurationError("max_runtime is shorter than a minute, and Sentry counts these; write '1 hour'")

    @property
    def secret(self) -> str:
        """The public key, which lets anybody check in."""
        return self._parts()[1]

    def ping(self, checkin: CheckIn) -> Ping:
        """Return the check-in of a run, which its `check_in_id` names."""
        place, key, project = self._parts()
        said: dict[str, Any] = {"check_in_id": checkin.id.hex, "status": _STATES[checkin.stage]}
        said["environment"] = self.environment
        if checkin.took is not None:
            said["duration"] = round(checkin.took.total_seconds(), 3)
        if checkin.schedule is not None and (when := _when(checkin.schedule)) is not None:
            runtime = -(-self.max_runtime // _MINUTE)
            of_monitor = {"schedule": when, "timezone": checkin.schedule.timezone, "checkin_margin": _MARGIN}
            said["monitor_config"] = of_monitor | {"max_runtime": runtime}
        url = f"{place}/api/{project}/cron/{quote(slug(checkin.job, _LONGEST_SLUG))}/{key}/"
        return Ping("POST", url, json.dumps(said).encode(), "application/json")

    def _parts(self) -> tuple[str, str, str]:
        """Return the server, the key and the project of the DSN; an error does not show it."""
        try:
            parts = urlsplit(self.dsn)
            host, port, key = parts.hostname or "", parts.port, parts.username or ""
        except ValueError:
            raise ConfigurationError(_ODD) from None
        above, _, project = parts.path.rpartition("/")
        if not (host and key and project.isdigit()):
            raise ConfigurationError(_ODD)
        place = f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{f':{port}' if port else ''}{above}"
        return base(place), required("dsn", key), project


def _when(schedule: Schedule) -> dict[str, Any] | None:
    """Return a schedule as Sentry knows it, or None for one that it does not: of less than a minute, say."""
    if isinstance(schedule, Cron):
        return {"type": "crontab", "value": schedule.expression}
    for unit, length in _UNITS.items():
        if schedule.period % length == timedelta(0):
            return {"type": "interval", "value": schedule.period // length, "unit": unit}
    return None


_ODD = "dsn is no DSN of Sentry's (it is not shown); write dsn = 'https://KEY@o1.ingest.sentry.io/PROJECT'"
