"""A connection that is lost before or after any COMMIT of the claim protocol: it happened whole or not at all."""

import sqlite3
import time
from collections import Counter
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from tests.conftest import administrator, fresh, server

from nightcrew import Job, Nightcrew, Settings, every
from nightcrew.books import Finished, Registration, Sequel
from nightcrew.claim import Claim
from nightcrew.claims import LOSSES
from nightcrew.databases.tables import entries, jobs, place, runs
from nightcrew.errors import ClaimLost, DatabaseError
from nightcrew.outcome import State

BATCHES = 2
DAILY, HOURLY = every("1 day"), every("1 hour")
effects = sa.Table("effects", sa.MetaData(), sa.Column("run", sa.String(150)), sa.Column("batch", sa.Integer))

KILL = {"postgresql": "SELECT pg_terminate_backend({})", "mysql": "KILL {}"}
ALIVE = {
    "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE pid = {}",
    "mysql": "SELECT count(*) FROM information_schema.processlist WHERE id = {}",
}


@pytest.fixture(scope="module", params=["sqlite", "postgresql", "mysql"])
def pair(request, tmp_path_factory):
    """Two nodes over one database, for all tests here: to open connections takes longer than to lose one."""
    with fresh(request.param, tmp_path_factory.mktemp("dropped")) as url:
        pair = Node(url), Node(url)
        pair[0].crew.migrate()
        with pair[0].link.transaction() as connection:
            connection.execute(sa.schema.CreateTable(effects))
        yield pair
        for node in pair:
            node.crew.close()


@pytest.fixture
def nodes(pair):
    """The same, with nothing in their tables or minds."""
    empty(pair[0])
    for node in pair:
        node.claim = None
        node.crew._station.forget(node.crew.jobs)
    return pair


class Node:
    """A process, what it has claimed, and what a sweep does with that."""

    def __init__(self, url: str) -> None:
        self.crew = Nightcrew(url, settings=Settings(), lease=60)
        self.crew.add(Job("mop", DAILY, function=lambda run: 0))
        self.link, self.books = self.crew._station.link, self.crew._station.books
        self.claims, self.job = self.crew._station.claims, self.crew.jobs["mop"]
        self.claim = None

    def due(self):
        for claim in self.claims.due([self.job], "ticker"):
            self.claims.release(claim)  # no heartbeat: every statement here is made in its turn
            self.claim = claim

    def ask(self, verb):
        answer = verb(self.job, "cli", None)
        if isinstance(answer, Claim):  # else it has it already, and does not know
            self.claims.release(answer)
            self.claim = answer

    def by_hand(self):
        self.ask(self.claims.by_hand)

    def begin(self):
        self.books.begin("mop", self.claim.fence, self.claim.run, 60)

    @property
    def done(self):
        return self.books.progress(self.claim.run)[0].cursor.get("batch", 0)

    def batch(self):
        if (done := self.done) == BATCHES:
            return
        with self.link.transaction(repeatable=True) as connection:
            self.books.hold(connection, "mop", self.claim.fence)
            connection.execute(sa.insert(effects).values(run=self.claim.run, batch=done))
            facts = {"cursor": {"batch": done + 1}, "total": {}}
            self.books.append(connection, self.claim.run, "batch", facts)

    def settle(self, state=State.DONE):
        row = replace(self.books.run(self.claim.run), state=state)
        return self.books.settle("mop", self.claim.fence, row, Sequel())

    def settle_together(self):
        claim = self.claim
        self.books.settle_done([Finished(claim.job.name, claim.fence, claim.run, "it went well", 1)])

    def finish(self):
        """Do all that is left."""
        self.begin()
        while self.done < BATCHES:
            self.batch()
        assert self.settle()

    @property
    def standing(self):
        return self.books.standings(["mop"])[1]["mop"]


def rewrite(node, **values):
    with node.link.transaction() as connection:
        connection.execute(sa.update(jobs).values(**values))


def lapse(node):
    rewrite(node, lease_until=datetime.now(UTC) - timedelta(seconds=1))


# ── the verbs: how things stand before each, and what is done ────────────────────────────────────────────────────────


def registered(node):
    node.crew.status()
    rewrite(node, epoch_at=today() - timedelta(minutes=1))


def claimed(node):
    registered(node)
    node.due()


def begun(node):
    claimed(node)
    node.begin()
    node.batch()


def worked(node):
    begun(node)
    node.batch()


def failed(node):
    begun(node)
    node.settle(State.FAILED)


def left_open(node):
    begun(node)
    lapse(node)


def hopeless(node):
    left_open(node)
    rewrite(node, attempt=LOSSES)


def paused(node):
    registered(node)
    node.books.pause("mop", "alice", "a reason", None)


def stopped(node):
    registered(node)
    node.crew._station.consents.stop("alice", "a reason")


def reschedule(node):
    seen, found = node.books.standings(["mop"])
    meaning = Registration("mop", HOURLY.expression, "UTC", HOURLY.meaning)
    node.books.reschedule(found["mop"], meaning, seen, None)


def resume(node):
    """End the pause, which is not the first thing that the verb writes down."""
    now, found = node.books.standings(["mop"])
    node.claims.end_pause(node.crew.jobs["mop"], found["mop"], now, waits=True)


def take_over_failed(node):
    node.ask(node.claims.of_slot)


VERBS = {
    "register": (lambda node: None, lambda node: node.crew._station.ready(node.crew.jobs, looking=True)),
    "reschedule": (registered, reschedule),
    "claim": (registered, Node.due),
    "claim by hand": (registered, Node.by_hand),
    "take over": (left_open, Node.due),
    "take over what failed": (failed, take_over_failed),
    "begin": (claimed, Node.begin),
    "batch": (begun, Node.batch),
    "renew": (begun, lambda node: node.books.renew(None, "mop", node.claim.fence, 600)),
    "renew all": (begun, lambda node: node.books.renew_all([("mop", node.claim.fence)], 600)),
    "settle": (worked, Node.settle),
    "settle together": (worked, Node.settle_together),
    "hand over": (begun, lambda node: node.settle(State.PARTIAL)),
    "fail": (begun, lambda node: node.settle(State.FAILED)),
    "bury": (hopeless, Node.due),
    "append": (begun, lambda node: node.books.append(None, node.claim.run, "said", {})),
    "pause": (registered, lambda node: node.books.pause("mop", "alice", "a reason", None)),
    "pause a run": (begun, lambda node: node.books.pause("mop", "alice", "a reason", None)),
    "resume": (paused, resume),
    "stop": (registered, lambda node: node.crew._station.consents.stop("alice", "a reason")),
    "release": (stopped, lambda node: node.crew._station.consents.release()),
}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("verb", VERBS)
def test_a_connection_lost_at_a_commit_leaves_all_of_it_or_nothing_and_another_node_goes_on(nodes, verb, when):
    (arrange, act), (node, other) = VERBS[verb], nodes
    arrange(node)
    before = told(node)
    lose(node, act, when)
    assert act is VERBS["register"][1] or (told(node) == before) is (when == "before")
    goes_on(other)
    hold_to_account(other)
    if node.claim is not None and not verb.startswith("settle"):
        with node.link.transaction() as connection, pytest.raises(ClaimLost):
            node.books.hold(connection, "mop", node.claim.fence)


@pytest.mark.parametrize("pair", ["postgresql"], indirect=True)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("verb", VERBS)
def test_who_lost_its_connection_at_a_commit_may_do_it_again(nodes, verb, when):
    (arrange, act), (node, _) = VERBS[verb], nodes
    arrange(node)
    lose(node, act, when)
    act(node)
    goes_on(node)
    hold_to_account(node)


def lose(node, act, when):
    """Do something, and lose the connection around its commit; a registration is tried again at once."""
    told_again = act is VERBS["register"][1] and not node.link.dialect.one_writer
    with dropped(node, when), nullcontext() if told_again else pytest.raises(DatabaseError) as trouble:
        act(node)
    assert told_again or trouble.value.away or node.link.dialect.one_writer


def goes_on(node):
    """Let a node end whatever there is to do, once no lease is in force and nobody keeps it from that."""
    node.crew.resume("mop")
    node.crew.resume_all()
    for _ in range(5):
        lapse(node)
        node.claim = None
        node.due()
        if node.claim is None:
            break
        node.finish()


def hold_to_account(node):
    standing, rows = node.standing, {run.id: run for run in node.crew.runs("mop")}
    assert (standing.run, standing.owner) == (None, None)
    assert all(not row.state.open for row in rows.values())
    assert standing.mark is None or any(row.slot == standing.mark for row in rows.values()), "a slot has no row"
    with node.link.transaction(writes=False) as connection:
        done = Counter(map(tuple, connection.execute(sa.select(effects.c.run, effects.c.batch))))
    assert all(times == 1 for times in done.values()), "a batch was done twice"
    for row in rows.values():
        if row.state is State.DONE:
            assert {batch for run, batch in done if run == row.id} == set(range(BATCHES)), "a batch was lost"


def today():
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def empty(node):
    with node.link.transaction() as connection:
        for table in (entries, runs, jobs, effects):
            connection.execute(sa.delete(table))
        connection.execute(sa.update(place).values(stopped_at=None, stopped_by=None, stopped_reason=None))


def told(node):
    """Return every row of the protocol."""
    with node.link.transaction(writes=False) as connection:
        return [connection.execute(sa.select(table)).all() for table in (jobs, runs, entries, effects, place)]


@contextmanager
def dropped(node, when):
    """Let the server end the connection around the next commit of something written; the next has none of that."""
    dialect, seen = node.link.engine.dialect, []
    commit, kind = dialect.do_commit, dialect.name
    wrote = []

    def note(_connection, _cursor, statement, *_):
        if statement.lstrip().upper().startswith(("INSERT", "UPDATE", "DELETE", "WITH DUE", "WITH ENDED")):
            wrote.append(statement)

    def around(connection):
        if seen or not wrote:
            return commit(connection)
        seen.append(connection)
        if when == "after":
            commit(connection)
        return ended(kind, connection, commit)

    sa.event.listen(node.link.engine, "before_cursor_execute", note)
    dialect.do_commit = around
    try:
        yield
    finally:
        dialect.do_commit = commit
        sa.event.remove(node.link.engine, "before_cursor_execute", note)
    assert seen, "nothing was committed"


def ended(kind, connection, commit):
    """End a connection as the server does, and go on with it as a driver that has not noticed yet."""
    driver = connection.driver_connection
    if kind == "sqlite":
        driver.rollback()
        raise sqlite3.OperationalError("disk I/O error")
    number = driver.info.backend_pid if kind == "postgresql" else driver.thread_id()
    with administrator(server(kind), kind).connect() as admin:
        admin.exec_driver_sql(KILL[kind].format(number))
        while admin.exec_driver_sql(ALIVE[kind].format(number)).scalar_one():
            time.sleep(0.002)
    commit(connection)
    connection.cursor().execute("SELECT 1")
