"""A process for a riot: it forks nodes on demand, each with its own clock and a ticker; usage: node.py URL LEASE.

A line on its input is how many seconds the clock of the next node is wrong; it answers with the node's process number.
"""

import os
import random
import signal
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from functools import partial

import sqlalchemy as sa

from nightcrew import Job, Nightcrew, Settings, every
from nightcrew.clock import SystemClock
from nightcrew.errors import DatabaseError

JOBS = 6
BATCHES = 4
effects = sa.Table(
    "effects",
    sa.MetaData(),
    sa.Column("run", sa.String(150)),
    sa.Column("batch", sa.Integer),
    sa.Column("fence", sa.Integer),
)


class Wrong(SystemClock):
    """A clock that is so many seconds ahead."""

    def __init__(self, ahead: float) -> None:
        self._ahead = timedelta(seconds=ahead)

    def now(self) -> datetime:
        """Return what it takes for the time."""
        return datetime.now(UTC) + self._ahead


class Rioter(Nightcrew):
    """A crew whose jobs work as a sweep does: the fence, the work and its account in one transaction."""

    def __init__(self, url: str, lease: float, ahead: float) -> None:
        super().__init__(url, settings=Settings(), clock=Wrong(ahead), lease=lease)
        self._claim = threading.local()
        for number in range(JOBS):
            catch_up = "all" if number % 2 else "latest"
            self.add(Job(f"job-{number}", every("1 second"), function=self.work, catch_up=catch_up))

    def _carry_out(self, claim, budget):
        self._claim.now = claim
        return super()._carry_out(claim, budget)

    def hand_out(self, *, start, stop, hands=None):
        """Let each work know its claim: a function is not told of it."""

        def work(one) -> None:
            self._claim.now = one.args[0]
            one()

        return [partial(work, one) for one in super().hand_out(start=start, stop=stop, hands=hands)]

    def work(self, run) -> None:
        """Do what is left of a run's batches; a database that is away is waited for, as a sweep does.

        It never asks whether it should stop: all that keeps it from a batch of somebody else is the fence.
        """
        link, books, patience, done = self._station.link, self._station.books, time.monotonic() + 20, None
        while done is None or done < BATCHES:
            try:
                if done is None:
                    losses, done = link.losses, books.progress(run.id)[0].cursor.get("batch", 0)
                elif self.batch(run, done, losses):
                    done += 1
                else:
                    done = None
            except DatabaseError as error:
                if not error.transient or time.monotonic() > patience:
                    raise
                done = None  # its commit may have arrived
                time.sleep(0.1)
            time.sleep(random.uniform(0.02, 0.12))

    def batch(self, run, number: int, losses: int) -> bool:
        """Do a batch, unless the claim is somebody else's by now, or batches before may be undone, which it says."""
        claim, books, link = self._claim.now, self._station.books, self._station.link
        with link.transaction(repeatable=True) as connection:
            books.hold(connection, run.job, claim.fence)
            if link.losses != losses:
                return False
            time.sleep(random.uniform(0, 0.01))
            connection.execute(sa.insert(effects).values(run=run.id, batch=number, fence=claim.fence))
            books.append(connection, run.id, "batch", {"cursor": {"batch": number + 1}, "total": {}})
        return True


def main() -> None:
    url, lease = sys.argv[1], float(sys.argv[2])
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        number = os.fork()
        if number == 0:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            Rioter(url, lease, float(line)).start()
            while True:
                signal.pause()
        print(number, flush=True)


if __name__ == "__main__":
    main()
