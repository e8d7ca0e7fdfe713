"""Acts: the commands that run jobs, keep them from running, or agree to what they will do."""

import getpass
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from shlex import quote
from threading import Event
from typing import TYPE_CHECKING

import click

from nightcrew.console import line
from nightcrew.console.desk import Desk
from nightcrew.console.line import INTERRUPTED, JOB, Moment, Span
from nightcrew.errors import UsageError

if TYPE_CHECKING:
    from nightcrew.report import Report

ACTS = click.Group()
"""The commands by name."""

_NO_SLOT = "no slot of that time is left to run"

command = partial(line.command, of=ACTS)


@command("nightcrew run cleanup-pkce --deadline 50s")
@JOB
@click.option("--slot", type=Moment(), help="Run for this slot (default: the latest that is due).")
@click.option("--now", "at_once", is_flag=True, help="Run at once, for no slot, and whatever its window.")
@click.option("--plan", "plan_id", metavar="ID", help="Run at once what this plan showed, or say why it holds no more.")
@click.option("--deadline", type=Span(), help="Stop after this long; the next call goes on.")
def _run(
    desk: Desk, name: str, slot: datetime | None, plan_id: str | None, deadline: timedelta | None, *, at_once: bool
) -> int:
    """Run a job for its slot, unless somebody has already."""
    from nightcrew.console.progress import shown

    with desk.crew_at_work() as crew, shown(desk.screen, crew) as progress, _stoppable(progress.say) as stop:
        asked = partial(crew.run, name, trigger="cli", caller=caller(), deadline=deadline, stop=stop)
        report = asked(slot=slot, now=at_once, plan=plan_id)
    desk.screen.show(report.json(), _told(desk, report))
    return _code([report], stop)


@command("nightcrew backfill rates --from 2026-01-01T00Z --to 2026-02-01T00Z")
@JOB
@click.option("--from", "since", type=Moment(), required=True, help="The first time of which slots are run.")
@click.option("--to", "until", type=Moment(), required=True, help="The last.")
@click.option("--list", "only_list", is_flag=True, help="Only list the slots.")
def backfill(desk: Desk, name: str, since: datetime, until: datetime, *, only_list: bool) -> int:
    """Run the slots of a function that nobody ran, or that failed."""
    from nightcrew.console import prose
    from nightcrew.console.progress import shown

    with desk.crew_at_work() as crew:
        if only_list:
            slots = crew.backlog(name, since, until)
            body = {"job": name, "slots": [prose.iso(slot) for slot in slots]}
            desk.screen.show(body, [prose.clock(slot) for slot in slots] or [_NO_SLOT])
            return 0
        with shown(desk.screen, crew) as progress, _stoppable(progress.say) as stop:
            reports = crew.backfill(name, since, until, trigger="cli", caller=caller(), stop=stop)
    lines = [line for report in reports for line in _told(desk, report)]
    desk.screen.show({"reports": [report.json() for report in reports]}, lines or [_NO_SLOT])
    return _code(reports, stop)


@command("nightcrew tick")
def tick(desk: Desk) -> int:
    """Run every slot that is due; for crontab, systemd, Kubernetes."""
    from nightcrew.console.progress import shown

    with desk.crew_at_work() as crew, shown(desk.screen, crew) as progress, _stoppable(progress.say) as stop:
        reports = crew.tick(trigger="cli", stop=stop)
        if not stop.is_set():
            crew.alarms.watch(stop)
    lines = [line for report in reports for line in _told(desk, report)]
    desk.screen.show({"reports": [report.json() for report in reports]}, lines or ["nothing is due"])
    return _code(reports, stop)


@command("nightcrew pause cleanup-pkce --reason migrating --until 2h")
@click.argument("name", metavar="[JOB]", required=False)
@click.option("--all", "every", is_flag=True, help="Stop every job, each after the batch it is in.")
@click.option("--reason", required=True, help="Why, for whoever finds the job paused.")
@click.option("--until", type=Moment(spans=True), help="When it goes on by itself: a time, or for how long.")
def pause(desk: Desk, name: str | None, reason: str, until: datetime | None, *, every: bool) -> None:
    """Keep every trigger from running a job, and stop it if it runs."""
    from nightcrew.console import prose

    if not reason.strip():
        raise UsageError("--reason is empty; say why, for whoever finds the job paused")
    job = _one_or_all(name, every=every)
    if job is None:
        if until is not None:
            raise UsageError("--until goes with a JOB; a stop of all lasts until 'nightcrew resume --all'")
        with desk.crew_at_work() as crew:
            crew.stop_all(by=caller(), reason=reason)
        line = f"{desk.screen.glyph('paused')} every job is stopped until '{desk.line('resume --all')}': {reason}"
        desk.screen.show({"stopped": True, "reason": reason}, [line])
        return
    with desk.crew_at_work() as crew:
        crew.pause(job, by=caller(), reason=reason, until=until)
    body = {"job": name, "paused": True, "reason": reason, "until": until and prose.iso(until)}
    ends = f"until {prose.clock(until)}" if until else f"until '{desk.line(f'resume {name}')}'"
    desk.screen.show(body, [f"{desk.screen.glyph('paused')} {name} is paused {ends}: {reason}"])


@command("nightcrew cancel cleanup-pkce.20260131T120000Z --reason 'too slow'")
@click.argument("run", metavar="RUN")
@click.option("--reason", default="", help="Why, for whoever finds the run cancelled.")
def cancel(desk: Desk, run: str, reason: str) -> None:
    """End a run for good after the batch it is in."""
    from nightcrew.console import prose

    with desk.crew_at_work() as crew:
        row = crew.cancel(run, by=caller(), reason=reason.strip())
    ends = "it ends after the batch it is in" if row.state.open else str(row.reason)
    desk.screen.show(prose.run(row), [f"{desk.screen.glyph('cancelled')} {run} is cancelled: {ends}"])


@command("nightcrew undo purge.20260131T120000Z --confirm purge")
@click.argument("run", metavar="RUN")
@click.option("--confirm", metavar="JOB", help="Put the rows back: name the job whose run it is.")
def undo(desk: Desk, run: str, confirm: str | None) -> int:
    """Say what of a run can be put back; --confirm does it."""
    from nightcrew.console import reversal
    from nightcrew.console.progress import shown

    with desk.crew_at_work() as crew, shown(desk.screen, crew) as progress, _stoppable(progress.say) as stop:
        found = crew.undo(run)
        if confirm is not None:
            if confirm != found.job:
                raise UsageError(f"--confirm names {confirm!r}, and the run is one of job {found.job!r}")
            found = crew.undo(run, restore=True, by=caller(), stop=stop.is_set)
        where = crew.archive
    lines = reversal.lines(found, str(where), desk.screen)
    following = [] if found.done or not found.back else [f"next: {desk.line(f'undo {run} --confirm {found.job}')}"]
    desk.screen.show(found.json(), [*lines, *following])
    return INTERRUPTED if found.stopped else 0


@command("nightcrew ack cleanup-pkce")
@JOB
def ack(desk: Desk, name: str) -> None:
    """Agree to what a run of a job would be refused for."""
    from nightcrew.console import prospect

    with desk.crew_at_work() as crew:
        agreed, job = crew.ack(name, by=caller()), crew.job_named(name)
    took = [f"agreed: {why}" for why in agreed.refusals] or ["agreed; nothing stood in its way"]
    following = f"next: {desk.line(f'run {name}')}"
    desk.screen.show(agreed.json(), [*prospect.lines(replace(agreed, refusals=()), job, desk.screen), *took, following])


@command("nightcrew resume cleanup-pkce")
@click.argument("name", metavar="[JOB]", required=False)
@click.option("--all", "every", is_flag=True, help="End a stop of all; paused jobs stay paused.")
def resume(desk: Desk, name: str | None, *, every: bool) -> None:
    """Let triggers run a paused job again."""
    job = _one_or_all(name, every=every)
    if job is None:
        with desk.crew_at_work() as crew:
            crew.resume_all(by=caller())
        line = f"{desk.screen.glyph('done')} jobs run again when they are due"
        desk.screen.show({"stopped": False}, [line])
        return
    with desk.crew_at_work() as crew:
        crew.resume(job, by=caller())
    line = f"{desk.screen.glyph('done')} {name} runs again when it is due"
    desk.screen.show({"job": name, "paused": False}, [line])


@command("nightcrew erase 42 --confirm")
@click.argument("subject", metavar="SUBJECT|replay|receipts", nargs=-1, required=True)
@click.option("--job", "name", metavar="JOB", help="The job whose table has the row, where several erase.")
@click.option("--confirm", is_flag=True, help="Remove it, and write a receipt.")
@click.option("--since", type=Moment(), help="With replay: also what was asked for since then.")
def erase(desk: Desk, subject: tuple[str, ...], name: str | None, since: datetime | None, *, confirm: bool) -> int:
    """Erase one person, by the primary key; without --confirm, count."""
    if subject == ("replay",):
        return _replay(desk, since, confirm=confirm)
    if since is not None:
        raise UsageError("--since goes with 'erase replay': drop it")
    if subject == ("receipts",):
        return _receipts(desk)
    from nightcrew.console import erasures
    from nightcrew.erasures.receipt import read

    screen = desk.screen
    with desk.crew_at_work() as crew, _stoppable(screen.talk) as stop:
        if not confirm:
            found = crew.erasure(*subject, job=name)
            following = desk.line(f"erase {' '.join(map(quote, subject))}{f' --job {name}' if name else ''} --confirm")
            screen.show(found.json(), [*erasures.prospect(found, screen), f"next: {following}"])
            return 0
        said = read(crew.erase(*subject, job=name, by=caller(), stop=stop))
    screen.show(said, erasures.receipt(said, screen))
    return 0 if said["result"] == "complete" else 1


def _replay(desk: Desk, since: datetime | None, *, confirm: bool) -> int:
    """Erase again what a restored database has brought back."""
    from nightcrew.console import erasures
    from nightcrew.erasures.receipt import read

    screen = desk.screen
    with desk.crew_at_work() as crew, _stoppable(screen.talk) as stop:
        number, done = crew.replay(by=caller(), since=since, confirm=confirm, stop=stop)
    said = [read(one) for one in done]
    lines = [line for each in said for line in erasures.receipt(each, screen)]
    counted = f"{number:,} rows of erased subjects are back"
    following = desk.line(f"erase replay --confirm{f' --since {since.isoformat()}' if since else ''}")
    screen.show(
        {"found": number, "receipts": said},
        [*lines, counted, *([] if confirm or not number else [f"next: {following}"])],
    )
    return 0 if all(each["result"] == "complete" for each in said) else 1


def _receipts(desk: Desk) -> int:
    """List the receipts, and check that none was changed or lost."""
    from nightcrew.console import erasures

    with desk.crew_at_work() as crew:
        said, faults = list(crew.receipts()), crew.verify()
    desk.screen.show({"receipts": said, "faults": faults}, erasures.list_of(said, faults, desk.screen))
    return 1 if faults else 0


def _one_or_all(name: str | None, *, every: bool) -> str | None:
    """Return the job that is meant, or None for all."""
    if (name is None) != every:
        raise UsageError("name one JOB, or say --all for every job; not both and not neither")
    return name


def _told(desk: Desk, report: "Report") -> list[str]:
    note = [report.note] if report.note else []
    return [f"{desk.screen.glyph(report.outcome)} {report.message}", *note]


def _code(reports: "Sequence[Report]", stop: Event) -> int:
    """Return the worst of the reports' codes; work that a signal cut short says so, for it is only half done."""
    worst = max((report.outcome.exit_code for report in reports), default=0)
    cut = stop.is_set() and any(report.outcome == "partial" for report in reports)
    return worst or (INTERRUPTED if cut else 0)


@contextmanager
def _stoppable(say: Callable[[str], None]) -> Iterator[Event]:
    """Let the first Ctrl-C or SIGTERM finish the batch in hand, and the second one end the run where it stands."""
    stop = Event()

    def hear(number: int, frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        say("stopping after this batch; once more stops at once")

    before = {number: signal.signal(number, hear) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def caller() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user often has no name
        return "unknown"
