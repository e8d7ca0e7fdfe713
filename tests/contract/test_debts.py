"""What is owed to stores, on every database: written in an application's transaction, and settled once and for all."""

import asyncio
import json
from datetime import datetime, timedelta
from threading import Event, Thread

import pytest
import sqlalchemy as sa
from click.testing import CliRunner
from sqlalchemy.orm import Session

from nightcrew import Nightcrew, Policy, Settings
from nightcrew.cli import nightcrew
from nightcrew.console.desk import Desk
from nightcrew.databases.tables import owed
from nightcrew.errors import ConfigurationError, StoreError, UsageError
from nightcrew.outbox import ATTEMPTS, NAME
from nightcrew.outcome import Outcome
from nightcrew.stores.memory import Memory


class Fickle(Memory):
    """A store that would not let go of some blobs, or is away."""

    place = "memory://fickle"

    def __init__(self, **stuck):
        super().__init__()
        self.stuck, self.away, self.asked = stuck, False, []

    def remove(self, keys):
        self.asked.append(list(keys))
        if self.away:
            raise StoreError("memory://fickle does not answer: see that it runs", transient=True)
        super().remove([key for key in keys if key not in self.stuck])
        return {key: self.stuck[key] for key in keys if key in self.stuck}


@pytest.fixture
def store():
    return Fickle()


@pytest.fixture
def crew(database_url, store):
    crew = Nightcrew(database_url, settings=Settings(), blobs={"uploads": store})
    crew.migrate()
    yield crew
    crew.close()


@pytest.fixture
def application(crew):
    """The application's own engine to the same database."""
    engine = sa.create_engine(crew._station.link.engine.url)
    yield engine
    engine.dispose()


def keep(store, *keys):
    for key in keys:
        store.put(key, b"x")


def kept(store):
    return sorted(blob.key for blob in store.page().blobs)


def owe(crew, application, *keys, **more):
    with application.begin() as connection:
        return crew.owe(connection, "uploads", keys, **more)


def drained(crew):
    return crew.run(NAME, now=True)


def hasten(crew):
    """Move what is owed instead of the clock: it is due now, unless it was given up."""
    long_ago = datetime.fromisoformat("2020-01-01T00:00:00+00:00")
    with crew._station.link.transaction() as connection:
        connection.execute(sa.update(owed).where(owed.c.due_at.is_not(None)).values(due_at=long_ago))


def debts(crew):
    with crew._station.link.transaction(writes=False) as connection:
        return sorted(connection.execute(sa.select(owed.c.key)).scalars())


def test_what_is_owed_is_settled_and_forgotten(crew, application, store):
    keep(store, "a", "b", "other")
    assert owe(crew, application, "a", "b", "gone before") == 3
    report = drained(crew)
    assert (report.outcome, report.deleted) == (Outcome.SUCCEEDED, 3)
    assert report.message == "Settled 3 blobs of uploads."
    assert kept(store) == ["other"]
    assert debts(crew) == []
    facts = [entry["facts"] for entry in crew.entries(report.run) if entry["kind"] == "settled"]
    assert facts == [{"store": "uploads", "settled": 3, "kept": 0, "put_off": 0, "failed": 0}]
    assert drained(crew).outcome is Outcome.NOTHING_TO_DO


def test_a_key_is_owed_once_and_none_at_all_not(crew, application):
    assert owe(crew, application, "a", "a", None, "", "ü b/../€") == 2
    assert debts(crew) == ["a", "ü b/../€"]
    owe(crew, application, "a")
    assert drained(crew).deleted == 2  # two debts of one key are settled as one


def test_more_than_a_batch_is_settled_in_one_run(crew, application, store):
    keys = [f"k{number:04}" for number in range(2_100)]
    keep(store, *keys)
    owe(crew, application, *keys)
    assert drained(crew).message == "Settled 2,100 blobs of uploads."
    assert [len(asked) for asked in store.asked] == [1_000, 1_000, 100]
    assert kept(store) == []


WAYS = {
    "session": Session,
    "connection": lambda engine: engine.connect(),
    "driver": lambda engine: engine.raw_connection().driver_connection,
}


@pytest.mark.parametrize("way", WAYS)
def test_it_is_owed_with_what_the_application_commits_and_not_otherwise(crew, application, way):
    connection = WAYS[way](application)
    crew.owe(connection, "uploads", ["rolled back"])
    connection.rollback()
    crew.owe(connection, "uploads", ["a"], not_before=datetime.fromisoformat("2024-05-01T12:00:00+02:00"))
    crew.owe(connection, "uploads", ["b"])
    assert debts(crew) == [] or application.dialect.name == "sqlite"  # a reader of a file waits, or sees what was
    connection.commit()
    connection.close()
    assert debts(crew) == ["a", "b"]
    assert drained(crew).deleted == 2


@pytest.mark.parametrize("way", ["connection", "driver"])
def test_a_connection_in_no_transaction_is_refused(crew, application, way):
    if way == "connection":
        connection = application.execution_options(isolation_level="AUTOCOMMIT").connect()
    else:
        connection = application.raw_connection().driver_connection
        if application.dialect.name == "sqlite":
            connection.isolation_level = None
        elif application.dialect.name == "mysql":
            connection.autocommit(True)
        else:
            connection.autocommit = True
    with pytest.raises(UsageError, match="is in no transaction"):
        crew.owe(connection, "uploads", ["a"])
    if way == "driver":
        assert debts(crew) == []
        connection.cursor().execute("BEGIN")
        crew.owe(connection, "uploads", ["a"])
        connection.rollback()
    connection.close()


def test_what_makes_no_sense_is_refused(crew, application):
    with application.begin() as connection:
        with pytest.raises(UsageError, match=r"there is no store 'uplaods'; did you mean 'uploads'\?"):
            crew.owe(connection, "uplaods", ["a"])
        with pytest.raises(UsageError, match=r"keys is 'abc' \(str\); give a list"):
            crew.owe(connection, "uploads", "abc")
        with pytest.raises(UsageError, match="a key that is owed is 7"):
            crew.owe(connection, "uploads", [7])
        with pytest.raises(UsageError, match="has a NUL in it"):
            crew.owe(connection, "uploads", ["a\0"])
        with pytest.raises(UsageError, match="has no time zone"):
            crew.owe(connection, "uploads", ["a"], not_before=datetime.fromisoformat("2024-01-01"))
    with pytest.raises(UsageError, match="give a SQLAlchemy Session or Connection"):
        crew.owe("postgresql://", "uploads", ["a"])
    with pytest.raises(ConfigurationError, match=r"names store 'upload', which is none; did you mean 'uploads'\?"):
        crew.expire("x", "t", column="c", every="1 hour", blobs=[{"store": "upload", "table": "t", "column": "k"}])


def test_nothing_goes_before_its_time(crew, application, store):
    keep(store, "later", "now")
    owe(crew, application, "later", not_before=crew.clock.now() + timedelta(hours=1))
    owe(crew, application, "now", not_before=crew.clock.now() - timedelta(hours=1))
    assert drained(crew).deleted == 1
    assert kept(store) == ["later"]
    (balance,) = crew.owed()
    assert (balance.due, balance.waiting, balance.failed) == (0, 1, 0)
    hasten(crew)
    assert drained(crew).deleted == 1


def test_a_key_that_a_row_still_has_stays_and_its_debt_is_forgotten(crew, application, store):
    with application.begin() as connection:
        connection.execute(
            sa.text("CREATE TABLE files (id INTEGER PRIMARY KEY, left_at TIMESTAMP NULL, blob_key VARCHAR(99))")
        )
        connection.execute(sa.text("INSERT INTO files (id, blob_key) VALUES (1, 'shared'), (2, 'Mine'), (3, NULL)"))
    crew.expire("sweep-files", "files", column="left_at", every="1 day",
                blobs=[{"store": "uploads", "table": "files", "column": "blob_key"}])  # fmt: skip
    keep(store, "shared", "mine", "free")
    owe(crew, application, "shared", "mine", "free")
    report = drained(crew)
    assert report.message == "Settled 2 blobs of uploads; 1 kept."
    assert kept(store) == ["shared"]
    assert debts(crew) == []


def test_while_a_declared_column_cannot_be_read_nothing_goes(crew, application, store):
    crew.expire("sweep-files", "files", column="left_at", every="1 day",
                blobs=[{"store": "uploads", "table": "files", "column": "blob_key"}])  # fmt: skip
    keep(store, "a")
    owe(crew, application, "a")
    report = drained(crew)
    assert report.outcome is Outcome.FAILED
    assert "table 'files' is not in the database" in report.message
    assert (kept(store), debts(crew)) == (["a"], ["a"])


def test_what_would_not_go_is_tried_again_later_and_given_up_in_the_end(crew, application, store):
    store.stuck = {"stuck": "AccessDenied: no"}
    keep(store, "stuck", "free")
    owe(crew, application, "stuck", "free")
    report = drained(crew)
    assert report.outcome is Outcome.SUCCEEDED
    assert report.message == "Settled 1 blob of uploads; 1 tried again later: stuck (AccessDenied: no)."
    assert drained(crew).outcome is Outcome.NOTHING_TO_DO  # it waits
    for _ in range(ATTEMPTS - 2):
        hasten(crew)
        assert drained(crew).outcome is Outcome.NOTHING_TO_DO
    hasten(crew)
    report = drained(crew)
    assert report.outcome is Outcome.FAILED
    assert "settled 0 blobs of uploads; 1 failed: stuck (AccessDenied: no)" in report.message
    named = [entry["facts"] for entry in crew.entries(report.run) if entry["kind"] == "unsettled"]
    assert named == [{"store": "uploads", "key": "stuck", "attempts": ATTEMPTS, "reason": "AccessDenied: no"}]
    hasten(crew)
    assert drained(crew).outcome is Outcome.NOTHING_TO_DO
    (debt,) = crew.overdue()
    assert (debt.key, debt.attempts, debt.reason, debt.given_up) == ("stuck", ATTEMPTS, "AccessDenied: no", True)
    assert crew.given_up() == {"uploads": 1}
    store.stuck = {}
    assert crew.retry("uploads") == 1
    assert drained(crew).deleted == 1
    assert crew.given_up() == {}


def test_a_store_that_is_away_costs_no_key_an_attempt_and_keeps_no_other_waiting(database_url, store):
    other = Fickle()
    crew = Nightcrew(database_url, settings=Settings(), blobs={"uploads": store, "archive": other})
    crew.migrate()
    store.away = True
    keep(store, "a")
    keep(other, "b")
    engine = sa.create_engine(crew._station.link.engine.url)
    with engine.begin() as connection:
        crew.owe(connection, "uploads", ["a"])
        crew.owe(connection, "archive", ["b"])
    engine.dispose()
    for _ in range(ATTEMPTS + 1):
        report = drained(crew)
        assert report.outcome is Outcome.FAILED
        assert "store uploads (memory://fickle) is away: memory://fickle does not answer" in report.message
    assert kept(other) == []
    assert len(store.asked) == ATTEMPTS + 1
    assert not crew.status()[0].paused
    store.away = False
    assert drained(crew).deleted == 1
    crew.close()


def test_several_drains_at_once_do_no_key_twice(crew, application, store):
    keys = [f"k{number}" for number in range(3_000)]
    keep(store, *keys)
    owe(crew, application, *keys)
    found = []

    def claim():
        while some := crew._station.debts.claim("uploads", 100, 60):
            found.extend(debt.key for debt in some)

    workers = [Thread(target=claim) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(found) == sorted(keys)


def test_whoever_dies_with_a_claim_need_not_give_it_back(crew, application, store):
    keep(store, "a")
    owe(crew, application, "a")
    keep(store, "b")
    owe(crew, application, "b")
    debts = crew._station.debts
    assert [debt.key for debt in debts.claim("uploads", 1, 60.0)] == ["a"]
    assert [debt.key for debt in debts.claim("uploads", 1, 0.01)] == ["b"]
    crew.clock.wait(Event(), 0.1)
    assert drained(crew).deleted == 1, "the one whose claim is over"
    assert [blob.key for blob in store.page().blobs] == ["a"]


def test_the_job_is_one_as_any_other_and_only_where_a_store_is(crew, tmp_path):
    assert crew.jobs[NAME].schedule.describe() == "every minute"
    assert NAME not in Nightcrew(f"sqlite:///{tmp_path}/x.db", settings=Settings()).jobs

    async def call():
        import httpx

        transport = httpx.ASGITransport(crew.asgi)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return (await client.post(f"/api/internal/jobs/{NAME}")).status_code

    assert asyncio.run(call()) == 401


def test_what_is_owed_is_told_on_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stuck_shop.py").write_text(
        "from nightcrew import Nightcrew\nfrom nightcrew.stores.memory import Memory\n"
        "class Stuck(Memory):\n    def remove(self, keys):\n        return {key: 'AccessDenied' for key in keys}\n"
        f"crew = Nightcrew('sqlite:///{tmp_path}/shop.db', blobs={{'uploads': Stuck()}})\n"
    )
    crew = Nightcrew(f"sqlite:///{tmp_path}/shop.db", settings=Settings(), blobs={"uploads": Memory()})
    crew.migrate()
    engine = sa.create_engine(f"sqlite:///{tmp_path}/shop.db")
    owe(crew, engine, "a/b.png", "c.png")
    engine.dispose()

    def command(*words, **how):
        return CliRunner().invoke(nightcrew, words, obj=Desk(app="stuck_shop:crew", **how))

    for _ in range(ATTEMPTS):
        hasten(crew)
        command("run", NAME, "--now")
    result = command("owed")
    assert result.exit_code == 0
    assert "a/b.png" in result.output
    assert "AccessDenied" in result.output
    assert "debts were given up (2 to uploads): 'nightcrew owed' says why" in command("status").output
    body = json.loads(command("owed", "--retry", json=True).output)
    assert body["retried"] == 2
    assert body["stores"][0] | {"oldest": None} == {
        "store": "uploads", "owed": 2, "due": 2, "waiting": 0, "failed": 0, "oldest": None}  # fmt: skip
    assert command("owed", "uplods").exit_code != 0
    crew.close()


def test_a_policy_says_what_it_owes():
    policy = Policy("t", "c", blobs=[{"store": "s", "table": "t", "column": "k"}])
    assert Policy.of(policy.terms) == policy
    assert "blobs" not in Policy("t", "c").terms  # and what was agreed to before there were any still holds
    with pytest.raises(ConfigurationError, match=r"blobs has no 'colum'; did you mean 'column'\?"):
        Policy("t", "c", blobs=[{"store": "s", "table": "t", "colum": "k"}])
    with pytest.raises(ConfigurationError, match="table of an entry of blobs is None"):
        Policy("t", "c", blobs=[{"store": "s", "column": "k"}])
