"""Parting: a job that erases, subject after subject, each to its receipt; what is due is looked at under its lock."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

from nightcrew.allowance import Allowance
from nightcrew.claim import Claim
from nightcrew.clock import Budget
from nightcrew.database import Connection, Form, Key, Selection
from nightcrew.erased import Erasure, State
from nightcrew.erasures import eraser, rows
from nightcrew.erasures.work import Kit
from nightcrew.ledger import Entry
from nightcrew.metronome import Metronome
from nightcrew.policy import Policy
from nightcrew.rails import Permit
from nightcrew.sweep import Swept
from nightcrew.throttle import Stop, Throttle
from nightcrew.walk import MOST_PASSED_BY, Broom, Undeletable
from nightcrew.weight import SIZES


class _Fenced:
    """The gate of a run: each batch holds the claim, is accounted for, and waits as long as the throttle says."""

    def __init__(self, claim: Claim, permit: Permit, broom: Broom, metronome: Metronome, table: str) -> None:
        self.total = Counter(claim.counts)
        self.stopped: str | None = None
        self._claim = claim
        self._broom = broom
        self._metronome = metronome
        self._table = table
        self._right = Allowance(claim, permit, broom.books, broom.clock, broom.lease)
        self._coming: Counter[str] = Counter(self.total)

    def hold(self, connection: Connection) -> None:
        """Hold the claim."""
        self._coming = Counter(self.total)
        self._right.hold(connection)

    def heard(self, connection: Connection, counts: Mapping[str, int]) -> None:
        """Hold what was removed against the permit, and write it down."""
        claim, self._coming = self._claim, self.total + Counter(counts)
        if not sum(counts.values()):
            return
        self._right.account(connection, 1, {}, self._coming)
        facts = {"rows": counts.get(self._table, 0), "counts": dict(counts), "total": dict(self._coming), "cursor": {}}
        facts |= {"fence": claim.fence, "pace": str(claim.job.pace)}
        self._broom.ledger.write(Entry("batch", claim.job.name, claim.run, facts), connection)

    def goes_on(self, seconds: float) -> bool:
        """Take what was committed for done, and rest."""
        gone, self.total = self._coming - self.total, Counter(self._coming)
        if gone:
            facts = {"rows": gone[self._table], "counts": dict(gone), "ms": round(1000 * seconds, 1)}
            self._broom.ledger.tell(Entry("batch", self._claim.job.name, self._claim.run, facts))
        if self._right.fading:
            self._right.renew()
        self._metronome.spent(seconds)
        beat = self._metronome.next()
        self.stopped = beat.because if isinstance(beat, Stop) else None
        return self.stopped is None


def part(claim: Claim, selection: Selection, permit: Permit, broom: Broom, budget: Budget, kit: Kit) -> Swept:
    """Erase every subject that is due, or until the budget is spent; those that were begun before come first.

    Raises as a sweep does; a subject of which something is left has a receipt that says so, and the others go on.
    """
    policy = claim.job.policy
    assert policy is not None  # noqa: S101 - or there would be nothing to erase
    selection = replace(selection, form=Form.LOCKED, alone=False, archived=False, grace=timedelta(0))
    throttle = Throttle.of(claim.job.pace, SIZES[Form.LOCKED], claim.bidder.lease, broom.database.most_duty)
    with (
        broom.watch.over(claim.job) as look,
        Metronome(claim, broom.ledger, throttle, look, budget) as metronome,
    ):
        gate = _Fenced(claim, permit, broom, metronome, selection.table.name)
        return _Round(claim, policy, selection, broom, kit, gate).on()


class _Round:
    """One way through the subjects that are due."""

    def __init__(
        self, claim: Claim, policy: Policy, selection: Selection, broom: Broom, kit: Kit, gate: _Fenced
    ) -> None:
        self._claim = claim
        self._policy = policy
        self._selection = selection
        self._broom = broom
        self._kit = kit
        self._gate = gate
        self._wrong: list[Undeletable] = []
        self._staying: list[Key] = []

    def on(self) -> Swept:
        """Go on until none is left, or the gate closes."""
        try:
            for begun in self._kit.erasures.under_way(self._claim.job.name, MOST_PASSED_BY):
                self._erase(begun)
            while (key := self._next()) is not None:
                erasure = self._begin(key)
                if erasure is None or not self._erase(erasure):
                    self._staying.append(key)
                if not self._gate.goes_on(0.0):
                    break
        except rows.Stopped:
            pass
        total = self._gate.total
        removed = total.get(self._selection.table.name, 0)
        left = len(self._staying) if self._gate.stopped is None else 0
        return Swept(removed, dict(total), self._gate.stopped, left, tuple(self._wrong))

    def _next(self) -> Key | None:
        """Find a subject whose time has come, past those that stay."""
        if len(self._staying) >= MOST_PASSED_BY:
            return None
        further = replace(self._selection, spared=tuple(self._staying))
        return next(iter(self._broom.database.nearest(further, {})), None)

    def _begin(self, key: Key) -> Erasure | None:
        table, job = self._selection.table, self._claim.job.name
        texts = [str(value) for value in key[: len(table.primary_key)]]
        return eraser.begin(self._kit, self._policy, self._selection, texts, job, self._claim.run)

    def _erase(self, erasure: Erasure) -> bool:
        """Erase one; return whether its row is gone."""
        claim = self._claim
        work = eraser.work_of(self._kit, self._policy, self._selection, erasure, self._gate)
        try:
            closed = eraser.erase(work)
        except rows.Kept:
            return False
        facts = {"erasure": closed.id, "state": str(closed.state), "by": claim.run, "label": claim.job.label}
        self._broom.ledger.tell(Entry("erased", claim.job.name, claim.run, facts))
        if closed.state is State.INCOMPLETE:
            self._wrong.append(Undeletable(f"receipt {closed.number}", "the erasure is incomplete, and says why"))
        return self._kit.subjects.find(self._selection.table, work.key, ()) is None
