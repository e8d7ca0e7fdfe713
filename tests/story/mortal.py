"""A process that sweeps and is killed in the middle: usage: mortal.py URL JOB BATCHES (0: it lives to the end) [STOP].

Where it is to STOP, it is frozen instead, and says how its run ended once somebody has thawed it.
"""

import os
import signal
import subprocess
import sys
from datetime import timedelta

from nightcrew import Nightcrew, Settings

LEASE = 1.5
"""Seconds of the lease of the one that is killed or frozen; who takes over has an ordinary one."""
JOBS = {
    "erase-users": {"table": "users", "column": "left_at", "pace": "fast"},
    # revoked_at may be NULL: the contended form, in batches small enough to die between
    "sweep-tokens": {"table": "tokens", "column": "revoked_at"},
    "sweep-fast": {"table": "tokens", "column": "left_at", "pace": "fast"},
}


def crew_with(job: str, url: str, listeners=(), lease=60.0, **terms) -> Nightcrew:
    """Return a crew with one of the jobs, over its table and whatever hangs on that."""
    crew = Nightcrew(url, settings=Settings(), listeners=listeners, lease=lease)
    crew.expire(job, **{**JOBS[job], **terms}, older_than=timedelta(days=1), schedule="0 0 1 1 *", max_fraction=1)
    return crew


def kill_in(job: str, url: str, batches: int) -> None:
    """Run a job in another process, which dies right after so many batches."""
    line = [sys.executable, __file__, url, job, str(batches)]
    killed = subprocess.run(line, check=False, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr


def frozen_in(job: str, url: str, batches: int) -> "subprocess.Popen[str]":
    """Run a job in another process, and return it once it is frozen right after so many batches."""
    line = [sys.executable, __file__, url, job, str(batches), "STOP"]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED)
    return process


def main() -> None:
    url, job, batches = sys.argv[1], sys.argv[2], int(sys.argv[3])
    end, seen = signal.SIGSTOP if sys.argv[4:] == ["STOP"] else signal.SIGKILL, []

    def die(entry) -> None:
        if entry.kind == "batch":
            seen.append(entry)
            if len(seen) == batches:
                os.kill(os.getpid(), end)

    print(crew_with(job, url, [die], LEASE).run(job, trigger="http").outcome, flush=True)


if __name__ == "__main__":
    main()
