"""Whatever the schema: of one row, and all that hangs on it, nothing is found anywhere after its erasure."""

import json
import os
import uuid
from collections import Counter
from contextlib import contextmanager

import pytest
import redis
import sqlalchemy as sa
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from tests.model.building import build, fill, photograph
from tests.model.drawing import scenes, schemas
from tests.model.world import HALF, LOOSE

from nightcrew import Nightcrew, Settings
from nightcrew.databases.rows import Rows
from nightcrew.errors import PolicyError
from nightcrew.stores.memory import Memory

EXAMPLES = {"sqlite": 50, "postgresql": 30, "mysql": 25}
CAMPAIGN = {"sqlite": 1500, "postgresql": 600, "mysql": 400}
MARK = "zephyrine"
KEY = "an erasure key of a model"
REDIS = os.environ.get("NIGHTCREW_TEST_REDIS") or "redis://127.0.0.1:6379/7"


@pytest.fixture
def cache():
    """A Redis, and what the names of a test's keys begin with."""
    mine = f"nightcrew-test-{uuid.uuid4().hex[:12]}"
    with redis.Redis.from_url(REDIS, decode_responses=True, socket_connect_timeout=2) as client:
        try:
            client.ping()
        except redis.ConnectionError as error:
            sentence = f"NO REDIS, so nothing was tested with it: {REDIS}: {error}; set NIGHTCREW_TEST_REDIS"
            pytest.fail(sentence) if os.environ.get("CI") == "true" else pytest.skip(sentence)
        yield client, mine
        if left := client.keys(f"{mine}*"):
            client.delete(*left)


def test_a_marker_in_every_row_blob_and_key_is_found_nowhere_afterwards(yard, campaign, figure, cache):
    tally = Counter()

    @settings(
        max_examples=(CAMPAIGN if campaign else EXAMPLES)[yard.kind],
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def check(data):
        schema = data.draw(schemas(yard.kind))
        scene = data.draw(scenes(schema))
        if not scene.rows[schema.root] or not schema.keys[schema.root].columns:
            return
        linked = data.draw(st.frozensets(st.sampled_from(loosened(schema)))) if loosened(schema) else frozenset()
        build(yard, schema)
        fill(yard, schema, scene)
        yard.rows = Rows(yard.link)
        numbers = range(len(scene.rows[schema.root]))
        some = data.draw(st.lists(st.sampled_from(numbers), min_size=1, max_size=4))
        subject = max(some, key=lambda number: len(hanging(schema, scene, number, linked)))
        with town(yard, schema, scene, subject, linked, cache) as place:
            place.play(tally)

    check()
    figure(f"erasures on {yard.kind}", str(dict(tally)))
    assert tally["refused"] < tally["erased"]
    assert tally["rows"] > tally["erased"]


def loosened(schema):
    """Return the references that are set to NULL, and could be links."""
    reached = {schema.root, *(key.child for key in schema.felt(schema.root))}
    return [
        key.name
        for key in schema.references
        if key.rule in LOOSE and key.parent in reached and len(schema.columns(key)) == 1
    ]


def follows(reference, linked):
    return reference.rule not in LOOSE or reference.name in linked


def hanging(schema, scene, subject, linked):
    """Return a row and all that hangs on it, as a page of Python says."""
    found = {(schema.root, subject)}
    ahead = list(found)
    for table, number in ahead:
        for reference in schema.references:
            if reference.parent != table or not follows(reference, linked):
                continue
            for child, row in enumerate(scene.rows[reference.child]):
                parent = row.parents[reference.name]
                if parent not in (None, HALF) and parent == number and (reference.child, child) not in found:
                    found.add((reference.child, child))
                    ahead.append((reference.child, child))
    return found


@contextmanager
def town(yard, schema, scene, subject, linked, cache):
    made = Town(yard, schema, scene, subject, linked, cache)
    try:
        yield made
    finally:
        made.crew.close()


class Town:
    """A drawn world, in which all that hangs on one row is marked."""

    def __init__(self, yard, schema, scene, subject, linked, cache):
        self.yard, self.schema, self.scene, self.subject, self.linked = yard, schema, scene, subject, linked
        self.cache, self.prefix = cache
        self.uploads, self.exports, self.vault = Memory(), Memory(), Memory()
        self.key = [str(value) for value in schema.keys[schema.root].values(subject)]
        root, columns = f"t{schema.root}", schema.keys[schema.root].columns
        mine = "/".join(f"{{{column}}}" for column in columns)
        self.blobs = [{"store": "uploads", "table": f"t{table}", "column": "note"} for table in self.going()]
        settings = Settings(database=None, erasure_key=KEY)
        url = yard.link.engine.url.render_as_string(hide_password=False)
        self.crew = Nightcrew(
            url,
            settings=settings,
            blobs={"uploads": {"url": self.uploads}, "exports": {"url": self.exports}},
            redis=REDIS,
            erasures=self.vault,
        )
        self.terms = {
            "links": [*schema.links(()), *(self.link(name) for name in sorted(linked))],
            "blobs": self.blobs,
            "traces": [
                {"store": "exports", "keys": f"users/{mine}/*"},
                {"store": "redis", "keys": f"{self.prefix}:{mine}|*"},
                {"store": "redis", "keys": f"{self.prefix}:{{note}}"},
            ],
        }
        self.crew.migrate()
        yard.run("DELETE FROM nightcrew_erasures", "DELETE FROM nightcrew_owed")  # of the world before
        if left := self.cache.keys(f"{self.prefix}*"):
            self.cache.delete(*left)
        self.crew.expire(
            "erase", root, column="due", schedule="0 0 1 1 *", erase=True, allow_unindexed=True, **self.terms
        )

    def link(self, name):
        reference = next(one for one in self.schema.references if one.name == name)
        (column,) = self.schema.keys[reference.parent].columns
        return f"t{reference.child}.{name}" + f" = t{reference.parent}.{column}" * (
            reference.parent != self.schema.root
        )

    def going(self):
        tables, ahead = {self.schema.root}, [self.schema.root]
        for table in ahead:
            below = {
                one.child for one in self.schema.references if one.parent == table and follows(one, self.linked)
            } - tables
            tables |= below
            ahead += below
        return sorted(tables)

    def plant(self, marked):
        """Mark every row, with a blob for each, and keys in both other stores."""
        with self.yard.link.transaction() as connection:
            for table, number in marked:
                connection.execute(
                    sa.text(f"UPDATE t{table} SET note = :note WHERE id = :id"),
                    {"note": self.name(table, number), "id": number},
                )
        for table in self.schema.tables:
            for number in range(len(self.scene.rows[table])):
                self.uploads.put(self.name(table, number) if (table, number) in marked else f"t{table}/{number}", b"")
        for number in range(len(self.scene.rows[self.schema.root])):
            key = [str(value) for value in self.schema.keys[self.schema.root].values(number)]
            word = MARK if number == self.subject else "other"
            self.exports.put(f"users/{'/'.join(key)}/{word}", b"")
            self.cache.set(f"{self.prefix}:{'/'.join(key)}|{word}", "x")
        self.cache.set(f"{self.prefix}:{self.name(self.schema.root, self.subject)}", "x")

    @staticmethod
    def name(table, number):
        return f"{MARK}/t{table}/{number}"

    def play(self, tally):
        marked = hanging(self.schema, self.scene, self.subject, self.linked)
        self.plant(marked)
        before = photograph(self.yard, self.schema)
        try:
            closed = self.crew.erase(*self.key, by="model")
        except PolicyError as error:
            note(str(error))
            tally["refused"] += 1
            assert photograph(self.yard, self.schema) == before
            return
        note(closed.receipt)
        assert closed.state == "complete"
        assert MARK not in self.dump()
        after = photograph(self.yard, self.schema)
        left = {(table, number) for table, rows in after.items() for number in rows}
        everything = {(table, number) for table, rows in before.items() for number in rows}
        assert left == everything - marked
        assert {blob.key for blob in self.uploads.page(limit=10_000).blobs} == {f"t{t}/{n}" for t, n in left}
        others = len(self.scene.rows[self.schema.root]) - 1
        assert len(self.exports.page().blobs) == len(self.cache.keys(f"{self.prefix}*")) == others
        self.check_receipt(closed, marked)
        assert self.crew.verify() == []
        tally["erased"] += 1
        tally["rows"] += len(marked)

    def check_receipt(self, closed, marked):
        parts = json.loads(closed.receipt)["parts"]
        removed = {part["place"]: part["removed"] for part in parts if part["how"] in ("delete", "cascade")}
        assert +Counter(removed) == Counter(f"t{table}" for table, _ in marked)
        assert all(part["residual"] == 0 for part in parts)
        assert all(part["found"] == part["removed"] for part in parts if part["how"] in ("delete", "cascade"))
        (keys,) = [part for part in parts if part["place"] == "uploads"]
        assert (keys["found"], keys["removed"], keys["held"]) == (len(marked), len(marked), 0)

    def dump(self):
        """Everything that is kept anywhere, as one text."""
        with self.yard.link.transaction(writes=False) as connection:
            names = sa.inspect(connection).get_table_names()
            whole = "CAST(t AS text)" if self.yard.kind == "postgresql" else "*"  # no driver knows of infinity
            rows = [str(connection.execute(sa.text(f"SELECT {whole} FROM {name} t")).all()) for name in names]
        stores = [
            blob.key for store in (self.uploads, self.exports, self.vault) for blob in store.page(limit=9_999).blobs
        ]
        vault = [str(self.vault.get(blob.key)) for blob in self.vault.page(limit=9_999).blobs]
        return "\n".join([*rows, *stores, *vault, *self.cache.keys(f"{self.prefix}*")])
