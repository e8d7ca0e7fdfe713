"""A process that erases users and dies in the middle of one: usage: drainer.py URL BATCHES (0: lives to the end)."""

import os
import signal
import sys
from datetime import timedelta

from nightcrew import Nightcrew, Settings


def crew_that_erases(url: str, listeners=(), lease: float = 1.5) -> Nightcrew:
    """Return a crew with one job over the table `users`, with whatever hangs on them."""
    crew = Nightcrew(url, settings=Settings(), listeners=listeners, lease=lease)
    crew.expire(
        "erase-users",
        "users",
        column="left_at",
        older_than=timedelta(days=1),
        schedule="0 0 1 1 *",
        pace="fast",
        max_fraction=1,
    )
    return crew


def main() -> None:
    url, batches = sys.argv[1], int(sys.argv[2])
    seen = []

    def die(entry) -> None:
        if entry.kind == "batch":
            seen.append(entry)
            if len(seen) == batches:
                os.kill(os.getpid(), signal.SIGKILL)

    print(crew_that_erases(url, [die]).run("erase-users", trigger="http").outcome, flush=True)


if __name__ == "__main__":
    main()
