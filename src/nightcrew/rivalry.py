"""Rivalry: which schedule of a job is in force while crews of two versions run side by side, as in a rolling deploy.

The one in the job's row is, and every crew runs its slots, so that none is lost and none is run for another schedule.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from nightcrew.bid import unrun_before_change
from nightcrew.books import Books, Registration, Standing
from nightcrew.clock import Clock
from nightcrew.errors import ScheduleError
from nightcrew.job import Job
from nightcrew.schedule import written

SETTLED = timedelta(hours=1)
"""For so long a schedule that has come into force gives way only to who finds nobody there that has it."""

PATIENCE = timedelta(minutes=1)
"""So long a crew waits for an answer of any other that has the schedule in force."""


def in_force(job: Job, standing: Standing) -> Job:
    """Return a job with the schedule that is in force."""
    if standing.meaning == job.schedule.meaning:
        return job
    try:
        return replace(job, schedule=written(standing.schedule, standing.timezone))
    except ScheduleError:  # an older nightcrew may have read what this one refuses
        return job


def registration(job: Job) -> Registration:
    """Return what a crew says of a job."""
    return Registration(job.name, job.schedule.expression, job.schedule.timezone, job.schedule.meaning)


class Rivalry:
    """How the crew of one process puts its schedules in force, or stands by those it finds there."""

    def __init__(self, books: Books, clock: Clock) -> None:
        self._books = books
        self._clock = clock
        self._asked: dict[str, float] = {}

    def settle(self, job: Job, standing: Standing, now: datetime, *, starting: bool = False) -> bool:
        """Answer a rival of the schedule that is in force and ours; or put ours in force, or ask who has the other.

        A crew that is `starting` puts its own in force at once, unless the other has been for less than an hour: then
        it may be the old one of two. Returns whether the standing has changed.
        """
        ours = job.schedule.meaning
        if standing.meaning == ours:
            if standing.rival is not None:
                self._books.answer(standing)
            return False
        waited = now - standing.rival_since if standing.rival_since is not None else None
        unanswered = standing.rival == ours and waited is not None and waited >= PATIENCE
        if unanswered or (starting and now - standing.epoch_at >= SETTLED):
            unrun = unrun_before_change(job, standing, now)
            return self._books.reschedule(standing, registration(job), now, unrun, waits=starting)
        if (waited is None or (standing.rival != ours and waited > 2 * PATIENCE)) and self._may_ask(job):
            self._books.challenge(standing, ours)
        return False

    def _may_ask(self, job: Job) -> bool:
        """Whether it is long enough ago that we asked; who was answered asks again, for an answer holds no longer."""
        now = self._clock.monotonic()
        if now - self._asked.get(job.name, float("-inf")) < PATIENCE.total_seconds():
            return False
        self._asked[job.name] = now
        return True
