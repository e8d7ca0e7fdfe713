"""A service and a timer of systemd for each job: caught up with after a time without power, and locked in.

Calendars are those of systemd.time(7): weekdays and dates that stand together have to come together, “~” counts from
the end of a month. A time that clocks leap over is left out, one that comes twice runs the first time, a wildcard, too:
so these are in UTC.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import PurePath

from nightcrew.errors import ScheduleError
from nightcrew.exporters import block
from nightcrew.exporters.exporter import HEADER, KEYS, Call, Export, File, Way, drawn, leaps
from nightcrew.job import Job
from nightcrew.pattern import LAST, Pattern
from nightcrew.schedule import Cron, Every, Schedule
from nightcrew.spelling import Line, zoned

PATH = "systemd"
_SECOND = timedelta(seconds=1)
_WEEKDAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")
_SANDBOX = """\
DynamicUser=yes
NoNewPrivileges=yes
CapabilityBoundingSet=
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHome=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
UMask=0077
"""


def units(jobs: Sequence[Job], way: Way, moment: datetime, path: str, command: str, folder: str) -> Export:
    """Return the units as files in a folder of their own; a command is run in `folder`."""
    files: list[File] = []
    for job, timer in drawn("systemd", jobs, lambda job: _timer(job, moment)):
        for kind, text in (("timer", timer), ("service", _service(job, way, folder))):
            name = str(PurePath(path) / f"nightcrew-{job.name}.{kind}")
            files.append(File(name, partial(block.merged, name, text, command)))
    notes = *_notes(jobs, way, path), *leaps("systemd", jobs, moment)
    return Export(tuple(files), notes, ("nightcrew-*.timer", "nightcrew-*.service"))


def _timer(job: Job, moment: datetime) -> str:
    when = "".join(f"OnCalendar={each}\n" for each in calendars(job.schedule, moment))
    return (
        f"[Unit]\nDescription=nightcrew: when {job.name} is due\n\n[Timer]\n{when}"
        "Persistent=true\nAccuracySec=1s\n\n[Install]\nWantedBy=timers.target\n"
    )


def _service(job: Job, way: Way, folder: str) -> str:
    if isinstance(way, Call):
        seconds = int(way.patience.total_seconds()) + 10
        todo = f"ExecStart=/usr/bin/curl --config %d/curl {way.curl} {way.url(job)}\nLoadCredential=curl:{KEYS}/curl\n"
    else:
        seconds = 0
        keys = "".join(
            f"LoadCredential={name}:{KEYS}/{name}\nEnvironment={name}_FILE=%d/{name}\n" for name in way.variables
        )
        todo = f"WorkingDirectory={folder}\nExecStart={' '.join(way.words(job))}\n{keys}"
    return (
        f"[Unit]\nDescription=nightcrew: {job.name}\nWants=network-online.target\nAfter=network-online.target\n\n"
        f"[Service]\nType=oneshot\nTimeoutStartSec={seconds or 'infinity'}\nTimeoutStopSec=60\n{todo}{_SANDBOX}"
    )


def _notes(jobs: Sequence[Job], way: Way, path: str) -> Iterator[str]:
    yield f"sudo cp {path}/nightcrew-* /etc/systemd/system/ && sudo systemctl daemon-reload"
    yield "sudo systemctl enable --now " + " ".join(f"nightcrew-{job.name}.timer" for job in jobs)
    if isinstance(way, Call):
        yield f"sudo install -D -m 600 /dev/null {KEYS}/curl"
        yield f"printf '{HEADER}' \"$CRON_SECRET\" | sudo tee {KEYS}/curl > /dev/null"
    else:
        for name in way.variables:
            yield f"sudo install -D -m 600 /dev/null {KEYS}/{name}"
            yield f'printf %s "${name}" | sudo tee {KEYS}/{name} > /dev/null'


def calendars(schedule: Schedule, moment: datetime) -> Iterator[str]:
    """Yield the calendars that have a schedule's slots together; raises ScheduleError where none have."""
    if isinstance(schedule, Every) and _within_a_minute(schedule):
        yield f"*-*-* *:*:{_numbers(range(schedule.phase // _SECOND, 60, schedule.period // _SECOND))} UTC"
        return
    try:
        found = zoned(schedule, moment)
    except ScheduleError:
        if not isinstance(schedule, Cron):
            raise
        clock = _clock(sorted(schedule.pattern.hours), sorted(schedule.pattern.minutes))
        for days in _dates(schedule, schedule.pattern):  # those that only some crons know
            yield f"{days} {clock} {schedule.timezone}"
        return
    for line in found:
        yield f"{_days(line)} {_clock(line.hours, line.minutes)} {line.timezone}"


def _within_a_minute(schedule: Every) -> bool:
    """Tell whether every minute has the same slots, at whole seconds."""
    whole = all(length % _SECOND == timedelta(0) for length in (schedule.period, schedule.phase))
    return whole and timedelta(minutes=1) % schedule.period == timedelta(0)


def _dates(schedule: Cron, pattern: Pattern) -> Iterator[str]:
    months = "*" if len(pattern.months) == 12 else _numbers(pattern.months)
    numbers = frozenset(range(1, 32)) if pattern.either else pattern.days - {LAST}
    if pattern.either or len({which for which in pattern.weekdays if which[1] != LAST}) == 35:
        if dates := pattern.days - {LAST}:
            yield f"*-{months}-{_numbers(dates)}"
        if LAST in pattern.days:
            yield f"*-{months}~01"
        if not pattern.either:
            return
    for weekday, nth in sorted(pattern.weekdays):
        if nth != LAST:
            if week := numbers.intersection(range(7 * nth - 6, min(7 * nth, 31) + 1)):
                yield f"{_WEEKDAYS[weekday]} *-{months}-{_numbers(week)}"
        elif len(numbers) == 31:
            yield f"{_WEEKDAYS[weekday]} *-{months}~07/1"
        else:
            raise ScheduleError(f"schedule {schedule.expression!r} has a last weekday that falls on some dates only")
    if LAST in pattern.days and len(numbers) < 31:
        raise ScheduleError(f"schedule {schedule.expression!r} has weekdays that fall on the last day of a month")


def _days(line: Line) -> str:
    weekdays = "" if len(line.weekdays) == 7 else ",".join(_WEEKDAYS[day] for day in line.weekdays) + " "
    months = "*" if len(line.months) == 12 else _numbers(line.months)
    return f"{weekdays}*-{months}-{'*' if len(line.days) == 31 else _numbers(line.days)}"


def _clock(hours: Sequence[int], minutes: Sequence[int]) -> str:
    return f"{'*' if len(hours) == 24 else _numbers(hours)}:{'*' if len(minutes) == 60 else _numbers(minutes)}:00"


def _numbers(values: Iterable[int]) -> str:
    return ",".join(f"{value:02}" for value in sorted(values))
