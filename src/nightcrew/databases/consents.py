"""nightcrew's own tables, the part that is about what may run: this database, known policies, and plans."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from nightcrew.consent import LASTS, Filed, Here, Known
from nightcrew.databases.connect import Link, storable
from nightcrew.databases.tables import place, plans, policies

_KEPT = 4 * LASTS  # a plan is shown by its ID for so long, and may be run for a quarter of it


class Records:
    """The `Consents` of one database."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def stop(self, by: str, reason: str) -> None:
        """Keep every trigger from claiming any job's slots, and let what runs end after the batch it is in."""
        words = {"stopped_by": storable(by, 100), "stopped_reason": storable(reason, 500)}
        with self._link.transaction() as connection:
            now = self._now(connection)
            since = sa.func.coalesce(place.c.stopped_at, now)
            if connection.execute(sa.update(place).values({"stopped_at": since, **words})).rowcount == 0:
                connection.execute(sa.insert(place).values({"id": 1, "stopped_at": now, **words}))

    def release(self) -> None:
        """End such a stop."""
        with self._link.transaction() as connection:
            connection.execute(sa.update(place).values(stopped_at=None, stopped_by=None, stopped_reason=None))

    def here(self) -> Here:
        """Look where we are."""
        with self._link.transaction(writes=False) as connection:
            row = connection.execute(sa.select(place.c.marks, place.c.clock_at)).first()
            now: datetime = connection.execute(sa.select(self._link.clock_reading())).scalar_one()
            identity = self._link.dialect.identity(connection)
        return Here(now, identity, tuple(row.marks or ()) if row else (), row.clock_at if row else None)

    def settle(self, marks: tuple[str, ...], clock_at: datetime) -> None:
        """Remember this database by these marks, and how far its clock has come."""
        values = {"marks": list(marks), "clock_at": clock_at}
        with self._link.transaction() as connection:
            if connection.execute(sa.update(place).values(values)).rowcount == 0:  # somebody has emptied the table
                connection.execute(sa.insert(place).values({"id": 1, **values}))

    def known(self, job: str) -> Known | None:
        """Return the policy that a job last ran with."""
        statement = sa.select(policies.c.fingerprint, policies.c.terms).where(policies.c.job == job)
        with self._link.transaction(writes=False) as connection:
            row = connection.execute(statement).one_or_none()
        return None if row is None else Known(row.fingerprint, row.terms)

    def know(self, job: str, known: Known) -> None:
        """Remember it."""
        with self._link.transaction() as connection:
            values = {"fingerprint": known.fingerprint, "terms": dict(known.terms), "since": self._now(connection)}
            mine = sa.update(policies).where(policies.c.job == job)
            if connection.execute(mine.values(values)).rowcount == 0:
                connection.execute(sa.insert(policies).values({"job": job, **values}))

    def file(self, plan: Filed) -> None:
        """Keep a plan that was shown; the job's plans of long ago are forgotten."""
        values = {name: getattr(plan, name) for name in Filed.__slots__} | {"counts": dict(plan.counts)}
        long_ago = sa.delete(plans).where(plans.c.job == plan.job, plans.c.moment < plan.moment - _KEPT)
        with self._link.transaction() as connection:
            connection.execute(long_ago)
            connection.execute(sa.insert(plans).values(values))

    def plan(self, plan: str) -> Filed | None:
        """Return a plan that was kept."""
        with self._link.transaction(writes=False) as connection:
            row = connection.execute(sa.select(plans).where(plans.c.id == plan)).one_or_none()
        return None if row is None else _filed(row)

    def agreed(self, job: str, fingerprint: str) -> Filed | None:
        """Return the newest plan that somebody agreed to, and no run has ended under."""
        mine = plans.c.job == job, plans.c.fingerprint == fingerprint
        with self._link.transaction(writes=False) as connection:
            now = self._now(connection)
            free = plans.c.acked_at.is_not(None), plans.c.run.is_(None), plans.c.moment > now - LASTS
            newest = sa.select(plans).where(*mine, *free).order_by(plans.c.moment.desc()).limit(1)
            row = connection.execute(newest).one_or_none()
        return None if row is None else _filed(row)

    def spend(self, plan: str, run: str) -> None:
        """Note that a run has ended under a plan."""
        with self._link.transaction() as connection:
            connection.execute(sa.update(plans).where(plans.c.id == plan).values(run=run))

    def _now(self, connection: sa.Connection) -> datetime:
        now: datetime = connection.execute(sa.select(self._link.clock_reading())).scalar_one()
        return now


def _filed(row: Any) -> Filed:
    return Filed(**{name: getattr(row, name) for name in Filed.__slots__})
