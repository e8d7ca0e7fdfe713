"""What a ledger says of a job's slots."""

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from nightcrew.books import RunRow
from nightcrew.outcome import State

_SPAN = re.compile(r"slots? (?:from )?(\w+Z)(?: to (\w+Z))?: ")


def accounted(rows: Iterable[RunRow]) -> Callable[[datetime], bool]:
    """Return the test whether rows of the ledger say something of a slot, alone or with others."""
    spans = [_span(row) for row in rows if row.slot is not None]
    return lambda slot: any(first <= slot <= last for first, last in spans)


def _span(row: RunRow) -> tuple[datetime | None, datetime | None]:
    several = _SPAN.search(row.reason or "") if row.state in {State.MISSED, State.SKIPPED} else None
    if several is None:
        return row.slot, row.slot
    first, last = several.groups()
    return _instant(first), _instant(last or first)


def _instant(stamp: str) -> datetime:
    return datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
