"""A table in which an application schedules its mails itself: what is due leaves once, and is told there."""

import pytest
import sqlalchemy as sa
from tests.tray import NAME, PEOPLE, PREFERENCES, SENT, Tray, application, crew_of, people

from nightcrew.errors import ConfigurationError
from nightcrew.mail import ScheduledEmails
from nightcrew.mailer import Delivery, Fate
from nightcrew.outcome import Outcome
from nightcrew.sent import State
from nightcrew.sequence import DAY, Sequence, Step

TABLE = (
    "CREATE TABLE scheduled_emails (id {number} PRIMARY KEY, user_id {number}, email_type VARCHAR(40),"
    " scheduled_for {time}, sent BOOLEAN DEFAULT false, sent_at {time}, cancelled BOOLEAN DEFAULT false)"
)
STEPS = Sequence("welcome", (Step("day3", within=9_999 * DAY), Step("day7", within=9_999 * DAY)))


@pytest.fixture
def url(yard):
    yard.run(PEOPLE, PREFERENCES, TABLE)
    return yard.link.engine.url.set(drivername=yard.kind).render_as_string(hide_password=False)


@pytest.fixture
def crew(url):
    made = []

    def make(tray, **terms):
        made.append(crew_of(url, tray, STEPS, scheduled_emails=ScheduledEmails(), per_person=9, **terms))
        made[-1].migrate()
        return made[-1]

    yield make
    for one in made:
        one.close()


def schedule(yard, *rows):
    columns = "id", "user_id", "email_type", "scheduled_for", "sent", "cancelled"
    yard.fill("scheduled_emails", *(dict(zip(columns, row, strict=True)) for row in rows))


def theirs(yard):
    """Return what their table says: by ID, whether it is sent, since when, and whether it is cancelled."""
    with yard.link.transaction(writes=False) as connection:
        rows = connection.exec_driver_sql("SELECT id, sent, sent_at, cancelled FROM scheduled_emails ORDER BY id").all()
    return {row[0]: (bool(row[1]), row[2] is not None, bool(row[3])) for row in rows}


SENT_THEN, OPEN, CANCELLED = (True, True, False), (False, False, False), (False, False, True)


def test_what_is_due_leaves_once_and_is_told(yard, crew):
    tray = Tray()
    one = crew(tray)
    yard.fill("people", *people(1, 2, 3))
    schedule(
        yard,
        (1, 1, "day3", DAY, False, False),
        (2, 2, "day3", DAY, None, None),
        (3, 2, "day7", -9_000 * DAY, False, False),
        (4, 3, "day3", DAY, True, False),
        (5, 3, "day7", DAY, False, True),
        (6, 1, "day3", DAY, False, False),
        (7, 9, "day3", 3 * DAY, False, False),
    )
    assert one.run(NAME, now=True).message.startswith("Sent 2 mails; 1 addressed to nobody")
    assert one.run(NAME, now=True).message == "No mail was due."
    assert tray.addresses == ["p1@example.com", "p2@example.com"]
    told = theirs(yard)
    assert [told[number] for number in (1, 2, 3, 5, 6, 7)] == [
        SENT_THEN, SENT_THEN, OPEN, CANCELLED, SENT_THEN, CANCELLED,
    ]  # fmt: skip


def test_what_the_application_takes_back_before_it_leaves_does_not_leave(yard, crew):
    tray = Tray(lambda letter: Delivery(Fate.DEFERRED, "451 later"))
    one = crew(tray)
    yard.fill("people", *people(1, 2))
    schedule(yard, (1, 1, "day3", DAY, False, False), (2, 2, "day3", DAY, False, False))
    one.run(NAME, now=True)
    tray.fate = lambda letter: SENT
    yard.run("UPDATE scheduled_emails SET cancelled = true WHERE id = 1")
    with yard.link.transaction() as connection:
        connection.execute(sa.text("UPDATE nightcrew_mails SET due_at = planned_at"))
    assert one.run(NAME, now=True).message.startswith("Sent 1 mail; 1 cancelled (the application has sent it, or taken")
    assert theirs(yard) == {1: CANCELLED, 2: SENT_THEN}


def test_a_mail_that_both_know_of_is_one(yard, url, crew):
    tray = Tray()
    one = crew(tray)
    yard.fill("people", *people(1))
    engine = application(url)
    with engine.begin() as connection:
        one.mail.enroll(connection, 1, "welcome")
    engine.dispose()
    schedule(yard, (1, 1, "day3", DAY, False, False), (2, 1, "day7", DAY, False, False))
    one.run(NAME, now=True)
    one.run(NAME, now=True)
    assert tray.addresses == ["p1@example.com"] * 2
    assert theirs(yard) == {1: SENT_THEN, 2: SENT_THEN}


def test_mails_of_steps_that_there_are_not_are_told_of(yard, crew):
    one = crew(Tray())
    yard.fill("people", *people(1))
    schedule(yard, (1, 1, "day14", DAY, False, False))
    report = one.run(NAME, now=True)
    assert report.message.startswith("Sent 0 mails; 1 unknown (table scheduled_emails has them of steps that")
    assert theirs(yard) == {1: OPEN}


def test_a_column_that_is_not_there_and_a_sequence_that_is_none_are_said(yard, url):
    tray = Tray()
    wrong = crew_of(url, tray, STEPS, scheduled_emails=ScheduledEmails(due="schedule_for"))
    wrong.migrate()
    report = wrong.run(NAME, now=True)
    assert report.outcome is Outcome.FAILED
    assert "did you mean 'scheduled_for'" in report.message
    wrong.close()
    with pytest.raises(ConfigurationError, match="did you mean 'welcome'"):
        crew_of(url, tray, STEPS, scheduled_emails=ScheduledEmails(sequence="welcom"))


def test_what_failed_is_not_tried_for_ever(yard, crew):
    tray = Tray(lambda letter: Delivery(Fate.REFUSED, "554 no"))
    one = crew(tray)
    yard.fill("people", *people(1))
    schedule(yard, (1, 1, "day3", DAY, False, False))
    assert one.run(NAME, now=True).outcome is Outcome.FAILED
    assert theirs(yard) == {1: CANCELLED}
    assert set(one.mail.counts()) == {("welcome", "day3", State.FAILED)}


def test_a_row_that_is_nobodys_keeps_nobody_from_their_mail(yard, crew):
    tray = Tray()
    one = crew(tray)
    yard.fill("people", *people(1))
    schedule(yard, (1, None, "day3", DAY, False, False), (2, 1, "day3", DAY, False, False))
    assert one.run(NAME, now=True).message == "Sent 1 mail."
    assert tray.addresses == ["p1@example.com"]
