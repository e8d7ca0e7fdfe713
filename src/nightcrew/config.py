"""nightcrew.toml → Jobs, with errors that name file, line and the fix."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from inspect import signature
from pathlib import Path
from typing import Any

from nightcrew import document, duration, settings
from nightcrew.archives.archive import NOWHERE
from nightcrew.crew import Nightcrew
from nightcrew.depot import REDIS
from nightcrew.document import Document, Key, Lookup, discreet, odd_kind, read_key
from nightcrew.errors import ConfigurationError, NoDatabase, did_you_mean
from nightcrew.gauge import Hook, hooks
from nightcrew.hours import Hours
from nightcrew.job import Job, Origin, catching_up, overlapping, primary
from nightcrew.owing import owings, traces
from nightcrew.policy import Policy, Sql, Value, action
from nightcrew.recipes import RECIPES
from nightcrew.schedule import Cron, cron, every, zone
from nightcrew.shelf import Shelf, check_archive, check_name, orphans
from nightcrew.stores.address import place
from nightcrew.stores.calls import template, verb
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
    blobs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    calls: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    redis: Callable[[], str] | None = field(default=None, repr=False, compare=False)
    erasures: Callable[[], str] | None = field(default=None, repr=False, compare=False)
    archive: str | None = None


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
    return Nightcrew(
        found.database,
        jobs=found.jobs,
        timezone=found.timezone,
        gauges=found.throttle,
        blobs=found.blobs,
        calls=found.calls,
        redis=found.redis,
        erasures=found.erasures,
        archive=found.archive,
    )


def _values(given: Mapping[str, Any]) -> dict[str, Value]:
    return {name: Sql(value["sql"]) if isinstance(value, dict) else value for name, value in given.items()}


def _archived(value: str | bool) -> timedelta | None:  # noqa: FBT001 - what a key's value may be
    if value is True:
        raise ConfigurationError("archive is true; say for how long, as in archive = '7 days'")
    return duration.parse(value) if value is not False else None


def _recipe(value: str) -> Callable[..., Job]:
    if value in RECIPES:
        return RECIPES[value]
    raise ConfigurationError(f"there is no recipe {value!r}{did_you_mean(value, RECIPES) or '; see docs/recipes.md'}")


_PARTS = {name: Key("", kind=Mapping) for name in ("nightcrew", "blobs", "calls", "jobs")}
_TIMEZONE = Key('"Europe/Istanbul"', zone)
_THROTTLE = Key('["file:/run/nightcrew.stop"]', hooks, list)
_HEAD = {
    "database": Key('"${DATABASE_URL}"'),
    "redis": Key('"${REDIS_URL}"'),
    "erasures": Key('"s3://acme-erasures"', place),
    "archive": Key('"vault"', check_name),
    "timezone": _TIMEZONE,
    "throttle": _THROTTLE,
}
_WHEN = {
    "schedule": Key('"0 3 * * *"', lambda value: cron(value).expression),
    "every": Key('"10 minutes"', every),
    "timezone": _TIMEZONE,
}
_POLICY = {
    "table": Key('"users"', lambda value: Policy(value, "column").table),
    "column": Key('"deactivated_at"', lambda value: Policy("table", value).column),
    "older_than": Key('"30 days"', duration.parse),
    "where": Key("\"status = 'draft'\"", lambda value: Policy("table", "column", where=value).where),
    "hold": Key('"legal_hold"', lambda value: Policy("table", "column", hold=value).hold),
    "unless_exists": Key(
        '["messages.chat_id"]', lambda value: Policy("table", "column", unless_exists=tuple(value)).unless_exists, list
    ),
    "erase": Key("true", kind=bool),
    "links": Key('["files.user_id"]', lambda value: Policy("table", "column", links=tuple(value)).links, list),
    "allow_unindexed": Key("true", kind=bool),
    "max_rows": Key("10_000", lambda value: Policy("table", "column", max_rows=value).max_rows, int),
    "max_fraction": Key("0.2", lambda value: Policy("table", "column", max_fraction=value).max_fraction, (int, float)),
    "action": Key('"clear"', action),
    "set": Key('{ status = "expired", email = { sql = "NULL" } }', _values, dict),
    "archive": Key('"7 days"', _archived, (str, bool)),
    "blobs_after": Key('"1 day"', duration.parse),
    "blobs": Key('[{ store = "uploads", table = "files", column = "blob_key" }]', owings, (list,)),
    "traces": Key('[{ store = "uploads", keys = "users/{id}/*" }]', traces, (list,)),
    "keep": Key('{ "invoices.user_id" = "tax law, 10 years" }', dict, dict),
    "keep_latest": Key("3", lambda value: Policy("table", "column", keep_latest=value).keep_latest, int),
    "per": Key('["user_id"]', lambda value: Policy("table", "-", keep_latest=1, per=tuple(value)).per, list),
}
_JOB = {
    "path": Key('"/api/oauth/cleanup-pkce"'),
    "label": Key('"OAuth Cleanup"'),
    "owner": Key('"team-accounts"'),
    "runbook": Key('"https://example.com/runbook"'),
    "on_start": Key("true", kind=bool),
    "catch_up": Key('"all"', catching_up),
    "overlap": Key('"skip"', overlapping),
    "pause_after": Key("5", kind=int),
    "primary": Key('"external"', primary),
    "failsafe_after": Key('"2 minutes"', duration.parse),
    "enabled": Key("false", kind=bool),
    "pace": Key('"gentle"', pace),
    "throttle": _THROTTLE,
    "window": Key('"22:00-06:00"', lambda value: Hours(value).text),
    "fan_out": Key("500_000", kind=int),
}
_BLOBS = {
    "url": Key('"s3://acme-uploads"', place),
    "columns": Key('["message_source.blob_key"]', lambda value: Shelf("", tuple(value)).columns, list),
    "orphans": Key('"report"', orphans),
    "older_than": Key('"24 hours"', lambda value: Shelf("", older_than=duration.parse(value)).older_than),
    "max_fraction": Key("0.2", lambda value: Shelf("", max_fraction=value).max_fraction, (int, float)),
}
_CALLS = {
    "url": Key('"https://api.example.com/things/{key}"', template),
    "method": Key('"DELETE"', verb),
    "secret": Key('"${BILLING_TOKEN}"'),
}
_LATER = {
    **{name: _HEAD[name] for name in ("database", "redis")},
    "erasures": Key('"s3://acme-erasures"'),
    "url": Key(""),
    "secret": _CALLS["secret"],
}
_KEYS = {"recipe": Key('"cleanup-pkce"', _recipe)} | _WHEN | _POLICY | _JOB


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
        named = ("database", "redis", "erasures")
        database, redis, erasures = (self._later(("nightcrew", key), values.pop(key, None)) for key in named)
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
        blobs = {name: self._blobs(name, values, zone) for name, values in parts.get("blobs", {}).items()}
        calls = {name: self._store("calls", name, values, _CALLS) for name, values in parts.get("calls", {}).items()}
        self._check_stores(made, [*blobs, *calls, *([REDIS] if redis else [])])
        archive = head.get("archive")
        self._check_archive(made, blobs, archive)
        throttle = head.get("throttle", ())
        stores = blobs, calls, redis, erasures, archive
        return Configuration(self._document.path, made, zone, database, throttle, *stores)

    def _later(self, keys: tuple[str, ...], raw: object) -> Callable[[], str] | None:
        """Return what gives a text; it is looked at now, its variables when it is needed."""
        if raw is None:
            return None
        try:
            read_key(keys[-1], raw, _LATER[keys[-1]], lambda name: name)
        except ConfigurationError as problem:
            self._note(keys, str(problem))
            return None

        def text() -> str:
            try:
                return document.fill(str(raw), self._lookup)
            except ConfigurationError as problem:
                kind = NoDatabase if keys[-1] == "database" else ConfigurationError
                raise kind(f"{self._document.path}:{self._document.line(*keys)}: {problem}") from None

        return text

    def _store(self, part: str, name: str, values: object, allowed: Mapping[str, Key]) -> dict[str, Any]:
        """Return what is said of a store; a text that has variables is given by a function."""
        keys, whose = (part, name), f"store {name!r}: "
        if not isinstance(values, dict):
            self._note(keys, f"store {name!r} is {odd_kind(values, dict)}; write a table [{part}.NAME]")
            return {}
        try:
            check_name(name)
        except ConfigurationError as problem:
            self._note(keys, str(problem))
        if "url" not in values:
            self._note(keys, f"{whose}url is missing; write url = {allowed['url'].example}")
        varied = {key for key in _LATER if isinstance(values.get(key), str) and document.variables(values[key])}
        given = self._table(keys, {key: raw for key, raw in values.items() if key not in varied}, allowed, whose)
        return given | {key: self._later((*keys, key), values[key]) for key in varied if key in allowed}

    def _blobs(self, name: str, values: object, zone: str) -> dict[str, Any]:
        given = self._store("blobs", name, values, _BLOBS | _WHEN)
        timezone, period = given.pop("timezone", zone), given.pop("every", None)
        if period is not None:
            if "schedule" in given:
                self._note(
                    ("blobs", name, "every"), f"store {name!r}: schedule and every exclude each other; remove one"
                )
            given["schedule"] = period
        elif "schedule" in given:
            given["schedule"] = cron(given["schedule"], timezone)
        return given

    def _check_stores(self, jobs: tuple[Job, ...], stores: Collection[str]) -> None:
        for job in jobs:
            for key, store in job.policy.stores if job.policy else ():
                if store not in stores:
                    near = did_you_mean(store, stores) or "; declare it, as in [blobs.uploads]"
                    self._note(("jobs", job.name, key), f"job {job.name!r}: there is no store {store!r}{near}")

    def _check_archive(
        self, jobs: tuple[Job, ...], blobs: Mapping[str, Mapping[str, Any]], archive: str | None
    ) -> None:
        if archive is not None:
            try:
                check_archive(archive, {name: Shelf(**given) for name, given in blobs.items() if "url" in given})
            except ConfigurationError as problem:
                self._note(("nightcrew", "archive"), str(problem))
        for job in jobs:
            if archive is None and job.policy is not None and job.policy.archive is not None:
                self._note(("jobs", job.name, "archive"), f"job {job.name!r}: {NOWHERE}")

    def _note(self, keys: tuple[str, ...], sentence: str) -> None:
        line = self._document.line(*keys)
        self.problems.append((line, f"{self._document.path}:{line}: {sentence.rstrip('.')}"))

    def _table(
        self, keys: tuple[str, ...], values: Mapping[str, Any], allowed: Mapping[str, Key], whose: str
    ) -> dict[str, Any]:
        """Return what can be read of a table's keys, and note the others."""
        given = {}
        for name, raw in values.items():
            if name not in allowed:
                near = did_you_mean(name, allowed) or "; this version has none like it, remove it"
                self._note((*keys, name), f"{whose}unknown key {name!r}{near}")
                continue
            try:
                given[name] = read_key(name, raw, allowed[name], self._lookup)
            except ConfigurationError as problem:
                self._note((*keys, name), f"{whose}{problem}")
        return given

    def _job(self, name: str, values: object, zone: str) -> Job | None:
        keys, whose, before = ("jobs", name), f"job {name!r}: ", len(self.problems)
        if not isinstance(values, dict):
            self._note(keys, f"job {name!r} is {odd_kind(values, dict)}; write a table [jobs.NAME]")
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
            sentence = discreet(said, key, values.get(key), _KEYS[key]) if key in _KEYS else said
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
