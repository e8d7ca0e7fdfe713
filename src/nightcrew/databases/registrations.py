"""Registrations: how jobs get their rows, and which schedule stands there."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from nightcrew.books import Registration, RunRow, Standing
from nightcrew.databases.bids import note
from nightcrew.databases.connect import Link
from nightcrew.databases.divisions import is_held
from nightcrew.databases.listed import parts
from nightcrew.databases.standings import of
from nightcrew.databases.tables import jobs
from nightcrew.errors import DatabaseError


def register(link: Link, registrations: Sequence[Registration]) -> None:
    """Make sure every job has its row; a new one fires nothing that was due before now."""
    for attempt in range(3):
        try:
            with link.transaction() as connection:
                _register(connection, link, registrations)
            return
        except DatabaseError as error:
            # Another crew that starts at the same moment inserted the row first: look again.
            if attempt == 2 or not (error.transient or isinstance(error.__cause__, sa.exc.IntegrityError)):
                raise


def _register(connection: sa.Connection, link: Link, registrations: Sequence[Registration]) -> None:
    names = {registration.job for registration in registrations}
    known = set(connection.execute(sa.select(jobs.c.name).where(of(names))).scalars())
    fresh = [
        {"name": one.job, "schedule": one.schedule, "timezone": one.timezone, "meaning": one.meaning}
        for one in registrations
        if one.job not in known
    ]
    constants = {"epoch_at": link.moment, "fence": 0, "attempt": 0, "fail_streak": 0}
    if fresh:
        connection.execute(sa.insert(jobs).values(constants), fresh)


def reschedule(
    link: Link,
    standing: Standing,
    registration: Registration,
    seen: datetime,
    unrun: RunRow | None,
    *,
    waits: bool = True,
) -> bool:
    """Give a job another schedule from when its row was `seen` on; False when the row has changed since, or is held.

    Who `waits` for the row does so for a while.
    """
    changed = {
        "schedule": registration.schedule,
        "timezone": registration.timezone,
        "meaning": registration.meaning,
        "epoch_at": seen,  # until then the slots of the old one are accounted for, and no longer
        "rival": None,
        "rival_since": None,
        # Whoever has seen the old one must not claim a slot of it; a run that is open is still its holder's.
        "fence": sa.case((jobs.c.run.is_(None), jobs.c.fence + 1), else_=jobs.c.fence),
    }
    one = sa.update(jobs).where(*_same(standing), jobs.c.fence == standing.fence)
    try:
        with link.transaction() as connection:
            if not waits and is_held(connection, standing.job):
                return False
            if connection.execute(one.values(changed)).rowcount == 0:
                return False
            note(connection, link.moment, () if unrun is None else (unrun,))
        return True
    except DatabaseError as error:
        if error.transient and not error.away:
            return False
        raise


def challenge(link: Link, asked: Sequence[tuple[Standing, str]]) -> None:
    """Ask whether any crew has the schedules in force, each unless another one has asked meanwhile."""
    for known in {standing.rival for standing, _ in asked}:
        for part in parts([(standing, rival) for standing, rival in asked if standing.rival == known]):
            rivals = sa.case({standing.job: rival for standing, rival in part}, value=jobs.c.name)
            unasked = jobs.c.rival.is_not_distinct_from(known)
            _say(link, [one for one, _ in part], {"rival": rivals, "rival_since": link.moment}, unasked)


def answer(link: Link, asked: Sequence[Standing]) -> None:
    """Say that some crew has the schedules in force."""
    for part in parts(asked):
        _say(link, part, {"rival": None, "rival_since": None}, sa.true())


def _say(link: Link, asked: Sequence[Standing], said: Mapping[str, Any], where: sa.ColumnElement[bool]) -> None:
    """Write into the rows that nobody's transaction holds, and whose schedules are the same; into others another time.

    Their locks are taken in one order, so that two who do this do not wait for each other.
    """
    names = jobs.c.name.in_([standing.job for standing in asked])
    pick = sa.select(jobs.c.name, jobs.c.meaning).where(names).order_by(jobs.c.name)
    seen = {(standing.job, standing.meaning) for standing in asked}
    with link.transaction() as connection:
        found = connection.execute(pick.with_for_update(skip_locked=True))
        if free := [row.name for row in found if (row.name, row.meaning) in seen]:
            connection.execute(sa.update(jobs).where(jobs.c.name.in_(free), where).values(said))


def _same(standing: Standing) -> tuple[sa.ColumnElement[bool], ...]:
    return jobs.c.name == standing.job, jobs.c.meaning == standing.meaning
