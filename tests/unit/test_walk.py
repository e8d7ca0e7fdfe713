"""A batch grows while it is quick, and shrinks as soon as it is not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightcrew.database import Form
from nightcrew.walk import SIZES, steered


@pytest.mark.parametrize(
    ("limit", "seconds", "following"),
    [
        (10_000, 0.001, 20_000),  # quick: twice as many, no more
        (10_000, 0.080, 12_500),
        (10_000, 0.100, 10_000),  # as it should be
        (10_000, 0.200, 5_000),
        (10_000, 9.000, 5_000),  # slow: half as many, and half again if that does not do
        (100_000, 0.001, 100_000),
        (60, 9.000, 50),  # never so few that it gets nowhere
    ],
)
def test_the_next_batch_is_as_large_as_the_last_one_was_quick(limit, seconds, following):
    assert steered(Form.RANGE, limit, seconds) == following


@given(st.sampled_from(Form), st.integers(1, 100_000), st.floats(0, 1e6))
def test_no_measurement_makes_a_batch_that_is_not_bounded(form, limit, seconds):
    assert 50 <= steered(form, limit, seconds) <= SIZES[form][1]


def test_batches_settle_where_they_take_their_time():
    limit = SIZES[Form.CONTENDED][0]
    for _ in range(20):
        limit = steered(Form.CONTENDED, limit, limit * 0.0001)
    assert limit == 500  # at a tenth of a millisecond a row, that is fifty
