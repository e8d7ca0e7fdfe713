"""A server of SMTP that goes away, is silent or talks out of turn: a letter is not sent, or maybe, and never twice."""

import itertools
import time

import pytest
from tests.letters import letter, read, texts
from tests.post import Post, Talk, deliver, fates, post, scripted

from nightcrew.clock import SystemClock
from nightcrew.errors import MailerError
from nightcrew.mailer import Delivery, Fate
from nightcrew.mailers import mailer
from nightcrew.mailers.smtp_server import Limits

BRIEF = Limits(connect=2, command=0.5, end=0.5)


class Later(SystemClock):
    """The machine's clock, which a test puts forward."""

    ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


@pytest.fixture(params=[True, False], ids=["pipelining", "one by one"])
def office(request):
    with post(Post(pipelining=request.param)) as office:
        yield office


# What is cut off where.


def cut_before(talk: Talk) -> None:
    talk.greet("PIPELINING")
    talk.hear("MAIL")


def cut_after_recipient(talk: Talk) -> None:
    talk.greet()
    talk.hear("MAIL")
    talk.say("250 ok")
    talk.hear("RCPT")


def cut_inside(talk: Talk) -> None:
    talk.greet("PIPELINING")
    talk.hear("MAIL")
    talk.say("250 ok", "250 ok", "354 go")
    for _ in range(40):
        talk.lines.readline()
    talk.break_off()


def cut_after(talk: Talk) -> None:
    talk.greet("PIPELINING")
    talk.hear("MAIL")
    talk.say("250 ok", "250 ok", "354 go")
    talk.body()


def nonsense_after(talk: Talk) -> None:
    cut_after(talk)
    talk.say("what?")


def more_after(talk: Talk) -> None:
    cut_after(talk)
    talk.say("354 go on")


def test_a_connection_that_is_cut_inside_a_letter_has_not_sent_it():
    large = letter(text="a line of a letter\n" * 1_000_000)
    with scripted(cut_inside, lambda talk: (talk.greet(), talk.take())) as url:
        assert fates(url, large, letter("2")) == [Fate.DEFERRED, Fate.SENT]


def test_a_connection_that_is_cut_between_two_answers_has_not_sent_it():
    with scripted(cut_after_recipient, lambda talk: (talk.greet(), talk.take())) as url:
        first, second = deliver(url, letter("1"), letter("2"))
    assert (first, second.fate) == (Delivery(Fate.DEFERRED, "the server hung up"), Fate.SENT)


@pytest.mark.parametrize("script", [cut_after, nonsense_after, more_after])
def test_a_letter_that_was_written_whole_and_not_answered_is_maybe_sent(script):
    with scripted(script, lambda talk: (talk.greet(), talk.take())) as url:
        first, second = deliver(url, letter("1"), letter("2"))
    assert (first.fate, second.fate) == (Fate.MAYBE_SENT, Fate.SENT)
    assert first.reason.startswith("after the whole letter was written: ")


def take_one(talk: Talk) -> None:
    talk.greet("PIPELINING")
    talk.take()


def close_at_the_second(talk: Talk) -> None:
    take_one(talk)
    talk.hear("MAIL")
    talk.say("421 4.4.2 idle for too long")


def hang_up_at_the_second(talk: Talk) -> None:
    take_one(talk)
    talk.hear("MAIL")


def say_goodbye_unasked(talk: Talk) -> None:
    take_one(talk)
    talk.say("421 4.4.2 idle for too long")


def say_goodbye_as_exchange_does(talk: Talk) -> None:
    take_one(talk)
    talk.say("451 4.7.0 Timeout waiting for client input")


@pytest.mark.parametrize(
    "script",
    [take_one, say_goodbye_unasked, say_goodbye_as_exchange_does, close_at_the_second, hang_up_at_the_second],
)
def test_a_server_that_goes_away_between_letters_costs_none_an_attempt(script):
    with scripted(script, take_one) as url, mailer(url, SystemClock()).connect() as connection:
        assert connection.deliver(letter("1")).fate == Fate.SENT
        time.sleep(0.1)
        assert connection.deliver(letter("2")).fate == Fate.SENT


@pytest.mark.parametrize("script", [cut_before, lambda talk: (talk.greet(), talk.hear("MAIL"), talk.say("421 full"))])
def test_a_server_that_goes_away_whenever_a_letter_is_to_go_takes_none(script):
    with scripted(script, script) as url, pytest.raises(MailerError, match=r"takes no letter now: (the|421)") as told:
        deliver(url)
    assert told.value.transient


def test_a_connection_that_was_idle_for_long_is_opened_anew(office):
    clock = Later()
    with mailer(office.url(), clock).connect() as connection:
        assert connection.deliver(letter("1")).fate == Fate.SENT
        clock.ahead = 59
        assert connection.deliver(letter("2")).fate == Fate.SENT
        assert office.connections == 1
        clock.ahead = 59 + 61
        assert connection.deliver(letter("3")).fate == Fate.SENT
        assert office.connections == 2


def test_a_server_that_is_gone_for_good_is_told():
    with scripted(take_one) as url, mailer(url, SystemClock()).connect() as connection:
        assert connection.deliver(letter("1")).fate == Fate.SENT
        time.sleep(0.1)
        with pytest.raises(MailerError, match=r"cannot be (reached|talked to)") as told:
            connection.deliver(letter("2"))
    assert told.value.transient


# What comes out of turn.


def answer_before_the_end(talk: Talk) -> None:
    talk.greet("PIPELINING")
    talk.hear("MAIL")
    talk.say("250 ok", "250 ok", "354 go")
    talk.lines.readline()
    talk.say("552 5.3.4 too large, I have seen enough")
    talk.body()


def test_a_server_that_has_seen_enough_has_not_been_given_the_last_line():
    large = letter("1", text="a line of a letter\n" * 200_000)
    with scripted(answer_before_the_end, take_one) as url:
        first, second = deliver(url, large, letter("2"))
    assert first in (  # whichever of the two is noticed first
        Delivery(Fate.REFUSED, "552 5.3.4 too large, I have seen enough"), Delivery(Fate.MAYBE_SENT, first.reason)
    )  # fmt: skip
    assert second.fate == Fate.SENT


def test_a_letter_is_not_ended_that_was_refused_before_its_end():
    def script(talk: Talk) -> None:
        talk.greet("PIPELINING")
        for _ in range(3):
            talk.lines.readline()
        talk.say("250 ok", "250 ok", "354 go", "554 5.7.1 no, do not")
        assert b"\r\n.\r\n" not in talk.lines.read()

    with scripted(script, take_one) as url:
        first, second = deliver(url, letter("1"), letter("2"))
    assert (first, second.fate) == (Delivery(Fate.REFUSED, "554 5.7.1 no, do not"), Fate.SENT)


class Interrupting(SystemClock):
    """The machine's clock, which interrupts whoever asks it for the nth time."""

    left = 0

    def monotonic(self) -> float:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return super().monotonic()


def test_whoever_is_interrupted_in_a_letter_may_go_on_with_the_next(office):
    clock = Interrupting()
    with mailer(office.url(), clock).connect() as connection:
        for nth in itertools.count(1):
            clock.left = nth
            try:
                connection.deliver(letter(f"interrupted/{nth}"))
            except KeyboardInterrupt:
                assert connection.deliver(letter(f"next/{nth}")).fate == Fate.SENT
            if clock.left > 0:
                clock.left = 0
                break
    found = [read(content) for _, _, content in office.letters]
    assert all(texts(each) == ("Hello Ann\n", "<p>Hello Ann</p>\n") for each in found)
    assert {f"<next/{n}@acme.example>" for n in range(1, nth)} <= {each["message-id"] for each in found}
    assert len({each["message-id"] for each in found}) == len(found)
    assert nth > 10


def test_one_that_would_take_a_letter_to_nobody_is_given_an_empty_one():
    heard = []

    def script(talk: Talk) -> None:
        talk.greet("PIPELINING")
        for _ in range(3):
            talk.lines.readline()
        talk.say("250 ok", "550 5.1.1 nobody", "354 go")
        heard.append(talk.body())
        talk.say("554 no valid recipients")
        talk.hear("RSET")
        talk.say("250 ok")
        heard.append(talk.take())

    with scripted(script) as url:
        assert fates(url, letter("1"), letter("2")) == [Fate.BOUNCED, Fate.SENT]
    assert heard[0] == b""
    assert read(heard[1])["message-id"] == "<2@acme.example>"


def test_a_refusal_before_which_nothing_else_is_said_is_heard():
    def script(talk: Talk) -> None:
        talk.greet("PIPELINING")
        for _ in range(3):
            talk.lines.readline()
        talk.say("250 ok", "550 5.1.1 nobody, and goodbye")

    with scripted(script, take_one) as url:
        assert fates(url, letter("1"), letter("2")) == [Fate.BOUNCED, Fate.SENT]


def test_an_answer_that_makes_no_sense_puts_a_letter_off():
    def script(talk: Talk) -> None:
        talk.greet("PIPELINING")
        for _ in range(3):
            talk.lines.readline()
        talk.say("250 ok", "354 what?", "250 ok")

    with scripted(script, take_one) as url:
        first, second = deliver(url, letter("1"), letter("2"))
    assert first == Delivery(Fate.DEFERRED, "the server answered RCPT TO with 354 what?")
    assert second.fate == Fate.SENT


def test_one_that_would_take_a_letter_from_nobody_is_left():
    def script(talk: Talk) -> None:
        talk.greet("PIPELINING")
        for _ in range(3):
            talk.lines.readline()
        talk.say("451 try later", "250 ok", "354 go")
        assert talk.lines.read() == b""  # not the dot either that would have sent it

    with scripted(script, take_one) as url:
        assert fates(url, letter("1"), letter("2")) == [Fate.DEFERRED, Fate.SENT]


# What takes too long.


def silent_at(answers: int):
    def script(talk: Talk) -> None:
        talk.greet("PIPELINING")
        talk.say(*["250 ok", "250 ok", "354 go"][:answers])
        talk.lines.read()

    return script


@pytest.mark.parametrize(
    ("answers", "fate"), [(1, Fate.DEFERRED), (2, Fate.DEFERRED), (3, Fate.MAYBE_SENT)], ids=["RCPT", "DATA", "end"]
)
def test_a_server_is_not_waited_for_without_end(answers, fate):
    with scripted(silent_at(answers), take_one) as url:
        first, second = deliver(url, letter("1"), letter("2"), limits=BRIEF)
    assert (first.fate, second.fate) == (fate, Fate.SENT)
    assert "did not answer in time" in first.reason


def test_a_server_that_answers_letter_by_letter_is_not_waited_for_without_end():
    def script(talk: Talk) -> None:
        for sign in "220 this takes its time, and never comes to an end":
            talk.connection.sendall(sign.encode())
            time.sleep(0.1)

    began = time.monotonic()
    with scripted(script) as url, pytest.raises(MailerError, match="in time"):
        deliver(url, limits=BRIEF)
    assert time.monotonic() - began < 7


def test_a_server_that_does_not_read_is_not_waited_for_without_end():
    def script(talk: Talk) -> None:
        talk.greet("PIPELINING")
        talk.hear("MAIL")
        talk.say("250 ok", "250 ok", "354 go")
        time.sleep(2)

    with scripted(script) as url:
        (first,) = deliver(url, letter(text="x\n" * 20_000_000), limits=BRIEF)
    assert first == Delivery(Fate.DEFERRED, "the server did not answer in time")


def test_a_goodbye_is_not_waited_for_long():
    began = time.monotonic()
    with scripted(lambda talk: (take_one(talk), time.sleep(5))) as url:
        assert fates(url) == [Fate.SENT]
        assert time.monotonic() - began < 4
