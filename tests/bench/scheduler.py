"""200 jobs that are due every second, beside other schedulers; and 10 000 jobs of which none is due."""

import importlib.util
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from tests.bench.server import fresh_database

from nightcrew import Job, Nightcrew, Settings, cron

JOBS, MANY = 200, 10_000
SECONDS, WARM, DEAD = 20, 6, 10  # of measuring, of starting, and between a kill and what comes after it
IDLE = 60  # seconds; one look at every job in five minutes is not among them
PEERS = ("nightcrew", "apscheduler", "celery", "procrastinate")
_TICK = os.sysconf("SC_CLK_TCK")
_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Told:
    """What a program noted within the seconds that were measured."""

    lost: int
    doubled: int
    late: list[float]
    cpu: float | None = None

    def __str__(self) -> str:
        spread = statistics.quantiles(self.late, n=100) if len(self.late) > 1 else [0.0] * 99
        cpu = "" if self.cpu is None else f", {self.cpu / len(self.late or [0]) * 1000:.2f} CPU s per 1,000 slots"
        late = f"late p50 {spread[49] * 1000:.0f} ms, p99 {spread[98] * 1000:.0f} ms"
        return f"{self.lost} lost, {self.doubled} doubled, {late}{cpu}"


def measure() -> dict[str, Any]:
    """Return what each scheduler lost and doubled, how late it was and what it cost; and what idling costs."""
    found: dict[str, Any] = {"idle": idle()}
    for package in PEERS:
        program = f"{package}_"  # beside the package of that name
        if importlib.util.find_spec(package) is None:
            print(f"{package}: NOT INSTALLED, so not measured: .venv/bin/python -m pip install --group bench")
            continue
        found[package] = {"one": alone(program, 1), "two": alone(program, 2), "killed": killed(program)}
        one, two, (missed, late) = found[package].values()
        print(f"{package}: one process {one}; two processes {two.lost} lost, {two.doubled} doubled; ", end="")
        print(f"killed for {DEAD} s: of {missed:,} missed slots {late:,} run later")
    return found


def idle() -> dict[str, float]:
    """Return how many statements a look at many jobs takes when nothing is due, and the share of a core it takes."""
    with fresh_database() as url, tempfile.TemporaryDirectory() as folder:
        crew = Nightcrew(url, settings=Settings())
        for number in range(MANY):
            crew.add(Job(f"job-{number}", cron(f"{number % 60} {number % 24} 1 1 *"), function=lambda run: 0))
        crew.migrate()
        begun = time.perf_counter()
        crew.due(trigger="ticker", start=True)
        registered, statements = time.perf_counter() - begun, []
        sa.event.listen(crew._station.link.engine, "before_cursor_execute", lambda *said: statements.append(said[2]))
        time.sleep(0.5)
        crew.due(trigger="ticker")
        looks = len(statements)
        crew.close()
        with running("nightcrew_idle", url, Path(folder) / "sink", MANY) as processes:
            time.sleep(4 * WARM)
            before = _cpu(processes)
            time.sleep(IDLE)
            share = (_cpu(processes) - before) / IDLE
    print(
        f"{MANY:,} jobs: registered and looked at in {registered:.1f} s; a tick with nothing due takes {looks}"
        f" statements, and a process that idles {100 * share:.2f} % of a core"
    )
    return {"statements": looks, "share": share, "registered_s": registered}


def alone(program: str, number: int) -> Told:
    """Let so many processes run the jobs, and return what they noted."""
    with fresh_database() as url, tempfile.TemporaryDirectory() as folder:
        sink = Path(folder) / "sink"
        with running(program, url, sink, JOBS, number) as processes:
            time.sleep(WARM)
            begin, before = int(time.time()) + 1, _cpu(processes)
            time.sleep(SECONDS)
            spent = _cpu(processes) - before
            time.sleep(2)
        return read(sink, begin, SECONDS - 2, spent * (SECONDS - 2) / SECONDS)


def killed(program: str) -> tuple[int, int]:
    """Kill the process, come back later, and return how many slots were missed and how many of them run after all."""
    with fresh_database() as url, tempfile.TemporaryDirectory() as folder:
        sink = Path(folder) / "sink"
        with running(program, url, sink, JOBS):
            time.sleep(WARM)
        begin = int(time.time()) + 1
        time.sleep(DEAD)
        with running(program, url, sink, JOBS):
            time.sleep(2 * WARM)
        return DEAD * JOBS, JOBS * DEAD - read(sink, begin - 1, DEAD).lost


def read(sink: Path, begin: int, seconds: int, cpu: float | None = None) -> Told:
    """Read what was due within some seconds."""
    runs, late = Counter[tuple[str, int]](), []
    for line in sink.read_text().splitlines():
        job, due, ran = line.split()
        if begin <= int(due) < begin + seconds:
            runs[job, int(due)] += 1
            late.append(float(ran) - int(due))
    return Told(seconds * JOBS - len(runs), sum(runs.values()) - len(runs), late, cpu)


@contextmanager
def running(program: str, url: str, sink: Path, jobs: int, number: int = 1) -> Iterator[Sequence[int]]:
    """Run a program in so many processes, and kill them in the end."""
    line = [sys.executable, "-m", f"tests.bench.schedulers.{program}", url, str(sink), str(jobs)]
    lines = [line] * number + ([[*line, "worker"]] if program == "celery_" else [])
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": _ROOT}
    processes = [subprocess.Popen(each, start_new_session=True, **quiet) for each in lines]
    try:
        yield [process.pid for process in processes]
    finally:
        for process in processes:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _cpu(sessions: Sequence[int]) -> float:
    """Return the CPU seconds that processes have taken, with all that they have started."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) in sessions:
            ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICK
