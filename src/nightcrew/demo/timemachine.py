"""The time machine: moves the demo's data into the past, so that its jobs find something to do."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Table, func, literal, literal_column, select, update

from nightcrew.databases.connect import Instant
from nightcrew.databases.tables import enrolments, mails
from nightcrew.demo.database import Data
from nightcrew.demo.schema import TABLES, Utc, marker
from nightcrew.errors import UsageError

LONGEST = timedelta(days=366)
MAIL = (enrolments, mails)
"""The tables of nightcrew's own that say when people are due what: their days pass with everybody's."""


def travel(data: Data, span: timedelta, besides: Iterable[Table] = ()) -> int:
    """Make every instant of the application's tables earlier by `span`, at once; return how many rows moved.

    nightcrew's own tables keep their dates, but for those `besides`: what ran, ran when it ran.
    """
    seconds = round(span.total_seconds())
    if not 0 < seconds <= LONGEST.total_seconds():
        raise UsageError("the time machine goes forward by at least a second and at most a year")
    with data.writing() as connection:
        moved = 0
        for table in (*TABLES, *besides):
            if instants := [column for column in table.c if isinstance(column.type, Utc | Instant)]:
                moved += connection.execute(_earlier(table, instants, seconds, data.engine.dialect.name)).rowcount
        connection.execute(marker.update().values(travelled_seconds=marker.c.travelled_seconds + seconds))
    return moved


def travelled(connection: Connection) -> timedelta:
    """Return how far the data has been moved since it was made."""
    return timedelta(seconds=connection.execute(select(marker.c.travelled_seconds)).scalar_one())


def end_of_the_year(connection: Connection) -> datetime:
    """Return the instant at which the seeded year ended, as the moved data tells it: what is later came from people."""
    seeded: datetime = connection.execute(select(marker.c.seeded_at)).scalar_one()
    return seeded - travelled(connection)


def _earlier(table: Table, instants: Iterable[Column[Any]], seconds: int, dialect: str) -> Any:
    moved = update(table).values({column: _SHIFTS[dialect](column, seconds) for column in instants})
    return moved if table is not mails else moved.where(mails.c.claim.is_(None))  # what is in hand is for its holder


def _postgresql(column: Column[Any], seconds: int) -> ColumnElement[Any]:
    return column - literal(timedelta(seconds=seconds))


def _mysql(column: Column[Any], seconds: int) -> ColumnElement[Any]:
    return func.timestampadd(literal_column("SECOND"), -seconds, column)


def _sqlite(column: Column[Any], seconds: int) -> ColumnElement[Any]:
    # SQLite's own arithmetic knows milliseconds only: shift the whole seconds, keep the fraction's six digits as text.
    whole, fraction = func.substr(column, 1, 19), func.substr(column, 20)
    return func.datetime(whole, f"-{seconds} seconds").op("||")(fraction)


_SHIFTS = {"postgresql": _postgresql, "mysql": _mysql, "sqlite": _sqlite}
