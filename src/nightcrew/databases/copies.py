"""Copies: what a batch takes, read while it holds the rows, before any of them goes."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from nightcrew.archives.frame import Copy, Lines
from nightcrew.database import Column, Key, Table
from nightcrew.databases.catalog import source
from nightcrew.databases.dialect import Address, Dialect
from nightcrew.errors import DatabaseError, PolicyError

_MOST_BYTES = 64 * 1024 * 1024  # of one batch: it is in memory until it is written
_ONE = 4 * 1024 * 1024  # bytes that one statement should answer with
_FIRST, _MOST = 250, 5_000  # rows that one statement is told


@dataclass(slots=True)
class _Kept:
    """Rows of one table as they were heard of: their lines, how many, their keys, and in how many ways."""

    table: Table
    columns: Sequence[Column]
    lines: list[str] = field(default_factory=list)
    size: int = 0
    keys: list[Key] = field(default_factory=list)
    ways: int = 0

    @property
    def copy(self) -> Copy:
        names, kinds = zip(*((column.name, column.kind) for column in self.columns), strict=True)
        return Copy(self.table.name, names, kinds, self.table.primary_key, "\n".join(self.lines), self.size)

    def hear(self, heard: Lines) -> None:
        if heard.size:
            self.lines.append(heard.text)
            self.size += heard.size
            self.keys += heard.keys

    def by_key(self) -> dict[Key, str]:
        """Return each row once, as it was when it was first met; without their keys, lines tell them."""
        copy = self.copy
        own = copy.of(copy.key)
        keys = self.keys or [tuple(row[place] for place in own) for row in copy.values]
        rows: dict[Key, str] = {}
        for key, line in zip(keys, copy.rows, strict=True):
            rows.setdefault(key, line)
        return rows

    def keep(self, rows: Mapping[Key, str]) -> None:
        self.lines, self.size = list(rows.values()), len(rows)
        self.keys = list(rows)


@dataclass(slots=True)
class Copies:
    """The rows that a batch is about to take, by table; each once, as it was when it was first met."""

    dialect: Dialect
    kept: dict[str, _Kept] = field(default_factory=dict)
    bytes: int = 0
    _size: int = _FIRST

    def add(
        self,
        connection: sa.Connection,
        table: Table,
        rows: sa.FromClause,
        parts: Iterable[sa.ColumnElement[bool]],
        *,
        apart: bool = True,
        held: bool = True,
    ) -> None:
        """Read rows, part by part, under whatever lock they have or by this get; not `held`, as a snapshot has them.

        No row is in two parts, if they are `apart`.
        """
        asked = self.asked(connection, table, rows)
        for place, part in enumerate(parts):
            found = sa.select(*asked).select_from(rows).where(part)
            found = found.with_for_update() if held else found
            self.hear(connection, table, found, more=apart and place > 0)

    def asked(self, connection: sa.Connection, table: Table, rows: sa.FromClause) -> list[sa.Label[Any]]:
        """Return what a statement has to answer with of each row: what is written down of it, and its key."""
        known, spelling = self._of(connection, table), self.dialect.spelling
        written = [spelling.written(column, rows.c[column.name]) for column in known.columns]
        asked = spelling.line(written, demand_key(self.dialect, table, rows).columns)
        return [each.label(f"nightcrew_{place}") for place, each in enumerate(asked)]

    def hear(
        self,
        connection: sa.Connection,
        table: Table,
        asked: sa.Select[Any],
        along: Callable[[sa.Select[Any]], sa.Select[Any]] = lambda answer: answer,
        *,
        more: bool = False,
    ) -> int:
        """Take what a select finds of rows, and let other things be done `along` with it; return how many they are.

        They are `more` where none of them can be among those that were heard of last.
        """
        known, spelling = self.kept[table.name], self.dialect.spelling
        heard = spelling.heard(connection.execute(along(spelling.gathered(asked))), len(known.columns))
        known.hear(heard)
        known.ways += not more
        self.bytes += len(heard.text)
        if self.bytes > _MOST_BYTES and sum(each.size for each in self.kept.values()) > 1:
            raise DatabaseError(
                f"a batch of table {table.name!r} has more than {_MOST_BYTES >> 20} MiB to archive: it is tried again"
                " with fewer rows",
                transient=True,
            )
        return heard.size

    def told(self, keys: Sequence[Sequence[Any]]) -> Iterable[Sequence[Sequence[Any]]]:
        """Part rows that are known by their places, so that no statement answers with too much."""
        start = 0
        while start < len(keys):
            yield keys[start : start + self._size]
            start += self._size
            rows = sum(each.size for each in self.kept.values())
            self._size = max(1, min(_MOST, _ONE * rows // self.bytes)) if self.bytes else self._size

    def taken(self, connection: sa.Connection, counts: Mapping[str, int]) -> tuple[Copy, ...]:
        """Return what has been copied and has gone; what is still there after all is left out.

        Raises DatabaseError where more has gone than was copied: it is to be rolled back.
        """
        for name, known in self.kept.items():
            if known.ways > 1 or known.size != counts.get(name, 0):
                known.keep(known.by_key())
        for name, rows in counts.items():
            copied = self.kept[name].size if name in self.kept else 0
            if rows > copied:
                raise DatabaseError(
                    f"{rows} rows of table {name!r} went, and {copied} had been copied to the archive before: that is"
                    " rolled back, and tried again",
                    transient=True,
                )
        for name, known in self.kept.items():
            if known.size > counts.get(name, 0):
                self._forget_those_there(connection, known)
        return tuple(known.copy for known in self.kept.values() if known.size)

    def _forget_those_there(self, connection: sa.Connection, known: _Kept) -> None:
        rows, left = source(known.table.name, known.table.columns), known.by_key()
        keys = list(left)
        key = demand_key(self.dialect, known.table, rows)
        for start in range(0, len(keys), _MOST):
            there = sa.select(*key.columns).select_from(rows).where(key.among(keys[start : start + _MOST]))
            for found in connection.execute(there):
                left.pop(tuple(found), None)
        known.keep(left)

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
