"""Celery starts jobs: whatever is sent twice, or delivered twice, each slot runs once."""

from contextlib import ExitStack, closing
from datetime import timedelta

import pytest
import sqlalchemy as sa
from tests.story.shop import application, beating, broker, hire, queue, until, working

from nightcrew.triggers.celery import attach


@pytest.mark.parametrize("kind", ["redis", "rabbitmq"])
def test_two_beats_ring_once_for_each_slot(kind, lend, tmp_path):
    url = broker(kind)
    with ExitStack() as stack:
        database, name = stack.enter_context(lend("postgresql")), stack.enter_context(queue(url))
        crew = stack.enter_context(closing(hire(database)))
        crew.migrate()
        with crew._station.link.transaction() as connection:
            connection.execute(sa.text("CREATE TABLE rung (run text)"))
        apps = [application(url, name), application(url, name)]
        for number, app in enumerate(apps):
            attach(crew, app, every=timedelta(seconds=0.2))
            stack.enter_context(beating(app, f"{tmp_path}/{number}"))
        stack.enter_context(working(database, url, name))
        until(lambda: len(rung(crew)) > 2)
        rings, runs = rung(crew), crew.runs(limit=100)
        assert len(set(rings)) == len(rings)
        assert {(run.trigger, run.state) for run in runs if run.id in rings[:-1]} == {("celery", "done")}


def rung(crew):
    with crew._station.link.transaction(writes=False) as connection:
        return list(connection.execute(sa.text("SELECT run FROM rung")).scalars())
