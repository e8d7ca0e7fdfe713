"""Streams: the commands that look at the live streams of chats, and end what nobody writes any more."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import click

from nightcrew.acts import Act
from nightcrew.console import line
from nightcrew.console.acts import caller
from nightcrew.console.desk import Desk
from nightcrew.console.line import Commands
from nightcrew.duration import when
from nightcrew.errors import UsageError

if TYPE_CHECKING:
    from nightcrew.crew import Nightcrew
    from nightcrew.tending import Tending


@click.group(cls=Commands, epilog="Example: nightcrew streams list")
def streams() -> None:
    """See the live streams of chats, and end the lost ones."""


command = partial(line.command, of=streams)


@command("nightcrew streams list --user 42")
@click.option("--user", metavar="ID", help="Only those that were begun for a user.")
def list_(desk: Desk, user: str | None) -> None:
    """List the live streams of chats; the lost are ended."""
    with _tended(desk) as (crew, tending):
        found, now = tending.live(user), crew.clock.now()
    rows = [
        [one.ref.chat, one.ref.id, one.user, f"{one.end:,}", when(_moment(one.started), now), one.stop and "stopping"]
        for one in found
    ]
    body = [
        {"chat": one.ref.chat, "stream": one.ref.id, "user": one.user, "bytes": one.end, "stopping": bool(one.stop)}
        | {"startedAt": _moment(one.started).isoformat()}
        for one in found
    ]
    table = desk.screen.table(["CHAT", "STREAM", "USER", "BYTES", "BEGUN", ""], rows)
    desk.screen.show({"streams": body}, table if found else ["no stream is live"])


@command("nightcrew streams sweep")
def sweep(desk: Desk) -> int:
    """End the streams that nobody writes, and save them."""
    from nightcrew.tending import said  # noqa: PLC0415 - --help is quick

    with _tended(desk) as (crew, tending):
        crew.acts.keep(Act(caller(), "sweep streams"))
        found = tending.reap()
    why = [f"not saved: {found.reason or 'nobody says how; see persist in [streams]'}"] if found.unsaved else []
    desk.screen.show(asdict(found), [said(found), *why])
    return 1 if found.unsaved else 0


@contextmanager
def _tended(desk: Desk) -> "Iterator[tuple[Nightcrew, Tending]]":
    with desk.crew() as crew:
        if crew.streams is None:
            raise UsageError("this crew knows of no streams; say where they are kept in a table [streams]")
        yield crew, crew.streams


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
