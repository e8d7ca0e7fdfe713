"""Plan → Batches, each in its own short transaction."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from threading import Event

from nightcrew.claim import Claim
from nightcrew.clock import Budget, Clock
from nightcrew.database import Books, Cursor, Database, Form, Selection, Taken
from nightcrew.errors import DatabaseError
from nightcrew.ledger import Entry, Ledger

# Rows of a run's first batch and of its largest, and the seconds a batch aims at. A window is one index range of rows
# that nobody waits for; rows that others contend for, or that take children with them, are locked one by one, and a
# writer who waits for them should not yet call it slow.
SIZES = {Form.RANGE: (10_000, 100_000, 0.1), Form.CONTENDED: (1_000, 5_000, 0.05), Form.LOCKED: (500, 2_000, 0.05)}
_RETRIES = 5  # times one batch is tried again after a deadlock, a lock waited for in vain, or a lost connection


@dataclass(frozen=True, slots=True)
class Swept:
    """What the batches took in all, and why they stopped before the end, if they did."""

    rows: int
    counts: Mapping[str, int]
    stopped: str | None = None


@dataclass(frozen=True, slots=True)
class Broom:
    """What a sweep works with."""

    database: Database
    books: Books
    ledger: Ledger
    clock: Clock
    lease: float


def sweep(claim: Claim, selection: Selection, broom: Broom, budget: Budget) -> Swept:
    """Take batch after batch until nothing is left or the budget is spent; each renews the lease it works under.

    Raises ClaimLost when a newer fence exists, and DatabaseError for what retrying does not mend; the batches
    before it stay done and accounted for.
    """
    cursor, total = claim.cursor, Counter(claim.counts)
    limit, retries = SIZES[selection.form][0], 0
    while True:
        started = broom.clock.monotonic()
        try:
            taken, total = _transaction(claim, selection, broom, cursor, total, limit, again=retries > 0)
        except DatabaseError as error:
            retries += 1
            if not error.transient or retries > _RETRIES:
                raise
            broom.clock.wait(Event(), 0.05 * 2**retries * broom.clock.jitter(0.5))
            limit = max(limit // 4, 1)
            if selection.form is Form.RANGE and selection.table.primary_key and not error.away:
                selection = replace(selection, form=Form.CONTENDED)  # somebody holds a row: go past it
            continue
        seconds = broom.clock.monotonic() - started
        limit, retries = steered(selection.form, limit, seconds), 0
        cursor = taken.cursor
        if taken.rows:
            facts = {"rows": taken.rows, "ms": round(1000 * seconds, 1)}
            broom.ledger.tell(Entry("batch", claim.job.name, claim.run, facts))
        stopped = None if taken.exhausted else budget.spent
        if taken.exhausted or stopped is not None:
            return Swept(total[selection.table.name], dict(total), stopped)


def steered(form: Form, limit: int, seconds: float) -> int:
    """Return how many rows the next batch takes, when one of `limit` rows took so many seconds.

    Only time can steer it: what a row costs differs a thousandfold between databases, indexes and disks.
    """
    _, most, target = SIZES[form]
    aimed = limit * min(2.0, max(0.5, target / max(seconds, 0.001)))
    return round(min(most, max(50, aimed)))


def _look_back(claim: Claim, broom: Broom, cursor: Cursor, total: Counter[str]) -> tuple[Cursor, Counter[str]]:
    """Ask the ledger how far the run is: a commit may have arrived although its answer was lost."""
    written_cursor, written = broom.books.progress(claim.run)
    return (cursor, total) if written == total or not written else (written_cursor, Counter(written))


def _transaction(
    claim: Claim,
    selection: Selection,
    broom: Broom,
    cursor: Cursor,
    total: Counter[str],
    limit: int,
    *,
    again: bool,
) -> tuple[Taken, Counter[str]]:
    """Fence, rows and account in one transaction: they commit together or not at all."""
    started = broom.clock.monotonic()
    with broom.database.transaction() as connection:
        broom.books.renew(connection, claim.job.name, claim.fence, broom.lease)
        if again:  # now that the fence has waited for whatever the last try left under way
            cursor, total = _look_back(claim, broom, cursor, total)
        taken = broom.database.take(connection, selection, cursor, limit)
        so_far = total + Counter(taken.counts)
        if taken.rows:
            facts = {
                "rows": taken.rows,
                "counts": dict(taken.counts),
                "total": dict(so_far),
                "cursor": dict(taken.cursor),
                "fence": claim.fence,
            }
            broom.ledger.write(Entry("batch", claim.job.name, claim.run, facts), connection)
        if broom.clock.monotonic() - started > broom.lease / 3:
            broom.books.renew(connection, claim.job.name, claim.fence, broom.lease)
    return taken, so_far
