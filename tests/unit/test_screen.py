"""screen.py: lengths of time in words, and columns that line up."""

import sys
from datetime import UTC, datetime, timedelta

import click
import pytest

from nightcrew.console.screen import Screen
from nightcrew.duration import span, when

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (0.4, "0 s"), (59, "59 s"), (60, "1 min"), (119, "1 min"), (3599, "59 min"), (3600, "1 h"),
     (5400, "1 h 30 min"), (36_000, "10 h"), (39_599, "10 h"), (86_400, "1 d"), (90_000, "1 d 1 h"), (864_000, "10 d"),
     (40_000_000, "462 d")],
)  # fmt: skip
def test_a_length_of_time_is_said_in_at_most_two_units(seconds: float, words: str) -> None:
    assert span(timedelta(seconds=seconds)) == words


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "just now"), (-0.3, "just now"), (0.3, "now"), (-180, "3 min ago"), (420, "in 7 min")]
)
def test_a_moment_is_said_from_now(seconds: float, words: str) -> None:
    assert when(NOW + timedelta(seconds=seconds), NOW) == words


def test_no_moment_is_a_dash() -> None:
    assert when(None, NOW) == "-"


def test_columns_line_up_whatever_their_colours_and_empty_cells_are_dashes() -> None:
    rows: list[list[str | None]] = [[click.style("✓ done", fg="green"), "x"], [None, "a\nb\tc"]]
    assert [click.unstyle(line) for line in Screen().table(["STATE", "WHAT"], rows)] == [
        "STATE   WHAT",
        "✓ done  x",
        "-       a b c",
    ]


def test_on_a_terminal_the_widest_column_gives_way_and_never_vanishes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "30")
    lines = Screen().table(["A", "B"], [["short", "x" * 50]])
    assert lines[1] == "short  " + "x" * 22 + "…"
    monkeypatch.setenv("COLUMNS", "5")
    assert Screen().table(["A", "B"], [["short", "x" * 50]])[1] == "short  " + "x" * 11 + "…"
