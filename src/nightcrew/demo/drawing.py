"""Drawings: hills in the light of an hour that words name or choose; the same words give the same picture."""

import re
import zlib
from collections.abc import Iterable, Sequence
from itertools import chain
from math import hypot, sin, tau
from random import Random
from struct import pack
from typing import NamedTuple

WIDTH, HEIGHT = 480, 270
_WANTED = re.compile(
    r"\b(?:draw|sketch)(?: me| us)? (?:an?|the|my|our|some)\b|\b(?:drawing|picture|image) of\b", re.IGNORECASE
)
_HILLS = 4
_NUMBERS = range(1, _HILLS + 1)
_SIGNATURE = b"\x89PNG\r\n\x1a\n"

Colour = tuple[int, int, int]


class _Light(NamedTuple):
    """The colours of an hour: the sky above and at the horizon, sun or moon, and the nearest hill."""

    above: Colour
    below: Colour
    disc: Colour
    near: Colour


_LIGHTS = {
    "morning": _Light((94, 143, 178), (246, 222, 190), (255, 246, 222), (38, 70, 66)),
    "noon": _Light((112, 170, 200), (232, 240, 232), (255, 252, 236), (46, 92, 70)),
    "dusk": _Light((66, 60, 112), (244, 150, 96), (255, 220, 150), (44, 30, 58)),
    "night": _Light((14, 22, 46), (62, 86, 122), (240, 236, 214), (8, 14, 28)),
}


def wanted(question: str) -> bool:
    """Tell whether somebody asks for a drawing."""
    return _WANTED.search(question) is not None


def drawn(words: str) -> bytes:
    """Return a picture for some words, as a PNG."""
    chance = Random(words)  # noqa: S311 - a picture, not a secret
    light = _LIGHTS[chance.choice([hour for hour in _LIGHTS if hour in words.lower()] or list(_LIGHTS))]
    sky = [_mixed(light.above, light.below, min(1.0, y / (HEIGHT * 0.65))) for y in range(HEIGHT)]
    disc = _Disc(chance.uniform(0.2, 0.8) * WIDTH, chance.uniform(0.18, 0.45) * HEIGHT, chance.uniform(14, 26))
    hills = [(_ridge(chance, number), _mixed(light.below, light.near, number / _HILLS)) for number in _NUMBERS]
    columns = []
    for x in range(WIDTH):
        column = disc.over(sky, x, light.disc)
        for ridge, hill in hills:
            edge = int(ridge[x])
            column[edge] = _mixed(column[edge], hill, edge + 1 - ridge[x])
            column[edge + 1 :] = [hill] * (HEIGHT - edge - 1)
        columns.append(column)
    return _png(zip(*columns, strict=True))


class _Disc(NamedTuple):
    """The sun or the moon, by its middle and its radius in pixels."""

    across: float
    down: float
    radius: float

    def over(self, sky: Sequence[Colour], x: int, colour: Colour) -> list[Colour]:
        """Return a column of the sky with what is seen of the disc in it."""
        column = list(sky)
        if abs(x - self.across) <= self.radius:
            for y in range(int(self.down - self.radius), int(self.down + self.radius) + 1):
                depth = self.radius - hypot(x - self.across, y - self.down)
                column[y] = _mixed(column[y], colour, min(1.0, max(0.0, depth)))
        return column


def _ridge(chance: Random, number: int) -> list[float]:
    """Return how far down a hill begins in each column; those with higher numbers are nearer."""
    base, height = HEIGHT * (0.36 + 0.115 * number), HEIGHT * (0.1 - 0.01 * number)
    waves = [(chance.uniform(0.6, 1.4) / turns, chance.uniform(0, tau), turns) for turns in (1, 2.3, 5)]
    return [
        base + height * sum(share * sin(tau * turns * x / WIDTH + start) for share, start, turns in waves)
        for x in range(WIDTH)
    ]


def _mixed(one: Colour, other: Colour, share: float) -> Colour:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue


def _png(rows: Iterable[Iterable[Colour]]) -> bytes:
    """Write rows of red, green and blue as PNG defines it: each behind the number of its filter, which is none."""
    header = pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + bytes(chain.from_iterable(row)) for row in rows), 9)
    return _SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return pack(">I", len(data)) + kind + data + pack(">I", zlib.crc32(kind + data))
