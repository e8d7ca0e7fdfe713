"""The claim protocol as an explicit machine: every order in which nodes, time and crashes can come is gone through.

A step is what one transaction or one moment of time does. A node that is frozen is one whose next step comes late, and
a lease may run out at any moment, so that no clock has to be right. docs/protocol.md says the same in words; where the
code changes what a step reads, writes or locks, so must this.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import TypeVar

NODES, SLOTS, TROUBLES, ATTEMPTS = 2, 3, 2, 2


_T = TypeVar("_T")


class Mutant(Enum):
    """A protocol with one rule left out."""

    NO_FENCE = auto()  # a batch does not look whether the claim is still its own
    FENCE_APART = auto()  # it looks in a transaction before its own
    SAME_FENCE = auto()  # a take-over keeps the fence of the run that it takes
    NO_MARK = auto()  # a slot is free when the ledger does not know its run
    NO_BURIAL = auto()  # a run that used up its attempts is left alone
    EARLY_CURSOR = auto()  # who takes over asks how far a run is before that is certain
    NO_MISSED = auto()  # a claim says nothing of the slots before its own
    STALE_LOOK = auto()  # a take-over does not look again whether an attempt has failed since
    CANCEL_UNNAMED = auto()  # a cancellation does not say which run it is for
    CANCEL_UNHEARD = auto()  # a batch does not look whether its run was cancelled
    LOST_UNBEGUN = auto()  # a take-over counts as lost who had not begun
    TAKEN_BACK = auto()  # a hand-over takes an attempt back, as if its own had been counted
    SKIP_UNSAID = auto()  # a run that ends says nothing of the slots it skips
    SKIP_UNMARKED = auto()  # it says so, and leaves the mark where it was


class Phase(Enum):
    """Where a node stands."""

    IDLE = auto()
    BIDS = auto()  # it has read the job's row, and found a slot that is due
    REOPENS = auto()  # it has read the row, and found a run that nobody holds any more
    BURIES = auto()  # the same, of a run whose attempts are used up, or that was cancelled
    CANCELS = auto()  # somebody has found the run that is open, and wants it to end
    CLAIMED = auto()
    TOOK_OVER = auto()  # it does not know yet how far the run is
    WORKS = auto()
    IN_BATCH = auto()  # its transaction holds the row


@dataclass(frozen=True, slots=True)
class Node:
    """What a process knows: the slot it is about, and the batches that are done.

    Of the fence it has seen or won, all that matters is whether it is still the newest.
    """

    phase: Phase = Phase.IDLE
    slot: int = 0
    cursor: int = 0
    newest: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """The job's row: the latest slot claimed, the run that is open, whether it has an owner whose lease has expired.

    A run that has failed waits until it is tried again. `attempt` counts the owners that were lost at it, having
    `begun`. `cancelled` is the run that was cancelled.
    """

    mark: int = 0
    run: int = 0
    cancelled: int = 0
    owned: bool = False
    expired: bool = False
    attempt: int = 0
    begun: bool = False
    waits: bool = False


@dataclass(frozen=True, slots=True)
class World:
    """The database, the nodes, and how often one of these may still crash or be ended. Slots up to `now` are due.

    `known` are the slots that the ledger has a row of, `ended` those that came to an end, whatever was pruned since;
    `done` are the batches of each slot, `effects` how often each was done. Where the job `skips` slots, those that fall
    due during a run are not run. `wrong` is whether one was, a batch was done in a run that somebody had cancelled, or
    a run cancelled that nobody meant. `losses` are the nodes that the open run has been taken from, having begun.
    """

    effects: tuple[tuple[int, ...], ...]
    now: int = 0
    row: Row = Row()
    nodes: tuple[Node, ...] = (Node(),) * NODES
    known: frozenset[int] = frozenset()
    ended: frozenset[int] = frozenset()
    done: tuple[int, ...] = (0,) * SLOTS
    troubles: int = TROUBLES
    prunes: int = 1
    hasty: bool = False  # whether a run was tried again before its time
    cancels: int = 0
    skips: bool = False
    wrong: bool = False
    losses: int = 0

    @classmethod
    def first(cls, batches: int, *, cancels: int = 0, skips: bool = False) -> "World":
        """Return the world before anything happened, in which each slot's work is so many batches.

        Where a run may be cancelled there is less of other trouble, or there would be too many worlds.
        """
        effects = ((0,) * batches,) * SLOTS
        return cls(effects, cancels=1, troubles=1, prunes=0) if cancels else cls(effects, skips=skips)

    @property
    def doubled(self) -> bool:
        """Whether a batch was done twice."""
        return max(map(max, self.effects)) > 1

    @property
    def lost(self) -> bool:
        """Whether a slot was passed over without a word."""
        return any(slot not in self.ended and slot != self.row.run for slot in range(1, self.row.mark + 1))

    @property
    def miscounted(self) -> bool:
        """Whether an attempt was counted that nobody was lost at, or one was not that somebody was."""
        return self.row.run > 0 and self.row.attempt != self.losses

    @property
    def at_rest(self) -> bool:
        """Whether every slot there is has come to an end."""
        return self.now == SLOTS and len(self.ended) == SLOTS and self.row.run == 0


def steps(world: World, mutant: Mutant | None) -> Iterator[tuple[str, World]]:
    """Return everything that can happen next, by name."""
    row = world.row
    if world.now < SLOTS:
        yield "a slot is due", replace(world, now=world.now + 1)
    if row.owned and not row.expired:
        yield "the lease runs out", replace(world, row=replace(row, expired=True))
    if row.waits:
        yield "it is time to try again", replace(world, row=replace(row, waits=False))
    if world.prunes and (over := world.known & world.ended):
        yield "the ledger is pruned", replace(world, known=world.known - over, prunes=world.prunes - 1)
    for number, node in enumerate(world.nodes):
        if row.run and world.cancels and node.phase is Phase.IDLE:
            meant = _with(world, number, Node(Phase.CANCELS, row.run))
            yield "somebody wants the run to end", replace(meant, cancels=world.cancels - 1)
        for name, after in _of_node(world, number, node, mutant):
            yield f"a node {name}", after
        if world.troubles and node.phase is not Phase.IDLE:
            yield "a node crashes", replace(_with(world, number, Node()), troubles=world.troubles - 1)


def _of_node(world: World, number: int, node: Node, mutant: Mutant | None) -> Iterator[tuple[str, World]]:
    # Whoever changes the row waits until no batch holds it.
    in_batch = any(other.phase is Phase.IN_BATCH for other in world.nodes)
    locked = in_batch and mutant not in (Mutant.FENCE_APART, Mutant.NO_FENCE)
    match node.phase:
        case Phase.IDLE:
            if (seen := _looks(world, mutant)) is not None:
                yield "looks", _with(world, number, seen)
        case Phase.BIDS if not locked:
            yield "claims", _claims(world, number, node, mutant)
        case Phase.REOPENS if not locked:
            yield "takes over", _takes_over(world, number, node, mutant)
        case Phase.BURIES if not locked:
            yield "buries", _buries(world, number, node, mutant)
        case Phase.CANCELS if not locked:
            yield "cancels", _cancels(world, number, node, mutant)
        case Phase.TOOK_OVER:
            cursor = world.done[node.slot - 1]
            yield "asks how far it is", _with(world, number, replace(node, phase=Phase.CLAIMED, cursor=cursor))
        case Phase.CLAIMED if not locked:
            yield "begins", _begins(world, number, node, mutant)
            if _holds(world.row, node) and world.troubles:
                yield "hands over what it has not begun", _hands_over(world, number, mutant)
        case Phase.WORKS:
            yield from _works(world, number, node, mutant, locked=locked)
        case Phase.IN_BATCH:
            yield "commits a batch", _commits(world, number, node)


def _looks(world: World, mutant: Mutant | None) -> Node | None:
    """Read the job's row, and find out what there is to do."""
    row = world.row
    if row.run:
        if row.waits or (row.owned and not row.expired):
            return None
        if row.cancelled == row.run:
            return Node(Phase.BURIES, row.run, newest=True)
        if row.owned and row.attempt + row.begun >= ATTEMPTS:
            return None if mutant is Mutant.NO_BURIAL else Node(Phase.BURIES, row.run, newest=True)
        cursor = world.done[row.run - 1] if mutant is Mutant.EARLY_CURSOR else 0
        return Node(Phase.REOPENS, row.run, cursor, newest=True)
    free = world.now not in world.known if mutant is Mutant.NO_MARK else world.now > row.mark
    return Node(Phase.BIDS, world.now, newest=True) if world.now and free else None


def _claims(world: World, number: int, node: Node, mutant: Mutant | None) -> World:
    row, slot = world.row, node.slot
    if not node.newest or row.run or (slot <= row.mark and mutant is not Mutant.NO_MARK):
        return _with(world, number, Node())
    lapsed = frozenset() if mutant is Mutant.NO_MISSED else frozenset(range(row.mark + 1, slot))
    won = Row(max(slot, row.mark), slot, owned=True)
    claimed = replace(_fenced(world), row=won, known=world.known | lapsed | {slot}, ended=world.ended | lapsed)
    claimed = replace(claimed, wrong=world.skips and slot in world.ended)
    return _with(claimed, number, Node(Phase.CLAIMED, slot, newest=True))


def _takes_over(world: World, number: int, node: Node, mutant: Mutant | None) -> World:
    row = world.row
    if not node.newest or row.run != node.slot or (row.owned and not row.expired) or row.cancelled == row.run:
        return _with(world, number, Node())
    if row.waits and mutant is not Mutant.STALE_LOOK:
        return _with(world, number, Node())
    fenced = world if mutant is Mutant.SAME_FENCE else _fenced(world)
    lost = row.owned and row.begun
    attempt = row.attempt + (row.owned if mutant is Mutant.LOST_UNBEGUN else lost)
    own = replace(row, owned=True, expired=False, waits=False, attempt=attempt, begun=False)
    taken = replace(fenced, row=own, hasty=row.waits, losses=world.losses + lost)
    phase = Phase.CLAIMED if mutant is Mutant.EARLY_CURSOR else Phase.TOOK_OVER
    return _with(taken, number, replace(node, phase=phase))


def _buries(world: World, number: int, node: Node, mutant: Mutant | None) -> World:
    row = world.row
    idle = _with(world, number, Node())
    if not node.newest or (row.owned and not row.expired):
        return idle
    return _ends(_fenced(idle), node.slot, mutant)


def _ends(world: World, slot: int, mutant: Mutant | None) -> World:
    """Let the run of a slot end, and with it, where the job skips them, the slots that fell due meanwhile."""
    mark = world.row.mark
    during = frozenset(range(mark + 1, world.now + 1)) if world.skips else frozenset()
    said = frozenset() if mutant is Mutant.SKIP_UNSAID else during
    passed = mark if mutant is Mutant.SKIP_UNMARKED else max(during, default=mark)
    known, ended = world.known | said, world.ended | {slot} | said
    return replace(world, row=Row(passed), losses=0, known=known, ended=ended)


def _cancels(world: World, number: int, node: Node, mutant: Mutant | None) -> World:
    row, idle = world.row, _with(world, number, Node())
    if not row.run or (row.run != node.slot and mutant is not Mutant.CANCEL_UNNAMED):
        return idle
    return replace(idle, row=replace(row, cancelled=row.run), wrong=row.run != node.slot)


def _begins(world: World, number: int, node: Node, mutant: Mutant | None) -> World:
    row = world.row
    if not _holds(row, node):
        return _with(world, number, Node())
    if row.cancelled == node.slot and mutant is not Mutant.CANCEL_UNHEARD:
        return _ends(_with(world, number, Node()), node.slot, mutant)
    begun = replace(world, row=replace(row, begun=True, expired=False))
    return _with(begun, number, replace(node, phase=Phase.WORKS))


def _works(
    world: World, number: int, node: Node, mutant: Mutant | None, *, locked: bool
) -> Iterator[tuple[str, World]]:
    """Begin a batch, or settle what is done; or hand it over, for whoever comes next, at once or after a while."""
    holds = _holds(world.row, node)
    batches = len(world.effects[0])
    cancelled = world.row.cancelled == node.slot
    if cancelled and holds and mutant is not Mutant.CANCEL_UNHEARD:
        if not locked:
            yield "ends as cancelled", _ends(_with(world, number, Node()), node.slot, mutant)
        return
    if node.cursor < batches:
        in_batch = holds or mutant is Mutant.NO_FENCE
        begun = _with(world, number, replace(node, phase=Phase.IN_BATCH) if in_batch else Node())
        yield "begins a batch", replace(begun, wrong=cancelled and holds)
    if locked:
        return
    if holds and world.row.expired:
        yield "renews the lease", replace(world, row=replace(world.row, expired=False))
    if node.cursor == batches:
        idle = _with(world, number, Node())
        yield "settles", _ends(idle, node.slot, mutant) if holds else idle
    elif holds and world.troubles:
        handed_over = _hands_over(world, number, mutant)
        yield "hands over", handed_over
        yield "fails", replace(handed_over, row=replace(handed_over.row, waits=True))


def _hands_over(world: World, number: int, mutant: Mutant | None) -> World:
    """Leave the run to whoever comes next, which is no loss."""
    attempt = max(0, world.row.attempt - 1) if mutant is Mutant.TAKEN_BACK else world.row.attempt
    left = replace(world.row, owned=False, expired=False, begun=False, attempt=attempt)
    return replace(_with(world, number, Node()), row=left, troubles=world.troubles - 1)


def _commits(world: World, number: int, node: Node) -> World:
    of_slot, place = world.effects[node.slot - 1], node.slot - 1
    again = _put(of_slot, node.cursor, of_slot[node.cursor] + 1)
    done = _put(world.done, place, node.cursor + 1)
    committed = replace(world, effects=_put(world.effects, place, again), done=done)
    return _with(committed, number, replace(node, phase=Phase.WORKS, cursor=node.cursor + 1))


def _holds(row: Row, node: Node) -> bool:
    return node.newest and row.owned


def _fenced(world: World) -> World:
    """Let there be a newer fence than any that a node knows."""
    return replace(world, nodes=tuple(replace(node, newest=False) for node in world.nodes))


def _with(world: World, number: int, node: Node) -> World:
    """Let a node know something else. Which of them it is makes no difference, so that they are kept in an order."""
    nodes = sorted(_put(world.nodes, number, node), key=_order)
    return replace(world, nodes=tuple(nodes))


def _order(node: Node) -> tuple[int, ...]:
    return node.phase.value, node.slot, node.cursor, node.newest


def _put(values: tuple[_T, ...], place: int, value: _T) -> tuple[_T, ...]:
    return (*values[:place], value, *values[place + 1 :])
