"""Celery runs jobs: what is sent twice, delivered twice, or killed on the way runs once, and each row goes once."""

import os
import signal
from contextlib import ExitStack, closing
from datetime import timedelta

import pytest
import sqlalchemy as sa
from tests.conftest import opened
from tests.story.shop import application, beating, broker, hire, queue, until, working
from tests.story.test_ranges import FRESH, fill, left

from nightcrew.databases.tables import ranges as range_table
from nightcrew.triggers.celery import attach

ROWS = 40_000


@pytest.mark.parametrize("kind", ["redis", "rabbitmq"])
def test_two_beats_ring_once_for_each_slot_and_a_sweep_survives_a_worker_that_is_killed(kind, lend, tmp_path):
    url = broker(kind)
    with ExitStack() as stack:
        database, name = stack.enter_context(lend("postgresql")), stack.enter_context(queue(url))
        yard, crew = stack.enter_context(opened(database)), stack.enter_context(closing(hire(database)))
        crew.migrate()
        fill(yard, ROWS)
        yard.run("CREATE TABLE rung (run text)")
        apps = [application(url, name), application(url, name)]
        for number, app in enumerate(apps):
            attach(crew, app, every=timedelta(seconds=0.2))
            stack.enter_context(beating(app, f"{tmp_path}/{number}"))
            app.send_task("nightcrew.sweep-tokens")
        workers = stack.enter_context(working(database, url, name, 2))

        until(lambda: len(at_work(yard)) > 1)
        os.kill(workers[0].pid, signal.SIGKILL)
        lost = at_work(yard)
        until(lambda: rows(yard, "SELECT state FROM nightcrew_runs WHERE job = 'sweep-tokens'") == ["done"])
        found = dict(finished(yard))
        assert any(found[number] for number in lost)
        (run,) = crew.runs("sweep-tokens")
        batches = [entry["facts"]["rows"] for entry in crew.entries(run.id) if entry["kind"] == "batch"]
        assert (run.deleted, sum(batches), left(yard)) == (ROWS, ROWS, FRESH)

        until(lambda: len(rows(yard, "SELECT run FROM rung")) > 2)
        rung = rows(yard, "SELECT run FROM rung")
        assert len(set(rung)) == len(rung)
        assert {row.trigger for row in crew.runs(limit=100) if row.id in rung} == {"celery"}


def test_a_worker_that_is_asked_to_end_hands_its_ranges_over_and_the_other_finishes(lend):
    url = broker("rabbitmq")
    with ExitStack() as stack:
        database, name = stack.enter_context(lend("postgresql")), stack.enter_context(queue(url))
        yard, crew = stack.enter_context(opened(database)), stack.enter_context(closing(hire(database)))
        crew.migrate()
        fill(yard, ROWS)
        app = application(url, name)
        attach(crew, app)
        app.send_task("nightcrew.sweep-tokens")
        workers = stack.enter_context(working(database, url, name, 2))
        until(lambda: len(at_work(yard)) > 2)
        workers[0].terminate()
        assert workers[0].wait(10) == 0
        assert left(yard) > FRESH, "it ended before the sweep did"
        until(lambda: rows(yard, "SELECT state FROM nightcrew_runs WHERE job = 'sweep-tokens'") == ["done"])
        (run,) = crew.runs("sweep-tokens")
        batches = [entry["facts"]["rows"] for entry in crew.entries(run.id) if entry["kind"] == "batch"]
        assert (run.deleted, sum(batches), left(yard)) == (ROWS, ROWS, FRESH)


def rows(yard, query):
    with yard.link.transaction(writes=False) as connection:
        return list(connection.execute(sa.text(query)).scalars())


def at_work(yard):
    """Return who is at which range."""
    with yard.link.transaction(writes=False) as connection:
        held = sa.select(range_table.c.number, range_table.c.owner).where(range_table.c.owner.is_not(None))
        return dict(connection.execute(held.where(range_table.c.number > 0)).all())


def finished(yard):
    with yard.link.transaction(writes=False) as connection:
        return connection.execute(sa.select(range_table.c.number, range_table.c.finished_at)).all()
