"""A key that a row spells in its own way is the same to the database, and so it is to an undo of what left."""

from datetime import timedelta

import pytest
from tests.conftest import fresh

from nightcrew import Nightcrew, Settings
from nightcrew.stores.memory import Memory

WEEK = timedelta(days=7)
OLD = "2020-01-01 00:00:00"
# What a key is, and how it is written once, and otherwise by the row that refers to it.
WAYS = [
    ("mysql", "VARCHAR(40)", "'Ada'", "'ADA'"),
    ("mysql", "VARCHAR(40)", "'Ada'", "'ada  '"),
    ("mysql", "CHAR(40) CHARACTER SET latin1", "'Adá'", "'ADA'"),
    ("postgresql", "numeric", "1.5", "1.50"),
    ("sqlite", "VARCHAR(40) COLLATE NOCASE", "'Ada'", "'ADA'"),
    ("sqlite", "INTEGER", "1", "'01'"),
]


@pytest.fixture(params=WAYS, ids=lambda way: f"{way[0]}-{way[1]}-{way[3]}")
def way(request):
    return request.param


class House:
    """People, their chats, and the teams that people are in, each known by a name."""

    def __init__(self, url, way):
        kind, self.name, self.otherwise = way[1:]
        terms = {"settings": Settings(), "blobs": {"vault": Memory()}, "archive": "vault"}
        self.crew = Nightcrew(url, **terms)
        self.crew.expire(
            "purge", "users", column="left_at", schedule="0 0 1 * *", erase=True, archive=WEEK, max_fraction=1
        )
        self.engine = self.crew._station.link.engine
        self.crew.migrate()
        loose = kind if way[0] != "sqlite" else kind.replace("INTEGER", "TEXT")
        self.run(
            f"CREATE TABLE teams (name {kind} NOT NULL PRIMARY KEY)",
            (
                f"CREATE TABLE users (name {kind} NOT NULL PRIMARY KEY, team {loose}, left_at TIMESTAMP NULL,"
                " FOREIGN KEY (team) REFERENCES teams (name))"
            ),
            "CREATE INDEX users_left ON users (left_at)",
            "CREATE INDEX users_team ON users (team)",
            (
                f"CREATE TABLE chats (id INTEGER PRIMARY KEY, owner {loose} NOT NULL,"
                " FOREIGN KEY (owner) REFERENCES users (name) ON DELETE CASCADE)"
            ),
            "CREATE INDEX chats_owner ON chats (owner)",
            f"INSERT INTO teams VALUES ({self.name})",
            f"INSERT INTO users VALUES ({self.name}, {self.otherwise}, '{OLD}')",
            f"INSERT INTO chats VALUES (1, {self.otherwise})",
            f"INSERT INTO chats VALUES (2, {self.name})",
        )

    def run(self, *statements):
        with self.engine.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    def rows(self):
        with self.engine.connect() as connection:
            return [
                connection.exec_driver_sql(f"SELECT * FROM {table} ORDER BY 1").all() for table in ("users", "chats")
            ]


@pytest.fixture
def house(way, tmp_path):
    with fresh(way[0], tmp_path) as url:
        house = House(url, way)
        yield house
        house.crew.close()


def test_what_spells_the_key_of_what_it_refers_to_otherwise_comes_back_with_it(house):
    before, run = house.rows(), house.crew.run("purge", now=True).run
    assert house.rows() == [[], []]
    asked, done = house.crew.undo(run), house.crew.undo(run, restore=True)
    for found in (asked, done):
        told = {name: (tally.back, tally.named) for name, tally in found.tables.items()}
        assert told == {"users": (1, []), "chats": (2, [])}
    assert house.rows() == before


def test_a_row_that_is_there_anew_under_the_same_key_spelled_otherwise_is_told(house):
    run = house.crew.run("purge", now=True).run
    house.run(f"INSERT INTO users VALUES ({house.otherwise}, NULL, NULL)")
    asked, done = house.crew.undo(run), house.crew.undo(run, restore=True)
    for found in (asked, done):
        assert dict(found.tables["users"].conflicts) == {"exists": 1}
    assert asked.json()["tables"] == done.json()["tables"]


def test_what_refers_to_what_is_not_there_however_it_is_spelled_stays_away(house):
    run = house.crew.run("purge", now=True).run
    house.run("DELETE FROM teams")
    asked, done = house.crew.undo(run), house.crew.undo(run, restore=True)
    for found in (asked, done):
        assert [dict(found.tables[name].conflicts) for name in ("users", "chats")] == [{"parent": 1}, {"parent": 2}]
    assert house.rows() == [[], []]
