"""A machine or a disk that stands still, as virtual ones may for half a minute, tells nothing about the tests.

A thread sleeps and writes a file, and notes by how much it comes too late. A test that fails while that took longer
than any lease and any patience of the tests is played once more, and the report says so; one that fails twice has
failed.
"""

import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol

_NAP = 0.2
_STILL = 2.0  # seconds; the shortest leases of the tests are shorter, and no scheduler is so late

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

_stalls: list[tuple[float, float]] = []
_folder = tempfile.TemporaryDirectory(prefix="stalls-")


def _watch() -> None:
    before, file = time.clock_gettime(_CLOCK), Path(_folder.name) / "file"
    while True:
        time.sleep(_NAP)
        with suppress(OSError):  # the folder is gone where the tests are over
            file.write_bytes(b"")
            file.unlink()
        now = time.clock_gettime(_CLOCK)
        if now - before > _NAP + _STILL:
            _stalls.append((before, now))
        before = now


threading.Thread(target=_watch, name="stalls", daemon=True).start()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    """Play a test again that failed while the machine stood still."""
    began = time.clock_gettime(_CLOCK)
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    reports = runtestprotocol(item, nextitem=nextitem, log=False)
    still = sum(end - start for start, end in list(_stalls) if end > began)
    if still and any(report.failed for report in reports):
        item._initrequest()
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
        said = f"the machine stood still for {still:.0f} s the first time that it was played"
        for report in reports:
            report.sections.append(("Played again", said))
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True
