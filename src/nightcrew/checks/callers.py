"""NC205 and NC210: whether those who call from outside go by the schedules of the jobs."""

import json
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from nightcrew.caller import agrees
from nightcrew.checks.check import Check, Finding, Patient, problem, warning
from nightcrew.job import ROUTES, Job
from nightcrew.schedule import Cron

_YEAR = timedelta(days=366)
_VERCEL = Path("vercel.json")
_CRONTABS = ("nightcrew.crontab", "crontab")
_LINE = re.compile(rf"^\s*((?:[^\s#]+\s+){{5}})(?:\S+\s+)?.*?(?:{ROUTES}/|nightcrew .*?\brun )([a-z0-9-]+)")
_LEAKED = re.compile(r"(?:Bearer\s+|x-cron-secret:\s*|[?&]secret=)(?!\$|%s)[A-Za-z0-9]{8,}", re.IGNORECASE)


def _drift(patient: Patient) -> Iterator[Finding]:
    """NC205: files of other schedulers, beside the configuration, that say another time than the job."""
    by_path = {path: job for job in patient.jobs.values() for path in (job.route, job.path) if path}
    for path, expression, zone in _vercel(patient.folder / _VERCEL):
        job = by_path.get(path.partition("?")[0].rstrip("/"))
        if job is None and path.startswith(f"{ROUTES}/"):
            says = f"vercel.json calls {path}, and there is no such job"
            yield problem(says, "the job has another name now, or is gone", "nightcrew export vercel --write")
        elif job is not None:
            yield from _said("vercel.json", job, expression, zone, patient.now, "vercel")
    for name in _CRONTABS:
        for expression, called in _crontab(patient.folder / name):
            job = patient.jobs.get(called)
            if job is not None:
                yield from _said(name, job, expression, None, patient.now, "crontab")  # of that machine's zone


def _said(file: str, job: Job, expression: str, zone: str | None, now: datetime, target: str) -> Iterator[Finding]:
    if not agrees(job.schedule, expression, now, zone):
        theirs = f"{expression!r} ({zone})" if zone else repr(expression)
        ours = f"{job.schedule.expression!r} ({job.schedule.timezone})"
        says = f"{file} says {theirs} of job {job.name!r}, and the job {ours}"
        yield warning(says, "one of the two was changed, and the other was not", f"nightcrew export {target} --write")


def _vercel(file: Path) -> Iterator[tuple[str, str, str]]:
    """Yield path, expression and zone of each entry; a file that is no JSON is its own tool's to complain of."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    if not isinstance(found, dict):
        return
    crons, schedules = found.get("crons"), found.get("schedules")
    entries = list(crons) if isinstance(crons, list) else []
    for entry in [*entries, *(schedules.values() if isinstance(schedules, dict) else ())]:
        if isinstance(entry, dict) and isinstance(entry.get("path"), str) and isinstance(entry.get("schedule"), str):
            yield entry["path"], entry["schedule"], str(entry.get("timezone", "UTC"))


def _crontab(file: Path) -> Iterator[tuple[str, str]]:
    """Yield expression and job of each line that calls, or runs, one."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return
    for line in text.splitlines():
        if found := _LINE.match(line):
            yield " ".join(found[1].split()), found[2]


def _leaks(patient: Patient) -> Iterator[Finding]:
    """NC206: a secret in a line that lists of processes, or a repository, show to others."""
    for name in (*_CRONTABS, str(_VERCEL), ".github/workflows/nightcrew.yml"):
        try:
            text = (patient.folder / name).read_text(encoding="utf-8")
        except (OSError, ValueError):
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if _LEAKED.search(line):
                says = f"line {number} of {name} holds what looks like a secret"
                cause = "whoever reads the file, or lists the processes, has it"
                yield problem(says, cause, "export CRON_SECRET=$(nightcrew secret new); and: nightcrew export --help")


def _leapt(patient: Patient) -> Iterator[Finding]:
    """NC210: slots that clocks leap over within a year."""
    for job in patient.jobs.values():
        if isinstance(job.schedule, Cron) and job.enabled:
            slot = next(job.schedule.leapt(patient.now, patient.now + _YEAR), None)
            if slot is not None:
                says = f"job {job.name!r} is due at a time that the clocks of {job.schedule.timezone} leap over"
                cause = f"on {slot:%Y-%m-%d} it runs at {slot:%H:%M}Z, and other schedulers leave it out"
                yield warning(says, cause, 'take an hour that every day has, or timezone = "UTC"')


CHECKS = (
    Check("NC205", "files of other schedulers agree with the jobs", _drift, static=True),
    Check("NC206", "no such file holds a secret", _leaks, static=True),
    Check("NC210", "no job is due at a time that clocks leap over", _leapt, static=True),
)
