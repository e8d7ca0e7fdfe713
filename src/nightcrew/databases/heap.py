"""A table whose rows lie in one file, page after page."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa


@dataclass(frozen=True, slots=True)
class Heap:
    """A table whose rows lie in one file of so many `pages`, at their `place`; `at` makes the place a page begins at.

    `page` is the number of the one that a place is on. `pages_now` counts the pages anew where it is asked. `per_page`
    are the rows on a usual page, and `at_most` those to reckon with on a full one. `writing` asks for the number of
    this transaction, and whether no other one that writes has been under way with it.
    """

    pages: int
    pages_now: sa.ColumnElement[int]
    per_page: float
    at_most: float
    place: sa.ColumnElement[Any]
    page: Callable[[sa.ColumnElement[Any]], sa.ColumnElement[int]]
    at: Callable[[int], sa.ColumnElement[Any]]
    writing: sa.Select[int, bool]
