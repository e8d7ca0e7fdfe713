"""A process that sweeps and dies in the middle: usage: sweeper.py URL BATCHES (0: lives to the end)."""

import os
import signal
import sys
from datetime import timedelta

from nightcrew import Nightcrew, Settings


def crew_that_sweeps(url: str, listeners=(), lease: float = 1.5) -> Nightcrew:
    """Return a crew with one job over the table `tokens`, in batches small enough to die between."""
    crew = Nightcrew(url, settings=Settings(), listeners=listeners, lease=lease)
    crew.expire(
        "sweep-tokens",
        "tokens",
        column="revoked_at",
        older_than=timedelta(days=1),
        schedule="0 0 1 1 *",
        max_fraction=1,
    )  # revoked_at may be NULL: the contended form, in batches of a thousand
    return crew


def main() -> None:
    url, batches = sys.argv[1], int(sys.argv[2])
    seen = []

    def die(entry) -> None:
        if entry.kind == "batch":
            seen.append(entry)
            if len(seen) == batches:
                os.kill(os.getpid(), signal.SIGKILL)

    crew = crew_that_sweeps(url, [die])
    print(crew.run("sweep-tokens", trigger="http").outcome, flush=True)


if __name__ == "__main__":
    main()
