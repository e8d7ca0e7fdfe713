"""Copies: what a batch takes, read while it holds the rows, before any of them goes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from nightcrew.archives.frame import Copy
from nightcrew.database import Column, Key, Table
from nightcrew.databases.catalog import source
from nightcrew.databases.dialect import Address, Dialect
from nightcrew.errors import DatabaseError, PolicyError

_MOST_BYTES = 64 * 1024 * 1024  # of one batch: it is in memory until it is written
_ONE = 4 * 1024 * 1024  # bytes that one statement should answer with
_FIRST, _MOST = 250, 5_000  # rows that one statement is told


@dataclass(slots=True)
class _Kept:
    """Rows of one table by their keys."""

    table: Table
    columns: Sequence[Column]
    width: int = 0  # of what is written down, in what is asked
    rows: dict[Key, str] = field(default_factory=dict)


@dataclass(slots=True)
class Copies:
    """The rows that a batch is about to take, by table; each once, as it was when it was first met."""

    dialect: Dialect
    kept: dict[str, _Kept] = field(default_factory=dict)
    bytes: int = 0
    _size: int = _FIRST

    def add(
        self, connection: sa.Connection, table: Table, rows: sa.FromClause, held: Iterable[sa.ColumnElement[bool]]
    ) -> None:
        """Read rows, under whatever lock they have or by this get, as `held` finds them, part by part."""
        asked = self.asked(connection, table, rows)
        for part in held:
            self.hear(table, connection.execute(sa.select(*asked).select_from(rows).where(part).with_for_update()))

    def asked(self, connection: sa.Connection, table: Table, rows: sa.FromClause) -> list[sa.Label[Any]]:
        """Return what a statement has to answer with of each row: what is written down of it, and its key."""
        known, spelling = self._of(connection, table), self.dialect.spelling
        lines = spelling.lines([spelling.written(column, rows.c[column.name]) for column in known.columns])
        key = demand_key(self.dialect, table, rows)
        known.width = len(lines)
        return [each.label(f"nightcrew_{place}") for place, each in enumerate((*lines, *key.columns))]

    def hear(self, table: Table, answer: sa.Result[Any]) -> int:
        """Take what a statement answers with; return of how many rows that is."""
        known, line, found = self.kept[table.name], self.dialect.spelling.line, answer.all()
        rows = {tuple(values[known.width :]): line(values[: known.width]) for values in found}
        self.bytes += sum(map(len, rows.values()))
        known.rows = rows | known.rows if known.rows else rows
        if self.bytes > _MOST_BYTES and sum(len(each.rows) for each in self.kept.values()) > 1:
            raise DatabaseError(
                f"a batch of table {table.name!r} has more than {_MOST_BYTES >> 20} MiB to archive: it is tried again"
                " with fewer rows",
                transient=True,
            )
        return len(found)

    def told(self, keys: Sequence[Sequence[Any]]) -> Iterable[Sequence[Sequence[Any]]]:
        """Part rows that are known by their places, so that no statement answers with too much."""
        start = 0
        while start < len(keys):
            yield keys[start : start + self._size]
            start += self._size
            rows = sum(len(each.rows) for each in self.kept.values())
            self._size = max(1, min(_MOST, _ONE * rows // self.bytes)) if self.bytes else self._size

    def taken(self, connection: sa.Connection, counts: Mapping[str, int]) -> tuple[Copy, ...]:
        """Return what has been copied and has gone; what is still there after all is left out.

        Raises DatabaseError where more has gone than was copied: it is to be rolled back.
        """
        for name, rows in counts.items():
            copied = len(self.kept[name].rows) if name in self.kept else 0
            if rows > copied:
                raise DatabaseError(
                    f"{rows} rows of table {name!r} went, and {copied} had been copied to the archive before: that is"
                    " rolled back, and tried again",
                    transient=True,
                )
        for name, known in self.kept.items():
            if len(known.rows) > counts.get(name, 0):
                self._forget_those_there(connection, known)
        return tuple(_copy(known) for known in self.kept.values() if known.rows)

    def _forget_those_there(self, connection: sa.Connection, known: _Kept) -> None:
        rows, keys = source(known.table.name, known.table.columns), list(known.rows)
        key = demand_key(self.dialect, known.table, rows)
        for start in range(0, len(keys), _MOST):
            there = sa.select(*key.columns).select_from(rows).where(key.among(keys[start : start + _MOST]))
            for found in connection.execute(there):
                known.rows.pop(tuple(found), None)

    def _of(self, connection: sa.Connection, table: Table) -> _Kept:
        if table.name not in self.kept:
            if not self.kept:
                self.dialect.spelling.begin(connection)
            columns = [column for column in table.columns.values() if not column.computed]
            self.kept[table.name] = _Kept(table, columns)
        return self.kept[table.name]


def demand_key(dialect: Dialect, table: Table, rows: Any = None) -> Address:
    """Return how rows of a table are known; raises PolicyError where nothing tells them apart."""
    key = dialect.key(source(table.name, table.columns) if rows is None else rows, table)
    if key is None:
        raise PolicyError(
            f"table {table.name!r} has no primary key, by which its rows could be put back once: add one, or leave"
            " archive out",
            key="archive",
        )
    return key


def _copy(known: _Kept) -> Copy:
    names, kinds = zip(*((column.name, column.kind) for column in known.columns), strict=True)
    return Copy(known.table.name, names, kinds, known.table.primary_key, list(known.rows.values()))
