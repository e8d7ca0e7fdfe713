"""Seed: fills the empty tables with a believable year, the same one every time."""

import tomllib
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any

from sqlalchemy import Connection

from nightcrew.demo import leftovers, people
from nightcrew.demo.year import Year

_CHANCE = 1865
_HERE = Path(__file__).parent


def seed(connection: Connection, moment: datetime, put: Callable[[str, bytes], None]) -> None:
    """Write the year that ends at `moment`: `put` keeps its files, which come before the rows that name them."""
    year = Year(moment, Random(_CHANCE), _toml("names"), _toml("talks"))  # noqa: S311 - a story, not a secret
    people.settle(year)
    leftovers.leave(year)
    for key, data in year.files.items():
        put(key, data)
    for table, rows in year.rows.items():
        if rows:
            connection.execute(table.insert(), rows)


def _toml(name: str) -> dict[str, Any]:
    return tomllib.loads((_HERE / f"{name}.toml").read_text(encoding="utf-8"))
