"""A run → where its batches stand, in the one range there is or in each of several."""

from collections.abc import Iterator, Mapping
from typing import Any

import sqlalchemy as sa

from nightcrew.books import Stage
from nightcrew.databases.connect import Link
from nightcrew.databases.tables import entries, ranges

_PAGE = 50  # entries that are read at a time


def stages(link: Link, run: str) -> tuple[Stage, ...]:
    """Read of each range what its row says, or its newest batch, or what was said when they were last divided."""
    if cut := _cut(link, run):
        return cut
    found: dict[int, Stage] = {}
    for kind, facts in _backwards(link, run):
        if kind == "divided":
            divided = {number: Stage(**stage) for number, stage in enumerate(facts["ranges"], 1)}
            return tuple((divided | found).values())
        found.setdefault(facts.get("range", 1), Stage(facts["cursor"], facts["total"]))
        if "range" not in facts or len(found) == 2:
            break
    return tuple(found[number] for number in sorted(found)) or (Stage(),)


def _cut(link: Link, run: str) -> tuple[Stage, ...]:
    each = sa.select(ranges).where(ranges.c.run == run).order_by(ranges.c.number)
    with link.transaction(writes=False) as connection:
        return tuple(Stage(row.cursor, row.total, row.number) for row in connection.execute(each))


def _backwards(link: Link, run: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Read what is said of batches from the newest on, some at a time."""
    newest: int | None = None
    while True:
        some = sa.select(entries).where(entries.c.run == run, entries.c.kind.in_(["batch", "divided"]))
        some = some if newest is None else some.where(entries.c.id < newest)
        with link.transaction(writes=False) as connection:
            found = connection.execute(some.order_by(entries.c.id.desc()).limit(_PAGE)).all()
        yield from ((row.kind, row.facts) for row in found)
        if len(found) < _PAGE:
            return
        newest = found[-1].id
