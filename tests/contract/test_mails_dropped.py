"""A connection that is lost anywhere in a run that sends mail: none leaves twice, none is lost, the next goes on."""

import time
from collections import Counter
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from tests.conftest import administrator, fresh, opened, server
from tests.tray import PEOPLE, PREFERENCES, SENT, Tray, application, crew_of, enroll, people, send, shift

from nightcrew.databases.tables import enrolments, entries, jobs, mails, runs, suppressions
from nightcrew.errors import NightcrewError
from nightcrew.mail import ScheduledEmails
from nightcrew.mailer import Delivery, Fate
from nightcrew.sent import State
from nightcrew.sequence import Sequence, Step

KILL = {"postgresql": "SELECT pg_terminate_backend({})", "mysql": "KILL {}"}
ALIVE = {
    "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE pid = {}",
    "mysql": "SELECT count(*) FROM information_schema.processlist WHERE id = {}",
}
LATER = timedelta(minutes=20)  # when a mail of somebody who is gone is anybody's
THEIRS = (
    "CREATE TABLE scheduled_emails (user_id {number} PRIMARY KEY, email_type {text}, scheduled_for {time},"
    " sent BOOLEAN, sent_at {time}, cancelled BOOLEAN)"
)
SCHEDULE = "INSERT INTO scheduled_emails VALUES (:who, 'welcome', CURRENT_TIMESTAMP, FALSE, NULL, FALSE)"
WELCOME = Sequence("welcome", (Step("welcome"),), goal="score > 8")
GOES, GOES_TOO, BOUNCES, HAS_IT, UNVERIFIED, SCHEDULED = range(1, 7)
ENDS = {
    GOES: State.SENT, GOES_TOO: State.SENT, SCHEDULED: State.SENT,
    BOUNCES: State.FAILED, HAS_IT: State.CANCELLED, UNVERIFIED: State.WAITING,
}  # fmt: skip
OURS = ("nightcrew_mails", "nightcrew_enrolments", "nightcrew_suppressions", "scheduled_emails")


@pytest.fixture(scope="module", params=["postgresql", "mysql"])
def office(request, tmp_path_factory):
    """Two crews over one database, for all losses: to make tables takes longer than to lose a connection."""
    with fresh(request.param, tmp_path_factory.mktemp("dropped")) as url, opened(url) as yard:
        yard.run(PEOPLE, PREFERENCES, THEIRS)
        yard.fill("people", *people(GOES, GOES_TOO, BOUNCES, SCHEDULED), *people(HAS_IT, score=9))
        yard.fill("people", *people(UNVERIFIED, verified_at=None))
        at, tray = yard.link.engine.url.set(drivername=yard.kind).render_as_string(hide_password=False), Tray(fate)
        engine, terms = application(at), {"connections": 1, "scheduled_emails": ScheduledEmails()}
        crews = [crew_of(at, tray, WELCOME, **terms) for _ in range(2)]
        crews[0].migrate()
        yield yard, engine, crews, tray
        for crew in crews:
            crew.close()
        engine.dispose()


def fate(letter):
    bounces = letter.recipient.addr_spec == f"p{BOUNCES}@example.com"
    return Delivery(Fate.BOUNCED, "550 5.1.1 no such user") if bounces else SENT


def test_a_connection_that_is_lost_in_a_run_that_sends_mail_sends_none_twice_and_loses_none(office, request):
    yard, engine, (one, other), tray = office
    campaign = request.config.getoption("--campaign")
    for when in ("before", "after") if campaign else ("after",):
        for number in range(1, 1_000):
            begin(yard, engine, one)
            with dropped(one._station.link, number, when, commits=not campaign) as lost, suppress(NightcrewError):
                send(one)
            if not lost:
                break
            report = goes_on(yard, other)
            where = f"{when} {lost[0]}, the {number}th"
            assert report.outcome in ("succeeded", "nothing_to_do"), f"{where}: {report.message}"
            assert ends(yard) == ENDS, where
            left = Counter(letter.recipient.addr_spec for letter in tray.letters)
            assert left == {f"p{who}@example.com": 1 for who, how in ENDS.items() if how is State.SENT}, where
            assert yard.ids("scheduled_emails", "sent") == [True], where
        assert number > (50 if campaign else 5)


def begin(yard, engine, crew):
    """Let nobody have been sent anything, and five be enrolled and one scheduled by the application."""
    with engine.begin() as connection:
        for table in (entries, runs, jobs, mails, enrolments, suppressions, sa.table("scheduled_emails")):
            connection.execute(sa.delete(table))
    crew._station.forget(crew.jobs)
    crew.mail.mail.mailer.letters.clear()
    enroll(crew, engine, *(ENDS.keys() - {SCHEDULED}))
    yard.run(SCHEDULE, who=SCHEDULED)


def goes_on(yard, crew):
    """Let time pass, in which whoever held something is gone, and another send what is due; then once more."""
    for _ in range(3):
        shift(yard, LATER)
        with yard.link.transaction() as connection:
            connection.execute(sa.update(jobs).values(lease_until=datetime.now(UTC) - timedelta(seconds=1)))
        report = send(crew)
    return report


def ends(yard):
    with yard.link.transaction(writes=False) as connection:
        return {int(row.person): State(row.state) for row in connection.execute(sa.select(mails))}


@contextmanager
def dropped(link, number, when, *, commits):
    """Let the server end the connection around the so-manieth statement or COMMIT, or COMMIT of something about mail.

    Yield a list with what that was, once it has been.
    """
    dialect, passed, lost, about_mail = link.engine.dialect, [], [], []
    commit = dialect.do_commit

    def end(connection, what):
        passed.append(what)
        if len(passed) != number:
            return
        lost.append(what)
        pid = connection.info.backend_pid if dialect.name == "postgresql" else connection.thread_id()
        with administrator(server(dialect.name), dialect.name).connect() as admin:
            admin.exec_driver_sql(KILL[dialect.name].format(pid))
            while admin.exec_driver_sql(ALIVE[dialect.name].format(pid)).scalar_one():
                time.sleep(0.002)

    def before(connection, _cursor, statement, *_):
        if not statement.startswith("SELECT") and any(name in statement for name in OURS):
            about_mail.append(statement)
        if when == "before" and not commits:
            end(connection.connection.driver_connection, statement)

    def after(connection, _cursor, statement, *_):
        if when == "after" and not commits:
            end(connection.connection.driver_connection, statement)

    def around(connection):
        counted = bool(about_mail) or not commits
        about_mail.clear()
        if when == "after":
            commit(connection)
        if counted:
            end(connection.driver_connection, "COMMIT")
        if when == "before":
            commit(connection)
        elif counted and len(passed) == number:
            connection.cursor().execute("SELECT 1")

    sa.event.listen(link.engine, "before_cursor_execute", before)
    sa.event.listen(link.engine, "after_cursor_execute", after)
    dialect.do_commit = around
    try:
        yield lost
    finally:
        dialect.do_commit = commit
        sa.event.remove(link.engine, "before_cursor_execute", before)
        sa.event.remove(link.engine, "after_cursor_execute", after)
