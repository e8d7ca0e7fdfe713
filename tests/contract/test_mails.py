"""Mail that people are due: enrolled in the application's transaction, sent once, and told how it ended."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session
from tests.tray import KEY, NAME, SENT, WELCOME, Tray, enroll, mail, people, send, shift, states

from nightcrew import Nightcrew, Settings
from nightcrew.databases.tables import mails as mails_table
from nightcrew.errors import ConfigurationError, MailerError, PolicyError, UsageError
from nightcrew.mail import People
from nightcrew.mailer import Delivery, Fate
from nightcrew.outcome import Outcome
from nightcrew.sent import State
from nightcrew.sequence import DAY, Sequence, Step
from nightcrew.suppression import Subject

ONE = Sequence("welcome", (Step("welcome"),))


# ── enrolled ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_who_is_enrolled_gets_each_mail_once_however_often_somebody_looks(yard, engine, crew):
    tray = Tray()
    one = crew(tray)
    yard.fill("people", *people(1, 2))
    enroll(one, engine, 1, 2)
    enroll(one, engine, 1)
    assert send(one).message == "Sent 2 mails."
    assert send(one).message == "No mail was due."
    assert tray.addresses == ["p1@example.com", "p2@example.com"]
    assert states(one, "day3") == {State.WAITING: 2}


def test_what_is_rolled_back_is_nothing(yard, engine, crew):
    tray = Tray()
    one = crew(tray)
    yard.fill("people", *people(1))
    with engine.connect() as connection:
        one.mail.enroll(connection, 1, "welcome")
        connection.rollback()
    assert send(one).message == "No mail was due."


def test_it_takes_a_session_and_a_connection_of_the_driver_and_none_without_a_transaction(yard, engine, crew):
    tray = Tray()
    one = crew(tray)
    yard.fill("people", *people(1, 2, 3))
    with Session(engine) as session, session.begin():
        one.mail.enroll(session, 1, "welcome")
    raw = engine.raw_connection()
    one_more = raw.driver_connection
    one_more.cursor().execute("BEGIN" if yard.kind == "sqlite" else "SELECT 1")
    one.mail.enroll(one_more, 2, "welcome")
    one_more.commit()
    raw.close()
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection, pytest.raises(UsageError):
        one.mail.enroll(connection, 3, "welcome")
    send(one)
    assert tray.addresses == ["p1@example.com", "p2@example.com"]


def test_what_makes_no_sense_is_refused(engine, crew):
    one = crew(Tray())
    with engine.begin() as connection:
        for person, sequence, said in (
            (1, "welcom", "did you mean 'welcome'"),
            ("", "welcome", "is not a text of 1 to 150 bytes"),
            ("x" * 151, "welcome", "is not a text of 1 to 150 bytes"),
            ("\N{GRINNING FACE}" * 40, "welcome", "is not a text of 1 to 150 bytes"),
            ("a\0b", "welcome", "is not a text of 1 to 150 bytes"),
        ):
            with pytest.raises(UsageError, match=said):
                one.mail.enroll(connection, person, sequence)
        with pytest.raises(UsageError, match="no time zone"):
            one.mail.enroll(connection, 1, "welcome", since=datetime(2026, 1, 1))  # noqa: DTZ001


def test_who_is_cancelled_gets_no_more_of_it_and_what_waits_for_others_stays(yard, engine, crew):
    tray = Tray()
    one = crew(tray)
    yard.fill("people", *people(1, 2))
    enroll(one, engine, 1, 2)
    send(one)
    with engine.begin() as connection:
        one.mail.cancel(connection, 1, "welcome", reason="they have left")
    shift(yard, 3 * DAY)
    send(one)
    assert tray.addresses == ["p1@example.com", "p2@example.com", "p2@example.com"]
    assert states(one, "day3") == {State.SENT: 1, State.CANCELLED: 1}
    assert {each.reason for each in one.mail.of_state(State.CANCELLED)} == {"they have left"}
    enroll(one, engine, 1)
    assert send(one).message == "No mail was due."


def test_a_cancellation_before_the_mails_are_planned_holds_too(yard, engine, crew):
    tray = Tray()
    one = crew(tray)
    yard.fill("people", *people(1))
    enroll(one, engine, 1)
    with engine.begin() as connection:
        one.mail.cancel(connection, 1)
    assert send(one).message == "No mail was due."


# ── once ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_four_crews_at_once_send_each_mail_once(yard, engine, crew):
    tray = Tray()
    crews = [crew(tray, ONE) for _ in range(4)]
    yard.fill("people", *people(*range(300)))
    enroll(crews[0], engine, *range(300))
    with ThreadPoolExecutor(4) as hands:
        list(hands.map(lambda one: one.run(NAME, now=True), crews))
    send(crews[0])
    assert Counter(tray.addresses) == Counter(f"p{number}@example.com" for number in range(300))
    assert states(crews[0]) == {State.SENT: 300}
    assert tray.open == 0


def test_no_more_connections_are_open_than_are_allowed(yard, engine, crew):
    tray = Tray()
    one = crew(tray, ONE, connections=2)
    yard.fill("people", *people(*range(60)))
    enroll(one, engine, *range(60))
    send(one)
    assert (len(tray.letters), tray.most) == (60, 2)


# ── how it ends ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_not_taken_is_tried_again_later_and_given_up_after_five_times(yard, engine, crew):
    tray = Tray(lambda letter: Delivery(Fate.DEFERRED, "451 try again"))
    one = crew(tray, ONE)
    yard.fill("people", *people(1))
    enroll(one, engine, 1)
    report = send(one)
    assert report.outcome is Outcome.FAILED
    assert "mail was due, and none was sent" in report.message
    assert "451 try again" in report.message
    (mail,) = one.mail.of_state(State.WAITING)
    assert mail.attempts == 1
    assert timedelta(minutes=13) < mail.due - one.mail._station.mails.now() <= timedelta(minutes=15)
    for _ in range(4):
        shift(yard, timedelta(hours=2))
        send(one)
    (mail,) = one.mail.of_state(State.FAILED)
    assert (mail.attempts, mail.reason) == (5, "451 try again")
    tray.fate = lambda letter: SENT
    assert send(one).message == "No mail was due."
    assert one.mail.retry([mail.id], states=[State.FAILED]) == 1
    assert send(one).message == "Sent 1 mail."


def test_a_refusal_is_for_good_and_an_address_that_is_none_gets_nothing_more(yard, engine, crew):
    fates = {
        "p1@example.com": Delivery(Fate.REFUSED, "554 spam"),
        "p2@example.com": Delivery(Fate.BOUNCED, "550 5.1.1"),
    }
    tray = Tray(lambda letter: fates.get(letter.recipient.addr_spec, SENT))
    one = crew(tray)
    yard.fill("people", *people(1, 2, 3))
    enroll(one, engine, 1, 2, 3)
    report = send(one)
    assert report.outcome is Outcome.SUCCEEDED
    assert report.message in ("Sent 1 mail; 2 failed (554 spam).", "Sent 1 mail; 2 failed (bounced: 550 5.1.1).")
    (suppression,) = one.mail.suppressions()
    assert (suppression.subject, suppression.topic) == (Subject("p2@example.com"), "")
    fates.clear()
    shift(yard, 3 * DAY)
    send(one)
    assert tray.addresses == ["p1@example.com", "p3@example.com", "p3@example.com"]
    assert states(one, "day3") == {State.SENT: 2, State.SUPPRESSED: 1}


def test_what_was_perhaps_sent_is_not_sent_again_unless_a_person_says_so(yard, engine, crew):
    tray = Tray(lambda letter: Delivery(Fate.MAYBE_SENT, "the connection was cut after the message"))
    one = crew(tray, ONE)
    yard.fill("people", *people(1))
    enroll(one, engine, 1)
    assert send(one).outcome is Outcome.FAILED
    shift(yard, DAY)
    assert send(one).message == "No mail was due."
    (mail,) = one.mail.of_state(State.MAYBE_SENT)
    assert mail.reason == "the connection was cut after the message"
    tray.fate = lambda letter: SENT
    assert one.mail.retry([mail.id]) == 1
    send(one)
    first, second = tray.letters
    assert first.key == second.key, "whoever got both can tell that they are the same"


def test_where_the_way_out_is_closed_the_job_fails_and_no_mail_has_been_tried(yard, engine, crew):
    def closed(letter):
        raise MailerError("mail.example.com does not answer", transient=True)

    tray = Tray(closed)
    one = crew(tray, ONE)
    yard.fill("people", *people(*range(40)))
    enroll(one, engine, *range(40))
    report = send(one)
    assert report.outcome is Outcome.FAILED
    assert "mail.example.com does not answer" in report.message
    assert {each.attempts for each in one.mail.due(limit=100)} == {0}
    assert states(one) == {State.WAITING: 40}
    tray.fate = lambda letter: SENT
    assert send(one).message == "Sent 40 mails."


def test_a_template_that_is_broken_fails_the_job_and_costs_nobody_their_mail(yard, engine, crew, tmp_path):
    for name, text in (
        ("subject.txt", "Hi {{ nme }}"),
        ("txt", "{{ unsubscribe_url }}"),
        ("html", "{{ unsubscribe_url }}"),
    ):
        (tmp_path / f"welcome.{name}").write_text(text)
    tray = Tray()
    one = crew(tray, ONE, templates=tmp_path)
    yard.fill("people", *people(1))
    enroll(one, engine, 1)
    report = send(one)
    assert report.outcome is Outcome.FAILED
    assert "welcome.subject.txt" in report.message
    assert "nme" in report.message
    assert states(one) == {State.WAITING: 1}
    assert any("nme" in fault for fault in one.mail.faults())


# ── who gets none ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_who_wants_none_gets_none_and_everybody_is_told_why(yard, engine, crew):
    tray = Tray()
    sequence = Sequence("welcome", (Step("welcome", only_if="plan = 'free'"),), goal="score > 9", preference="tips")
    one = crew(tray, sequence)
    yard.fill(
        "people", *people(*range(1, 6)), *people(6, plan="paid"), *people(7, score=10), *people(8, verified_at=None)
    )
    yard.fill("preferences", {"person": 1, "tips": 1}, {"person": 2, "tips": 0}, {"person": 3, "tips": None})
    enroll(one, engine, *range(1, 10))
    with pytest.raises(UsageError, match="is no address"):
        one.mail.suppress(address="nobody", by="a test")
    assert "suppress mail" not in {act.verb for act in one.acts.newest()}, "nothing was done"
    one.mail.suppress(address="P4@EXAMPLE.com", by="a test", reason="complained")
    one.mail.opt_out(5, "welcome")
    send(one)
    assert tray.addresses == ["p1@example.com", "p3@example.com"]
    why = {each.person: (each.state, each.reason) for each in one.mail.of_state(*State, limit=100)}
    assert why == {
        "1": (State.SENT, ""),
        "2": (State.SUPPRESSED, "preference tips"),
        "3": (State.SENT, ""),
        "4": (State.SUPPRESSED, "complained"),
        "5": (State.SUPPRESSED, "unsubscribed"),
        "6": (State.SUPPRESSED, "condition"),
        "7": (State.CANCELLED, "goal"),
        "8": (State.WAITING, "the address is not verified"),
        "9": (State.WAITING, "there is no such person"),
    }


def test_who_unsubscribes_from_one_sequence_gets_the_others_and_may_come_back(yard, engine, crew):
    tray = Tray()
    one = crew(tray, ONE, Sequence("digest", (Step("day3"),)), per_person=9)
    yard.fill("people", *people(1))
    one.mail.opt_out(1, "welcome")
    enroll(one, engine, 1)
    enroll(one, engine, 1, sequence="digest")
    send(one)
    assert len(tray.letters) == 1
    assert one.mail.opted_out(1) == {"welcome"}
    one.mail.opt_in(1, "welcome")
    one.mail.opt_in(1, "welcome")
    assert one.mail.opted_out(1) == set()


def test_who_unsubscribes_after_the_mail_was_claimed_still_gets_none(yard, engine, crew):
    """The first letter is handed over, and in that moment all others are unsubscribed, cancelled or suppressed."""
    order = []

    def fate(letter):
        if not order:
            order.append(letter)
            one.mail.opt_out(11, "welcome")
            one.mail.suppress(address="p12@example.com", by="a test")
            with engine.begin() as connection:
                one.mail.cancel(connection, 13)
        return SENT

    tray = Tray(fate)
    one = crew(tray, ONE, connections=1)
    yard.fill("people", *people(*range(14)))
    enroll(one, engine, *range(14))
    send(one)
    assert {f"p{number}@example.com" for number in range(14)} - set(tray.addresses) == {
        f"p{number}@example.com" for number in (11, 12, 13)
    }
    send(one)
    assert states(one) == {State.SENT: 11, State.SUPPRESSED: 2, State.CANCELLED: 1}


@pytest.mark.parametrize(
    "address",
    [
        "",
        "nobody",
        "a@b@c",
        "a\r\nBcc: eve@example.com",
        "x" * 240 + "@an.example.com",
        " ",
        "a@[%>",
        "=?utf-8?q?a=40b.example?=@example.com",
    ],
)
def test_an_address_that_is_none_fails_alone(yard, engine, crew, address):
    tray = Tray()
    one = crew(tray, ONE)
    yard.fill("people", *people(1), people(2)[0] | {"email": address})
    enroll(one, engine, 1, 2)
    send(one)
    assert tray.addresses == ["p1@example.com"]
    assert states(one)[State.SENT] == 1


def test_a_person_gets_one_a_day_and_all_together_so_many(yard, engine, crew):
    tray = Tray()
    sequences = (ONE, Sequence("digest", (Step("day3"),)), Sequence("news", (Step("day7"),)))
    one = crew(tray, *sequences, per_day=7)
    yard.fill("people", *people(1, 2, 3, 4))
    for sequence in sequences:
        enroll(one, engine, 1, 2, 3, 4, sequence=sequence.name)
    assert send(one).message.startswith("Sent 4 mails; 8 waiting (1 a day for a person")
    shift(yard, DAY - timedelta(minutes=1))
    assert send(one).message == "No mail was due."
    shift(yard, timedelta(minutes=2))
    assert send(one).message.startswith("Sent 4 mails")
    assert max(Counter(tray.addresses).values()) == 2


def test_so_many_a_day_are_all(yard, engine, crew):
    tray = Tray()
    one = crew(tray, ONE, per_day=7)
    yard.fill("people", *people(*range(20)))
    enroll(one, engine, *range(20))
    assert send(one).message == "Sent 7 mails; 13 waiting (7 a day)."
    assert send(one).message == "Sent 0 mails; 13 waiting (7 a day)."
    shift(yard, DAY + timedelta(seconds=1))
    assert send(one).message == "Sent 7 mails; 6 waiting (7 a day)."


# ── the steps change ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_steps_that_come_go_and_are_renamed(yard, engine, crew):
    tray = Tray()
    yard.fill("people", *people(1))
    before = crew(tray, Sequence("welcome", (Step("welcome"), Step("day3", 3 * DAY), Step("day7", 7 * DAY))))
    enroll(before, engine, 1)
    send(before)
    steps = (Step("welcome"), Step("tips", 4 * DAY, mail="day3", was=("day3",)), Step("last", 9 * DAY, mail="day7"))
    after = crew(tray, Sequence("welcome", steps))
    send(after)
    told = {each.step: each for each in after.mail.of_state(*State, limit=9)}
    assert {step: each.state for step, each in told.items()} == {
        "welcome": State.SENT,
        "tips": State.WAITING,
        "day7": State.CANCELLED,
        "last": State.WAITING,
    }
    assert told["tips"].planned - told["welcome"].planned == 4 * DAY
    assert told["day7"].reason == "its step was removed"


def test_who_was_enrolled_long_before_a_step_came_does_not_get_it(yard, engine, crew):
    tray = Tray()
    yard.fill("people", *people(1, 2))
    before = crew(tray, ONE)
    enroll(before, engine, 1, 2)
    send(before)
    shift(yard, 30 * DAY)
    after = crew(tray)
    assert send(after).message == "No mail was due."
    assert states(after, "day7") == {}


# ── the gate, and what is missing ────────────────────────────────────────────────────────────────────────────────────


def test_unless_it_is_deployed_nothing_leaves_and_nothing_is_lost(yard, url, engine, crew):
    tray = Tray()
    yard.fill("people", *people(1))
    shut = Nightcrew(url, settings=Settings(unsubscribe_key=KEY), mail=mail(tray, ONE))
    shut.migrate()
    enroll(shut, engine, 1)
    report = shut.run(NAME)
    assert (report.outcome, report.message) == (
        Outcome.DISABLED,
        f"Job {NAME} is disabled until CLOUD_DEPLOY is true.",
    )
    assert not report.outcome.success
    assert shut.tick(trigger="cli") == []
    shut.close()
    assert send(crew(tray, ONE)).message == "Sent 1 mail."


def test_who_was_just_enrolled_is_counted_until_their_mails_are_made(yard, engine, crew):
    one = crew(Tray(), ONE)
    yard.fill("people", *people(1, 2, 3))
    enroll(one, engine, 1, 2, 3)
    with engine.begin() as connection:
        one.mail.cancel(connection, 3)
    assert (one.mail.newly_enrolled(), len(one.mail.due())) == (2, 0)
    send(one)
    assert one.mail.newly_enrolled() == 0


def test_who_verifies_soon_gets_their_mail_soon(yard, engine, crew):
    tray = Tray()
    one = crew(tray, ONE)
    yard.fill("people", *people(1, verified_at=None))
    enroll(one, engine, 1)
    send(one)
    yard.run("UPDATE people SET verified_at = 1" if yard.kind == "sqlite" else "UPDATE people SET verified_at = now()")
    send(one)
    assert not tray.letters
    shift(yard, timedelta(minutes=1, seconds=1))
    send(one)
    assert tray.addresses == ["p1@example.com"]


def test_links_without_https_are_for_mail_that_stays_in_a_folder(yard, url, engine, tmp_path):
    yard.fill("people", *people(1, 2))
    settings = Settings(cloud_deploy=True, unsubscribe_key=KEY)
    crews = [
        Nightcrew(url, settings=settings, mail=replace(mail(way, ONE), base_url="http://127.0.0.1:8000"))
        for way in (Tray(), f"file://{tmp_path}/mail")
    ]
    crews[0].migrate()
    enroll(crews[0], engine, 1)
    refused, sent = (one.run(NAME, now=True) for one in crews)
    assert refused.outcome is Outcome.FAILED
    assert "links in mails need https" in refused.message
    assert sent.message == "Sent 1 mail."
    (letter,) = (tmp_path / "mail").glob("*.eml")
    assert b"<http://127.0.0.1:8000/api/emails/unsubscribe/" in letter.read_bytes()
    for one in crews:
        one.close()


def test_without_a_key_for_links_and_with_a_column_that_is_not_there_nothing_leaves(yard, url, engine):
    tray = Tray()
    yard.fill("people", *people(1))
    keyless = Nightcrew(url, settings=Settings(cloud_deploy=True), mail=mail(tray, ONE))
    keyless.migrate()
    enroll(keyless, engine, 1)
    report = send(keyless)
    assert report.outcome is Outcome.FAILED
    assert "NIGHTCREW_UNSUBSCRIBE_KEY" in report.message
    keyless.close()
    wrong = Nightcrew(
        url,
        settings=Settings(cloud_deploy=True, unsubscribe_key=KEY),
        mail=mail(tray, ONE).__class__(**{**_parts(mail(tray, ONE)), "people": People("people", "verifed_at")}),
    )
    report = send(wrong)
    assert report.outcome is Outcome.FAILED
    assert "did you mean 'verified_at'" in report.message
    wrong.close()
    assert tray.letters == []


def _parts(one):
    return {name: getattr(one, name) for name in one.__dataclass_fields__}


def test_a_mail_that_came_too_late_is_no_mail_and_the_alarm_rings(yard, engine, crew):
    tray = Tray()
    one = crew(tray)
    yard.fill("people", *people(1))
    enroll(one, engine, 1, since=datetime.now(UTC) - 30 * DAY)
    report = send(one)
    assert report.outcome is Outcome.FAILED
    assert "3 expired (it could not leave in time)" in report.message
    assert tray.letters == []
    assert len(WELCOME.steps) == 3


def test_who_dies_as_a_mail_is_handed_over_leaves_it_to_a_person_or_to_a_provider_that_knows_it(yard, engine, crew):
    tray = Tray()
    one = crew(tray, ONE)
    yard.fill("people", *people(1))
    enroll(one, engine, 1)
    send(one)
    lost = {"state": "sending", "claim": "somebody", "due_at": yard.link.moment}
    with yard.link.transaction() as connection:
        connection.execute(sa.update(mails_table).values(**lost))
    assert send(one).outcome is Outcome.FAILED
    assert states(one) == {State.MAYBE_SENT: 1}
    with yard.link.transaction() as connection:
        connection.execute(sa.update(mails_table).values(**lost))
    known = crew(Tray(idempotent=True), ONE)
    assert send(known).message == "Sent 1 mail."


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        ({"sender": "Acme"}, "sender is 'Acme', which is no address"),
        ({"sender": "A <a@b.c>\r\nBcc: x@y.z"}, "which is no address"),
        ({"base_url": "app.example.com"}, "base_url is"),
        ({"per_person": 0}, "per_person is 0"),
        ({"per_day": True}, "per_day is True"),
        ({"connections": -1}, "connections is -1"),
        ({"uncertain": "send"}, "uncertain is 'send'"),
        ({"segments": {"Big Corp": ()}}, "segment 'Big Corp'"),
        ({"segments": {"big": ("@acme",)}}, "is no domain"),
        ({"sequences": (ONE, Sequence("welcome", (Step("other"),)))}, "two sequences 'welcome'"),
        (
            {"sequences": (Sequence("s", (Step("a"),), preference="tips"),), "people": People("people", "v")},
            "preferences",
        ),
    ],
)
def test_what_is_said_of_mail_is_looked_at_before_anything_starts(terms, said):
    with pytest.raises((ConfigurationError, PolicyError)) as problem:
        mail(Tray()).__class__(**{**_parts(mail(Tray())), **terms})
    assert said in str(problem.value)
