"""What a run must not do unasked: a refusal removes nothing, says what it saw, and how to go on."""

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from nightcrew import Nightcrew, Settings
from nightcrew.databases.tables import plans as plan_table

OLD, YOUNG = timedelta(days=30), timedelta(days=1)
CHATS = "CREATE TABLE chats (id {number} PRIMARY KEY, created_at {time} NOT NULL, kept {number}, title {text})"
MESSAGES = """CREATE TABLE messages (id {number} PRIMARY KEY, chat_id {number} NOT NULL,
    FOREIGN KEY (chat_id) REFERENCES chats (id) ON DELETE CASCADE)"""
INDEXES = "CREATE INDEX chats_at ON chats (created_at)", "CREATE INDEX messages_chat ON messages (chat_id)"


@pytest.fixture
def shop(yard):
    """Chats and messages, empty."""
    yard.run(CHATS, MESSAGES, *INDEXES)
    return yard


def ago(age):
    return (datetime.now(UTC) - age).strftime("%Y-%m-%d %H:%M:%S.%f")


def fill(shop, old, young=0, messages=0):
    """Add chats after those that are there, and messages to the oldest of all."""
    first, said = (max(shop.ids(table), default=-1) + 1 for table in ("chats", "messages"))
    ages = [ago(OLD)] * old + [ago(YOUNG)] * young
    for part in range(0, len(ages), 2000):
        numbered = enumerate(ages[part : part + 2000], first + part)
        shop.fill("chats", *({"id": n, "created_at": at, "kept": 0, "title": "t"} for n, at in numbered))
    for part in range(0, messages, 2000):
        numbers = range(said + part, min(said + messages, said + part + 2000))
        shop.fill("messages", *({"id": n, "chat_id": first} for n in numbers))


@contextmanager
def hired(shop, table="chats", column="created_at", **terms):
    crew = Nightcrew(shop.link.engine.url.render_as_string(hide_password=False), settings=Settings())
    crew.expire("sweep", table, column=column, every="1 hour", **{"older_than": timedelta(days=7), **terms})
    crew.migrate()
    try:
        yield crew
    finally:
        crew.close()


def run(crew, **options):
    return crew.run("sweep", trigger="cli", **{"now": True, **options})


def refused(crew, *saw, **options):
    report = run(crew, **options)
    assert (report.outcome, report.deleted) == ("refused", 0), report
    for words in saw:
        assert words in report.message
    return report


# ── the breaker ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_run_that_would_take_too_much_of_a_table_is_refused_and_agreed_to(shop):
    fill(shop, 1100, 500)
    with hired(shop) as crew:
        report = refused(
            crew,
            "was refused: it would take 1,100 of the 1,600 rows of chats (69 %), and more than 20 % is not taken",
            "agree with 'nightcrew ack sweep'; nothing was removed",
        )
        assert (report.outcome.status, report.outcome.exit_code, len(shop.ids("chats"))) == (503, 3, 1600)
        assert refused(crew, "1,100 of the 1,600")
        (why,) = crew.plan("sweep").refusals
        assert why.startswith("it would take 1,100 of the 1,600 rows of chats")
        assert crew.ack("sweep", by="alice").refusals == (why,)
        assert (run(crew).deleted, len(shop.ids("chats"))) == (1100, 500)


def test_what_was_agreed_to_is_run_once_and_by_the_slot_that_was_refused(shop):
    fill(shop, 1100, 500)
    with hired(shop) as crew:
        first = run(crew, now=False)
        assert first.outcome == "refused"
        crew.ack("sweep", by="alice")
        again = run(crew, now=False)
        assert (again.run, again.outcome, again.deleted) == (first.run, "succeeded", 1100)
        fill(shop, 7000)
        refused(crew, "7,000 of the 7,500 rows")  # what one run took is no licence for six times that


def test_the_breaker_counts_what_goes_along(shop):
    fill(shop, 2, 50, messages=1200)
    with hired(shop) as crew:
        refused(crew, "it would take 1,200 of the 1,200 rows of messages (100 %)")
    assert (len(shop.ids("chats")), len(shop.ids("messages"))) == (52, 1200)


def test_rows_that_lose_what_they_refer_to_count_too(yard):
    loose = MESSAGES.replace("chat_id {number} NOT NULL", "chat_id {number}").replace("CASCADE", "SET NULL")
    yard.run(CHATS, loose, *INDEXES)
    fill(yard, 1, 50, messages=1200)
    with hired(yard) as crew:
        refused(crew, "it would take 1,200 of the 1,200 rows of messages (100 %)")


def test_few_rows_may_go_whatever_their_share(shop):
    fill(shop, 1000)
    with hired(shop) as crew:
        assert run(crew).deleted == 1000


def test_what_a_job_usually_takes_it_may_take(shop):
    fill(shop, 1000)
    with hired(shop) as crew:
        run(crew)
        run(crew)  # takes nothing, and says nothing of what is usual
        fill(shop, 4900)
        assert run(crew).deleted == 4900


def test_the_limits_can_be_set_and_lifted(shop):
    fill(shop, 1500, 100, messages=20)
    with hired(shop, max_rows=1519, max_fraction=1) as crew:
        refused(crew, "it would take 1,520 rows (1,500 of chats, 20 of messages), and max_rows is 1,519")
    with hired(shop, max_fraction=0.95) as crew:
        assert run(crew).deleted == 1500


def test_rows_that_come_while_a_run_is_under_way_do_not_carry_it_past_what_it_may(shop):
    fill(shop, 1100, 6000)

    with hired(shop, where="kept = 0", pace="gentle") as crew:
        more = []

        def hear(entry):
            if entry.kind == "batch" and not more:
                more.append(shop.run(f"UPDATE chats SET created_at = '{ago(OLD)}' WHERE id >= 1100"))

        crew._audience._listeners += (hear,)
        report = run(crew)
        assert (report.outcome, report.outcome.exit_code) == ("refused", 3)
        assert "it came upon more rows of chats than there were when it began: more than 1,420" in report.message
        assert report.deleted <= 1420
        assert len(shop.ids("chats")) == 7100 - report.deleted


def test_a_run_that_is_gone_on_with_may_take_what_it_might_before(shop):
    fill(shop, 1100, 500)
    with hired(shop) as crew:
        crew.ack("sweep", by="alice")
        report = run(crew, deadline=timedelta(seconds=0))
        assert report.outcome == "partial"
        assert run(crew).outcome in ("succeeded", "nothing_to_do")
        assert len(shop.ids("chats")) == 500


# ── a policy that was changed ────────────────────────────────────────────────────────────────────────────────────────


def changed(shop, before, after):
    with hired(shop, **before) as crew:
        assert run(crew).outcome in ("succeeded", "nothing_to_do")
    return hired(shop, **after)


def test_a_policy_that_was_shortened_does_not_run_until_somebody_agrees(shop):
    fill(shop, 3, 40, messages=8)
    with changed(shop, {"older_than": timedelta(days=7)}, {"older_than": timedelta(hours=1)}) as crew:
        refused(
            crew,
            "its policy was changed since the last run and would take 40 rows now",
            "where the one before would take 0",
        )
        assert len(shop.ids("chats")) == 40
        crew.ack("sweep", by="alice")
        assert run(crew).deleted == 40


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"where": "kept = 1"}, {"where": None}),
        ({"hold": "kept = 0"}, {}),
        ({"unless_exists": ["messages.chat_id"]}, {}),
        ({"keep_latest": 60}, {"keep_latest": 1}),
        ({"action": "anonymize", "set": {"title": "t"}}, {"action": "delete"}),
        ({"column": "written_at"}, {"column": "created_at"}),
    ],
    ids=["where", "hold", "unless_exists", "keep_latest", "action", "column"],
)
def test_whatever_makes_a_policy_take_more_is_noticed(shop, before, after):
    shop.run("ALTER TABLE chats ADD COLUMN written_at {time}")
    fill(shop, 50)
    shop.fill("messages", *({"id": n, "chat_id": n} for n in range(50)))
    with hired(shop, **before) as crew:
        assert run(crew).outcome == "nothing_to_do"
    with hired(shop, **after) as crew:
        refused(crew, "its policy was changed since the last run", "where the one before would take 0")
    assert len(shop.ids("chats")) == 50


def test_a_policy_that_takes_no_more_than_before_runs_at_once(shop):
    fill(shop, 40, 5)
    with changed(shop, {"where": "id < 30"}, {"where": "id < 35"}) as crew:
        assert run(crew).deleted == 5


def test_a_policy_whose_table_is_gone_counts_as_one_that_took_nothing(shop):
    shop.run("CREATE TABLE beats (id {number} PRIMARY KEY, created_at {time} NOT NULL)")
    with hired(shop, table="beats") as crew:
        assert run(crew).outcome == "nothing_to_do"
    shop.run("DROP TABLE beats")
    fill(shop, 11)
    with hired(shop) as crew:
        refused(crew, "would take 11 rows now, where the one before would take 0")


# ── plans that are run ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_plan_is_run_as_it_was_shown(shop):
    fill(shop, 1100, 500)
    with hired(shop) as crew:
        shown = crew.plan("sweep", keep=True)
        report = run(crew, now=False, plan=shown.id)
        assert (report.outcome, report.deleted, report.slot) == ("succeeded", 1100, None)
        assert (
            f"plan {shown.id} no longer holds: it has been run, by run {report.run}"
            in refused(crew, plan=shown.id).message
        )


def test_rows_that_expire_after_a_plan_was_shown_are_none_of_it(shop):
    fill(shop, 5, 5)
    with hired(shop) as crew:
        shown = crew.plan("sweep", keep=True)
        shop.run(f"UPDATE chats SET created_at = '{ago(timedelta(days=7) - timedelta(seconds=1))}' WHERE id = 7")
        assert shown.rows == 5
        assert run(crew, plan=shown.id).deleted == 5
        assert 7 in shop.ids("chats")


def test_a_plan_that_no_longer_holds_says_why(shop):
    fill(shop, 5, 500)
    with hired(shop) as crew:
        shown = crew.plan("sweep", keep=True)
        shop.run(f"UPDATE chats SET created_at = '{ago(OLD)}' WHERE id < 300")
        refused(crew, f"plan {shown.id} no longer holds: chats would lose 300 rows now, and it showed 5", plan=shown.id)
        with shop.link.transaction() as connection:
            connection.execute(sa.update(plan_table).values(moment=datetime.now(UTC) - timedelta(days=8)))
        refused(crew, "no longer holds: it expired", "draw up another: 'nightcrew plan sweep'", plan=shown.id)
    with hired(shop, where="id < 2") as crew:
        refused(crew, "no longer holds: the policy was changed since", plan=shown.id)
    assert len(shop.ids("chats")) == 505


def test_what_was_agreed_to_is_outgrown_by_much_more(shop):
    fill(shop, 1100, 5000)
    with hired(shop) as crew:
        crew.ack("sweep", by="alice")
        shop.run(f"UPDATE chats SET created_at = '{ago(OLD)}' WHERE id < 1500")
        refused(crew, "it outgrew what alice agreed to: chats would lose 1,500 rows now, and it showed 1,100")


# ── the canary ───────────────────────────────────────────────────────────────────────────────────────────────────────

TRIGGERS = {
    "sqlite": """CREATE TRIGGER t AFTER DELETE ON chats BEGIN DELETE FROM orders WHERE chat = OLD.id; END""",
    "mysql": """CREATE TRIGGER t AFTER DELETE ON chats FOR EACH ROW DELETE FROM orders WHERE chat = OLD.id""",
}


def test_the_first_batch_of_a_new_policy_is_small_and_stops_at_what_no_plan_knows(shop):
    """A trigger that removes rows elsewhere is in no plan: the database itself is asked what left."""
    shop.run("CREATE TABLE orders (id {number} PRIMARY KEY, chat {number})")
    fill(shop, 40)
    shop.fill("orders", *({"id": n, "chat": n} for n in range(40)))
    add_trigger(shop)
    with hired(shop) as crew:
        report = refused(crew, "the first batch also removed rows of", "was undone", "nothing was removed")
        assert ("orders" in report.message) is (shop.kind != "mysql")
        assert (len(shop.ids("chats")), len(shop.ids("orders"))) == (40, 40)
        crew.ack("sweep", by="alice")
        assert (run(crew).deleted, shop.ids("orders")) == (40, [])
        fill(shop, 20)
        assert run(crew).deleted == 20


def add_trigger(shop):
    if shop.kind == "postgresql":
        shop.run(
            "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN DELETE FROM orders WHERE chat = OLD.id;"
            " RETURN NULL; END'",
            "CREATE TRIGGER t AFTER DELETE ON chats FOR EACH ROW EXECUTE FUNCTION f()",
        )
    else:
        with shop.link.transaction() as connection:
            connection.exec_driver_sql(TRIGGERS[shop.kind])


@pytest.mark.parametrize("terms", [{}, {"where": "1 = 1"}], ids=["as before", "changed"])
def test_the_first_batch_of_a_new_or_changed_policy_takes_ten_rows(shop, terms):
    fill(shop, 60, 60)
    with hired(shop) as crew:
        assert batches(crew, run(crew)) == [10, 50]
    fill(shop, 30)
    with hired(shop, **terms) as crew:
        assert batches(crew, run(crew)) == ([10, 20] if terms else [30])


def batches(crew, report):
    return [entry["facts"]["rows"] for entry in crew.entries(report.run) if entry["kind"] == "batch"]
