"""Held rows: what hangs on rows that are to go is locked down to those, and then looked at.

A hold that is set in the moment of a delete waits for that lock, or was committed before it and is seen by the look.
"""

import sqlalchemy as sa

from nightcrew.databases.bunch import Bunch
from nightcrew.databases.catalog import source
from nightcrew.databases.paths import below, lock
from nightcrew.databases.target import Clause, Target, spelled
from nightcrew.errors import DatabaseError


def secure(connection: sa.Connection, target: Target, bunch: Bunch) -> None:
    """Make sure that no row of a locked bunch, or that hangs on it, is held, and that none comes to be.

    Raises DatabaseError where one is by now: another try passes by what it hangs on.
    """
    root = target.selection.table.name
    ways = {shield: below([shield.path], bunch.table.name, root) for shield in target.selection.shields}
    levels = (path[:depth] for paths in ways.values() for path in paths for depth in range(1, len(path) + 1))
    for path in sorted(dict.fromkeys(levels), key=len):
        lock(connection, target, path, bunch)
    for shield, paths in ways.items():
        held = spelled(shield.hold, " IS TRUE")
        end = source(shield.path[-1].table, shield.path[-1].columns)
        looks = [(end, target.hanging(path, end, bunch.held, among=bunch.source)) for path in paths]
        if shield.path[-1].table == bunch.table.name:
            looks.append((bunch.source, bunch.held))
        if any(_found(connection, rows, where, held) for rows, where in looks):
            raise DatabaseError(f"a row of table {end.name!r} came to be held while it was to go along", transient=True)


def _found(connection: sa.Connection, rows: sa.TableClause, *where: Clause) -> bool:
    one: sa.Select[tuple[int]] = sa.select(sa.literal_column("1")).select_from(rows).where(*where).limit(1)
    return connection.execute(one).first() is not None
