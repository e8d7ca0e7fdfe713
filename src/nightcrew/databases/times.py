"""How a column writes time: a date type, a text, or a number since 1970."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from nightcrew.errors import PolicyError

# Numbers since 1970, from September 2001 (the first with ten digits) to the year 9999: the ranges of the three units do
# not meet, so that the least and the greatest value of a column tell its unit. A number that fits none (days, seconds
# since 2001, nanoseconds) is refused.
_UNITS = {"seconds": 1, "milliseconds": 1_000, "microseconds": 1_000_000}
_FIRST, _LAST = 1_000_000_000, 253_402_300_799

WRITTEN_AS = "a date or time type, ISO text in SQLite, or seconds, milliseconds or microseconds since 1970"


@dataclass(frozen=True, slots=True)
class Reading:
    """One column's times against one cut.

    `cut` is the first value that has not expired. `before` is what an index can find: it may admit too much. `expired`
    is the truth and is in every statement that removes rows. `mark` writes a value as text and `at` reads it back, so
    that no value has to pass through the driver (infinity, years before 1, the zero date); `spell` says a mark in
    ISO 8601.
    """

    column: sa.ColumnClause[Any]
    cut: sa.ColumnElement[Any]
    before: sa.ColumnElement[bool]
    expired: sa.ColumnElement[bool]
    mark: Callable[[sa.ColumnElement[Any]], sa.ColumnElement[str]]
    at: Callable[[str], sa.ColumnElement[Any]]
    spell: Callable[[str], str]


def no_time(source: sa.TableClause, column: str, kind: str) -> PolicyError:
    """Return the error for a column that does not write time."""
    return PolicyError(
        f"column {column!r} of table {source.name!r} is {kind}, which is no time: use {WRITTEN_AS}", key="column"
    )


def raw(value: Any) -> sa.BindParameter[Any]:
    """Bind a value as the driver takes it, with no type of ours around it."""
    return sa.bindparam(None, value, type_=sa.types.NullType(), unique=True)


def epoch(
    connection: sa.Connection,
    column: sa.ColumnClause[Any],
    cut: datetime,
    mark: Callable[[sa.ColumnElement[Any]], sa.ColumnElement[str]],
    *,
    whole: bool,
) -> Reading:
    """Read numbers since 1970, in the unit that their magnitude tells.

    Zero and what is below it stand for "never" in applications that forbid NULL. A whole number stands for all of
    its second (or thousandth), so it has expired when that is over.
    """
    scale = _scale(connection, column)
    micros = (cut - datetime(1970, 1, 1, tzinfo=UTC)) // datetime.resolution
    bound: Any = micros * scale // 1_000_000 if whole else float(Decimal(micros) * scale / 1_000_000)
    expired = sa.and_(column > raw(0), column < raw(bound))

    def spell(text: str) -> str:
        return iso(datetime.fromtimestamp(float(text) / scale, UTC).isoformat())

    return Reading(column, raw(bound), expired, expired, mark, lambda text: raw(_number(text)), spell)


def iso(text: str) -> str:
    """Write a time as ISO 8601 in UTC where Python's calendar reaches, else as the database does."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text
    if len(text) == len("2024-01-31"):
        return text
    try:
        moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except OverflowError:  # the first hours of the year 1, written east of Greenwich
        return text
    return moment.isoformat().replace("+00:00", "Z")


def day(cut: datetime) -> date:
    """Return the first day that is not over at `cut`: a date stands for all of its day."""
    return cut.astimezone(UTC).date()


def naive(cut: datetime) -> str:
    """Write a cut in UTC without its zone."""
    return cut.astimezone(UTC).replace(tzinfo=None).isoformat(sep=" ")


def _scale(connection: sa.Connection, column: sa.ColumnClause[Any]) -> int:
    known = sa.select(sa.func.min(column), sa.func.max(column)).where(column > raw(0))
    least, greatest = connection.execute(known).one()
    if least is None:
        return 1
    units = [{name for name, scale in _UNITS.items() if _fits(value, scale)} for value in (least, greatest)]
    if not units[0] or units[0] != units[1]:
        source = column.table.name if isinstance(column.table, sa.TableClause) else "?"
        raise PolicyError(
            f"column {column.name!r} of table {source!r} holds numbers that are not all seconds, all milliseconds or"
            " all microseconds since 1970: mend the odd ones, or store times as a date type",
            key="column",
        )
    return _UNITS[units[0].pop()]


def _fits(value: Any, scale: int) -> bool:
    # A number that is none (NaN) cannot even be compared with one.
    return value == value and bool(_FIRST * scale <= value <= _LAST * scale)  # noqa: PLR0124


def _number(text: str) -> int | float | Decimal:
    try:
        return int(text)
    except ValueError:
        return float(text)
