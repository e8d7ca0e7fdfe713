"""Ways down from a table by foreign keys: where they go on from a table on the way, and the rows along them, locked."""

from collections.abc import Iterable

import sqlalchemy as sa

from nightcrew.database import Path
from nightcrew.databases.bunch import Bunch
from nightcrew.databases.catalog import source
from nightcrew.databases.target import Target


def below(paths: Iterable[Path], table: str, root: str) -> tuple[Path, ...]:
    """Return the ways on from a table that some ways down from the root come through, each once."""
    if table == root:
        return tuple(paths)
    rest = (path[place + 1 :] for path in paths for place, key in enumerate(path) if key.table == table)
    return tuple(dict.fromkeys(path for path in rest if path))


def lock(connection: sa.Connection, target: Target, path: Path, bunch: Bunch) -> None:
    """Lock the rows that hang on a bunch by a path."""
    end = source(path[-1].table, path[-1].columns)
    hanging = target.hanging(path, end, bunch.held, among=bunch.source)
    rows: sa.Select[tuple[int]] = sa.select(sa.literal_column("1")).select_from(end).where(hanging)
    connection.execute(rows.with_for_update()).all()
