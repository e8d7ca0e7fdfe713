"""How long a run that failed waits."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from nightcrew.backoff import LONGEST, MOST_ATTEMPTS, wait

FIRST = st.timedeltas(timedelta(microseconds=10), LONGEST)
FAILURES = st.integers(1, MOST_ATTEMPTS)


@given(FIRST, FAILURES, st.text())
def test_a_wait_is_twice_as_long_each_time_an_hour_at_most_and_up_to_a_tenth_less(first, failures, run):
    doubled = min(first.total_seconds() * 2.0 ** (failures - 1), 3600)
    waited = wait(first, failures, run)
    assert timedelta(seconds=0.89 * doubled) <= waited <= timedelta(seconds=doubled + 1e-6)
    assert waited == wait(first, failures, run)


def test_runs_that_failed_together_are_not_tried_again_together():
    waits = {wait(timedelta(seconds=30), 1, f"job-{n}.20260131T000000Z") for n in range(100)}
    assert len(waits) > 90
    assert max(waits) - min(waits) > timedelta(seconds=2)
