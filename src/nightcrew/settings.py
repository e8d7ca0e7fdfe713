"""The only reader of the environment."""

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from nightcrew import duration
from nightcrew.censor import Censor
from nightcrew.errors import ConfigurationError, DurationError

ENVIRONMENTS = ("production", "development", "test")
ERASURE_KEY = "NIGHTCREW_ERASURE_KEY"
UNSUBSCRIBE_KEY, UNSUBSCRIBE_KEY_PREVIOUS = "NIGHTCREW_UNSUBSCRIBE_KEY", "NIGHTCREW_UNSUBSCRIBE_KEY_PREVIOUS"
SHORTEST_SECRET = 16  # as Vercel asks of CRON_SECRET
DEADLINE = timedelta(seconds=50)
_SECRETS = (
    *("CRON_SECRET", "CRON_SECRET_PREVIOUS", "NIGHTCREW_ARCHIVE_KEY", "NIGHTCREW_ARCHIVE_KEY_PREVIOUS"),
    *("NIGHTCREW_DASHBOARD_PASSWORD", "NIGHTCREW_MONITOR_SECRET"),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """What the environment says; secrets never show in its repr.

    `environment` is NIGHTCREW_ENV: unset means production, where nothing is allowed without the secret. `deadline`
    is NIGHTCREW_HTTP_DEADLINE, how long an HTTP call may work that names none: many proxies and platforms cut a call
    at 60 s, and ten are left to answer in. `erasure_key` is NIGHTCREW_ERASURE_KEY, of which the hashes of erased
    subjects are made, and the seals of their receipts. `archive_key` seals what is archived from now on; what
    was sealed with the previous one can still be read. `unsubscribe_key` signs the links by which people leave a topic,
    and those signed with the previous one still work. `dashboard_password` opens the desk of `nightcrew serve`,
    and `monitor_secret` what monitors read, and nothing else.
    `cloud_deploy` is CLOUD_DEPLOY, without which no mail leaves.
    """

    environment: str = "production"
    secret: str | None = field(default=None, repr=False)
    previous_secret: str | None = field(default=None, repr=False)
    database: str | None = field(default=None, repr=False)
    erasure_key: str | None = field(default=None, repr=False)
    archive_key: str | None = field(default=None, repr=False)
    previous_archive_key: str | None = field(default=None, repr=False)
    unsubscribe_key: str | None = field(default=None, repr=False)
    previous_unsubscribe_key: str | None = field(default=None, repr=False)
    dashboard_password: str | None = field(default=None, repr=False)
    monitor_secret: str | None = field(default=None, repr=False)
    cloud_deploy: bool = False
    ticker: bool = True
    deadline: timedelta = DEADLINE
    log_format: str = "text"

    @classmethod
    def read(cls, environ: Mapping[str, str] | None = None) -> "Settings":
        """Read the environment (default: the process's own).

        Raises ConfigurationError for a value that cannot be one, naming the variable.
        """
        env = os.environ if environ is None else environ
        return cls(
            environment=_one_of(env, "NIGHTCREW_ENV", ENVIRONMENTS),
            secret=_secret(env, "CRON_SECRET"),
            previous_secret=_secret(env, "CRON_SECRET_PREVIOUS"),
            database=_secret(env, "DATABASE_URL"),
            erasure_key=_key(env, ERASURE_KEY),
            archive_key=_secret(env, "NIGHTCREW_ARCHIVE_KEY"),
            previous_archive_key=_secret(env, "NIGHTCREW_ARCHIVE_KEY_PREVIOUS"),
            unsubscribe_key=_key(env, UNSUBSCRIBE_KEY),
            previous_unsubscribe_key=_key(env, UNSUBSCRIBE_KEY_PREVIOUS),
            dashboard_password=_key(env, "NIGHTCREW_DASHBOARD_PASSWORD"),
            monitor_secret=_key(env, "NIGHTCREW_MONITOR_SECRET"),
            cloud_deploy=env.get("CLOUD_DEPLOY", "").strip().lower() == "true",
            ticker=_one_of(env, "NIGHTCREW_TICKER", ("on", "off")) == "on",
            deadline=_span(env, "NIGHTCREW_HTTP_DEADLINE", DEADLINE),
            log_format=_one_of(env, "NIGHTCREW_LOG_FORMAT", ("text", "json")),
        )

    @property
    def censor(self) -> Censor:
        """What keeps these secrets out of every text."""
        secrets = self.secret, self.previous_secret, self.erasure_key, self.archive_key, self.previous_archive_key
        doors = self.dashboard_password, self.monitor_secret
        return Censor(*secrets, *self.unsubscribe_keys, *doors, url=self.database)

    @property
    def unsubscribe_keys(self) -> tuple[str, ...]:
        """The keys by which a link is known as ours, the one first that new links are signed with."""
        return tuple(key for key in (self.unsubscribe_key, self.previous_unsubscribe_key) if key)


def censor() -> Censor:
    """Return the censor of the process's own environment, however wrong the rest of it is."""
    known: dict[str, str | None] = {}
    for name in (*_SECRETS, ERASURE_KEY, UNSUBSCRIBE_KEY, UNSUBSCRIBE_KEY_PREVIOUS, "DATABASE_URL"):
        with suppress(ConfigurationError):
            known[name] = variable(name)
    url = known.pop("DATABASE_URL", None)
    return Censor(*known.values(), url=url)


def variable(name: str) -> str | None:
    """Return the environment variable `name`, or the content of the file that `NAME_FILE` points at, or None."""
    return _secret(os.environ, name)


def load_dotenv(path: Path) -> None:
    """Set the variables of a .env file that are not set already; the command line does this, a library never."""
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        name, equals, value = line.strip().removeprefix("export ").partition("=")
        if equals and name.strip() and not name.startswith("#"):
            os.environ.setdefault(name.strip(), _unquoted(value.strip()))


def _unquoted(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
        return value[1:-1]
    return value.split(" #", 1)[0].rstrip()


def _one_of(env: Mapping[str, str], name: str, allowed: tuple[str, ...]) -> str:
    value = env.get(name, "").strip().lower()
    if value in ("", *allowed):
        return value or allowed[0]
    raise ConfigurationError(f"{name}={env[name]!r} is not one of {', '.join(allowed)}: set it to one, or unset it")


def _span(env: Mapping[str, str], name: str, default: timedelta) -> timedelta:
    try:
        return duration.parse(env[name]) if env.get(name, "").strip() else default
    except DurationError as problem:
        raise ConfigurationError(f"{name}: {problem}") from None


def _key(env: Mapping[str, str], name: str) -> str | None:
    """Return a key of hashes; one that could be guessed lets everybody know who was erased, or unsubscribe others."""
    key = (_secret(env, name) or "").strip()
    if key and len(key) < SHORTEST_SECRET:
        raise ConfigurationError(
            f"{name} has {len(key)} characters, and needs {SHORTEST_SECRET}: 'nightcrew secret new' makes one"
        )
    return key or None


def _secret(env: Mapping[str, str], name: str) -> str | None:
    file = env.get(f"{name}_FILE")
    if not file:
        return env.get(name)
    try:
        return Path(file).read_text(encoding="utf-8").strip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{name}_FILE={file!r} cannot be read ({error}): fix the path, or unset it") from None
