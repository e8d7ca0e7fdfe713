"""Registrations → the rows of jobs, made once by whichever crew comes first."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from nightcrew.books import Registration
from nightcrew.databases.connect import Link
from nightcrew.databases.tables import jobs
from nightcrew.errors import DatabaseError


def register(link: Link, now: sa.ColumnElement[Any], registrations: Sequence[Registration]) -> None:
    """Make sure every job has its row; a new one fires nothing that was due before now."""
    for attempt in range(3):
        try:
            with link.transaction() as connection:
                _register(connection, now, registrations)
            return
        except DatabaseError as error:
            # Another crew that starts at the same moment inserted the row first: look again.
            if attempt == 2 or not (error.transient or isinstance(error.__cause__, sa.exc.IntegrityError)):
                raise


def _register(connection: sa.Connection, now: sa.ColumnElement[Any], registrations: Sequence[Registration]) -> None:
    names = [registration.job for registration in registrations]
    known = set(connection.execute(sa.select(jobs.c.name).where(jobs.c.name.in_(names))).scalars())
    constants = {"epoch_at": now, "fence": 0, "attempt": 0, "fail_streak": 0}
    for one in registrations:
        if one.job not in known:
            connection.execute(sa.insert(jobs).values({"name": one.job, **said(one), **constants}))


def said(registration: Registration) -> dict[str, str]:
    """Return what a registration says of a job, as the columns of its row."""
    return {
        "schedule": registration.schedule,
        "timezone": registration.timezone,
        "meaning": registration.meaning,
    }
