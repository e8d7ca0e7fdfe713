"""Databases for measuring: the servers that the tests use, with a database of its own for each measure."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

_SERVERS = {
    "postgresql": ("NIGHTCREW_TEST_POSTGRESQL", "postgresql://postgres@127.0.0.1:5432/postgres", "postgresql+psycopg"),
    "mysql": ("NIGHTCREW_TEST_MYSQL", "mysql://root@127.0.0.1:3306/test", "mysql+pymysql"),
}


@contextmanager
def fresh_database(kind: str = "postgresql") -> Iterator[str]:
    """Make an empty database, and drop it afterwards."""
    variable, default, driver = _SERVERS[kind]
    url = sa.make_url(os.environ.get(variable, default)).set(drivername=driver)
    name = f"nightcrew_bench_{uuid.uuid4().hex[:8]}"
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    try:
        yield url.set(database=name).render_as_string(hide_password=False)
    finally:
        with engine.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name}{' WITH (FORCE)' * (kind == 'postgresql')}")
        engine.dispose()
