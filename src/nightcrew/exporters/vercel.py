"""vercel.json: `crons`, or the newer `schedules`; Vercel calls a path of the application itself, by GET.

Limits and shapes are those that Vercel publishes: 100 crons a project, an expression of 9 to 256 characters in UTC, a
path of at most 512; on the plan Hobby a cron runs once a day at most, at any minute of its hour, or the deployment
fails. A schedule has a name, and a time zone of its own.
"""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import Any, TypeAlias

from nightcrew.errors import ScheduleError, UsageError
from nightcrew.exporters import splice
from nightcrew.exporters.exporter import Export, File, drawn, leaps
from nightcrew.job import ROUTES, Job
from nightcrew.spelling import Line, lines

PATH = "vercel.json"
_MOST = 100
_SHORTEST, _LONGEST = 9, 256  # characters of an expression
_KEYS: dict[str, type] = {"crons": list, "schedules": dict}
_Entries: TypeAlias = Sequence[tuple[str | None, dict[str, str]]]


def crons(jobs: Sequence[Job], moment: datetime, path: str, *, hobby: bool) -> Export:
    """Return the legacy `crons`, in UTC; for Hobby each time of day is a cron of its own."""
    instead = "let Vercel know time zones: --schedules"
    found = drawn("Vercel's crons", jobs, lambda job: _expressions(job, moment, hobby=hobby), instead)
    entries = [(None, {"path": job.route, "schedule": each}) for job, expressions in found for each in expressions]
    if len(entries) > _MOST:
        raise UsageError(f"these are {len(entries)} crons, and Vercel takes {_MOST} of a project: name fewer jobs")
    hourly = "on Hobby, Vercel calls at any minute of the hour; nightcrew runs the latest slot that is due by then"
    return Export((File(path, partial(_merged, path, "crons", entries, jobs)),), (hourly,) if hobby else ())


def schedules(jobs: Sequence[Job], moment: datetime, path: str) -> Export:
    """Return `schedules`, each in the job's own time zone."""
    entries: list[tuple[str | None, dict[str, str]]] = []
    for job, times in drawn("Vercel's schedules", jobs, lambda job: lines(job.schedule, moment)):
        for number, line in enumerate(times, 1):
            name = job.name if number == 1 else f"{job.name}-{number}"
            when = {"schedule": line.expression, "timezone": line.timezone}
            entries.append((name, {**when, "requestMethod": "GET", "path": job.route}))
    notes = [
        "schedules run in previews, too: see that a preview has a database and a CRON_SECRET of its own",
        *leaps("Vercel", jobs, moment),
    ]
    return Export((File(path, partial(_merged, path, "schedules", entries, jobs)),), tuple(notes))


def _expressions(job: Job, moment: datetime, *, hobby: bool) -> list[str]:
    found = [each for line in lines(job.schedule, moment, "UTC") for each in _of(line, hobby=hobby)]
    for each in found:
        if not _SHORTEST <= len(each) <= _LONGEST:
            raise ScheduleError(f"{each[:40]!r}… has {len(each)} characters, and Vercel takes {_LONGEST}")
    return found


def _of(line: Line, *, hobby: bool) -> Iterable[str]:
    if not hobby:
        return [line.expression]
    if not line.fixed:
        raise ScheduleError(f"{line.expression!r} is more than once a day, and on Hobby a deployment fails by it")
    return line.daily


def _ours(entry: Any, paths: set[str]) -> bool:
    """Tell whether an entry calls one of our routes, that of a job which is gone among them."""
    path = entry.get("path") if isinstance(entry, dict) else None
    if not isinstance(path, str):
        return False
    path = path.partition("?")[0]
    return path.startswith(f"{ROUTES}/") or path.rstrip("/") in paths


def _merged(path: str, key: str, entries: _Entries, jobs: Sequence[Job], before: str | None) -> str:
    """Return vercel.json with our entries; those of others, and all that is beside them, stay as they are."""
    text = before if before is not None and before.strip() else "{}\n"
    paths = {each for job in jobs for each in (job.route, job.path) if each}
    try:
        for each in _KEYS:  # whoever has changed from one to the other is not to be called by both
            text = _put(text, each, entries if each == key else (), paths)
    except ValueError as problem:
        raise UsageError(f"{path} is no JSON that entries can be put into ({problem}): correct it") from None
    return text


def _put(text: str, key: str, entries: _Entries, paths: set[str]) -> str:
    found = splice.member(text, key)
    if found is not None and not isinstance(found.value, _KEYS[key]):
        raise ValueError(f"its {key!r} are no {'array' if _KEYS[key] is list else 'object'}")
    if found is None and not entries:
        return text
    there = list(splice.items(text, found.start)) if found is not None else []
    kept = [(item.key, text[item.start : item.end]) for item in there if not _ours(item.value, paths)]
    if not entries and len(kept) == len(there):
        return text
    taken = {name for name, _ in kept if name is not None}.intersection(name for name, _ in entries if name)
    if taken:
        raise ValueError(f"its schedule {min(taken)!r} is of something else: rename that one")
    rows = [*kept, *((name, _row(entry)) for name, entry in entries)]
    return splice.put(text, key, _laid_out(key, rows, splice.indent(text))) if rows else splice.drop(text, key)


def _laid_out(key: str, rows: Sequence[tuple[str | None, str]], step: str) -> str:
    begin, end = "[]" if _KEYS[key] is list else "{}"
    lines = [f"{2 * step}{row if name is None else f'{json.dumps(name)}: {row}'}" for name, row in rows]
    return f"{begin}\n" + ",\n".join(lines) + f"\n{step}{end}"


def _row(entry: dict[str, str]) -> str:
    inside = ", ".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in entry.items())
    return f"{{ {inside} }}"
