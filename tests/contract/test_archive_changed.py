"""Tables that were changed between a deletion and its undo: rows come back as they were, or it is said why not."""

from datetime import timedelta

import pytest

from nightcrew import Nightcrew, Settings
from nightcrew.stores.memory import Memory

SCHEMA = (
    "CREATE TABLE users (id INTEGER PRIMARY KEY, left_at TIMESTAMP NULL, score INTEGER, name VARCHAR(50))",
    "CREATE INDEX users_left ON users (left_at)",
    (
        "CREATE TABLE chats (id INTEGER PRIMARY KEY, user_id INTEGER NOT NULL, title VARCHAR(50),"
        " FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE)"
    ),
    "CREATE INDEX chats_user ON chats (user_id)",
    "INSERT INTO users VALUES (1, '2020-01-01 00:00:00', 7, 'Ada'), (2, '2020-01-01 00:00:00', NULL, 'Bo')",
    "INSERT INTO chats VALUES (10, 1, 'a'), (11, 1, NULL), (20, 2, 'b')",
)


class Site:
    """Two people with their chats, who have gone to the archive."""

    def __init__(self, url):
        self.crew = Nightcrew(url, settings=Settings(), blobs={"vault": Memory()}, archive="vault")
        terms = {"erase": True, "archive": timedelta(days=7), "max_fraction": 1}
        self.crew.expire("purge", "users", column="left_at", schedule="0 0 1 * *", **terms)
        self.engine = self.crew._station.link.engine
        self.kind = self.engine.dialect.name
        self.crew.migrate()
        self.change(*SCHEMA)
        self.before = self.rows("users"), self.rows("chats")
        self.run = self.crew.run("purge", now=True).run
        assert not self.rows("users")
        assert not self.rows("chats")

    def change(self, *statements):
        with self.engine.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    def rows(self, table, columns="*"):
        with self.engine.connect() as connection:
            return connection.exec_driver_sql(f"SELECT {columns} FROM {table} ORDER BY id").all()

    def undone(self):
        """Ask what would come back, and put it back; return both, by table: how many rows, and why not the others."""
        told = self.crew.undo(self.run), self.crew.undo(self.run, restore=True)
        return [
            {name: (tally.back, dict(tally.conflicts)) for name, tally in found.tables.items()} for found in told
        ] + [told[-1].tables]


@pytest.fixture
def site(database_url):
    site = Site(database_url)
    yield site
    site.crew.close()


def test_a_column_that_is_new_and_may_be_empty_is(site):
    site.change("ALTER TABLE users ADD COLUMN plan VARCHAR(20)", "ALTER TABLE chats ADD COLUMN size INTEGER DEFAULT 3")
    asked, done, _ = site.undone()
    assert asked == done == {"users": (2, {}), "chats": (3, {})}
    assert [row[-1] for row in (*site.rows("users"), *site.rows("chats"))] == [None, None, 3, 3, 3]
    assert (site.rows("users", "id, left_at, score, name"), site.rows("chats", "id, user_id, title")) == site.before


def test_a_column_that_is_new_and_may_not_be_empty_keeps_the_rows_away(site):
    if site.kind == "sqlite":
        site.change("DROP TABLE users", f"{SCHEMA[0][:-1]}, plan VARCHAR(20) NOT NULL)")
    else:
        site.change("ALTER TABLE users ADD COLUMN plan VARCHAR(20) NOT NULL")
    asked, done, tables = site.undone()
    assert asked == {"users": (2, {}), "chats": (3, {})}, "only the database knows"
    # PostgreSQL refuses what refers to nothing by itself.
    below = "refused" if site.kind == "postgresql" else "parent"
    assert done == {"users": (0, {"refused": 2}), "chats": (0, {below: 3})}
    assert "plan" in tables["users"].named[0]
    assert not site.rows("users")
    assert not site.rows("chats")


def test_a_column_of_another_type_keeps_the_rows_away(site):
    if site.kind == "postgresql":
        site.change("ALTER TABLE users ALTER COLUMN score TYPE smallint")
    elif site.kind == "mysql":
        site.change("ALTER TABLE users MODIFY score SMALLINT")
    else:
        site.change("DROP TABLE users", SCHEMA[0].replace("score INTEGER", "score SMALLINT"))
    asked, done, tables = site.undone()
    assert asked == done == {"users": (0, {"schema": 2}), "chats": (0, {"parent": 3})}
    assert "score was of type" in tables["users"].named[0]


@pytest.mark.parametrize("how", ["renamed", "gone"])
def test_a_table_that_is_not_there_any_more_keeps_its_rows_and_what_hangs_on_them_away(site, how):
    if site.kind == "mysql":
        site.change("SET FOREIGN_KEY_CHECKS = 0")
    site.change("ALTER TABLE chats RENAME TO talks" if how == "renamed" else "DROP TABLE chats")
    asked, done, tables = site.undone()
    assert asked == done == {"users": (2, {}), "chats": (0, {"schema": 3})}
    assert "it is not in the database" in tables["chats"].named[0]
    assert site.rows("users") == site.before[0]


def test_a_parent_that_has_another_name_now_is_found_by_the_key_that_followed_it(site):
    site.change("ALTER TABLE users RENAME TO people")
    asked, done, _ = site.undone()
    assert asked == done == {"users": (0, {"schema": 2}), "chats": (0, {"parent": 3})}
    site.change("ALTER TABLE people RENAME TO users")
    asked, done, _ = site.undone()
    assert asked == done == {"users": (2, {}), "chats": (3, {})}
    assert (site.rows("users"), site.rows("chats")) == site.before


def test_what_refers_to_a_row_that_the_database_refuses_stays_away_too(site):
    """Nobody else would keep it away on MySQL, and on SQLite it would keep all others away."""
    if site.kind == "sqlite":
        site.change(
            "CREATE TRIGGER nobody BEFORE INSERT ON users WHEN NEW.id = 1 BEGIN SELECT RAISE(ABORT, 'not her'); END"
        )
    elif site.kind == "postgresql":
        site.change("ALTER TABLE users ADD CONSTRAINT nobody CHECK (id <> 1)")
    else:
        site.change(
            "CREATE TRIGGER nobody BEFORE INSERT ON users FOR EACH ROW"
            " IF NEW.id = 1 THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'not her'; END IF"
        )
    _, done, _ = site.undone()
    below = "refused" if site.kind == "postgresql" else "parent"
    assert done == {"users": (1, {"refused": 1}), "chats": (1, {below: 2})}
    assert (site.rows("users"), site.rows("chats")) == (site.before[0][1:], site.before[1][2:])
    site.change("ALTER TABLE users DROP CONSTRAINT nobody" if site.kind == "postgresql" else "DROP TRIGGER nobody")
    _, done, _ = site.undone()
    assert done == {"users": (1, {}), "chats": (2, {})}
    assert (site.rows("users"), site.rows("chats")) == site.before
