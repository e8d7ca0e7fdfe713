"""Mail of which nobody knows whether it left, or to whom it goes: none is sent twice, and none is lost for good."""

from collections import Counter
from datetime import timedelta

import pytest
from tests.model.timepiece import Timepiece
from tests.tray import DAY, NAME, SENT, Tray, enroll, people, send, shift, states

from nightcrew.mailer import KNOWN, Delivery, Fate
from nightcrew.outcome import Outcome
from nightcrew.sent import State
from nightcrew.sequence import Sequence, Step

HOUR = timedelta(hours=1)
ONE = Sequence("welcome", (Step("welcome"),))
NO_ANSWER = Delivery(Fate.UNANSWERED, "it did not answer")
LATER = Delivery(Fate.DEFERRED, "429 slow down")


def one_by_one(*fates):
    """A provider that knows a letter's key, and answers so, one letter after the other."""
    answers = list(fates)
    return Tray(lambda _letter: answers.pop(0) if answers else SENT, idempotent=True)


def only(crew):
    """The one mail that there is."""
    (found,) = crew.mail.of_state(*State)
    return found


def test_a_letter_that_nobody_answered_for_is_sent_again_while_its_key_is_known(yard, engine, crew):
    tray = one_by_one(NO_ANSWER, LATER)
    one = crew(tray, ONE)
    yard.fill("people", *people(1))
    enroll(one, engine, 1)
    assert send(one).outcome is Outcome.FAILED, "mail was due, and none is known to have been sent"
    first = only(one)
    assert (first.state, first.attempts, first.reason) == (State.WAITING, 1, "it did not answer")
    shift(yard, HOUR)
    send(one)
    assert only(one).reason == "429 slow down"
    shift(yard, HOUR)
    assert send(one).message == "Sent 1 mail."
    assert only(one).sent == first.sent - 2 * HOUR, "it may have been the first time"


def test_a_letter_whose_key_nobody_knows_any_more_is_left_to_a_person(yard, engine, crew):
    one = crew(one_by_one(NO_ANSWER), ONE)
    yard.fill("people", *people(1))
    enroll(one, engine, 1)
    send(one)
    shift(yard, KNOWN + HOUR)
    assert send(one).outcome is Outcome.FAILED
    assert only(one).state is State.MAYBE_SENT
    assert one.mail.retry() == 1
    assert send(one).message == "Sent 1 mail."


@pytest.mark.parametrize("then", [Fate.REFUSED, Fate.BOUNCED])
def test_a_letter_that_is_refused_the_second_time_may_have_been_sent_the_first(yard, engine, crew, then):
    one = crew(one_by_one(NO_ANSWER, Delivery(then, "550 no")), ONE)
    yard.fill("people", *people(1))
    enroll(one, engine, 1)
    send(one)
    shift(yard, HOUR)
    send(one)
    assert only(one).state is State.MAYBE_SENT


def test_who_unsubscribes_meanwhile_may_have_been_sent_it_and_gets_no_second(yard, engine, crew):
    tray = one_by_one(NO_ANSWER)
    one = crew(tray, ONE)
    yard.fill("people", *people(1))
    enroll(one, engine, 1)
    send(one)
    one.mail.opt_out(1)
    shift(yard, HOUR)
    send(one)
    found = only(one)
    assert (found.state, tray.letters) == (State.MAYBE_SENT, [])
    assert found.reason.endswith("Since then: unsubscribed")


def test_a_letter_that_was_perhaps_sent_counts_for_the_day_and_does_not_keep_itself_back(yard, engine, crew):
    two = Sequence("welcome", (Step("welcome"), Step("day3", HOUR)))
    one = crew(one_by_one(NO_ANSWER), two)
    yard.fill("people", *people(1))
    enroll(one, engine, 1)
    send(one)
    shift(yard, HOUR)
    send(one)
    assert (states(one), states(one, "day3")) == ({State.SENT: 1}, {State.WAITING: 1})
    assert [each.reason for each in one.mail.of_state(State.WAITING)] == ["1 a day for a person"]


def test_where_nobody_is_in_the_table_of_people_it_is_the_table_that_is_wrong(yard, engine, crew):
    tray = Tray()
    one = crew(tray, ONE)
    enroll(one, engine, 1, 2, 3)
    report = send(one)
    assert report.outcome is Outcome.FAILED
    assert "none of the 3 mails is to somebody in the table of people, where '1' for one is not" in report.message
    yard.fill("people", *people(1, 2, 3))
    shift(yard, HOUR)
    assert send(one).message == "Sent 3 mails."


def test_a_person_who_has_left_is_no_alarm_and_gets_their_mails_where_they_were_only_away(yard, engine, crew):
    tray = Tray()
    one = crew(tray, ONE)
    enroll(one, engine, 1)
    assert send(one).message == "Sent 0 mails; 1 waiting (there is no such person)."
    shift(yard, 3 * DAY)
    report = send(one)
    assert report.message == "Sent 0 mails; 1 addressed to nobody (there is no such person)."
    assert report.outcome is not Outcome.FAILED
    yard.fill("people", *people(1))
    assert one.mail.retry(states=[State.EXPIRED]) == 1
    assert send(one).message == "Sent 1 mail."


def test_a_mail_that_somebody_let_be_tried_again_is_not_late_for_steps_that_have_changed(yard, engine, crew):
    tray = Tray(lambda _letter: Delivery(Fate.REFUSED, "550 no"))
    one = crew(tray, ONE)
    yard.fill("people", *people(1))
    enroll(one, engine, 1)
    send(one)
    shift(yard, 9 * DAY)
    assert one.mail.retry(states=[State.FAILED]) == 1
    tray.fate = lambda _letter: SENT
    changed = crew(tray, Sequence("welcome", (Step("welcome", HOUR), Step("day30", 30 * DAY))))
    assert send(changed).message == "Sent 1 mail."


@pytest.mark.parametrize("back", [1, 26])
def test_a_clock_that_is_put_back_sends_nothing_twice_and_loses_nothing(yard, engine, crew, back):
    """By an hour, or by a day and more: somebody has to say that it is right, and is told so."""
    clock, tray, later = Timepiece(), Tray(), Step("later", HOUR, mail="day3")
    one = crew(tray, Sequence("welcome", (Step("welcome"), later)), clock=clock, per_person=9)
    clock.rule(one._station.link)
    one._station.link.engine.dispose()
    yard.fill("people", *people(1, 2, 3))

    def enrolled(*who):
        with engine.begin() as connection:
            for person in who:
                one.mail.enroll(connection, person, "welcome", since=clock.now())

    enrolled(1, 2)
    assert send(one).message == "Sent 2 mails."
    clock.move(3_700)
    assert send(one).message == "Sent 2 mails."
    clock.move(-3_600 * back)
    enrolled(3)
    assert send(one).outcome is Outcome.REFUSED
    one.ack(NAME, by="alice")
    assert send(one).message == "Sent 1 mail."
    assert send(one).message == "No mail was due."
    for _ in range(back + 2):
        clock.move(3_600)
        send(one)
    assert Counter(letter.recipient.addr_spec for letter in tray.letters) == {f"p{n}@example.com": 2 for n in (1, 2, 3)}
    assert len({letter.key for letter in tray.letters}) == 6
