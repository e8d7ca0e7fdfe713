"""The grants of docs/privileges.md, word for word, are enough for jobs of every kind, and for nothing else."""

import re
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from secrets import token_hex

import pytest
import sqlalchemy as sa
from tests.conftest import administrator, server
from tests.tray import NAME, Tray, application, crew_of

from nightcrew import Nightcrew, Settings
from nightcrew.errors import DatabaseError
from nightcrew.mail import People, ScheduledEmails
from nightcrew.sequence import Sequence, Step

PAGE = (Path(__file__).parents[2] / "docs/privileges.md").read_text(encoding="utf-8")
HEADS = {"postgresql": "PostgreSQL", "mysql": "MySQL and MariaDB"}
TABLES = (
    "CREATE TABLE chats (id {number} PRIMARY KEY, created_at {time} NOT NULL)",
    (
        "CREATE TABLE messages (id {number} PRIMARY KEY, chat_id {number} NOT NULL,"
        " FOREIGN KEY (chat_id) REFERENCES chats (id) ON DELETE CASCADE)"
    ),
    (
        "CREATE TABLE attachments (id {number} PRIMARY KEY, chat_id {number} NOT NULL,"
        " FOREIGN KEY (chat_id) REFERENCES chats (id))"
    ),
    "CREATE TABLE accounts (id {number} PRIMARY KEY, left_at {time}, email {text}, name {text})",
    "CREATE TABLE ledger (id {number} PRIMARY KEY, at {time} NOT NULL)",
    "CREATE TABLE users (id {number} PRIMARY KEY, email {text}, verified_at {time}, secret {text})",
    "CREATE TABLE wishes (user_id {number} PRIMARY KEY, tips {number})",
    (
        "CREATE TABLE scheduled_emails (id {number} PRIMARY KEY, user_id {number}, email_type {text},"
        " scheduled_for {time}, sent BOOLEAN, sent_at {time}, cancelled BOOLEAN)"
    ),
    *(f"CREATE INDEX {child}_chat ON {child} (chat_id)" for child in ("messages", "attachments")),
    *(
        f"CREATE INDEX {table}_at ON {table} ({column})"
        for table, column in (("chats", "created_at"), ("ledger", "at"))
    ),
)
OLD = "2020-01-01 00:00:00"
# Names of their own, for those of a run that was killed may still be there.
ROLE, APPLICATION = (f"{whose}_story_{token_hex(4)}" for whose in ("nightcrew", "acme"))
PASSWORD = "a-password-of-the-story"


def granted(kind, database):
    """Return the page's statements for the two roles of this story."""
    section = re.search(rf"^## {HEADS[kind]}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)[1]
    blocks = "".join(re.findall(r"```sql\n(.*?)```", section, re.DOTALL))
    blocks = re.sub(r"--.*", "", blocks).replace("…", PASSWORD).replace("acme.*", f"`{database}`.*")
    blocks = re.sub(r"(ROLE|TO|USER) nightcrew\b", rf"\1 {ROLE}", blocks)
    blocks = re.sub(r"(ROLE|TO|USER) acme\b", rf"\1 {APPLICATION}", blocks)
    return [statement.strip() for statement in blocks.split(";") if statement.strip()]


@pytest.fixture
def role(server_yard):
    """The tables with rows in them, migrated; and the URL of a role that has the page's grants."""
    yard, url = server_yard, server_yard.link.engine.url
    yard.run(*TABLES)
    yard.fill("chats", *({"id": n, "created_at": OLD} for n in range(20)))
    yard.fill("messages", *({"id": n, "chat_id": n} for n in range(20)))
    yard.fill("attachments", *({"id": n, "chat_id": n} for n in range(5)))
    yard.fill("accounts", *({"id": n, "left_at": OLD, "email": f"{n}@x", "name": "Ada"} for n in range(4)))
    yard.fill("ledger", {"id": 1, "at": OLD})
    with closing(Nightcrew(url.render_as_string(hide_password=False), settings=Settings())) as crew:
        crew.migrate()
    there = administrator(server(yard.kind).set(database=url.database), yard.kind)
    ends = ("DROP OWNED BY {}", "DROP ROLE {}") if yard.kind == "postgresql" else ("DROP USER {}@'%%'",)
    made = {
        "postgresql": (
            f"CREATE ROLE {APPLICATION} LOGIN PASSWORD '{PASSWORD}'",
            f"GRANT USAGE ON SCHEMA public TO {APPLICATION}",
        ),
        "mysql": (f"CREATE USER {APPLICATION}@'%%' IDENTIFIED BY '{PASSWORD}'",),
    }
    with there.connect() as connection:
        for statement in made[yard.kind]:
            connection.exec_driver_sql(statement)
        for statement in granted(yard.kind, url.database):
            connection.execute(sa.text(statement.replace(":", r"\:")))
        try:
            yield url.set(username=ROLE, password=PASSWORD).render_as_string(hide_password=False)
        finally:
            for each in (ROLE, APPLICATION):
                for statement in ends:
                    connection.exec_driver_sql(statement.format(each))


def hired(url):
    crew = Nightcrew(url, settings=Settings())
    old = {"older_than": timedelta(days=30), "every": "1 day"}
    crew.expire("chats", "chats", column="created_at", erase=True, **old)
    anonymous = {"action": "anonymize", "set": {"email": None, "name": "gone"}}
    crew.expire("accounts", "accounts", column="left_at", **anonymous, **old)
    crew.expire("ledger", "ledger", column="at", **old)
    crew.expire("history", "nightcrew_runs", column="finished_at", **old)
    return crew


def test_the_grants_of_the_page_are_enough_for_jobs_of_every_kind(role, server_yard):
    with closing(hired(role)) as crew:
        shown = crew.plan("chats", keep=True)
        assert {step.table: step.rows for step in shown.steps} == {"chats": 20, "messages": 20, "attachments": 5}
        assert crew.run("chats", trigger="cli", plan=shown.id).counts == {"chats": 20, "messages": 20, "attachments": 5}
        assert crew.run("accounts", trigger="cli", now=True).deleted == 4
        assert crew.run("history", trigger="cli", now=True).outcome == "nothing_to_do"
        crew.ack("chats", by="alice")
        crew.pause("chats", by="alice", reason="a test")
        crew.resume("chats")
        crew.stop_all(by="alice", reason="a test")
        crew.resume_all()
        assert [each.job.name for each in crew.status()] == ["chats", "accounts", "ledger", "history"]
    assert [server_yard.ids(table) for table in ("chats", "messages", "attachments")] == [[], [], []]
    assert server_yard.ids("accounts", "name") == ["gone"] * 4


def test_the_grants_of_the_page_are_enough_to_tell_of_alarms(role):
    class Tray:
        name, secrets, told = "tray", (), []

        def tell(self, notice, means):
            self.told.append(notice.subject)

    with closing(Nightcrew(role, settings=Settings(), alarms=[Tray()])) as crew:
        crew._station.migrations.ensure()
        crew._station.alarms.saw("previous_secret", "curl#1a2b3c4d")
        assert crew.alarms.look() == 1
        assert Tray.told == ["[nightcrew] this crew is called with the old secret"]


def test_the_grants_of_the_page_are_enough_to_send_mail_and_those_of_an_application_to_enrol(role, server_yard):
    yard, tray = server_yard, Tray()
    yard.fill("users", *({"id": n, "email": f"p{n}@example.com", "verified_at": OLD} for n in range(4)))
    rows = ({"id": n, "user_id": n, "email_type": "day3", "sent": False, "cancelled": n == 1} for n in (0, 1))
    yard.fill("scheduled_emails", *(row | {"scheduled_for": "2020-01-01 00:00:00"} for row in rows))
    people, day3 = People("users", "verified_at"), Step("day3", timedelta(days=3), within=timedelta(days=99_999))
    terms = {"people": people, "per_person": 9, "scheduled_emails": ScheduledEmails()}
    theirs = sa.make_url(role).set(username=APPLICATION).render_as_string(hide_password=False)
    with closing(crew_of(role, tray, Sequence("welcome", (Step("welcome"), day3)), **terms)) as crew:
        engine = application(theirs)
        with engine.begin() as connection:
            for person in (1, 2, 3, 3):
                crew.mail.enroll(connection, person, "welcome")
        with engine.begin() as connection:
            crew.mail.cancel(connection, 3)
        engine.dispose()
        assert crew.run(NAME, now=True).message == "Sent 3 mails."
        assert tray.addresses == ["p0@example.com", "p1@example.com", "p2@example.com"]
        crew.mail.suppress(address="p2@example.com", by="alice")
        assert crew.mail.unsuppress(address="p2@example.com")
        assert crew.run(NAME, now=True).message == "No mail was due."
        with pytest.raises(DatabaseError), crew._station.link.transaction() as connection:
            connection.execute(sa.text("SELECT secret FROM users"))
    assert [bool(sent) for sent in yard.ids("scheduled_emails", "sent")] == [False, True]


def test_a_role_that_foreign_keys_are_hidden_from_runs_nothing(role, server_yard):
    if server_yard.kind != "mysql" or not server_yard.link.engine.dialect.is_mariadb:
        pytest.skip("only MariaDB hides them")
    database = server_yard.link.engine.url.database
    with administrator(server("mysql"), "mysql").connect() as connection:
        connection.exec_driver_sql(f"REVOKE REFERENCES ON `{database}`.* FROM {ROLE}@'%%'")
    with closing(hired(role)) as crew:
        report = crew.run("chats", trigger="cli", now=True)
        assert (report.outcome, len(server_yard.ids("chats"))) == ("refused", 20)
        assert f"GRANT REFERENCES ON `{database}`.* to it" in report.message


def test_what_was_not_granted_is_refused_by_the_database(role, server_yard):
    with closing(hired(role)) as crew:
        report = crew.run("ledger", trigger="cli", now=True)
        assert (report.outcome, server_yard.ids("ledger")) == ("failed", [1])
        with pytest.raises(DatabaseError), crew._station.link.transaction() as connection:
            connection.execute(sa.text("DELETE FROM accounts"))
        with pytest.raises(DatabaseError), crew._station.link.transaction() as connection:
            connection.execute(sa.text("UPDATE chats SET created_at = NULL"))
