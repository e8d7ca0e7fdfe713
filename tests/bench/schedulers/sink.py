"""Where every program notes what it ran: one line for each run, with the second it was due in and when it ran."""

import os
import sys
import time

URL, JOBS = sys.argv[1], int(sys.argv[3])
_FILE = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def note(job: int, due: float | None = None) -> None:
    """Note that a job ran; who is not told which second it was due in takes the one it is."""
    now = time.time()
    os.write(_FILE, f"{job} {int(now if due is None else due)} {now:.4f}\n".encode())
