"""A process that waits to be asked for others, which do all that happens to rows, frames, debts and blobs without end.

Usage: python -m tests.model.chain URL UPLOADS VAULT. It has loaded all code, so that each of them is at work as soon
as it is forked. Somebody kills them.
"""

import os
import random
import sys
from contextlib import suppress
from datetime import timedelta

import sqlalchemy as sa
from tests.model.archivist import KEY, undo
from tests.model.reaper import BLOBS

from nightcrew import Nightcrew, Settings
from nightcrew.archives.upkeep import UPKEEP
from nightcrew.outbox import NAME
from nightcrew.stores.disk import Disk


def crew_of_the_chain(url: str, uploads: str, vault: str) -> Nightcrew:
    """Return a crew with one job that takes users with their files: rows to the archive, and their blobs later on."""
    stores = {"uploads": Disk(uploads), "vault": Disk(vault)}
    crew = Nightcrew(url, settings=Settings(archive_key=KEY), lease=0.3, blobs=stores, archive="vault")
    terms = {"older_than": timedelta(days=1), "every": "1 day", "pace": "fast", "max_fraction": 1, "pause_after": 0}
    crew.expire("reap", "users", column="left_at", blobs=BLOBS, archive=timedelta(days=7), **terms)
    return crew


def work(url: str, uploads: str, vault: str) -> None:
    """Sweep, put back what some run took, delete as an application does, settle, and keep up the archive."""
    crew = crew_of_the_chain(url, uploads, vault)
    engine = sa.create_engine(crew._station.link.engine.url)
    chance = random.Random()
    while True:
        crew.run("reap", now=True, deadline=timedelta(seconds=chance.uniform(0, 0.2)))
        if chance.random() < 0.5:
            undo(crew, engine, chance)
        delete(crew, engine, chance)
        crew.run(NAME, now=True, deadline=timedelta(seconds=chance.uniform(0, 0.2)))
        if chance.random() < 0.3:
            crew.run(UPKEEP, now=True)


def delete(crew: Nightcrew, engine: sa.Engine, chance: random.Random) -> None:
    """Delete some files for good, write down which, and owe their blobs: all of it in one transaction, or nothing."""
    these = f"WHERE id % 97 = {chance.randrange(97)}"
    with suppress(sa.exc.DBAPIError), engine.begin() as connection:
        some = f"SELECT id, blob_key FROM files {these}{' FOR UPDATE' * (engine.dialect.name != 'sqlite')}"
        for number, key in connection.execute(sa.text(some)).all():
            if connection.exec_driver_sql(f"DELETE FROM files WHERE id = {number}").rowcount:
                connection.exec_driver_sql(f"INSERT INTO gone VALUES ({number})")
                crew.owe(connection, "uploads", [key])


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
