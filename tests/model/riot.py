"""Nodes with wrong clocks are killed and frozen at random, against a short lease, while their database restarts."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from tests.model.account import accounted
from tests.model.node import BATCHES, Rioter, effects

from nightcrew.databases.tables import entries, runs
from nightcrew.errors import NightcrewError
from nightcrew.outcome import State

NODE = Path(__file__).with_name("node.py")
LEASE = 0.6
SERVED, SHARED = (0.0, 300.0, -300.0, 0.0), (300.0, 300.0, 0.0, -300.0)
"""How wrong each node's clock is; one file's nodes take their time from themselves, so that two must agree to meet."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What came of it."""

    kills: int
    freezes: int
    restarts: int
    slots: int
    taken_over: int
    states: Counter[str]
    doubled: int
    lost: int
    halved: int

    def __str__(self) -> str:
        told = ", ".join(f"{number:,} {state}" for state, number in sorted(self.states.items()))
        return (
            f"{self.kills} kills, {self.freezes} freezes, {self.restarts} restarts; {self.slots:,} slots"
            f" ({told}); {self.taken_over} take-overs; {self.doubled} batches doubled, {self.lost} slots lost,"
            f" {self.halved} done without all their batches"
        )


def riot(url: str, seconds: float, seed: int, restart: Callable[[], None] | None = None) -> Figures:
    """Let four nodes work that long while they are killed and frozen; restart the database twice, if that can be."""
    ahead = SHARED if url.startswith("sqlite") else SERVED
    last = Rioter(url, LEASE, max(ahead) if url.startswith("sqlite") else 0.0)
    last.migrate()
    with last._station.link.transaction() as connection:
        connection.execute(sa.schema.CreateTable(effects))
    last.status()
    chance, counts = random.Random(seed), Counter[str]()
    line = [sys.executable, str(NODE), url, str(LEASE)]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as nest:
        nodes = {number: _born(nest, wrong) for number, wrong in enumerate(ahead)}
        begun = time.monotonic()
        restarts = [begun + seconds * part / 3 for part in (1, 2)] if restart else []
        frozen: dict[int, float] = {}
        while (now := time.monotonic()) < begun + seconds:
            for process in [process for process, until in frozen.items() if until < now]:
                os.kill(process, signal.SIGCONT)
                del frozen[process]
            if restarts and restarts[0] < now:
                restarts.pop(0)
                counts["restarts"] += 1
                restart()
            number = chance.choice(list(nodes))
            if counts.total() % 3 == 1:
                os.kill(nodes[number], signal.SIGKILL)
                frozen.pop(nodes[number], None)
                nodes[number] = _born(nest, ahead[number])
                counts["kills"] += 1
            elif nodes[number] not in frozen:
                os.kill(nodes[number], signal.SIGSTOP)
                frozen[nodes[number]] = now + chance.uniform(0.3, 2.5 * LEASE)
                counts["freezes"] += 1
            time.sleep(chance.uniform(0.1, 0.4))
        for process in nodes.values():
            os.kill(process, signal.SIGKILL)
        nest.stdin.close()
    _finish(last)
    figures = _account(last, counts)
    last.close()
    return figures


def _born(nest: subprocess.Popen[str], ahead: float) -> int:
    nest.stdin.write(f"{ahead}\n")
    nest.stdin.flush()
    return int(nest.stdout.readline())


def _finish(last: Rioter) -> None:
    """Let the leases of the dead run out, and end what they left."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            last.tick(trigger="ticker")
            if all(each.standing.run is None for each in last.status()):
                return
        except NightcrewError:
            time.sleep(0.2)
        time.sleep(LEASE / 3)
    raise AssertionError("a run sticks: a minute after the riot it is still open")


def _account(last: Rioter, counts: Counter[str]) -> Figures:
    books, slots, lost = last._station.books, 0, 0
    for each in last.status():
        known = accounted(books.runs(each.job.name, limit=1_000_000))
        passed = list(each.job.schedule.between(each.standing.epoch_at, each.standing.mark))
        slots += len(passed)
        lost += sum(not known(slot) for slot in passed)
    with last._station.link.transaction(writes=False) as connection:
        done = Counter(map(tuple, connection.execute(sa.select(effects.c.run, effects.c.batch))))
        states = Counter(connection.execute(sa.select(runs.c.state)).scalars())
        ended = connection.execute(sa.select(runs.c.id).where(runs.c.state == State.DONE)).scalars().all()
        taken = sa.select(sa.func.count()).select_from(entries).where(entries.c.kind == "taken_over")
        taken_over = connection.execute(taken).scalar_one()
    return Figures(
        counts["kills"],
        counts["freezes"],
        counts["restarts"],
        slots,
        taken_over,
        states,
        doubled=sum(times - 1 for times in done.values()),
        lost=lost,
        halved=sum(any((run, batch) not in done for batch in range(BATCHES)) for run in ended),
    )
