"""One person is erased: all that is theirs goes, what is not stays, and a receipt proves it."""

import json
from datetime import UTC, datetime, timedelta
from threading import Event

import pytest
import sqlalchemy as sa

from nightcrew import Nightcrew, Settings
from nightcrew.databases.tables import entries, erasures, owed
from nightcrew.erased import subject_of
from nightcrew.errors import ConfigurationError, PolicyError, SafetyStop, StoreError, UsageError
from nightcrew.owing import Trace
from nightcrew.stores.memory import Memory

KEY = "an erasure key of a test"
MARK = "Zephyrine"
SCHEMA = (
    (
        "CREATE TABLE users (id {number} PRIMARY KEY, email {text}, left_at {time}, avatar {text}, boss_id {number},"
        " FOREIGN KEY (boss_id) REFERENCES users (id) ON DELETE SET NULL)"
    ),
    "CREATE INDEX users_boss ON users (boss_id)",
    (
        "CREATE TABLE chats (id {number} PRIMARY KEY, user_id {number} NOT NULL, title {text},"
        " FOREIGN KEY (user_id) REFERENCES users (id))"
    ),
    "CREATE INDEX chats_user ON chats (user_id)",
    (
        "CREATE TABLE messages (id {number} PRIMARY KEY, chat_id {number} NOT NULL, above {number}, body {text},"
        " blob_key {text}, FOREIGN KEY (chat_id) REFERENCES chats (id) ON DELETE CASCADE,"
        " FOREIGN KEY (above) REFERENCES messages (id) ON DELETE CASCADE)"
    ),
    "CREATE INDEX messages_chat ON messages (chat_id)",
    "CREATE INDEX messages_above ON messages (above)",
    "CREATE TABLE visits (id {number} PRIMARY KEY, user_id {number}, page {text})",
    "CREATE INDEX visits_user ON visits (user_id)",
    (
        "CREATE TABLE notes (id {number} PRIMARY KEY, owner_id {number}, body {text},"
        " FOREIGN KEY (owner_id) REFERENCES users (id) ON DELETE SET NULL)"
    ),
    "CREATE INDEX notes_owner ON notes (owner_id)",
    (
        "CREATE TABLE invoices (id {number} PRIMARY KEY, user_id {number}, total {number},"
        " FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE SET NULL)"
    ),
    "CREATE INDEX invoices_user ON invoices (user_id)",
)
TABLES = ("users", "chats", "messages", "visits", "notes", "invoices")


class House:
    """A database with two people in it, and what stores have of them."""

    def __init__(self, yard, url, **terms):
        self.yard, self.uploads, self.exports, self.vault = yard, Memory(), Memory(), Memory()
        self.terms = {
            "erase": True,
            "links": ["visits.user_id", "notes.owner_id"],
            "keep": {"invoices.user_id": "tax law, 10 years", "users.boss_id": "it is nobody's but theirs"},
            "blobs": [
                {"store": "uploads", "table": "messages", "column": "blob_key"},
                {"store": "uploads", "table": "users", "column": "avatar"},
            ],
            "traces": [{"store": "exports", "keys": "users/{id}/*"}, {"store": "exports", "keys": "mail/{email}.zip"}],
            **terms,
        }
        self.url, self.crews = url, []
        yard.run(*SCHEMA)
        self.crew().migrate()
        for person in (4, 42):
            self.move_in(person)

    def crew(self, key=KEY, **parts):
        given = {"uploads": {"url": self.uploads}, "exports": {"url": self.exports}}
        made = Nightcrew(self.url, settings=Settings(erasure_key=key), blobs=given, **{"erasures": self.vault, **parts})
        made.expire("erase-users", "users", column="left_at", schedule="0 0 1 1 *", max_fraction=1, **self.terms)
        self.crews.append(made)
        return made

    def move_in(self, person):
        mark, n = f"{MARK}{person}", person * 1000
        self.yard.run(f"DELETE FROM invoices WHERE id IN ({n}, {n + 1})")
        self.yard.fill("users", {"id": person, "email": f"{mark}@x", "avatar": f"face/{mark}"})
        self.yard.fill("chats", *({"id": n + i, "user_id": person, "title": mark} for i in (1, 2)))
        self.yard.fill(
            "messages",
            *(
                {"id": n + i, "chat_id": n + 1 + i % 2, "above": n + i - 1 if i > 1 else None, "body": mark,
                 "blob_key": f"blob/{mark}/{i}" if i % 2 else None}
                for i in range(1, 8)
            ),
        )  # fmt: skip
        self.yard.fill("visits", *({"id": n + i, "user_id": person, "page": mark} for i in range(3)))
        self.yard.fill("notes", {"id": n, "owner_id": person, "body": mark})
        self.yard.fill("invoices", *({"id": n + i, "user_id": person, "total": 7} for i in range(2)))
        for key in (f"face/{mark}", *(f"blob/{mark}/{i}" for i in range(1, 8, 2))):
            self.uploads.put(key, mark.encode())
        for key in (f"users/{person}/a.zip", f"users/{person}/b/c.zip", f"mail/{mark}@x.zip"):
            self.exports.put(key, mark.encode())

    def dump(self):
        """Everything that is kept anywhere, as one text."""
        with self.yard.link.transaction(writes=False) as connection:
            names = sa.inspect(connection).get_table_names()
            rows = [str(connection.execute(sa.select(sa.text("*")).select_from(sa.table(n))).all()) for n in names]
        return "\n".join([*rows, *self.keys(self.uploads), *self.keys(self.exports), *self.vaulted()])

    def vaulted(self):
        return [str(self.vault.get(key)) for key in self.keys(self.vault)]

    @staticmethod
    def keys(store):
        return [blob.key for blob in store.page(limit=10_000).blobs]

    def count(self, person):
        return {table: sum(person in (n, n // 1000) for n in self.yard.ids(table)) for table in TABLES}


@pytest.fixture
def house(yard, database_url):
    made = House(yard, database_url)
    yield made
    for crew in made.crews:
        crew.close()


def parts(closed):
    return {(part["place"], part["what"]): part for part in json.loads(closed.receipt)["parts"]}


def test_all_of_one_person_goes_and_nothing_of_another(house):
    before = house.count(42)
    closed = house.crew().erase(4, by="ann")
    assert (closed.state, closed.number) == ("complete", 1)
    assert f"{MARK}4" not in house.dump().replace(f"{MARK}42", "")
    assert house.count(4) == {**dict.fromkeys(TABLES, 0), "invoices": 2}
    assert house.count(42) == before
    assert {f"users/42/{name}" for name in ("a.zip", "b/c.zip")} <= {*house.keys(house.exports)}
    assert len(house.keys(house.uploads)) == 5
    found = parts(closed)
    assert {key: part["removed"] for key, part in found.items() if part["removed"]} == {
        ("users", "id"): 1, ("chats", "user_id"): 2, ("messages", "rows of rows"): 7,
        ("visits", "user_id"): 3, ("notes", "owner_id"): 1,
        ("uploads", "keys of its rows"): 5, ("exports", "users/{id}/*"): 2, ("exports", "mail/{email}.zip"): 1,
    }  # fmt: skip


def test_whoever_is_not_to_be_erased_is_counted_only(house):
    crew, before = house.crew(), (house.count(4), house.keys(house.uploads), house.keys(house.exports))
    found = crew.erasure(4)
    assert (house.count(4), house.keys(house.uploads), house.keys(house.exports)) == before
    assert house.vaulted() == []
    assert {(part.place, part.what): (part.found, part.held) for part in found.parts} == {
        ("users", "rows"): (1, 0), ("users", "boss_id"): (0, 0), ("chats", "rows"): (2, 0),
        ("messages", "rows"): (7, 0), ("visits", "rows"): (3, 0), ("notes", "rows"): (1, 0),
        ("invoices", "user_id"): (2, 2), ("uploads", "keys in messages.blob_key"): (4, 0),
        ("uploads", "keys in users.avatar"): (1, 0), ("exports", "users/{id}/*"): (2, 0),
        ("exports", "mail/{email}.zip"): (1, 0),
    }  # fmt: skip
    with pytest.raises(UsageError, match="has no row"):
        crew.erase(5, by="ann")
    with pytest.raises(UsageError, match="known by id: give 1 values"):
        crew.erase(4, 2, by="ann")


def test_a_job_erases_everybody_whose_time_has_come_with_a_receipt_each(house):
    house.yard.run("UPDATE users SET left_at = '2020-01-01 00:00:00'")
    house.move_in(7)
    report = house.crew().run("erase-users", trigger="test", now=True)
    assert (report.outcome, report.deleted, report.remaining) == ("succeeded", 2, 0)
    assert report.counts == {"users": 2, "chats": 4, "messages": 14, "visits": 6, "notes": 2}
    left = house.dump().replace(f"{MARK}7", "")
    assert MARK not in left
    assert [said["result"] for said in house.crew().receipts()] == ["complete", "complete"]
    assert house.crew().verify() == []


class Moody(Memory):
    """A store that is away at times, and may refuse some keys."""

    away, refuses = False, ()

    def page(self, *args, **options):
        self._be_there()
        return super().page(*args, **options)

    def put(self, key, data):
        self._be_there()
        super().put(key, data)

    def remove(self, keys):
        self._be_there()
        refused = {key: f"AccessDenied: {key}" for key in keys if key in self.refuses}
        return refused | super().remove([key for key in keys if key not in refused])

    def _be_there(self):
        if self.away:
            raise StoreError("memory:// cannot be reached: it is a test", transient=True)


def problems(closed):
    return json.loads(closed.receipt)["problems"]


def kept_of(house, *ids):
    """Whether anything of these people is still in nightcrew's own tables."""
    with house.yard.link.transaction(writes=False) as connection:
        texts = [str(connection.execute(sa.select(one)).all()) for one in (erasures, owed, entries)]
    return [n for n in ids if any(f"{MARK}{n}" in text for text in texts)]


@pytest.fixture
def moody(yard, database_url):
    made = House(yard, database_url)
    for name in ("uploads", "exports", "vault"):
        store = Moody()
        for key in made.keys(getattr(made, name)):
            store.put(key, getattr(made, name).get(key))
        setattr(made, name, store)
    yield made
    for crew in made.crews:
        crew.close()


def test_a_store_that_is_away_makes_it_incomplete_until_it_is_there_again(moody):
    moody.exports.away = True
    first = moody.crew().erase(4, by="ann")
    assert (first.state, moody.count(4)["users"]) == ("incomplete", 0)
    assert problems(first) == [
        "store exports: memory:// cannot be reached: it is a test",
        "exports: 1 of mail/{email}.zip are left",
    ]
    assert kept_of(moody, 4) == [4]  # by which the rest is found
    moody.exports.away = False
    second = moody.crew().erase(4, by="ann")
    assert (second.state, second.number) == ("complete", 2)
    assert f"{MARK}4" not in moody.dump().replace(f"{MARK}42", "")
    assert parts(second)["exports", "mail/{email}.zip"]["removed"] == 1
    assert moody.crew().verify() == []


def test_a_key_that_a_store_refuses_makes_it_incomplete_and_is_not_in_the_receipt(moody):
    moody.uploads.refuses = (f"face/{MARK}4",)
    moody.exports.refuses = ("users/4/a.zip",)
    closed = moody.crew().erase(4, by="ann")
    assert closed.state == "incomplete"
    found = parts(closed)
    assert (found["uploads", "keys of its rows"]["removed"], found["uploads", "keys of its rows"]["residual"]) == (4, 1)
    assert (found["exports", "users/{id}/*"]["removed"], found["exports", "users/{id}/*"]["residual"]) == (1, 1)
    assert f"{MARK}4" not in closed.receipt
    assert "users/4" not in closed.receipt
    moody.uploads.refuses = moody.exports.refuses = ()
    assert moody.crew().erase(4, by="ann").state == "complete"
    moody.yard.run("UPDATE nightcrew_owed SET due_at = '2020-01-01 00:00:00'")
    moody.crew().run("drain-outbox", trigger="test", now=True)
    assert f"{MARK}4" not in moody.dump().replace(f"{MARK}42", "")


def test_a_vault_that_is_away_keeps_anything_from_being_removed(moody):
    moody.vault.away, before = True, moody.count(4)
    with pytest.raises(StoreError):
        moody.crew().erase(4, by="ann")
    assert (moody.count(4), kept_of(moody, 4), list(moody.crew().receipts())) == (before, [], [])


def test_a_receipt_that_the_vault_could_not_take_is_filed_with_the_next(moody):
    crew = moody.crew()
    put = moody.vault.put

    def refuse(key, data):
        if key.startswith("receipts/"):
            raise StoreError("memory:// is full")
        put(key, data)

    moody.vault.put = refuse
    with pytest.raises(StoreError, match="is full"):
        crew.erase(4, by="ann")
    moody.vault.put = put
    assert [said["result"] for said in crew.receipts()] == ["complete"]
    crew.erase(42, by="ann")
    assert [key for key in moody.keys(moody.vault) if "receipts" in key] == [
        "receipts/000000000001.json",
        "receipts/000000000002.json",
    ]
    assert crew.verify() == []


def test_a_blob_that_another_row_has_stays_and_is_told_as_held(house):
    house.yard.run(f"UPDATE users SET avatar = 'face/{MARK}4' WHERE id = 42")
    house.exports.put("users/4/shared", b"")
    closed = house.crew().erase(4, by="ann")
    assert closed.state == "complete"
    assert f"face/{MARK}4" in house.keys(house.uploads)
    part = parts(closed)["uploads", "keys of its rows"]
    assert (part["found"], part["removed"], part["held"]) == (5, 4, 1)


def test_what_is_owed_for_later_goes_too_and_the_ledger_forgets_the_name(house):
    crew = house.crew()
    crew.run("drain-outbox", trigger="test", now=True)
    later = datetime(2100, 1, 1, tzinfo=UTC)
    with house.yard.link.transaction() as connection:
        crew.owe(connection, "exports", ["users/4/a.zip", "users/4/long-gone", "users/42/a.zip"], not_before=later)
        (run,) = connection.execute(sa.select(sa.text("id")).select_from(sa.text("nightcrew_runs"))).scalars()
        told = {"undeletable": {"table": "users", "key": "id 4", "reason": "r"},
                "kept": {"table": "users", "keys": ["id 4", "id 42"], "reason": "r"},
                "unsettled": {"store": "exports", "key": "users/4/a.zip", "reason": "r"}}  # fmt: skip
        rows = [{"run": run, "at": later, "kind": kind, "facts": facts} for kind, facts in told.items()]
        connection.execute(sa.insert(entries), rows)
    closed = crew.erase(4, by="ann")
    assert parts(closed)["nightcrew", "ledger"]["removed"] == 3
    with house.yard.link.transaction(writes=False) as connection:
        assert connection.execute(sa.select(owed.c.key)).scalars().all() == ["users/42/a.zip"]
        named = sa.select(entries.c.facts).where(entries.c.kind.in_(told))
        said = json.dumps([*connection.execute(named).scalars()])
    assert ("id 42" in said, '"id 4"' in said, "users/4/" in said) == (True, False, False)


def test_a_pattern_that_could_meet_others_keys_is_skipped_and_nothing_is_complete(house):
    house.yard.run("UPDATE users SET email = '4/5' WHERE id = 4")
    house.terms["traces"] = [{"store": "exports", "keys": "mail/{email}/*"}]
    house.exports.put("mail/4/5/a", b"")
    closed = house.crew().erase(4, by="ann")
    assert (closed.state, house.count(4)["users"]) == ("incomplete", 0)
    assert "was skipped, for its email has the sign in it" in problems(closed)[0]
    assert "mail/4/5/a" in house.keys(house.exports)


@pytest.mark.parametrize(
    "keys", ["users/*", "users/{id}*", "*{id}/x", "{id}0*", "users/{id", "users/{id}{email}/*", "", "{id}{*}"]
)
def test_a_pattern_that_could_name_what_is_others_is_refused_at_once(keys):
    with pytest.raises(PolicyError, match="traces"):
        Trace("exports", keys)


def test_a_held_person_stays_whole(house):
    house.terms["hold"] = "email LIKE '%42@x'"
    house.terms["keep"] = {"invoices.user_id": "tax law"}
    house.terms["unless_exists"] = ["users.boss_id"]
    crew, before = house.crew(), house.count(42)
    assert "would stay" in crew.erasure(42).problems[0]
    with pytest.raises(SafetyStop, match="a hold protects it"):
        crew.erase(42, by="ann")
    assert house.count(42) == before
    assert (list(crew.receipts()), house.vaulted(), kept_of(house, 42)) == ([], [], [])
    assert crew.erase(4, by="ann").state == "complete"


def test_a_row_that_somebody_locks_is_left_and_can_be_erased_later(server_yard, server_url):
    house = House(server_yard, server_url)
    crew = house.crew()
    with house.yard.link.transaction() as connection:
        connection.exec_driver_sql("SELECT * FROM users WHERE id = 4 FOR UPDATE")
        with pytest.raises(SafetyStop, match="locked"):
            crew.erase(4, by="ann")
    assert crew.erase(4, by="ann").state == "complete"
    crew.close()


def test_what_comes_in_by_a_link_while_its_person_leaves_goes_with_the_next_call(house):
    crew = house.crew()
    crew.erase(4, by="ann")
    house.yard.fill("visits", {"id": 4009, "user_id": 4, "page": f"{MARK}4"})
    assert parts(crew.erase(4, by="ann"))["visits", "user_id"]["removed"] == 1
    assert f"{MARK}4" not in house.dump().replace(f"{MARK}42", "")


def test_an_account_of_more_rows_than_a_batch_leaves_in_slices_each_counted_once(house):
    many = range(7_000)
    house.yard.fill("visits", *({"id": 100_000 + n, "user_id": 4, "page": f"{MARK}4"} for n in many))
    crew = house.crew()
    found = parts(crew.erase(4, by="ann"))["visits", "user_id"]
    assert (found["found"], found["removed"], found["residual"]) == (7_003, 7_003, 0)
    house.move_in(4)
    house.yard.fill("visits", *({"id": 100_000 + n, "user_id": 4, "page": f"{MARK}4"} for n in many))
    gone_by(house, 4)
    report = crew.run("erase-users", trigger="test", now=True)
    assert report.counts["visits"] == 7_003
    assert sum(entry["kind"] == "batch" for entry in crew.entries(report.run)) > 1
    assert f"{MARK}4" not in house.dump().replace(f"{MARK}42", "")


def test_without_a_key_nobody_is_erased_by_name_and_jobs_sweep_as_they_did(house):
    house.yard.run("UPDATE users SET left_at = '2020-01-01 00:00:00' WHERE id = 4")
    crew = house.crew(key=None)
    with pytest.raises(ConfigurationError, match="NIGHTCREW_ERASURE_KEY is not set"):
        crew.erase(4, by="ann")
    assert crew.run("erase-users", trigger="test", now=True).deleted == 1
    assert (house.count(4)["users"], house.vaulted()) == (0, [])


# ── receipts, and a database that was put back ───────────────────────────────────────────────────────────────────────


def put_back(house, person):
    """Let the database be as it was before anybody was erased."""
    house.yard.run("DELETE FROM nightcrew_erasures")
    house.move_in(person)


def test_whom_a_restored_database_brings_back_is_erased_again(house):
    crew = house.crew()
    crew.erase(4, by="ann")
    put_back(house, 4)
    before = house.count(42)
    with pytest.raises(SafetyStop, match="nightcrew erase replay"):
        crew.erase(42, by="ann")
    assert crew.replay(by="ops") == (1, [])
    assert house.count(4)["users"] == 1
    number, (again,) = crew.replay(by="ops", confirm=True)
    assert (number, again.state, again.number) == (1, "complete", 2)
    assert f"{MARK}4" not in house.dump().replace(f"{MARK}42", "")
    assert house.count(42) == before
    assert (crew.replay(by="ops", confirm=True), crew.verify()) == ((0, []), [])
    assert crew.erase(42, by="ann").number == 3


def test_another_key_would_know_nobody_again_and_is_refused(house):
    house.crew().erase(4, by="ann")
    other = house.crew(key="another erasure key")
    with pytest.raises(ConfigurationError, match="is not the key that the receipts were written with"):
        other.erase(42, by="ann")
    put_back(house, 4)
    with pytest.raises(ConfigurationError, match="is not the key that the receipts were written with"):
        other.replay(by="ops")
    assert house.crew().replay(by="ops") == (1, [])


def test_a_replay_that_breaks_off_is_gone_on_with(moody):
    crew = moody.crew()
    crew.erase(4, by="ann")
    crew.erase(42, by="ann")
    put_back(moody, 4)
    moody.move_in(42)
    stop = Event()
    crew.listen(lambda entry: stop.set() if entry.kind == "erased" else None)
    with pytest.raises(SafetyStop, match="stopped before its end"):
        crew.replay(by="ops", confirm=True, stop=stop)
    number, done = crew.replay(by="ops", confirm=True)
    assert (number, [one.state for one in done]) == (1, ["complete"])
    assert MARK not in moody.dump()
    assert crew.verify() == []


def test_one_that_was_under_way_when_the_backup_was_made_is_known_by_the_vault(moody):
    crew = moody.crew()
    moody.exports.away = True
    crew.erase(4, by="ann")
    for key in moody.keys(moody.vault):
        if key.startswith("receipts/"):
            moody.vault.remove([key])  # it died before its receipt
    moody.exports.away = False
    put_back(moody, 4)
    assert crew.replay(by="ops", confirm=True)[0] == 1
    assert f"{MARK}4" not in moody.dump().replace(f"{MARK}42", "")


def test_without_a_vault_only_what_the_database_knows_can_be_done_again(house):
    crew = house.crew(erasures=None)
    crew.erase(4, by="ann")
    house.move_in(4)  # its tables alone were put back
    with pytest.raises(UsageError, match="outside of the database"):
        crew.replay(by="ops")
    assert crew.replay(by="ops", since=datetime(2020, 1, 1, tzinfo=UTC), confirm=True)[0] == 1
    assert f"{MARK}4" not in house.dump().replace(f"{MARK}42", "")


def test_a_receipt_that_was_changed_or_lost_is_told(house):
    crew = house.crew()
    for person in (4, 42):
        crew.erase(person, by="ann")
    assert crew.verify() == []
    house.yard.run("UPDATE nightcrew_erasures SET receipt = REPLACE(receipt, 'ann', 'bob') WHERE number = 1")
    assert "receipt 1 was changed" in crew.verify()[0]
    house.yard.run("DELETE FROM nightcrew_erasures WHERE number = 1")
    assert "receipt 1 is missing" in crew.verify()[0]
    house.vault.remove(["receipts/000000000002.json"])
    assert len(house.crew(key="another erasure key").verify()) >= 2


def test_undo_and_others_ask_by_hash_whether_somebody_was_erased(house):
    crew = house.crew()
    crew.erase(4, by="ann")
    hashes = [subject_of(KEY, "users", [str(n)]) for n in (4, 42)]
    assert crew._station.erasures.known(hashes) == {hashes[0]}
    assert subject_of(KEY, "users", ["4"]) != subject_of(KEY, "chats", ["4"])
    assert subject_of("another erasure key", "users", ["4"]) != hashes[0]


# ── nothing is left out ──────────────────────────────────────────────────────────────────────────────────────────────


def test_columns_that_nobody_speaks_of_are_named(house):
    crew = house.crew()
    assert crew.coverage() == {"erase-users": []}
    house.yard.run(
        "CREATE TABLE events (id {number}, actor_user_id {number}, chat_id {number}, user_identity {number})",
        (
            "CREATE TABLE drafts (id {number} PRIMARY KEY, writer {number},"
            " FOREIGN KEY (writer) REFERENCES users (id) ON DELETE SET NULL)"
        ),
    )
    named = crew.coverage()["erase-users"]
    assert len(named) == 3
    assert "drafts outlive what they refer to by writer" in named[0]
    assert {gap.partition(" ")[0] for gap in named[1:]} == {"events.actor_user_id", "events.chat_id"}
    house.terms["links"] += ["drafts.writer", "events.actor_user_id"]
    house.terms["keep"] |= {"events.chat_id": "numbers only"}
    assert house.crew().coverage() == {"erase-users": []}


def test_what_stays_by_a_rule_that_removes_it_is_refused(house):
    house.terms["keep"] |= {"chats.user_id": "why not"}
    with pytest.raises(PolicyError, match="cannot: give that key ON DELETE SET NULL"):
        house.crew().erase(4, by="ann")


def test_keys_of_several_columns_and_of_letters(yard, database_url):
    yard.run(
        (
            "CREATE TABLE people (realm VARCHAR(20) NOT NULL, name VARCHAR(20) NOT NULL, left_at {time},"
            " PRIMARY KEY (realm, name))"
        ),
        (
            "CREATE TABLE things (id {number} PRIMARY KEY, realm VARCHAR(20), name VARCHAR(20),"
            " FOREIGN KEY (realm, name) REFERENCES people (realm, name))"
        ),
        "CREATE INDEX things_of ON things (realm, name)",
    )
    exports = Memory()
    crew = Nightcrew(database_url, settings=Settings(erasure_key=KEY), blobs={"exports": {"url": exports}})
    traces = [{"store": "exports", "keys": "{realm}:{name}:*"}]
    crew.expire("forget", "people", column="left_at", schedule="0 0 1 1 *", erase=True, traces=traces, max_fraction=1)
    crew.migrate()
    yard.fill("people", *({"realm": "ä b", "name": name} for name in ("Ömer", "ann", "o'neil")))
    yard.fill("things", *({"id": n, "realm": "ä b", "name": name} for n, name in enumerate(("Ömer", "ann", "o'neil"))))
    for name in ("Ömer", "ann", "ann2"):
        exports.put(f"ä b:{name}:x", b"")
    with pytest.raises(UsageError, match="has no row"):
        crew.erase("ä b", "ömer", by="ann")  # a collation may take it for the same
    for name in ("Ömer", "o'neil"):
        assert crew.erase("ä b", name, by="ann").state == "complete"
    assert (yard.ids("people", "name"), yard.ids("things", "name")) == (["ann"], ["ann"])
    assert [blob.key for blob in exports.page().blobs] == ["ä b:ann2:x", "ä b:ann:x"]
    yard.run("UPDATE people SET left_at = '2020-01-01 00:00:00'")
    assert crew.run("forget", trigger="test", now=True).deleted == 1
    assert [blob.key for blob in exports.page().blobs] == ["ä b:ann2:x"]
    crew.close()


# ── jobs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def gone_by(house, *people):
    for person in people:
        house.yard.run(f"UPDATE users SET left_at = '2020-01-01 00:00:00' WHERE id = {person}")


def test_a_job_that_is_short_of_time_goes_on_where_it_was(house):
    gone_by(house, 4, 42)
    crew, outcomes = house.crew(), []
    for _ in range(10):
        outcomes.append(crew.run("erase-users", trigger="test", slot=None, deadline=timedelta(0)).outcome)
        if outcomes[-1] != "partial":
            break
    assert outcomes[0] == "partial"
    assert outcomes[-1] == "succeeded"
    assert MARK not in house.dump()
    assert [said["result"] for said in crew.receipts()] == ["complete", "complete"]


def test_a_job_fails_for_one_who_is_not_erased_whole_and_erases_the_others(moody):
    gone_by(moody, 4, 42)
    moody.exports.refuses = ("users/4/a.zip",)
    crew = moody.crew()
    report = crew.run("erase-users", trigger="test", now=True)
    assert (report.outcome, report.deleted) == ("failed", 2)
    assert "(receipt 1: the erasure is incomplete" in report.message
    assert [said["result"] for said in crew.receipts()] == ["incomplete", "complete"]
    assert f"{MARK}42" not in moody.dump()
    moody.exports.refuses = ()
    assert crew.erase(4, by="ann").state == "complete"
    assert MARK not in moody.dump()


def test_a_row_that_the_database_does_not_let_go_is_incomplete_and_no_other_suffers(house):
    gone_by(house, 4, 42)
    refuse(house.yard, "chats", "OLD.id = 4002")
    crew = house.crew()
    report = crew.run("erase-users", trigger="test", now=True)
    assert (report.outcome, house.count(42)["users"], house.count(4)["users"]) == ("failed", 0, 1)
    (incomplete,) = [said for said in crew.receipts() if said["result"] == "incomplete"]
    assert incomplete["problems"][0].startswith("table users: ")
    assert "users: 1 of id are left" in incomplete["problems"]
    assert f"{MARK}4" not in json.dumps(incomplete)


def refuse(yard, table, condition):
    """Let a trigger keep a row."""
    if yard.kind == "postgresql":
        yard.run(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            f" IF {condition} THEN RAISE EXCEPTION 'it stays'; END IF; RETURN OLD; END $$",
            f"CREATE TRIGGER stays BEFORE DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION refuse()",
        )
    elif yard.kind == "mysql":
        yard.run(
            f"CREATE TRIGGER stays BEFORE DELETE ON {table} FOR EACH ROW BEGIN"
            f" IF {condition} THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'it stays'; END IF; END"
        )
    else:
        yard.run(
            f"CREATE TRIGGER stays BEFORE DELETE ON {table} WHEN {condition} BEGIN SELECT RAISE(ABORT, 'it stays'); END"
        )


def test_a_job_passes_by_who_is_held_and_a_pause_ends_it(house):
    gone_by(house, 4, 42)
    house.terms["hold"] = "email LIKE '%42@x'"
    house.terms["keep"] = {"invoices.user_id": "tax law"}
    house.terms["unless_exists"] = ["users.boss_id"]
    crew = house.crew()
    crew.pause("erase-users", by="ann", reason="wait")
    assert crew.run("erase-users", trigger="test", now=True).outcome == "paused"
    crew.resume("erase-users")
    assert crew.run("erase-users", trigger="test", now=True).deleted == 1
    assert (house.count(4)["users"], house.count(42)["users"]) == (0, 1)


def test_a_job_takes_no_more_than_it_may(house):
    gone_by(house, 4, 42)
    house.terms["max_rows"] = 20
    report = house.crew().run("erase-users", trigger="test", now=True)
    assert (report.outcome, house.count(4)["users"], house.vaulted()) == ("refused", 1, [])


# ── what others have, and what nobody is to read ─────────────────────────────────────────────────────────────────────


def linked(url, **terms):
    crew = Nightcrew(url, settings=Settings(erasure_key=KEY))
    terms = {"links": ["visits.user_id"], "schedule": "0 0 1 1 *", "erase": True, "max_fraction": 1, **terms}
    crew.expire("forget", "users", column="left_at", **terms)
    return crew


def test_what_a_collation_takes_for_the_subjects_is_anothers_and_stays(mysql_yard):
    yard = mysql_yard
    yard.run(
        "CREATE TABLE users (id VARCHAR(20) COLLATE utf8mb4_bin PRIMARY KEY, left_at {time})",
        "CREATE TABLE visits (id {number} PRIMARY KEY, user_id VARCHAR(20) COLLATE utf8mb4_general_ci)",
        "CREATE INDEX visits_user ON visits (user_id)",
        "INSERT INTO users VALUES ('aBc', NULL), ('AbC', NULL)",
        "INSERT INTO visits VALUES (1, 'aBc'), (2, 'AbC'), (3, 'aBc')",
    )
    crew = linked(yard.link.engine.url.render_as_string(hide_password=False))
    crew.migrate()
    assert crew.erase("aBc", by="ann").state == "complete"
    assert yard.ids("visits") == [2]
    crew.close()


def test_a_link_between_a_text_and_a_number_is_refused(yard, database_url):
    """To MySQL, '4abc' is 4."""
    yard.run(
        "CREATE TABLE users (id VARCHAR(20) PRIMARY KEY, left_at {time})",
        "CREATE TABLE visits (id {number} PRIMARY KEY, user_id {number})",
        "CREATE INDEX visits_user ON visits (user_id)",
        "INSERT INTO users VALUES ('4abc', NULL), ('4', NULL)",
        "INSERT INTO visits VALUES (1, 4)",
    )
    crew = linked(database_url)
    crew.migrate()
    with pytest.raises(PolicyError, match=r"links 'visits.user_id': it is of type .*, and id of table 'users' of type"):
        crew.erase("4abc", by="ann")
    assert yard.ids("visits") == [1]
    crew.close()


def test_a_column_that_is_kept_may_hold_the_keys_of_another_table(yard, database_url):
    kind = "uuid" if yard.kind == "postgresql" else "VARCHAR(36)"
    yard.run(
        "CREATE TABLE users (id {number} PRIMARY KEY, left_at {time})",
        f"CREATE TABLE chats (id {kind} PRIMARY KEY, user_id {{number}}, FOREIGN KEY (user_id) REFERENCES users (id))",
        "CREATE INDEX chats_user ON chats (user_id)",
        f"CREATE TABLE audit (id {{number}} PRIMARY KEY, chat_uuid {kind}, user_uuid {kind})",
        "INSERT INTO users VALUES (4, NULL)",
    )
    crew = linked(database_url, links=[], keep={"audit.chat_uuid": "the law", "audit.user_uuid": "the law"})
    crew.migrate()
    closed = crew.erase(4, by="ann")
    assert closed.state == "complete"
    assert "the law (not counted: the column does not hold the row's key)" in closed.receipt
    crew.close()


REFUSING = {
    "postgresql": (
        """CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'cannot delete the page of %', OLD.page; END $$""",
        "CREATE TRIGGER refusing BEFORE DELETE ON visits FOR EACH ROW EXECUTE FUNCTION refuse()",
    ),
    "mysql": (
        """CREATE TRIGGER refusing BEFORE DELETE ON visits FOR EACH ROW BEGIN DECLARE said VARCHAR(100);
        SET said = CONCAT('cannot delete the page of ', OLD.page);
        SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = said; END""",
    ),
    "sqlite": (
        f"CREATE TRIGGER refusing BEFORE DELETE ON visits BEGIN SELECT RAISE(ABORT, 'cannot delete {MARK}4'); END",
    ),
}


def test_what_a_trigger_says_of_a_row_is_in_no_receipt(house):
    with house.yard.link.engine.connect() as connection:
        for statement in REFUSING[house.yard.kind]:
            connection.exec_driver_sql(statement, execution_options={"no_parameters": True})
        connection.commit()
    closed = house.crew().erase(4, by="ann")
    assert closed.state == "incomplete"
    assert "a constraint, a trigger or a value" in problems(closed)[0]
    assert MARK not in closed.receipt
    assert not any(MARK in each for each in house.vaulted())


def test_a_chain_that_was_cut_at_its_end_is_told(house):
    crew = house.crew()
    for person in (4, 42):
        crew.erase(person, by="ann")
    assert crew.verify() == []
    kept = house.vault.get("receipts/000000000002.json")
    house.vault.remove(["receipts/000000000002.json"])
    (told,) = crew.verify()
    assert told.startswith("receipt 2 is not in ")
    house.vault.put("receipts/000000000002.json", kept)
    house.yard.run("DELETE FROM nightcrew_erasures WHERE number = 2")
    (told,) = crew.verify()
    assert "alone: it was removed here, or a backup was put back" in told


@pytest.mark.parametrize("key", ["abc", "", "4.0", "9" * 400, "4; DROP TABLE users"])
def test_a_key_that_no_row_can_have_is_named(house, key):
    with pytest.raises(UsageError, match="has no row"):
        house.crew().erase(key, by="ann")
    assert house.count(4)["users"] == 1
