"""The hands of a process: one at a time is put to what waits, and many short runs need no more than one."""

from threading import Barrier, Event, current_thread

from nightcrew.triggers.hands import Hands, side_by_side


def test_what_is_over_in_no_time_is_worked_off_by_one_hand():
    seen, hands = set(), Hands(lost=print)
    hands.take([lambda: seen.add(current_thread().ident)] * 100)
    hands.work()
    hands.join()
    assert len(seen) == 1
    assert (hands.free, hands.few) == (True, False)


def test_one_hand_more_is_put_to_what_waits_each_time_until_all_are_at_work():
    begun, go_on, hands = [], Event(), Hands(lost=print, number=2)
    hands.take([lambda: begun.append(1) or go_on.wait(5)] * 3)
    for number in (1, 2):
        assert hands.few
        hands.work()
        while len(begun) < number:
            pass
        assert len(begun) == number
    assert (hands.few, hands.free, hands.busy) == (False, False, True)
    go_on.set()
    hands.join()
    assert len(begun) == 3


def test_works_that_wait_for_one_another_go_side_by_side():
    together = Barrier(4, timeout=5)
    assert sorted(side_by_side([together.wait] * 4)) == [0, 1, 2, 3]
