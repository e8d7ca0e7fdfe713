"""Line: a command line as it is typed: options, times, wrong names, and the code it ends with."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

import click

from nightcrew import duration
from nightcrew.clock import SystemClock
from nightcrew.console.desk import Desk
from nightcrew.errors import (
    ChannelError,
    ConfigurationError,
    DatabaseError,
    DurationError,
    MailerError,
    NightcrewError,
    SafetyStop,
    SchemaError,
    StoreError,
    StreamError,
    UsageError,
    did_you_mean,
)

INTERRUPTED = 130
JOB = click.argument("name", metavar="JOB")
_F = TypeVar("_F", bound=Callable[..., Any])
_CODES: dict[type[NightcrewError], int] = {ConfigurationError: 2, UsageError: 2, SafetyStop: 3}
_CODES |= dict.fromkeys((DatabaseError, StoreError, MailerError, StreamError, ChannelError), 4)
"""By the nearest kind; every other error: 1."""


class Commands(click.Group):
    """Commands by name; a wrong name is told the nearest right one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the line names."""
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            raise click.UsageError(f"there is no command {args[0]!r}{did_you_mean(args[0], self.commands)}", ctx)
        return super().resolve_command(ctx, args)


class Span(click.ParamType):  # type: ignore[type-arg] # generic only in click's newer stubs
    """A length of time: 50s, "30 days"."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Read it."""
        try:
            return duration.parse(value)
        except DurationError as problem:
            self.fail(str(problem), param, ctx)


class Moment(click.ParamType):  # type: ignore[type-arg]
    """An instant: 2026-01-31T12:00Z; where `spans`, also a length of time from now."""

    name = "time"

    def __init__(self, *, spans: bool = False) -> None:
        self._spans = spans

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Read it; a time without a zone could be meant in any, so it is refused."""
        remedy = f"write it in UTC, as in 2026-01-31T12:00Z{', or for how long, as in 2h' * self._spans}"
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            try:
                return SystemClock().now() + duration.parse(value if self._spans else "")
            except DurationError:
                self.fail(f"{value!r} is no time; {remedy}", param, ctx)
        if moment.tzinfo is None:
            self.fail(f"{value!r} has no time zone; {remedy}", param, ctx)
        return moment


def options(*, hidden: bool) -> Callable[[_F], _F]:
    """Add the options that stand before the command; whoever writes them behind it is understood too."""

    def add(command: _F) -> _F:
        for flags, metavar, words in reversed(_OPTIONS):
            command = click.option(
                *flags,
                metavar=metavar,
                is_flag=metavar is None,
                help=words,
                hidden=hidden,
                is_eager=True,
                expose_value=False,
                callback=_note,
            )(command)
        return command

    return add


_OPTIONS = (
    (("--config",), "FILE", "The configuration (default: nightcrew.toml)."),
    (("--app",), "MODULE:CREW", "The crew of a Python application, in place of a configuration."),
    (("--json",), None, "One JSON object on stdout."),
    (("-q", "--quiet"), None, "Nothing on stderr but errors."),
    (("-v", "--verbose"), None, "Log lines on stderr, and tracebacks."),
    (("--no-color", "plain"), None, "No colours; NO_COLOR=1 does the same."),
)


def _note(ctx: click.Context, param: click.Parameter, value: object) -> None:
    if value:
        setattr(ctx.find_object(Desk), str(param.name), value)


def command(example: str, *, of: click.Group) -> Callable[[Callable[..., int | None]], click.Command]:
    """Make a function a command of a group, which is given the desk and whose help ends with an example."""

    def register(function: Callable[..., int | None]) -> click.Command:
        made = options(hidden=True)(click.pass_obj(function))
        return of.command(function.__name__.strip("_").replace("_", "-"), epilog=f"Example: {example}")(made)

    return register


def run(group: click.Group, args: Sequence[str] | None, desk: Desk) -> int:
    """Run one command line; return its exit code, having said in a sentence whatever went wrong."""
    try:
        return group.main(args, "nightcrew", obj=desk, standalone_mode=False) or 0
    except click.UsageError as problem:
        sentence = problem.format_message().rstrip(".")
        asks = sentence.endswith("?")  # “did you mean …?” is a remedy already
        desk.screen.fail(
            f"{sentence}; see '{problem.ctx.command_path} --help'" if problem.ctx and not asks else sentence
        )
        return 2
    except (click.Abort, KeyboardInterrupt):
        desk.screen.fail("interrupted; what is done is kept, and the next call goes on")
        return INTERRUPTED
    except NightcrewError as problem:
        desk.screen.fail(problem)
        return exit_code(problem)
    except Exception as problem:  # noqa: BLE001 - the last line of defence: a sentence, not a traceback
        desk.screen.fail(problem, f"{type(problem).__name__}: {problem}{'' if desk.verbose else '; -v shows where'}")
        return 1


def exit_code(problem: NightcrewError) -> int:
    """Return the exit code by who must act: the caller or developer, the operator of the rails or of the database.

    A database that is there, ready and says no is no dependency that is down.
    """
    if (
        isinstance(problem, DatabaseError | StoreError | MailerError)
        and not isinstance(problem, SchemaError)
        and not problem.transient
    ):
        return 1
    return next((code for kind, code in _CODES.items() if isinstance(problem, kind)), 1)
