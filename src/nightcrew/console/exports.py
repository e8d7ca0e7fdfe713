"""Exports: the commands that write the schedules for another scheduler, or hold its files against them."""

import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from difflib import unified_diff
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from nightcrew.console import line
from nightcrew.console.desk import Desk
from nightcrew.console.line import Commands
from nightcrew.errors import ConfigurationError, UsageError
from nightcrew.exporters.block import BEGIN
from nightcrew.ping import checked

if TYPE_CHECKING:
    from nightcrew.exporters.exporter import Export, Way
    from nightcrew.job import Job

_PLAIN = re.compile(r"[A-Za-z0-9._~/@:+\[\]-]+")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_AND_ANSWER = timedelta(seconds=10)  # beyond the deadline of a call, to answer in


@click.group(cls=Commands, epilog="Example: nightcrew export vercel --write")
def export() -> None:
    """Write the schedules for another scheduler, from here."""


command = partial(line.command, of=export)


@dataclass(frozen=True, slots=True)
class Order:
    """What the options of every exporter say: for which jobs, and what is to become of the files."""

    desk: Desk
    names: Sequence[str]
    to: str | None
    write: bool
    check: bool

    def fill(self, drawn: "Callable[[Sequence[Job], datetime], Export]") -> int:
        """Show what is drawn, or write it, or tell how the files differ from it, by exit code 1 then."""
        if self.write and self.check:
            raise UsageError("--write changes the files and --check only looks: drop one of the two")
        with self.desk.crew() as crew:
            jobs = [crew.job_named(name) for name in self.names] or [job for job in crew.jobs.values() if job.enabled]
            found = drawn(jobs, crew.clock.now())
        if self.check:
            return self._compare(found)
        return self._write(found) if self.write else self._show(found)

    def _show(self, found: "Export") -> int:
        texts = {file.path: file.merged(None) for file in found.files}
        lines = next(iter(texts.values())).splitlines() if len(texts) == 1 else _all(texts)
        self.desk.screen.show({"files": texts, "notes": found.notes}, lines)
        self._tell(found.notes)
        return 0

    def _write(self, found: "Export") -> int:
        texts = {file.path: (before := _read(file.path), file.merged(before)) for file in found.files}
        written = [path for path, (before, after) in texts.items() if before != after]
        for path in written:
            _save(path, texts[path][1])
        said = [f"wrote {path}" for path in written] or ["nothing to do: the files are as they are to be"]
        self.desk.screen.show({"written": written, "notes": found.notes}, said)
        self._tell(found.notes if written else (), self._gone(found))
        return 0

    def _compare(self, found: "Export") -> int:
        lines: list[str] = []
        for file in found.files:
            before = _read(file.path)
            after = file.merged(before)
            if before != after:
                names = file.path if before is not None else "/dev/null", file.path
                lines += unified_diff((before or "").splitlines(), after.splitlines(), *names, lineterm="")
        gone = self._gone(found)
        body = {"drift": "\n".join(lines) or None, "gone": gone}
        self.desk.screen.show(body, lines or gone or ["in step with the jobs"])
        if lines:
            self.desk.screen.talk(f"not in step with the jobs; remedy: {self.line('--write')}")
        self._tell((), gone)
        return 1 if lines or gone else 0

    def _gone(self, found: "Export") -> list[str]:
        """Return the files that we wrote beside these, of jobs that are no more."""
        if self.names or not found.others:
            return []
        folder, known = Path(found.files[0].path).parent, {Path(file.path) for file in found.files}
        beside = sorted(path for pattern in found.others for path in folder.glob(pattern) if path not in known)
        return [str(path) for path in beside if BEGIN in (_read(str(path)) or "")]

    def _tell(self, notes: Sequence[str], gone: Sequence[str] = ()) -> None:
        for note in notes:
            self.desk.screen.talk(f"note: {note}")
        for path in gone:
            self.desk.screen.talk(f"{path} is of a job that is gone: disable it where it is installed, and remove it")

    def line(self, *more: str, names: Sequence[str] | None = None) -> str:
        """Return the command that draws this, as it was given, but for what is to become of it now."""
        context = click.get_current_context()
        words = [*(self.names if names is None else names)]
        for parameter in context.command.params:
            name = str(parameter.name)
            given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
            if given and isinstance(parameter, click.Option) and name not in {"write", "check"}:
                words += [parameter.opts[0], *([] if parameter.is_flag else [context.params[name]])]
        return self.desk.line(shlex.join(["export", str(context.info_name), *words, *more]))


def _order(function: Callable[..., int]) -> Callable[..., int]:
    """Add the options that all exporters have, and give the function an Order in their place."""

    def ordered(desk: Desk, names: Sequence[str], to: str | None, write: bool, check: bool, **rest: Any) -> int:  # noqa: FBT001
        return function(Order(desk, names, to, write, check), **rest)

    ordered.__name__, ordered.__doc__ = function.__name__, function.__doc__
    carried = getattr(function, "__click_params__", [])
    for add in (
        click.argument("names", metavar="[JOB]...", nargs=-1),
        click.option("--to", metavar="PATH", help="The file, or the folder, in place of the usual one."),
        click.option("--write", is_flag=True, help="Write it; what is not ours in a file stays as it is."),
        click.option("--check", is_flag=True, help="Only tell how the files differ; exit code 1 if they do."),
    ):
        add(ordered)
    ordered.__click_params__ = [*carried, *ordered.__click_params__]  # type: ignore[attr-defined]
    return ordered


_URL = click.option("--url", metavar="URL", help="Call the routes of the application that is reached there.")
_PROGRAM = click.option("--program", default="/usr/local/bin/nightcrew", show_default=True, metavar="FILE")
_FOLDER = click.option("--folder", default="/etc/nightcrew", show_default=True, help="Where a command is run.")
_IMAGE = click.option("--image", metavar="IMAGE", help="The image that a command is run in.")


@command("nightcrew export vercel --write")
@_order
@click.option("--schedules", is_flag=True, help="Vercel Schedules, each in its time zone, in place of crons in UTC.")
@click.option("--hobby", is_flag=True, help="Only what Vercel's plan Hobby allows.")
def vercel(order: Order, *, schedules: bool, hobby: bool) -> int:
    """Write the crons of vercel.json, or its schedules."""
    from nightcrew.exporters import vercel as exporter  # noqa: PLC0415 - --help is quick

    if schedules and hobby:
        raise UsageError("--hobby is about crons; Vercel Schedules have no such limit: drop one of the two")
    path = order.to or exporter.PATH
    if schedules:
        return order.fill(lambda jobs, now: exporter.schedules(jobs, now, path))
    return order.fill(lambda jobs, now: exporter.crons(jobs, now, path, hobby=hobby))


@command("nightcrew export github --url https://app.example --write")
@_order
@_URL
@_IMAGE
def github(order: Order, url: str | None, image: str | None) -> int:
    """Write a workflow for GitHub Actions."""
    from nightcrew.exporters import github as exporter  # noqa: PLC0415

    way, path = _way(order.desk, url, "nightcrew"), order.to or exporter.PATH
    image = _imaged(url, image, None)
    return order.fill(lambda jobs, now: exporter.workflow(jobs, way, now, path, order.line(), image))


@command("nightcrew export crontab --url https://app.example --write")
@_order
@_URL
@_PROGRAM
@_FOLDER
@click.option("--user", default="nightcrew", show_default=True, help="Who runs it.")
@click.option("--timezone", default="UTC", show_default=True, help="The time zone of that machine.")
def crontab(order: Order, url: str | None, program: str, folder: str, user: str, timezone: str) -> int:
    """Write a file for /etc/cron.d."""
    from nightcrew.exporters import crontab as exporter  # noqa: PLC0415
    from nightcrew.schedule import zone  # noqa: PLC0415

    way, path, where = _way(order.desk, url, _plain("--program", program)), order.to or exporter.PATH, zone(timezone)
    who, inside = _plain("--user", user), _plain("--folder", folder)
    return order.fill(
        lambda jobs, now: exporter.crontab(jobs, way, now, path, order.line(), zone=where, user=who, folder=inside)
    )


@command("nightcrew export systemd --url https://app.example --write")
@_order
@_URL
@_PROGRAM
@_FOLDER
def systemd(order: Order, url: str | None, program: str, folder: str) -> int:
    """Write a service and a timer for each job."""
    from nightcrew.exporters import systemd as exporter  # noqa: PLC0415

    way, path = _way(order.desk, url, _plain("--program", program)), order.to or exporter.PATH
    inside = _plain("--folder", folder)
    return order.fill(lambda jobs, now: exporter.units(jobs, way, now, path, order.line(names=()), inside))


@command("nightcrew export kubernetes --url https://app.example --write")
@_order
@_URL
@_IMAGE
def kubernetes(order: Order, url: str | None, image: str | None) -> int:
    """Write a CronJob for each job."""
    from nightcrew.exporters import kubernetes as exporter  # noqa: PLC0415

    way, path = _way(order.desk, url, "nightcrew"), order.to or exporter.PATH
    image = _imaged(url, image, exporter.CURL)
    return order.fill(lambda jobs, now: exporter.cronjobs(jobs, way, now, path, order.line(), image))


def _way(desk: Desk, url: str | None, program: str) -> "Way":
    """Return how the jobs are run: by a call of their routes where an address is given, else by a command."""
    from nightcrew.exporters.exporter import Call, Command  # noqa: PLC0415

    if url is not None:
        return Call(base(url), desk.settings().deadline + _AND_ANSWER)
    options = ("--app", _plain("--app", desk.app)) if desk.app else ()
    try:
        text = "" if desk.app else desk.path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        text = ""  # the crew, which is opened next, says what is wrong with it
    names = dict.fromkeys([*_VARIABLE.findall(text), *(["DATABASE_URL"] if desk.app else [])])
    return Command(program, options, tuple(names))


def base(url: str, option: str = "--url") -> str:
    """Return the address of an application; raises UsageError for what is none, or sends a secret in the clear."""
    try:
        return _plain(option, checked(url, "an application", "https://app.example", query=False)).rstrip("/")
    except ConfigurationError as problem:
        raise UsageError(f"{option}: {problem}") from None


def _imaged(url: str | None, image: str | None, default: str | None) -> str | None:
    if url is None and image is None:
        raise UsageError("say how the jobs are run: --url https://app.example calls them, --image IMAGE runs them")
    return default if image is None else _plain("--image", image)


def _plain(option: str, value: str) -> str:
    if _PLAIN.fullmatch(value):
        return value
    raise UsageError(f"{option} {value[:80]!r} holds a character that a file would have to quote: take a plain one")


def _all(texts: dict[str, str]) -> list[str]:
    return [row for path, text in texts.items() for row in (f"# ── {path}", *text.splitlines(), "")]


def _read(path: str) -> str | None:
    try:
        return Path(path).read_bytes().decode("utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as problem:
        raise ConfigurationError(f"{path} cannot be read ({problem}); name another with --to") from None


def _save(path: str, text: str) -> None:
    """Write a file, whole or not at all."""
    file = Path(path)
    beside = file.with_name(f".{file.name}.nightcrew")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(text.encode())
        if file.exists():
            beside.chmod(file.stat().st_mode & 0o777)
        beside.replace(file)
    except OSError as problem:
        beside.unlink(missing_ok=True)
        raise UsageError(f"{path} cannot be written ({problem.strerror}); name another with --to") from None
