"""Rows that are written down here, one by one: for databases whose own JSON would not say all of a value."""

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from nightcrew.archives.frame import Lines, row
from nightcrew.databases.dialect import Named


class RowSpelling:
    """What spellings have in common that ask for each value of each row."""

    demanding = False

    def line(
        self, written: Sequence[sa.ColumnElement[Any]], key: Sequence[sa.ColumnElement[Any]] = ()
    ) -> Sequence[sa.ColumnElement[Any]]:
        """Ask for each value."""
        return [*written, *key]

    def gathered(self, lines: sa.Select[Any]) -> sa.Select[Any]:
        """Ask for each row."""
        return lines

    def heard(self, answer: sa.Result[Any], width: int) -> Lines:
        """Write them here."""
        found = answer.all()
        lines = "\n".join([row(values[:width]) for values in found])
        return Lines(lines, len(found), [tuple(values[width:]) for values in found])


def union(own: Named, rows: Iterable[Sequence[sa.ColumnElement[Any]]]) -> sa.Select[Any]:
    """Compose rows that are not in a table: beside its own columns, of which there are no rows, their rules hold."""
    nothing = sa.select(*own.c).where(sa.false())
    return sa.select(nothing.union_all(*(sa.select(*one) for one in rows)).subquery("nightcrew_rows"))
