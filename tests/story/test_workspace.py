"""The workspace as people, cron services and operators meet it: the real pages over HTTP, the real command."""

import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import httpx
import pytest
import sqlalchemy as sa
from tests.story.tealight import Browser, Place, served

from nightcrew.demo import leftovers, timemachine
from nightcrew.demo.database import Data, prepare
from nightcrew.demo.people import PASSWORD, PEOPLE
from nightcrew.demo.schema import (
    TABLES,
    Utc,
    chats,
    marker,
    mcp_servers,
    messages,
    metadata,
    oauth_pkce_states,
    sessions,
    users,
)
from nightcrew.demo.seed import seed
from nightcrew.errors import SafetyStop

ACCOUNTS = "/api/internal/jobs/delete-stale-deactivated-accounts"
SHELLS = "/api/internal/jobs/delete-stale-empty-chats"
PKCE = "/api/oauth/cleanup-pkce"
MOMENT = datetime(2024, 6, 15, 12, 0, 0, 123456, tzinfo=UTC)


@pytest.fixture
def filled(database_url):
    """The seeded tables alone, on each database there is."""
    with closing(Data(database_url)) as data:
        prepare(data, datetime.now(UTC), seed)
        yield data


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


# ── an account's life ────────────────────────────────────────────────────────────────────────────────────────────────


def test_signing_in_offers_reactivation_and_only_the_explicit_step_reactivates(fresh_place):
    ada, phone = fresh_place.browser().sign_up(), fresh_place.browser()
    chat = ada.new_chat()
    assert "Wait for the dough" in ada.send(f"{chat}/messages", text="My sourdough bubbles but the loaf stays flat")
    phone.sign_in()
    assert phone.path == "/chats"

    ada.open("/settings")
    ada.send("/settings/deactivate", category="privacy", reason="Just looking.")
    assert ada.path == "/sign-in"
    phone.open("/chats")
    assert phone.path == "/sign-in", "deactivating ends every session"

    mine = users.c.email == "ada@example.com"
    assert "You are <strong>not</strong> signed in" in ada.sign_in()
    assert fresh_place.value(users.c.deactivated_at, mine) is not None
    ada.open("/chats")
    assert ada.path == "/sign-in", "signing in alone lets nobody in"

    ada.sign_in()
    ada.send("/reactivate", password="not-the-password", status=422)
    assert fresh_place.value(users.c.deactivated_at, mine) is not None
    ada.sign_in()
    assert "Your account is active again" in ada.send("/reactivate", password=PASSWORD)
    assert fresh_place.value(users.c.deactivated_at, mine) is None
    assert "Wait for the dough" in ada.open(chat)
    phone.open("/chats")
    assert phone.path == "/sign-in", "a session that was ended stays ended"


def offered(page: str) -> list[str]:
    """Return the addresses of the people to look in as."""
    return [unquote(found) for found in re.findall(r'href="/sign-in\?email=(.*?)"', page)]


def test_only_people_of_the_seeded_year_are_offered_to_look_in_as(fresh_place):
    ada, guest = fresh_place.browser().sign_up(), fresh_place.browser()
    before = offered(guest.open("/sign-in"))
    assert len(before) == 2
    assert "ada@example.com" not in before
    guest.open("/night")
    guest.send("/night/travel", leap="31-days")
    ada.open("/settings")
    ada.send("/settings/deactivate", category="other", reason="")
    fresh_place.browser().sign_up("Bea", "bea@example.com").open("/chats")
    after = offered(guest.open("/sign-in"))
    assert len(after) == 2
    assert not {"ada@example.com", "bea@example.com"} & set(after)
    guest.sign_in(after[0])
    assert guest.path == "/chats", "and their password is the one that the page says"


def test_a_wrong_password_and_an_unknown_address_get_the_same_answer(place):
    ada = place.browser().sign_up("Ada", "ada.first@example.com")
    ada.open("/settings")
    ada.send("/sign-out")
    stranger, texts = place.browser(), []
    for email in ("ada.first@example.com", "nobody@example.com"):
        stranger.open("/sign-in")
        page = stranger.send("/sign-in", email=email, password="wrong-password", status=422)
        texts.append(re.search(r'role="alert">(.*?)</p>', page)[1])
    assert texts[0] == texts[1]


def test_an_address_opens_one_account_only(place):
    place.browser().sign_up("Ada", "ada.once@example.com")
    second = place.browser()
    second.open("/sign-up")
    page = second.send("/sign-up", name="Eve", email="Ada.Once@example.com", password=PASSWORD, status=422)
    assert "There is an account with this address already" in page


def test_no_password_and_no_session_is_stored_as_it_is(place):
    ada = place.browser().sign_up("Ada", "ada.stored@example.com")
    token = ada.client.cookies["nightcrew_demo_session"]
    assert place.count(sessions, sessions.c.token_hash == token) == 0
    stored = place.value(users.c.password_hash, users.c.email == "ada.stored@example.com")
    assert stored.startswith("scrypt$")
    assert PASSWORD not in stored


# ── forms, headers, other people ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("token", [{}, {"csrf": "forged"}, {"csrf": "ä" * 64}], ids=["missing", "forged", "not ascii"])
def test_a_form_without_the_seal_of_this_browser_changes_nothing(place, token):
    browser = place.browser()
    browser.open("/night")
    moved = place.value(marker.c.travelled_seconds)
    answer = browser.client.post("/night/travel", data={"leap": "31-days", **token})
    assert answer.status_code == 403
    assert place.value(marker.c.travelled_seconds) == moved


def test_the_seal_of_one_browser_is_worth_nothing_in_another(place):
    mine, theirs = place.browser(), place.browser()
    seal = re.search(r'name="csrf" value="(\w+)"', mine.open("/night"))[1]
    theirs.open("/night")
    assert theirs.client.post("/night/travel", data={"leap": "31-days", "csrf": seal}).status_code == 403


@pytest.mark.parametrize("path", ["/night", "/sign-in", "/nowhere", "/static/tealight.css"])
def test_every_answer_allows_no_script_and_no_foreign_source(place, path):
    headers = httpx.get(place.base + path).headers
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'self';")
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_no_page_carries_what_the_policy_would_block(place):
    ada = place.browser().sign_up("Ada", "ada.pages@example.com")
    for path in ("/night", "/chats", ada.new_chat(), "/projects", "/connections", "/settings"):
        page = ada.open(path)
        assert not re.search(r"<script|<style|\sstyle=|\son\w+=|https?://(?!127\.0\.0\.1)", page), path


def test_cookies_are_out_of_reach_of_scripts_and_other_sites(place):
    answer = httpx.get(place.base + "/night")
    assert "HttpOnly" in answer.headers["Set-Cookie"]
    assert "SameSite=lax" in answer.headers["Set-Cookie"]


def test_hostile_names_are_shown_as_text(place):
    hostile = '"><script>alert(1)</script>'
    eve = place.browser().sign_up(hostile, "eve@example.com")
    chat = eve.new_chat()
    eve.send(f"{chat}/messages", text=hostile)
    eve.open("/projects")
    eve.send("/projects", name=hostile)
    for path in ("/chats", chat, "/projects", "/settings", f"/sign-in?email={hostile}"):
        page = eve.open(path)
        assert "<script>alert" not in page
        if path != f"/sign-in?email={hostile}":
            assert "&lt;script&gt;" in page


def test_other_peoples_chats_and_projects_do_not_exist(place):
    ada, eve = (place.browser().sign_up(name, f"{name}.private@example.com") for name in ("ada", "eve"))
    chat = ada.new_chat()
    ada.send(f"{chat}/messages", text="private words")
    ada.open("/projects")
    ada.send("/projects", name="Private project")
    project = ada.path
    for path in (chat, project):
        assert not re.search("rivate (words|project)", eve.open(path, status=404))
    eve.new_chat()
    seal = re.search(r'name="csrf" value="(\w+)"', eve.page)[1]
    for action in (f"{chat}/messages", f"{chat}/save", f"{chat}/project", f"{chat}/delete", f"{project}/delete"):
        assert eve.client.post(action, data={"csrf": seal, "text": "hello", "saved": "yes"}).status_code == 404
    eve.send(f"{eve.path}/project", project=project.rpartition("/")[2])
    assert "Private project" not in eve.page, "nobody files chats into other people's projects"
    assert "private words" in ada.open(chat)
    assert place.value(chats.c.is_saved, chats.c.id == chat.rpartition("/")[2]) is False


def test_a_project_leaves_without_its_chats(place):
    ada = place.browser().sign_up("Ada", "ada.project@example.com")
    ada.open("/projects")
    ada.send("/projects", name="Thesis")
    project = ada.path
    ada.send("/chats")
    chat = ada.path
    assert "Thesis" in ada.send(f"{chat}/messages", text="A structure, please")
    ada.open(project)
    ada.send(f"{project}/delete")
    assert "Thesis" not in ada.open(chat)


def test_a_chat_that_the_night_removed_says_so_instead_of_breaking(place):
    ada = place.browser().sign_up("Ada", "ada.gone@example.com")
    chat = ada.new_chat()
    with place.data.writing() as connection:
        connection.execute(chats.delete().where(chats.c.id == chat.rpartition("/")[2]))
    assert "the night job has removed it" in ada.send(f"{chat}/messages", text="Still there?", status=404)


def test_a_long_list_of_chats_is_paged_and_no_page_leads_nowhere(fresh_place):
    ada = fresh_place.browser().sign_up()
    person, moment = fresh_place.value(users.c.id, users.c.email == "ada@example.com"), datetime.now(UTC)
    rows = [
        {"id": f"{number:016x}", "user_id": person, "title": f"Chat {number}.", "is_saved": False}
        | dict.fromkeys(("created_at", "updated_at"), moment - timedelta(hours=number))
        for number in range(130)
    ]
    with fresh_place.data.writing() as connection:
        connection.execute(chats.insert(), rows)
    page, seen = ada.open("/chats"), []
    assert "Page 1 of 3, 130 chats in all" in page
    while True:
        seen += re.findall(r">(Chat \d+\.)<", page)
        older = re.search(r'rel="next" href="(.*?)"', page)
        if older is None:
            break
        page = ada.open(older[1])
    assert seen == [f"Chat {number}." for number in range(130)]
    assert 'rel="prev" href="/chats?page=2"' in page
    for asked in ("0", "-1", "x", "9" * 30, "%D9%A1"):
        assert "Page 1 of 3" in ada.open(f"/chats?page={asked}")
    assert "Page 3 of 3" in ada.open("/chats?page=99")


# ── connecting a tool ────────────────────────────────────────────────────────────────────────────────────────────────


def begin(browser: Browser) -> str:
    """Begin a connection and return its state."""
    browser.open("/connections")
    browser.send("/connections", tool="calendar")
    question = parse_qs(urlsplit(str(browser.answer.url)).query)
    assert question["code_challenge_method"] == ["S256"]
    return question["state"][0]


def kept(place: Place, state: str) -> int:
    return place.count(oauth_pkce_states, oauth_pkce_states.c.state == state)


def test_a_connection_keeps_a_state_for_ten_minutes_and_removes_it_on_use(fresh_place):
    ada = fresh_place.browser().sign_up()
    state = begin(ada)
    row = oauth_pkce_states.c.state == state
    life = [
        fresh_place.value(column, row) for column in (oauth_pkce_states.c.created_at, oauth_pkce_states.c.expires_at)
    ]
    assert life[1] - life[0] == timedelta(minutes=10)
    assert "Calendar is connected." in ada.send("/provider/authorize", decision="allow")
    assert kept(fresh_place, state) == 0
    page = ada.open(f"/oauth/callback?state={state}&code=any", status=400)
    assert "finished already" in page, "a state works once"
    assert '<a href="/connections">Back to your connections</a>' in page


def test_a_state_that_is_unknown_or_somebody_elses_connects_nothing(place):
    ada, eve = (place.browser().sign_up(name, f"{name}.oauth@example.com") for name in ("ada", "eve"))
    state = begin(ada)
    assert "never begun" in eve.open("/oauth/callback?state=made-up&code=any", status=400)
    assert "begun by somebody else" in eve.open(f"/oauth/callback?state={state}&code=any", status=400)
    assert kept(place, state) == 0, "a state that somebody else knew is burnt"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"redirect_uri": "https://evil.example/callback"}, "changed on its way"),
        ({"code_verifier": "another-verifier"}, "changed on its way"),
        ({"expires_at": datetime.now(UTC) - timedelta(seconds=1)}, "more than ten minutes"),
    ],
    ids=["redirect", "verifier", "expired"],
)
def test_a_state_that_was_changed_or_expired_is_refused_and_removed(place, change, said, request):
    ada = place.browser().sign_up("Ada", f"ada.{request.node.callspec.id}@example.com")
    state = begin(ada)
    with place.data.writing() as connection:
        connection.execute(oauth_pkce_states.update().where(oauth_pkce_states.c.state == state).values(change))
    assert said in ada.send("/provider/authorize", decision="allow", status=400)
    assert kept(place, state) == 0


def test_a_tool_that_is_asked_for_twice_at_once_is_there_once(server_url):
    with served(server_url) as place, ThreadPoolExecutor(2) as clicks:
        ada = place.browser().sign_up()
        ada.open("/connections")
        form = {"csrf": re.search(r'name="csrf" value="(\w+)"', ada.page)[1], "tool": "calendar"}
        person = sa.select(users.c.id).where(users.c.email == "ada@example.com")
        with place.data.writing() as connection:
            connection.execute(person.with_for_update())
            clicked = [clicks.submit(ada.client.post, "/connections", data=form) for _ in range(2)]
            place.wait_for_waiting(2)
        assert [click.result(20).url.path for click in clicked] == ["/provider/authorize"] * 2
        assert place.count(mcp_servers, mcp_servers.c.user_id == person.scalar_subquery()) == 1


def test_declining_removes_the_state_and_a_closed_tab_leaves_it_to_the_night(place):
    ada = place.browser().sign_up("Ada", "ada.declines@example.com")
    state = begin(ada)
    assert 'class="trail"' not in ada.page, "an arrow back, and nothing to go back to"
    assert "nothing was connected" in ada.send("/provider/authorize", decision="deny")
    assert kept(place, state) == 0
    assert "begun, not finished" not in ada.page
    assert kept(place, begin(ada)) == 1
    page = ada.open("/connections")
    assert page.count('class="title">Calendar<') == 1
    buttons = re.findall(r">(Connect|Disconnect|Forget|Begin again)<span class=\"unseen\"> Calendar", page)
    assert buttons == ["Forget", "Begin again"]
    action = re.search(r'action="(/connections/\w+/disconnect)"', page)[1]
    assert "begun, not finished" not in ada.send(action)
    assert place.count(mcp_servers, mcp_servers.c.id == action.split("/")[2]) == 0


def test_declining_a_second_time_leaves_a_connected_tool_as_it_is(place):
    ada = place.browser().sign_up("Ada", "ada.again@example.com")
    begin(ada)
    ada.send("/provider/authorize", decision="allow")
    seal = re.search(r'name="csrf" value="(\w+)"', ada.page)[1]
    asked = ada.client.post("/connections", data={"csrf": seal, "tool": "calendar"})
    ada.page = asked.text
    assert "nothing was connected" in ada.send("/provider/authorize", decision="deny")
    assert "its token expires" in ada.page


def test_a_crashed_refresh_leaves_a_lock_that_stops_the_next_one(place):
    ada = place.browser().sign_up("Ada", "ada.refresh@example.com")
    begin(ada)
    ada.send("/provider/authorize", decision="allow")
    action = re.search(r'action="(/connections/\w+/refresh)"', ada.page)[1]
    assert "The token is fresh again" in ada.send(action)
    assert "refresh locked" in ada.send(action, crash="yes")
    assert "under way already" in ada.send(action)


# ── data, and time ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_year_is_written_quickly_and_is_the_same_every_time(database_url, tmp_path):
    stories = []
    for url in (database_url, f"sqlite:///{tmp_path}/again.db"):
        with closing(Data(url)) as data:
            began = time.monotonic()
            assert prepare(data, MOMENT, seed)
            assert time.monotonic() - began < 12, "twice what the slowest database needs on a small machine"
            with data.reading() as connection:
                told = sa.select(users.c.name, users.c.created_at, users.c.deactivated_at).order_by(users.c.id)
                stories.append(connection.execute(told).all())
            assert not prepare(data, MOMENT, seed), "a second start finds its data and keeps it"
    assert stories[0] == stories[1]


def test_the_year_grows_rests_at_weekends_and_never_runs_ahead_of_itself(filled):
    with filled.reading() as connection:
        joined = connection.execute(sa.select(users.c.created_at)).scalars().all()
        said = connection.execute(sa.select(messages.c.created_at)).scalars().all()
        texts = connection.execute(sa.select(messages.c.parts)).scalars().all()
        late = sa.select(sa.func.count()).select_from(messages.join(chats).join(users, users.c.id == chats.c.user_id))
        assert connection.scalar(late.where(messages.c.created_at > users.c.deactivated_at)) == 0
        assert connection.scalar(late.where(messages.c.created_at < users.c.created_at)) == 0
    moment = datetime.now(UTC)
    assert sum(moment - at < timedelta(days=182) for at in joined) > 1.5 * sum(
        moment - at > timedelta(days=183) for at in joined
    )
    assert len(said) > 5000
    assert max(said) <= moment
    workdays = sum(at.weekday() < 5 for at in said) / 5
    assert workdays > 1.5 * sum(at.weekday() >= 5 for at in said) / 2
    assert not [part for part in texts if re.search(r"\{[a-z]+\}", part[0]["text"])], "a gap nobody filled"


def snapshot(data: Data) -> dict[str, list[tuple[object, ...]]]:
    with data.reading() as connection:
        rows = {table.name: connection.execute(table.select().order_by(*table.primary_key)).all() for table in TABLES}
    return {name: [tuple(row) for row in found] for name, found in rows.items()}


def test_the_time_machine_moves_every_instant_of_the_app_and_nothing_else(filled):
    with filled.writing() as connection:
        connection.exec_driver_sql("CREATE TABLE nightcrew_runs (finished_at VARCHAR(40))")
        connection.exec_driver_sql("INSERT INTO nightcrew_runs VALUES ('2024-06-15 12:00:00.000000')")
    span, before = timedelta(days=31, minutes=15), snapshot(filled)
    assert timemachine.travel(filled, span) == sum(map(len, before.values()))
    after = snapshot(filled)
    for table in TABLES:
        kinds = [isinstance(column.type, Utc) for column in table.c]
        moved = [
            tuple(value - span if at and value else value for value, at in zip(row, kinds, strict=True))
            for row in before[table.name]
        ]
        assert after[table.name] == moved, table.name
    with filled.reading() as connection:
        ran = connection.exec_driver_sql("SELECT finished_at FROM nightcrew_runs").scalar_one()
        assert ran == "2024-06-15 12:00:00.000000"
        assert connection.scalar(sa.select(marker.c.travelled_seconds)) == span.total_seconds()


def test_a_database_with_somebody_elses_tables_is_refused_and_left_as_it_is(database_url):
    with closing(Data(database_url)) as data:
        with data.writing() as connection:
            connection.exec_driver_sql("CREATE TABLE users (id INTEGER PRIMARY KEY)")
        with pytest.raises(SafetyStop, match="already has a table 'users' that the demo did not make"):
            prepare(data, MOMENT, seed)
        with data.reading() as connection:
            assert sa.inspect(connection).get_table_names() == ["users"]


def test_a_start_that_died_before_the_data_was_written_is_finished_by_the_next(database_url):
    with closing(Data(database_url)) as data:
        metadata.create_all(data.engine)
        assert prepare(data, MOMENT, seed)
        with data.reading() as connection:
            assert connection.scalar(sa.select(sa.func.count()).select_from(users)) == PEOPLE


# ── the command ──────────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def command(folder: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    environment = kept | {"TMPDIR": str(folder), "NIGHTCREW_ENV": "development"}
    line = [sys.executable, "-m", "nightcrew", "demo", "--port", "0", *options]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(line, cwd=folder, env=environment, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def greeting(process: subprocess.Popen[str]) -> str:
    """Read what the command says at its start."""
    said = ""
    for line in process.stdout:
        said += line
        if "Ctrl-C" in line:
            return said
    pytest.fail(f"the demo ended at once: {said}{process.stderr.read()}")


def test_the_command_prints_its_address_and_secret_and_its_curl_lines_work(tmp_path):
    file = tmp_path / "demo.db"
    began = time.monotonic()
    with command(tmp_path, "--database", f"sqlite:///{file}") as process:
        said = greeting(process)
        page = httpx.get(re.search(r"http://127\.0\.0\.1:\d+/night", said)[0])
        assert page.status_code == 200
        assert time.monotonic() - began < 15
        calls = re.findall(r"curl -H 'Authorization: (Bearer \S+)' (\S+)", said)
        assert [urlsplit(url).path for _, url in calls] == [ACCOUNTS, SHELLS, PKCE]
        assert calls[0][0] == f"Bearer {re.search(r'CRON_SECRET=(.+)', said)[1]}"
        for bearer, url in calls:
            assert httpx.get(url).status_code == 401
            assert httpx.get(url, headers={"Authorization": bearer}, timeout=30).json()["deletedCount"] > 0
        with closing(sqlite3.connect(file)) as connection:
            assert connection.execute("SELECT count(*) FROM users").fetchone() == (PEOPLE - leftovers.LEFT_LONG_AGO,)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "terminated"])
def test_the_temporary_database_is_gone_when_the_demo_ends(tmp_path, number):
    with command(tmp_path) as process:
        base = re.search(r"http://127\.0\.0\.1:\d+", greeting(process))[0]
        assert httpx.get(f"{base}/night").status_code == 200
        assert list(tmp_path.glob("nightcrew-demo-*/tealight.db"))
        process.send_signal(number)
        assert process.wait(20) == (0 if number is signal.SIGINT else 128 + number)
        assert "Traceback" not in process.stderr.read()
    assert not list(tmp_path.iterdir())


def test_a_foreign_database_ends_the_command_with_code_3_and_one_sentence(tmp_path):
    file = tmp_path / "real.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE users (id INTEGER PRIMARY KEY)")
    with command(tmp_path, "--database", f"sqlite:///{file}") as process:
        _, complaint = process.communicate(timeout=30)
    assert process.returncode == 3
    assert complaint.count("\n") == 1
    assert "already has a table 'users'" in complaint


def test_a_port_in_use_is_said_in_one_line_before_anything_is_made(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with command(tmp_path, "--port", str(taken.getsockname()[1])) as process:
            _, complaint = process.communicate(timeout=30)
        assert process.returncode == 2
        assert "choose another with --port" in complaint
    assert not list(tmp_path.iterdir())
