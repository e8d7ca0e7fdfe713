"""A workflow of GitHub Actions: each job on its schedule, and by hand.

GitHub runs no schedule more often than every 5 minutes, and is busiest as an hour begins: what is due then may be late
or left out, so that each job has a minute of its own, later than its slot. Schedules run on the default branch only,
and are switched off in a public repository after 60 days without activity.
"""

import json
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from hashlib import sha256

from nightcrew.errors import ScheduleError
from nightcrew.exporters import block
from nightcrew.exporters.exporter import HEADER, Call, Command, Export, File, Way, drawn
from nightcrew.job import Job
from nightcrew.spelling import Line, zoned

PATH = ".github/workflows/nightcrew.yml"
_SHORTEST = timedelta(minutes=5)
_LATEST = 29  # minutes past its slot that a job is called at most
_MINUTES = {Call: 5, Command: 60}  # after which GitHub ends a job
_DEADLINE = "50m"  # of a command, which then keeps what it has done


def workflow(jobs: Sequence[Job], way: Way, moment: datetime, path: str, command: str, image: str | None) -> Export:
    """Return the workflow; a command runs in a container of the image."""
    found = drawn("GitHub Actions", jobs, lambda job: [_late(job, line) for line in zoned(job.schedule, moment)])
    text = "".join(f"{line}\n" for line in _lines(found, way, image))
    notes = (
        *(f"gh secret set {variable}" for variable in way.variables),
        "schedules run on the default branch, and end in a public repository where nothing has happened for 60 days",
    )
    return Export((File(path, partial(block.merged, path, text, command)),), notes)


def _late(job: Job, line: Line) -> Line:
    """Return the line some minutes later, within the time to its next slot: which ones, the job's name decides."""
    if line.gap < _SHORTEST:
        raise ScheduleError(f"{line.expression!r} is more often than every 5 minutes, as GitHub does not call")
    room = min(_LATEST, 59 - max(line.minutes), line.gap // timedelta(minutes=1) - 1)
    if 0 not in line.minutes or room < 1:
        return line
    return line.later(1 + int.from_bytes(sha256(job.name.encode()).digest()[:4], "big") % room)


def _lines(found: Sequence[tuple[Job, list[Line]]], way: Way, image: str | None) -> Iterator[str]:
    yield from ("name: nightcrew", "on:", "  schedule:")
    for line in dict.fromkeys(line for _, times in found for line in times):
        names = ", ".join(job.name for job, times in found if line in times)
        yield f"    - cron: {json.dumps(line.expression)} # {names}"
        if line.timezone != "UTC":
            yield f"      timezone: {json.dumps(line.timezone)}"
    yield from ("  workflow_dispatch:", "    inputs:", "      job:", "        description: The job to run")
    yield from ("        type: choice", "        required: true", "        options:")
    yield from (f"          - {json.dumps(job.name)}" for job, _ in found)
    yield from ("permissions: {}", "jobs:")
    for job, times in found:
        named = dict.fromkeys(line.expression for line in times)
        due = [*(f"github.event.schedule == '{each}'" for each in named), f"inputs.job == '{job.name}'"]
        yield f"  job-{job.name}:"
        yield f"    name: {json.dumps(job.name)}"
        yield f"    if: {' || '.join(due)}"
        yield "    runs-on: ubuntu-latest"
        yield f"    timeout-minutes: {_MINUTES[type(way)]}"
        yield f"    concurrency: {{ group: nightcrew-{job.name}, cancel-in-progress: false }}"
        yield from _called(job, way) if isinstance(way, Call) else _run(job, way, image)


def _called(job: Job, way: Call) -> Iterator[str]:
    yield from ("    steps:", f"      - name: Call {way.url(job)}", "        env:")
    yield from ("          CRON_SECRET: ${{ secrets.CRON_SECRET }}", "        run: |")
    yield f"          printf '{HEADER}' \"$CRON_SECRET\" |"
    yield f"            curl --config - {way.curl} --retry 2 {way.url(job)}"


def _run(job: Job, way: Command, image: str | None) -> Iterator[str]:
    yield from (f"    container: {{ image: {json.dumps(image)} }}", "    steps:")
    yield from (f"      - name: Run {job.name}", "        env:")
    yield from (f"          {name}: ${{{{ secrets.{name} }}}}" for name in way.variables)
    yield f"        run: {' '.join(way.words(job, '--deadline', _DEADLINE))}"
