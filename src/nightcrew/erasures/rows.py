"""The rows: one, with all that hangs on it, batch after batch; and what came in by a link while it left."""

from collections.abc import Iterator, Mapping

from nightcrew.database import LINK, Connection, ForeignKey, Taken
from nightcrew.erased import Facts
from nightcrew.erasures.work import Work, add
from nightcrew.errors import DatabaseError

_MOST = 5_000  # rows of a batch, with all that hangs on them
_STAYS = "the row is to stay: a hold protects it or what hangs on it, unless_exists keeps it, or it came back"
_LOCKED = "somebody has the row locked, or a trigger keeps it"
# What the database says of it may quote any row, and a receipt is kept for good.
_UNFIT = (
    "the database refuses to let the row go, or one that hangs on it: a constraint, a trigger or a value; delete it by"
    " hand to see why"
)
_PAUSES = (0.1, 0.2, 0.4, 0.8, 1.6)  # seconds before each further look at a row that somebody holds


class Stopped(Exception):
    """The work has to end for now; whoever comes next goes on with it."""


class Kept(Exception):
    """The row stays, and nothing of it was removed; its text says why."""


def remove(work: Work) -> list[str]:
    """Remove the row, and what refers to it; return what is wrong.

    Raises Kept where it stays and nothing of it was removed, Stopped where the gate says so.
    """
    try:
        problem = _row(work)
        if problem is None:
            for key in work.direct:
                if key.on_delete == LINK and (values := work.referred(key.parent_columns)) is not None:
                    _stragglers(work, key, values)
    except DatabaseError as error:
        if not error.of_row:
            raise
        return [f"table {work.selection.table.name}: {_UNFIT}"]
    return [] if problem is None else [problem]


def part(table: str) -> str:
    """Name a table's part of the tally."""
    return f"rows {table}"


def _row(work: Work) -> str | None:
    """Take the row; return why it is still there."""
    pauses = _pauses(work)
    while True:
        taken = _batch(work)
        if taken.rows:
            return None
        if taken.load:  # a slice of what hangs on it
            continue
        if work.kit.subjects.find(work.selection.table, work.key, ()) is None:
            return None
        why = _STAYS
        if work.kit.database.left(work.selection, {}, 1).rows:
            if next(pauses, None) is not None:
                continue
            why = _LOCKED
        tally = work.kit.erasures.facts(work.erasure.id).get("tally", {})
        if not any(name.startswith("rows ") for name in tally):
            raise Kept(why)
        return f"table {work.selection.table.name}: {why}; some of what hung on the row is gone"


def _pauses(work: Work) -> Iterator[float]:
    for seconds in _PAUSES:
        if not work.gate.goes_on(seconds):
            raise Stopped
        yield seconds


def _batch(work: Work) -> Taken:
    """Take what fits into a transaction, and write down what that was, and what is owed for it."""
    kit, tries = work.kit, _pauses(work)
    while True:
        started = kit.clock.monotonic()
        try:
            with kit.database.transaction() as connection:
                facts, newest = _begin(work, connection)
                taken = kit.database.take(connection, work.selection, {}, 1, _MOST)
                _account(work, connection, facts, newest, taken.counts)
        except DatabaseError as error:
            if error.away or not error.transient or next(tries, None) is None:
                raise
            continue
        begun = taken.load > 0 and not taken.rows
        if not work.gate.goes_on(kit.clock.monotonic() - started) and begun:  # else every call brings it forward
            raise Stopped
        return taken


def _begin(work: Work, connection: Connection) -> tuple[Facts, int]:
    work.gate.hold(connection)
    return work.kit.erasures.hold(connection, work.erasure.id), work.kit.debts.newest(connection)


def _account(work: Work, connection: Connection, facts: Facts, newest: int, counts: Mapping[str, int]) -> None:
    for table, rows in counts.items():
        if rows:
            add(facts, part(table), removed=rows)
    for store, keys in work.kit.debts.incurred(connection, work.erasure.id, newest).items():
        add(facts, f"owed {store}", found=keys)
    work.kit.erasures.note(connection, work.erasure.id, facts)
    work.gate.heard(connection, counts)


def _stragglers(work: Work, key: ForeignKey, values: list[str]) -> None:
    """Remove what came in by a link, which asks nobody whether the row is there."""
    while True:
        with work.kit.database.transaction() as connection:
            facts, newest = _begin(work, connection)
            counts = work.kit.subjects.take(connection, work.selection, key, values, _MOST)
            _account(work, connection, facts, newest, counts)
        if not sum(counts.values()):
            return
        if not work.gate.goes_on(0.0):
            raise Stopped
