"""The workspace as its people meet it: accounts, chats, projects and tools, in the real pages."""

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, unquote, urlsplit

import httpx
import pytest
import sqlalchemy as sa
from tests.story.tealight import Browser, Place, served

from nightcrew.demo.people import PASSWORD
from nightcrew.demo.schema import chats, marker, mcp_servers, oauth_pkce_states, sessions, users

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
def test_every_answer_allows_no_script_in_the_page_and_no_foreign_source(place, path):
    headers = httpx.get(place.base + path).headers
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'self';")
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_no_page_carries_what_the_policy_would_block(place):
    ada = place.browser().sign_up("Ada", "ada.pages@example.com")
    settings = "/settings", "/preferences", "/mail"
    for path in ("/night", "/chats", ada.new_chat(), "/projects", "/library", "/connections", *settings):
        page = ada.open(path)
        page = page.replace('<script src="/static/tealight.js" defer></script>', "")
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
    for path in ("/chats", chat, "/projects", "/library", "/settings", f"/sign-in?email={hostile}"):
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
    assert "130 chats" in page
    assert "Page 1 of 3" in page
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
