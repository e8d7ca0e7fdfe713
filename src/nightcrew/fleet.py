"""Fleet: a sweep whose way is cut into ranges, each taken by whoever is free, on however many machines."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from nightcrew.allowance import Share
from nightcrew.claim import Claim
from nightcrew.database import Cursor, Selection
from nightcrew.heartbeat import Heartbeat
from nightcrew.ledger import Entry
from nightcrew.metronome import Metronome
from nightcrew.rails import Permit
from nightcrew.ranges import Range
from nightcrew.walk import Broom, Walk

MOST = 64  # ranges of one run
_GLANCE = 0.5  # seconds that a count may take which only says how long they are

Spread: TypeAlias = Callable[[str, str, Sequence[int]], None]
"""Calls others to the ranges of a job's run, by their numbers."""


@dataclass(frozen=True, slots=True)
class Company:
    """Those who work at a run: the `heartbeat` keeps alive what this process has taken, and `spread` calls others."""

    heartbeat: Heartbeat
    spread: Spread | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """How the work of one of them ended: what `stopped` it; or where to look again (`doubts`) once all have ended.

    None while others are still at work, or see to that.
    """

    stopped: str | None = None
    doubts: Sequence[Cursor] | None = None


def wants_company(claim: Claim, company: Company) -> bool:
    """Tell whether a run that is not cut is to be, if it is long enough."""
    return claim.job.fan_out is not None and company.spread is not None and len(claim.stages) == 1 and not claim.cut


def cut(claim: Claim, walk: Walk, broom: Broom) -> Claim:
    """Cut what a walk has before it, and write that down; return the claim as it is then."""
    rows, selection = claim.job.fan_out or 1, walk.selection
    ahead = broom.database.expected(selection, _GLANCE, walk.cursor)
    least = ahead.rows // MOST if ahead else 0
    parts = broom.database.part(selection, walk.cursor, max(rows, least), MOST)
    if len(parts) < 2:
        return claim
    entry = Entry("cut", claim.job.name, claim.run, {"ranges": len(parts), "label": claim.job.label})
    with broom.database.transaction() as connection:
        broom.books.hold(connection, claim.job.name, claim.fence)
        broom.ranges.cut(connection, claim.run, claim.fence, walk.total, parts, selection.table.name)
        broom.ledger.write(entry, connection)
    broom.ledger.tell(entry)
    return claim._replace(stages=broom.books.progress(claim.run))


def dissolve(claim: Claim, broom: Broom) -> None:
    """End the ranges of a run where they stand, for another policy than they were cut by to go through it all."""
    with broom.database.transaction() as connection:
        broom.books.hold(connection, claim.job.name, claim.fence)
        broom.ranges.dissolve(connection, claim.run)


class Fleet:
    """One of those who work at a run that is cut."""

    def __init__(
        self, claim: Claim, selection: Selection, permit: Permit, broom: Broom, metronome: Metronome, company: Company
    ) -> None:
        self._claim = claim
        self._selection = selection
        self._permit = permit
        self._broom = broom
        self._metronome = metronome
        self._company = company

    def on(self) -> Ended:
        """Take one range after the other until none is free.

        Raises what a walk raises; the range is left to others then.
        """
        if not self._claim.joined:
            self._call_others()
        taken, walk = self._take(self._claim.called), None
        while taken is not None:
            walk = self._walk(taken, walk)
            stopped = self._through(taken, walk)
            if stopped is not None:
                return Ended(stopped)
            taken = self._take()
        claim = self._claim
        return Ended(doubts=self._broom.ranges.close(claim.job.name, claim.run, claim.fence, self._token()))

    def _call_others(self) -> None:
        """Call as many as there are ranges beside the one that is for us; whoever does not come is not missed."""
        numbers = self._broom.ranges.free(self._claim.run, self._claim.fence)[1:]
        if self._company.spread is None or not numbers:
            return
        try:
            self._company.spread(self._claim.job.name, self._claim.run, numbers)
        except Exception as error:  # noqa: BLE001 - whatever a broker trips over, the ranges are there to be taken
            facts = {"error": f"{type(error).__name__}: {error}", "label": self._claim.job.label}
            self._broom.ledger.tell(Entry("not_called", self._claim.job.name, self._claim.run, facts))

    def _take(self, first: int | None = None) -> Range | None:
        claim, broom = self._claim, self._broom
        return broom.ranges.take(claim.job.name, claim.run, claim.fence, self._token(), broom.lease, first)

    def _token(self) -> str:
        return self._broom.clock.token()

    def _walk(self, taken: Range, before: Walk | None) -> Walk:
        share = Share(taken, self._permit, self._broom.ranges, self._broom.lease, self._selection.table.name)
        walk = Walk(self._claim, self._selection, share, self._broom, self._metronome, taken.number, taken)
        if before is not None:
            walk.know(before.weight, self._metronome.throttle)
        return walk

    def _through(self, taken: Range, walk: Walk) -> str | None:
        """Go through a range to its end; where that is not to be, leave it to others, and return what stopped us."""
        with self._company.heartbeat.keeping(taken):
            try:
                stopped = walk.on()
                if stopped is None:
                    self._broom.ranges.finish(taken, walk.all_doubts)
                    return None
            except BaseException:
                self._broom.ranges.leave(taken)
                raise
            self._broom.ranges.leave(taken)
            return stopped
