"""The mail of the workspace: somebody signs up, confirms, is welcomed, and leaves, each mail read in its folder."""

import re
import time
from email import message_from_bytes, policy
from urllib.parse import urlsplit

import httpx
import pytest
from tests.story.tealight import BEARER, Browser, Place

from nightcrew.demo.schema import user_email_preferences, users
from nightcrew.sent import State

PROCESS = "/api/emails/process-scheduled"
VERIFY, DAY3, DAY7 = "Confirm your address", "One thing worth trying", "A week with"
READY = "account is ready"


def letters(place: Place, address: str = "ada@example.com") -> list:
    """Return what somebody was mailed, the newest last: by when it was written, as dates of one second are alike."""
    written = sorted(place.letters.glob("*.eml"), key=lambda path: path.stat().st_mtime_ns)
    found = [message_from_bytes(path.read_bytes(), policy=policy.default) for path in written]
    return [one for one in found if address in one["To"]]


def subjects(place: Place, address: str = "ada@example.com") -> list[str]:
    return [one["Subject"] for one in letters(place, address)]


def confirm(place: Place, browser: Browser, address: str = "ada@example.com") -> str:
    """Follow the link in the mail that asks for it, and press its button."""
    text = letters(place, address)[0].get_body(("plain",)).get_content()
    path = urlsplit(re.search(r"http://\S+/verify/\S+", text)[0]).path
    browser.open(path)
    browser.send(path)
    return path


def process(place: Place) -> dict:
    """Send what is due now; where the workspace is just about it by itself, once that is over."""
    for _ in range(100):
        answer = httpx.post(f"{place.base}{PROCESS}?now", headers=BEARER, timeout=30)
        assert answer.status_code == 200, answer.text
        if answer.json()["outcome"] != "in_progress_elsewhere":
            break
        time.sleep(0.1)
    return answer.json()


def later(place: Place, *leaps: str) -> None:
    desk = place.browser()
    for leap in leaps:
        desk.open("/night")
        desk.send("/night/travel", leap=leap)


def of(place: Place, state: State, name: str = "Ada Marin") -> set[tuple[str, str]]:
    """Return the steps that stand so for somebody, as the page says it, and why."""
    page = place.browser().open("/mail")
    rows = re.findall(r'<span class="title">.*?</ol>', page, re.DOTALL)
    hers = next(row for row in rows if f">{name}<" in row)
    found = re.findall(r'class="step">(.*?)</span>.*?</span> (.*?)</span>(?:.*?class="more">(.*?)<)?', hers)
    return {(step, why) for step, words, why in found if words == str(state)}


def test_from_signing_up_to_one_click_out(fresh_place):
    ada = fresh_place.browser().sign_up()
    assert "Please confirm <bdi>ada@example.com</bdi>" in ada.page
    process(fresh_place)
    assert [VERIFY in one for one in subjects(fresh_place)] == [True], "nothing else before the address is confirmed"

    path = confirm(fresh_place, ada)
    assert "ada@example.com is confirmed" in ada.page
    assert "It is confirmed" in ada.open(path), "a link that was used says so"
    assert "Please confirm" not in ada.open("/chats")
    later(fresh_place, "15-minutes")
    process(fresh_place)
    process(fresh_place)
    welcome = letters(fresh_place)[1:]
    assert len(welcome) == 1
    assert READY in welcome[0].get_body(("plain",)).get_content()

    later(fresh_place, "3-days")
    process(fresh_place)
    assert DAY3 in subjects(fresh_place)[-1]
    day3 = letters(fresh_place)[-1]
    link = day3["List-Unsubscribe"].strip("<>")
    assert link.startswith(f"{fresh_place.base}/api/emails/unsubscribe/")
    assert "You are unsubscribed" not in httpx.get(link).text, "looking changes nothing"
    assert "You are unsubscribed" in httpx.post(link, data={"List-Unsubscribe": "One-Click"}).text

    later(fresh_place, "3-days", "1-day")
    process(fresh_place)
    assert not [one for one in subjects(fresh_place) if DAY7 in one]
    assert ("day7", "unsubscribed") in of(fresh_place, State.SUPPRESSED)
    assert 'name="welcome_emails" value="yes">' in ada.open("/preferences"), "the page says what is so"
    assert "You left the welcome mails by the link in one" in ada.page


def test_the_page_of_mail_unsubscribes_as_a_mail_program_does_and_the_preferences_bring_back(place):
    bea, address = place.browser().sign_up("Bea", "bea@example.com"), "bea@example.com"
    confirm(place, bea, address)
    process(place)
    page = bea.open("/mail")
    rows = re.findall(r'<a class="title" href="(/mail/\w+)">.*?</li>', page, re.DOTALL)
    shown = {path: bea.open(path) for path in rows}
    path = next(path for path, text in shown.items() if address in text and "List-Unsubscribe" in text)
    bea.open(path)
    action = re.search(r'action="(/api/emails/unsubscribe/[^"]+)"', bea.page)[1]
    assert "You are unsubscribed" in bea.send(action)
    bea.open("/preferences")
    bea.send("/preferences", welcome_emails="yes", product_updates="yes")
    assert 'name="welcome_emails" value="yes" checked>' in bea.page
    later(place, "3-days")
    process(place)
    assert DAY3 in subjects(place, address)[-1]


def test_who_wants_none_gets_none(place):
    cleo, address = place.browser().sign_up("Cleo", "cleo@example.com"), "cleo@example.com"
    confirm(place, cleo, address)
    cleo.open("/preferences")
    cleo.send("/preferences", product_updates="yes")
    mine = user_email_preferences.c.user_id == place.value(users.c.id, users.c.email == address)
    assert place.value(user_email_preferences.c.welcome_emails, mine) is False
    process(place)
    assert len(letters(place, address)) == 1
    assert of(place, State.SUPPRESSED, "Cleo") == {("welcome", "they want none")}


def test_who_leaves_is_sent_nothing_more_whether_they_come_back_or_not(fresh_place):
    ada = fresh_place.browser().sign_up()
    confirm(fresh_place, ada)
    process(fresh_place)
    ada.open("/settings")
    ada.send("/settings/deactivate", category="other", reason="")
    assert of(fresh_place, State.CANCELLED) == {(step, "the account was deactivated") for step in ("day3", "day7")}
    ada.sign_in()
    ada.send("/reactivate", password="tealight-demo")
    later(fresh_place, "3-days")
    process(fresh_place)
    assert len(letters(fresh_place)) == 2


def test_who_has_connected_a_tool_is_told_no_more(fresh_place):
    ada = fresh_place.browser().sign_up()
    confirm(fresh_place, ada)
    ada.open("/connections")
    ada.send("/connections", tool="calendar")
    ada.send("/provider/authorize", decision="allow")
    process(fresh_place)
    assert len(letters(fresh_place)) == 1
    assert ("welcome", "a tool is connected") in of(fresh_place, State.CANCELLED)


def test_an_account_that_was_not_opened_is_due_nothing(place):
    place.browser().sign_up("Ada", "ada.twice@example.com")
    second, before = place.browser(), place.browser().open("/mail")
    second.open("/sign-up")
    second.send("/sign-up", name="Eve", email="ada.twice@example.com", password="long-enough", status=422)
    due = re.compile(r"(\d+) mails? due")
    assert due.search(place.browser().open("/mail"))[1] == due.search(before)[1]


def test_the_route_answers_as_the_seed_does_and_sends_once(place):
    assert httpx.post(place.base + PROCESS).status_code == 401
    dan, address = place.browser().sign_up("Dan", "dan@example.com"), "dan@example.com"
    confirm(place, dan, address)
    answers = [httpx.post(place.base + PROCESS, headers=BEARER, timeout=30).json(), place.call(PROCESS).json()]
    assert [answer["success"] for answer in answers] == [True, True]
    process(place)
    assert len(letters(place, address)) == 2


@pytest.mark.parametrize("spoilt", ["{0}0", "x{0}", "{0}%00", "0123456789abcdef-99999999999-" + "0" * 32])
def test_a_link_that_is_not_ours_confirms_nothing(place, spoilt):
    address = f"ada.{abs(hash(spoilt))}@example.com"
    ada = place.browser().sign_up("Ada", address)
    text = letters(place, address)[0].get_body(("plain",)).get_content()
    token = re.search(r"/verify/(\S+)", text)[1]
    ada.open("/verify/" + spoilt.format(token), status=404)
    assert "This link does not work" in ada.page
    seal = re.search(r'name="csrf" value="(\w+)"', ada.open("/verify/" + token))[1]
    ada.client.post("/verify/" + spoilt.format(token), data={"csrf": seal})
    ada.client.post("/verify/" + token, data={"csrf": "forged"})
    assert place.value(users.c.email_verified_at, users.c.email == address) is None


HOSTILE = b"""From: =?utf-8?b?broken?= <eve@example.com>
To: "</bdi><script>alert(1)</script>" <ada@example.com>
Subject: =?utf-9?q?<script>alert(2)</script>?=\xff\xe2\x80\xae gnp.exe
List-Unsubscribe: <javascript:alert(3)/api/emails/unsubscribe/x>
List-Unsubscribe-Post: List-Unsubscribe=One-Click
Content-Type: multipart/mixed; boundary="b"

--b
Content-Type: text/plain; charset="no-such-charset"

<script>alert(4)</script>\x00\xff
--b
Content-Type: text/html; charset="utf-7"
Content-Transfer-Encoding: base64

PHNjcmlwdD5hbGVydCg1KTwvc2NyaXB0PjxpbWcgc3JjPSJodHRwOi8vZXZlLmV4YW1wbGUvYS5wbmciPg==
--b--
"""
ODD = {
    "hostile": HOSTILE,
    "empty": b"",
    "noise": bytes(range(256)) * 40,
    "deep": b'Content-Type: multipart/mixed; boundary="b"\n\n--b\n' * 3000,
    "endless header": b"Subject: " + b"x" * 200_000,
    "no base64": b"Content-Type: text/html\nContent-Transfer-Encoding: base64\n\nA\n",
}


@pytest.mark.parametrize("content", ODD.values(), ids=ODD)
def test_whatever_lies_in_the_folder_is_shown_and_does_nothing(place, content):
    place.browser().sign_up("Ada", f"ada.{len(content)}@example.com")
    file = place.letters / f"2031-01-01T00-00-00_eve@example.com_{'e' * 16}.eml"
    file.write_bytes(content)
    eve = place.browser()
    try:
        for path in ("/mail", f"/mail/{'e' * 16}"):
            page = eve.open(path)
            assert set(re.findall(r'action="(.*?)"', page)) <= {"/mail/send", "/api/emails/unsubscribe/x"}
            assert not re.search(r"<script|\sstyle=|=.javascript:|\u202e|\0", page), path
        frame = httpx.get(f"{place.base}/mail/{'e' * 16}/html")
        assert frame.status_code == 200
        said = dict(part.strip().partition(" ")[::2] for part in frame.headers["Content-Security-Policy"].split(";"))
        assert said["default-src"] == "'none'"
        assert "allow-scripts" not in said["sandbox"]
        assert "allow-same-origin" not in said["sandbox"]
        assert said["frame-ancestors"] == "'self'"
        raw = httpx.get(f"{place.base}/mail/{'e' * 16}/eml")
        assert raw.headers["Content-Disposition"].startswith("attachment")
        assert raw.content == content[: 1024 * 1024]
    finally:
        file.unlink()


def test_only_letters_of_the_folder_are_read(place, tmp_path):
    place.browser().sign_up("Ada", "ada.folder@example.com")
    secret = tmp_path / "secret"
    secret.write_text("Subject: a secret\n\nthe text of a secret")
    link = place.letters / f"2031-01-01T00-00-00_eve@example.com_{'d' * 16}.eml"
    link.symlink_to(secret)
    (place.letters / "notes.eml").write_text("Subject: a note\n\n")
    eve = place.browser()
    page = eve.open("/mail")
    link.unlink()
    (place.letters / "notes.eml").unlink()
    assert "a secret" not in page
    assert "a note" not in page
    for key in ("d" * 16, "..%2f..%2fsecret", "notes"):
        eve.open(f"/mail/{key}", status=404)


def test_a_hostile_name_is_only_a_name(place):
    hostile = '"><script>alert(1)</script>\u202e\r\nBcc: eve@example.com'
    eve = place.browser().sign_up(hostile, "eve.mail@example.com")
    (asked,) = letters(place, "eve.mail@example.com")
    assert asked["Bcc"] is None
    page = eve.open("/mail")
    assert "<script>" not in page
    key = re.search(r'<a class="title" href="(/mail/\w+)"', page)[1]
    assert "<script>" not in eve.open(key)
    assert "<script>" not in eve.open(f"{key}/html")


def test_a_folder_that_cannot_be_written_to_costs_nobody_their_account(place):
    kept = place.letters.with_name("kept")
    place.browser().sign_up("Fay", "fay@example.com")
    place.letters.rename(kept)
    place.letters.write_text("a file where the folder would be")
    try:
        gil, address = place.browser().sign_up("Gil", "gil@example.com"), "gil@example.com"
        assert "cannot be written" in gil.page
        assert gil.path == "/chats"
        assert "No mail yet" in gil.open("/mail")
    finally:
        place.letters.unlink()
        kept.rename(place.letters)
    gil.open("/preferences")
    gil.send("/preferences/verify")
    confirm(place, gil, address)
    assert "is confirmed" in gil.page
