"""Marks: how a run, or a job, stands, as a glyph and a word; what colour goes with them, the page knows by the kind."""

from typing import NamedTuple

from nightcrew.books import RunRow
from nightcrew.outcome import State
from nightcrew.roll import JobStatus
from nightcrew.verdict import refused


class Mark(NamedTuple):
    """A kind, for the colour; a glyph, for who sees none; and a word, for everybody."""

    kind: str
    glyph: str
    word: str


_MARKS = {
    State.RUNNING: Mark("busy", "▸", "running"),
    State.PARTIAL: Mark("part", "◐", "partial"),
    State.RETRYING: Mark("warn", "↻", "retrying"),
    State.DONE: Mark("good", "✓", "done"),
    State.FAILED: Mark("bad", "✗", "failed"),
    State.CANCELLED: Mark("quiet", "⊘", "cancelled"),
    State.SKIPPED: Mark("quiet", "↷", "skipped"),
    State.MISSED: Mark("missed", "○", "missed"),
}
_REFUSED = Mark("bad", "✗", "refused")
NEVER = Mark("quiet", "·", "never")


def mark(row: RunRow | None) -> Mark:
    """Return how a run stands; one that a safety rail stopped is called refused."""
    if row is None:
        return NEVER
    if refused(row):
        return _REFUSED
    return _MARKS[row.state]


def mark_of(state: State) -> Mark:
    """Return the mark of a state."""
    return _MARKS[state]


def standing_of(each: JobStatus) -> Mark:
    """Return how a job stands: what keeps it from running, else how its last run does."""
    if not each.job.enabled:
        return Mark("quiet", "⏻", "disabled")
    if each.standing.stopped_at is not None:
        return Mark("warn", "■", "stopped")
    if each.paused:
        return Mark("warn", "‖", "paused")
    return mark(each.last)
