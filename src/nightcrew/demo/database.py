"""The demo's database: opened by URL, refused when it is somebody else's, filled when it is new."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, func, inspect, select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from nightcrew.demo.schema import TABLES, VERSION, marker, metadata
from nightcrew.errors import ConfigurationError, DatabaseError, MissingExtra, SafetyStop

_DRIVERS = {
    "sqlite": "sqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mysql+pymysql",
}


class Data:
    """The demo's own connections; `reading` and `writing` each give one short transaction."""

    def __init__(self, url: str) -> None:
        self.url = _readable(url)
        sqlite = self.url.get_backend_name() == "sqlite"
        try:
            # What people wrote stays out of errors, and so out of the log.
            options = {"pool_pre_ping": not sqlite, "hide_parameters": True} | _isolation(sqlite=sqlite)
            self.engine = create_engine(self.url, **options)
        except (NoSuchModuleError, ImportError) as error:
            raise MissingExtra(f"{self.name}: {error}; install nightcrew[postgres] or nightcrew[mysql]") from None
        if sqlite:
            _begin_ourselves(self.engine)
        self._writer = self.engine.execution_options(writing=True)

    @property
    def name(self) -> str:
        """The URL without its password."""
        return self.url.render_as_string(hide_password=True)

    def reading(self) -> AbstractContextManager[Connection]:
        """Open a transaction that only looks."""
        return self.engine.begin()

    def writing(self) -> AbstractContextManager[Connection]:
        """Open a transaction that changes rows; commits unless the block raises."""
        return self._writer.begin()

    def close(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()


def folder_of(url: str, kind: str) -> Path:
    """Return where a database's files or mail are: beside an SQLite file, else in the working folder, by its name."""
    return Path(f"{_readable(url).database or 'tealight'}.{kind}").resolve()


def prepare(data: Data, moment: datetime, seed: Callable[[Connection, datetime], None]) -> bool:
    """Make sure the tables are there and filled; return whether they are new.

    Raises SafetyStop when one of the table names is taken by something the demo did not make: the time machine
    rewrites dates, and must never meet real ones.
    """
    try:
        if _is_ours(data):
            return False
        # MySQL commits each CREATE by itself: the marker goes first, so that a crash midway leaves nothing nameless.
        marker.create(data.engine, checkfirst=True)
        metadata.create_all(data.engine)
        with data.writing() as connection:
            seed(connection, moment)
            connection.execute(marker.insert().values(id=1, version=VERSION, seeded_at=moment, travelled_seconds=0))
    except DBAPIError as error:
        raise DatabaseError(f"{data.name} cannot be used: {_first_line(error)}") from None
    return True


def _is_ours(data: Data) -> bool:
    with data.reading() as connection:
        there = set(inspect(connection).get_table_names())
        taken = sorted({table.name for table in TABLES} & there)
        version = connection.scalar(select(marker.c.version)) if marker.name in there else None
        if version == VERSION:
            return True
        if version is not None:
            raise SafetyStop(f"{data.name} was filled by another version of the demo: give it an empty database")
        begun = marker.name in there and not any(_rows(connection, name) for name in taken)
        if taken and not begun:
            raise SafetyStop(
                f"{data.name} already has a table {taken[0]!r} that the demo did not make, and the time machine"
                " rewrites dates: give the demo an empty database of its own"
            )
    return False


def _rows(connection: Connection, name: str) -> int:
    return connection.scalar(select(func.count()).select_from(metadata.tables[name])) or 0


def _readable(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ConfigurationError("the database is no URL: write sqlite:///file.db or postgresql://…") from None
    driver = _DRIVERS.get(parsed.get_backend_name())
    if driver is None:
        kinds = "sqlite, postgresql, mysql and mariadb"
        raise ConfigurationError(f"database {parsed.get_backend_name()!r} is none of {kinds}")
    if driver == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise ConfigurationError("an SQLite database in memory cannot be shared with the jobs: name a file")
    return parsed.set(drivername=driver)


def _isolation(*, sqlite: bool) -> dict[str, Any]:
    return {"connect_args": {"timeout": 10}} if sqlite else {"isolation_level": "READ COMMITTED"}


def _begin_ourselves(engine: Engine) -> None:
    """Let writers take SQLite's lock at once: a reader that turns writer later would fail instead of waiting."""

    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writing = connection.get_execution_options().get("writing", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


def _first_line(error: DBAPIError) -> str:
    return str(error.orig).strip().splitlines()[0]
