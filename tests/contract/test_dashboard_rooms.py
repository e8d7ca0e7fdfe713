"""The desk's pages of mail and of streams: what they show, what may be done there, and what becomes of it."""

from contextlib import contextmanager

import pytest
import sqlalchemy as sa
from tests.desk import Browser, answering, hired, letting_in, words
from tests.tray import KEY, PEOPLE, PREFERENCES, Tray, application, enroll, mail, people, send

from nightcrew import Nightcrew, Settings
from nightcrew.mailer import Delivery, Fate
from nightcrew.streaming import Streams

HOSTILE = "<script>alert(1)</script>"


# ── mail ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def post(yard):
    """A crew of which one mail is perhaps sent, one has failed, and one is due."""
    fates = {"p1@example.com": Fate.MAYBE_SENT, "p2@example.com": Fate.REFUSED}

    def fate(letter):
        return Delivery(fates.pop(letter.recipient.addr_spec, Fate.SENT), f"550 {HOSTILE}")

    yard.run(PEOPLE, PREFERENCES)
    yard.fill("people", *people(1, 2, 3))
    url, tray = yard.link.engine.url.render_as_string(hide_password=False), Tray(fate)
    settings = Settings(environment="production", cloud_deploy=True, unsubscribe_key=KEY)
    crew, engine = Nightcrew(url, settings=settings, mail=mail(tray)), application(url)
    crew.migrate()
    enroll(crew, engine, 1, 2)
    send(crew)
    yield crew, tray
    engine.dispose()
    crew.close()


def test_mail_that_went_wrong_is_shown_and_sent_again_by_hand(post):
    crew, tray = post
    browser = Browser(crew.dashboard(letting_in("all")), "/desk")
    shown = browser.open("/mail")
    said = words(shown)
    assert "? perhaps sent 1" in said
    assert "✗ failed 2" in said
    assert "Nobody is due a mail at this moment." in said
    assert HOSTILE not in shown
    assert HOSTILE in said, "it is text"
    (failed,) = crew.mail.of_state("failed")
    token = shown.split('name="seal" value="')[1].split('"')[0]
    answer = browser.ask("POST", "/mail/retry", data={"seal": token, "mail": str(failed.id)})
    assert (answer.status_code, answer.headers["location"]) == (303, "/desk/mail?done=retried")
    said = words(browser.open("/mail?done=retried"))
    assert "It is tried again from now on." in said
    assert f"welcome / welcome {failed.id} 2" in said.split("Due now")[1]
    send(crew)
    assert tray.addresses == ["p1@example.com", "p2@example.com"]
    again = browser.ask("POST", "/mail/retry", data={"seal": token, "mail": str(failed.id)})
    assert again.headers["location"] == "/desk/mail?done=over"
    send(crew)
    assert tray.addresses == ["p1@example.com", "p2@example.com"], "what was sent is not sent again"
    assert ("ada", "retry mail", f"mail {failed.id}") in [
        (one.actor, one.verb, one.reason) for one in crew.acts.newest()
    ]
    for number in ("", "1 OR 1=1", "9" * 30, "²"):
        assert browser.ask("POST", "/mail/retry", data={"seal": token, "mail": number}).status_code == 422


def test_to_whom_nothing_is_sent_is_shown_and_how_a_step_reads(post):
    crew, _ = post
    crew.mail.suppress(address="eve@example.com", reason=HOSTILE, by="ada")
    browser = Browser(crew.dashboard(letting_in("read_only")))
    assert "eve" not in str(crew.acts.newest()), "she may want to be forgotten"
    newest = crew.acts.newest()[0]
    assert (newest.actor, newest.verb, newest.reason) == ("ada", "suppress mail", HOSTILE)
    shown = browser.open("/mail")
    assert "eve@example.com all mail" in words(shown)
    assert HOSTILE not in shown
    assert "Retry" not in words(shown), "whoever may only look is offered nothing"
    letter = words(browser.open("/mail/welcome/day3"))
    assert "nothing is sent" in letter
    assert "from Acme <hello@acme.example>" in letter
    assert browser.ask("GET", "/mail/welcome/nope").status_code == 422
    token = browser.open("/audit")
    assert browser.ask("POST", "/mail/retry", data={"mail": "1"}).status_code == 403
    assert token


# ── streams ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def chatting(url, chats):
    """Lend a crew in whose process these chats have an answer that goes on, and what was saved of those that ended."""
    with answering(chats) as (streams, saved):
        crew = Nightcrew(url, settings=Settings(environment="production"), streams=streams)
        try:
            yield crew, saved
        finally:
            crew.close()


def test_the_answers_that_are_written_are_shown_and_one_is_stopped(tmp_path):
    with chatting(f"sqlite:///{tmp_path}/x.db", ["harbour", HOSTILE]) as (crew, saved):
        browser = Browser(crew.dashboard(letting_in("all")), "/desk")
        shown = browser.open("/streams")
        assert "2 streams are live." in words(shown)
        assert HOSTILE not in shown
        form = shown[shown.index('<th scope="row" data-head="Chat">harbour<') :]
        stream = form.split('name="stream" value="')[1].split('"')[0]
        data = {"seal": form.split('name="seal" value="')[1].split('"')[0], "chat": "harbour", "stream": stream}
        assert browser.ask("POST", "/streams/stop", data=data).headers["location"] == "/desk/streams?done=stopped"
        assert [(final.chat, final.state, final.stop) for final in saved] == [("harbour", "stopped", "ada")]
        assert "1 stream is live." in words(browser.open("/streams"))
        assert browser.ask("POST", "/streams/stop", data=data).headers["location"] == "/desk/streams?done=over"
        assert browser.ask("POST", "/streams/stop", data=data | {"chat": ""}).status_code == 422
        assert browser.send("/streams", "/streams/sweep") == "/streams?done=swept"
        verbs = [(act.actor, act.verb) for act in crew.acts.newest()]
        assert verbs == [("ada", "sweep streams"), ("ada", "stop stream"), ("ada", "stop stream")]
        assert "harbour" not in str([act.reason for act in crew.acts.newest()]), "a chat's name may tell of a person"


def test_no_more_streams_are_looked_at_than_are_shown(tmp_path):
    with chatting(f"sqlite:///{tmp_path}/x.db", [f"chat-{number}" for number in range(230)]) as (crew, _):
        browser = Browser(crew.dashboard(letting_in("read_only")))
        shown = browser.open("/streams")
        assert "The oldest 200 of more." in words(shown)
        assert shown.count("<tr>") == 201
        assert "Stop" not in words(shown), "whoever may only look is offered nothing"


def test_a_crew_without_mail_or_streams_has_no_pages_of_them(tmp_path):
    crew = hired(f"sqlite:///{tmp_path}/x.db")
    crew.migrate()
    browser = Browser(crew.dashboard(letting_in("all")))
    assert ">Mail<" not in browser.open("/")
    assert ">Streams<" not in browser.open("/")
    for path in ("/mail", "/streams", "/mail/welcome/day3"):
        assert browser.ask("GET", path).status_code == 422
    crew.close()


def test_streams_whose_backend_is_away_say_so(tmp_path):
    url = "redis://:hunter2@127.0.0.1:1/0"
    crew = Nightcrew(f"sqlite:///{tmp_path}/x.db", settings=Settings(environment="production"), streams=Streams(url))
    crew.migrate()
    answer = Browser(crew.dashboard(letting_in("all"))).ask("GET", "/streams")
    assert answer.status_code == 503
    assert "redis://127.0.0.1:1/0 does not answer" in words(answer.text)
    assert "hunter2" not in answer.text
    crew.close()


# ── the doctor ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_doctor_asks_no_database_until_somebody_wants_that_and_says_what_to_paste(yard):
    yard.run("CREATE TABLE sessions (id INTEGER PRIMARY KEY, expires_at TIMESTAMP NULL)")
    crew = Nightcrew(yard.url, settings=Settings(environment="production"))
    crew.expire("end-sessions", "sessions", column="expires_at", schedule="0 3 * * *")
    browser = Browser(crew.dashboard(letting_in("all")), "/desk")
    statements = []
    sa.event.listen(crew._station.link.engine, "before_cursor_execute", lambda *said: statements.append(said[2]))
    opened = words(browser.open("/doctor"))
    assert statements == []
    assert "CRON_SECRET is not set" in opened
    assert "NC301" not in opened.split("found nothing")[0]
    data = {"seal": browser.open("/doctor").split('name="seal" value="')[1].split('"')[0]}
    examined = browser.ask("POST", "/doctor", data=data).text
    assert "CREATE INDEX sessions_expires_at_idx ON sessions (expires_at);" in words(examined)
    assert "nightcrew migrate" in words(examined)
    assert "Cannot be told" in words(examined)
    reader = Browser(crew.dashboard(letting_in("read_only")), "/desk")
    assert "Examine" not in words(reader.open("/doctor")), "whoever may only look is offered nothing"
    crew.close()
