"""Scale: how a figure of a server's strain is judged."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scale:
    """How a figure of a server's strain is judged: from which value on it brakes, and from which it stops.

    `words` say it, with {value}. A figure that only grows is judged `per_second`.
    """

    figure: str
    words: str
    brake: float
    stop: float
    per_second: bool = False
