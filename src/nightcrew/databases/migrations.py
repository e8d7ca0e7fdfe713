"""Brings nightcrew's own tables to this version, step by step, and says what it would do as SQL."""

from collections.abc import Callable, Sequence
from threading import Event

import sqlalchemy as sa
from sqlalchemy.schema import CreateIndex, CreateTable

from nightcrew.clock import Clock
from nightcrew.databases.connect import Link
from nightcrew.databases.steps import MIGRATIONS, VERSION, AddColumn, KeepPlain, Statement
from nightcrew.databases.tables import schema
from nightcrew.errors import DatabaseError, SchemaError


class Migrations:
    """The versioned steps, applied to one database."""

    def __init__(self, link: Link, clock: Clock) -> None:
        self._link = link
        self._clock = clock

    def ensure(self) -> None:
        """Make sure the tables are of this version: make them where nightcrew may, else say who must.

        Raises SchemaError for a database that `nightcrew migrate` has not seen, or that a newer nightcrew has, and
        for one that has lost a table: what stood there, a stop of all jobs perhaps, is for a person to give up.
        """
        if self.current:
            return
        found, _ = self._look()
        if not self._link.dialect.migrates_itself:
            missing = "has no nightcrew tables yet" if found == 0 else f"has nightcrew tables of version {found}"
            raise SchemaError(f"database {self._link.name} {missing}: run 'nightcrew migrate' once before you deploy")
        self.apply()

    @property
    def current(self) -> bool:
        """Whether the tables are there, and of this version; raises SchemaError where some of them have gone."""
        found, lost = self._look()
        if lost and found == VERSION:
            raise SchemaError(
                f"database {self._link.name} has lost {_named(lost)} of nightcrew's own: put back what a backup has of"
                " it, or run 'nightcrew migrate' to make it anew and empty"
            )
        return found == VERSION

    def apply(self) -> list[str]:
        """Make anew what has gone, and apply every step that is missing; return a line for each."""
        for attempt in range(6):
            try:
                found, lost = self._look()
                mended = [self._mended(found, lost)] if lost else []
                return mended + [self._step(*step) for step in MIGRATIONS if step[0] > found]
            except SchemaError:
                raise
            except DatabaseError:
                # Of two crews that migrate at once, one loses a race inside the catalog: let the other finish.
                if attempt == 5:
                    raise
                self._clock.wait(Event(), 0.05 * 2**attempt * self._clock.jitter(0.5))
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _look(self) -> tuple[int, list[str]]:
        """Return the newest step the database has seen, 0 for none, and the tables of its steps that are not there.

        Raises SchemaError where that step is a newer nightcrew's.
        """
        # Inside a transaction of ours, for it is there that the schema is known in which the tables are looked for.
        with self._link.transaction(writes=False) as connection:
            catalog = sa.inspect(connection)
            if not catalog.has_table(schema.name):
                return 0, []
            found = connection.execute(sa.select(sa.func.max(schema.c.version))).scalar_one() or 0
            if found > VERSION:
                raise SchemaError(
                    f"database {self._link.name} was migrated by a newer nightcrew (tables of version {found}, this one"
                    f" knows {VERSION}): upgrade nightcrew here too"
                )
            made = (one.element.name for one in _statements(found) if isinstance(one, CreateTable))
            return found, [name for name in made if not catalog.has_table(name)]

    def _mended(self, found: int, lost: Sequence[str]) -> str:
        """Make anew, and empty, the tables that the database has had and lost."""
        with self._link.transaction() as connection:
            _execute(connection, _statements(found))
        return f"made anew, and empty: {_named(lost)}"

    def _step(self, version: int, brings: str, statements: Callable[[], Sequence[Statement]]) -> str:
        with self._link.transaction() as connection:
            connection.execute(CreateTable(schema, if_not_exists=True))
            _execute(connection, statements())
            connection.execute(sa.insert(schema).values(version=version, applied_at=self._clock.now()))
        return f"version {version}: {brings}"

    def sql(self) -> str:
        """Return the statements of every step as SQL, for those who review before they run."""
        dialect = self._link.engine.dialect
        steps = [str(CreateTable(schema).compile(dialect=dialect))]
        for version, brings, statements in MIGRATIONS:
            steps.append(f"\n-- version {version}: {brings}")
            here = (one for one in statements() if not isinstance(one, KeepPlain) or one.only == dialect.name)
            steps.extend(_written(statement, dialect) for statement in here)
            steps.append(f"INSERT INTO {schema.name} (version, applied_at) VALUES ({version}, CURRENT_TIMESTAMP)")
        return "\n".join(step.strip() + (";" if not step.lstrip().startswith("--") else "") for step in steps) + "\n"


def _statements(until: int) -> list[Statement]:
    """Return the statements of the steps up to a version."""
    return [statement for version, _, statements in MIGRATIONS if version <= until for statement in statements()]


def _named(tables: Sequence[str]) -> str:
    return f"the table{'s' * (len(tables) > 1)} {', '.join(tables)}"


def _execute(connection: sa.Connection, statements: Sequence[Statement]) -> None:
    """Execute what is not done yet: not every database takes a step back as a whole, and one may have lost a part."""
    for statement in statements:
        if not _is_done(connection, statement):
            connection.execute(statement)


def _is_done(connection: sa.Connection, statement: Statement) -> bool:
    if isinstance(statement, sa.Insert):
        return connection.execute(sa.select(sa.literal(1)).select_from(statement.table).limit(1)).first() is not None
    if isinstance(statement, KeepPlain):
        return connection.dialect.name != statement.only
    if isinstance(statement, AddColumn):
        column = statement.element
        return any(known["name"] == column.name for known in sa.inspect(connection).get_columns(column.table.name))
    if not isinstance(statement, CreateIndex):
        return False
    index, table = statement.element, statement.element.table
    return table is not None and sa.inspect(connection).has_index(table.name, str(index.name))


def _written(statement: Statement, dialect: sa.Dialect) -> str:
    values = {"literal_binds": True} if isinstance(statement, sa.Insert) else {}
    return str(statement.compile(dialect=dialect, compile_kwargs=values))
