"""When a database counts as strained, by how long it takes to answer."""

import pytest

from nightcrew import Nightcrew, Settings
from nightcrew.clock import SystemClock
from nightcrew.databases.connect import Link
from nightcrew.databases.strain import Strain
from nightcrew.gauge import Level
from nightcrew.throttle import Pace


class Steps(SystemClock):
    """A clock on which so many seconds pass from one look at it to the next."""

    step, passed = 0.0005, 0.0

    def monotonic(self) -> float:
        self.passed += self.step
        return self.passed


@pytest.fixture
def clock() -> Steps:
    return Steps()


@pytest.fixture
def link(database_url, clock):
    crew = Nightcrew(database_url, settings=Settings())
    crew.migrate()
    crew.close()
    link = Link(database_url, clock)
    yield link
    link.close()


def read(link, clock, pace, seconds) -> Level:
    """Read at ease, then twice with answers that take so many seconds."""
    gauge, clock.step = Strain(link, pace), 0.0005
    gauge.read()
    clock.step = seconds
    gauge.read()
    return gauge.read().level


@pytest.mark.parametrize("pace", [Pace.GENTLE, Pace.STEADY])
def test_answers_that_come_late_brake_a_sweep_and_very_late_ones_stop_it(link, clock, pace):
    assert read(link, clock, pace, 0.02) is Level.GREEN
    assert read(link, clock, pace, 0.06) is Level.BRAKE
    assert read(link, clock, pace, 0.15) is Level.STOP


def test_a_fast_sweep_is_braked_by_late_answers_but_where_its_own_batches_make_them_late(link, clock):
    alone = link.dialect.one_writer
    assert read(link, clock, Pace.FAST, 0.06) is (Level.GREEN if alone else Level.BRAKE)
    assert read(link, clock, Pace.FAST, 0.3) is (Level.BRAKE if alone else Level.STOP)
    assert read(link, clock, Pace.FAST, 1.5) is Level.STOP
