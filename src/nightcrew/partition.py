"""Partition: what has expired as a whole leaves as a whole, before any row is looked for."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from nightcrew.claim import Claim
from nightcrew.database import Counted, Partition, Selection
from nightcrew.errors import DatabaseError
from nightcrew.ledger import Entry
from nightcrew.metronome import Metronome
from nightcrew.rails import Permit
from nightcrew.throttle import Take
from nightcrew.walk import Broom

_TRIES = 3  # of a lock that somebody keeps us from: past that, rows are taken, which needs none


@dataclass(frozen=True, slots=True)
class Shed:
    """How far a run is once partitions were dropped: rows per table, partitions, and why it stopped, if it did.

    The rows are `exact` unless there were too many to count.
    """

    counts: Mapping[str, int]
    dropped: int = 0
    exact: bool = True
    stopped: str | None = None


def shed(claim: Claim, selection: Selection, permit: Permit, broom: Broom, metronome: Metronome) -> Shed:
    """Drop every partition that has expired as a whole, each in a transaction with its account.

    What cannot be dropped, because somebody is in the way or the database does not let us, is left to be taken row by
    row. Raises ClaimLost when a newer fence exists, and SafetyStop before a partition goes that comes to more than its
    permit.
    """
    total, dropped, exact = Counter(claim.counts), 0, True
    # A run that was divided among walks has left its partitions behind.
    for partition in broom.database.partitions(selection) if selection.alone and len(claim.stages) == 1 else ():
        tries = 0
        while isinstance(beat := metronome.next(), Take):
            begun = broom.clock.monotonic()
            try:
                gone = _drop(claim, selection, permit, broom, partition, total)
            except DatabaseError as error:
                tries += 1
                if error.away:
                    raise
                if error.transient and tries < _TRIES:
                    metronome.stumbled(tries)
                    continue
                _account(claim, selection, broom, partition, str(error))
                return Shed(total, dropped, exact)
            metronome.spent(broom.clock.monotonic() - begun)
            if gone is not None:
                total[selection.table.name] += gone.rows
                dropped, exact = dropped + 1, exact and gone.exact
            break
        else:
            return Shed(total, dropped, exact, beat.because)
    return Shed(total, dropped, exact)


def _drop(
    claim: Claim, selection: Selection, permit: Permit, broom: Broom, partition: Partition, total: Mapping[str, int]
) -> Counted | None:
    """Fence, partition and account in one transaction, where the database has one for that.

    Where it commits each of them, the fence is asked before and after, and the account begins before.
    """
    job, run, table = claim.job.name, claim.run, selection.table.name

    def allow(rows: int) -> None:
        permit.demand(Counter(total) + Counter({table: rows}), job)

    with broom.database.transaction() as connection:
        broom.books.renew(connection, job, claim.fence, broom.lease)
        begun = {"table": table, "partition": partition.name, "about": partition.rows, "fence": claim.fence}
        broom.ledger.write(Entry("dropping", job, run, begun), connection)
        started = broom.clock.monotonic()
        gone = broom.database.drop(connection, selection, partition, allow)
        if gone is None:
            return None
        seconds = broom.clock.monotonic() - started
        asked_at = broom.clock.monotonic()
        broom.books.renew(connection, job, claim.fence, broom.lease)
        facts = {"rows": gone.rows, "exact": gone.exact, "partition": partition.name}
        so_far = Counter(total) + Counter({table: gone.rows})
        written = {"counts": {table: gone.rows}, "total": dict(so_far), "cursor": dict(claim.stages[0].cursor)}
        broom.ledger.write(Entry("batch", job, run, facts | written | {"fence": claim.fence}), connection)
    claim.renewed(asked_at)
    told = facts | {"counts": {table: gone.rows}, "ms": round(1000 * seconds, 1)}
    broom.ledger.tell(Entry("batch", job, run, told))
    return gone


def _account(claim: Claim, selection: Selection, broom: Broom, partition: Partition, reason: str) -> None:
    """Say why partitions are not dropped; their rows leave all the same."""
    facts = {"table": selection.table.name, "partition": partition.name, "reason": reason}
    entry = Entry("undropped", claim.job.name, claim.run, facts)
    broom.ledger.write(entry)
    broom.ledger.tell(entry)
