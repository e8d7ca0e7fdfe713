"""What each form of a sweep costs, and what people write by hand, beside one bare DELETE of the same rows.

The table is the one that the goals were measured on (random key, three more indexes, some 200 bytes a row, half of it
stale), without a foreign key that points at it and with one: that alone makes a bare DELETE many times slower.
"""

import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from tests.bench.server import fresh_database

from nightcrew import Entry, Nightcrew, Settings

# Rows that are stale; as many are fresh. With more of them, indexes in random order are no longer kept in memory by
# InnoDB, and in a SQLite file every batch writes most of their pages.
ROWS = {"postgresql": 500_000, "mysql": 200_000, "sqlite": 200_000}
if "NIGHTCREW_BENCH_ROWS" in os.environ:
    ROWS = dict.fromkeys(ROWS, int(os.environ["NIGHTCREW_BENCH_ROWS"]))
ROUNDS = 3
CHILDREN = 10  # of each of a quarter as many parents, in the ways that take children along
_SLOW = 10  # times as long as one bare DELETE

_TYPES = {
    "postgresql": {
        "time": "timestamptz",
        "old": "now() - interval '2 hours' - n * interval '1 second'",
        "new": "now() + n * interval '1 second'",
        "key": "md5(n || ' ' || random())",
    },
    "mysql": {
        "time": "datetime",
        "old": "utc_timestamp() - interval 2 hour - interval n second",
        "new": "utc_timestamp() + interval n second",
        "key": "md5(concat(n, ' ', uuid()))",
    },
    "sqlite": {
        "time": "datetime",
        "old": "datetime('now', '-2 hours', '-' || n || ' seconds')",
        "new": "datetime('now', n || ' seconds')",
        "key": "lower(hex(randomblob(16)))",
    },
}
_NUMBERS = {
    "postgresql": "generate_series(1, {0}) AS numbers (n)",
    "mysql": "(SELECT seq AS n FROM seq_1_to_{0}) AS numbers",
    "sqlite": (
        "(WITH RECURSIVE counted (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counted WHERE n < {0})"
        " SELECT n FROM counted) AS numbers"
    ),
}
_MAKE = (
    (
        "CREATE TABLE sessions (id char(32) NOT NULL PRIMARY KEY, user_id bigint NOT NULL, ends_at {time} NOT NULL,"
        " left_at {time}, data varchar(200))"
    ),
    "CREATE INDEX sessions_end ON sessions (ends_at)",
    "CREATE INDEX sessions_left ON sessions (left_at)",
    "CREATE INDEX sessions_user ON sessions (user_id)",
    (
        "CREATE TABLE people (id char(32) NOT NULL PRIMARY KEY, user_id bigint NOT NULL, ends_at {time} NOT NULL,"
        " left_at {time}, data varchar(200))"
    ),
    "CREATE INDEX people_end ON people (ends_at)",
    "CREATE INDEX people_left ON people (left_at)",
    "CREATE INDEX people_user ON people (user_id)",
    (
        "CREATE TABLE letters (id bigint PRIMARY KEY, person_id char(32) NOT NULL,"
        " FOREIGN KEY (person_id) REFERENCES people (id) ON DELETE CASCADE)"
    ),
    "CREATE INDEX letters_person ON letters (person_id)",
    "CREATE TABLE chats (id bigint PRIMARY KEY, at {time} NOT NULL, data varchar(200))",
    "CREATE INDEX chats_at ON chats (at)",
    (
        "CREATE TABLE messages (id bigint PRIMARY KEY, chat_id bigint NOT NULL, data varchar(200),"
        " FOREIGN KEY (chat_id) REFERENCES chats (id) ON DELETE CASCADE)"
    ),
    "CREATE INDEX messages_chat ON messages (chat_id)",
)
_EMPTY = ("DELETE FROM messages", "DELETE FROM chats")
_STALE = "INSERT INTO {table} SELECT {key}, n % 100003 * 7919 % 100003, {old}, {old}, '{pad}' FROM {numbers}"
_CHATS = "INSERT INTO chats SELECT n, {old}, '{pad}' FROM {parents}"
_MESSAGES = "INSERT INTO messages SELECT n, 1 + (n - 1) / 10, '{pad}' FROM {numbers}"
_OLD = {
    "postgresql": "now() - interval '1 hour'",
    "mysql": "utc_timestamp() - interval 1 hour",
    "sqlite": "datetime('now', '-1 hour')",
}


_HISTORY = "SELECT count FROM information_schema.innodb_metrics WHERE name = 'trx_rseg_history_len'"


class _Base(DeclarativeBase):
    pass


class _Row(_Base):
    __tablename__ = "sessions"
    id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(sa.BigInteger)
    ends_at: Mapped[datetime]
    left_at: Mapped[datetime]
    data: Mapped[str]


class Ground:
    """One database with the tables, and the ways to empty them."""

    def __init__(self, kind: str, url: str) -> None:
        self.kind = kind
        self.rows, self.parents = ROWS[kind], ROWS[kind] // 4
        self.batches: list[float] = []
        self.crew = Nightcrew(url, settings=Settings(), listeners=[self._hear])
        old = {"older_than": timedelta(hours=1), "every": "1 hour", "pace": "fast", "max_fraction": 1}
        self.crew.expire("range", "sessions", column="ends_at", **old)
        self.crew.expire("contended", "sessions", column="left_at", **old)
        self.crew.expire("keyed", "people", column="ends_at", **old)
        self.crew.expire("cascade", "chats", column="at", **old)
        self.crew.migrate()
        self.engine = sa.create_engine(self.crew._station.link.engine.url)
        if kind == "sqlite":  # or the bare DELETE would leave the children behind
            sa.event.listen(self.engine, "connect", lambda driver, _: driver.execute("PRAGMA foreign_keys = ON"))
        self.run(*(statement.format(**_TYPES[kind]) for statement in _MAKE))
        for table in ("sessions", "people"):
            words = {**self._words(self.rows), "old": _TYPES[kind]["new"], "table": table}
            self.run(_STALE.format(**words))

    def _hear(self, entry: Entry) -> None:
        """Note the milliseconds of a batch."""
        if entry.kind == "batch":
            self.batches.append(float(entry.facts["ms"]))

    def close(self) -> None:
        self.crew.close()
        self.engine.dispose()

    def run(self, *statements: str) -> None:
        with self.engine.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement.replace("%", "%%") if self.kind != "sqlite" else statement)

    def refill(self, table: str) -> None:
        children = table == "chats"
        words = {**self._words(self.parents * CHILDREN if children else self.rows), "table": table}
        words["parents"] = _NUMBERS[self.kind].format(self.parents)
        whole = "DIV" if self.kind == "mysql" else "/"
        fill = (*_EMPTY, _CHATS, _MESSAGES.replace("/", whole)) if children else (_STALE,)
        self.run(*(statement.format(**words) for statement in fill))
        if self.kind == "postgresql":
            alone = self.engine.execution_options(isolation_level="AUTOCOMMIT")
            with alone.connect() as connection:
                connection.exec_driver_sql("VACUUM ANALYZE sessions, people, chats, messages")
                connection.exec_driver_sql("CHECKPOINT")
        if self.kind == "mysql":
            self._settle()

    def _settle(self, longest: float = 60.0) -> None:
        """Wait until InnoDB has purged what the round before deleted, which it would do during this one."""
        begun = time.monotonic()
        with self.engine.connect() as connection:
            while time.monotonic() - begun < longest:
                if connection.exec_driver_sql(_HISTORY).scalar_one() < 100:
                    break
                time.sleep(0.2)

    def left(self, table: str) -> int:
        """Count what should be gone, and look whether the rest is still there."""
        with self.engine.connect() as connection:
            left = int(connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one())
        return left if table == "chats" else left - self.rows

    def _words(self, rows: int) -> dict[str, str]:
        numbers = _NUMBERS[self.kind].format(rows)
        return {**_TYPES[self.kind], "numbers": numbers, "pad": "x" * 120}

    # ── the ways ─────────────────────────────────────────────────────────────────────────────────────────────────

    def bare(self, table: str = "sessions") -> None:
        self.run(f"DELETE FROM {table} WHERE ends_at < {_OLD[self.kind]}")

    def bare_cascade(self) -> None:
        self.run(f"DELETE FROM chats WHERE at < {_OLD[self.kind]}")

    def swept(self, job: str) -> None:
        report = self.crew.run(job, now=True)
        assert report.outcome.success, report

    def in_limit(self) -> None:
        """Delete by hand, as most people do: `id IN (SELECT … LIMIT n)`."""
        inner = f"SELECT id FROM sessions WHERE ends_at < {_OLD[self.kind]} LIMIT 1000"
        inner = f"SELECT id FROM ({inner}) AS some" if self.kind == "mysql" else inner
        with self.engine.connect() as connection:
            while connection.exec_driver_sql(f"DELETE FROM sessions WHERE id IN ({inner})").rowcount:
                connection.commit()
            connection.commit()

    def django(self) -> None:
        """Delete as Django's queryset does where children or signals need the rows: read the keys, then in hundreds."""
        with Session(self.engine) as session:
            keys = session.scalars(sa.select(_Row.id).where(_Row.ends_at < sa.text(_OLD[self.kind]))).all()
            for start in range(0, len(keys), 100):
                session.execute(sa.delete(_Row).where(_Row.id.in_(keys[start : start + 100])))
            session.commit()

    def orm(self) -> None:
        """Delete object by object, as a loop over SQLAlchemy's session does."""
        with Session(self.engine) as session:
            for row in session.scalars(sa.select(_Row).where(_Row.ends_at < sa.text(_OLD[self.kind]))):
                session.delete(row)
            session.commit()

    def pt_archiver(self) -> None:
        url = self.engine.url
        source = f"h={url.host},P={url.port or 3306},u={url.username},D={url.database},t=sessions,i=sessions_end"
        password = f",p={url.password}" if url.password else ""
        command = ["pt-archiver", "--source", source + password, "--where", f"ends_at < {_OLD['mysql']}", "--purge"]
        subprocess.run(
            [*command, "--bulk-delete", "--limit", "1000", "--commit-each", "--no-check-charset"], check=True
        )


def measure() -> dict[str, Any]:
    """Return, by database, each way's share of the rate of one bare DELETE of the same rows."""
    found = {}
    for kind in ROWS:
        with _ground(kind) as ground:
            lean: dict[str, Callable[[], None]] = {
                "bare": ground.bare,
                "form range": lambda ground=ground: ground.swept("range"),
                "form contended": lambda ground=ground: ground.swept("contended"),
                "id IN (… LIMIT)": ground.in_limit,
                "Django's shape": ground.django,
                "SQLAlchemy's ORM": ground.orm,
            }
            if kind == "mysql" and shutil.which("pt-archiver"):
                lean["pt-archiver"] = ground.pt_archiver
            hung: dict[str, Callable[[], None]] = {
                "bare cascade": ground.bare_cascade,
                "form locked": lambda ground=ground: ground.swept("cascade"),
            }
            keyed: dict[str, Callable[[], None]] = {
                "bare, keyed": lambda ground=ground: ground.bare("people"),
                "form locked, keyed": lambda ground=ground: ground.swept("keyed"),
            }
            found[kind] = {}
            for table, ways in (("sessions", lean), ("people", keyed), ("chats", hung)):
                found[kind] |= _compare(ground, ways, table)
    return found


@contextmanager
def _ground(kind: str) -> Iterator[Ground]:
    with tempfile.TemporaryDirectory() as folder:
        if kind == "sqlite":
            ground = Ground(kind, f"sqlite:///{Path(folder)}/bench.db")
            with ground.engine.connect() as connection:  # as the goal was measured, and as web applications have it
                connection.exec_driver_sql("PRAGMA journal_mode = WAL")
            yield ground
            ground.close()
            return
        with fresh_database(kind) as url:
            ground = Ground(kind, url)
            yield ground
            ground.close()


def _compare(ground: Ground, ways: dict[str, Callable[[], None]], table: str) -> dict[str, float]:
    """Time every way in turn, several times over; the first way is what the others are held against."""
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    batches: dict[str, list[float]] = {way: [] for way in ways}
    first = next(iter(ways))
    for _ in range(ROUNDS):
        for way, go in ways.items():
            if seconds[way] and seconds[way][0] > _SLOW * seconds[first][0]:
                continue  # once was enough to see
            ground.refill(table)
            ground.batches = batches[way]
            begun = time.perf_counter()
            go()
            seconds[way].append(time.perf_counter() - begun)
            assert ground.left(table) == 0, way
    medians = {way: statistics.median(times) for way, times in seconds.items()}
    rows = f"{ground.parents:,} rows with {CHILDREN} children each" if table == "chats" else f"{ground.rows:,} rows"
    rows += " of a table that another refers to" if table == "people" else ""
    print(f"{ground.kind}, {rows}:")
    for way, median in medians.items():
        share = f"{medians[first] / median:6.3f} of the rate of {first}"
        print(f"  {way:18} {median:7.2f} s   {share}{_spread(batches[way])}")
    return {way: medians[first] / median for way, median in medians.items()}


def _spread(batches: list[float]) -> str:
    """Say how long batches took."""
    if len(batches) < 2:
        return ""
    p99 = statistics.quantiles(batches, n=100, method="inclusive")[98]
    return f"; {len(batches)} batches, p50 {statistics.median(batches):.0f} ms, p99 {p99:.0f} ms"
