"""How SQLite's columns write time as text: read by its own date functions, found by the text's order.

SQLite keeps milliseconds in its date functions, and applications write microseconds; so a row is judged by those
functions where more than two milliseconds decide, and by its digits where less do.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from nightcrew.databases.times import Reading, day, iso, naive, raw
from nightcrew.errors import PolicyError

_DATED = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*"
_FIRST = "0000-01-01"
_NOON_2000 = datetime(2000, 1, 1, 12, tzinfo=UTC)  # Julian day 2451545
_DOUBT = timedelta(milliseconds=2)
_EASTMOST = timedelta(hours=14)  # a local time may be written this far ahead of UTC
_SAMPLE = 100


def reading(connection: sa.Connection, column: sa.ColumnClause[Any], cut: datetime) -> Reading:
    """Read a column of ISO texts; raises PolicyError when a sample of it holds none.

    The form of the sample makes a bound that an index can use. A row written in another form, or in another zone,
    may be passed over by that bound until later; none leaves too early, whatever its form.
    """
    dated = column.op("GLOB")(raw(_DATED))
    look = sa.select(column, sa.func.julianday(column)).where(column >= raw(_FIRST)).limit(_SAMPLE)
    found = connection.execute(look).all()
    sample = [text for text, _ in found]
    if sample and not any(_is_dated(text) and julian is not None for text, julian in found):
        source = column.table.name if isinstance(column.table, sa.TableClause) else "?"
        raise PolicyError(
            f"column {column.name!r} of table {source!r} holds texts that are no times: write them as"
            " '2024-01-31 23:59:59', with or without a fraction, a 'T' and a zone",
            key="column",
        )
    bound = raw(_bound(sample, cut))
    before = sa.and_(column >= raw(_FIRST), column < bound)
    expired = sa.and_(before, sa.func.typeof(column) == raw("text"), dated, _older(column, cut))
    return Reading(column, bound, before, expired, lambda value: value, raw, iso)


def number(value: sa.ColumnElement[Any]) -> sa.ColumnElement[str]:
    """Write a number so that it reads back as itself: CAST would keep 15 digits of a fraction."""
    exact = sa.func.printf(raw("%!.17g"), value)
    return sa.case((sa.func.typeof(value) == raw("integer"), sa.cast(value, sa.Text())), else_=exact)


def _older(column: sa.ColumnClause[Any], cut: datetime) -> sa.ColumnElement[bool]:
    """Compare with a moment: a date by whole days, all else as time in UTC."""
    julian = sa.func.julianday(column)
    bare = sa.func.replace(column, raw("+00:00"), raw(""))
    digits = sa.func.replace(sa.func.rtrim(bare, raw("Z")), raw("T"), raw(" "))
    in_utc = sa.func.substr(digits, raw(11)).op("NOT GLOB")(raw("*[-+]*"))
    fraction = naive(cut)
    exact = fraction.rstrip("0") if "." in fraction else fraction
    close = sa.and_(julian < raw(_julian(cut + _DOUBT)), sa.func.length(digits) >= raw(19), in_utc, digits < raw(exact))
    # Cases, because SQLite works out both sides of an OR within one: three times the work for every row.
    return sa.case(
        (sa.func.length(column) == raw(10), sa.and_(julian.is_not(None), column < raw(day(cut).isoformat()))),
        (julian < raw(_julian(cut - _DOUBT)), sa.true()),
        else_=close,
    )


def _bound(sample: Iterable[str], cut: datetime) -> str:
    """Return a text that every expired row of the sample's form comes before."""
    times = [text[10:] for text in sample if _is_dated(text)]
    local = any(("+" in time or "-" in time) and not time.endswith("+00:00") for time in times)
    ceiling = cut.astimezone(UTC).replace(microsecond=0) + timedelta(seconds=1) + (_EASTMOST if local else timedelta(0))
    separator = "T" if any(time[:1] == "T" for time in times) else " "
    return ceiling.replace(tzinfo=None).isoformat(sep=separator)


def _is_dated(text: str) -> bool:
    return len(text) >= 10 and text[:10].replace("-", "").isdigit() and text[4] == text[7] == "-"


def _julian(moment: datetime) -> float:
    return 2_451_545 + (moment - _NOON_2000) / timedelta(days=1)
