"""Letters handed to a server of SMTP that really answers: each has the fate that it has."""

import socket
from email.headerregistry import Address

import pytest
from tests.letters import SENDER, letter, read, texts
from tests.post import HOST, PASSWORD, USER, Post, Talk, deliver, fates, post, scripted

from nightcrew.clock import SystemClock
from nightcrew.errors import MailerError
from nightcrew.mailer import Delivery, Fate
from nightcrew.mailers import mailer


@pytest.fixture(params=[True, False], ids=["pipelining", "one by one"])
def office(request):
    with post(Post(pipelining=request.param)) as office:
        yield office


def test_a_letter_is_taken_and_the_answer_kept(office):
    (delivery,) = deliver(office.url())
    assert delivery == Delivery(Fate.SENT, "250 2.0.0 Ok: queued as 1A2B")
    ((sender, recipients, content),) = office.letters
    assert (sender, recipients) == ("hello@acme.example", ["ann@example.com"])
    assert texts(read(content)) == ("Hello Ann\n", "<p>Hello Ann</p>\n")
    assert f"SIZE={len(content)}" in office.options


def test_lines_that_begin_with_dots_come_through(office):
    odd = letter(text=".\n..\n.a\n\n.\n", html="é.\n" * 400 + ".\nQUIT\n.\n", headers={"X-Dots": "... . .."})
    assert fates(office.url(), odd, letter("next")) == [Fate.SENT] * 2
    found = read(office.letters[0][2])
    assert texts(found) == (odd.text, odd.html)
    assert found["x-dots"] == "... . .."


def test_many_letters_take_one_connection_and_a_new_one_every_hundred(office):
    assert set(fates(office.url(), *(letter(str(n)) for n in range(101)))) == {Fate.SENT}
    assert len(office.letters) == 101
    assert office.connections == 2


@pytest.mark.parametrize(
    ("verb", "answer", "fate"),
    [
        ("RCPT", "450 4.2.1 receives too much now", Fate.DEFERRED), ("RCPT", "451 greylisted", Fate.DEFERRED),
        ("RCPT", "452 4.2.2 mailbox full", Fate.DEFERRED), ("RCPT", "550 5.1.1 no such user", Fate.BOUNCED),
        ("RCPT", "550 5.1.2 no such domain", Fate.BOUNCED), ("RCPT", "501 5.1.3 bad address", Fate.BOUNCED),
        ("RCPT", "551 5.1.6 moved away", Fate.BOUNCED), ("RCPT", "556 5.1.10 null MX", Fate.BOUNCED),
        ("RCPT", "550 5.2.1 disabled", Fate.BOUNCED), ("RCPT", "552 5.2.2 over quota", Fate.REFUSED),
        ("RCPT", "550 5.7.1 not wanted here", Fate.REFUSED), ("RCPT", "550 no", Fate.REFUSED),
        ("RCPT", "550 5.1.11 is another", Fate.REFUSED), ("RCPT", "554 5.7.1 Relay access denied", Fate.DEFERRED),
        ("RCPT", "421 4.3.2 closing", Fate.DEFERRED), ("RCPT", "450 5.1.1 at odds with itself", Fate.DEFERRED),
        ("MAIL", "451 4.3.0 try later", Fate.DEFERRED), ("MAIL", "552 5.3.4 too large", Fate.REFUSED),
        ("MAIL", "452 4.3.1 disk full", Fate.DEFERRED), ("MAIL", "550 5.6.7 not in ASCII", Fate.REFUSED),
        ("DATA", "451 4.7.1 try later", Fate.DEFERRED), ("DATA", "554 5.6.0 spam", Fate.REFUSED),
        ("DATA", "550 5.1.1 said too late", Fate.REFUSED), ("DATA", "421 4.3.2 closing", Fate.DEFERRED),
    ],
)  # fmt: skip
def test_a_letter_that_is_not_taken_says_why_and_the_next_one_goes(office, verb, answer, fate):
    office.says[verb].append(answer)
    first, second, third = deliver(office.url(), letter("1"), letter("2"), letter("3"))
    assert (first, second.fate, third.fate) == (Delivery(fate, answer), Fate.SENT, Fate.SENT)
    assert len(office.letters) == 2


def test_a_letter_that_was_put_off_is_taken_later(office):
    office.says["RCPT"] += ["451 4.7.1 greylisted", "450 4.2.1 not yet"]
    assert fates(office.url(), *[letter()] * 3) == [Fate.DEFERRED, Fate.DEFERRED, Fate.SENT]
    assert [read(content)["message-id"] for _, _, content in office.letters] == ["<welcome/day3=1@acme.example>"]


@pytest.mark.parametrize("answer", ["553 5.7.1 not your address", "530 5.7.0 log in first", "550 no", "501 5.1.7 bad"])
def test_a_sender_that_is_refused_is_told_as_our_own_fault(office, answer):
    office.says["MAIL"].append(answer)
    with mailer(office.url(), SystemClock()).connect() as connection:
        with pytest.raises(MailerError, match=f"its user and its secret.*{answer}") as told:
            connection.deliver(letter())
        assert not told.value.transient
        assert connection.deliver(letter()).fate == Fate.SENT


def test_a_recipient_that_only_whoever_logs_in_may_write_to_is_our_own_fault(office):
    office.says["RCPT"].append("530 5.7.0 authentication required")
    with pytest.raises(MailerError, match="530"):
        deliver(office.url())


def test_what_a_server_says_is_kept_in_one_short_line_without_the_address(office):
    office.says["RCPT"].append(
        f"550-5.1.1 <ann@example.com>: nobody\r\n550 5.1.1 \x1b[31m see é password=hunter2 {'x' * 900}"
    )
    (delivery,) = deliver(office.url())
    assert delivery.fate == Fate.BOUNCED
    assert delivery.reason.startswith("550 5.1.1 <…>: nobody 5.1.1  [31m see")
    assert "hunter2" not in delivery.reason
    assert len(delivery.reason) <= 250


@pytest.mark.parametrize("size", [1500, 5_000_000])
def test_a_letter_larger_than_a_server_takes_is_not_offered_to_it(size):
    def script(talk: Talk) -> None:
        talk.greet(f"SIZE {size - 1000}")
        talk.take()

    large = letter("1", text="x" * size)
    with scripted(script) as url:
        refused, sent = deliver(url, large, letter("2"))
    assert (refused.fate, sent.fate) == (Fate.REFUSED, Fate.SENT)
    assert f"{size - 1000:,}" in refused.reason


def test_an_address_that_is_not_ascii_goes_where_it_may():
    zoe = letter(recipient=Address("", "zoë", "exämple.com"))
    with post() as office:
        assert fates(office.url(), zoe) == [Fate.SENT]
        assert office.options[-2:] == ["BODY=8BITMIME", "SMTPUTF8"]
        assert fates(office.url(), letter("2")) == [Fate.SENT]
        assert [option[:5] for option in office.options] == ["SIZE="]
        assert office.letters[0][1] == ["zoë@xn--exmple-cua.com"]
        assert "To: zoë@" in office.letters[0][2].decode()
    with post(enable_SMTPUTF8=False) as office:
        first, second = deliver(office.url(), zoe, letter("2"))
        assert (first.fate, second.fate) == (Fate.REFUSED, Fate.SENT)
        assert "SMTPUTF8" in first.reason


def test_nothing_in_an_address_is_a_command(office):
    odd = Address("", "x> SIZE=1\\", "example.com")
    assert fates(office.url(), letter("1", recipient=odd), letter("2", sender=odd), letter("3")) == [Fate.SENT] * 3
    assert [office.letters[0][1], office.letters[1][0]] == [
        ['"x> SIZE=1\\\\"@example.com'],
        '"x> SIZE=1\\\\"@example.com',
    ]


def test_nobody_to_take_mail_is_told_with_the_place():
    with socket.create_server((HOST, 0)) as door:
        url = f"smtp://{HOST}:{door.getsockname()[1]}?starttls=off"
    with pytest.raises(MailerError, match=r"smtp://127\.0\.0\.1:\d+ cannot be reached \(Connection refused\)") as told:
        deliver(url)
    assert told.value.transient


@pytest.mark.parametrize(
    ("lines", "told", "transient"),
    [
        (["554 not you"], "554 not you", False), (["421 too many"], "421 too many", True),
        ([], "hung up", True), (["SSH-2.0-OpenSSH"], "no answer of SMTP", True),
        (["220-more"] * 200, "100 lines", True), (["220 hi", "502 no EHLO"], "502 no EHLO", False),
    ],
)  # fmt: skip
def test_a_server_that_will_not_have_us_is_told(lines, told, transient):
    with scripted(lambda talk: talk.say(*lines)) as url, pytest.raises(MailerError, match=told) as error:
        deliver(url)
    assert error.value.transient is transient


def test_a_line_is_not_read_without_end():
    def script(talk: Talk) -> None:
        while True:
            talk.connection.sendall(b"220 and so on" * 1000)

    with scripted(script) as url, pytest.raises(MailerError, match="line without end"):
        deliver(url)


@pytest.mark.parametrize("ways", [["PLAIN", "LOGIN"], ["LOGIN"]])
def test_somebody_logs_in(ways):
    others = {"LOGIN", "PLAIN"} - {*ways}
    with post(auth_required=True, auth_exclude_mechanism=others) as office:
        way = mailer(office.url(f"{USER}@"), SystemClock(), secret=PASSWORD)
        with way.connect() as connection:
            assert connection.deliver(letter()).fate == Fate.SENT
        assert PASSWORD not in way.place


@pytest.mark.parametrize("ways", [["PLAIN", "LOGIN"], ["LOGIN"]])
def test_a_login_that_is_refused_is_told_without_the_password(ways):
    with post(auth_exclude_mechanism={"LOGIN", "PLAIN"} - {*ways}) as office:
        way = mailer(office.url(f"{USER}@"), SystemClock(), secret="hunter2-hunter2")
        with (
            pytest.raises(MailerError, match=r"refused the login: see its user and its secret.*535") as told,
            way.connect(),
        ):
            pass
    assert not told.value.transient
    assert "hunter2" not in str(told.value)


def test_a_server_that_repeats_the_password_is_not_repeated():
    said = []

    def script(talk: Talk) -> None:
        talk.greet("AUTH PLAIN")
        said.append(talk.hear("AUTH PLAIN ").rpartition(" ")[2])
        talk.say(f"535 5.7.8 not with {said[0]}, nor hunter2-hunter2")

    with scripted(script) as url:
        way = mailer(url.replace("//", f"//{USER}@"), SystemClock(), secret="hunter2-hunter2")
        with pytest.raises(MailerError, match="not with") as told, way.connect():
            pass
    assert "hunter2" not in str(told.value)
    assert said[0] not in str(told.value)


@pytest.mark.parametrize(("offers", "told"), [([], "but none"), (["AUTH CRAM-MD5 XOAUTH2"], "but CRAM-MD5, XOAUTH2")])
def test_a_server_that_lets_nobody_log_in_is_told(offers, told):
    with scripted(lambda talk: talk.greet(*offers)) as url:
        way = mailer(url.replace("//", "//me@"), SystemClock(), secret="hunter2-hunter2")
        with pytest.raises(MailerError, match=told), way.connect():
            pass


def test_a_login_that_must_wait_may_come_later():
    def script(talk: Talk) -> None:
        talk.greet("AUTH PLAIN")
        talk.hear("AUTH")
        talk.say("454 4.7.0 try again later")

    with scripted(script) as url:
        way = mailer(url.replace("//", "//me@"), SystemClock(), secret="hunter2-hunter2")
        with pytest.raises(MailerError, match="454") as told, way.connect():
            pass
    assert told.value.transient


def test_a_sender_whose_name_is_not_for_a_server_is_nobody(office):
    assert fates(office.url(), letter(sender=Address("", "", "")), letter(sender=SENDER)) == [Fate.REFUSED, Fate.SENT]
