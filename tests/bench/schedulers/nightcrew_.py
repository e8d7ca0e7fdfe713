"""nightcrew: a ticker in a process, with the ledger in the database."""

import gc
import signal

from tests.bench.schedulers.sink import JOBS, URL, note

from nightcrew import Job, Nightcrew, Settings, every


def work(number: int):
    """Return a job's function."""
    return lambda run: note(number, run.slot.timestamp())


crew = Nightcrew(URL, settings=Settings())
for number in range(JOBS):
    crew.add(Job(f"job-{number}", every("1 second"), function=work(number), catch_up="all"))
crew.migrate()
gc.freeze()  # as `nightcrew serve` does
crew.start()
signal.pause()
