"""How a run is drawn over time, and what is said of how long it still takes."""

from datetime import UTC, datetime, timedelta

import pytest

from nightcrew.books import Batch, RunRow
from nightcrew.outcome import State
from nightcrew.rails import grown, seen
from nightcrew.web.dashboard.views.course import WIDTH, course, left_of

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def batch(second, rows, total, **more):
    facts = {"rows": rows, "counts": {"chats": rows}, "total": {"chats": total}, **more}
    return Batch(NOON + second * SECOND, facts)


def note(second, kind, **facts):
    return {"at": NOON + second * SECOND, "kind": kind, "facts": facts}


def run(**more):
    return RunRow("r", "purge", None, State.RUNNING, "cli", moment=NOON, **more)


def test_batches_stand_where_they_ended_and_what_held_them_back_behind_them():
    notes = [
        note(2, "throttled", level="brake", gauge="lag", seen="3 s"),
        note(4, "throttled", level="stop", gauge="lag", seen="9 s"),
        note(6, "eased", level="green", gauge="lag"),
        note(9, "throttled", level="stop", gauge="file:x", seen="is there"),
    ]
    drawn = course([batch(0, 10, 10), batch(5, 1, 11), batch(10, 10, 21)], notes, NOON + 10 * SECOND, whole=True)
    assert [bar.x for bar in drawn.bars] == [0, (WIDTH - 4) // 2, WIDTH - 4]
    assert drawn.bars[0].height > drawn.bars[1].height
    assert [(span.kind, span.says) for span in drawn.held] == [
        ("warn", "was slowed down: lag: 3 s"),
        ("bad", "waited: lag: 9 s"),
        ("bad", "waited: file:x: is there"),
    ]
    assert drawn.held[0].x + drawn.held[0].width - 4 == pytest.approx(drawn.held[1].x)
    assert drawn.held[2].x + drawn.held[2].width == WIDTH


def test_one_batch_is_drawn_too():
    drawn = course([batch(0, 0, 0)], [], NOON, whole=False)
    assert (drawn.number, drawn.rows, drawn.bars[0].x) == (1, 0, 0)


def test_of_a_size_that_is_known_it_is_said_how_long_the_rest_takes():
    admitted = [note(0, "admitted", most={"chats": grown(10_000), "users": None})]
    batches = [batch(second, 100, 100 * (second + 1)) for second in range(11)]
    left = left_of(run(), batches, admitted, NOON + 10 * SECOND)
    assert left.total_seconds() == pytest.approx(89, rel=0.01)
    slower = left_of(run(), batches, admitted, NOON + 40 * SECOND)
    assert slower > 3 * left, "who is held back takes longer"
    assert left_of(run(), batches, [], NOON) is None
    assert left_of(run(), batches[:2], admitted, NOON + SECOND) is None
    assert left_of(run(), [*batches, batch(11, 5, 5, range=2)], admitted, NOON + 11 * SECOND) is None
    assert left_of(run(), batches, [note(0, "admitted", most={"chats": 1_000})], NOON + 10 * SECOND) is None


def test_a_function_says_how_far_it_is_and_its_own_time_how_fast():
    assert left_of(run(done=30, total=120), [], [], NOON + 60 * SECOND) == timedelta(seconds=180)
    assert left_of(run(done=0, total=120), [], [], NOON + 60 * SECOND) is None
    assert left_of(run(done=130, total=120), [], [], NOON + 60 * SECOND) == timedelta(0)
    assert left_of(run(done=5), [], [], NOON + 60 * SECOND) is None


@pytest.mark.parametrize("rows", [801, 1_000, 41_200, 999_999])
def test_from_how_many_may_go_it_is_known_how_many_were_seen(rows):
    assert abs(seen(grown(rows)) - rows) <= 1
