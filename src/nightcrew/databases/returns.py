"""Rows on their way back: held against their tables as these are now, and inserted as they were."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from graphlib import CycleError, TopologicalSorter
from typing import Any

import sqlalchemy as sa

from nightcrew.archives import frame
from nightcrew.archives.frame import Copy
from nightcrew.archives.undo import EXISTS, SCHEMA, TAKEN, Facts, Reference, Values
from nightcrew.archives.undo import Link as Connects
from nightcrew.database import ForeignKey, Table
from nightcrew.databases.catalog import describe, source, split
from nightcrew.databases.connect import Link
from nightcrew.databases.dialect import Named
from nightcrew.errors import DatabaseError, PolicyError

_LISTED = 400  # rows that are not in a table and that one statement is told
_LOOK = 30.0  # seconds a statement of a plan may take


class Returns:
    """The `Tables` of one database, for one undo: what these are is asked once."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._spelling = link.dialect.spelling
        self._tables: dict[str, Table] = {}
        self._parents: dict[str, list[ForeignKey]] = {}

    @contextmanager
    def looking(self) -> Iterator[sa.Connection]:
        """Open a transaction that changes nothing."""
        with self._link.glimpse(_LOOK) as connection:
            self._spelling.begin(connection)
            yield connection

    @contextmanager
    def restoring(self) -> Iterator[sa.Connection]:
        """Open one in which rows may come in any order."""
        with self._link.transaction() as connection:
            self._spelling.begin(connection)
            with self._spelling.restoring(connection):
                yield connection

    def referred(self, connection: sa.Connection, tables: Iterable[str], links: Sequence[Connects]) -> set[str]:
        """Go by the keys and links that they have now; one that is not there any more has none."""
        found: set[str] = set()
        for name in tables:
            with suppress(PolicyError):
                found.update(
                    parent.name for _, parent, _ in self._keys(connection, self._table(connection, name), links)
                )
        return found

    def facts(
        self, connection: sa.Connection, copy: Copy, places: Sequence[int], links: Sequence[Connects], *, held: bool
    ) -> Facts:
        """Look for the rows' keys, for whatever else only one row may have, and for what they refer to."""
        if not places:
            return Facts()
        try:
            table = self._table(connection, copy.table)
        except PolicyError:
            return Facts(conflicts=dict.fromkeys(places, (SCHEMA, "it is not in the database")))
        if changed := _changed(copy, table):
            return Facts(conflicts=dict.fromkeys(places, (SCHEMA, changed)))
        rows = copy.values
        same, conflicts = self._there(connection, table, copy, rows, places)
        ahead = [place for place in places if place not in same and place not in conflicts]
        for names in table.unique:
            if names != copy.key and {*names} <= {*copy.columns}:
                taken = self._present(connection, table, names, _picked(copy, rows, ahead, names), held=False)
                own = copy.of(names)
                found = [place for place in ahead if tuple(rows[place][column] for column in own) in taken]
                conflicts |= dict.fromkeys(found, (TAKEN, ", ".join(names)))
        references = []
        for columns, parent, referred in self._keys(connection, table, links) if ahead else ():
            values = _picked(copy, rows, ahead, columns)
            there = self._present(connection, parent, referred, values, held=held)
            references.append(Reference(columns, parent.name, referred, there))
        return Facts(same, conflicts, tuple(references))

    def alike(
        self,
        connection: sa.Connection,
        table: str,
        names: Sequence[str],
        known: Collection[Values],
        asked: Collection[Values],
    ) -> set[Values]:
        """Let the database compare them, as it does where one refers to the other."""
        parent, left = self._table(connection, table), list(asked)
        found = set[Values]()
        for part in _parts(list(known), _LISTED) if left else ():
            listed = self._spelling.listed(parent, source(parent.name, names), part)
            if listed is None:
                break
            found |= self._among(connection, parent, listed.subquery("nightcrew_listed"), names, left)
            left = [value for value in left if value not in found]
        return found

    def put_back(self, connection: sa.Connection, copies: Sequence[Copy]) -> None:
        """Insert them, and let what counts keys up go on behind them."""
        order = self._order(connection, [copy.table for copy in copies])
        named = {copy.table: copy for copy in copies}
        tables = [(self._table(connection, name), named[name]) for name in order or named]
        self._spelling.insert(connection, tables, ordered=order is not None)
        for table, copy in tables:
            self._spelling.advance(connection, table, copy)

    def _order(self, connection: sa.Connection, names: Sequence[str]) -> list[str] | None:
        """Put tables after those that they refer to; None where that leads round."""
        above = {
            name: {parent.name for _, parent, _ in self._keys(connection, self._table(connection, name), ())}
            for name in names
        }
        try:
            order = TopologicalSorter(above).static_order()
            return [name for name in order if name in above]
        except CycleError:
            return None

    def demanding(self, connection: sa.Connection, copies: Sequence[Copy]) -> bool:
        """Go by what the database looks at as rows come, if their tables are what they were."""
        if not self._spelling.demanding:
            return False
        try:
            return not any(_changed(copy, self._table(connection, copy.table)) for copy in copies)
        except PolicyError:
            return False

    @contextmanager
    def trial(self, connection: sa.Connection) -> Iterator[None]:
        """Write within a savepoint that nothing is kept of."""
        tried = connection.begin_nested()
        try:
            yield
        finally:
            tried.rollback()

    def attempt(self, connection: sa.Connection, copies: Sequence[Copy]) -> str | None:
        """Insert within a savepoint."""
        try:
            with self._link.renamed(), connection.begin_nested():
                self.put_back(connection, copies)
        except DatabaseError as error:
            if not error.of_row:
                raise
            return str(error)
        return None

    def _table(self, connection: sa.Connection, name: str) -> Table:
        if name not in self._tables:
            self._tables[name] = describe(connection, self._link.dialect, name)
        return self._tables[name]

    def _there(
        self, connection: sa.Connection, table: Table, copy: Copy, rows: Sequence[Sequence[Any]], places: Sequence[int]
    ) -> tuple[set[int], dict[int, tuple[str, str]]]:
        """Find rows by their keys; tell those that are as they were from those that are not."""
        held, by_key = source(table.name, table.columns), dict[Values, int]()
        own = copy.of(copy.key)
        for place in places:
            by_key[tuple(rows[place][column] for column in own)] = place
        written = [self._spelling.written(table.columns[name], held.c[name]) for name in copy.columns]
        line = self._spelling.line(written)
        same, conflicts = set[int](), dict[int, tuple[str, str]]()
        for part in _parts(list(by_key), self._spelling.most):
            among = self._spelling.among(table, held, copy.key, part)
            found = self._spelling.gathered(sa.select(*line).select_from(held).where(among))
            answer = frame.values(self._spelling.heard(connection.execute(found), len(written)).text)
            there = {tuple(one[column] for column in own): one for one in answer}
            for key in self._taken(connection, table, held, copy.key, part, there.keys()):
                if there.get(key) == rows[by_key[key]]:
                    same.add(by_key[key])
                else:
                    conflicts[by_key[key]] = (EXISTS, "")
        return same, conflicts

    def _keys(
        self, connection: sa.Connection, table: Table, links: Sequence[Connects]
    ) -> Iterator[tuple[tuple[str, ...], Table, tuple[str, ...]]]:
        """Return what a table refers to, by the foreign keys that it has now and by links: columns, table, columns."""
        if table.name not in self._parents:
            relation = self._link.dialect.relation(connection, *split(table.name))
            self._parents[table.name] = self._spelling.parents(connection, relation) if relation else []
        for key in self._parents[table.name]:
            yield key.columns, self._table(connection, key.parent), key.parent_columns
        for child, column, above, referred in links:
            if self._table(connection, child).name == table.name:
                parent = self._table(connection, above)
                yield (column,), parent, (referred,) if referred else parent.primary_key

    def _present(
        self,
        connection: sa.Connection,
        table: Table,
        names: Sequence[str],
        values: Sequence[Values],
        *,
        held: bool,
    ) -> set[Values]:
        """Return those values of columns that some row has; what is `held` does not go before we have ended."""
        rows, found = source(table.name, table.columns), set[Values]()
        written = [self._spelling.written(table.columns[name], rows.c[name]) for name in names]
        for part in _parts(values, self._spelling.most):
            these = sa.select(*written).select_from(rows).where(self._spelling.among(table, rows, names, part))
            answer = connection.execute(these.with_for_update(read=True) if held else these)
            there = {*map(tuple, frame.values("\n".join([frame.row(tuple(one)) for one in answer])))}
            found |= self._taken(connection, table, rows, names, part, there)
        return found

    def _taken(
        self,
        connection: sa.Connection,
        table: Table,
        rows: Named,
        names: Sequence[str],
        values: Sequence[Values],
        there: Collection[Values],
    ) -> set[Values]:
        """Return those of some values that rows have, which answered with what is there, however that is written."""
        same = {*values}.intersection(there)
        if len(same) == len({*there}):
            return same
        return same | self._among(connection, table, rows, names, [value for value in values if value not in same])

    def _among(
        self,
        connection: sa.Connection,
        table: Table,
        rows: Named,
        names: Sequence[str],
        values: Sequence[Values],
    ) -> set[Values]:
        """Ask which of some values rows have, by halves: most often it is none of them."""
        found, open_parts = set[Values](), [values] if values else []
        while open_parts:
            part = open_parts.pop()
            one: sa.Select[Any] = sa.select(sa.literal_column("1")).select_from(rows)
            if connection.execute(one.where(self._spelling.among(table, rows, names, part)).limit(1)).first() is None:
                continue
            half = len(part) // 2
            found.update(part if not half else ())
            open_parts += [part[:half], part[half:]] if half else []
        return found


def _picked(copy: Copy, rows: Sequence[Sequence[Any]], places: Sequence[int], names: Sequence[str]) -> list[Values]:
    """Return the values that rows have in some columns, each once, but for those that have none."""
    own = copy.of(names)
    values = dict.fromkeys(tuple(rows[place][column] for column in own) for place in places)
    return [value for value in values if None not in value]


def _parts(values: Sequence[Values], most: int) -> Iterator[Sequence[Values]]:
    return (values[start : start + most] for start in range(0, len(values), most))


def _changed(copy: Copy, table: Table) -> str | None:
    """Say how a table differs from what it was, in what rows of then cannot be without."""
    for name, kind in zip(copy.columns, copy.kinds, strict=True):
        column = table.columns.get(name)
        if column is None or column.computed:
            return f"{name} is {'computed' if column else 'gone'}"
        if column.kind != kind:
            return f"{name} was of type {kind}, and is of type {column.kind}"
    if table.primary_key != copy.key:
        return f"its primary key was {', '.join(copy.key)}, and is {', '.join(table.primary_key) or 'none'}"
    return None
