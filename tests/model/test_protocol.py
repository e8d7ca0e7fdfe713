"""No order of events does a batch twice, loses a slot or sticks; with any one rule left out, some order does."""

from collections import deque

import pytest
from tests.model.protocol import NODES, SLOTS, Mutant, World, steps


def explored(mutant=None, batches=1):
    """Go through every world that can be come to, until one breaks a promise; return how each was come to, and it."""
    first = World.first(batches)
    ways = {first: (None, "it begins")}
    ahead = deque([first])
    while ahead:
        world = ahead.popleft()
        if world.doubled or world.lost or world.hasty:
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


def test_no_order_of_events_does_a_batch_twice_or_too_soon_or_loses_a_slot_or_sticks(campaign, figure):
    batches = 2 if campaign else 1
    ways, broken = explored(batches=batches)
    assert broken is None, way_to(broken, ways)
    sticking = stuck(ways)
    assert sticking is None, way_to(sticking, ways)
    figure("protocol", f"{len(ways):,} worlds of {NODES} nodes, {SLOTS} slots, batches in each: {batches}")
    assert len(ways) > 10_000


@pytest.mark.parametrize("mutant", Mutant)
def test_without_any_one_rule_some_order_does(mutant):
    ways, broken = explored(mutant)
    wrong = broken or stuck(ways, mutant)
    assert wrong is not None
    assert 3 < len(way_to(wrong, ways)) < 20
