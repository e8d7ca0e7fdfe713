"""One person is erased: all that is theirs goes, what is not stays, and a receipt proves it."""

import json

import pytest
import sqlalchemy as sa

from nightcrew import Nightcrew, Settings
from nightcrew.errors import UsageError
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
