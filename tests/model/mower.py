"""A process that sweeps without end until somebody kills it: usage: mower.py URL."""

import sys
from datetime import timedelta

from nightcrew import Nightcrew, Settings


def crew_that_mows(url: str) -> Nightcrew:
    """Return a crew with one job that takes users with their chats, under a short lease."""
    crew = Nightcrew(url, settings=Settings(), lease=1.0)
    crew.expire(
        "mow", "users", column="left_at", older_than=timedelta(days=1), every="1 day", pace="fast", max_fraction=1
    )
    return crew


def main() -> None:
    crew = crew_that_mows(sys.argv[1])
    crew.run("mow", now=True, deadline=timedelta(seconds=0.05))
    print("at work", flush=True)
    while True:
        crew.run("mow", now=True)


if __name__ == "__main__":
    main()
