"""What a policy means in a database: forms, what hangs on a table, what stands in the way, and what is unwise."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from nightcrew import closure, plan
from nightcrew.database import Absence, Form
from nightcrew.databases import catalog
from nightcrew.errors import PolicyError
from nightcrew.job import Job
from nightcrew.plan import Step
from nightcrew.policy import Action, Policy, Sql
from nightcrew.schedule import cron

MOMENT = datetime(2024, 6, 15, 12, tzinfo=UTC)
DAY = timedelta(days=1)
TOKENS = Policy("tokens", "ends_at", DAY)
CHATS = Policy("chats", "at", DAY)


def anonymized(**values):
    return Policy("tokens", "ends_at", DAY, action=Action.ANONYMIZE, set=values)


@pytest.fixture
def yard(sqlite_yard):
    sqlite_yard.run(
        "CREATE TABLE tokens (id INTEGER PRIMARY KEY, ends_at DATETIME NOT NULL, used_at DATETIME, kind TEXT,"
        " made_at DATETIME NOT NULL DEFAULT '', mail TEXT UNIQUE, room TEXT, seat TEXT, UNIQUE (room, seat))",
        "CREATE INDEX tokens_end ON tokens (ends_at)",
        "CREATE INDEX tokens_used ON tokens (used_at)",
        "CREATE TABLE chats (id INTEGER PRIMARY KEY, at DATETIME NOT NULL, last_id INTEGER)",
        "CREATE INDEX chats_at ON chats (at)",
        "CREATE TABLE drafts (id INTEGER PRIMARY KEY, chat_id INTEGER)",
    )
    return sqlite_yard


def child(yard, name, parent, rule="CASCADE", index=True, column="up"):
    yard.run(
        f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, {column} INTEGER REFERENCES {parent} (id) ON DELETE {rule})",
        *[f"CREATE INDEX {name}_{column} ON {name} ({column})"] * index,
    )


def ends(paths):
    return [path[-1].table for path in paths]


def warnings(yard, policy):
    return plan.draw_up(Job("clean", cron("0 0 * * *"), policy), MOMENT, yard.rows).warnings


# ── forms ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("policy", "form"),
    [
        (TOKENS, Form.RANGE),
        (replace(TOKENS, erase=True), Form.RANGE),
        (replace(TOKENS, column="used_at"), Form.RANGE),
        (replace(TOKENS, where="kind = 'x'"), Form.RANGE),
        (replace(TOKENS, hold="kind = 'selected'"), Form.RANGE),
        (Policy("tokens", "used_at", action=Action.CLEAR), Form.CONTENDED),
        (replace(TOKENS, where="id IN (SELECT 1)"), Form.LOCKED),
        (replace(TOKENS, hold="exists(select 1)"), Form.LOCKED),
        (replace(TOKENS, unless_exists=("drafts.chat_id",)), Form.LOCKED),
        (Policy("tokens", "used_at", action=Action.CLEAR, where="(SELECT 1) = 1"), Form.LOCKED),
        (Policy("tokens", "ends_at", action=Action.ANONYMIZE, set={"kind": "x"}), Form.CONTENDED),
        (Policy("tokens", "ends_at", action=Action.ANONYMIZE, set={"kind": Sql("lower(kind)")}), Form.CONTENDED),
        (replace(TOKENS, keep_latest=1), Form.LOCKED),
    ],
)
def test_the_form_follows_from_what_may_happen_to_a_row_in_a_file_with_one_writer(yard, policy, form):
    assert yard.select(policy).form is form


@pytest.mark.parametrize("rule", ["CASCADE", "SET NULL", "NO ACTION"])
def test_a_row_that_others_hang_on_is_locked_first(yard, rule):
    child(yard, "messages", "chats", rule)
    assert yard.select(replace(CHATS, erase=True)).form is Form.LOCKED
    assert yard.select(replace(CHATS, unless_exists=("messages.up",))).form is Form.LOCKED


@pytest.mark.parametrize(
    "policy",
    [
        Policy("keyless", "seen_at", action=Action.CLEAR),
        Policy("keyless", "at", where="at IN (SELECT 1)"),
    ],
)
def test_a_form_that_finds_rows_again_needs_a_key(yard, policy):
    yard.run("CREATE TABLE keyless (at DATETIME NOT NULL, seen_at DATETIME)")
    with pytest.raises(PolicyError, match=r"table 'keyless' has no primary key.*add one"):
        yard.select(policy)
    assert yard.select(Policy("keyless", "at")).form is Form.RANGE


def test_the_selection_carries_what_the_policy_says(yard):
    policy = Policy("tokens", "used_at", 2 * DAY, "kind = 'x'", "kind = 'y'", action=Action.CLEAR, set={"kind": "z"})
    selection = yard.select(policy)
    assert selection.cut == MOMENT - 2 * DAY
    assert (selection.where, selection.hold, selection.set) == ("kind = 'x'", "kind = 'y'", {"kind": "z"})
    assert (selection.column, selection.action) == ("used_at", Action.CLEAR)


# ── names ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("policy", "sentence"),
    [
        (Policy("token", "ends_at"), r"table 'token' is not in the database; did you mean 'tokens'\?"),
        (Policy("tokens", "end_at"), r"table 'tokens' has no column 'end_at'; did you mean 'ends_at'\?"),
        (Policy("tokens", "ENDS_AT"), r"has no column 'ENDS_AT'; did you mean 'ends_at'\?"),
        (Policy("tokens", "used_at", action=Action.CLEAR, set={"kin": 1}), r"no column 'kin'; did you mean 'kind'\?"),
        (Policy("tokens", "used_at", action=Action.CLEAR, set={"used_at": 1}), "set gives column 'used_at' a value"),
        (Policy("tokens", "ends_at", action=Action.CLEAR), "'ends_at' of table 'tokens' is NOT NULL"),
        (anonymized(kin=1), r"no column 'kin'; did you mean 'kind'\?"),
        (anonymized(ends_at=None), "set gives column 'ends_at' a value, and the action 'anonymize' leaves it as it is"),
        (anonymized(id=1), "set gives column 'id' a value, and rows of table 'tokens' are known by it"),
        (anonymized(made_at=None), "'made_at' of table 'tokens' is NOT NULL: give it another value than NULL"),
        (anonymized(made_at=Sql(" null ")), "'made_at' of table 'tokens' is NOT NULL"),
        (anonymized(kind=Sql("(SELECT 1)")), "set gives column 'kind' what a sub-select finds"),
        (anonymized(kind=Sql('"kin" || 1')), r"""SQL '"kin" .*has no column 'kin'; did you mean 'kind'\?"""),
        (anonymized(mail="x"), r"set gives mail the same value in every row, .*such as { sql = \"'gone-' \|\| id\" }"),
        (replace(TOKENS, keep_latest=1, per=("kin",)), r"no column 'kin'; did you mean 'kind'\?"),
        (replace(CHATS, unless_exists=("draft.chat_id",)), r"table 'draft' is not in .*; did you mean 'drafts'\?"),
        (replace(CHATS, unless_exists=("drafts.chat",)), r"'drafts' has no column 'chat'; did you mean 'chat_id'\?"),
    ],
)
def test_a_wrong_name_is_answered_with_the_right_one(yard, policy, sentence):
    with pytest.raises(PolicyError, match=sentence):
        yard.select(policy)


# ── unless_exists ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_quote_within_a_quoted_name_is_written_twice(yard):
    yard.run('CREATE TABLE odd (id {number} PRIMARY KEY, at {time} NOT NULL, "1"" pipe" {number})')
    assert yard.select(Policy("odd", "at", where='"1"" pipe" = 1')).form is Form.RANGE


def test_an_absence_follows_the_foreign_key_or_else_the_primary_key(yard):
    child(yard, "messages", "chats")
    selection = yard.select(replace(CHATS, unless_exists=("messages.up", "drafts.chat_id")))
    assert selection.absences == (Absence("messages", ("up",), ("id",)), Absence("drafts", ("chat_id",), ("id",)))
    assert (selection.cascades, selection.drains) == ((), ())


def test_an_absence_follows_all_columns_of_its_key(yard):
    yard.run(
        "CREATE TABLE rooms (a INTEGER, b INTEGER, at DATETIME, PRIMARY KEY (a, b))",
        "CREATE TABLE visits (id INTEGER PRIMARY KEY, x INTEGER, y INTEGER, FOREIGN KEY (x, y) REFERENCES rooms)",
    )
    policy = Policy("rooms", "at", unless_exists=("visits.y",))
    assert yard.select(policy).absences == (Absence("visits", ("x", "y"), ("a", "b")),)
    with pytest.raises(PolicyError, match="no foreign key to table 'rooms', whose primary key has 2 columns"):
        yard.select(replace(policy, unless_exists=("drafts.chat_id",)))


def test_a_column_of_several_keys_stands_for_them_all_and_one_of_its_own_for_one(yard):
    yard.run(
        "CREATE TABLE rooms (a INTEGER, b INTEGER, at DATETIME, PRIMARY KEY (a, b))",
        "CREATE TABLE visits (id INTEGER PRIMARY KEY, a INTEGER, here INTEGER, next INTEGER,"
        " FOREIGN KEY (a, here) REFERENCES rooms ON DELETE CASCADE,"
        " FOREIGN KEY (a, next) REFERENCES rooms ON DELETE CASCADE)",
        "CREATE INDEX visits_here ON visits (a, here)",
        "CREATE INDEX visits_next ON visits (a, next)",
        *(f"INSERT INTO rooms VALUES ({n // 4}, {n % 4}, '2024-01-01 00:00:00')" for n in range(8)),
        "INSERT INTO visits VALUES (1, 0, 1, 2), (2, 1, 1, NULL), (3, NULL, 3, 3)",
    )
    policy = Policy("rooms", "at", unless_exists=("visits.next",))
    assert yard.select(policy).absences == (Absence("visits", ("a", "next"), ("a", "b")),)
    assert [path[-1].columns for path in yard.select(policy).cascades] == [("a", "here")]
    shared = yard.select(replace(policy, unless_exists=("visits.a", "visits.next")))
    assert {absence.columns for absence in shared.absences} == {("a", "here"), ("a", "next")}
    assert (len(shared.absences), shared.cascades) == (2, ())
    assert yard.sweep(shared) == {"rooms": 5}
    assert yard.ids("visits") == [1, 2, 3]


def test_an_absence_without_a_key_or_an_index_is_warned_of(yard):
    soft, slow = warnings(yard, replace(CHATS, unless_exists=("drafts.chat_id",)))
    assert soft.startswith("drafts.chat_id is no foreign key to chats")
    assert slow.endswith("CREATE INDEX drafts_chat_id_idx ON drafts (chat_id);")


# ── what hangs on a table ────────────────────────────────────────────────────────────────────────────────────────


def test_indexed_cascades_are_the_databases_own_all_the_way_down(yard):
    child(yard, "messages", "chats")
    child(yard, "parts", "messages")
    selection = yard.select(CHATS)
    assert (ends(selection.cascades), selection.drains) == (["messages", "parts"], ())
    assert warnings(yard, CHATS) == ()


def test_a_cascade_without_an_index_is_drained_and_its_index_is_spelled_out(yard):
    child(yard, "messages", "chats", index=False)
    child(yard, "parts", "messages")
    selection = yard.select(CHATS)
    assert (ends(selection.drains), ends(selection.cascades)) == (["messages"], ["parts"])
    (warning,) = warnings(yard, CHATS)
    assert warning == (
        "no index begins with messages.up, so every row that leaves chats reads all of messages:"
        " CREATE INDEX messages_up_idx ON messages (up);"
    )


@pytest.mark.parametrize("rule", ["CASCADE", "SET NULL", "NO ACTION"])
def test_a_large_table_that_would_be_read_for_every_row_is_refused_unless_that_is_allowed(yard, rule, monkeypatch):
    monkeypatch.setattr(catalog, "_LARGE", 3)
    policy = replace(CHATS, erase=True)
    child(yard, "messages", "chats", rule, index=False)
    child(yard, "parts", "messages", index=False)
    yard.fill("messages", *[{"id": n, "up": None} for n in range(3)])
    assert "CREATE INDEX messages_up_idx" in warnings(yard, policy)[0]
    yard.fill("messages", {"id": 3, "up": None})
    with pytest.raises(PolicyError) as error:
        yard.select(policy)
    assert str(error.value) == (
        "no index begins with messages.up, so every row that leaves chats reads all of messages:"
        " CREATE INDEX messages_up_idx ON messages (up); (or say allow_unindexed = true, and be slow)"
    )
    assert "CREATE INDEX messages_up_idx" in warnings(yard, replace(policy, allow_unindexed=True))[0]
    yard.run("CREATE INDEX messages_up_idx ON messages (up);")
    yard.select(policy)


def test_what_hangs_on_a_drained_table_is_drained_before_it_and_all_above_after(yard):
    child(yard, "messages", "chats")
    child(yard, "parts", "messages")
    child(yard, "bytes", "parts", "RESTRICT")
    child(yard, "tags", "chats")
    selection = yard.select(replace(CHATS, erase=True))
    assert ends(selection.drains) == ["bytes", "parts", "messages"]
    assert ends(selection.cascades) == ["tags"]


@pytest.mark.parametrize("rule", ["SET NULL", "SET DEFAULT"])
def test_rows_that_only_lose_their_parent_stay(yard, rule):
    child(yard, "messages", "chats", rule, index=False)
    child(yard, "parts", "messages", "NO ACTION")
    selection = yard.select(CHATS)
    assert (selection.drains, selection.cascades) == ((), ())
    assert "CREATE INDEX messages_up_idx" in warnings(yard, CHATS)[0]


@pytest.mark.parametrize("rule", ["NO ACTION", "RESTRICT"])
def test_a_key_in_the_way_is_refused_with_both_tables_and_the_ways_out(yard, rule):
    child(yard, "messages", "chats", rule)
    with pytest.raises(PolicyError) as error:
        yard.select(CHATS)
    assert str(error.value) == (
        f"rows of table 'chats' cannot leave while rows of table 'messages' refer to them by up (ON DELETE {rule}):"
        " say erase = true to delete those too, or unless_exists = ['messages.up'] to keep rows that have any"
    )
    assert ends(yard.select(replace(CHATS, erase=True)).drains) == ["messages"]
    assert yard.select(replace(CHATS, unless_exists=("messages.up",))).drains == ()


def test_a_key_in_the_way_further_down_is_refused_too(yard):
    child(yard, "messages", "chats")
    child(yard, "parts", "messages", "NO ACTION")
    with pytest.raises(
        PolicyError, match=r"table 'messages' .* table 'parts' .*: say erase = true to delete those too$"
    ):
        yard.select(CHATS)


def test_clearing_lets_every_child_be(yard):
    child(yard, "uses", "tokens", "RESTRICT", index=False)
    assert warnings(yard, Policy("tokens", "used_at", action=Action.CLEAR)) == ()


def test_tables_that_refer_to_each_other_are_emptied_together_and_those_below_before(yard):
    child(yard, "messages", "chats")
    child(yard, "replies", "messages")
    child(yard, "stars", "replies")
    yard.run(
        "DROP TABLE chats",
        "CREATE TABLE chats (id INTEGER PRIMARY KEY, at DATETIME, last_id INTEGER"
        " REFERENCES replies (id) ON DELETE CASCADE)",
        "CREATE INDEX chats_last ON chats (last_id)",
    )
    selection = yard.select(CHATS)
    assert (selection.knots[0], set(selection.knots[1])) == (("stars",), {"chats", "messages", "replies"})
    *_, own, more = warnings(yard, CHATS)
    assert own.startswith("rows of chats that hang by last_id on a row that leaves go with it")
    assert more.startswith("more rows of chats, messages, replies, stars may go than are counted here")
    with pytest.raises(PolicyError, match=r"keep could leave with others: give that key ON DELETE SET NULL"):
        yard.select(replace(CHATS, hold="id = 1"))
    yard.run(
        "DROP TABLE chats",
        "CREATE TABLE chats (id INTEGER PRIMARY KEY, at DATETIME, last_id INTEGER"
        " REFERENCES replies (id) ON DELETE SET NULL)",
    )
    selection = yard.select(CHATS)
    assert (ends(selection.cascades), selection.knots) == (["messages", "replies", "stars"], ())


def tree(yard, rule):
    yard.run(
        "CREATE TABLE notes (id INTEGER PRIMARY KEY, at DATETIME NOT NULL,"
        f" up INTEGER REFERENCES notes (id) ON DELETE {rule})",
        "CREATE INDEX notes_at ON notes (at)",
        "CREATE INDEX notes_up ON notes (up)",
    )
    return Policy("notes", "at", DAY)


def test_a_table_that_refers_to_itself_takes_its_trees_along_unless_some_rows_are_to_be_kept(yard):
    policy = tree(yard, "CASCADE")
    assert yard.select(policy).knots == (("notes",),)
    own, more = warnings(yard, policy)
    assert own == "rows of notes that hang by up on a row that leaves go with it, whatever their age"
    assert more == (
        "more rows of notes may go than are counted here: those that hang on other rows of their own table are found as"
        " they leave"
    )
    child(yard, "stars", "notes", "NO ACTION")
    policy = replace(policy, erase=True)
    assert yard.select(policy).knots == (("stars",), ("notes",))
    for more in ({"hold": "id = 1"}, {"unless_exists": ("drafts.chat_id",)}, {"keep_latest": 1}):
        with pytest.raises(PolicyError, match=r"'notes' hang on others of it by up, .* unless_exists = \['notes.up'\]"):
            yard.select(replace(policy, **more))
    assert yard.select(replace(policy, unless_exists=("notes.up",))).knots == ()


def test_a_table_that_refers_to_itself_without_a_rule_asks_for_its_leaves_first_or_for_all(yard):
    policy = tree(yard, "NO ACTION")
    with pytest.raises(PolicyError, match=r"'notes' cannot leave .*: say erase .* or unless_exists = \['notes.up'\]"):
        yard.select(policy)
    assert yard.select(replace(policy, unless_exists=("notes.up",))).form is Form.LOCKED
    assert yard.select(replace(policy, erase=True)).knots == (("notes",),)


def test_a_child_that_refers_to_itself_is_followed_row_by_row(yard):
    child(yard, "messages", "chats")
    yard.run("ALTER TABLE messages ADD COLUMN reply_to INTEGER REFERENCES messages (id) ON DELETE CASCADE")
    yard.run("CREATE INDEX messages_reply ON messages (reply_to)")
    selection = yard.select(replace(CHATS, hold="id = 1"))
    assert (ends(selection.cascades), selection.knots) == (["messages"], (("messages",), ("chats",)))


# ── links ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_link_is_followed_as_a_foreign_key_is_with_what_hangs_below_it(yard):
    child(yard, "words", "drafts", "NO ACTION")
    policy = replace(CHATS, links=("drafts.chat_id",), erase=True)
    selection = yard.select(policy)
    assert (ends(selection.drains), selection.form, selection.alone) == (["words", "drafts"], Form.LOCKED, False)
    yard.run("CREATE TABLE logs (id INTEGER PRIMARY KEY, at DATETIME NOT NULL)")
    logs = Policy("logs", "at", DAY, erase=True)
    assert [yard.select(replace(logs, links=links)).alone for links in ((), ("drafts.chat_id",))] == [True, False]
    slow, late = warnings(yard, policy)
    assert slow.endswith("CREATE INDEX drafts_chat_id_idx ON drafts (chat_id);")
    assert late == (
        "drafts.chat_id is no foreign key to chats, so a row that is inserted there in the very moment of a delete"
        " stays behind: declare it one"
    )


def test_a_link_may_refer_to_a_table_further_down_and_is_none_once_it_is_a_foreign_key(yard):
    child(yard, "messages", "chats")
    policy = replace(CHATS, links=("drafts.chat_id=messages.id", "messages.up"))
    assert ends(yard.select(policy).drains) == ["drafts", "messages"]


@pytest.mark.parametrize(
    ("link", "sentence"),
    [
        ("draft.chat_id", r"table 'draft' is not in the database; did you mean 'drafts'\?"),
        ("drafts.chat", r"'drafts' has no column 'chat'; did you mean 'chat_id'\?"),
        ("drafts.chat_id = chats.no", r"table 'chats' has no column 'no'"),
        ("drafts.chat_id = tokens.id", "refers to table 'tokens', of which nothing leaves with rows of 'chats'"),
        ("drafts.chat_id = pairs.a", "of which nothing leaves"),
    ],
)
def test_a_link_that_leads_nowhere_is_refused(yard, link, sentence):
    yard.run("CREATE TABLE pairs (a INTEGER, b INTEGER, at DATETIME, PRIMARY KEY (a, b))")
    with pytest.raises(PolicyError, match=sentence) as error:
        yard.select(replace(CHATS, links=(link,)))
    assert error.value.key == "links"
    with pytest.raises(PolicyError, match=r"primary key of table 'pairs' has 2 columns: declare .* 'drafts.chat_id ="):
        yard.select(Policy("pairs", "at", links=("drafts.chat_id",)))


# ── dry runs ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_plan_lists_what_would_happen_in_order_and_changes_nothing(yard):
    child(yard, "messages", "chats", "NO ACTION")
    child(yard, "parts", "messages")
    yard.fill("chats", *[{"id": n, "at": n * DAY} for n in range(5)])
    yard.fill("messages", *[{"id": n, "up": n % 5} for n in range(10)])
    yard.fill("parts", *[{"id": n, "up": n % 10} for n in range(30)])
    drawn = plan.draw_up(Job("clean", cron("0 0 * * *"), replace(CHATS, erase=True)), MOMENT, yard.rows)
    oldest, newest = "2024-06-11T12:00:00Z", "2024-06-13T12:00:00Z"
    assert drawn.steps == (
        Step("messages", "delete", 6, index="messages_up", note="before chats"),
        Step("chats", "delete", 3, oldest, newest, "chats_at", "locked", sample=({"id": 4}, {"id": 3}, {"id": 2})),
        Step("parts", "cascade", 18, index="parts_up", note="with chats"),
    )
    assert (drawn.job, drawn.moment, drawn.rows, drawn.warnings) == ("clean", MOMENT, 3, ())
    assert len(yard.ids("chats")) == 5
    said = drawn.json()
    assert (said["moment"], said["rows"], len(said["steps"])) == ("2024-06-15T12:00:00.000Z", 3, 3)
    assert said["steps"][1]["form"] == "locked"
    assert [step["index"] for step in said["steps"]] == ["messages_up", "chats_at", "parts_up"]


@pytest.mark.parametrize("rule", ["SET NULL", "SET DEFAULT"])
def test_rows_that_outlive_what_they_refer_to_have_a_step_and_an_erasure_warns_of_them(yard, rule):
    child(yard, "messages", "chats", rule)
    child(yard, "parts", "messages", rule)
    yard.fill("chats", *[{"id": n, "at": n * DAY} for n in range(5)])
    job = Job("clean", cron("0 0 * * *"), CHATS)
    assert plan.draw_up(job, MOMENT, yard.rows).steps[1:] == (
        Step("messages", rule.lower(), 0, index="messages_up", note="up of rows that refer to chats"),
    )
    yard.fill("messages", *[{"id": n, "up": n % 5} for n in range(10)])
    erasing = job.but(erase=True)
    for one, warned in ((job, 0), (erasing, 1)):
        drawn = plan.draw_up(one, MOMENT, yard.rows)
        assert [(step.table, step.how, step.rows) for step in drawn.steps[1:]] == [("messages", rule.lower(), 6)]
        assert len([line for line in drawn.warnings if "6 rows of messages outlive" in line]) == warned
        assert drawn.rows == 3


def test_a_missing_time_index_is_warned_of_with_the_line_to_paste(yard):
    yard.run('CREATE TABLE "order" (id INTEGER PRIMARY KEY, "At Time" DATETIME NOT NULL)')
    yard.run("CREATE TABLE logs (id INTEGER PRIMARY KEY, at DATETIME NOT NULL)")
    (warning,) = warnings(yard, Policy("logs", "at"))
    assert warning.endswith("so a sweep reads all of logs: CREATE INDEX logs_at_idx ON logs (at);")


def test_a_reserved_name_is_quoted_in_the_line_to_paste(yard):
    yard.run('CREATE TABLE "order" (id INTEGER PRIMARY KEY, at DATETIME NOT NULL)')
    (warning,) = warnings(yard, Policy("order", "at"))
    line = warning.partition(": ")[2]
    assert line == 'CREATE INDEX order_at_idx ON "order" (at);'
    yard.run(line)
    assert warnings(yard, Policy("order", "at")) == ()


def test_a_value_that_may_come_twice_is_warned_of(yard):
    (warning,) = warnings(yard, anonymized(room="x"))
    assert warning == (
        "set gives room the same value in every row, and rows of tokens must differ in room, seat: two that become"
        " alike stop the job"
    )
    with pytest.raises(PolicyError, match="set gives room, seat the same value in every row"):
        yard.select(anonymized(room="x", seat="y"))
    unique = {"mail": Sql("'x' || id"), "kind": "x"}
    assert warnings(yard, anonymized(**unique)) == warnings(yard, anonymized(mail=None)) == ()


@pytest.mark.parametrize("index", ["kind, room, ends_at", "room, kind, ends_at, id"])
def test_an_index_through_the_group_is_missed_with_the_line_to_paste(yard, index):
    policy = replace(TOKENS, keep_latest=3, per=("kind", "room"))
    assert warnings(yard, replace(TOKENS, keep_latest=3)) == ()
    yard.run("CREATE INDEX useless ON tokens (kind, ends_at, room)")
    (warning,) = warnings(yard, policy)
    assert warning.endswith(
        "its group is searched for newer ones:"
        " CREATE INDEX tokens_kind_room_ends_at_idx ON tokens (kind, room, ends_at);"
    )
    yard.run(f"CREATE INDEX useful ON tokens ({index})")
    assert warnings(yard, policy) == ()


def test_the_latest_are_told_apart_by_a_key(yard):
    yard.run("CREATE TABLE keyless (at DATETIME NOT NULL)")
    with pytest.raises(PolicyError, match="keep_latest tells rows of one time apart by a primary key: add one"):
        yard.select(Policy("keyless", "at", keep_latest=1))


def test_a_plan_says_that_rows_are_anonymized(yard):
    yard.fill("tokens", {"id": 1, "ends_at": 2 * DAY}, {"id": 2, "ends_at": 0 * DAY})
    (step,) = plan.draw_up(Job("clean", cron("0 0 * * *"), anonymized(kind="x")), MOMENT, yard.rows).steps
    assert (step.how, step.rows, step.form) == ("anonymize", 1, "contended")


def test_a_job_that_is_a_function_has_no_steps(yard):
    drawn = plan.draw_up(Job("call", cron("0 0 * * *"), function=lambda run: None), MOMENT, yard.rows)
    assert (drawn.steps, drawn.rows) == ((), 0)
    assert "function of its own" in drawn.warnings[0]


def test_too_many_ways_down_are_refused(yard, monkeypatch):
    monkeypatch.setattr(closure, "_MOST_PATHS", 3)
    for number in range(6):
        child(yard, f"c{number}", f"c{number - 1}" if number else "chats")
    with pytest.raises(PolicyError, match="more than 3 foreign keys lead down from 'chats'"):
        yard.select(CHATS)
