"""The workspace as cron services and operators meet it: the job routes over HTTP, and the night desk."""

import re
import time
from html import unescape

import sqlalchemy as sa
from tests.story.tealight import ACCOUNTS, PKCE, SHELLS

from nightcrew.demo import leftovers
from nightcrew.demo.people import PEOPLE
from nightcrew.demo.schema import chats, oauth_pkce_states, users

# ── the jobs, over HTTP ──────────────────────────────────────────────────────────────────────────────────────────────


def test_each_seed_route_deletes_what_is_due_and_spares_the_rest(fresh_place):
    answers = {path: fresh_place.call(path).json() for path in (ACCOUNTS, SHELLS, PKCE)}
    assert [answer["outcome"] for answer in answers.values()] == ["succeeded"] * 3
    assert answers[ACCOUNTS]["deletedCount"] == leftovers.LEFT_LONG_AGO
    assert answers[SHELLS]["deletedCount"] == leftovers.OLD_SHELLS
    assert answers[PKCE]["deletedCount"] == leftovers.EXPIRED_STATES
    assert fresh_place.count(users) == PEOPLE - leftovers.LEFT_LONG_AGO
    assert fresh_place.count(chats, fresh_place.empty_chats()) == leftovers.FRESH_SHELLS
    assert fresh_place.count(oauth_pkce_states) == leftovers.LIVE_STATES
    assert fresh_place.count(chats, ~sa.exists().where(users.c.id == chats.c.user_id)) == 0


def test_a_second_call_in_the_same_slot_is_already_done(fresh_place):
    fresh_place.call(ACCOUNTS)
    again = fresh_place.call(ACCOUNTS)
    assert (again.status_code, again.json()["outcome"], again.json()["deletedCount"]) == (200, "already_done", 0)


def test_a_stranger_is_sent_away_and_nothing_is_deleted(place):
    before = place.count(oauth_pkce_states)
    for headers in ({"Accept": "*/*"}, {"Authorization": "Bearer wrong-but-long-enough"}):
        answer = place.call(PKCE, **headers)
        assert answer.status_code == 401
        assert "noindex" in answer.headers["X-Robots-Tag"]
    assert place.count(oauth_pkce_states) == before


# ── the night desk ───────────────────────────────────────────────────────────────────────────────────────────────────


def row_of(page: str, name: str) -> str:
    """Return the words of the first table row about a job or a table."""
    row = next(row for row in re.findall(r"<tr.*?</tr>", page, re.DOTALL) if f'class="name">{name}<' in row)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", row)).split())


def test_the_desk_shows_tables_jobs_and_what_run_now_and_the_time_machine_did(fresh_place):
    desk = fresh_place.browser()
    page = desk.open("/night")
    assert f" {PEOPLE} " in row_of(page, "users")
    assert f" {leftovers.LEFT_LONG_AGO} delete-stale-deactivated-accounts" in row_of(page, "users")
    assert "○ not yet" in row_of(page, "delete-stale-deactivated-accounts")
    assert "at 00:00 and 12:00 every day (UTC)" in row_of(page, "delete-stale-empty-chats")
    assert f" {leftovers.STALE_LOCKS} " in row_of(page, "clear-stale-token-locks")

    page = desk.send("/night/run", job="delete-stale-deactivated-accounts")
    assert desk.answer.url.fragment == "delete-stale-deactivated-accounts", "back at the job, where it says what it did"
    assert f"Deleted {leftovers.LEFT_LONG_AGO} rows of users" in page.split('id="delete-stale-deactivated-accounts"')[1]
    row = row_of(page, "delete-stale-deactivated-accounts")
    assert f"✓ done {leftovers.LEFT_LONG_AGO} deleted, " in row
    assert ", by hand" in row
    assert fresh_place.count(users) == PEOPLE - leftovers.LEFT_LONG_AGO

    page = desk.send("/night/travel", leap="31-days")
    later = leftovers.LEFT_LATELY + leftovers.LEFT_JUST_NOW
    assert f"{later} for delete-stale-deactivated-accounts" in page
    assert "So far: <strong>31 days</strong>" in page
    assert "✓ done" in row_of(page, "delete-stale-deactivated-accounts"), "the run itself did not move into the past"
    assert f"Deleted {later} rows of users" in desk.send("/night/run", job="delete-stale-deactivated-accounts")


def test_the_ticker_is_off_until_somebody_switches_it_on_and_then_runs_what_is_due_at_once(fresh_place):
    desk = fresh_place.browser()
    assert "The in-process ticker is off" in desk.open("/night")
    assert "The in-process ticker is on" in desk.send("/night/ticker", switch="on")
    for _ in range(100):
        if "by the ticker" in row_of(desk.open("/night"), "cleanup-pkce"):
            break
        time.sleep(0.1)
    assert fresh_place.count(oauth_pkce_states) == leftovers.LIVE_STATES
    assert "The in-process ticker is off" in desk.send("/night/ticker", switch="off")


def test_a_job_or_a_leap_that_is_not_offered_is_refused(place):
    desk = place.browser()
    desk.open("/night")
    desk.send("/night/run", job="drop-everything", status=404)
    desk.open("/night")
    desk.send("/night/travel", leap="1000-years", status=422)
