"""A question in SQL that stops sweeps when its answer is above zero."""

from dataclasses import dataclass
from numbers import Number

from nightcrew.database import Database
from nightcrew.gauge import LONGEST, Gauge, Level


@dataclass(frozen=True, slots=True)
class Sql:
    """A SELECT of the application's; the first value of its first row is the answer, and none counts as zero."""

    name: str
    question: str
    database: Database
    patient: bool = False

    def read(self) -> Gauge:
        """Ask it; raises DatabaseError when it cannot be answered, and TypeError for an answer that is no number."""
        answer = self.database.ask(self.question, LONGEST)
        if answer is not None and not isinstance(answer, Number):
            raise TypeError(f"it answered {str(answer)[:40]!r}, which is no number")
        return Gauge(self.name, Level.STOP if answer and answer > 0 else Level.GREEN, f"answered {answer or 0}")  # type: ignore[operator]
