"""Locked rows → as many of them as fit into one batch with all that hangs on them, or a slice of what hangs on one.

A row with a million others hanging on it leaves in many transactions: each holds the row, looks at it again, and takes
a slice of what hangs on it, from the leaves up. So nothing is taken for a row that is no longer to go.
"""

from collections import Counter
from dataclasses import dataclass

import sqlalchemy as sa

from nightcrew.database import ForeignKey, Key
from nightcrew.databases.bills import note_loosened
from nightcrew.databases.bunch import Bunch, beneath
from nightcrew.databases.counts import weigh
from nightcrew.databases.drains import drain
from nightcrew.databases.partings import note, note_below
from nightcrew.databases.shields import secure
from nightcrew.databases.target import Target
from nightcrew.databases.webs import Web, empty, explore
from nightcrew.errors import DatabaseError

_MOST_TRIES = 100  # bunches that are looked at for one batch


@dataclass(frozen=True, slots=True)
class Portion:
    """Rows that go together with what hangs on them: `counts` by table of what does, `load` all that is touched."""

    bunch: Bunch
    counts: Counter[str]
    load: int
    web: Web | None = None

    def clear(self, connection: sa.Connection, target: Target) -> Counter[str]:
        """Delete what hangs on the rows, as far as the database will not with them; return all that goes, by table."""
        if self.web is None:
            note_below(connection, target, self.bunch)
            return self.counts + drain(connection, target, self.bunch)
        return empty(connection, target, self.web, tops=False)


@dataclass(frozen=True, slots=True)
class Slice:
    """What was taken of the rows that hang on one."""

    counts: Counter[str]
    load: int


def fitting(connection: sa.Connection, target: Target, bunch: Bunch, most: int) -> Portion | None:
    """Return the first rows of a bunch that make at most `most` with what hangs on them; None where not even one.

    Raises DatabaseError where what hangs on them came to be held since they were looked at.
    """
    fits = _longest(connection, target, bunch, most)
    if fits:
        secure(connection, target, fits.bunch)
    return fits


def _longest(connection: sa.Connection, target: Target, bunch: Bunch, most: int) -> Portion | None:
    """Halve the bunch until it fits, then the distance to what did not: each row left out is looked at again."""
    fits: Portion | None = None
    small, size, large = 0, len(bunch.keys), len(bunch.keys) + 1  # so many fit, are tried, and do not fit
    while small < size < large and not (fits and 2 * fits.load >= most):
        portion = _whole(connection, target, bunch.first(size), most)
        small, large, fits = (size, large, portion) if portion else (small, size, fits)
        if fits and target.selection.knots:
            break  # to follow rows one by one takes longer than another batch
        size = (small + large) // 2
    return fits


def _whole(connection: sa.Connection, target: Target, bunch: Bunch, most: int) -> Portion | None:
    if target.selection.knots:
        web = explore(connection, target, bunch, most)
        counts = web.counts - Counter({bunch.table.name: len(bunch.keys)})
        return Portion(bunch, counts, web.rows, web) if web.whole else None
    load = weigh(connection, target, bunch, most)
    if load is None:
        return None
    cascades = {path[-1].table for path in target.selection.cascades}
    counts = Counter({name: rows for name, rows in load.counts.items() if name in cascades})
    return Portion(bunch, counts, load.rows)


def take_slice(connection: sa.Connection, target: Target, top: Bunch, most: int) -> Slice:
    """Take at most `most` of the rows that hang on the one row of a bunch, with all that hangs on these in turn.

    Raises DatabaseError where none of them can go by itself.
    """
    taken = (_of_web if target.selection.knots else _of_table)(connection, target, top, most)
    if taken is None or taken.load == 0:
        raise DatabaseError(
            f"more rows hang on a row of table {target.selection.table.name!r} than fit into one batch, and none of"
            " them can go before it: look for a trigger that keeps them, or give a foreign key that leads round"
            " ON DELETE SET NULL",
            of_row=True,
        )
    return taken


def _of_table(connection: sa.Connection, target: Target, top: Bunch, most: int) -> Slice | None:
    """Go down to the first rows that fit with what hangs on them."""
    for key in _loosened(target, top.table.name):
        children = beneath(connection, target, top, key, most)
        note_loosened(connection, target, children, key)
        if children.keys and (rows := children.loosened(connection, key)):
            return Slice(Counter(), rows)
    for key in target.selection.keys:
        if key.parent != top.table.name:
            continue
        children = beneath(connection, target, top, key, most)
        if not children.keys:
            continue
        portion = fitting(connection, target, children, most)
        if portion is None:
            return _of_table(connection, target, children.first(1), most)
        counts = portion.clear(connection, target)
        note(connection, target, portion.bunch)
        rows = portion.bunch.removed(connection)
        return Slice(counts + Counter({key.table: rows}), rows and portion.load)
    return None


def _loosened(target: Target, table: str) -> dict[ForeignKey, None]:
    """Return the keys that are set to NULL as rows of a table leave."""
    keys = (path[-1] for path in target.selection.loosened)
    return dict.fromkeys(key for key in keys if key.on_delete == "SET NULL" and key.parent == table)


def _of_web(connection: sa.Connection, target: Target, top: Bunch, most: int) -> Slice | None:
    """Follow the rows down as far as they fit, and take some of the lowest that were come to, with all below them.

    None of them may lead back to a row that was gone down from: that one would go with them, and all that it holds.
    """
    for key in target.selection.keys:
        if key.parent == top.table.name and (taken := _of_answers(connection, target, top, key, most)):
            return taken
    above: set[tuple[str, Key]] = set()
    ahead = [top]
    for _ in range(_MOST_TRIES):
        if not ahead:
            break
        bunch = ahead.pop()
        web = explore(connection, target, bunch, most, above)
        if web.whole and not web.round and bunch is not top:
            counts = empty(connection, target, web, tops=True)
            return Slice(counts, 0 if bunch.counted(connection) else web.rows)
        if len(bunch.keys) > 1:
            half = len(bunch.keys) // 2
            ahead += [bunch.of(bunch.keys[half:]), bunch.first(half)]
            continue
        above |= {(bunch.table.name, tuple(key)) for key in bunch.keys}
        for generation in web.generations[1:]:
            for below in generation.values():
                fresh = [key for key in below.keys if (below.table.name, tuple(key)) not in above]
                ahead += [below.of(fresh[:most])] if fresh else []
    return None


def _of_answers(connection: sa.Connection, target: Target, top: Bunch, key: ForeignKey, most: int) -> Slice | None:
    """Take some of the rows that refer to one by a key, and to each other by others, as answers in a chat do.

    A long chat is one chain, whose end may be far from where it is begun. Answers to what is taken that hang on the
    same row are not followed: they refer to nothing until they leave themselves.
    """
    ties = [tie for tie in target.selection.keys if tie.table == tie.parent == key.table != key.parent]
    bunch = beneath(connection, target, top, key, max(1, most // 2)) if ties else top.first(0)
    above = {(top.table.name, tuple(top.keys[0]))}
    while bunch.keys:
        answers = {tie: _answers(connection, target, bunch, tie, max(1, most // 4), (top, key)) for tie in ties}
        spared = {(key.table, tuple(answer)) for others in answers.values() for answer in others.keys}
        web = explore(connection, target, bunch, most - len(spared), above, spared)
        whole = web.whole and not web.round
        if whole or len(bunch.keys) == 1:
            for tie, others in answers.items():
                note_loosened(connection, target, others, tie)
            loosened = sum(others.loosened(connection, tie) for tie, others in answers.items())
            counts = empty(connection, target, web, tops=True) if whole else Counter[str]()
            return Slice(counts, loosened + web.rows * whole) if whole or loosened else None
        bunch = bunch.first(len(bunch.keys) // 2)
    return None


def _answers(
    connection: sa.Connection,
    target: Target,
    bunch: Bunch,
    tie: ForeignKey,
    most: int,
    beside: tuple[Bunch, ForeignKey],
) -> Bunch:
    """Find at most so many rows that refer to some of a bunch, and are none of them, beside it."""
    of_it = {tuple(one) for one in bunch.keys}
    found = beneath(connection, target, bunch, tie, most + len(of_it), beside)
    return found.of([answer for answer in found.keys if tuple(answer) not in of_it][:most])
