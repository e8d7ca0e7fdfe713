"""Which alarms stand by what is in the database, and that of many processes one tells of each."""

import json
import threading
from datetime import timedelta

import pytest
import sqlalchemy as sa
from tests.alarms import HOUR, MINUTE, age, broken, crew_of, hook, late, now_of, ran, rows, stand, told, well, write
from tests.desk import Browser, words
from tests.outside import serving
from tests.tray import KEY, PEOPLE, PREFERENCES, Tray, mail

from nightcrew import Job, Settings, every
from nightcrew.alarm import Alarm, Kind
from nightcrew.databases.tables import jobs as job_table
from nightcrew.databases.tables import mails as mail_table
from nightcrew.databases.tables import sightings
from nightcrew.triggers.http import Door
from nightcrew.triggers.request import Request

OLD, NEW = "the-secret-of-last-year", "the-secret-of-this-year"


@pytest.fixture
def service():
    with serving() as service:
        yield service


@pytest.fixture
def url(yard):
    return yard.link.engine.url.set(drivername=yard.kind).render_as_string(hide_password=False)


@pytest.fixture
def crews(url, service):
    """Make crews that tell one service, and close them."""
    made = []

    def make(**more):
        crew = crew_of(url, hook(service), **more)
        made.append(crew)
        return crew

    yield make
    for crew in made:
        crew.close()


def race(*crews):
    """Let crews look at once."""
    start, wrong = threading.Barrier(len(crews)), []

    def look(crew):
        start.wait()
        try:
            crew.alarms.look()
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=look, args=(crew,)) for crew in crews]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# ── each kind, for real, told once by two that race ──────────────────────────────────────────────────────────────────


def missed(crew):
    ran(crew, 2 * HOUR, slot=now_of(crew) - 4 * HOUR)
    ran(crew, HOUR, "missed", reason="3 slots: nobody was there to run them", trigger="none")
    stand(crew, mark=now_of(crew))


def healed(crew):
    now = now_of(crew)
    ran(crew, 20 * MINUTE, "missed", since=now - 4 * HOUR, slot=now - HOUR, reason="3 slots: nobody", trigger="none")
    ran(crew, 19 * MINUTE)
    stand(crew, mark=now)


def abandoned(crew):
    now = now_of(crew)
    ran(crew, 2 * HOUR, "running", finished_at=None, owner="gone")
    stand(crew, run=crew.runs()[0].id, owner="gone", lease_until=now - HOUR, mark=now - 2 * HOUR)


def handed_over(crew):
    now = now_of(crew)
    ran(crew, 3 * HOUR, "running", finished_at=None)
    stand(crew, run=crew.runs()[0].id, owner=None, lease_until=None, mark=now - 3 * HOUR, epoch_at=now - 9 * HOUR)


def failing(crew):
    for _ in range(3):
        assert crew.run("hourly", now=True).outcome == "failed"


def refused(crew):
    reason = "Job hourly was refused: it would take 99% of the rows."
    ran(crew, MINUTE, "failed", reason=reason)
    stand(crew, mark=now_of(crew), fail_streak=1)


def uncovered(crew):
    ran(crew, 3 * HOUR, trigger="http")
    ran(crew, 2 * HOUR, trigger="failsafe")
    ran(crew, HOUR, trigger="failsafe")
    stand(crew, mark=now_of(crew))


def old_secret(crew):
    door = Door(crew)
    for _ in range(3):
        headers = [(b"authorization", f"Bearer {OLD}".encode()), (b"user-agent", b"cron-job.org")]
        assert door.answer(Request("POST", "/api/internal/jobs/hourly", headers=headers)).status == 200
    written_down()


def written_down():
    for thread in threading.enumerate():
        if thread.name in ("nightcrew-sighting", "nightcrew-lookout"):
            thread.join()


SCENES = {
    "late": (late, {}),
    "late, for its process is gone and no other goes on": (abandoned, {}),
    "late, for it was handed over to nobody": (handed_over, {}),
    "missed": (missed, {}),
    "missed, and run since": (healed, {}),
    "failing": (failing, {"function": broken}),
    "refused": (refused, {}),
    "uncovered": (uncovered, {"of_job": {"primary": "external"}}),
    "old_secret": (old_secret, {"settings": Settings(ticker=False, secret=NEW, previous_secret=OLD)}),
}


@pytest.mark.parametrize("scene", SCENES)
def test_an_alarm_is_told_once_by_two_that_look_at_once(crews, service, scene):
    act, more = SCENES[scene]
    one, other = crews(**more), crews(**more)
    race(one, other)
    assert not service.asked, "nothing is wrong yet"
    act(one)
    kind = Kind(scene.split(",")[0])
    for _ in range(3):
        race(one, other)
    assert told(service) == [("raised", kind, None if kind is Kind.OLD_SECRET else "hourly")]
    (row,) = rows(one)
    assert (row.reached, row.attempts, row.due_at, row.wrong) == (("webhook",), 1, None, None)
    assert row.told_at is not None


def removing(crew, *ago):
    for each in ago:
        ran(crew, each, job="purge", deleted=12)
    ran(crew, MINUTE, job="purge")
    stand(crew, "purge", mark=now_of(crew))
    well(crew)


@pytest.fixture
def purging(yard, crews):
    yard.run("CREATE TABLE notes (id {number} PRIMARY KEY, created_at {time})")

    def make():
        crew = crews()
        crew.expire("purge", "notes", column="created_at", every="1 hour")
        crew.status()
        return crew

    return make


def test_a_job_that_used_to_remove_rows_and_does_not_for_long_is_an_alarm_until_it_does(purging, service):
    crew = purging()
    removing(crew, *(HOUR * (20 + 2 * number) for number in range(6)))
    crew.alarms.look()
    assert told(service) == [("raised", "idle", "purge")]
    said = json.loads(service.asked[0][-1])["data"]["message"]
    assert "and did so every 2 h" in said
    write(crew, sa.text("DELETE FROM nightcrew_runs WHERE deleted > 0"))  # as history is, or is no longer looked at
    other = purging()
    other.alarms.look()
    age(other, seen_at=HOUR)
    other.alarms.look()
    assert len(service.asked) == 1, "it stands although the removals of old are forgotten"
    ran(other, timedelta(seconds=1), job="purge", deleted=1)
    another = purging()
    age(another, seen_at=HOUR)
    another.alarms.look()
    assert told(service)[1:] == [("resolved", "idle", "purge")]


@pytest.mark.parametrize(
    "history",
    [
        [],  # it never removed anything
        [20 * HOUR, 22 * HOUR],  # nobody knows yet what is usual
        [HOUR * (5 + number) for number in range(6)],  # an hour apart, but its slots are, too
        [HOUR * (20 + 2 * number) for number in range(6)] + [HOUR * 40],  # ten hours happened before
    ],
)
def test_a_job_whose_history_does_not_say_that_it_is_unusual_is_none(purging, service, history):
    crew = purging()
    removing(crew, *history)
    crew.alarms.look()
    assert not service.asked


def test_mail_that_is_due_and_not_sent_is_an_alarm_unless_some_is_sent(yard, crews, service):
    yard.run(PEOPLE, PREFERENCES)
    settings = Settings(ticker=False, cloud_deploy=True, unsubscribe_key=KEY)
    crew = crews(mail=mail(Tray()), settings=settings)
    due = now_of(crew) - 3 * HOUR
    row = {"sequence": "welcome", "step": "welcome", "names": "welcome", "planned_at": due, "attempts": 0}
    write(crew, sa.insert(mail_table).values(row | {"key": "a", "person": "1", "state": "waiting", "due_at": due}))
    late_one = row | {"key": "b", "person": "2", "state": "sent", "sent_at": now_of(crew)}
    write(crew, sa.insert(mail_table).values(late_one))
    crew.alarms.look()
    assert not service.asked, "what is sent lately is a queue, and no silence"
    write(crew, sa.update(mail_table).where(mail_table.c.key == "b").values(sent_at=now_of(crew) - 5 * HOUR))
    crew.alarms.look()
    assert told(service) == [("raised", "unsent", "process-scheduled-emails")]


# ── what is told later ───────────────────────────────────────────────────────────────────────────────────────────────


def test_the_end_is_told_once_the_alarm_was_not_seen_for_a_while(crews, service):
    one, other = crews(), crews()
    late(one)
    race(one, other)
    well(one)
    race(one, other)
    assert len(service.asked) == 1, "what is gone for a moment is not over"
    age(one, seen_at=6 * MINUTE)
    for _ in range(2):
        race(one, other)
    assert told(service) == [("raised", "late", "hourly"), ("resolved", "late", "hourly")]
    assert len({body["webhook-id"] for *_, body, _ in service.asked}) == 2
    age(one, ended_at=25 * HOUR)
    one.alarms.look()
    assert rows(one) == []


def test_a_reminder_is_told_once_a_day_while_it_stands(crews, service):
    one, other = crews(), crews()
    late(one)
    race(one, other)
    age(one, told_at=23 * HOUR)
    race(one, other)
    assert len(service.asked) == 1
    age(one, told_at=25 * HOUR)
    for _ in range(3):
        race(one, other)
    assert told(service) == [("raised", "late", "hourly"), ("reminded", "late", "hourly")]


def test_what_comes_and_goes_is_told_ever_less_often(crews, service):
    crew = crews()
    for calm in (6 * MINUTE, 11 * MINUTE):
        late(crew)
        crew.alarms.look()
        well(crew)
        age(crew, seen_at=calm)
        crew.alarms.look()
    assert [stage for stage, *_ in told(service)] == ["raised", "resolved", "raised", "resolved"]
    late(crew)
    crew.alarms.look()
    well(crew)
    age(crew, seen_at=11 * MINUTE)
    crew.alarms.look()
    late(crew)
    age(crew, seen_at=12 * MINUTE)
    crew.alarms.look()
    assert [stage for stage, *_ in told(service)[4:]] == ["raised"], "the third time within a day it takes 20 minutes"


@pytest.mark.parametrize("how", ["paused", "stopped", "disabled"])
def test_a_job_that_somebody_keeps_from_running_raises_nothing_and_ends_in_silence(crews, service, how):
    crew = crews()
    late(crew)
    crew.alarms.look()
    if how == "paused":
        crew.pause("hourly", by="ada", reason="migrating")
    elif how == "stopped":
        crew.stop_all(by="ada", reason="migrating")
    else:
        crew._jobs["hourly"] = crew.job_named("hourly").but(enabled=False)
    age(crew, seen_at=HOUR)
    crew.alarms.look()
    crew.alarms.look()
    assert told(service) == [("raised", "late", "hourly")]
    assert not [row for row in rows(crew) if row.stands]
    assert crew.alarms.standing() == []


def test_rows_of_jobs_of_another_crew_are_left_alone_for_a_day(crews, service):
    crew = crews()
    late(crew)
    crew.alarms.look()
    crew._jobs.clear()
    age(crew, seen_at=23 * HOUR)
    crew.alarms.look()
    assert len(rows(crew)) == 1
    age(crew, seen_at=25 * HOUR)
    crew.alarms.look()
    assert rows(crew) == []
    assert len(service.asked) == 1


def test_five_at_once_are_told_one_by_one(crews, service):
    crew = crews()
    many_jobs(crew, 5)
    assert crew.alarms.look() == 5
    assert {job for _, _, job in told(service)} == {f"job-{number}" for number in range(5)}


def test_many_at_once_are_one_notice_by_one_of_five_and_so_is_their_end(crews, service):
    crew, *others = (crews() for _ in range(5))
    many_jobs(crew, 60)
    for other in others:
        other._jobs.clear()
    race(crew, *others)
    ((*_, body),) = service.asked
    said = json.loads(body)
    assert said["type"] == "nightcrew.alarm.raised"
    assert (said["data"]["kind"], said["data"]["job"]) == ("many", None)
    assert said["data"]["message"].startswith("60 alarms at once: job-0 is late, ")
    assert said["data"]["message"].endswith(" and 55 more")
    assert {each["job"] for each in said["data"]["alarms"]} == {f"job-{number}" for number in range(60)}
    assert all(row.reached == ("webhook",) and row.due_at is None for row in rows(crew))
    crew._jobs.clear()
    crew._jobs.update({f"job-{number}": of_minute(f"job-{number}") for number in range(60)})
    write(crew, sa.update(job_table).values(mark=now_of(crew) + 9 * HOUR))
    age(crew, seen_at=HOUR)
    crew.alarms.look()
    assert len(service.asked) == 2
    assert told(service)[1] == ("resolved", "many", None)


def test_a_notice_of_many_that_fails_is_tried_again_as_one_with_the_same_id(crews, service):
    crew = crews()
    many_jobs(crew, 12)
    service.status = [500]
    crew.alarms.look()
    assert {row.wrong for row in rows(crew)} == {"webhook: it answered 500"}
    age(crew, lease_until=MINUTE)
    crew.alarms.look()
    assert len({headers["webhook-id"] for *_, headers, _ in service.asked}) == 1
    assert [body for *_, body in service.asked] == [service.asked[0][4]] * 2


def of_minute(name):
    return Job(name, every("1 minute"), function=lambda run: 0, pause_after=0)


def many_jobs(crew, number):
    """Let so many jobs be late, and none else."""
    crew._jobs.clear()
    for each in range(number):
        crew.add(of_minute(f"job-{each}"))
    crew.status()
    write(crew, sa.update(job_table).values(epoch_at=now_of(crew) - 9 * HOUR, mark=now_of(crew) - 3 * HOUR))


def crew_alarm(number, now):
    from nightcrew.alarm import Alarm

    return Alarm(Kind.LATE, f"job-{number}", now, "late", "look")


# ── where else they are seen ─────────────────────────────────────────────────────────────────────────────────────────


def test_the_desk_shows_what_people_were_told_in_the_same_words(crews, service):
    crew = crews(of_job={"primary": "external"})
    uncovered(crew)
    crew._station.alarms.saw("previous_secret", "cron-job.org#1a2b3c4d")
    crew.alarms.look()
    shown = words(Browser(crew.dashboard(lambda request: "read_only")).open("/"))
    assert "hourly nobody came from outside: its failsafe ran it" in shown, "which is said of it already"
    said = [json.loads(body)["data"] for *_, body in service.asked]
    (secret,) = [one for one in said if one["kind"] == "old_secret"]
    assert f"This crew {secret['message']}; {secret['remedy']}" in shown
    assert "for two slots in a row" not in shown


def test_the_desk_shows_no_alarm_of_a_job_that_its_crew_has_not(crews, service):
    crew = crews()
    for job in ("hourly", "gone"):
        idle = Alarm(Kind.IDLE, job, crew.clock.now(), f"{job} removed nothing", "look")
        crew._station.alarms.raise_({job: idle})
    shown = words(Browser(crew.dashboard(lambda request: "read_only")).open("/"))
    assert "hourly removed nothing" in shown
    assert "gone removed nothing" not in shown


def test_whoever_scrapes_with_the_old_secret_is_seen_too(crews, service):
    crew = crews(settings=Settings(ticker=False, secret=NEW, previous_secret=OLD))
    answer = Browser(crew.monitoring()).ask("GET", "/status.json", headers={"Authorization": f"Bearer {OLD}"})
    assert answer.status_code == 200
    written_down()
    crew.alarms.look()
    assert told(service) == [("raised", "old_secret", None)]
    assert OLD not in service.asked[0][-1]


@pytest.mark.parametrize("way", ["a call for a job", "a scrape"])
def test_where_no_ticker_looks_whoever_calls_or_scrapes_does(crews, service, way):
    crew = crews(settings=Settings(ticker=False, secret=NEW))
    crew.add(of_minute("other"))
    crew.status()
    late(crew)
    headers = {"Authorization": f"Bearer {NEW}"}
    if way == "a scrape":
        assert Browser(crew.monitoring()).ask("GET", "/status.json", headers=headers).status_code == 200
    else:
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        path = "/api/internal/jobs/other"
        assert Door(crew).answer(Request("POST", path, headers=raw)).status == 200
        assert Door(crew).answer(Request("POST", path)).status == 401
    looked()
    assert told(service) == [("raised", "late", "hourly")]


def test_who_only_comes_by_looks_in_a_thread_and_once_a_minute(crews, service):
    crew = crews()
    late(crew)
    for _ in range(3):
        crew.alarms.glance()
    assert service.wait(1)
    looked()
    age(crew, told_at=25 * HOUR)
    crew.alarms.glance()
    looked()
    assert len(service.asked) == 1, "a minute has not passed"
    crew.alarms._glanced_at -= 61
    crew.alarms.glance()
    looked()
    assert [stage for stage, *_ in told(service)] == ["raised", "reminded"]


def looked():
    for thread in threading.enumerate():
        if thread.name == "nightcrew-lookout":
            thread.join()


# ── the table ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_of_two_that_saw_the_same_row_one_changes_it_and_who_was_followed_settles_nothing(crews):
    crew = crews()
    board, alarm = crew._station.alarms, crew_alarm(1, now_of(crew))
    board.raise_({"one": alarm})
    board.raise_({"two": alarm})
    (seen,) = rows(crew)
    assert seen.episode == "one"
    assert [bool(board.claim([seen], MINUTE)) for _ in range(2)] == [True, False]
    (claimed,) = rows(crew)
    assert claimed.held(now_of(crew))
    assert not board.claim([claimed], MINUTE), "its lease is in force"
    age(crew, lease_until=MINUTE)
    assert board.claim([claimed], MINUTE)
    assert not board.move(claimed, {"due_at": None, "reached": ["webhook"]}), "somebody else tells by now"
    (theirs,) = rows(crew)
    moves = [board.move(theirs, {"wrong": "x" * 900, "due_at": None}) for _ in range(2)]
    assert moves == [True, False]
    (told_,) = rows(crew)
    assert (told_.attempts, told_.reached) == (2, ())
    assert 400 < len(told_.wrong) <= 500
    assert not board.claim([told_], MINUTE), "nothing is due"
    board.forget([theirs])
    assert len(rows(crew)) == 1, "it has changed since"
    board.forget([told_])
    assert rows(crew) == []


def test_a_sighting_is_written_once_a_minute_whoever_sees_it_and_begins_anew_after_a_day(crews):
    board = crews()._station.alarms
    for by in ("curl#1", "curl#2"):
        board.saw("x", by)
    first = board.sighting("x")
    assert first.by == "curl#1"
    shift(board, timedelta(minutes=2))
    board.saw("x", "curl#3")
    again = board.sighting("x")
    assert again.by == "curl#3"
    assert again.since < again.at
    shift(board, timedelta(hours=26))
    board.saw("x", "curl#4")
    anew = board.sighting("x")
    assert anew.at - anew.since < timedelta(seconds=1)
    assert board.sighting("y") is None


def shift(board, ago):
    """Let what was seen have been so much earlier."""
    since, at, _ = board.sighting("x")
    with board._link.transaction() as connection:
        connection.execute(sa.update(sightings).values(since=since - ago, at=at - ago))
