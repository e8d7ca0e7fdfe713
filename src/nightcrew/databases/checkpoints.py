"""Where a function stands in its work, kept in the row of its run."""

import json
from collections.abc import Mapping

import sqlalchemy as sa

from nightcrew.books import Checkpoint, Distance
from nightcrew.databases.connect import Link
from nightcrew.databases.tables import runs


def write(connection: sa.Connection, run: str, point: Checkpoint) -> None:
    """Keep a checkpoint; to the letter, for some databases order the keys of JSON and round its numbers."""
    text = json.dumps({"cursor": point.cursor, "counted": point.counted})
    so_far = _columns(point.distance) if point.distance else {}
    connection.execute(sa.update(runs).where(runs.c.id == run).values(checkpoint=text, **so_far))


def read(link: Link, run: str) -> Checkpoint:
    """Return the checkpoint of a run, or where it begins."""
    with link.transaction(writes=False) as connection:
        text = connection.execute(sa.select(runs.c.checkpoint).where(runs.c.id == run)).scalar_one_or_none()
    return Checkpoint(**json.loads(text or "{}"))


def note(link: Link, distances: Mapping[str, Distance]) -> None:
    """Write how far runs have come, and pass over those that somebody holds: a function's own transaction, for one."""
    free = sa.select(runs.c.id).where(runs.c.id.in_(list(distances))).order_by(runs.c.id)
    with link.transaction() as connection:
        for run in connection.execute(free.with_for_update(skip_locked=True)).scalars().all():
            connection.execute(sa.update(runs).where(runs.c.id == run).values(_columns(distances[run])))


def _columns(distance: Distance) -> dict[str, int | None]:
    return {"done": distance.done, "total": distance.total}
