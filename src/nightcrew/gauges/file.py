"""A file that stops sweeps as long as it exists."""

from dataclasses import dataclass
from pathlib import Path

from nightcrew.gauge import Gauge, Level


@dataclass(frozen=True, slots=True)
class File:
    """The file at `path`, which anybody may make by `touch`."""

    name: str
    path: str
    patient: bool = False

    def read(self) -> Gauge:
        """Look for it; raises OSError where that is not allowed."""
        try:
            Path(self.path).lstat()
        except FileNotFoundError:
            return Gauge(self.name, seen="is not there")
        return Gauge(self.name, Level.STOP, "is there")
