"""A process that waits to be asked for others, which sweep, delete and settle without end: usage: reaper.py URL FOLDER.

It has loaded all code, so that each of them is at work as soon as it is forked. Somebody kills them.
"""

import os
import random
import sys
from datetime import timedelta

import sqlalchemy as sa

from nightcrew import Nightcrew, Settings
from nightcrew.outbox import NAME
from nightcrew.stores.disk import Disk

BLOBS = [
    {"store": "uploads", "table": "users", "column": "avatar"},
    {"store": "uploads", "table": "files", "column": "blob_key"},
]


def crew_that_reaps(url: str, folder: str) -> Nightcrew:
    """Return a crew with one job that takes users with their files, and a store of these."""
    crew = Nightcrew(url, settings=Settings(), lease=0.3, blobs={"uploads": Disk(folder)})
    terms = {"older_than": timedelta(days=1), "every": "1 day", "pace": "fast", "max_fraction": 1, "blobs": BLOBS}
    crew.expire("reap", "users", column="left_at", **terms)
    return crew


def reap(url: str, folder: str) -> None:
    """Sweep, delete as an application does, and settle."""
    crew = crew_that_reaps(url, folder)
    engine = sa.create_engine(crew._station.link.engine.url)
    chance = random.Random()
    while True:
        crew.run("reap", now=True, deadline=timedelta(seconds=chance.uniform(0, 0.1)))
        delete(crew, engine, chance)
        crew.run(NAME, now=True, deadline=timedelta(seconds=chance.uniform(0, 0.2)))


def delete(crew: Nightcrew, engine: sa.Engine, chance: random.Random) -> None:
    """Delete some files as an application does: the row and the debt in one transaction, or neither."""
    try:
        with engine.begin() as connection:
            some = connection.execute(
                sa.text("SELECT id, blob_key FROM files WHERE id % 97 = :n"), {"n": chance.randrange(97)}
            )
            for number, key in some.all():
                connection.exec_driver_sql(f"DELETE FROM files WHERE id = {number}")
                crew.owe(connection, "uploads", [key])
            if chance.random() < 0.3:
                connection.rollback()
    except sa.exc.DBAPIError:
        pass  # a deadlock, a busy file: nothing was done


def main() -> None:
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            reap(*sys.argv[1:])
        print(child, flush=True)
        os.waitpid(child, 0)
        print("dead", flush=True)


if __name__ == "__main__":
    main()
