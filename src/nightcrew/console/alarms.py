"""Alarms: the command that says which alarms stand and who was told, and tries whether anybody can be."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from nightcrew.clock import instant
from nightcrew.console import line
from nightcrew.console.desk import Desk
from nightcrew.console.screen import Screen
from nightcrew.duration import when
from nightcrew.errors import UsageError

if TYPE_CHECKING:
    from nightcrew.alarm import Alarm, Kept

ALARMS = click.Group()
"""The command by its name."""

_NO_CHANNEL = "nobody is told of alarms: write a table such as [alarms.slack], or pass Nightcrew(alarms=…)"
_UNREACHED = 4

command = partial(line.command, of=ALARMS)


@command("nightcrew alarms --test")
@click.option("--test", is_flag=True, help="Send a test by every channel.")
def alarms(desk: Desk, *, test: bool) -> int:
    """Say which alarms stand, since when, and who was told."""
    with desk.crew_at_work() as crew:
        if test:
            if not crew.alarms.channels:
                raise UsageError(_NO_CHANNEL)
            return _tried(crew.alarms.test(), desk.screen)
        found, now, channels = crew.alarms.standing(), crew.clock.now(), crew.alarms.channels
    body = {"alarms": [_json(*each) for each in found], "channels": list(channels)}
    desk.screen.show(body, _lines(found, now, desk.screen))
    if not channels:
        desk.screen.talk(_NO_CHANNEL)
    return 0


def _tried(said: Mapping[str, str | None], screen: Screen) -> int:
    """Show what came of a test; the code is that of a dependency that is down where a channel failed."""
    lines = [f"{screen.glyph('failed' if wrong else 'done')} {name}: {wrong or 'told'}" for name, wrong in said.items()]
    screen.show({"channels": [{"channel": name, "error": wrong} for name, wrong in said.items()]}, lines)
    return _UNREACHED if any(said.values()) else 0


def _lines(found: "Sequence[tuple[Alarm, Kept | None]]", now: datetime, screen: Screen) -> list[str]:
    if not found:
        return [f"{screen.glyph('done')} no alarm stands"]
    rows = [
        [alarm.job or "-", str(alarm.kind).replace("_", " "), when((kept.alarm if kept else alarm).since, now),
         _told(kept, now), alarm.says]
        for alarm, kept in found
    ]  # fmt: skip
    return [
        *screen.table(["JOB", "ALARM", "SINCE", "TOLD", "WHAT WAS SEEN"], rows),
        *(f"  {alarm.job or 'the crew'}: {alarm.remedy}" for alarm, _ in found),
    ]


def _told(kept: "Kept | None", now: datetime) -> str:
    """Say who was told, or why nobody was."""
    if kept is None:
        return "not yet"
    if kept.wrong is not None:
        reached = f"{', '.join(kept.reached)}; " if kept.reached else ""
        return f"{reached}not {kept.wrong}"
    return f"{', '.join(kept.reached)} {when(kept.told_at, now)}" if kept.told_at else "not yet"


def _json(alarm: "Alarm", kept: "Kept | None") -> dict[str, Any]:
    told = {"told": list(kept.reached) if kept else [], "toldAt": kept and kept.told_at and instant(kept.told_at)}
    since = {"since": instant((kept.alarm if kept else alarm).since)}
    return alarm.json() | since | told | {"error": kept and kept.wrong}
