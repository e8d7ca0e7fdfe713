"""The rows of jobs → their Standings, read with the database's clock in one statement."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from nightcrew.books import Standing
from nightcrew.databases.connect import Link
from nightcrew.databases.listed import listed, told
from nightcrew.databases.tables import jobs, place
from nightcrew.errors import RowLost

_NAMED = 500  # so many jobs are asked for by name; who asks for more reads them all, for lists have a longest length


def named(link: Link, names: Iterable[str] | None) -> tuple[datetime, dict[str, Standing]]:
    """Read the standings of these jobs, or of all; raises RowLost for a name that has no row."""
    asked = None if names is None else set(names)
    if asked is None or len(asked) > _NAMED:
        now, _, found = _read(link, link.kept(_every))
    else:
        now, _, found = _read(link, link.kept(_some), {"names": list(asked)})
    if asked is None:
        return now, found
    _see_all(asked, found)
    return now, {name: standing for name, standing in found.items() if name in asked}


def stirring(link: Link, names: Sequence[str]) -> tuple[datetime, float, dict[str, Standing]]:
    """Read those of these jobs, and of every one that somebody waits for, whatever its schedule says.

    Nobody holds its run any more, its pause is over, or a newer version asks whether its schedule is still anybody's.
    Also returns the monotonic instant at which the database's clock was known.
    """
    asked = told(link.dialect, ({"name": name} for name in names))
    now, heard_at, found = _read(link, link.kept(_stirring), asked)
    _see_all(set(names), found)
    return now, heard_at, found


def stop() -> list[sa.Label[Any]]:
    """Return who has stopped everything, since when and why, as columns of any select."""
    words = place.c.stopped_at, place.c.stopped_by, place.c.stopped_reason
    return [sa.select(word).limit(1).scalar_subquery().label(word.name) for word in words]


def of(names: Sequence[str] | set[str]) -> sa.ColumnElement[bool]:
    """Return the predicate that finds the rows of these jobs, and of others where they are many."""
    return jobs.c.name.in_(names) if len(names) <= _NAMED else sa.true()


def _see_all(asked: set[str], found: dict[str, Standing]) -> None:
    if lost := asked - found.keys():
        raise RowLost(lost)


def _every(link: Link) -> sa.Select[Any]:
    return _reading(link, sa.true())


def _some(link: Link) -> sa.Select[Any]:
    return _reading(link, jobs.c.name.in_(sa.bindparam("names", expanding=True)))


def _stirring(link: Link) -> sa.Select[Any]:
    left = sa.and_(jobs.c.run.is_not(None), sa.or_(jobs.c.owner.is_(None), jobs.c.lease_until < link.moment))
    asked = jobs.c.name.in_(sa.select(listed(link.dialect, {"name": str}).c.name))
    return _reading(link, sa.or_(asked, left, jobs.c.paused_until <= link.moment, jobs.c.rival.is_not(None)))


def _reading(link: Link, wanted: sa.ColumnElement[bool]) -> sa.Select[Any]:
    one = sa.select(link.clock_reading()).subquery("clock")
    known = {"job": jobs.c.name, **jobs.c, **{word.name: word for word in stop()}}
    columns = [known[name] for name in Standing._fields]
    return sa.select(one.c.now, *columns).select_from(one.outerjoin(jobs, wanted))


def _read(
    link: Link, statement: sa.Select[Any], parameters: Mapping[str, Any] | None = None
) -> tuple[datetime, float, dict[str, Standing]]:
    with link.transaction(writes=False) as connection:
        answer = connection.execute(statement, parameters)
        heard_at = link.monotonic()  # before the rows are read, which takes a while
        rows = answer.all()
    return rows[0][0], heard_at, {row[1]: Standing._make(row[1:]) for row in rows if row[1] is not None}
