"""What rows owe to the stores as they leave, written by the statement that removes them, or while they are held.

Of rows that are locked, the keys are read under the lock; of rows that hang on them, once those are locked, too, from
the top down: no other can appear below a row that is locked. A row that stays after all has a debt too many, which is
forgotten when somebody looks whether the key is still in use.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from nightcrew.database import LINK, ForeignKey, Path, Selection
from nightcrew.databases.bunch import Bunch
from nightcrew.databases.catalog import describe, source
from nightcrew.databases.dialect import Dialect, Named, Removal
from nightcrew.databases.parcels import Parcel, found, pack, packed
from nightcrew.databases.paths import below, lock
from nightcrew.databases.tables import owed
from nightcrew.databases.target import Clause, Target
from nightcrew.errors import PolicyError
from nightcrew.owing import Owing


def own(target: Target) -> Iterator[tuple[str, Owing]]:
    """Return what the swept table's own rows owe, each column under a name for a statement's parts."""
    named = target.selection.table.name
    return ((f"nightcrew_key_{place}", owing) for place, owing in enumerate(_of(target, named)))


def remove(connection: sa.Connection, target: Target, statement: Removal, *where: Clause) -> int:
    """Take rows away by a statement that says itself which; return how many."""
    keys = dict(own(target))
    if not keys:
        return connection.execute(statement).rowcount
    if target.dialect.one_writer:
        _note(connection, target, target.table, keys.values(), *where)
        return connection.execute(statement).rowcount
    gone = statement.returning(*labelled(target, target.table)).cte("gone")
    parcels = _parcels(target, gone)
    count = sa.select(parcels[0].counted.c["rows"])
    return int(connection.execute(_along(count, parcels)).scalar_one())


def labelled(target: Target, rows: Named) -> list[Clause]:
    """Return the keys of the swept table's rows, for a statement to answer with."""
    return [part for name, owing in own(target) for part in found(_written(rows.c[owing.column]), name)]


def with_debts(statement: sa.Select[Any], target: Target, rows: sa.CTE) -> sa.Select[Any]:
    """Let a statement write what is owed for rows that another part of it has found, keys and all."""
    return _along(statement, _parcels(target, rows))


def _parcels(target: Target, rows: sa.CTE) -> list[Parcel]:
    return [packed(rows, name, _of_all(target, owing)) for name, owing in own(target)]


def _along(statement: sa.Select[Any], parcels: Iterable[Parcel]) -> sa.Select[Any]:
    for part in (part for parcel in parcels for part in parcel.parts):
        statement = statement.add_cte(part)
    return statement


def note(connection: sa.Connection, target: Target, bunch: Bunch) -> None:
    """Write what locked rows owe by themselves."""
    if due := _of(target, bunch.table.name):
        for part in bunch.chunks():
            _note(connection, target, part.source, due, part.held)


def note_loosened(connection: sa.Connection, target: Target, bunch: Bunch, key: ForeignKey) -> None:
    """Write what locked rows owe that are to refer to nothing by a key: what they refer to."""
    if due := [owing for owing in _of(target, bunch.table.name) if owing.column in key.columns]:
        for part in bunch.chunks():
            _note(connection, target, part.source, due, part.held)


def note_below(connection: sa.Connection, target: Target, bunch: Bunch) -> None:
    """Write what the rows owe that hang on a locked bunch, having locked them; what only links lead to is not held."""
    for owing in target.selection.blobs:
        ways = [path for path in _ways(target, bunch, owing) if not linked(path)]
        above = dict.fromkeys(path[:depth] for path in ways for depth in range(1, len(path)))
        for between in sorted(above, key=len):
            lock(connection, target, between, bunch)
        if ways:
            end = source(owing.table, [owing.column, *(name for path in ways for name in path[-1].columns)])
            for part in bunch.chunks():
                hang = [target.hanging(path, end, part.held, among=part.source) for path in ways]
                _note(connection, target, end, [owing], sa.or_(*hang))


def note_seen(connection: sa.Connection, target: Target, *where: Clause) -> None:
    """Write what rows owe that a frozen transaction is about to take, and those that go with them; none is held."""
    for owing in target.selection.blobs:
        if owing.table == target.selection.table.name:
            rows, found = target.table, sa.and_(*where)
        else:
            ways = _leading(target.selection, owing)
            rows = source(owing.table, [owing.column, *(name for path in ways for name in path[-1].columns)])
            found = sa.or_(*(target.hanging(path, rows, *where) for path in ways))
        pack(connection, rows, found, _written(rows.c[owing.column]), _of_all(target, owing))


def linked(path: Path) -> bool:
    """Tell whether rows may come in below one that is locked: what refers to it without a foreign key asks nobody."""
    return any(key.on_delete == LINK for key in path)


def check(connection: sa.Connection, dialect: Dialect, selection: Selection) -> None:
    """Refuse a foreign key by which rows with blobs may come in below a locked one, where there is such a database."""
    if not dialect.locks_keys_apart:
        return
    for owing in selection.blobs:
        for key in dict.fromkeys(key for path in _leading(selection, owing) for key in path if key.on_delete != LINK):
            if key.parent_columns != describe(connection, dialect, key.parent).primary_key:
                raise PolicyError(
                    f"blobs of {owing}: {key.table}.{', '.join(key.columns)} refers to {', '.join(key.parent_columns)}"
                    f" of table {key.parent!r}, which is not its primary key: the blob of a row inserted by it in the"
                    " very moment of a delete could be forgotten on this database; refer to the primary key",
                    key="blobs",
                )


def _of(target: Target, table: str) -> list[Owing]:
    return [owing for owing in target.selection.blobs if owing.table == table]


def _ways(target: Target, bunch: Bunch, owing: Owing) -> Sequence[Path]:
    if target.selection.knots:  # such rows are followed one by one, but for those that stay and refer to nothing
        return [path[-1:] for path in _setting(target.selection, owing) if path[-1].parent == bunch.table.name]
    return below(_leading(target.selection, owing), bunch.table.name, target.selection.table.name)


def _leading(selection: Selection, owing: Owing) -> list[Path]:
    """Return the ways by which rows with a key leave, or lose it."""
    paths = [path for path in selection.drains + selection.cascades if path[-1].table == owing.table]
    return paths + _setting(selection, owing)


def _setting(selection: Selection, owing: Owing) -> list[Path]:
    paths = (path for path in selection.loosened if path[-1].table == owing.table)
    return [path for path in paths if owing.column in path[-1].columns]


def _note(
    connection: sa.Connection, target: Target, rows: sa.TableClause, due: Iterable[Owing], *where: Clause
) -> None:
    """Read keys of rows under a lock, and owe them, in one statement."""
    for owing in due:
        key, given = _written(rows.c[owing.column]), _of_all(target, owing)
        if target.dialect.returning and not target.dialect.one_writer:  # which is where parcels are written
            held = sa.select(*found(key, "key")).select_from(rows).where(*where).with_for_update().cte("held")
            parcel = packed(held, "key", given)
            connection.execute(_along(sa.select(parcel.counted.c["rows"]), [parcel]))
            continue
        debts = sa.select(key, *given.values()).select_from(rows).where(*where, key.is_not(None), key != "")
        connection.execute(sa.insert(owed).from_select(["key", *given], debts.with_for_update()))


def _of_all(target: Target, owing: Owing) -> dict[str, Clause]:
    """Return what is the same for all keys that a batch finds in a column."""
    now, grace = _clock(target.dialect.now), target.selection.grace // timedelta(microseconds=1)
    due_at = _clock(target.dialect.later.format(micros=grace)) if grace else now
    same = {"store": sa.literal(owing.store, sa.String), "run": sa.literal(target.selection.run, sa.String)}
    return {**same, "since": now, "due_at": due_at, "attempts": sa.literal(0)}


def _clock(sql: str) -> Clause:
    return sa.select(sa.literal_column(sql)).scalar_subquery()


def _written(column: Clause) -> Clause:
    return sa.cast(column, sa.Text)
