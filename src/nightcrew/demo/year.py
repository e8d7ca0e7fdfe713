"""The year in the making: its chance, its last moment, its words, and the rows and files so far."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any

from sqlalchemy import Table

from nightcrew.demo.schema import TABLES

Row = dict[str, Any]

_BUSY = (0.9, 0.95, 1.0, 0.95, 0.8, 0.4, 0.35)  # Monday to Sunday
_HOURS = (1, 1, 0, 0, 0, 1, 3, 6, 9, 11, 11, 9, 8, 9, 10, 10, 9, 8, 7, 8, 9, 8, 5, 2)


@dataclass(slots=True)
class Year:
    """Everything that happened before `moment`; the same seed tells the same story."""

    moment: datetime
    chance: Random
    names: dict[str, Any]
    talks: dict[str, Any]
    files: dict[str, bytes] = field(default_factory=dict)
    rows: dict[Table, list[Row]] = field(default_factory=lambda: {table: [] for table in TABLES})

    def add(self, table: Table, **values: Any) -> Row:
        """Keep one row for the bulk insert and return it."""
        self.rows[table].append(values)
        return values

    def key(self, bits: int = 64) -> str:
        """Return an identifier that nothing else in this year has."""
        return f"{self.chance.getrandbits(bits):0{bits // 4}x}"

    def filled(self, text: str) -> str:
        """Put words into the {gaps} of a text, one word per gap throughout."""
        for name, choices in self.talks["fill"].items():
            text = text.replace(f"{{{name}}}", self.chance.choice(choices))
        return text

    def ago(self, fewest: float, most: float) -> datetime:
        """Return an instant between `fewest` and `most` days before the year's last moment."""
        return self.moment - timedelta(days=self.chance.uniform(fewest, most))

    def waking(self, near: datetime) -> datetime:
        """Return an instant close to `near` when people are awake and, mostly, at work."""
        day = near
        while self.chance.random() > _BUSY[day.weekday()]:
            day -= timedelta(days=1)
        hour = self.chance.choices(range(24), _HOURS)[0]
        awake = day.replace(hour=hour, minute=0, second=0, microsecond=0)
        return min(awake + timedelta(seconds=self.chance.uniform(0, 3600)), self.moment - timedelta(minutes=20))
