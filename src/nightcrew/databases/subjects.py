"""Rows of the application's asked for one by one, by values that a person typed or that were written down as texts."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from nightcrew.database import ForeignKey, Selection, Table
from nightcrew.databases.bills import note
from nightcrew.databases.bunch import place
from nightcrew.databases.catalog import describe, source
from nightcrew.databases.connect import Link
from nightcrew.databases.counts import hanging
from nightcrew.databases.keys import after as behind
from nightcrew.databases.portions import fitting, take_slice
from nightcrew.databases.rows import LONGEST_COUNT, Rows
from nightcrew.databases.tables import OURS
from nightcrew.databases.target import Clause
from nightcrew.databases.times import raw
from nightcrew.erased import Found


class People:
    """The `Subjects` of one database."""

    def __init__(self, link: Link, rows: Rows) -> None:
        self._link = link
        self._rows = rows

    def find(self, table: Table, key: Sequence[str], columns: Iterable[str]) -> Found | None:
        """Compare once more to the letter: a collation, or a number made of a text, may take others for the same."""
        rows, letters = source(table.name, table.columns), self._link.dialect.letters
        address = self._link.dialect.key(rows, table)
        if address is None or len(key) != len(table.primary_key):
            return None
        names = list(dict.fromkeys((*table.primary_key, *columns)))
        texts = (letters(rows.c[name]).label(f"nightcrew_{place}") for place, name in enumerate(names))
        these = sa.select(*address.columns, *texts).where(*_same(rows, table.primary_key, key))
        with self._link.transaction(writes=False) as connection:
            for row in connection.execute(these):
                width = len(address.columns)
                values = dict(zip(names, row[width:], strict=True))
                if tuple(values[name] for name in table.primary_key) == tuple(key):
                    return Found(tuple(row[:width]), values)
        return None

    def keys(self, table: Table, after: Sequence[str] | None, most: int) -> list[tuple[str, ...]]:
        """Go along the primary key."""
        rows = source(table.name, table.primary_key)
        columns = [rows.c[name] for name in table.primary_key]
        page = sa.select(*map(self._link.dialect.letters, columns)).order_by(*columns).limit(most)
        if after is not None:
            page = page.where(behind(columns, [raw(text) for text in after]))
        with self._link.transaction(writes=False) as connection:
            return [tuple(row) for row in connection.execute(page)]

    def count(self, table: str, columns: Sequence[str], values: Sequence[str]) -> int:
        """Count them in a transaction of its own, which sees what is there now."""
        rows = source(table, columns)
        return self._count(rows, _same(rows, columns, values))

    def strays(self, key: ForeignKey, values: Sequence[str]) -> int:
        """Count them likewise."""
        rows = source(key.table, key.columns)
        return self._count(rows, _astray(rows, key, values))

    def _count(self, rows: sa.TableClause, which: Sequence[Clause]) -> int:
        count = sa.select(sa.func.count()).select_from(rows).where(*which)
        with self._link.glimpse(LONGEST_COUNT) as connection:
            return int(connection.execute(count).scalar_one())

    def keyed(self, selection: Selection, column: tuple[str, str]) -> int:
        """Count along the ways by which rows of the table leave."""
        with self._link.glimpse(LONGEST_COUNT) as connection:
            target = self._rows.target(connection, selection)
            if column[0] == selection.table.name:
                held = target.table.c[column[1]]
                keys = sa.select(sa.func.count()).where(*target.expired, held.is_not(None), held != "")
                return int(connection.execute(keys.select_from(target.table)).scalar_one())
            leaving = [path for path in selection.drains + selection.cascades if path[-1].table == column[0]]
            some = hanging(target, leaving, *target.expired).get(column[0])
            if some is None:
                return 0
            held = sa.column(sa.quoted_name(column[1], quote=True))
            counted = some.with_only_columns(sa.func.count(sa.func.nullif(held, "")))
            return int(connection.execute(counted).scalar_one())

    def take(
        self, connection: sa.Connection, selection: Selection, key: ForeignKey, values: Sequence[str], most: int
    ) -> Mapping[str, int]:
        """Lock some, and remove those that fit into a batch with what hangs on them, or a slice of that of one."""
        target = self._rows.target(connection, selection)
        child = place(connection, target, key.table)
        rows = sa.select(*child.address.columns).select_from(child.source)
        rows = rows.where(*_astray(child.source, key, values)).limit(most).with_for_update()
        bunch = child.of([tuple(row) for row in connection.execute(rows)])
        if not bunch.keys:
            return {}
        portion = fitting(connection, target, bunch, most)
        if portion is None:
            return take_slice(connection, target, bunch.first(1), most).counts
        counts = portion.clear(connection, target)
        if portion.web is None:
            note(connection, target, portion.bunch)
            counts[key.table] += len(portion.bunch.keys)
        portion.bunch.removed(connection)
        return counts

    def tables(self) -> Mapping[str, Table]:
        """Describe each that the connection finds without saying a schema."""
        dialect = self._link.dialect
        with self._link.transaction(writes=False) as connection:
            names = [name for name in dialect.relations(connection, None) if not name.startswith(OURS)]
            tables = (dialect.relation(connection, None, name) for name in names)
            known = [relation.label for relation in tables if relation and relation.kind == "table"]
            return {name: describe(connection, dialect, name) for name in dict.fromkeys(known)}


def _astray(rows: Any, key: ForeignKey, values: Sequence[str]) -> list[Clause]:
    """Compare with values of a row that is gone; rows of another, whose value a collation takes for the same, stay."""
    parent = source(key.parent, key.parent_columns).alias("nightcrew_parent")
    pairs = zip(key.parent_columns, key.columns, strict=True)
    has = sa.exists().select_from(parent).where(*(parent.c[above] == rows.c[name] for above, name in pairs))
    return [*_same(rows, key.columns, values), ~has]


def _same(rows: Any, columns: Iterable[str], values: Iterable[str]) -> list[Clause]:
    """Compare with texts, which each database reads as what its column holds."""
    return [rows.c[name] == raw(value) for name, value in zip(columns, values, strict=True)]
