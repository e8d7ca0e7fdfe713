"""Reversal: an undo in words for a person."""

from collections.abc import Iterator

from nightcrew.archives.undo import REASONS
from nightcrew.archives.undone import Tally, Undo
from nightcrew.console.prose import clock
from nightcrew.console.screen import Screen
from nightcrew.done import rows_of
from nightcrew.duration import spell
from nightcrew.job import Job


def kept(job: Job, archive: str | None) -> str | None:
    """Say where rows that leave are archived, and for how long."""
    if job.policy is None or job.policy.archive is None:
        return None
    return f"in {archive} for {spell(job.policy.archive)}; until then 'nightcrew undo RUN' puts back what a run took"


def lines(found: Undo, archive: str, screen: Screen) -> list[str]:
    """Return what would come back, or has, by table, and why the rest does not."""
    verb = "put back" if found.done else "would be put back"
    seen = "" if found.exact else f" of the {found.seen:,} that were looked at"
    head = f"{found.run} of {found.job}, archived in {archive}: {rows_of(found.back)} {verb}{seen}"
    rows = [[name, *(f"{number:,}" for number in _numbers(tally))] for name, tally in found.tables.items()]
    return [
        head,
        *screen.table(["TABLE", "ARCHIVED", "BACK NOW" if found.done else "BACK", "THERE", "CONFLICTS"], rows),
        *(f"  {name:<8} {fact}" for name, fact in _facts(found)),
        *(f"{screen.paint('! warning', 'yellow')}  {warning}" for warning in _warnings(found)),
    ]


def _numbers(tally: Tally) -> tuple[int, int, int, int]:
    return tally.archived, tally.back, tally.same + tally.before, tally.conflicts.total()


def _facts(found: Undo) -> Iterator[tuple[str, str]]:
    yield "until", f"{clock(found.until)}, then it is forgotten"
    if before := sum(tally.before for tally in found.tables.values()):
        yield "before", f"{rows_of(before)} had been put back already, or were by another undo meanwhile"
    for table, tally in found.tables.items():
        for reason, rows in tally.conflicts.items():
            yield "conflict", f"{rows:,} of {table}: {REASONS[reason]}"
        for named in tally.named:
            yield "row", f"{table} {named}"


def _warnings(found: Undo) -> Iterator[str]:
    if not found.exact:
        yield (
            f"{found.unseen:,} rows were not looked at, for that takes longer than a minute: each is when it is put"
            " back, and stays where it is if something is in its way"
        )
    for store, number in found.gone.items():
        yield f"{number:,} blobs that these rows name are no longer in {store}"
    if found.stopped:
        yield "stopped before the end; the same command goes on"
    if found.back:
        yield (
            f"the job takes these rows again at its next run, for they are as old as they were: 'nightcrew pause"
            f" {found.job} --reason undone', or a hold on them, keeps it from that"
        )
