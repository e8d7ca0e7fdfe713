"""A process that waits to be asked for others, which erase person after person: usage: eraser.py URL FOLDER WAY.

WAY is by hand, one after another, or by job, whose runs take whoever has left.

It has loaded all code, so that each of them is at work as soon as it is forked. Somebody kills them.
"""

import os
import sys
import time
from contextlib import suppress

import sqlalchemy as sa

from nightcrew import Nightcrew, Settings
from nightcrew.errors import SafetyStop
from nightcrew.stores.disk import Disk

KEY = "an erasure key of a model"
STORES = ("uploads", "exports")
PACE = {"pace": "fast", "max_fraction": 1}
TERMS = {
    "erase": True,
    "links": ["visits.user_id"],
    "blobs": [{"store": "uploads", "table": "files", "column": "blob_key"}],
    "traces": [{"store": "exports", "keys": "users/{id}/*"}, {"store": "exports", "keys": "mail/{email}"}],
}


def crew_that_erases(url: str, folder: str) -> Nightcrew:
    """Return a crew with one job that erases users, and stores in the folders of one."""
    places = {name: {"url": Disk(f"{folder}/{name}")} for name in STORES}
    crew = Nightcrew(url, settings=Settings(erasure_key=KEY), lease=0.3, blobs=places, erasures=Disk(f"{folder}/vault"))
    crew.expire("erase", "users", column="left_at", every="1 day", pause_after=0, **PACE, **TERMS)
    return crew


def run(url: str, folder: str) -> None:
    """Let the job erase them, run after run, as if its slots were due one after another."""
    crew = crew_that_erases(url, folder)
    while True:
        crew.run("erase", now=True)
        time.sleep(0.02)


def erase(url: str, folder: str) -> None:
    """Erase one after another, by hand; those that were begun and have no row any more, too."""
    crew = crew_that_erases(url, folder)
    for person in people(crew):
        with suppress(SafetyStop):  # whoever was killed may still hold the row
            crew.erase(person, by="somebody")
    os._exit(0)


def people(crew: Nightcrew) -> list[str]:
    """Return whose row is there, or whose erasure was begun."""
    with crew._station.link.transaction(writes=False) as connection:
        rows = [str(n) for n in connection.execute(sa.text("SELECT id FROM users ORDER BY id")).scalars()]
    begun = [one.facts["values"]["id"] for one in crew._station.erasures.under_way("erase", 1_000)]
    return list(dict.fromkeys((*begun, *rows)))


WAYS = {"hand": erase, "job": run}


def main() -> None:
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            WAYS[sys.argv[3]](*sys.argv[1:3])
        print(child, flush=True)
        os.waitpid(child, 0)
        print("dead", flush=True)


if __name__ == "__main__":
    main()
