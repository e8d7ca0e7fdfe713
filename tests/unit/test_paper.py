"""Moments and numbers in words, as the demo's pages show them."""

from datetime import UTC, datetime, timedelta

import pytest

from nightcrew.demo.paper import ago, span, stands

NOW = datetime(2024, 6, 15, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("length", "words"),
    [
        (timedelta(hours=7, minutes=59, seconds=58), "8 h"),
        (timedelta(seconds=59.4), "59 s"),
        (timedelta(seconds=59.6), "1 min"),
        (timedelta(minutes=59, seconds=40), "1 h"),
        (timedelta(hours=47, minutes=20), "47 h"),
        (timedelta(hours=47, minutes=40), "2 d"),
        (timedelta(days=400), "400 d"),
        (timedelta(days=36500), "36\u202f500 d"),
        (timedelta(0), "0 s"),
    ],
)
def test_a_span_is_rounded_to_its_largest_unit(length, words):
    assert span(length) == words


@pytest.mark.parametrize(
    ("distance", "words"),
    [
        (-3, "just now"),
        (0, "just now"),
        (-90, "2 min ago"),
        (3, "in 3 s"),
        (0.2, "now"),
        (7 * 3600 + 3590, "in 8 h"),
    ],
)
def test_what_comes_is_never_said_to_be_over(distance, words):
    assert f">{words}<" in ago(NOW + timedelta(seconds=distance), NOW)


def test_a_moment_says_its_zone():
    assert ">15 Jun 2024, 12:00 UTC<" in stands(NOW)
    assert 'title="Sat 15 Jun 2024, 12:00 UTC"' in ago(NOW, NOW)
