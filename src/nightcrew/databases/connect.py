"""A URL → a Link: SQLAlchemy's engine, the dialect's answers, and transactions with renamed errors."""

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from nightcrew.clock import Clock
from nightcrew.databases.dialect import Dialect
from nightcrew.databases.mysql import MySQL
from nightcrew.databases.postgresql import PostgreSQL
from nightcrew.databases.sqlite import SQLite
from nightcrew.errors import ConfigurationError, DatabaseError, MissingExtra, did_you_mean


@dataclass(frozen=True, slots=True)
class Kind:
    """What a URL's scheme stands for: SQLAlchemy's driver name, the dialect, and the extra that installs the driver."""

    driver: str
    dialect: type[Dialect]
    extra: str | None


_POSTGRESQL = Kind("postgresql+psycopg", PostgreSQL, "postgres")
_MYSQL = Kind("mysql+pymysql", MySQL, "mysql")
_SQLITE = Kind("sqlite", SQLite, None)
_KINDS: Mapping[str, Kind] = {
    "postgresql": _POSTGRESQL,
    "postgres": _POSTGRESQL,
    "postgresql+psycopg": _POSTGRESQL,
    "mysql": _MYSQL,
    "mariadb": _MYSQL,
    "mysql+pymysql": _MYSQL,
    "mariadb+pymysql": _MYSQL,
    "sqlite": _SQLITE,
}
_BUSY = "; somebody else holds what it needs: try again"
_GONE = "; see that it runs, and what its URL says"
_SHORT_REST = 0.2  # seconds
# MySQL: no server there, lost while asking, too many connections, access denied, unknown database
_AWAY = {2002, 2003, 2006, 2013, 1040, 1044, 1045, 1049}
# MySQL: duplicate entry, truncated or incorrect values
_QUOTES_VALUES = {1062, 1264, 1265, 1292, 1366, 1411, 1525}
# Prisma writes these into DATABASE_URL for its own pool; the driver would refuse them.
_OTHERS_OPTIONS = ("connection_limit", "pool_timeout", "pgbouncer", "statement_cache_size", "socket_timeout")

_S = TypeVar("_S", bound=sa.Executable)


class Link:
    """One database: connections are opened on first use and pooled; so many `losses` of one were noticed."""

    def __init__(self, url: str, clock: Clock) -> None:
        parsed, kind = _parse(url)
        self.name = _name(parsed)
        parsed = parsed.set(drivername=kind.driver).difference_update_query(_OTHERS_OPTIONS)
        self.monotonic = clock.monotonic
        self._secrets = [secret for secret in (parsed.password, *_query_values(parsed)) if len(str(secret or "")) > 3]
        self.dialect: Dialect = kind.dialect()
        parsed = self.dialect.accept(parsed)
        try:
            self.engine = sa.create_engine(parsed, hide_parameters=True, **self.dialect.engine_options())
        except ModuleNotFoundError as error:
            raise MissingExtra(
                f"database {self.name} needs the driver {error.name!r}, which is not installed:"
                f" pip install 'nightcrew[{kind.extra}]'"
            ) from None
        except (sa.exc.ArgumentError, TypeError, ValueError) as error:
            raise ConfigurationError(f"database URL {self.name} cannot be used: {_first_line(error)}") from None
        sa.event.listen(self.engine, "do_connect", self._connected)
        self.dialect.prepare(self.engine, clock)
        self._kept: dict[Callable[[Link], sa.Executable], sa.Executable] = {}
        self.losses = 0
        sa.event.listen(self.engine, "handle_error", lambda error: self._lost() if error.is_disconnect else None)
        _ping_after_a_rest(self.engine, clock, self._lost)

    @contextmanager
    def transaction(
        self, *, writes: bool = True, repeatable: bool = False, fast: bool = False
    ) -> Iterator[sa.Connection]:
        """Open a transaction; it commits unless the block raises. Raises DatabaseError for the driver's errors.

        What a `repeatable` one did may be done again after the server has crashed, so its commit need not wait for
        the disk; the next commit that does wait makes it last, too. A `fast` one need leave others nothing.
        """
        with self.renamed(), self.engine.connect() as connection, connection.begin():
            self.dialect.begin(connection, writes=writes, repeatable=repeatable, fast=fast)
            yield connection

    @contextmanager
    def glimpse(self, seconds: float) -> Iterator[sa.Connection]:
        """Open a transaction that can change nothing, and whose statements take no longer than so many seconds each."""
        with self.renamed(), self.engine.connect() as connection, connection.begin() as transaction:
            self.dialect.begin(connection, writes=False, repeatable=False)
            with self.dialect.glimpse(connection, seconds):
                yield connection
            transaction.rollback()

    def kept(self, make: "Callable[[Link], _S]") -> _S:
        """Return the statement that a function makes, which is made once: hundreds a second take their time."""
        if make not in self._kept:
            self._kept[make] = make(self)
        return self._kept[make]  # type: ignore[return-value]

    def require(self) -> None:
        """Raise DatabaseError for a file that is not there, which a connection would make; a server is not asked."""
        if (file := self.dialect.missing(self.engine.url)) is not None:
            raise DatabaseError(
                f"database {self.name} does not exist: there is no file {file}; correct the path, or make it with"
                " 'nightcrew migrate'",
                transient=True,
                away=True,
                link=self,
            )

    def now(self) -> datetime:
        """Return the database's clock, in UTC."""
        with self.transaction(writes=False) as connection:
            now: datetime = connection.execute(sa.select(self.clock_reading())).scalar_one()
            return now

    def clock_reading(self) -> sa.ColumnElement[datetime]:
        """Return the database's clock as a typed expression named `now`."""
        return sa.type_coerce(sa.literal_column(self.dialect.now), Instant()).label("now")

    @contextmanager
    def renamed(self) -> Iterator[None]:
        """Rename the driver's errors: one sentence without the statement, whose parameters may be personal data."""
        try:
            yield
        except sa.exc.DBAPIError as error:
            away = error.connection_invalidated or (isinstance(error, sa.exc.OperationalError) and _is_away(error))
            what = "cannot be reached" if away else "refused a statement"
            message = f"database {self.name} {what}: {self._censored(_without_values(error.orig))}"
            busy = not away and self.dialect.transient(error)
            raise DatabaseError(
                message + (_BUSY if busy else _GONE if away else ""),
                transient=away or busy,
                away=away,
                of_row=self.dialect.of_row(error),
                of_statement=self.dialect.of_statement(error),
                link=self,
            ) from error
        except sa.exc.TimeoutError as error:
            raise DatabaseError(f"database {self.name} has no free connection in the pool", transient=True) from error

    def refused(self, error: BaseException) -> str:
        """Say what the driver says of a statement that was not ours to send."""
        return f"database {self.name} refused a statement: {self._censored(_without_values(error))}"

    def _connected(self, dialect: sa.Dialect, _record: object, arguments: Any, options: Any) -> Any:
        """Open a connection; what a driver trips over before it has reached any server is an option of the URL."""
        try:
            return dialect.connect(*arguments, **options)
        except dialect.loaded_dbapi.OperationalError:
            raise
        except (
            TypeError,
            AttributeError,
            ValueError,
            LookupError,
            OSError,
            dialect.loaded_dbapi.ProgrammingError,
        ) as error:
            what = self._censored(_first_line(error)).replace("Connection.__init__() got an ", "")
            raise ConfigurationError(
                f"database URL {self.name} has an option that the driver cannot use ({what}): check what follows the ?"
            ) from error

    @property
    def moment(self) -> sa.ColumnElement[datetime]:
        """The database's clock as a typed expression."""
        return sa.type_coerce(sa.literal_column(self.dialect.now), Instant())

    def later(self, seconds: float) -> sa.ColumnElement[datetime]:
        """Return the database's clock so many seconds from now as a typed expression."""
        later = self.dialect.later.format(micros=micros(seconds))
        return sa.type_coerce(sa.literal_column(later), Instant())

    def _lost(self) -> None:
        self.losses += 1

    def close(self) -> None:
        """Close every pooled connection; one that is in use is closed as soon as it is not.

        So is one that a thread which has not heard of it yet opens now.
        """
        pool = self.engine.pool
        self.engine.dispose()
        for each in (pool, self.engine.pool):
            sa.event.listen(each, "checkin", lambda _connection, record: record.invalidate())
        pool.dispose()  # what came back between the two

    def forget(self) -> None:
        """Leave every pooled connection to the parent process, whose they are after a fork."""
        self.engine.dispose(close=False)

    def _censored(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(str(secret), "***")
        return text


def _ping_after_a_rest(engine: sa.Engine, clock: Clock, lost: Callable[[], None]) -> None:
    """Replace a connection that died in the pool before anybody uses it, and tell that it was `lost`.

    One that was in use a moment ago is taken as it is: a sweep's batches follow each other closely, and a question
    before each would cost them more than their fence does.
    """

    def rested(_connection: Any, record: Any) -> None:
        record.info["rested_at"] = clock.monotonic()

    def asked_for(connection: Any, record: Any, _proxy: Any) -> None:
        if clock.monotonic() - record.info.get("rested_at", clock.monotonic()) < _SHORT_REST:
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            lost()
            raise sa.exc.DisconnectionError from error

    sa.event.listen(engine, "checkin", rested)
    sa.event.listen(engine, "checkout", asked_for)


class Instant(sa.types.TypeDecorator[datetime]):
    """An aware instant in UTC, to the microsecond, in every database."""

    impl = sa.DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        """Choose the column type that keeps microseconds."""
        if dialect.name == "mysql":
            return dialect.type_descriptor(mysql.DATETIME(fsp=6))
        return dialect.type_descriptor(sa.DateTime(timezone=dialect.name == "postgresql"))

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Write UTC, without the zone where the column has none."""
        if value is None:
            return None
        moment = value.astimezone(UTC)
        return moment if dialect.name == "postgresql" else moment.replace(tzinfo=None)

    def result_processor(self, dialect: sa.Dialect, coltype: object) -> Callable[[Any], Any] | None:
        """Take what PostgreSQL's driver reads as it is: every transaction has set the time zone to UTC."""
        return None if dialect.name == "postgresql" else super().result_processor(dialect, coltype)

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> datetime | None:
        """Read UTC."""
        if value is None:
            return None
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)  # type: ignore[no-any-return]


def storable(text: str, longest: int) -> str:
    """Return a text that every database takes: without NUL and lone surrogates, and not too long for its column."""
    clean = text.replace("\0", "\N{SYMBOL FOR NULL}").encode("utf-8", "replace").decode()
    return clean if len(clean) <= longest else f"{clean[: longest // 2 - 1]}…{clean[-longest // 2 + 1 :]}"


def micros(seconds: float) -> int:
    """Return seconds as the whole microseconds that SQL counts in."""
    return round(seconds * 1_000_000)


def _parse(url: str) -> tuple[sa.URL, Kind]:
    scheme = url.partition(":")[0].strip().lower()
    kind = _KINDS.get(scheme)
    if kind is None or "://" not in url:
        raise ConfigurationError(f"database URL {_unknown(scheme, url)} (postgresql://…, mysql://…, sqlite:///file)")
    try:
        parsed = sa.make_url(url.strip())
    except (sa.exc.ArgumentError, ValueError):
        raise ConfigurationError(
            f"database URL ({scheme}://…) cannot be read: check its port and the escaping of its password"
        ) from None
    if any("@" in str(part or "") for part in (parsed.host, parsed.database, parsed.username)):
        raise ConfigurationError(
            f"database URL ({scheme}://…) has more than one @: write the password's as %40, / as %2F"
        )
    if kind is not _SQLITE and not parsed.database:
        raise ConfigurationError(f"database URL {_name(parsed)} names no database: add it, as in …/acme")
    if kind is _SQLITE and parsed.database in (None, "", ":memory:"):
        raise ConfigurationError(
            "database URL sqlite:// names no file: a database in memory is private to one connection"
        )
    return parsed, kind


def _unknown(scheme: str, url: str) -> str:
    """Say what is wrong with a scheme; where it is none, what stands before an @ may be a password."""
    if "@" in scheme or ("@" in url and "://" not in url):
        return "does not begin with a word and ://, so that nightcrew does not know what it means"
    known = ("postgresql", "mysql", "sqlite")
    return f"begins with {scheme[:30]!r}, which nightcrew does not know{did_you_mean(scheme, known)}"


def _name(url: sa.URL) -> str:
    """Return a URL as it was given, without its password and without its query, where drivers take passwords too."""
    bare = url.set(query={}).render_as_string(hide_password=True)
    return str(bare)


def _query_values(url: sa.URL) -> list[str]:
    return [str(value) for key, value in url.query.items() if "pass" in key.lower()]


def _is_away(error: sa.exc.OperationalError) -> bool:
    """Tell a connection that never came to be, which no driver marks as lost."""
    if type(error.orig).__module__.startswith("psycopg"):
        return getattr(error.orig, "sqlstate", None) is None
    if getattr(error.orig, "sqlite_errorcode", None) == sqlite3.SQLITE_CANTOPEN:
        return True
    return error.orig is not None and next(iter(error.orig.args), None) in _AWAY


def _without_values(error: BaseException | None) -> str:
    """Return what the driver says, unless that quotes a row's values, which may be personal data."""
    state, number = str(getattr(error, "sqlstate", None) or ""), next(iter(getattr(error, "args", ())), None)
    if state.startswith("22") or number in _QUOTES_VALUES:
        return f"{type(error).__name__} ({state or number}): a value does not fit what the statement does with it"
    return _first_line(error).partition(" with text ")[0]


def _first_line(error: object) -> str:
    text = str(error.args[1]) if isinstance(error, Exception) and len(error.args) == 2 else str(error)
    return text.strip().partition("\n")[0]
