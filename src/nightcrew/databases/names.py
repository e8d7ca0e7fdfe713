"""How names are written in a statement that a person may paste."""

import re
from collections.abc import Sequence

from nightcrew.databases.dialect import Dialect

_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")
_LONGEST = 56  # of what an index is called; no database cuts it, with its ending, below 63


def create_index(dialect: Dialect, schema: str | None, table: str, columns: Sequence[str]) -> str:
    """Write the statement that makes an index, as the database's own clients take it."""
    called = re.sub(r"\W+", "_", "_".join((table, *columns)))[:_LONGEST]
    index, owner = _pasted(dialect, f"{called}_idx"), _pasted(dialect, table)
    if schema is not None:
        prefix = f"{_pasted(dialect, schema)}."
        index, owner = (prefix + index, owner) if dialect.indexes_have_schemas else (index, prefix + owner)
    return f"CREATE INDEX {index} ON {owner} ({', '.join(_pasted(dialect, column) for column in columns)});"


def analyze(dialect: Dialect, schema: str | None, table: str) -> str:
    """Write the statement that counts what the planner goes by."""
    return f"ANALYZE {'.'.join(_pasted(dialect, part) for part in (schema, table) if part is not None)};"


def quoted(name: str, mark: str) -> str:
    """Write a name between quotes."""
    return mark + name.replace(mark, mark * 2) + mark


def _pasted(dialect: Dialect, name: str) -> str:
    """Write a name as it is, where that means it everywhere, else between quotes."""
    plain = _PLAIN.fullmatch(name) and name not in dialect.reserved
    return name if plain else quoted(name, dialect.quote)
