"""nightcrew.toml → Jobs, with errors that name file, line and the fix."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from inspect import signature
from pathlib import Path
from typing import Any

from nightcrew import document, settings
from nightcrew.absence import FAILURES
from nightcrew.archives.archive import NOWHERE
from nightcrew.channels.channel import Channel
from nightcrew.crew import Nightcrew
from nightcrew.depot import REDIS
from nightcrew.document import Key, discreet, odd_kind
from nightcrew.errors import ConfigurationError, did_you_mean
from nightcrew.gauge import Hook
from nightcrew.hours import Hours
from nightcrew.job import Job, Origin
from nightcrew.keys import (
    BLOBS,
    CALLS,
    HEAD,
    JOB,
    MAIL,
    OF_JOB,
    PARTS,
    PEOPLE,
    POLICY,
    SCHEDULED,
    SEQUENCE,
    STEP,
    STREAMS,
    WHEN,
)  # fmt: skip
from nightcrew.listeners.checkin import Monitor
from nightcrew.mail import Mail, People, ScheduledEmails
from nightcrew.policy import Policy
from nightcrew.recipes.emails import welcome
from nightcrew.schedule import Cron, cron
from nightcrew.sequence import Sequence, Step
from nightcrew.services import Services
from nightcrew.shelf import Shelf, check_archive, check_name
from nightcrew.streaming import Streams, Terms
from nightcrew.streams import way
from nightcrew.tending import persisting


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
    mail: Mail | None = None
    streams: Streams | None = field(default=None, repr=False, compare=False)
    monitors: tuple[Monitor, ...] = ()
    alarms: tuple[Channel, ...] = ()
    failures: int = FAILURES


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
        mail=found.mail,
        streams=found.streams,
        monitors=found.monitors,
        alarms=found.alarms,
        failures=found.failures,
    )


class _Reader(Services):
    """Reads what a document says of a crew."""

    def configuration(self) -> Configuration:
        """Read the whole document."""
        parts = self.table((), self.document.values, PARTS, "")
        values = dict(parts.get("nightcrew", {}))
        named = ("database", "redis", "erasures")
        database, redis, erasures = (self.later(("nightcrew", key), values.pop(key, None)) for key in named)
        head = self.table(("nightcrew",), values, HEAD, "")
        zone = head.get("timezone", "UTC")
        jobs = {name: self._job(name, values, zone) for name, values in parts.get("jobs", {}).items()}
        if not {"jobs", "mail", "streams"} & {*parts} and not self.problems:
            self.note(
                (),
                "there are no jobs; add a table such as [jobs.cleanup-pkce], or let 'nightcrew init' propose some",
            )
        made = tuple(job for job in jobs.values() if job)
        self._check_paths(made)
        blobs = {name: self._blobs(name, values, zone) for name, values in parts.get("blobs", {}).items()}
        calls = {name: self._store("calls", name, values, CALLS) for name, values in parts.get("calls", {}).items()}
        self._check_stores(made, [*blobs, *calls, *([REDIS] if redis else [])])
        archive = head.get("archive")
        self._check_archive(made, blobs, archive)
        throttle = head.get("throttle", ())
        stores = blobs, calls, redis, erasures, archive
        mail, streams = self._mail(parts, zone), self._streams(parts, redis)
        monitors = tuple(filter(None, (self.monitor(*each) for each in parts.get("monitors", {}).items())))
        heard = monitors, *self.alarms(parts.get("alarms", {}))
        return Configuration(self.document.path, made, zone, database, throttle, *stores, mail, streams, *heard)

    def _store(self, part: str, name: str, values: object, allowed: Mapping[str, Key]) -> dict[str, Any]:
        """Return what is said of a store; a text that has variables is given by a function."""
        keys, whose = (part, name), f"store {name!r}: "
        if not isinstance(values, dict):
            self.note(keys, f"store {name!r} is {odd_kind(values, dict)}; write a table [{part}.NAME]")
            return {}
        try:
            check_name(name)
        except ConfigurationError as problem:
            self.note(keys, str(problem))
        if "url" not in values:
            self.note(keys, f"{whose}url is missing; write url = {allowed['url'].example}")
        return self.texts(keys, values, allowed, whose)

    def _blobs(self, name: str, values: object, zone: str) -> dict[str, Any]:
        return self._when(f"store {name!r}", self._store("blobs", name, values, BLOBS | WHEN), zone, ("blobs", name))

    def _when(self, what: str, given: dict[str, Any], zone: str, keys: tuple[str, ...] = ("mail",)) -> dict[str, Any]:
        """Make one schedule of what says when something is due."""
        timezone, period = given.pop("timezone", zone), given.pop("every", None)
        if period is not None:
            if "schedule" in given:
                self.note((*keys, "every"), f"{what}: schedule and every exclude each other; remove one")
            given["schedule"] = period
        elif "schedule" in given:
            given["schedule"] = cron(given["schedule"], timezone)
        return given

    def _check_stores(self, jobs: tuple[Job, ...], stores: Collection[str]) -> None:
        for job in jobs:
            for key, store in job.policy.stores if job.policy else ():
                if store not in stores:
                    near = did_you_mean(store, stores) or "; declare it, as in [blobs.uploads]"
                    self.note(("jobs", job.name, key), f"job {job.name!r}: there is no store {store!r}{near}")

    def _check_archive(
        self, jobs: tuple[Job, ...], blobs: Mapping[str, Mapping[str, Any]], archive: str | None
    ) -> None:
        if archive is not None:
            try:
                check_archive(archive, {name: Shelf(**given) for name, given in blobs.items() if "url" in given})
            except ConfigurationError as problem:
                self.note(("nightcrew", "archive"), str(problem))
        for job in jobs:
            if archive is None and job.policy is not None and job.policy.archive is not None:
                self.note(("jobs", job.name, "archive"), f"job {job.name!r}: {NOWHERE}")

    def _job(self, name: str, values: object, zone: str) -> Job | None:
        keys, whose, before = ("jobs", name), f"job {name!r}: ", len(self.problems)
        if not isinstance(values, dict):
            self.note(keys, f"job {name!r} is {odd_kind(values, dict)}; write a table [jobs.NAME]")
            return None
        given = self.table(keys, values, OF_JOB, whose)
        for lack in _lacks(values, given.get("recipe")):
            self.note(keys, whose + lack)
        if len(both := [key for key in values if key in {"schedule", "every"}]) > 1:
            self.note((*keys, both[-1]), f"{whose}schedule and every exclude each other; remove one")
        if "timezone" in values and not {"schedule", "recipe", "window"} & values.keys():
            self.note((*keys, "timezone"), whose + _ZONE_OF_NOTHING)
        if len(self.problems) > before:
            return None
        try:
            return replace(_job(name, given, zone), origin=self._origin(keys, values))
        except ConfigurationError as problem:
            said = str(problem).removeprefix(whose)
            key = said.split()[0]
            sentence = discreet(said, key, values.get(key), OF_JOB[key]) if key in OF_JOB else said
            self.note((*keys, key), sentence if sentence.startswith("job ") else whose + sentence)
            return None

    def _origin(self, keys: tuple[str, ...], values: Mapping[str, Any]) -> Origin:
        lines = {key: self.document.line(*keys, key) for key in values}
        return Origin(str(self.document.path), self.document.line(*keys), lines)

    def _mail(self, parts: Mapping[str, Any], zone: str) -> Mail | None:
        """Read what is said of mail, of the people, and of the sequences; without any, the one of a new account is."""
        if "mail" not in parts:
            for name in parts.get("sequences", {}):
                self.note(("sequences", name), f"sequence {name!r}: nobody says how mail is sent; write a table [mail]")
            return None
        before, values = len(self.problems), dict(parts["mail"])
        people, table = self._people(values.pop("people", None)), values.pop("scheduled_emails", None)
        given = self._when("mail", self.texts(("mail",), values, MAIL | WHEN, "mail: "), zone)
        for name in ("sender", "mailer", "base_url"):
            if name not in values:
                self.note(("mail",), f"mail: {name} is missing; write {name} = {MAIL[name].example}")
        if "templates" in given:
            given["templates"] = Path(self.document.path).parent / given["templates"]
        said = parts.get("sequences", {}).items()
        sequences = [self._sequence(name, each) for name, each in said] or [welcome()]
        if table is not None:
            keys = "mail", "scheduled_emails"
            given["scheduled_emails"] = self.built(
                keys, "mail.scheduled_emails: ", lambda: ScheduledEmails(**self._given(keys, table, SCHEDULED))
            )
        if len(self.problems) > before or people is None:
            return None
        known = tuple(filter(None, sequences))
        return self.built(("mail",), "mail: ", lambda: Mail(people=people, sequences=known, **given))

    def _streams(self, parts: Mapping[str, Any], redis: Callable[[], str] | None) -> Streams | None:
        """Read where the streams of chats are kept, by default in the crew's Redis, and who saves them."""
        if "streams" not in parts:
            return None
        given = self.texts(("streams",), parts["streams"], STREAMS, "streams: ")
        url = given.pop("redis", redis)
        if url is None:
            self.note(("streams",), f"streams: redis is missing; write redis = {STREAMS['redis'].example}")
            return None
        persist, prefix = given.pop("persist", None), given.pop("prefix", "nightcrew")
        spans = {name: given[name].total_seconds() for name in ("lease", "longest", "window") if name in given}
        terms = spans | {name: given[name] for name in ("codec", "max_bytes") if name in given}
        saving = None if persist is None else persisting(persist)
        return self.built(
            ("streams",), "streams: ", lambda: Streams(way(url, prefix=prefix), persist=saving, terms=Terms(**terms))
        )

    def _given(self, keys: tuple[str, ...], values: object, allowed: Mapping[str, Key]) -> dict[str, Any]:
        """Read a table within a table."""
        if not isinstance(values, dict):
            raise ConfigurationError(f"it is {odd_kind(values, dict)}; write a table [{'.'.join(keys)}]")
        return self.table(keys, values, allowed, f"{'.'.join(keys)}: ")

    def _people(self, values: object) -> People | None:
        keys = ("mail", "people")
        if not isinstance(values, dict):
            self.note(("mail",), "mail: nobody says who people are; write a table [mail.people]")
            return None
        given = self.table(keys, values, PEOPLE, "mail.people: ")
        lacking = [name for name in ("table", "verified") if name not in values]
        for name in lacking:
            self.note(keys, f"mail.people: {name} is missing; write {name} = {PEOPLE[name].example}")
        return None if lacking else self.built(keys, "mail.people: ", lambda: People(**given))

    def _sequence(self, name: str, values: object) -> Sequence | None:
        keys, whose = ("sequences", name), f"sequence {name!r}: "
        if not isinstance(values, dict):
            self.note(keys, f"{whose}it is {odd_kind(values, dict)}; write a table [sequences.NAME]")
            return None
        given = self.table(keys, values, SEQUENCE, whose)
        if "steps" not in values:
            self.note(keys, f"{whose}steps is missing; write steps = {SEQUENCE['steps'].example}")
        steps = [self._step((*keys, "steps"), each, whose) for each in given.pop("steps", ())]
        if None in steps or "steps" not in values:
            return None
        return self.built(keys, whose, lambda: Sequence(name, tuple(filter(None, steps)), **given))

    def _step(self, keys: tuple[str, ...], values: object, whose: str) -> Step | None:
        if not isinstance(values, dict) or "name" not in values:
            self.note(keys, f"{whose}a step is no table with a name; write steps = {SEQUENCE['steps'].example}")
            return None
        return self.built(keys, whose, lambda: Step(**self.table(keys, values, STEP, whose)))

    def _check_paths(self, jobs: tuple[Job, ...]) -> None:
        taken = {job.route: job.name for job in jobs}
        for job in jobs:
            if job.path is None or job.path == job.route:
                continue
            if job.path in taken:
                other = taken[job.path]
                self.note(
                    ("jobs", job.name, "path"),
                    f"job {job.name!r}: job {other!r} answers on this path already; give one of them another",
                )
            taken.setdefault(job.path, job.name)


def _lacks(values: Mapping[str, Any], recipe: Callable[..., Job] | None) -> Iterator[str]:
    """Tell what a job cannot do without, going by its keys, misspelt ones too; a recipe brings most of it along."""
    wrong = [key for key in values if key not in OF_JOB]
    there = {key for key in OF_JOB if key in values or any(repr(key) in did_you_mean(name, OF_JOB) for name in wrong)}
    if "recipe" not in there and not {"schedule", "every"} & there:
        yield 'when it is due is missing; write schedule = "0 3 * * *" or every = "10 minutes"'
    needed = ("table", "column") if "recipe" not in there else _needed(recipe) if recipe else ()
    for name in needed:
        if name not in there:
            yield f"{name} is missing; write {name} = {OF_JOB[name].example}"


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
    parts = {key: given[key] for key in (*POLICY, *JOB) if key in given}
    if "schedule" in given:
        parts["schedule"] = cron(given["schedule"], given.get("timezone", zone))
    if "window" in given:
        parts["window"] = Hours(given["window"], given.get("timezone", zone))
    if "every" in given:
        parts["schedule"] = given["every"]
    if "recipe" in given:
        recipe: Callable[..., Job] = given["recipe"]
        return _in_zone(recipe(name=name, **parts), given, zone)
    policy = Policy(**{key: parts.pop(key) for key in POLICY if key in parts})
    return Job(name, policy=policy, **parts)
