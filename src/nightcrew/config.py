"""nightcrew.toml → Jobs, with errors that name file, line and the fix."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time
from inspect import signature
from pathlib import Path
from typing import Any

from nightcrew import document, duration, settings
from nightcrew.crew import Nightcrew
from nightcrew.document import Document, Lookup
from nightcrew.errors import ConfigurationError, NoDatabase, did_you_mean
from nightcrew.gauge import Hook, hooks
from nightcrew.hours import Hours
from nightcrew.job import Job, Origin, catching_up, overlapping, primary
from nightcrew.owing import owings
from nightcrew.policy import Policy, Sql, Value, action
from nightcrew.recipes import RECIPES
from nightcrew.schedule import Cron, cron, every, zone
from nightcrew.throttle import pace


@dataclass(frozen=True, slots=True)
class Configuration:
    """What a nightcrew.toml says; `database` gives the URL, whose variables are only looked at when it is asked for.

    So what needs no database (`nightcrew check` where the file is reviewed) needs no variable of one either.
    """

    path: Path
    jobs: tuple[Job, ...]
    timezone: str = "UTC"
    database: Callable[[], str] | None = field(default=None, repr=False, compare=False)
    throttle: tuple[Hook, ...] = ()


def read(path: Path, environ: Mapping[str, str] | None = None) -> Configuration:
    """Read a file; ${NAME} stands for a variable of `environ`, by default the process's own (also as NAME_FILE).

    Raises one ConfigurationError that lists everything wrong with the file, a line each.
    """
    found = document.read(path)
    reader = _Reader(found, settings.variable if environ is None else environ.get)
    configuration = reader.configuration()
    if reader.problems:
        raise ConfigurationError("\n".join(text for _, text in sorted(reader.problems)))
    return configuration


def load(path: Path) -> Nightcrew:
    """Build the crew of a file; where it names no database, DATABASE_URL does."""
    found = read(path)
    return Nightcrew(found.database, jobs=found.jobs, timezone=found.timezone, gauges=found.throttle)


@dataclass(frozen=True, slots=True)
class _Key:
    """A key of a table: how it is written, and how its value is read, which may raise ConfigurationError."""

    example: str
    read: Callable[[Any], Any] = lambda value: value
    kind: type | tuple[type, ...] = str


def _values(given: Mapping[str, Any]) -> dict[str, Value]:
    return {name: Sql(value["sql"]) if isinstance(value, dict) else value for name, value in given.items()}


def _recipe(value: str) -> Callable[..., Job]:
    if value in RECIPES:
        return RECIPES[value]
    raise ConfigurationError(f"there is no recipe {value!r}{did_you_mean(value, RECIPES) or '; see docs/recipes.md'}")


_PARTS = {"nightcrew": _Key("", kind=Mapping), "jobs": _Key("", kind=Mapping)}
_TIMEZONE = _Key('"Europe/Istanbul"', zone)
_THROTTLE = _Key('["file:/run/nightcrew.stop"]', hooks, list)
_HEAD = {"database": _Key('"${DATABASE_URL}"'), "timezone": _TIMEZONE, "throttle": _THROTTLE}
_WHEN = {
    "schedule": _Key('"0 3 * * *"', lambda value: cron(value).expression),
    "every": _Key('"10 minutes"', every),
    "timezone": _TIMEZONE,
}
_POLICY = {
    "table": _Key('"users"', lambda value: Policy(value, "column").table),
    "column": _Key('"deactivated_at"', lambda value: Policy("table", value).column),
    "older_than": _Key('"30 days"', duration.parse),
    "where": _Key("\"status = 'draft'\"", lambda value: Policy("table", "column", where=value).where),
    "hold": _Key('"legal_hold"', lambda value: Policy("table", "column", hold=value).hold),
    "unless_exists": _Key(
        '["messages.chat_id"]', lambda value: Policy("table", "column", unless_exists=tuple(value)).unless_exists, list
    ),
    "erase": _Key("true", kind=bool),
    "links": _Key('["files.user_id"]', lambda value: Policy("table", "column", links=tuple(value)).links, list),
    "allow_unindexed": _Key("true", kind=bool),
    "max_rows": _Key("10_000", lambda value: Policy("table", "column", max_rows=value).max_rows, int),
    "max_fraction": _Key("0.2", lambda value: Policy("table", "column", max_fraction=value).max_fraction, (int, float)),
    "action": _Key('"clear"', action),
    "set": _Key('{ status = "expired", email = { sql = "NULL" } }', _values, dict),
    "blobs": _Key('[{ store = "uploads", table = "files", column = "blob_key" }]', owings, (list,)),
    "keep_latest": _Key("3", lambda value: Policy("table", "column", keep_latest=value).keep_latest, int),
    "per": _Key('["user_id"]', lambda value: Policy("table", "-", keep_latest=1, per=tuple(value)).per, list),
}
_JOB = {
    "path": _Key('"/api/oauth/cleanup-pkce"'),
    "label": _Key('"OAuth Cleanup"'),
    "owner": _Key('"team-accounts"'),
    "runbook": _Key('"https://example.com/runbook"'),
    "on_start": _Key("true", kind=bool),
    "catch_up": _Key('"all"', catching_up),
    "overlap": _Key('"skip"', overlapping),
    "pause_after": _Key("5", kind=int),
    "primary": _Key('"external"', primary),
    "failsafe_after": _Key('"2 minutes"', duration.parse),
    "enabled": _Key("false", kind=bool),
    "pace": _Key('"gentle"', pace),
    "throttle": _THROTTLE,
    "window": _Key('"22:00-06:00"', lambda value: Hours(value).text),
    "fan_out": _Key("500_000", kind=int),
}
_KEYS = {"recipe": _Key('"cleanup-pkce"', _recipe)} | _WHEN | _POLICY | _JOB


class _Reader:
    """Reads one document, and notes whatever is wrong on the way: (line, sentence)."""

    def __init__(self, found: Document, lookup: Lookup) -> None:
        self.problems: list[tuple[int, str]] = []
        self._document = found
        self._lookup = lookup

    def configuration(self) -> Configuration:
        """Read the whole document."""
        parts = self._table((), self._document.values, _PARTS, "")
        values = dict(parts.get("nightcrew", {}))
        database = self._database(values.pop("database", None))
        head = self._table(("nightcrew",), values, _HEAD, "")
        zone = head.get("timezone", "UTC")
        jobs = {name: self._job(name, values, zone) for name, values in parts.get("jobs", {}).items()}
        if not jobs and not self.problems:
            self._note(
                (),
                "there are no jobs; add a table such as [jobs.cleanup-pkce], or let 'nightcrew init' write an example",
            )
        made = tuple(job for job in jobs.values() if job)
        self._check_paths(made)
        return Configuration(self._document.path, made, zone, database, head.get("throttle", ()))

    def _database(self, raw: object) -> Callable[[], str] | None:
        """Return what gives the database's URL; the text is looked at now, its variables later."""
        if raw is None:
            return None
        keys, key = ("nightcrew", "database"), _HEAD["database"]
        try:
            _read("database", raw, key, lambda name: name)
        except ConfigurationError as problem:
            self._note(keys, str(problem))
            return None

        def url() -> str:
            try:
                return document.fill(str(raw), self._lookup)
            except ConfigurationError as problem:
                raise NoDatabase(f"{self._document.path}:{self._document.line(*keys)}: {problem}") from None

        return url

    def _note(self, keys: tuple[str, ...], sentence: str) -> None:
        line = self._document.line(*keys)
        self.problems.append((line, f"{self._document.path}:{line}: {sentence.rstrip('.')}"))

    def _table(
        self, keys: tuple[str, ...], values: Mapping[str, Any], allowed: Mapping[str, _Key], whose: str
    ) -> dict[str, Any]:
        """Return what can be read of a table's keys, and note the others."""
        given = {}
        for name, raw in values.items():
            if name not in allowed:
                near = did_you_mean(name, allowed) or "; this version has none like it, remove it"
                self._note((*keys, name), f"{whose}unknown key {name!r}{near}")
                continue
            try:
                given[name] = _read(name, raw, allowed[name], self._lookup)
            except ConfigurationError as problem:
                self._note((*keys, name), f"{whose}{problem}")
        return given

    def _job(self, name: str, values: object, zone: str) -> Job | None:
        keys, whose, before = ("jobs", name), f"job {name!r}: ", len(self.problems)
        if not isinstance(values, dict):
            self._note(keys, f"job {name!r} is {_odd(values, dict)}; write a table [jobs.NAME]")
            return None
        given = self._table(keys, values, _KEYS, whose)
        for lack in _lacks(values, given.get("recipe")):
            self._note(keys, whose + lack)
        if len(both := [key for key in values if key in {"schedule", "every"}]) > 1:
            self._note((*keys, both[-1]), f"{whose}schedule and every exclude each other; remove one")
        if "timezone" in values and not {"schedule", "recipe", "window"} & values.keys():
            self._note((*keys, "timezone"), whose + _ZONE_OF_NOTHING)
        if len(self.problems) > before:
            return None
        try:
            return replace(_job(name, given, zone), origin=self._origin(keys, values))
        except ConfigurationError as problem:
            said = str(problem).removeprefix(whose)
            key = said.split()[0]
            sentence = _discreet(said, key, values.get(key))
            self._note((*keys, key), sentence if sentence.startswith("job ") else whose + sentence)
            return None

    def _origin(self, keys: tuple[str, ...], values: Mapping[str, Any]) -> Origin:
        lines = {key: self._document.line(*keys, key) for key in values}
        return Origin(str(self._document.path), self._document.line(*keys), lines)

    def _check_paths(self, jobs: tuple[Job, ...]) -> None:
        taken = {job.route: job.name for job in jobs}
        for job in jobs:
            if job.path is None or job.path == job.route:
                continue
            if job.path in taken:
                other = taken[job.path]
                self._note(
                    ("jobs", job.name, "path"),
                    f"job {job.name!r}: job {other!r} answers on this path already; give one of them another",
                )
            taken.setdefault(job.path, job.name)


def _read(name: str, raw: object, key: _Key, lookup: Lookup) -> Any:
    """Return the value of a key, its variables filled in."""
    if odd := _odd(raw, key.kind):
        remedy = f"write {name} = {key.example}" if key.example else f"write a table [{name}]"
        raise ConfigurationError(f"{name} is {odd}; {remedy}")
    if key.kind is Mapping:
        return raw
    value = _filled(raw, lookup)
    try:
        return key.read(value)
    except ConfigurationError as problem:
        raise ConfigurationError(_discreet(str(problem), name, raw)) from None


def _filled(raw: object, lookup: Lookup) -> object:
    if isinstance(raw, str):
        return document.fill(raw, lookup)
    if isinstance(raw, list):
        return [_filled(item, lookup) for item in raw]
    if isinstance(raw, dict):
        return {key: _filled(item, lookup) for key, item in raw.items()}
    return raw


def _discreet(sentence: str, name: str, raw: object) -> str:
    """Return a problem's sentence, or one that does not quote the value when that came from the environment."""
    if not (names := document.variables(raw)):
        return sentence
    return (
        f"{name} comes from {' and '.join(names)}, whose value cannot be used (it is not shown);"
        f" set it as in {name} = {_KEYS[name].example}"
    )


_KINDS = {str: "a text", bool: "true or false", int: "a number", float: "a number", datetime: "a date", date: "a date",
          time: "a time", list: "an array", dict: "a table"}  # fmt: skip


def _odd(value: object, kind: type | tuple[type, ...]) -> str:
    """Return what a value is if it is not of the kind it should be, else nothing."""
    word = _KINDS.get(type(value), "something else")
    if isinstance(value, list) and kind is list:
        return next((f"an array with {odd} in it" for item in value if (odd := _odd(item, str))), "")
    if isinstance(value, dict) and kind is dict:
        return next((f"a table with {_KINDS[type(item)]} in it" for item in value.values() if not _constant(item)), "")
    return "" if isinstance(value, kind) else word


def _constant(value: object) -> bool:
    """Tell whether a value can be written into a column: a constant, or { sql = "…" }."""
    expression = value.get("sql") if isinstance(value, dict) and len(value) == 1 else value
    return isinstance(expression, str) or (expression is value and isinstance(value, bool | int | float))


def _lacks(values: Mapping[str, Any], recipe: Callable[..., Job] | None) -> Iterator[str]:
    """Tell what a job cannot do without, going by its keys, misspelt ones too; a recipe brings most of it along."""
    wrong = [key for key in values if key not in _KEYS]
    there = {key for key in _KEYS if key in values or any(repr(key) in did_you_mean(name, _KEYS) for name in wrong)}
    if "recipe" not in there and not {"schedule", "every"} & there:
        yield 'when it is due is missing; write schedule = "0 3 * * *" or every = "10 minutes"'
    needed = ("table", "column") if "recipe" not in there else _needed(recipe) if recipe else ()
    for name in needed:
        if name not in there:
            yield f"{name} is missing; write {name} = {_KEYS[name].example}"


def _needed(recipe: Callable[..., Job]) -> list[str]:
    parameters = signature(recipe).parameters.values()
    return [each.name for each in parameters if each.kind is each.KEYWORD_ONLY and each.default is each.empty]


_ZONE_OF_NOTHING = "timezone goes with schedule or window; write that too, or remove it"


def _in_zone(job: Job, given: Mapping[str, Any], zone: str) -> Job:
    """Return a recipe's job with the times of day that it brings along read in the file's zone, as all others are."""
    if isinstance(job.schedule, Cron):
        return replace(job, schedule=cron(job.schedule.expression, given.get("timezone", zone)))
    if "timezone" in given and job.window is None:
        raise ConfigurationError(_ZONE_OF_NOTHING)
    return job


def _job(name: str, given: dict[str, Any], zone: str) -> Job:
    """Build a job of values that are right one by one."""
    parts = {key: given[key] for key in (*_POLICY, *_JOB) if key in given}
    if "schedule" in given:
        parts["schedule"] = cron(given["schedule"], given.get("timezone", zone))
    if "window" in given:
        parts["window"] = Hours(given["window"], given.get("timezone", zone))
    if "every" in given:
        parts["schedule"] = given["every"]
    if "recipe" in given:
        recipe: Callable[..., Job] = given["recipe"]
        return _in_zone(recipe(name=name, **parts), given, zone)
    policy = Policy(**{key: parts.pop(key) for key in _POLICY if key in parts})
    return Job(name, policy=policy, **parts)
