"""Rivalry: which schedule of a job is in force while crews of two versions run side by side, as in a rolling deploy.

The one in the job's row is, and every crew runs its slots, so that none is lost and none is run for another schedule.
"""

from collections.abc import Mapping
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

    def settle(
        self, jobs: Mapping[str, Job], standings: Mapping[str, Standing], now: datetime, *, starting: bool = False
    ) -> set[str]:
        """Answer rivals of the schedules that are in force and ours; put ours in force, or ask who has the others.

        A crew that is `starting` puts its own in force at once, unless the other has been for less than an hour: then
        it may be the old one of two. Returns the jobs whose standing has changed, by name. However many jobs a look
        finds in dispute, as in a deploy of thousands, it takes few statements to answer and to ask.
        """
        answers: list[Standing] = []
        questions: list[tuple[Standing, str]] = []
        changed: set[str] = set()
        for name, standing in standings.items():
            ours = jobs[name].schedule.meaning
            if standing.meaning == ours:
                answers += [standing] if standing.rival is not None else []
            elif self._gives_way(standing, ours, now, starting=starting):
                unrun = unrun_before_change(jobs[name], standing, now)
                if self._books.reschedule(standing, registration(jobs[name]), now, unrun, waits=starting):
                    changed.add(name)
            elif self._is_open(standing, ours, now) and self._may_ask(name):
                questions.append((standing, ours))
        if answers:
            self._books.answer(answers)
        if questions:
            self._books.challenge(questions)
        return changed

    @staticmethod
    def _gives_way(standing: Standing, ours: str, now: datetime, *, starting: bool) -> bool:
        """Tell whether nobody has answered for the other schedule, or we start and need not ask."""
        unanswered = standing.rival_since is not None and now - standing.rival_since >= PATIENCE
        return (standing.rival == ours and unanswered) or (starting and now - standing.epoch_at >= SETTLED)

    @staticmethod
    def _is_open(standing: Standing, ours: str, now: datetime) -> bool:
        """Tell whether nobody is asking, or somebody did who has gone."""
        if standing.rival_since is None:
            return True
        return standing.rival != ours and now - standing.rival_since > 2 * PATIENCE

    def _may_ask(self, job: str) -> bool:
        """Whether it is long enough ago that we asked; who was answered asks again, for an answer holds no longer."""
        now = self._clock.monotonic()
        if now - self._asked.get(job, float("-inf")) < PATIENCE.total_seconds():
            return False
        self._asked[job] = now
        return True
