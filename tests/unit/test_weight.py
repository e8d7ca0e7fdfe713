"""What batches tell of the size of the next one."""

from nightcrew.database import Taken
from nightcrew.weight import Weight


def taken(rows, load=None, *, cut=False):
    return Taken(rows, {}, {}, exhausted=False, load=load or rows, cut=cut)


def test_where_nothing_hangs_on_rows_a_batch_is_as_large_as_it_may_be():
    weight = Weight(500)
    for _ in range(3):
        weight.learn(taken(150_000), 200_000)
        assert weight.of_ours(200_000) == 200_000


def test_after_a_batch_that_was_cut_hardly_more_are_looked_at_until_all_fit_again():
    weight = Weight(500)
    weight.learn(taken(30, cut=True), 4_000)
    assert weight.of_ours(4_000) == 60
    weight.learn(taken(60), 4_000)
    assert weight.of_ours(4_000) == 240


def test_after_a_row_with_much_hanging_on_it_few_are_looked_at():
    weight = Weight(500)
    weight.learn(taken(100, 200), 4_000)
    weight.learn(taken(0, 4_000), 4_000)
    assert weight.of_ours(4_000) == 1


def test_slices_of_what_hangs_on_one_row_say_nothing_of_the_next():
    weight = Weight(500)
    for _ in range(3):
        weight.learn(taken(100, 1_000), 1_000)
    assert weight.trust.given
    for _ in range(20):
        weight.learn(taken(0, 4_000), 4_000)
        assert not weight.trust.given
