"""A function of the application's that says whether sweeps may go on."""

from dataclasses import dataclass

from nightcrew.gauge import Gauge, Judge, Level


@dataclass(frozen=True, slots=True)
class Function:
    """A function that takes nothing, and is called in a thread of its own."""

    name: str
    judge: Judge
    patient: bool = False

    def read(self) -> Gauge:
        """Call it; raises TypeError for an answer that is none."""
        answer = self.judge()
        if isinstance(answer, Level):
            return Gauge(self.name, answer, f"said {answer.name.lower()}")
        if isinstance(answer, str) and answer.strip():
            return Gauge(self.name, Level.STOP, answer.strip())
        if answer is None or isinstance(answer, bool):
            return Gauge(self.name, Level.STOP if answer else Level.GREEN, f"said {answer}")
        raise TypeError(f"it returned {answer!r}, which is neither None, a bool, a text nor a Level")
