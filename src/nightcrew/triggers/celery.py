"""Celery: a task for each job, and one that looks what is due; however often either comes, the claim decides."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from functools import partial
from multiprocessing import Event
from multiprocessing.synchronize import Event as EventType
from threading import Thread
from typing import Any

from nightcrew.caller import Caller
from nightcrew.clock import instant
from nightcrew.errors import BrokerError, ConfigurationError, MissingExtra, UsageError
from nightcrew.trigger import Roster

try:
    from celery import Celery, current_task, signals
except ImportError:
    raise MissingExtra("Celery is not installed: pip install 'nightcrew[celery]'") from None

TRIGGER = "celery"
LOOK = "nightcrew.look_for_slots"
"""The task that beat sends; no job can have its name, for there is an underscore in it."""
TAKE = "nightcrew.take_range"
"""The task that calls others to a run that is shared."""
_EVERY = timedelta(seconds=10)
# Seconds after which a message that nobody has fetched is not worth having, for others have come since: it is the clock
# of one machine that says so on another, which may be minutes off.
_FRESH = 600.0
_BRIEFLY = {"max_retries": 2, "interval_start": 0.1, "interval_step": 0.2}  # for somebody who waits for the answer
# A message is let go of once its task has ended: if the worker dies before that, another one gets it, and the claim
# says what is still to be done. Celery itself tries nothing again.
_ONCE_AT_LEAST = {"acks_late": True, "reject_on_worker_lost": True, "max_retries": 0}


def attach(
    crew: Roster,
    app: Celery,
    *,
    queue: str | None = None,
    every: timedelta = _EVERY,
    deadline: timedelta | None = None,
    http: bool = False,
) -> None:
    """Give a Celery application a task for each job of a crew, called nightcrew.JOB, and beat one that sends them.

    Beat's looks what is due, `every` so often. Long runs of jobs that fan out are shared among the workers. All of it
    goes to the `queue`, or where the application routes it. A task works no longer than the `deadline`, and the next
    goes on; let it be shorter than the application's time limits. With `http`, what is asked for over HTTP is sent too.

    Raises ConfigurationError for a span that is none.
    """
    for name, span in (("every", every), ("deadline", deadline)):
        if span is not None and span <= timedelta(0):
            raise ConfigurationError(
                f"{name} of nightcrew's Celery tasks is {span}; write a longer one, as in {_EVERY!r}"
            )
    post = _Post(crew, app, queue, every.total_seconds(), deadline)
    crew.spread, crew.errand = post.spread, post.hand_over if http else None
    # Jobs may still be registered until the application is put to use, and so may beat's schedule be set.
    if app.finalized:
        post.enrol(app)
    else:
        app.on_after_finalize.connect(lambda sender, **_: post.enrol(sender), weak=False)
    _Ending(crew)


class _Post:
    """What is sent where, and what comes of it."""

    def __init__(self, crew: Roster, app: Celery, queue: str | None, period: float, deadline: timedelta | None) -> None:
        self._crew = crew
        self._app = app
        self._to = {} if queue is None else {"queue": queue}
        self._period = period
        self._fleeting = {"expires": max(self._period, _FRESH), **self._to}
        self._deadline = deadline

    def enrol(self, app: Celery) -> None:
        """Make the tasks, and beat's entry."""
        for name in self._crew.jobs:
            self._task(task_name(name), partial(self._run, name))
        self._task(TAKE, self._take)
        look = self._task(LOOK, self._look, ignore_result=True)
        app.add_periodic_task(self._period, look.s(), name="nightcrew", **self._fleeting)
        if self._to:
            others = app.conf.task_routes or ()
            app.conf.task_routes = (self._route, *([others] if isinstance(others, Mapping) else others))
            app.amqp.flush_routes()

    def _route(self, name: str, *_: object, **__: object) -> dict[str, str] | None:
        return self._to if name in (LOOK, TAKE) or name in map(task_name, self._crew.jobs) else None

    def _task(self, name: str, work: Callable[..., Any], **options: Any) -> Any:
        def task(*arguments: Any, **named: Any) -> Any:
            return work(*arguments, **named)

        return self._app.task(name=name, shared=False, typing=False, **_ONCE_AT_LEAST, **options)(task)

    def _look(self) -> list[str]:
        """Send the task of every job that a look would claim something of; who gets it claims it, or finds it gone."""
        waiting = self._crew.waiting()
        for name in waiting:
            self._app.send_task(task_name(name), kwargs={"due": True}, **self._fleeting)
        for job, run in self._crew.adrift():
            self._app.send_task(TAKE, args=[job, run], **self._fleeting)
        self._crew.alarms.glance()
        return waiting

    def spread(self, job: str, run: str, numbers: Sequence[int]) -> None:
        """Call workers to the ranges of a run; one that comes late finds it over, or somebody else at its range."""
        for number in numbers:
            self._app.send_task(TAKE, args=[job, run, number], **self._to)

    def hand_over(self, job: str, slot: datetime | None, caller: Caller, now: bool) -> str:  # noqa: FBT001 - an Errand
        """Send a job's task as somebody asks for it; raises BrokerError where the broker does not take it."""
        asked = {"slot": slot and instant(slot), "now": now, "caller": asdict(caller)}
        try:
            sent = self._app.send_task(task_name(job), kwargs=asked, retry_policy=_BRIEFLY, **self._to)
        except Exception as error:
            raise BrokerError(f"job {job!r} could not be handed to a worker: the broker did not take it") from error
        return f"task {sent.id}"

    def _take(self, job: str, run: str, number: int | None = None) -> dict[str, Any] | None:
        report = self._crew.join(job, run, trigger=TRIGGER, called=number, deadline=self._deadline)
        return None if report is None else report.json()

    def _run(
        self,
        name: str,
        slot: str | datetime | None = None,
        *,
        due: bool = False,
        now: bool = False,
        caller: dict[str, Any] | None = None,
    ) -> dict[str, Any] | None:
        """Run what is `due` of a job, or as anybody asks for it, and return the report; None where nothing was due."""
        if not due:
            asked, who = _instant(slot, name), Caller(**caller or {})
            if now and who.key is None:  # a message that comes twice means the same run
                who = replace(who, key=current_task.request.id)
            return self._crew.run(
                name, trigger=TRIGGER, slot=asked, now=now, caller=who, deadline=self._deadline
            ).json()
        reports = [work() for work in self._crew.due(trigger=TRIGGER, only=name, deadline=self._deadline)]
        return reports[0].json() if reports else None


def task_name(job: str) -> str:
    """Return what a job's task is called."""
    return f"nightcrew.{job}"


def _instant(slot: str | datetime | None, job: str) -> datetime | None:
    if not isinstance(slot, str):
        return slot
    try:
        return datetime.fromisoformat(slot)
    except ValueError:
        raise UsageError(
            f"slot {slot[:40]!r} of job {job!r} cannot be read: write it in UTC, as in 2026-01-31T12:00:00Z"
        ) from None


class _Ending:
    """Lets runs hand over when a worker is told to end, which the processes of its pool do not hear by themselves."""

    def __init__(self, crew: Roster) -> None:
        self._crew = crew
        self._told: EventType | None = None
        signals.worker_init.connect(self._before_fork, weak=False)
        signals.worker_process_init.connect(self._after_fork, weak=False)
        signals.worker_shutting_down.connect(self._tell, weak=False)

    def _before_fork(self, **_: object) -> None:
        self._told = Event()

    def _after_fork(self, **_: object) -> None:
        Thread(target=self._listen, name="nightcrew-ending", daemon=True).start()

    def _listen(self) -> None:
        if self._told is not None:
            self._told.wait()
            self._crew.hand_over()

    def _tell(self, **_: object) -> None:
        self._crew.hand_over()
        if self._told is not None:
            self._told.set()
