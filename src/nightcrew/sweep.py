"""Plan → Batches, until nothing is left that could go."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from nightcrew.allowance import Allowance, Remainder
from nightcrew.books import altogether
from nightcrew.claim import Claim
from nightcrew.clock import Budget
from nightcrew.database import Cursor, Selection
from nightcrew.fleet import Company, Fleet, cut, wants_company
from nightcrew.metronome import Metronome
from nightcrew.pair import Pair
from nightcrew.partition import shed
from nightcrew.rails import Permit
from nightcrew.ranges import OUTSIDE
from nightcrew.throttle import Pace, Throttle
from nightcrew.walk import Broom, Undeletable, Walk
from nightcrew.weight import size_of

# Seconds before each further walk for rows that somebody held when we came by. They are visited again and never waited
# for: who waits for a row stands in the way of everybody that comes after.
_PAUSES = (0.1, 0.2, 0.3, 0.4, 0.5)
_STRETCH = 50_000  # rows of one look at what was left


@dataclass(frozen=True, slots=True)
class Swept:
    """What the batches took in all, and why they stopped before the end, if they did.

    `left` are rows that should have gone and could not yet, `kept` names some of them that a trigger keeps without a
    word, and `undeletable` are those that the database will not let go. The rows of `dropped` partitions are not
    `exact` where there were too many to count. The `cursor` is where the walk ended. More may be `left`
    where it is `unseen` for some reason. Others go on with it `elsewhere`.
    """

    rows: int
    counts: Mapping[str, int]
    stopped: str | None = None
    left: int = 0
    undeletable: tuple[Undeletable, ...] = ()
    kept: tuple[str, ...] = ()
    dropped: int = 0
    exact: bool = True
    cursor: Cursor = field(default_factory=dict)
    unseen: str | None = None
    elsewhere: bool = False


def sweep(claim: Claim, selection: Selection, permit: Permit, broom: Broom, budget: Budget, company: Company) -> Swept:
    """Take batch after batch until nothing is left or the budget is spent; the lease is renewed between them.

    Raises ClaimLost when a newer fence exists, SafetyStop when it comes to more than its permit, and DatabaseError
    for what retrying does not mend; the batches before it stay done and accounted for.
    """
    throttle = Throttle.of(claim.job.pace, size_of(selection), claim.bidder.lease, broom.database.most_duty)
    with (
        broom.watch.over(claim.job) as look,
        Metronome(claim, broom.ledger, throttle, look, budget) as metronome,
    ):
        if claim.cut:
            return _together(claim, selection, permit, broom, metronome, company)
        gone = shed(claim, selection, permit, broom, metronome)
        if gone.stopped is not None:
            return Swept(gone.counts.get(selection.table.name, 0), gone.counts, gone.stopped)
        # Whether the first batch is looked at does not hang on partitions: dropping them sets off no trigger.
        permit = replace(permit, canary=permit.canary and not claim.counts)
        if len(claim.stages) == 1:
            claim = claim._replace(stages=(replace(claim.stages[0], total=gone.counts),))
        allowance = Allowance(claim, permit, broom.books, broom.clock, broom.lease)
        walk = Walk(claim, selection, allowance, broom, metronome)
        if wants_company(claim, company) and not gone.dropped:
            walk.on(lambda: not walk.under_way)
            claim = cut(claim, walk, broom) if walk.under_way else claim
            if claim.cut:
                return _together(claim, selection, permit, broom, metronome, company)
        second = Metronome(claim, broom.ledger, throttle, look, budget, notes=False)
        other = Walk(claim, selection, allowance, broom, second, number=2)
        return replace(_sweep((walk, other), claim, broom, budget), dropped=gone.dropped, exact=gone.exact)


def _together(
    claim: Claim, selection: Selection, permit: Permit, broom: Broom, metronome: Metronome, company: Company
) -> Swept:
    """Work at a run that is cut; the last to come to the end of a range looks once more for what they all left."""
    table, permit = selection.table.name, replace(permit, canary=False)
    ended = Fleet(claim, selection, permit, broom, metronome, company).on()
    claim = claim._replace(stages=broom.books.progress(claim.run))
    if ended.doubts is None:
        others = ended.stopped is None or broom.ranges.manned(claim.run)
        return Swept(claim.counts.get(table, 0), claim.counts, ended.stopped, elsewhere=others)
    right = Remainder(claim, permit, broom.books, broom.clock, broom.lease, broom.ranges, table)
    walk = Walk(claim, selection, right, broom, metronome, number=OUTSIDE)
    walk.doubts, walk.unsure = list(ended.doubts), None
    return _look_again(walk, altogether(claim.stages[OUTSIDE + 1 :]), None, broom, metronome.budget)


def _sweep(walks: tuple[Walk, Walk], claim: Claim, broom: Broom, budget: Budget) -> Swept:
    stopped = _through(walks, claim, broom)
    walk, other = walks
    if other.divided:
        walk.gather(other)
    return _look_again(walk, other.total, stopped, broom, budget)


def _look_again(walk: Walk, beside: Counter[str], stopped: str | None, broom: Broom, budget: Budget) -> Swept:
    """Go once more for what a walk has left; `beside` is what others have taken."""
    left = 0
    first: Cursor = {}
    unseen = None
    for pause in (*_PAUSES, None):
        if stopped is not None:
            break
        left, first, unseen = _left(walk, broom, budget)
        if left <= walk.kept or pause is None or budget.spent is not None:
            break
        budget.rest(pause)
        stopped = walk.again(first)
    if walk.held and stopped is None:
        budget.rest(_PAUSES[-1])
        walk.once_more()
    kept = walk.name_kept(first) if left and stopped is None else ()
    total = walk.total + beside
    rows, left = total[walk.selection.table.name], left + len(walk.held)
    named = tuple(walk.undeletable)
    return Swept(rows, dict(total), stopped, left, named, kept, cursor=walk.cursor, unseen=unseen)


def _through(walks: tuple[Walk, Walk], claim: Claim, broom: Broom) -> str | None:
    """Let the walks go to their ends: both at once where the job is in a hurry, else one after the other."""
    first, second = walks
    if claim.job.pace is Pace.FAST and broom.database.divides(first.selection):
        return Pair(first, second, broom.clock, divided=second.divided).on()
    stopped = first.on()
    return second.on() if stopped is None and second.divided else stopped


def _left(walk: Walk, broom: Broom, budget: Budget) -> tuple[int, Cursor, str | None]:
    """Count what a walk left behind, stretch by stretch, and find the first of it; say why that is not all, if so.

    Stretches that the walk knows to be clean are left out: reading through dead rows costs as much as a sixth of the
    sweep that made them.
    """
    doubts = walk.all_doubts
    found = [_left_from(doubt, walk, broom, budget) for doubt in ([{}] if {} in doubts else doubts)]
    firsts = [first for rows, first, _ in found if rows]
    unseen = next((reason for *_, reason in found if reason is not None), None)
    return sum(rows for rows, *_ in found), firsts[0] if len(firsts) == 1 else {}, unseen


def _left_from(cursor: Cursor, walk: Walk, broom: Broom, budget: Budget) -> tuple[int, Cursor, str | None]:
    rows: int = 0
    first: Cursor = {}
    while True:
        found = broom.database.left(walk.selection, cursor, _STRETCH)
        rows, first, cursor = rows + found.rows, first or found.first or {}, found.cursor
        if found.exhausted:
            return rows, first, None
        if (reason := budget.spent) is not None:
            return rows, first, reason
