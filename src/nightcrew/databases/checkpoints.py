"""Where a function stands in its work, kept in the row of its run."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import sqlalchemy as sa

from nightcrew.books import Checkpoint, Distance
from nightcrew.databases.connect import Link
from nightcrew.databases.tables import runs
from nightcrew.errors import UsageError, misfit


@contextmanager
def lent(link: Link, connection: object) -> Iterator[sa.Connection]:
    """Use a connection of the application's own, whose transaction stays the application's to end.

    Raises UsageError for what is none, or leads to another kind of database.
    """
    if not isinstance(connection, sa.Connection):
        wrong = misfit(connection, sa.Connection, "give one of SQLAlchemy's, such as session.connection()")
        raise UsageError(f"connection of a checkpoint {wrong}")
    kind, ours = connection.dialect.name.replace("mariadb", "mysql"), link.engine.dialect.name
    if kind != ours:
        raise UsageError(
            f"connection of a checkpoint leads to a database of {kind}, and nightcrew's tables are in {link.name}:"
            " give one to the same database"
        )
    with link.renamed():
        link.dialect.teach(connection)
        yield connection


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
