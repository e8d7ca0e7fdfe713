"""A policy that contradicts itself is refused when it is written, not when it runs."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from nightcrew.errors import PolicyError
from nightcrew.policy import Action, Policy, Sql
from nightcrew.terms import column_name, table_name

MOMENT = datetime(2026, 11, 1, 12, tzinfo=UTC)


def test_a_row_expires_by_the_moment_minus_its_age():
    assert Policy("t", "c", older_than=timedelta(days=30)).cutoff(MOMENT) == datetime(2026, 10, 2, 12, tzinfo=UTC)
    assert Policy("t", "c").cutoff(MOMENT) == MOMENT


def test_a_naive_moment_is_refused():
    with pytest.raises(PolicyError, match="no time zone"):
        Policy("t", "c").cutoff(MOMENT.replace(tzinfo=None))


def test_an_age_before_the_calendar_is_refused():
    with pytest.raises(PolicyError, match="year 1"):
        Policy("t", "c", older_than=timedelta(days=999_999)).cutoff(MOMENT)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"table": "users; drop table users"}, "no table name"),
        ({"table": "a.b.c"}, "no table name"),
        ({"table": ""}, "no table name"),
        ({"column": " created_at"}, "no column name"),
        ({"column": '"Created At"'}, "write it without quotes"),
        ({"older_than": timedelta(seconds=-1)}, "negative"),
        ({"unless_exists": ("messages",)}, "messages.chat_id"),
        ({"where": "a = 1) OR (1 = 1"}, "not one SQL expression"),
        ({"where": "a = 1; DELETE FROM users"}, "not one SQL expression"),
        ({"where": "a = 'it"}, "not one SQL expression"),
        ({"where": "a = 1 -- and more"}, "not one SQL expression"),
        ({"where": "  "}, "not one SQL expression"),
        ({"hold": "(a = 1"}, "not one SQL expression"),
        ({"set": {"x": 1}}, "action 'clear' or 'anonymize'"),
        ({"action": Action.CLEAR, "erase": True}, "action 'delete'"),
        ({"action": Action.CLEAR, "links": ("files.user_id",)}, "links goes with action 'delete'"),
        ({"links": ("user_id",)}, "links 'user_id' says no column: write 'files.user_id'"),
        ({"links": ("files.chat_id > chats.id",)}, "says no column: write"),
        ({"action": Action.ANONYMIZE, "erase": True, "set": {"x": 1}}, "action 'delete'"),
        ({"action": Action.ANONYMIZE}, "say which columns"),
        ({"action": Action.ANONYMIZE, "set": {"x": Sql("now()")}}, "changes by itself"),
        ({"per": ("user_id",)}, "per goes with keep_latest"),
        ({"keep_latest": 0}, "write 1 to 1000"),
        ({"keep_latest": 1001}, "write 1 to 1000"),
        ({"keep_latest": True}, "write 1 to 1000"),
        ({"keep_latest": 1, "per": ("a.b",)}, "no column name"),
        ({"keep_latest": 1, "per": ("a", "a")}, "a column twice"),
        ({"keep_latest": 1, "per": ("created_at",)}, "or the time itself"),
    ],
)
def test_a_rule_that_cannot_be_is_refused_with_its_remedy(fields, words):
    with pytest.raises(PolicyError, match=words.replace("(", r"\(")):
        Policy(**{"table": "users", "column": "created_at", **fields})


@pytest.mark.parametrize("predicate", ["plan = 'free'", "note = 'a ; b -- c'", "(a = 1) OR (b = 2)", "x IN ('it''s')"])
def test_an_ordinary_predicate_is_taken(predicate):
    assert Policy("t", "c", where=predicate).where == predicate


@pytest.mark.parametrize("expression", ["a; b", "(a", "'it", "a -- b", " ", "", "a /* b */"])
def test_what_is_not_one_expression_is_no_value(expression):
    with pytest.raises(PolicyError, match="not one SQL expression"):
        Sql(expression)


@pytest.mark.parametrize(
    "expression",
    [
        *("now()", "NOW ( )", "CURRENT_TIMESTAMP", "localtimestamp(3)", "datetime('now')", "clock_timestamp()"),
        *("random()", "RAND()", "hex(randomblob(8))", "gen_random_uuid()", "UUID()", "uuid_generate_v4()"),
        *("nextval('s')", "unix_timestamp( )", "'a' || current_date", "utc_timestamp(6)"),
    ],
)
def test_an_expression_of_the_clock_or_of_chance_is_fleeting(expression):
    assert Sql(expression).fleeting


@pytest.mark.parametrize(
    "expression", ["'anon-' || id", "uuid", "now", "to_timestamp(x)", "unix_timestamp(at)", "md5(rand)"]
)
def test_an_expression_of_the_row_alone_is_not(expression):
    assert not Sql(expression).fleeting


@given(st.text(alphabet="()'\"`;-a /*", max_size=12))
def test_no_predicate_can_close_the_bracket_it_is_put_in(text):
    try:
        Policy("t", "c", where=text)
    except PolicyError:
        return
    depth = 0
    quoted = None
    for sign in text:
        if quoted:
            quoted = None if sign == quoted else quoted
        elif sign in "'\"`":
            quoted = sign
        else:
            depth += (sign == "(") - (sign == ")")
        assert depth >= 0
    assert (depth, quoted) == (0, None)


def test_a_sqlalchemy_model_table_or_column_serves_as_a_name():
    class Base(DeclarativeBase):
        pass

    class Chat(Base):
        __tablename__ = "chats"
        __table_args__ = {"schema": "app"}  # noqa: RUF012 - as every model writes it
        id: Mapped[int] = mapped_column(primary_key=True)
        created: Mapped[datetime] = mapped_column("created_at")

    assert table_name(Chat) == table_name(Chat.__table__) == "app.chats"
    assert column_name(Chat.created) == column_name(Chat.__table__.c.created_at) == "created_at"
    with pytest.raises(PolicyError):
        table_name(42)
    with pytest.raises(PolicyError):
        column_name(42)
