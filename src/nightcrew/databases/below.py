"""Tables, and the links from child to parent → those of the links by which something hangs on the tables."""

from collections import defaultdict
from collections.abc import Hashable, Iterable
from typing import TypeVar

Place = TypeVar("Place", bound=Hashable)
Link = TypeVar("Link")


def below(tops: Iterable[Place], links: Iterable[tuple[Place, Place, Link]]) -> list[Link]:
    """Return the links (parent, child, and what it is) that are met on the way down from the tops, in their order."""
    links = list(links)
    children: dict[Place, list[Place]] = defaultdict(list)
    for parent, child, _ in links:
        children[parent].append(child)
    reached: set[Place] = set()
    ahead = list(tops)
    while ahead:
        place = ahead.pop()
        if place not in reached:
            reached.add(place)
            ahead += children[place]
    return [link for parent, _, link in links if parent in reached]
