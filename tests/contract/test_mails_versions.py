"""Two versions of the steps side by side, and what is retried or was lost: still no mail twice, and none for ever."""

import logging
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from tests.tray import SENT, Tray, enroll, people, send, shift, states

from nightcrew.clock import SystemClock
from nightcrew.databases.tables import mails
from nightcrew.errors import UsageError
from nightcrew.mailer import Delivery, Fate
from nightcrew.sent import State
from nightcrew.sequence import DAY, Sequence, Step

ONE = Sequence("welcome", (Step("welcome"),))
HOUR = timedelta(hours=1)


class Sleepy(SystemClock):
    """A clock by which more time has passed than has."""

    slept = 0.0

    def monotonic(self):
        return super().monotonic() + self.slept


def test_a_step_that_only_one_of_two_versions_calls_otherwise_is_sent_once(yard, engine, crew):
    """As while a deployment is under way, and after one was taken back."""
    tray, terms = Tray(), {"mail": "day3"}
    yard.fill("people", *people(*range(1, 9)))
    old = Sequence("welcome", (Step("a", **terms), Step("tips", DAY, **terms)))
    new = Sequence("welcome", (Step("b", was=("a",), **terms), Step("hints", DAY, was=("tips",), **terms)))
    crews = [crew(tray, steps, per_person=9) for steps in (old, new)]
    for person in range(1, 9):
        enroll(crews[0], engine, person)
        send(crews[person % 2])
        if person % 3 == 0:
            send(crews[1 - person % 2])
        shift(yard, 7 * HOUR)
    for one in crews * 3:
        send(one)
        shift(yard, 5 * HOUR)
    assert Counter(tray.addresses) == {f"p{person}@example.com": 2 for person in range(1, 9)}
    assert {state for _, _, state in crews[0].mail.counts()} == {State.SENT}


def test_a_former_name_that_is_told_of_too_late_sends_nothing_twice(yard, engine, crew):
    tray, terms = Tray(), {"mail": "day3"}
    yard.fill("people", *people(1))
    one = crew(tray, Sequence("welcome", (Step("tips", **terms),)))
    enroll(one, engine, 1)
    send(one)
    send(crew(tray, Sequence("welcome", (Step("hints", DAY, **terms),))))
    mended = crew(tray, Sequence("welcome", (Step("hints", DAY, was=("tips",), **terms),)))
    shift(yard, DAY + HOUR)
    send(mended)
    assert len(tray.letters) == 1
    assert states(mended, "hints") == {State.CANCELLED: 1}


def test_what_is_retried_of_a_step_that_is_gone_does_not_wait_for_ever(yard, engine, crew):
    one = crew(Tray(lambda letter: Delivery(Fate.REFUSED, "554 spam")), ONE)
    yard.fill("people", *people(1))
    enroll(one, engine, 1)
    send(one)
    other = crew(Tray(), Sequence("welcome", (Step("other", 9 * DAY, mail="day3"),)))
    send(other)
    other.mail.retry(states=[State.FAILED])
    send(other)
    assert states(other) == {State.WAITING: 1}
    shift(yard, 2 * DAY + HOUR)
    send(other)
    assert states(other) == {State.CANCELLED: 1}


def test_nothing_is_retried_of_whoever_was_cancelled_and_no_number_is_too_large(yard, engine, crew):
    tray = Tray(lambda letter: Delivery(Fate.MAYBE_SENT, "the connection was cut"))
    one = crew(tray, ONE)
    yard.fill("people", *people(1))
    enroll(one, engine, 1)
    send(one)
    with engine.begin() as connection:
        one.mail.cancel(connection, 1)
    assert one.mail.retry() == 0
    assert one.mail.retry([2**63, 10**30, -1, 0]) == 0


@pytest.mark.parametrize("since", [datetime(9999, 12, 31, tzinfo=UTC), datetime(1, 1, 1, tzinfo=UTC)])
def test_a_beginning_from_which_no_days_can_be_counted_is_refused(engine, crew, since):
    with pytest.raises(UsageError, match="give one from 1970 to 9000"):
        enroll(crew(Tray()), engine, 1, since=since)


def test_a_provider_that_forgets_keys_is_not_handed_a_mail_again_after_that(yard, engine, crew):
    one = crew(Tray(idempotent=True), ONE)
    yard.fill("people", *people(1))
    enroll(one, engine, 1)
    send(one)
    now, later = yard.link.moment, yard.link.later
    for ago, state in ((22 * HOUR, State.SENT), (25 * HOUR, State.MAYBE_SENT)):
        lost = {"state": "sending", "claim": "somebody", "due_at": now, "planned_at": now}
        with yard.link.transaction() as connection:
            connection.execute(sa.update(mails).values(**lost, sent_at=later(-ago.total_seconds())))
        send(one)
        assert states(one) == {state: 1}


def test_what_somebody_only_held_keeps_a_person_from_their_mail_for_an_hour_not_a_day(yard, engine, crew):
    tray, more = Tray(), Sequence("more", (Step("day3"),))
    yard.fill("people", *people(1))
    one = crew(tray, ONE, more)
    for sequence in (ONE, more):
        enroll(one, engine, 1, sequence=sequence.name)
        one._station.enrolments.plan(sequence, 9)
    one._station.mails.claim(["welcome"], 1, "somebody who died")
    send(one)
    assert tray.letters == []
    shift(yard, HOUR + timedelta(minutes=1))
    send(one)
    assert len(tray.letters) == 1


def test_a_mailer_with_a_fault_costs_one_mail_its_certainty_and_the_log_tells(yard, engine, crew, caplog):
    def fate(letter):
        if letter.recipient.addr_spec == "p3@example.com":
            raise RuntimeError("a fault")
        return SENT

    tray = Tray(fate)
    one = crew(tray, ONE, connections=1)
    yard.fill("people", *people(*range(5)))
    enroll(one, engine, *range(5))
    with caplog.at_level(logging.WARNING, "nightcrew"):
        report = send(one)
    assert "raised RuntimeError" in report.message
    assert states(one) == {State.SENT: 3, State.MAYBE_SENT: 1, State.WAITING: 1}
    assert any("was perhaps sent" in record.message for record in caplog.records)
    assert not any("listener" in record.message for record in caplog.records)
    tray.fate = lambda letter: SENT
    assert send(one).message == "Sent 1 mail."


def test_whoever_was_frozen_leaves_what_others_have_taken_for_lost_to_them(yard, engine, crew):
    """With the first letter a quarter of an hour passes, in which the rest is taken for lost, and retried by hand."""
    clock, numbers = Sleepy(), range(5)

    def fate(letter):
        if not tray.letters:
            clock.slept = 16 * 60
            with yard.link.transaction() as connection:
                lost = sa.update(mails).where(mails.c.state == State.SENDING, mails.c.key != letter.key)
                connection.execute(lost.values(due_at=yard.link.moment))
            assert one._station.mails.abandoned(timedelta(0)) == (0, 4)
            assert one.mail.retry() == 4
        return SENT

    tray = Tray(fate)
    one = crew(tray, ONE, connections=1, clock=clock)
    yard.fill("people", *people(*numbers))
    enroll(one, engine, *numbers)
    send(one)
    send(one)
    assert tray.addresses == [f"p{number}@example.com" for number in numbers]
