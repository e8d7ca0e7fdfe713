"""A Selection, aimed at a database: its table, how its column writes time, and the predicate of every statement."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, TypeAlias

import sqlalchemy as sa

from nightcrew.database import Absence, ForeignKey, Form, Path, Selection, Shield
from nightcrew.databases.catalog import source
from nightcrew.databases.copies import Copies
from nightcrew.databases.dialect import Address, Dialect, Named, Removal
from nightcrew.databases.heap import Heap
from nightcrew.databases.latest import Kept, keep
from nightcrew.databases.times import Reading, raw
from nightcrew.errors import PolicyError, nearest
from nightcrew.policy import Action, Sql, Value

Clause: TypeAlias = sa.ColumnElement[Any]
Keys: TypeAlias = Sequence[Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Target:
    """What the statements about one selection are composed of.

    The predicate is in three parts: what a row says by itself (`own`), that no other row keeps it (`absent`), and what
    the policy says in words that may ask other tables (`said`). Of the rows that keep it, the last are those that hang
    on it and are held: each of the `shields` says that there is one. A table that is read whole is walked by the pages
    of its `heap`, or by its key where rows are kept `clustered` in that order, `until` the range ends. Tables further
    down are `described` once one must know. A batch makes `copies` of what it takes where that is archived.
    """

    selection: Selection
    dialect: Dialect
    table: sa.TableClause
    reading: Reading
    address: Address | None
    key: Address | None
    own: tuple[Clause, ...]
    absent: tuple[Clause, ...]
    said: tuple[Clause, ...]
    shields: tuple[Clause, ...] = ()
    kept: Kept | None = None
    unsettled: Clause | None = None
    heap: Heap | None = None
    clustered: bool = False
    until: tuple[Clause, ...] = ()
    copies: Copies | None = field(default=None, compare=False)
    described: dict[str, Any] = field(default_factory=dict, compare=False)

    @property
    def expired(self) -> tuple[Clause, ...]:
        """The whole predicate."""
        return self.own + self.absent + self.said

    @property
    def due(self) -> tuple[Clause, ...]:
        """The predicate but for the shields."""
        return self.own + self.absent[: len(self.absent) - len(self.shields)] + self.said

    @property
    def walked(self) -> bool:
        """Whether an index lets a sweep go through the column in order."""
        return self.selection.table.leads(self.selection.column)

    @property
    def found(self) -> Address:
        """How rows are found again; raises PolicyError where nothing tells them apart."""
        if self.address is None:
            raise PolicyError(f"table {self.selection.table.name!r} has no primary key: add one")
        return self.address

    @property
    def removes_by_look(self) -> bool:
        """Whether the statement that removes locked rows can itself be the second look at them."""
        steered = self.found.steer is not None and (self.absent or self.said)
        return not (steered or self.kept or self.selection.emptied)

    @property
    def decides_alone(self) -> bool:
        """Whether a row says by itself that it is to go, so that whoever locks it need not look a second time."""
        return not (self.absent or self.said or self.kept)

    @property
    def tallied(self) -> tuple[str, ...]:
        """Our own table, and those whose rows go, or are changed, by the database's own rule when rows of ours do."""
        own, paths = self.selection.table.name, self.selection.cascades + self.selection.loosened
        return (
            tuple(dict.fromkeys((own, *(path[-1].table for path in paths))))
            if paths and not (self.selection.emptied or self.selection.shields)
            else ()
        )

    @property
    def noted_first(self) -> bool:
        """Whether what our own rows owe, or are, is read before they go: no statement answers with what they had."""
        selection = self.selection
        read = selection.archived or any(owing.table == selection.table.name for owing in selection.blobs)
        return read and not (self.dialect.returning and selection.action is Action.DELETE)

    @property
    def noted_below(self) -> bool:
        """Whether rows of other tables that go along owe something, or are archived."""
        selection = self.selection
        along = selection.drains or selection.cascades or selection.knots
        owes = any(owing.table != selection.table.name for owing in selection.blobs)
        return owes or (selection.archived and bool(along))

    @property
    def freezes(self) -> bool:
        """Whether what rows owe, or are, can be read before they go without a lock, in a frozen transaction.

        There the delete fails where one of them is not what it was, and so does the database's own rule where another
        row has come to hang on them since. No such rule holds for rows that only links lead to, or that are set free.
        """
        selection = self.selection
        read = selection.archived or bool(selection.blobs)
        if not (read and self.dialect.freezes and selection.action is Action.DELETE) or selection.knots:
            return False
        ends = [path[-1].table for path in selection.cascades + selection.loosened]
        loosened = {(path[-1].table, name) for path in selection.loosened for name in path[-1].columns}
        if selection.table.name in ends or any((owing.table, owing.column) in loosened for owing in selection.blobs):
            return False
        alone = self.decides_alone and self.removes_by_look
        return alone and (selection.form is not Form.LOCKED or (bool(self.tallied) and self.dialect.tallies))

    def looking_up(self, connection: sa.Connection) -> AbstractContextManager[None]:
        """Find what hangs on rows by an index in the block, where there is one all the way down."""
        selection = self.selection
        paths = (*selection.drains, *selection.cascades, *selection.loosened)
        indexed = all(path[-1].indexed for path in paths)
        return self.dialect.by_lookup(connection) if indexed else nullcontext()

    def goes_at_once(self, *, even: bool) -> bool:
        """Whether one statement can take a window of the table, in which there are no more rows than that may take."""
        form = self.selection.form
        if self.noted_first or self.noted_below:
            return False
        if form is not Form.LOCKED:
            return form is Form.RANGE or even
        return even and self.decides_alone and self.removes_by_look and bool(self.tallied) and self.dialect.tallies

    def removal(self, *where: Clause) -> Removal:
        """Compose the statement that takes rows away, or changes them; the whole predicate is in it."""
        return self._removal(*where, *self.expired)

    def removal_of(self, keys: Keys, *, confirmed: bool = False) -> Removal:
        """The same for locked rows; `confirmed` ones have been looked at again since they were locked.

        Nobody but triggers of what was drained since can have changed those, and what these did is no reason to stay.
        """
        found, drained = self.found, confirmed and self.selection.emptied
        # MariaDB is steered only where a condition reads more than the key, be it one that says nothing.
        own = (sa.or_(sa.and_(*self.own), sa.literal_column("1 = 1")),) if drained else self.own
        if found.steer is not None and (confirmed or not (self.absent or self.said)):
            return found.steer(self._removal(found.among(keys), *own))
        return self._removal(found.among(keys), *own, *self.absent, *(() if drained else self.said))

    def _removal(self, *where: Clause) -> Removal:
        if self.selection.action is Action.DELETE:
            return sa.delete(self.table).where(*where)
        given: dict[Any, Any] = {self.table.c[name]: _given(value) for name, value in self.selection.set.items()}
        if self.selection.action is Action.CLEAR:
            given[self.reading.column] = sa.null()
        elif self.dialect.stamps_updates:
            given[self.reading.column] = self.reading.column
        return sa.update(self.table).where(*where).values(given)

    def hanging(self, path: Path, end: sa.TableClause, *parents: Clause, among: sa.FromClause | None = None) -> Clause:
        """Return the predicate for the rows of `end`, the table at a path's end, that hang on the `parents` of ours.

        The parents stay in a select of their own, where a developer's predicate means what it says.
        """
        ours = self.table if among is None else among
        parent = sa.select(*(ours.c[name] for name in path[0].parent_columns)).where(*parents)
        tables = self._tables(path, end)
        hanging: Clause = row(tables[0], path[0].columns).in_(parent)
        if len(path) == 1:
            return hanging
        joined = [
            _pairs(table, above, key) for (above, table), key in zip(pairwise(tables[:-1]), path[1:-1], strict=True)
        ]
        above = sa.select(*(tables[-2].c[name] for name in path[-1].parent_columns))
        below: Clause = row(end, path[-1].columns).in_(above.where(hanging, *joined))
        return below

    def ours(self, again: sa.TableClause, among: sa.FromClause) -> Clause:
        """Return the predicate for those rows of our table, seen a second time, that are `among` some of it."""
        key = self.selection.table.primary_key
        ours: Clause = row(again, key).in_(sa.select(*(among.c[name] for name in key)))
        return ours

    @staticmethod
    def _tables(path: Path, end: sa.TableClause) -> list[sa.TableClause]:
        """Return the tables along a path, with the columns that its steps need."""
        between = [source(key.table, (*key.columns, *below.parent_columns)) for key, below in pairwise(path)]
        return [*between, end]


def aim(connection: sa.Connection, dialect: Dialect, selection: Selection) -> Target:
    """Look at how the column writes time and how rows are addressed; raises PolicyError for a column that does not."""
    if dialect.locks_keys_apart:
        _demand_primary_keys(selection)
    table = source(selection.table.name, selection.table.columns)
    column = selection.table.columns[selection.column]
    reading = dialect.reading(connection, table, column, selection.cut)
    # What is drained may have triggers that change our rows, and a changed row may have another place.
    drains = selection.form is Form.LOCKED and selection.emptied
    key = dialect.key(table, selection.table)
    address = key if drains else dialect.address(connection, table, selection.table)
    kept = keep(connection, dialect, table, selection)
    unsettled = _unsettled(dialect, table, selection)
    due = [] if selection.whenever else [reading.expired]
    own: list[Clause] = [*due, *_singled_out(key, selection), *([] if unsettled is None else [unsettled])]
    absent = [_absent(table, absence, place) for place, absence in enumerate(selection.absences)]
    absent += [kept.enough()] if kept else []
    shields = tuple(_shield(table, shield) for shield in selection.shields)
    absent += [~shield for shield in shields]
    said: list[Clause] = []
    for predicate, suffix in ((selection.where, ""), (selection.hold, " IS NOT TRUE")):
        if predicate is not None:
            # Only the locked form's may have a sub-select: it is the form that looks a second time.
            (said if selection.form is Form.LOCKED else own).append(spelled(predicate, suffix))
    own += _living(dialect, table, selection)
    target = Target(selection, dialect, table, reading, address, key, tuple(own), tuple(absent), tuple(said), shields)
    return replace(target, kept=kept, unsettled=unsettled, **_in_own_order(connection, target))


def _living(dialect: Dialect, table: sa.TableClause, selection: Selection) -> list[Clause]:
    """Keep off the chats whose streams are live."""
    if selection.living is None:
        return []
    name, chats = selection.living
    if name not in table.c:
        near = nearest(name, selection.table.columns)
        raise PolicyError(f"table {selection.table.name!r} has no column {name!r}{near}", key="unless_active_stream")
    return [~dialect.letters(table.c[name]).in_([raw(chat) for chat in chats])] if chats else []


def _in_own_order(connection: sa.Connection, target: Target) -> Mapping[str, Any]:
    """Walk a table in the order it is kept in where the planner would rather read all of it than the time's index.

    Each row of a stretch of that index lies on another page.
    """
    dialect, table, columns = target.dialect, target.selection.table, target.table
    heap, clustered = dialect.heap(connection, columns, table), dialect.clustered(connection, table)
    if heap is None and not clustered:
        return {}
    whole = sa.select(*columns.c if heap is None else [heap.place]).where(target.reading.before)  # as no index holds it
    read_whole = dialect.index_used(connection, whole, table) is None
    return {"heap": heap, "clustered": clustered} if read_whole else {}


def _demand_primary_keys(selection: Selection) -> None:
    """Refuse a reference by another key: locking a row would not keep a new one from being inserted by it."""
    for absence in selection.absences:
        if absence.parent_columns != selection.table.primary_key:
            raise PolicyError(
                f"unless_exists: {absence.table}.{', '.join(absence.columns)} refers to"
                f" {', '.join(absence.parent_columns)} of table {selection.table.name!r}, which is not its primary key:"
                " a row inserted by it in the very moment of a delete could be lost on this database; refer to the"
                " primary key"
            )


def _unsettled(dialect: Dialect, table: sa.TableClause, selection: Selection) -> Clause | None:
    """Return the predicate that a row lacks a value that it is to be known by, if it is to be known by any."""
    for name, value in selection.set.items():
        if isinstance(value, Sql) and not dialect.joins_by_pipes and "||" in value.expression:
            raise PolicyError(f"set gives column {name!r} {value.expression!r}, where || means OR: write CONCAT(…)")
    columns = selection.table.columns
    differing = [dialect.differs(table.c[name], columns[name], _given(selection.set[name])) for name in selection.marks]
    return sa.or_(*differing) if differing else None


def _given(value: Value) -> Clause:
    return spelled(value.expression, "") if isinstance(value, Sql) else raw(value)


def _singled_out(key: Address | None, selection: Selection) -> list[Clause]:
    """Keep to the one row that is meant, or off those that were found to be undeletable."""
    if key is None:
        return []
    only = [key.among([selection.only])] if selection.only is not None else []
    return only + ([~key.among(selection.spared)] if selection.spared else [])


def spelled(predicate: str, suffix: str) -> Clause:
    """Take a predicate word for word, on lines of its own lest it end in a comment."""
    return sa.literal_column(f"(\n{predicate}\n){suffix}")


def _absent(table: sa.TableClause, absence: Absence, place: int) -> Clause:
    other = source(absence.table, absence.columns).alias(f"nightcrew_{place}")
    pairs = zip(absence.columns, absence.parent_columns, strict=True)
    present: sa.Select[Any] = sa.select(sa.literal_column("1")).select_from(other)
    # The parent first: where two columns collate differently, a foreign key compares as its parent does.
    same = [table.c[parent] == other.c[child] for child, parent in pairs]
    return ~present.where(*same).correlate(table).exists()


def _shield(table: sa.TableClause, shield: Shield) -> Clause:
    """Return the predicate that a held row hangs on ours; of all tables only its own has the name that a hold says."""
    below: Named = source(shield.path[-1].table, shield.path[-1].columns)
    found = spelled(shield.hold, " IS TRUE")
    for level, key in reversed(list(enumerate(shield.path))):
        names = (*shield.path[level - 1].columns, *key.parent_columns)
        above = table if level == 0 else source(key.parent, names).alias(f"nightcrew_above_{level}")
        rows: sa.Select[Any] = (
            sa.select(sa.literal_column("1")).select_from(below).where(_pairs(below, above, key), found)
        )
        found, below = rows.correlate(above).exists(), above
    return found


def _pairs(table: Named, above: Named, key: ForeignKey) -> Clause:
    pairs = zip(key.columns, key.parent_columns, strict=True)
    return sa.and_(*(above.c[parent] == table.c[child] for child, parent in pairs))


def row(table: Named, columns: Sequence[str]) -> Any:
    """Return some columns of a table as one value to compare."""
    return table.c[columns[0]] if len(columns) == 1 else sa.tuple_(*(table.c[name] for name in columns))
