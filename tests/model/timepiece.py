"""A clock that only a test moves, and databases that tell the time by it."""

import itertools
import threading
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from tests.conftest import MOMENT

from nightcrew.clock import SystemClock
from nightcrew.databases.connect import Link

# What stands before the server's own functions is found before them.
_POSTGRESQL = """
CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql
    AS $$ SELECT CAST(current_setting('timepiece.now') AS timestamptz) $$
"""


class Timepiece(SystemClock):
    """Time stands still until it is moved; who waits for some of it does not wait."""

    def __init__(self) -> None:
        self.tokens = itertools.count(1)
        self.reset()

    def reset(self) -> None:
        """Put it back to where every test begins."""
        self.moment, self.passed = MOMENT, 0.0

    def move(self, seconds: float) -> None:
        """Let time pass, or put the wall clock back."""
        self.moment += timedelta(seconds=seconds)
        self.passed += max(0.0, seconds)

    def now(self) -> datetime:
        """Return the moment it is set to."""
        return self.moment

    def monotonic(self) -> float:
        """Return the seconds that have passed, which no step back takes away."""
        return self.passed

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Return at once; but the heartbeat, which has a thread of its own, waits for its end."""
        return event.wait() if threading.current_thread().name == "nightcrew-heartbeat" else event.is_set()

    def jitter(self, fraction: float) -> float:
        """Return no jitter."""
        return 1.0

    def token(self) -> str:
        """Return a number that no other call will return."""
        return f"{next(self.tokens):012x}"

    def rule(self, link: Link) -> None:
        """Let a database that runs apart from us tell the time by this clock; SQLite asks it anyway."""
        kind = link.engine.dialect.name
        if kind == "postgresql":
            with link.transaction() as connection:
                connection.exec_driver_sql(_POSTGRESQL)
        if kind == "sqlite":
            sa.event.listen(link.engine, "connect", _hurried)
            return

        def told(connection, record, _proxy) -> None:
            if record.info.get("told") == self.moment:
                return
            with connection.cursor() as cursor:
                cursor.execute(_TELLING[kind](self.moment))
            record.info["told"] = self.moment

        sa.event.listen(link.engine, "checkout", told)


def _hurried(connection, _record) -> None:
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA journal_mode = MEMORY")


def _postgresql(moment: datetime) -> str:
    path = "SET search_path = public, pg_catalog; SET synchronous_commit = off"
    return f"{path}; SET timepiece.now = '{moment.isoformat()}'"


def _mysql(moment: datetime) -> str:
    return f"SET SESSION timestamp = {moment.astimezone(UTC).timestamp():.6f}"


_TELLING = {"postgresql": _postgresql, "mysql": _mysql}
