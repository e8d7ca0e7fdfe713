"""Mails: the commands that look at what people are due, at its words, and at whom nothing is sent to."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

import click

from nightcrew.console import line
from nightcrew.console.acts import caller
from nightcrew.console.desk import Desk
from nightcrew.console.line import Commands
from nightcrew.console.screen import Screen
from nightcrew.duration import when
from nightcrew.errors import UsageError, did_you_mean
from nightcrew.sent import RETRIED, State
from nightcrew.suppression import BY_HAND, EVERYTHING, Suppression

if TYPE_CHECKING:
    from nightcrew.crew import Nightcrew
    from nightcrew.mailing import Mailing
    from nightcrew.scheduled import Scheduled

STEP = click.argument("step", metavar="STEP")
_SHOWN = ("waiting", "sending", "sent", "maybe_sent", "failed", "expired", "suppressed", "cancelled")
_GOOD = ("sent",)


@click.group(cls=Commands, epilog="Example: nightcrew mail due")
def mail() -> None:
    """See what people are due and how it reads; keep some from it."""


command = partial(line.command, of=mail)


@command("nightcrew mail due -n 50")
@click.option("-n", "number", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many to name.")
def due(desk: Desk, number: int) -> None:
    """Say what is due, what came of the rest, and what to look at."""
    with _mailing(desk) as (crew, room):
        coming, counts, now = room.due(limit=number), room.counts(), crew.clock.now()
        newly = room.newly_enrolled()
        odd = room.of_state(State.MAYBE_SENT, State.FAILED, limit=number)
    steps = [
        {"sequence": sequence, "step": step} | dict(said) for (sequence, step), said in _by_step(counts).items()
    ]  # fmt: skip
    body = {"due": [each.json() for each in coming], "newlyEnrolled": newly}
    body |= {"attention": [each.json() for each in odd], "steps": steps}
    desk.screen.show(body, [*_overview(coming, odd, counts, now, desk), *_new(newly)])


@command("nightcrew mail preview day3 --html > day3.html")
@STEP
@click.option("--person", metavar="ID", help="Whose it would be (default: somebody invented).")
@click.option("--segment", help="In the words for this segment.")
@click.option("--arm", help="In this variant.")
@click.option("--html", is_flag=True, help="Only the HTML part.")
def preview(desk: Desk, step: str, person: str | None, segment: str | None, arm: str | None, *, html: bool) -> None:
    """Show a mail as somebody would get it now; sends nothing."""
    with _mailing(desk) as (_, room):
        letter = room.preview(*_named(room, step), person, segment=segment, arm=arm)
    body = {"to": str(letter.recipient), "from": str(letter.sender), "subject": letter.subject}
    heads = [f"{name.title():<8} {value}" for name, value in body.items()]
    lines = [letter.html or ""] if html else [*heads, "", letter.text]
    desk.screen.show(body | {"text": letter.text, "html": letter.html}, lines)


@command("nightcrew mail send-test me@example.com day3")
@click.argument("address", metavar="ADDRESS")
@STEP
@click.option("--segment", help="In the words for this segment.")
@click.option("--arm", help="In this variant.")
def send_test(desk: Desk, address: str, step: str, segment: str | None, arm: str | None) -> int:
    """Send a mail to an address of yours, to see how it arrives."""
    with _mailing(desk) as (_, room):
        done = room.send_test(address, *_named(room, step), segment=segment, arm=arm)
    sent = str(done.fate) in _GOOD
    sentence = (
        f"{desk.screen.glyph('done' if sent else 'failed')} {str(done.fate).replace('_', ' ')}: {step} to {address}"
    )
    body = {"fate": str(done.fate), "reason": done.reason}
    desk.screen.show(body, [f"{sentence}{f' ({done.reason})' if done.reason else ''}"])
    return 0 if sent else 1


@command("nightcrew mail suppress ada@example.com --reason 'asked by phone'")
@click.argument("address", metavar="[ADDRESS]", required=False)
@click.option("--person", metavar="ID", help="A person in place of an address.")
@click.option("--sequence", help="Only mail of this sequence (default: all mail).")
@click.option("--reason", help="Why, for whoever asks later.")
@click.option("--remove", is_flag=True, help="Let mail be sent again.")
def suppress(
    desk: Desk, address: str | None, person: str | None, sequence: str | None, reason: str | None, *, remove: bool
) -> int:
    """Send nothing to an address or person; without one, list them."""
    with _mailing(desk) as (crew, room):
        if address is None and person is None:
            if remove or reason or sequence:
                raise UsageError("name an ADDRESS, or --person ID, whom it is about")
            found, now = room.suppressions(), crew.clock.now()
            desk.screen.show({"suppressions": [one.json() for one in found]}, _silent(found, now, desk.screen))
            return 0
        if sequence is not None and sequence not in room.mail.by_name:
            raise UsageError(f"there is no sequence {sequence!r}{did_you_mean(sequence, room.mail.by_name)}")
        done, topic = True, sequence or EVERYTHING
        if remove:
            done = room.unsuppress(address=address, person=person, topic=topic, by=caller())
        else:
            room.suppress(address=address, person=person, topic=topic, reason=reason or BY_HAND, by=caller())
    about = f"{address or f'person {person}'}{f', mail of {sequence}' if sequence else ''}"
    sentence = (
        ("mail is sent again" if done else "there was nothing to remove") if remove else "nothing is sent any more"
    )
    desk.screen.show({"subject": about, "removed": done if remove else None}, [f"{about}: {sentence}"])
    return 1 if remove and not done else 0


@command("nightcrew mail retry 4711 4712")
@click.argument("numbers", metavar="[NUMBER]...", type=int, nargs=-1)
@click.option("--maybe-sent", is_flag=True, help="All that were perhaps sent: they may arrive twice.")
@click.option("--failed", is_flag=True, help="All that failed.")
@click.option("--expired", is_flag=True, help="All that came too late.")
def retry(desk: Desk, numbers: tuple[int, ...], *, maybe_sent: bool, failed: bool, expired: bool) -> int:
    """Let mails be sent after all, by number, or all of a kind."""
    said = {State.MAYBE_SENT: maybe_sent, State.FAILED: failed, State.EXPIRED: expired}
    states = [state for state, chosen in said.items() if chosen]
    if bool(numbers) == bool(states):
        raise UsageError("name the NUMBERs of mails, as 'nightcrew mail due' lists them, or one of the options")
    with _mailing(desk) as (_, room):
        again = room.retry(numbers or None, states=states or RETRIED, by=caller())
    desk.screen.show({"retried": again}, [f"tried again from now on: {again:,}"])
    return 0 if again or not numbers else 1


@contextmanager
def _mailing(desk: Desk) -> Iterator[tuple["Nightcrew", "Mailing"]]:
    with desk.crew_at_work() as crew:
        if crew.mail is None:
            raise UsageError("nobody says how mail is sent: write a table [mail], as docs/mail.md shows")
        yield crew, crew.mail


def _named(room: "Mailing", text: str) -> tuple[str, str]:
    """Return which step of which sequence is meant by SEQUENCE/STEP, or by a name that one sequence alone has."""
    sequence, slash, step = text.rpartition("/")
    if slash:
        return sequence, step
    having = [one.name for one in room.mail.sequences if one.step(step)]
    if len(having) == 1:
        return having[0], step
    if having:
        raise UsageError(f"several sequences have a step {step!r}: write one as in {having[0]}/{step}")
    known = [each.name for one in room.mail.sequences for each in one.steps]
    raise UsageError(f"there is no step {step[:80]!r}{did_you_mean(step, known)}")


def _by_step(counts: Mapping[tuple[str, str, State], int]) -> Mapping[tuple[str, str], Counter[str]]:
    found: dict[tuple[str, str], Counter[str]] = {}
    for (sequence, step, state), number in sorted(counts.items()):
        found.setdefault((sequence, step), Counter())[str(state)] += number
    return found


def _new(people: int) -> Iterator[str]:
    if people:
        yield ""
        yield f"newly enrolled: {people:,}, whose mails are made when mail is sent next"


def _overview(
    coming: Collection["Scheduled"],
    odd: Iterable["Scheduled"],
    counts: Mapping[tuple[str, str, State], int],
    now: datetime,
    desk: Desk,
) -> list[str]:
    """Say what is due, then how each step stands, then what a person has to look at."""
    screen = desk.screen
    heads = ["SEQUENCE", "STEP", *(state.replace("_", " ").upper() for state in _SHOWN)]
    table = [[*named, *(f"{said[state]:,}" for state in _SHOWN)] for named, said in _by_step(counts).items()]
    lines = screen.table(heads, table) if table else ["nobody has been due a mail yet"]
    if coming:
        rows = [
            [str(each.id), each.sequence, each.step, each.person, when(each.planned, now), each.reason]
            for each in coming
        ]
        lines += ["", "due:", *screen.table(["NUMBER", "SEQUENCE", "STEP", "PERSON", "SINCE", "LAST"], rows)]
    if rows := [
        [str(each.id), screen.mark(str(each.state)), each.step, each.person, each.reason] for each in odd
    ]:  # fmt: skip
        lines += ["", "to be looked at:", *screen.table(["NUMBER", "STATE", "STEP", "PERSON", "REASON"], rows)]
        lines.append(f"next: {desk.line('mail retry NUMBER')}")
    return lines


def _silent(found: Iterable[Suppression], now: datetime, screen: Screen) -> list[str]:
    rows = [
        [one.subject.address or f"person {one.subject.person}", one.topic or "all mail", one.reason, one.by,
         when(one.since, now)]
        for one in found
    ]  # fmt: skip
    if not rows:
        return ["mail is kept from nobody"]
    return screen.table(["WHOM", "OF", "REASON", "BY", "SINCE"], rows)
