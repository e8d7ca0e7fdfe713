"""A process that waits to be asked for others, which sweep and undo without end: usage: archivist.py URL FOLDER.

It has loaded all code, so that each of them is at work as soon as it is forked. Somebody kills them.
"""

import os
import random
import sys
from contextlib import suppress
from datetime import timedelta

import sqlalchemy as sa

from nightcrew import Nightcrew, Settings
from nightcrew.archives.upkeep import UPKEEP
from nightcrew.databases.tables import frames
from nightcrew.errors import DatabaseError, UsageError
from nightcrew.stores.disk import Disk

KEY = "ab" * 32


def crew_that_archives(url: str, folder: str) -> Nightcrew:
    """Return a crew with one job that takes users with their files, and an archive of these."""
    settings, stores = Settings(archive_key=KEY), {"vault": Disk(folder)}
    crew = Nightcrew(url, settings=settings, lease=0.3, blobs=stores, archive="vault")
    terms = {"older_than": timedelta(days=1), "every": "1 day", "pace": "fast", "max_fraction": 1, "pause_after": 0}
    crew.expire("reap", "users", column="left_at", erase=True, archive=timedelta(days=7), **terms)
    return crew


def work(url: str, folder: str) -> None:
    """Sweep, put back what some run took, delete as an application does, and keep up the archive."""
    crew = crew_that_archives(url, folder)
    engine = sa.create_engine(crew._station.link.engine.url)
    chance = random.Random()
    while True:
        crew.run("reap", now=True, deadline=timedelta(seconds=chance.uniform(0, 0.2)))
        undo(crew, engine, chance)
        delete(engine, chance)
        if chance.random() < 0.2:
            crew.run(UPKEEP, now=True)


def undo(crew: Nightcrew, engine: sa.Engine, chance: random.Random) -> None:
    """Put back the rows of one of the runs, or of some of its frames."""
    with engine.connect() as connection:
        runs = connection.execute(sa.select(frames.c.run).distinct()).scalars().all()
    if runs:
        last = chance.randrange(1, 5)
        seen = iter(range(100))
        with suppress(UsageError, DatabaseError):  # it is under way, or somebody holds a row
            crew.undo(chance.choice(runs), restore=True, stop=lambda: next(seen) == last)


def delete(engine: sa.Engine, chance: random.Random) -> None:
    """Delete some files for good, and write down which."""
    these = f"WHERE id % 97 = {chance.randrange(97)}"
    with suppress(sa.exc.DBAPIError), engine.begin() as connection:
        some = f"SELECT id FROM files {these}{' FOR UPDATE' * (engine.dialect.name != 'sqlite')}"
        for number in connection.execute(sa.text(some)).scalars().all():
            if connection.exec_driver_sql(f"DELETE FROM files WHERE id = {number}").rowcount:
                connection.exec_driver_sql(f"INSERT INTO gone VALUES ({number})")


def main() -> None:
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            work(*sys.argv[1:])
        print(child, flush=True)
        os.waitpid(child, 0)
        print("dead", flush=True)


if __name__ == "__main__":
    main()
