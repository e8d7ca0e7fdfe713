"""Connections of the application's own, in whose transaction something of ours is written: theirs to commit."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from nightcrew.databases.connect import Link
from nightcrew.errors import DatabaseError, UsageError, misfit

_REMEDY = "give a SQLAlchemy Session or Connection, or a connection of the driver"


@contextmanager
def lent(link: Link, connection: object, what: str) -> Iterator[sa.Connection]:
    """Use one of SQLAlchemy's, whose transaction stays the application's to end.

    Raises UsageError for what is none, or leads to another kind of database.
    """
    if not isinstance(connection, sa.Connection):
        wrong = misfit(connection, sa.Connection, "give one of SQLAlchemy's, such as session.connection()")
        raise UsageError(f"connection of a {what} {wrong}")
    _check_kind(link, connection, what)
    with link.renamed():
        link.dialect.teach(connection.connection.dbapi_connection)
        yield connection


def _check_kind(link: Link, connection: sa.Connection, what: str) -> None:
    kind, ours = connection.dialect.name.replace("mariadb", "mysql"), link.engine.dialect.name
    if kind != ours:
        raise UsageError(
            f"connection of a {what} leads to a database of {kind}, and nightcrew's tables are in {link.name}:"
            " give one to the same database"
        )


@dataclass(frozen=True, slots=True)
class Guest:
    """A connection of the application's, SQLAlchemy's or the driver's own, in whose transaction we write."""

    link: Link
    connection: Any
    what: str

    @classmethod
    def of(cls, link: Link, given: Any, what: str) -> "Guest":
        """Take what an application gives: a Session, a Connection, or the driver's; raises UsageError for others."""
        if hasattr(given, "sync_session") or hasattr(given, "sync_connection"):
            raise UsageError(f"connection of a {what} is an async one: write await session.run_sync(lambda given: …)")
        connection = given.connection() if hasattr(given, "get_bind") else given
        if isinstance(connection, sa.Connection):
            _check_kind(link, connection, what)
        elif wrong := misfit(connection, link.engine.dialect.loaded_dbapi.Connection, _REMEDY):
            raise UsageError(f"connection of a {what} {wrong} to {link.name}")
        return cls(link, connection, what)

    @property
    def mark(self) -> str:
        """What stands for a value in a statement of the driver's."""
        return "?" if self.link.engine.dialect.paramstyle == "qmark" else "%s"

    def write(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Write rows by a statement in the driver's own words.

        Raises UsageError where nobody has begun a transaction that they could be a part of.
        """
        if isinstance(self.connection, sa.Connection):
            with self.link.renamed():
                if not self.connection.in_transaction():
                    self.connection.begin()  # as any statement would
                driver = self.connection.connection.dbapi_connection
                self._demand_transaction(driver)
                self.link.dialect.teach(driver)
                self.connection.exec_driver_sql(statement, list(rows))
            return
        self._demand_transaction(self.connection)
        self.link.dialect.teach(self.connection)
        try:
            cursor = self.connection.cursor()
            try:
                cursor.executemany(statement, rows)
            finally:
                cursor.close()
        except self.link.engine.dialect.loaded_dbapi.Error as error:
            raise DatabaseError(self.link.refused(error)) from error

    def _demand_transaction(self, driver: Any) -> None:
        if not self.link.dialect.begun(driver):
            raise UsageError(
                f"connection of a {self.what} is in no transaction (autocommit), so that it would stay whatever becomes"
                " of your own work: begin one, and commit both together"
            )
