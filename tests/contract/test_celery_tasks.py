"""What Celery's tasks do, on every database: they find what is due, and leave it to the claim who runs it."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from celery import Celery

from nightcrew import Job, Nightcrew, Settings, cron
from nightcrew.caller import Caller
from nightcrew.clock import SystemClock, instant
from nightcrew.databases.tables import jobs as job_table
from nightcrew.errors import BrokerError, ConfigurationError, UsageError
from nightcrew.job import ROUTES
from nightcrew.triggers.celery import LOOK, TAKE, attach
from nightcrew.triggers.http import Door
from nightcrew.triggers.request import Request


@pytest.fixture
def crew(database_url):
    """A migrated crew with one daily job that counts its calls, due since midnight."""
    crew = Nightcrew(database_url, settings=Settings())
    crew.calls = []
    crew.add(Job("daily", cron("0 0 * * *"), function=lambda run: crew.calls.append(run) or 1))
    crew.migrate()
    crew.status()
    with crew._station.link.transaction() as connection:
        connection.execute(sa.update(job_table).values(epoch_at=today() - timedelta(minutes=1)))
    yield crew
    crew.close()


@pytest.fixture
def app(crew):
    """An application to which the crew is attached; its messages stay in this process."""
    app = Celery("contract", broker="memory://", set_as_current=False)
    app.conf.task_default_queue = f"queue-{id(crew)}"
    attach(crew, app)
    return app


def today():
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def sent(app):
    """Return the tasks that were sent, with their keyword arguments, and take them out of the queue."""
    found = []
    with app.connection_for_read() as connection, connection.SimpleQueue(app.conf.task_default_queue) as messages:
        while len(messages):
            message = messages.get_nowait()
            found.append((message.headers["task"], message.payload[1]))
            message.ack()
    return found


def test_a_look_sends_what_is_due_and_whoever_gets_it_twice_runs_it_once(crew, app):
    assert app.tasks[LOOK]() == ["daily"]
    assert sent(app) == [("nightcrew.daily", {"due": True})]
    first, second = (app.tasks["nightcrew.daily"](due=True) for _ in range(2))
    assert (first["outcome"], first["trigger"], first["deletedCount"], second) == ("succeeded", "celery", 1, None)
    assert len(crew.calls) == 1
    assert app.tasks[LOOK]() == sent(app) == []


def test_a_message_that_comes_twice_does_not_try_again_what_has_failed_and_whoever_asks_for_the_slot_does(crew, app):
    crew.fails = True
    crew.add(Job("failing", cron("0 0 * * *"), function=lambda: 1 // (not crew.fails)))
    crew.status()
    with crew._station.link.transaction() as connection:
        connection.execute(sa.update(job_table).values(epoch_at=today() - timedelta(minutes=1)))
    task = app.tasks["nightcrew.failing"]
    assert task(due=True)["outcome"] == "failed"
    assert task(due=True) is None
    crew.fails = False
    assert task(slot=today().isoformat())["outcome"] == "succeeded"
    assert task(slot=today())["outcome"] == "already_done"


def test_a_message_for_a_run_of_no_slot_that_comes_twice_is_run_once_and_another_once_more(crew, app):
    task = app.tasks["nightcrew.daily"]
    twice, other = ([task.apply(kwargs={"now": True}, task_id=known_as).get() for _ in range(2)] for known_as in "ab")
    assert [report["outcome"] for report in twice] == ["succeeded", "already_done"]
    assert twice[0]["outcome"] == other[0]["outcome"]
    assert len(crew.calls) == 2
    assert task(now=True)["outcome"] == task(now=True)["outcome"] == "succeeded", "who calls it here means each call"


def test_what_is_paused_or_switched_off_is_not_sent_and_says_so_when_it_is_asked_for(crew, app):
    crew.add(Job("off", cron("0 0 * * *"), function=lambda: 1, enabled=False))
    crew.pause("daily", by="anna", reason="audit")
    assert app.tasks[LOOK]() == []
    assert [app.tasks[f"nightcrew.{name}"]()["outcome"] for name in ("daily", "off")] == ["paused", "disabled"]
    assert crew.calls == []


def test_a_run_that_was_handed_over_is_sent_again(crew, app):
    crew.add(Job("slow", cron("0 0 1 1 *"), function=lambda run: run.should_stop))
    short = Celery("short", broker="memory://", set_as_current=False)
    attach(crew, short, deadline=timedelta(microseconds=1))
    assert short.tasks["nightcrew.slow"]()["outcome"] == "partial"
    assert "slow" in app.tasks[LOOK]()
    assert app.tasks["nightcrew.slow"](due=True)["outcome"] in ("succeeded", "nothing_to_do")


def test_a_call_over_http_is_sent_where_that_is_asked_for_and_run_for_its_caller(crew, app):
    door = Celery("door", broker="memory://", set_as_current=False)
    door.conf.task_default_queue = app.conf.task_default_queue
    attach(crew, door, http=True)
    assert crew.errand("daily", today(), Caller("curl#1234"), False).startswith("task ")
    ((name, asked),) = sent(app)
    assert (name, asked["slot"]) == ("nightcrew.daily", instant(today()))
    assert app.tasks[name](**asked)["outcome"] == "succeeded"
    assert crew.runs()[0].caller == "curl#1234"


class Ahead(SystemClock):
    """A process's clock that is days ahead of the database's, or behind it."""

    days = 3

    def now(self):
        return super().now() + timedelta(days=self.days)


@pytest.mark.parametrize("days", [3, -3])
def test_whether_a_slot_is_still_to_come_is_judged_by_the_databases_clock_before_it_is_sent(server_url, days):
    clock = Ahead()
    clock.days = days
    crew = Nightcrew(server_url, settings=Settings(secret="correct-horse-battery-staple"), clock=clock)
    crew.add(Job("daily", cron("0 0 * * *"), function=print))
    crew.migrate()
    sent = []
    crew.errand = lambda *asked: sent.append(asked) or "task 7"
    secret = (b"authorization", b"Bearer correct-horse-battery-staple")

    def answer(slot):
        query = f"slot={instant(slot)}".encode()
        return Door(crew).answer(
            Request("GET", f"{ROUTES}/daily", query=query, headers=(secret,), client="203.0.113.9")
        )

    to_come, past = answer(today() + timedelta(days=1)), answer(today())
    assert (to_come.status, b"lies in the future" in to_come.body) == (400, True)
    assert (past.status, [slot for _, slot, *_ in sent]) == (202, [today()])
    crew.close()


def test_a_broker_that_is_away_is_told_of_and_not_waited_for():
    crew = Nightcrew("sqlite://", settings=Settings())
    away = Celery("away", broker="amqp://127.0.0.1:1", set_as_current=False)
    attach(crew, away, http=True)
    with pytest.raises(BrokerError, match="job 'daily' could not be handed to a worker"):
        crew.errand("daily", None, Caller("curl#1234"), False)


def test_a_slot_that_cannot_be_is_refused_in_a_sentence(app):
    for slot, words in (("yesterday", "cannot be read"), ("2026-01-01T00:00:00", "no time zone")):
        with pytest.raises(UsageError, match=words):
            app.tasks["nightcrew.daily"](slot=slot)


def test_jobs_may_be_named_and_registered_as_one_likes_until_the_application_is_used(crew, app):
    crew.add(Job("look-for-slots", cron("0 0 * * *"), function=lambda: 1))
    app.conf.beat_schedule = {"mine": {"task": "mine", "schedule": 60}}
    tasks = {name for name in app.tasks if name.startswith("nightcrew")}
    assert tasks == {"nightcrew.daily", "nightcrew.look-for-slots", LOOK, TAKE}
    assert set(app.conf.beat_schedule) == {"mine", "nightcrew"}
    task = app.tasks["nightcrew.daily"]
    assert (task.acks_late, task.reject_on_worker_lost, task.max_retries) == (True, True, 0)


def test_tasks_go_to_the_queue_that_is_named_and_belong_to_their_own_application(crew, app):
    other = Celery("other", broker="memory://", set_as_current=False)
    other.conf.task_routes = {"mine": {"queue": "days"}}
    attach(crew, other, queue="nights")
    other.finalize()
    queues = {name: other.amqp.router.route({}, name)["queue"].name for name in ("nightcrew.daily", LOOK, "mine")}
    assert queues == {"nightcrew.daily": "nights", LOOK: "nights", "mine": "days"}
    assert other.conf.beat_schedule["nightcrew"]["options"]["queue"] == "nights"
    assert other.tasks["nightcrew.daily"].app is other
    assert app.tasks["nightcrew.daily"].app is app


def test_a_span_that_is_none_is_refused(crew, app):
    with pytest.raises(ConfigurationError, match="deadline of nightcrew's Celery tasks is -1 day"):
        attach(crew, app, deadline=timedelta(days=-1))


def test_where_celery_is_missing_a_sentence_says_what_to_install():
    code = "import sys; sys.modules['celery'] = None; import nightcrew.triggers.celery"
    answer = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert "Celery is not installed: pip install 'nightcrew[celery]'" in answer.stderr
