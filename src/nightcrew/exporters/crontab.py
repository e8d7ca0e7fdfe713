"""A file for /etc/cron.d: lines of Debian's cron(8), whose rule for clocks that leap is ours.

The file's name there must have no dot in it, a “%” ends a command unless a backslash stands before it, and all lines
are of the machine's own time zone.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import partial
from shlex import join, quote

from nightcrew.exporters import block
from nightcrew.exporters.exporter import HEADER, KEYS, Call, Export, File, Way, drawn
from nightcrew.job import Job
from nightcrew.spelling import lines

PATH = "nightcrew.crontab"
_CURL = f"{KEYS}/curl"


def crontab(
    jobs: Sequence[Job], way: Way, moment: datetime, path: str, command: str, *, zone: str, user: str, folder: str
) -> Export:
    """Return the file for a machine whose clock is of a zone; a command is run in a folder."""
    rows: list[str] = []
    instead = "say what the time zone of that machine is: --timezone"
    for job, times in drawn("crontab", jobs, lambda job: lines(job.schedule, moment, zone), instead):
        todo = _todo(job, way, folder).replace("%", r"\%")
        rows += [f"{line.expression}\t{user}\t{todo}" for line in times]
    text = "".join(f"{line}\n" for line in [*_head(zone), *rows])
    notes = tuple(_notes(way, path, user, folder, zone))
    return Export((File(path, partial(block.merged, path, text, command)),), notes)


def _head(zone: str) -> Iterator[str]:
    yield f"# These are times of {zone}, which has to be the time zone of this machine."
    yield "SHELL=/bin/sh"
    yield "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def _todo(job: Job, way: Way, folder: str) -> str:
    """Return what the shell runs; cron mails whatever it says, so that it says nothing where all is well."""
    if isinstance(way, Call):
        return f'said=$(curl --config {_CURL} {way.curl} {way.url(job)}) || {{ echo "$said"; exit 1; }}'
    return f"cd {quote(folder)} && {join(way.words(job))}"


def _notes(way: Way, path: str, user: str, folder: str, zone: str) -> Iterator[str]:
    yield f"sudo install -m 644 {quote(path)} /etc/cron.d/nightcrew"
    if isinstance(way, Call):
        yield f"sudo install -D -m 640 -g {user} /dev/null {_CURL}"
        yield f"printf '{HEADER}' \"$CRON_SECRET\" | sudo tee {_CURL} > /dev/null"
    else:
        yield f"what the command needs is read from {folder}/nightcrew.toml, and from {folder}/.env beside it"
    yield f"timedatectl show -p Timezone  # is to say {zone}"
