"""Desk: which crew a command is about, and how it is to be told."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from nightcrew import settings
from nightcrew.console.screen import Screen
from nightcrew.errors import ConfigurationError, NightcrewError, UsageError, did_you_mean

if TYPE_CHECKING:
    from nightcrew.crew import Nightcrew
    from nightcrew.proposal import Prospect

DEFAULT = Path("nightcrew.toml")


@dataclass(slots=True)
class Desk:
    """What the options before the command say."""

    config: str | None = None
    app: str | None = None
    json: bool = False
    quiet: bool = False
    verbose: bool = False
    plain: bool = False

    @property
    def screen(self) -> Screen:
        """The way to talk that was asked for."""
        return Screen(json=self.json, quiet=self.quiet, verbose=self.verbose, plain=self.plain)

    @property
    def path(self) -> Path:
        """The configuration file."""
        return Path(self.config) if self.config else DEFAULT

    @property
    def folder(self) -> Path:
        """Where the crew is at home: beside its configuration, or here."""
        return Path() if self.app else self.path.parent

    def line(self, words: str) -> str:
        """Return a command line to copy, about the same crew."""
        named = {"--config": self.config, "--app": self.app}
        return " ".join(["nightcrew", *(f"{flag} {quote(name)}" for flag, name in named.items() if name), words])

    def settings(self) -> settings.Settings:
        """Return the settings, with what the .env beside the configuration adds to the environment."""
        dotenv = self.folder / ".env"
        try:
            settings.load_dotenv(dotenv)
        except (OSError, ValueError) as problem:
            raise ConfigurationError(f"{dotenv} cannot be read ({problem}); correct it, or move it away") from None
        return settings.Settings.read()

    def prospect(self) -> "tuple[Prospect | None, str | None]":
        """Look at the database of DATABASE_URL for what could be proposed; else say why nobody could look."""
        from nightcrew.crew import Nightcrew  # noqa: PLC0415 - quick to help, heavy only at work

        url = self.settings().database
        if not url:
            return None, "DATABASE_URL is not set, so there was no database to look at"
        crew = Nightcrew(url)
        try:
            found = crew.propose()
        except (NightcrewError, OSError) as problem:
            return None, f"the database could not be looked at ({problem})"
        finally:
            crew.close()
        if not found.tables:
            return None, "the database shows this role no tables without a schema's name; is it the right one?"
        return found, None

    @contextmanager
    def crew_at_work(self, *, logs: bool = False) -> "Iterator[Nightcrew]":
        """Open the crew for a command that needs its database, which none of them makes by the way.

        One that `logs` does so even where nobody asked for more words.
        """
        with self.crew(logs=logs) as crew:
            crew.require_database()
            yield crew

    @contextmanager
    def crew(self, *, logs: bool = False) -> "Iterator[Nightcrew]":
        """Open the crew of --app or --config, and close it whatever happens."""
        if self.app and self.config:
            raise UsageError("--app and --config each name a crew; drop one of the two")
        found = self.settings()
        if self.verbose or logs:
            from nightcrew.listeners import log  # noqa: PLC0415 - quick to help, heavy only at work

            log.configure(found.log_format, verbose=self.verbose)
        crew = _imported(self.app) if self.app else self._configured()
        try:
            yield crew
        finally:
            crew.close()

    def _configured(self) -> "Nightcrew":
        from nightcrew import config  # noqa: PLC0415 - quick to help, heavy only at work

        if not self.config and not DEFAULT.exists():
            raise ConfigurationError(
                f"there is no {DEFAULT} here; write one with 'nightcrew init', or name a crew with --config or --app"
            )
        return config.load(self.path)


def _imported(app: str) -> "Nightcrew":
    """Import the crew that MODULE:NAME names, from the folder the command is given in."""
    from nightcrew.crew import Nightcrew  # noqa: PLC0415 - quick to help, heavy only at work

    name, colon, attribute = app.partition(":")
    if not (name and colon and attribute):
        raise UsageError(f"--app {app!r} is no MODULE:NAME; write it as in --app shop.main:crew")
    sys.path.insert(0, str(Path.cwd()))
    found: object = _module(name)
    for step in attribute.split("."):
        if not hasattr(found, step):
            crews = [each for each, value in vars(found).items() if isinstance(value, Nightcrew)]
            hint = did_you_mean(step, crews) or "; give the name of the variable that holds it"
            raise ConfigurationError(f"module {name!r} has no crew called {attribute!r}{hint}")
        found = getattr(found, step)
    if not isinstance(found, Nightcrew):
        raise ConfigurationError(f"{app} is of type {type(found).__name__}; name a variable that holds a Nightcrew")
    return found


def _module(name: str) -> object:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as problem:
        if problem.name and (name == problem.name or name.startswith(f"{problem.name}.")):
            raise ConfigurationError(
                f"there is no module {name!r} here; run from the folder that holds it"
            ) from problem
        raise ConfigurationError(f"module {name!r} imports {problem.name!r}, which is not installed") from problem
    except Exception as problem:
        what = f"{type(problem).__name__}: {problem}".splitlines()[0]
        raise ConfigurationError(f"module {name!r} fails when it is imported ({what}); -v shows where") from problem
