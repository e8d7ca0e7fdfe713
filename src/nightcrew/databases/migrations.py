"""Brings nightcrew's own tables to this version, step by step, and says what it would do as SQL."""

from collections.abc import Callable, Sequence
from threading import Event

import sqlalchemy as sa
from sqlalchemy.schema import CreateIndex, CreateTable

from nightcrew.clock import Clock
from nightcrew.databases.connect import Link
from nightcrew.databases.tables import MIGRATIONS, VERSION, Statement, schema
from nightcrew.errors import DatabaseError, SchemaError


class Migrations:
    """The versioned steps, applied to one database."""

    def __init__(self, link: Link, clock: Clock) -> None:
        self._link = link
        self._clock = clock

    def ensure(self) -> None:
        """Make sure the tables are of this version: make them where nightcrew may, else say who must.

        Raises SchemaError for a database that `nightcrew migrate` has not seen, or that a newer nightcrew has.
        """
        found = self.version()
        if found == VERSION:
            return
        if found > VERSION:
            raise SchemaError(
                f"database {self._link.name} was migrated by a newer nightcrew (tables of version {found}, this one"
                f" knows {VERSION}): upgrade nightcrew here too"
            )
        if not self._link.dialect.migrates_itself:
            missing = "has no nightcrew tables yet" if found == 0 else f"has nightcrew tables of version {found}"
            raise SchemaError(f"database {self._link.name} {missing}: run 'nightcrew migrate' once before you deploy")
        self.apply()

    @property
    def current(self) -> bool:
        """Whether the tables are there, and of this version."""
        return self.version() == VERSION

    def version(self) -> int:
        """Return the newest step the database has seen, 0 for none."""
        # Inside a transaction of ours, for it is there that the schema is known in which the tables are looked for.
        with self._link.transaction(writes=False) as connection:
            if not sa.inspect(connection).has_table(schema.name):
                return 0
            return connection.execute(sa.select(sa.func.max(schema.c.version))).scalar_one() or 0

    def apply(self) -> list[str]:
        """Apply every step that is missing; return a line for each."""
        for attempt in range(6):
            found = self.version()
            try:
                return [self._step(*step) for step in MIGRATIONS if step[0] > found]
            except DatabaseError:
                # Of two crews that migrate at once, one loses a race inside the catalog: let the other finish.
                if attempt == 5:
                    raise
                self._clock.wait(Event(), 0.05 * 2**attempt * self._clock.jitter(0.5))
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _step(self, version: int, brings: str, statements: Callable[[], Sequence[Statement]]) -> str:
        with self._link.transaction() as connection:
            connection.execute(CreateTable(schema, if_not_exists=True))
            for statement in statements():
                # Not every database takes a step back as a whole: one that broke off half-way is gone on with.
                if not _is_done(connection, statement):
                    connection.execute(statement)
            connection.execute(sa.insert(schema).values(version=version, applied_at=self._clock.now()))
        return f"version {version}: {brings}"

    def sql(self) -> str:
        """Return the statements of every step as SQL, for those who review before they run."""
        dialect = self._link.engine.dialect
        steps = [str(CreateTable(schema).compile(dialect=dialect))]
        for version, brings, statements in MIGRATIONS:
            steps.append(f"\n-- version {version}: {brings}")
            steps.extend(_written(statement, dialect) for statement in statements())
            steps.append(f"INSERT INTO {schema.name} (version, applied_at) VALUES ({version}, CURRENT_TIMESTAMP)")
        return "\n".join(step.strip() + (";" if not step.lstrip().startswith("--") else "") for step in steps) + "\n"


def _is_done(connection: sa.Connection, statement: Statement) -> bool:
    if isinstance(statement, sa.Insert):
        return connection.execute(sa.select(sa.literal(1)).select_from(statement.table).limit(1)).first() is not None
    if not isinstance(statement, CreateIndex):
        return False
    index, table = statement.element, statement.element.table
    return table is not None and sa.inspect(connection).has_index(table.name, str(index.name))


def _written(statement: Statement, dialect: sa.Dialect) -> str:
    values = {"literal_binds": True} if isinstance(statement, sa.Insert) else {}
    return str(statement.compile(dialect=dialect, compile_kwargs=values))
