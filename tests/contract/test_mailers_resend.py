"""Letters handed over by Resend's API: its answers are read for what they say, and a key is sent once."""

import socket
import time
from email.headerregistry import Address

import pytest
from tests.letters import letter
from tests.post import Authority
from tests.provider import KEY, hang_up, provider

from nightcrew.clock import SystemClock
from nightcrew.errors import MailerError
from nightcrew.mailer import Delivery, Fate
from nightcrew.mailers import address, mailer
from nightcrew.mailers.resend import Resend


class Waits(SystemClock):
    """A clock that does not wait, and remembers how long it should have."""

    def __init__(self) -> None:
        self.waited: list[float] = []

    def wait(self, event, seconds):
        self.waited.append(seconds)
        return False


@pytest.fixture
def resend():
    with provider() as resend:
        yield resend


def deliver(resend, *letters, secret: str = KEY, clock=None) -> list[Delivery]:
    with mailer(resend.url, clock or SystemClock(), secret=secret).connect() as connection:
        return [connection.deliver(each) for each in letters or (letter(),)]


def test_a_letter_is_asked_for_as_its_page_says(resend):
    sent = letter(
        subject="Wëlcome", recipient=Address("Zoë, of M.", "zoe", "exämple.com"), headers={"X-A": "b"},
        reply_to=Address("", "help", "acme.example"),
    )  # fmt: skip
    assert deliver(resend, sent) == [Delivery(Fate.SENT, "200 id-of-welcome/day3:1")]
    assert resend.letters == {
        "welcome/day3:1": {
            "from": "Acme <hello@acme.example>", "to": ['"Zoë, of M." <zoe@xn--exmple-cua.com>'], "subject": "Wëlcome",
            "text": sent.text, "html": sent.html, "headers": {"X-A": "b"}, "reply_to": "help@acme.example",
        }
    }  # fmt: skip


def test_many_letters_take_one_connection(resend):
    assert {each.fate for each in deliver(resend, *(letter(str(n)) for n in range(20)))} == {Fate.SENT}
    assert (len(resend.letters), resend.connections) == (20, 1)


def error(name: str, message: str = "as the test wants it") -> dict:
    return {"statusCode": 0, "name": name, "message": message}


@pytest.mark.parametrize(
    ("status", "said", "fate"),
    [
        (400, error("validation_error"), Fate.REFUSED), (400, error("invalid_idempotency_key"), Fate.REFUSED),
        (422, error("validation_error"), Fate.REFUSED), (422, error("missing_required_field"), Fate.REFUSED),
        (413, b"too large", Fate.REFUSED), (451, error("security_error"), Fate.REFUSED),
        (409, error("concurrent_idempotent_requests"), Fate.UNANSWERED), (429, b"slow down", Fate.DEFERRED),
        (409, error("invalid_idempotent_request"), Fate.MAYBE_SENT), (500, error("application_error"), Fate.UNANSWERED),
        (503, b"", Fate.DEFERRED), (500, b"<html>oops", Fate.UNANSWERED), (502, b"[1, 2]", Fate.UNANSWERED),
        (408, {}, Fate.DEFERRED), (500, b"\xff\xfe", Fate.UNANSWERED),
    ],
)  # fmt: skip
def test_a_letter_that_is_not_taken_says_why_and_the_next_one_goes(resend, status, said, fate):
    resend.answers.append((status, said, {}))
    first, second = deliver(resend, letter("1"), letter("2"))
    assert (first.fate, second.fate) == (fate, Fate.SENT)
    assert first.reason.startswith(str(status))
    if isinstance(said, dict) and said:
        assert first.reason == f"{status} {said['name']} {said['message']}"


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (401, error("missing_api_key")), (401, error("restricted_api_key")), (403, error("invalid_api_key")),
        (400, error("validation_error", "API key is invalid")), (403, error("validation_error", "not verified")),
        (422, error("invalid_from_address")), (404, b"not here"), (405, b""), (429, error("daily_quota_exceeded")),
        (429, error("monthly_quota_exceeded")), (301, b""), (304, b""),
    ],
)  # fmt: skip
def test_what_is_about_all_letters_is_told_as_our_own_fault(resend, status, said):
    resend.answers.append((status, said, {"Location": f"{resend.url.replace('resend', 'http')}/elsewhere"}))
    with pytest.raises(MailerError, match=f"resend://127.0.0.1:[0-9]+ takes no letter: see its API key.*{status}"):
        deliver(resend)
    assert (resend.requests, resend.letters) == (1, {})


def test_a_key_that_is_refused_is_not_told(resend):
    resend.answers.append(
        (401, error("validation_error", "API key re_hunter2_hunter2 is invalid for ann@example.com"), {})
    )
    with pytest.raises(MailerError, match="see its API key") as told:
        deliver(resend, secret="re_hunter2_hunter2")
    assert "hunter2" not in str(told.value)
    assert "ann@example.com" not in str(told.value)


def test_where_letters_come_too_fast_it_is_left_alone_for_as_long_as_it_asks(resend):
    clock = Waits()
    resend.answers += [
        (429, error("rate_limit_exceeded"), {"Retry-After": "2"}),
        (429, error("rate_limit_exceeded"), {}),
    ]
    assert [each.fate for each in deliver(resend, clock=clock)] == [Fate.SENT]
    assert clock.waited == [2.0, 1.0]


@pytest.mark.parametrize(
    ("after", "waits"), [("1", [1.0] * 4), ("3600", []), ("Wed, 21 Oct 2026 07:28:00 GMT", [1.0] * 4)]
)
def test_it_is_not_waited_for_without_end(resend, after, waits):
    clock = Waits()
    resend.answers += [(429, error("rate_limit_exceeded"), {"Retry-After": after})] * (len(waits) + 1)
    assert [each.fate for each in deliver(resend, clock=clock)] == [Fate.DEFERRED]
    assert clock.waited == waits


def test_a_letter_whose_answer_was_lost_is_sent_once(resend):
    resend.after += [hang_up, hang_up]
    with mailer(resend.url, SystemClock(), secret=KEY).connect() as connection:
        first = connection.deliver(letter())
        assert (first.fate, len(resend.letters)) == (Fate.UNANSWERED, 1)
        assert connection.deliver(letter()).fate == Fate.SENT
    assert len(resend.letters) == 1


def test_the_same_key_for_another_letter_may_have_been_sent(resend):
    assert [each.fate for each in deliver(resend, letter(), letter(subject="Other"))] == [Fate.SENT, Fate.MAYBE_SENT]
    assert resend.messages()[0]["subject"] == "Welcome"


def test_a_connection_that_was_closed_meanwhile_costs_no_letter(resend):
    resend.before += [lambda _: False, hang_up, lambda request: setattr(request, "close_connection", True)]
    assert [each.fate for each in deliver(resend, *(letter(str(n)) for n in range(3)))] == [Fate.SENT] * 3
    assert resend.connections == 3


def test_an_answer_without_end_is_not_read(resend):
    resend.answers.append((500, b"x" * 10_000_000, {}))
    first, second = deliver(resend, letter("1"), letter("2"))
    assert (first.fate, len(first.reason), second.fate) == (Fate.UNANSWERED, 250, Fate.SENT)


def test_an_answer_is_not_waited_for_without_end(resend):
    resend.before.append(lambda _: time.sleep(2))
    began = time.monotonic()
    with Resend(address(resend.url), SystemClock(), secret=KEY, limit=0.3).connect() as connection:
        first = connection.deliver(letter())
        assert time.monotonic() - began < 1.5
        assert (first.fate, first.reason) == (Fate.UNANSWERED, "it did not answer (timed out)")
        assert connection.deliver(letter("2")).fate == Fate.SENT


def test_nobody_to_ask_is_told_with_the_place():
    with socket.create_server(("127.0.0.1", 0)) as door:
        url = f"resend://127.0.0.1:{door.getsockname()[1]}?tls=off"
    with (
        pytest.raises(MailerError, match=r"resend://127\.0\.0\.1:\d+ cannot be reached \(Connection refused\)") as told,
        mailer(url, SystemClock(), secret=KEY).connect(),
    ):
        pass
    assert told.value.transient


def test_a_provider_that_is_gone_meanwhile_is_told():
    with provider() as resend:
        resend.before.append(lambda request: setattr(request, "close_connection", True))
        entered = mailer(resend.url, SystemClock(), secret=KEY).connect()
        connection = entered.__enter__()
        assert connection.deliver(letter()).fate == Fate.SENT
    with pytest.raises(MailerError, match="cannot be reached") as told:
        connection.deliver(letter("2"))
    assert told.value.transient
    entered.__exit__(None, None, None)


def test_a_provider_has_to_prove_who_it_is(tmp_path, monkeypatch):
    authority = Authority(tmp_path)
    with provider(authority.context("127.0.0.1")) as resend:
        with pytest.raises(MailerError, match="does not prove who it is"):
            deliver(resend)
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
        assert [each.fate for each in deliver(resend)] == [Fate.SENT]
        assert resend.requests == 1
    with provider(authority.context("api.resend.com")) as resend:
        with pytest.raises(MailerError, match="IP address mismatch"):
            deliver(resend)
        assert resend.requests == 0
