"""The seed systems' jobs, end to end: their own routes, against an application's tables, on every database."""

import asyncio
import json
import re
from datetime import UTC, datetime, timedelta

import httpx
import pytest
import sqlalchemy as sa

from nightcrew import Nightcrew, Settings, recipes

SECRET = "the-seeds-own-long-secret"
NOW = datetime.now(UTC).replace(tzinfo=None, microsecond=0)

metadata = sa.MetaData()
users = sa.Table(
    "users", metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("email", sa.String(100)),
    sa.Column("deactivated_at", sa.DateTime, index=True),
)  # fmt: skip
chats = sa.Table(
    "chats", metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("user_id", sa.ForeignKey(users.c.id, ondelete="CASCADE"), index=True),
    sa.Column("created_at", sa.DateTime, index=True),
)  # fmt: skip
messages = sa.Table(
    "messages", metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("chat_id", sa.ForeignKey(chats.c.id, ondelete="CASCADE"), index=True),
)  # fmt: skip
invoices = sa.Table(
    "invoices", metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("user_id", sa.ForeignKey(users.c.id), index=True),
)  # fmt: skip
states = sa.Table(
    "oauth_pkce_states", metadata,
    sa.Column("state", sa.String(50), primary_key=True),
    sa.Column("expires_at", sa.DateTime, nullable=False, index=True),
)  # fmt: skip
sessions = sa.Table(
    "mcp_oauth_sessions", metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("expires_at", sa.DateTime, nullable=False, index=True),
)  # fmt: skip
tokens = sa.Table(
    "oauth_tokens", metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("refresh_locked_at", sa.DateTime, index=True),
)  # fmt: skip


@pytest.fixture
def crew(database_url):
    """A crew with the seeds' jobs over an application with a little data on either side of every cutoff."""
    crew = Nightcrew(database_url, settings=Settings(secret=SECRET))
    with crew._station.link.transaction() as connection:
        metadata.create_all(connection)
        fill(connection)
    crew.migrate()
    for name, build in recipes.RECIPES.items():
        crew.add(build(table="mcp_oauth_sessions", name="generic") if name == "delete-expired-rows" else build())
    yield crew
    crew.close()


def fill(connection):
    def ago(**parts):
        return NOW - timedelta(**parts)

    rows = {
        users: [
            {"id": 1, "email": "left@x", "deactivated_at": ago(days=31)},
            {"id": 2, "email": "leaving@x", "deactivated_at": ago(days=29)},
            {"id": 3, "email": "here@x", "deactivated_at": None},
        ],
        chats: [
            {"id": 10, "user_id": 1, "created_at": ago(days=40)},
            {"id": 11, "user_id": 3, "created_at": ago(minutes=20)},
            {"id": 12, "user_id": 3, "created_at": NOW + timedelta(hours=1)},
            {"id": 13, "user_id": 3, "created_at": ago(days=200)},
        ],
        messages: [{"id": 100, "chat_id": 10}, {"id": 101, "chat_id": 10}, {"id": 102, "chat_id": 13}],
        invoices: [{"id": 1000, "user_id": 1}, {"id": 1001, "user_id": 3}],
        states: [
            {"state": "expired", "expires_at": ago(seconds=1)},
            {"state": "alive", "expires_at": NOW + timedelta(hours=1)},
        ],
        sessions: [
            {"id": 1, "expires_at": ago(minutes=1)},
            {"id": 2, "expires_at": NOW + timedelta(hours=1)},
        ],
        tokens: [
            {"id": 1, "refresh_locked_at": ago(minutes=3)},
            {"id": 2, "refresh_locked_at": NOW + timedelta(hours=1)},
            {"id": 3, "refresh_locked_at": None},
        ],
    }
    for table, values in rows.items():
        connection.execute(sa.insert(table), values)


def call(crew, path, method="POST", **headers):
    async def ask():
        transport = httpx.ASGITransport(crew.asgi)
        async with httpx.AsyncClient(transport=transport, base_url="https://app.example") as client:
            return await client.request(method, path, headers=headers)

    return asyncio.run(ask())


def left(crew, column):
    with crew._station.link.transaction(writes=False) as connection:
        return sorted(connection.execute(sa.select(column)).scalars())


BEARER = {"authorization": f"Bearer {SECRET}"}


def test_deactivated_accounts_go_after_thirty_days_with_everything_that_refers_to_them(crew):
    answer = call(crew, "/api/internal/jobs/delete-stale-deactivated-accounts", "GET", **BEARER)
    body = answer.json()
    assert (answer.status_code, body["success"], body["deletedCount"], body["outcome"]) == (200, True, 1, "succeeded")
    assert left(crew, users.c.id) == [2, 3]
    assert left(crew, chats.c.id) == [11, 12, 13]
    assert left(crew, messages.c.id) == [102]
    assert left(crew, invoices.c.id) == [1001], "a reference the database would not remove goes too: erase"
    assert body["counts"] == {"users": 1, "chats": 1, "messages": 2, "invoices": 1}


def test_empty_chats_go_after_a_quarter_of_an_hour_and_chats_with_messages_never(crew):
    body = call(crew, "/api/internal/jobs/delete-stale-empty-chats/", "GET", **BEARER).json()
    assert (body["deletedCount"], left(crew, chats.c.id)) == (1, [10, 12, 13])


def test_expired_pkce_states_go_on_the_seeds_own_route_and_the_second_call_of_the_slot_is_already_done(crew):
    first, second = (call(crew, "/api/oauth/cleanup-pkce", **BEARER).json() for _ in range(2))
    assert (first["deletedCount"], first["outcome"], left(crew, states.c.state)) == (1, "succeeded", ["alive"])
    assert (second["deletedCount"], second["outcome"], second["success"]) == (0, "already_done", True)
    assert first["runId"] == second["runId"]


def test_the_body_has_every_key_of_the_contract_and_times_in_utc_with_milliseconds(crew):
    body = call(crew, "/api/oauth/cleanup-pkce", **BEARER).json()
    assert list(body)[:12] == [
        "success", "deletedCount", "message", "timestamp", "job", "runId", "slot", "outcome", "trigger", "durationMs",
        "remaining", "nextSlot",
    ]  # fmt: skip
    for key in ("timestamp", "slot", "nextSlot"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", body[key])
    assert body["message"] == "Deleted 1 row of oauth_pkce_states."


def test_nothing_to_do_has_words_of_its_own(crew):
    with crew._station.link.transaction() as connection:
        connection.execute(sa.delete(states))
    body = call(crew, "/api/oauth/cleanup-pkce", **BEARER).json()
    assert (body["outcome"], body["deletedCount"], body["success"]) == ("nothing_to_do", 0, True)
    assert body["message"] == "Nothing to do: no row of oauth_pkce_states has expired."


def test_without_the_secret_nothing_is_done_and_no_crawler_keeps_the_answer(crew):
    for headers in ({}, {"authorization": "Bearer wrong-but-long-enough"}, {"authorization": "Bearer "}):
        answer = call(crew, "/api/internal/jobs/delete-stale-deactivated-accounts", **headers)
        assert answer.status_code == 401
        assert list(answer.json()) == ["error"]
        assert answer.headers["x-robots-tag"] == "noindex, nofollow, noarchive"
        assert answer.headers["www-authenticate"] == "Bearer"
    assert left(crew, users.c.id) == [1, 2, 3]
    assert crew.runs() == []


def test_sessions_token_locks_and_any_expiring_table_are_cleaned_alike(crew):
    assert crew.run("cleanup-oauth-sessions", trigger="cli").deleted == 1
    assert left(crew, sessions.c.id) == [2]
    assert crew.run("clear-stale-token-locks", trigger="cli").message == "Cleared 1 row of oauth_tokens."
    with crew._station.link.transaction(writes=False) as connection:
        held = connection.execute(sa.select(tokens.c.id).where(tokens.c.refresh_locked_at.is_not(None))).scalars()
        assert list(held) == [2]
    assert left(crew, tokens.c.id) == [1, 2, 3], "a cleared row stays"
    assert crew.run("generic", trigger="cli").outcome == "nothing_to_do"


def test_what_gathered_before_the_first_night_is_cleaned_unasked_where_most_of_a_table_expires(crew):
    many = [{"state": f"old {number}", "expires_at": NOW - timedelta(days=1)} for number in range(1500)]
    with crew._station.link.transaction() as connection:
        connection.execute(sa.insert(states), many)
    assert call(crew, "/api/oauth/cleanup-pkce", **BEARER).json()["deletedCount"] == 1501
    assert left(crew, states.c.state) == ["alive"]


def test_the_crew_prunes_its_own_history(crew):
    crew.run("cleanup-pkce", trigger="http")
    with crew._station.link.transaction() as connection:
        old = sa.table("nightcrew_runs", sa.column("finished_at"))
        connection.execute(sa.update(old).values(finished_at=sa.literal_column("'2020-01-01 00:00:00'")))
    report = crew.run("prune-run-history", trigger="cli")
    assert (report.outcome, report.deleted) == ("succeeded", 1)
    assert [run.job for run in crew.runs()] == ["prune-run-history"]


def test_a_plan_shows_what_a_run_would_do_and_does_nothing(crew):
    plan = crew.plan("delete-stale-deactivated-accounts")
    assert plan.rows == 1
    assert {step.table: step.rows for step in plan.steps} == {"users": 1, "chats": 1, "messages": 2, "invoices": 1}
    assert json.dumps(plan.json())
    assert left(crew, users.c.id) == [1, 2, 3]


def test_an_error_in_a_run_is_a_failure_and_never_a_zero(crew):
    with crew._station.link.transaction() as connection:
        states.drop(connection)
    answer = call(crew, "/api/oauth/cleanup-pkce", **BEARER)
    body = answer.json()
    assert (answer.status_code, body["success"], body["outcome"]) == (500, False, "failed")
    assert "oauth_pkce_states" in body["error"]
    assert crew.runs()[0].state == "failed"


def test_a_deadline_leaves_the_rest_to_the_next_call_of_any_trigger(crew):
    with crew._station.link.transaction() as connection:
        stale = [{"id": n, "user_id": 3, "created_at": NOW - timedelta(days=2, seconds=n)} for n in range(1000, 2300)]
        connection.execute(sa.insert(chats), stale)
    crew.ack("delete-stale-empty-chats", by="ops")
    spent = timedelta(microseconds=1)
    reports = [crew.run("delete-stale-empty-chats", trigger="http", deadline=spent)]
    while reports[-1].outcome == "partial" and len(reports) < 10:
        reports.append(crew.run("delete-stale-empty-chats", trigger="cli", deadline=spent))
    first, *_, last = reports
    assert (first.outcome, first.outcome.success, first.deleted + first.remaining) == ("partial", True, 1301)
    assert {report.run for report in reports} == {first.run}
    assert sorted({report.deleted for report in reports}) == [report.deleted for report in reports]
    assert (last.outcome, last.deleted) == ("succeeded", 1301)
    assert len(crew.runs()) == 1
