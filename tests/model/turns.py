"""Nodes that take turns at the claim protocol's real statements, in any order, while a test's own clock moves.

A node knows what it looked at last and what it has claimed, as a process does; that it is frozen means that its turn
comes late. After each turn a witness holds the database to account.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import sqlalchemy as sa
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.model.timepiece import Timepiece
from tests.model.witness import Witness, effects

from nightcrew import Job, Nightcrew, Settings, every
from nightcrew.books import Finished, Sequel, Standing
from nightcrew.claim import Claim
from nightcrew.claims import Claims
from nightcrew.databases.books import Ledgers
from nightcrew.databases.connect import Link
from nightcrew.databases.tables import entries, jobs, place, runs
from nightcrew.ending import sequel
from nightcrew.errors import ClaimLost, DatabaseError, JobPaused, RunCancelled, UsageError
from nightcrew.job import CatchUp, Overlap
from nightcrew.outcome import State

NODES, BATCHES, LEASE = 2, 2, 60.0
MOP, RESPITE = "mop", timedelta(seconds=30)
LONGEST_AGO = 6  # turns that a node may have stood still between a look and what it does about that
VERSIONS = {"old": every("10 minutes"), "new": every("15 minutes")}
WAYS = [{"catch_up": way} for way in CatchUp] + [{"overlap": Overlap.SKIP}]

node, held, frozen = st.integers(0, NODES - 1), st.integers(0, 5), st.sampled_from([0, 0, *range(1, LONGEST_AGO + 1)])


class Hindsight(Ledgers):
    """Books in which a node sees once what it would have seen some turns ago."""

    seen: tuple[datetime, dict[str, Standing]] | None = None

    def standings(self, names=None):
        """Return what was, or what is."""
        seen, self.seen = self.seen, None
        return seen or super().standings(names)


@dataclass(slots=True)
class Held:
    """A claim that a node believes to have, and how many batches it believes to be done."""

    claim: Claim
    done: int
    begun: bool = False

    @property
    def job(self) -> str:
        return self.claim.job.name


@dataclass(slots=True)
class Node:
    """A process: the crew it has deployed, in which version, and what it holds."""

    crew: Nightcrew
    version: str
    held: list[Held] = field(default_factory=list)

    @property
    def books(self) -> Hindsight:
        return self.crew._station.books


class Turns(RuleBasedStateMachine):
    """Every rule is one node's turn, or a person's, or time's."""

    def __init__(self, link: Link, clock: Timepiece, books: type[Hindsight] = Hindsight) -> None:
        super().__init__()
        self.link, self.clock, self.kind = link, clock, books
        self.clock.reset()
        with link.transaction() as connection:
            for table in (entries, runs, jobs, effects):
                connection.execute(sa.delete(table))
            connection.execute(sa.update(place).values(stopped_at=None, stopped_by=None, stopped_reason=None))
        self.witness = Witness(link, VERSIONS.values(), BATCHES)
        self.nodes: list[Node] = []
        self.looks: deque[tuple[datetime, dict[str, Standing]]] = deque(maxlen=LONGEST_AGO + 1)

    # ── nodes ────────────────────────────────────────────────────────────────────────────────────────────────────

    @initialize(way=st.sampled_from(WAYS))
    def begin(self, way):
        """Deploy every node, let there be a job, and its first slot be due."""
        self.way = way
        self.nodes = [self._deployed("old") for _ in range(NODES)]
        for each in self.nodes:
            each.crew._station.ready(each.crew.jobs)
        self.nothing_is_lost_or_doubled()
        self.clock.move(600)

    def _deployed(self, version: str) -> Node:
        crew = Nightcrew(str(self.link.engine.url), settings=Settings(), clock=self.clock, lease=LEASE)
        crew._station.__dict__ |= {"link": self.link, "books": self.kind(self.link)}
        crew.add(Job(MOP, VERSIONS[version], function=lambda run: 0, pause_after=2, **self.way))
        return Node(crew, version)

    def _acts(self, number: int, ago: int, act: Callable[[Claims, Job], object]) -> object:
        """Let a node act on how things stood so many turns ago."""
        crew = self.nodes[number].crew
        if 0 < ago < len(self.looks):
            self.nodes[number].books.seen = self.looks[-1 - ago]
        try:
            return crew._registered(lambda: act(crew._station.claims, crew.jobs[MOP]))
        except UsageError:  # the slot that it was asked for is none
            return ()
        finally:
            self.nodes[number].books.seen = None

    @rule(number=node, ago=frozen, start=st.booleans())
    def ticks(self, number, ago=0, start=False):
        """Its ticker claims what is due."""
        self._take(number, *self._acts(number, ago, lambda claims, job: claims.due([job], "ticker", start=start)))

    @rule(number=node, ago=frozen, slot=st.none() | st.integers(0, 60))
    def is_called(self, number, ago=0, slot=None):
        """Somebody calls it for the latest slot, or for that of so many minutes ago."""
        slot = None if slot is None else self.clock.moment - timedelta(minutes=slot)
        self._take(number, self._acts(number, ago, lambda claims, job: claims.of_slot(job, "http", None, slot)))

    @rule(number=node, ago=frozen)
    def is_asked_by_hand(self, number, ago=0):
        """Somebody wants a run that belongs to no slot."""
        self.witness.lifted = self.witness.before[MOP].rests
        self._take(number, self._acts(number, ago, lambda claims, job: claims.by_hand(job, "cli", None)))

    @precondition(lambda self: not self.witness.pruned)
    @rule(number=node, ago=frozen, slots=st.integers(1, 6), polite=st.booleans())
    def fills_in(self, number, ago, slots, polite):
        """Somebody wants a slot of the past to be run, unless it was; only the ledger knows whether."""
        mark, schedule = self.witness.before[MOP].mark, self.nodes[number].crew.jobs[MOP].schedule
        slot = schedule.latest(self.clock.moment - timedelta(minutes=10 * slots))
        past = mark is not None and slot <= mark
        act = self._acts(number, ago, lambda claims, job: claims.of_past(job, "cli", None, slot, polite=polite))
        self._take(number, act, past=past)

    def _take(self, number: int, *claims: object, past: bool = False) -> None:
        for claim in claims:
            if isinstance(claim, Claim):
                self.witness.claimed(claim, self.clock.moment, past=past)
                self.nodes[number].held.append(Held(claim, claim.stages[0].cursor.get("batch", 0)))

    @rule(number=node)
    def crashes(self, number):
        """It forgets everything, and starts anew."""
        self._end(number, self.nodes[number].version)

    @rule(number=node, version=st.sampled_from(sorted(VERSIONS)))
    def is_deployed_anew(self, number, version):
        """It ends in good order, and starts with what may be another schedule."""
        for each in list(self.nodes[number].held):
            self._settle(number, each, State.PARTIAL)
        self._end(number, version)

    def _end(self, number: int, version: str) -> None:
        self.nodes[number].crew._station.claims.close()
        self.nodes[number] = self._deployed(version)

    # ── what it does with a claim ────────────────────────────────────────────────────────────────────────────────

    def _any(self, which: int) -> tuple[int, Held]:
        every_one = [(number, each) for number, node in enumerate(self.nodes) for each in node.held]
        return every_one[which % len(every_one)]

    def _holding(self) -> bool:
        return any(node.held for node in self.nodes)

    @precondition(_holding)
    @rule(which=held)
    def works(self, which=0):
        """It begins, takes the next batch, or settles what is done."""
        number, each = self._any(which)
        if not each.begun:
            self._begin(number, each)
        elif each.done < BATCHES:
            self._batch(number, each)
        else:
            self._settle(number, each, State.DONE)

    @precondition(_holding)
    @rule(which=held)
    def goes_through_with_it(self, which=0):
        """It does all that is left to do, while nobody comes between."""
        self._finish(*self._any(which))

    @precondition(_holding)
    @rule(which=held, state=st.sampled_from([State.PARTIAL, State.FAILED, State.RETRYING]))
    def leaves_off(self, which, state):
        """It hands over, or fails, for good or to be tried again."""
        self._settle(*self._any(which), State(state))

    @precondition(_holding)
    @rule(which=held)
    def renews(self, which=0):
        """It renews a lease between two batches."""
        number, each = self._any(which)
        self._fenced(number, each, lambda books: books.renew(None, each.job, each.claim.fence, LEASE))

    @precondition(_holding)
    @rule(which=held)
    def beats(self, which):
        """Its heartbeat renews all that it holds."""
        number, _ = self._any(which)
        pairs = [(each.job, each.claim.fence) for each in self.nodes[number].held]
        kept = self.nodes[number].books.renew_all(pairs, LEASE)
        assert kept == {pair for pair in pairs if self.witness.holds(*pair)}

    def _finish(self, number: int, each: Held) -> None:
        if not each.begun and not self._begin(number, each):
            return
        while each.done < BATCHES:
            if not self._batch(number, each):
                return
        self._settle(number, each, State.DONE)

    def _begin(self, number: int, each: Held) -> bool:
        each.begun = True
        claim = each.claim
        begun = self._fenced(number, each, lambda books: books.begin(each.job, claim.fence, claim.run, LEASE))
        if begun:
            self.witness.begun.add((each.job, claim.fence))
        return begun

    def _batch(self, number: int, each: Held) -> bool:
        """Do what a sweep does: the fence, the work and its account in one transaction."""
        claim = each.claim

        def work(books: Ledgers) -> None:
            with self.link.transaction(repeatable=True) as connection:
                books.hold(connection, each.job, claim.fence)
                connection.execute(sa.insert(effects).values(run=claim.run, batch=each.done))
                facts = {"cursor": {"batch": each.done + 1}, "total": {"effects": each.done + 1}}
                books.append(connection, claim.run, "batch", facts)
            each.done += 1

        return self._fenced(number, each, work)

    def _fenced(self, number: int, each: Held, act: Callable[[Ledgers], object]) -> bool:
        """Do what only the holder may do; whoever is not is told so, and stops."""
        holds = self.witness.holds(each.job, each.claim.fence)
        halted = self.witness.halted(each.job, self.clock.moment)
        try:
            act(self.nodes[number].books)
        except ClaimLost:
            assert not holds, "a claim was lost that nobody had taken"
            self._drop(number, each)
        except JobPaused:
            assert halted, "a pause was told of that is none"
            self._settle(number, each, State.PARTIAL)
        except RunCancelled:
            assert halted, "a run was said to be cancelled that is not"
            self._settle(number, each, State.CANCELLED)
        except DatabaseError:
            assert self.witness.gone(each.claim.run), "only a run that was pruned cannot be written of"
            self._settle(number, each, State.FAILED)
        else:
            assert holds, "somebody worked under a fence that was superseded"
            assert not halted, "somebody worked through a pause, or went on with what was cancelled"
            return True
        return False

    def _settle(self, number: int, each: Held, state: State) -> None:
        claim, books = each.claim, self.nodes[number].books
        self._drop(number, each)
        row = books.run(claim.run)
        if row is not None:
            holds = self.witness.holds(each.job, claim.fence)
            again = Sequel(retry_at=self.clock.moment + RESPITE if state is State.RETRYING else None)
            then = again if state.open else sequel(books, claim.job, claim.moment, claim.slot)
            ended = replace(row, state=state)
            if state is State.DONE and claim.fence % 2:  # as the ticker's functions are, together with others
                settled = bool(
                    books.settle_done([Finished(each.job, claim.fence, claim.run, ended.reason, ended.deleted)])
                )
            else:
                settled = books.settle(each.job, claim.fence, ended, then) is not None
            assert settled is holds, "a run was settled by somebody else than its holder"

    def _drop(self, number: int, each: Held) -> None:
        self.nodes[number].held.remove(each)
        self.nodes[number].crew._station.claims.release(each.claim)

    # ── people and time ──────────────────────────────────────────────────────────────────────────────────────────

    @rule(minutes=st.none() | st.integers(1, 20))
    def is_paused(self, minutes=None):
        """A person pauses the job."""
        until = None if minutes is None else self.clock.moment + timedelta(minutes=minutes)
        self.nodes[0].crew.pause(MOP, by="alice", reason="a reason", until=until)

    @rule()
    def is_resumed(self):
        """A person resumes it."""
        self.witness.lifted = True
        self.nodes[0].crew.resume(MOP)

    @rule(stop=st.booleans())
    def is_stopped(self, stop):
        """A person stops everything, or lets it go on."""
        if stop:
            self.nodes[1].crew.stop_all(by="bob", reason="another reason")
        else:
            self.nodes[1].crew.resume_all()

    @precondition(_holding)
    @rule(which=held)
    def is_cancelled(self, which=0):
        """A person cancels a run, which may be over by now."""
        _, each = self._any(which)
        try:
            self.nodes[0].crew.cancel(each.claim.run, by="carol")
        except UsageError:
            standing = self.witness.before[each.job]
            assert standing.run != each.claim.run or self.witness.gone(each.claim.run), "a run could not be cancelled"

    @rule(all_of_it=st.booleans())
    def is_pruned(self, all_of_it=False):
        """The ledger loses what is over, or by hand all that it knows."""
        self.witness.prune(sa.true() if all_of_it else runs.c.finished_at.is_not(None))

    @rule(seconds=st.sampled_from([1, 20, 40, 59, 61, 130, 300, 595, 605, 900, 3600, 86_400]))
    def passes(self, seconds):
        """Time passes."""
        self.clock.move(seconds)

    @rule(seconds=st.sampled_from([1, 30, 90, 700]))
    def is_put_back(self, seconds):
        """The database's clock is put back."""
        self.clock.move(-seconds)

    # ── what is promised ─────────────────────────────────────────────────────────────────────────────────────────

    @invariant()
    def nothing_is_lost_or_doubled(self):
        """Hold everything to account."""
        if self.nodes:
            self.looks.append(self.witness.hold_to_account([MOP], self.clock.moment))

    def teardown(self):
        """Let everything come to an end, and see that it does."""
        if not self.nodes:
            return
        self._come_to_an_end()
        for each in self.nodes:
            each.crew._station.claims.close()

    def _come_to_an_end(self) -> None:
        last, self.witness.lifted = self.nodes[-1], True
        last.crew.resume_all()
        last.crew.resume(MOP)
        self.nothing_is_lost_or_doubled()
        for _ in range(250):
            self.clock.move(LEASE + 1)
            self.ticks(NODES - 1)
            for each in list(last.held):
                self.nothing_is_lost_or_doubled()
                self._finish(NODES - 1, each)
            self.nothing_is_lost_or_doubled()
            if self.witness.before[MOP].run is None:
                break
        self.witness.hold_to_the_end([MOP])
