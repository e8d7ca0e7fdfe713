"""Rows that are written down here, one by one: for databases whose own JSON would not say all of a value."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from nightcrew.archives.frame import Lines, row


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
