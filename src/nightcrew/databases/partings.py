"""What is done for rows under their locks, before they leave: what they owe is written down, and what they are copied.

Every statement that takes rows by their places passes through here first, and every one that takes what hangs on them.
"""

import sqlalchemy as sa

from nightcrew.database import Path, Selection
from nightcrew.databases import bills
from nightcrew.databases.bunch import Bunch, place
from nightcrew.databases.catalog import describe
from nightcrew.databases.copies import demand_key
from nightcrew.databases.dialect import Dialect, Removal
from nightcrew.databases.paths import below
from nightcrew.databases.target import Clause, Target


def remove(connection: sa.Connection, target: Target, statement: Removal, *where: Clause) -> int:
    """Take rows away by a statement that says itself which, and answers with what they were; return how many."""
    copies, own = target.copies, target.selection.table
    if copies is None:
        return bills.remove(connection, target, statement, *where)
    if target.dialect.one_writer:  # nobody changes what is read before it goes
        copies.add(connection, own, target.table, [sa.and_(*where)])
        return bills.remove(connection, target, statement, *where)
    asked = copies.asked(connection, own, target.table)
    gone = statement.returning(*asked, *bills.labelled(target, target.table)).cte("gone")
    answer = sa.select(*(gone.c[each.name] for each in asked))
    return copies.hear(connection, own, answer, lambda answer: bills.with_debts(answer, target, gone))


def note(connection: sa.Connection, target: Target, bunch: Bunch) -> None:
    """Note locked rows."""
    bills.note(connection, target, bunch)
    if (copies := target.copies) is not None:
        parts = (bunch.address.among(keys) for keys in copies.told(bunch.keys))
        copies.add(connection, bunch.table, bunch.source, parts)


def note_seen(connection: sa.Connection, target: Target, *where: Clause) -> None:
    """Note rows that a frozen transaction is about to take, and those that go with them by the database's own rule."""
    bills.note_seen(connection, target, *where)
    if (copies := target.copies) is None:
        return
    copies.add(connection, target.selection.table, target.table, [sa.and_(*where)], held=False)
    for path in sorted(target.selection.cascades, key=len):
        end, apart = place(connection, target, path[-1].table), _to_one(connection, target, path)
        hang = target.hanging(path, end.source, *where)
        copies.add(connection, end.table, end.source, [hang], apart=apart, held=False)


def note_below(connection: sa.Connection, target: Target, bunch: Bunch) -> None:
    """Note the rows that hang on a locked bunch, having locked them, from the top down.

    What only links lead to is not held, and noted when it is found; and so are rows that are followed one by one.
    """
    bills.note_below(connection, target, bunch)
    if (copies := target.copies) is None or target.selection.knots:
        return
    selection = target.selection
    ways = below(selection.drains + selection.cascades, bunch.table.name, selection.table.name)
    for path in sorted((path for path in ways if not bills.linked(path)), key=len):
        end, apart = place(connection, target, path[-1].table), _to_one(connection, target, path)
        parts = (target.hanging(path, end.source, part.held, among=part.source) for part in bunch.chunks())
        copies.add(connection, end.table, end.source, parts, apart=apart)


def _to_one(connection: sa.Connection, target: Target, path: Path) -> bool:
    """Tell whether a row hangs on one row only by these keys: some databases let them refer to what is not unique."""
    parents = ((place(connection, target, key.parent).table, {*key.parent_columns}) for key in path)
    return all(named in map(set, (table.primary_key, *table.unique)) for table, named in parents)


def check(connection: sa.Connection, dialect: Dialect, selection: Selection) -> None:
    """Raise PolicyError for what could not be noted: a key that could be forgotten, rows that nothing tells apart."""
    bills.check(connection, dialect, selection)
    if selection.archived:
        along = dict.fromkeys(path[-1].table for path in selection.drains + selection.cascades)
        for table in (selection.table, *(describe(connection, dialect, name) for name in along)):
            demand_key(dialect, table)
