"""Pauses: a job's row keeps every trigger from it, and no longer."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from nightcrew.books import RunRow, Standing
from nightcrew.databases.bids import note
from nightcrew.databases.connect import Link, storable
from nightcrew.databases.divisions import is_held
from nightcrew.databases.tables import jobs


def begin(link: Link, job: str, by: str, reason: str, until: datetime | None) -> None:
    """Keep every trigger from claiming this job's slots; a pause that is in force gets other words."""
    paused = {
        "paused_at": sa.func.coalesce(jobs.c.paused_at, link.moment),
        "paused_by": storable(by, 100),
        "paused_reason": storable(reason, 500),
        "paused_until": until,
    }
    with link.transaction() as connection:
        connection.execute(sa.update(jobs).where(jobs.c.name == job).values(paused))


def end(link: Link, standing: Standing, skipped: Sequence[RunRow], mark: datetime | None, *, waits: bool) -> bool:
    """End a pause, record its slots and move the mark past them; False when the standing has changed, or is held."""
    going: dict[str, Any] = {"paused_at": None, "paused_by": None, "paused_reason": None, "paused_until": None}
    if skipped and mark is not None:
        going["mark"] = mark
    same = (
        jobs.c.name == standing.job,
        jobs.c.fence == standing.fence,
        jobs.c.paused_at == standing.paused_at,
        jobs.c.paused_until == standing.paused_until,
    )
    with link.transaction() as connection:
        if not waits and is_held(connection, standing.job):
            return False
        if connection.execute(sa.update(jobs).where(*same).values(going)).rowcount == 0:
            return False
        note(connection, link.moment, skipped)
    return True
