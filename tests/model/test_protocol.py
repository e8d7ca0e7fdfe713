"""No order does a batch twice, loses a slot, cancels the wrong run or sticks; with any rule left out, some does."""

from collections import deque

import pytest
from tests.model.protocol import NODES, SLOTS, Mutant, World, steps

KINDS = {"CANCEL": {"cancels": 1}, "SKIP": {"skips": True}}


def explored(mutant=None, batches=1, **kind):
    """Go through every world that can be come to, until one breaks a promise; return how each was come to, and it."""
    first = World.first(batches, **kind)
    ways = {first: (None, "it begins")}
    ahead = deque([first])
    while ahead:
        world = ahead.popleft()
        if world.doubled or world.lost or world.miscounted or world.hasty or world.wrong:
            return ways, world
        for name, after in steps(world, mutant):
            if after not in ways:
                ways[after] = (world, name)
                ahead.append(after)
    return ways, None


def way_to(world, ways):
    """Tell how a world was come to, step by step."""
    told = []
    while world is not None:
        world, name = ways[world]
        told.append(name)
    return told[::-1]


def stuck(ways, mutant=None):
    """Return a world from which no order leads to an end of every slot, or None."""
    before = {}
    for world in ways:
        for _, after in steps(world, mutant):
            before.setdefault(after, []).append(world)
    ends = [world for world in ways if world.at_rest]
    reach = set(ends)
    while ends:
        fresh = [world for world in before.get(ends.pop(), ()) if world not in reach]
        reach.update(fresh)
        ends += fresh
    return next((world for world in ways if world not in reach), None)


@pytest.mark.parametrize("kind", [{}, {"cancels": 1}, {"skips": True}], ids=["plain", "cancels", "skips"])
def test_no_order_of_events_does_a_batch_twice_or_too_soon_or_loses_a_slot_or_sticks(campaign, figure, kind):
    batches = 2 if campaign else 1
    ways, broken = explored(None, batches, **kind)
    assert broken is None, way_to(broken, ways)
    sticking = stuck(ways)
    assert sticking is None, way_to(sticking, ways)
    of = f"{NODES} nodes, {SLOTS} slots, batches in each: {batches}"
    figure(" ".join(["protocol", *kind]), f"{len(ways):,} worlds of {of}")
    assert len(ways) > 10_000


@pytest.mark.parametrize("mutant", Mutant)
def test_without_any_one_rule_some_order_does(mutant):
    ways, broken = explored(mutant, **KINDS.get(mutant.name.partition("_")[0], {}))
    wrong = broken or stuck(ways, mutant)
    assert wrong is not None
    assert 3 < len(way_to(wrong, ways)) < 20
