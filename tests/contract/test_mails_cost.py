"""What is asked of the database for every few mails costs as much as it finds, however many mails there are."""

import pytest
import sqlalchemy as sa
from tests.tray import Tray, enroll, people, send

from nightcrew.mail import ScheduledEmails
from nightcrew.sequence import DAY, Sequence, Step

ONE = Sequence("welcome", (Step("welcome"),))
NUMBERS = {
    "postgresql": "generate_series(1, 5000) AS numbers(n)",
    "mysql": "(SELECT seq AS n FROM seq_1_to_5000) AS numbers",
}
DAYS_ON = {"postgresql": "now() + {} * interval '1 day'", "mysql": "UTC_TIMESTAMP(6) + INTERVAL {} DAY"}
MAILS = (
    "INSERT INTO nightcrew_mails"
    " (key, sequence, step, names, person, planned_at, state, due_at, sent_at, attempts, adopted)"
    " SELECT n, 'welcome', 'welcome', 'welcome', {}, {}, {}, {}, {}, 1, false FROM {}"
)
THEIRS = (
    "CREATE TABLE scheduled_emails (user_id {number} PRIMARY KEY, email_type {text}, scheduled_for {time},"
    " sent BOOLEAN, sent_at {time}, cancelled BOOLEAN)"
)


def plans(link, act):
    """Do something about mail, and return each statement with how many rows it reads in vain."""
    said = []

    def note(_connection, _cursor, statement, parameters, *_):
        if "nightcrew_mails" in statement and not statement.startswith("INSERT"):
            said.append((statement, parameters))

    sa.event.listen(link.engine, "before_cursor_execute", note)
    act()
    sa.event.remove(link.engine, "before_cursor_execute", note)
    assert said
    with link.engine.connect() as connection:
        return [(statement, in_vain(connection, statement, parameters)) for statement, parameters in said]


def in_vain(connection, statement, parameters):
    """Count the rows that PostgreSQL reads to leave them out, and those that MariaDB expects to read."""
    if connection.dialect.name == "mysql":
        rows = connection.exec_driver_sql(f"EXPLAIN {statement}", parameters).mappings().all()
        return sum(int(row["rows"] or 0) for row in rows) // 10
    connection.exec_driver_sql("SET LOCAL enable_seqscan = off")  # which so small a table is read by anyway
    (plan,) = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters).scalar_one()
    connection.rollback()
    return sum(removed(plan["Plan"]))


def removed(node):
    yield node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Join Filter", 0)
    for below in node.get("Plans", ()):
        yield from removed(below)


@pytest.mark.parametrize("database_url", ["postgresql", "mysql"], indirect=True)
def test_neither_mails_that_wait_nor_those_that_left_are_read_for_what_is_due(yard, engine, crew):
    yard.run(THEIRS)
    station, days = crew(Tray(), ONE)._station, DAYS_ON[yard.kind].format
    with engine.begin() as connection:
        for person, state, due, sent in (("n", "'waiting'", days(9), "NULL"), ("n + 5000", "'sent'", "NULL", days(-9))):
            written = MAILS.format(person, days(-9), state, due, sent, NUMBERS[yard.kind])
            connection.exec_driver_sql(written if yard.kind == "postgresql" else written.replace("key", "`key`"))
        connection.exec_driver_sql(f"ANALYZE {'' if yard.kind == 'postgresql' else 'TABLE '}nightcrew_mails")
    post, adopted = station.mails, station.adopted
    for act in (
        lambda: post.claim(["welcome"], 100, "a token"), lambda: post.left(DAY), post.waiting,
        lambda: post.abandoned(DAY), lambda: adopted.tell(ScheduledEmails(), 100),
    ):  # fmt: skip
        for statement, wasted in plans(station.link, act):
            assert not wasted, statement


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_what_an_application_scheduled_is_taken_over_without_a_look_at_all_that_was(yard, engine, crew):
    """No figures tell yet how much that is."""
    yard.run(THEIRS)
    station, table = crew(Tray(), ONE)._station, ScheduledEmails()
    rows = "SELECT n, 'welcome', now() - interval '1 day', false, NULL, false FROM generate_series(1, 3000) n"
    with engine.begin() as connection:
        connection.exec_driver_sql(f"INSERT INTO scheduled_emails {rows}")
    assert station.adopted.take(table, ["welcome"], 2_000) == 2_000
    for statement, wasted in plans(station.link, lambda: station.adopted.take(table, ["welcome"], 500)):
        assert wasted <= 3_000, statement


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_mail_is_found_by_its_id_where_the_planner_thinks_that_none_waits(yard, engine, crew):
    """Its figures are from when all had been sent: it would go through all that wait, for each of them."""
    one = crew(Tray(), ONE)
    yard.fill("people", *people(*range(200)))
    long_ago = (
        "INSERT INTO nightcrew_mails (key, sequence, step, names, person, planned_at, state, attempts, adopted)"
        " SELECT n, 'welcome', 'welcome', 'welcome', 'p' || n, now(), 'sent', 1, false FROM generate_series(1, 20000) n"
    )
    with engine.begin() as connection:
        connection.exec_driver_sql(long_ago)
        connection.exec_driver_sql("ANALYZE nightcrew_mails")
    enroll(one, engine, *range(200))
    send(one)
    one.close()
    scans = (
        "SELECT idx_scan FROM pg_stat_user_indexes"
        " WHERE indexrelname = 'nightcrew_mails_state_due_at' AND schemaname = current_schema()"
    )
    with engine.connect() as connection:
        assert connection.exec_driver_sql(scans).scalar_one() < 100


@pytest.mark.parametrize("database_url", ["mysql"], indirect=True)
def test_a_mail_leaves_without_a_look_at_everybody_whom_nothing_is_sent_to(yard, engine, crew):
    one = crew(Tray(), ONE)
    yard.fill("people", *people(*range(20)))
    others = [(f"p:{number}", "", "asked", "a test", "2024-01-01") for number in range(1_000_000, 1_005_000)]
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO nightcrew_suppressions VALUES (%s, %s, %s, %s, %s)", others)
        connection.exec_driver_sql("ANALYZE TABLE nightcrew_suppressions")
    enroll(one, engine, *range(20))
    said = []

    def note(_connection, _cursor, statement, parameters, *_):
        if statement.startswith("UPDATE nightcrew_mails") and "nightcrew_suppressions" in statement:
            said.append((statement, parameters))

    sa.event.listen(one._station.link.engine, "before_cursor_execute", note)
    send(one)
    with engine.connect() as connection:
        steps = connection.exec_driver_sql(f"EXPLAIN {said[0][0]}", said[0][1]).mappings().all()
    assert not {step["type"] for step in steps} & {"ALL", "index"}
