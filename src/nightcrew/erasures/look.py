"""The separate look: what is left of a subject anywhere, found out anew, whatever the removal has counted."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from nightcrew.database import ForeignKey
from nightcrew.erased import Facts
from nightcrew.erasures import keys, rows
from nightcrew.erasures.coverage import refers
from nightcrew.erasures.work import Work
from nightcrew.errors import ConfigurationError, DatabaseError, PolicyError, StoreError
from nightcrew.owing import Trace

_ANY = "not counted: the column does not hold the row's key"


@dataclass(frozen=True, slots=True)
class Part:
    """What was found of a subject in one place, what was removed, what is left of that, and what stays for a reason.

    The `place` is a table or a store, `what` the columns or the pattern by which it was found.
    """

    place: str
    what: str
    how: str
    found: int
    removed: int
    residual: int = 0
    held: int = 0
    why: str | None = None

    def json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)


def parts(work: Work, facts: Facts) -> Iterator[Part]:
    """Look at each place once more; `facts` are what was found and removed there."""
    tally: Mapping[str, Mapping[str, int]] = facts.get("tally", {})
    surveyed: Mapping[str, int] = facts.get("found", {})
    yield from _tables(work, tally, surveyed)
    yield from _loosened(work, surveyed)
    yield from _kept(work)
    left = keys.owed(work)
    for name in dict.fromkeys((*(each.removeprefix("owed ") for each in tally if each.startswith("owed ")), *left)):
        yield _owed(name, tally.get(f"owed {name}", {}), left.get(name, 0))
    for trace in work.policy.traces:
        yield _traced(work, trace, tally.get(keys.part(trace), {}))
    for name in (name.removeprefix("own ") for name in tally if name.startswith("own ")):
        if removed := tally.get(f"own {name}", {}).get("removed", 0):
            yield Part("nightcrew", name, "forget", removed, removed)


def problems(found: list[Part]) -> list[str]:
    """Say where something is left."""
    return [f"{part.place}: {part.residual:,} of {part.what} are left" for part in found if part.residual]


def _tables(work: Work, tally: Mapping[str, Mapping[str, int]], surveyed: Mapping[str, int]) -> Iterator[Part]:
    selection = work.selection
    own = selection.table.name
    cascades = {path[-1].table for path in selection.cascades}
    leaving = dict.fromkeys((own, *(path[-1].table for path in selection.drains + selection.cascades)))
    for table in leaving:
        residual = 1 if table == own and work.kit.subjects.find(selection.table, work.key, ()) else 0
        directly = [key for key in work.direct if key.table == table and key.on_delete != "SET NULL"]
        residual += sum(_referring(work, key) for key in directly if table != own or residual == 0)
        removed = tally.get(rows.part(table), {}).get("removed", 0)
        how = "cascade" if table in cascades else "delete"
        what = "; ".join(", ".join(key.columns) for key in directly) or ", ".join(selection.table.primary_key)
        if table != own and not directly:
            what = "rows of rows"
        yield Part(table, what, how, max(surveyed.get(table, 0), removed + residual), removed, residual)


def _referring(work: Work, key: ForeignKey) -> int:
    values = work.referred(key.parent_columns)
    return 0 if values is None else work.kit.subjects.strays(key, values)


def _loosened(work: Work, surveyed: Mapping[str, int]) -> Iterator[Part]:
    """Of rows that outlive what they refer to, look whether they do not any more."""
    for key in dict.fromkeys(path[-1] for path in work.selection.loosened):
        columns = ", ".join(key.columns)
        stay = surveyed.get(f"{key.table}.{columns}", 0)
        residual = _referring(work, key) if key.parent == work.selection.table.name else 0
        why = next((work.policy.keep.get(f"{key.table}.{column}") for column in key.columns), None)
        stay = max(stay, residual)
        reason = why or f"ON DELETE {key.on_delete}"
        yield Part(key.table, columns, key.on_delete.lower(), stay, 0, residual, stay - residual, reason)


def _kept(work: Work) -> Iterator[Part]:
    """Count the rows that refer to the row without a foreign key, and stay; what refers to others is not counted."""
    known = {(path[-1].table, column) for path in work.selection.loosened for column in path[-1].columns}
    for name, why in work.policy.keep.items():
        table, _, column = name.rpartition(".")
        if (table, column) not in known and len(work.key) == 1:
            stay = _staying(work, table, column)
            said = f"{why} ({_ANY})" if stay is None else why
            yield Part(table, column, "keep", stay or 0, 0, 0, stay or 0, said)


def _staying(work: Work, table: str, column: str) -> int | None:
    """Count the rows that have the row's key in a column; None where that holds keys of others, or none of its kind."""
    if not refers(column, work.selection.table.name):
        return None
    try:
        return work.kit.subjects.count(table, (column,), work.key)
    except DatabaseError as error:
        if error.of_row:
            return None
        raise


def _owed(store: str, numbers: Mapping[str, int], residual: int) -> Part:
    """Of what is not owed any more nothing is left: a debt is forgotten once its key is gone, or found to be in use."""
    found, held = (numbers.get(name, 0) for name in ("found", "held"))
    why = "other rows have them, too" if held else None
    return Part(store, "keys of its rows", "remove", found, found - held - residual, residual, held, why)


def _traced(work: Work, trace: Trace, numbers: Mapping[str, int]) -> Part:
    """List what is there by a pattern anew."""
    found, removed = numbers.get("found", 0), numbers.get("removed", 0)
    if (values := work.named(trace)) is None:
        return Part(trace.store, trace.keys, "remove", 0, 0, why="the row has no value by which they are named")
    if trace.ambiguous(values):
        return Part(trace.store, trace.keys, "skip", 0, 0)
    held = residual = 0
    try:
        store = work.kit.stores[trace.store]
        if not hasattr(store, "present"):
            return Part(trace.store, trace.keys, "call", found, removed, found - removed)
        columns = list(work.kit.columns(trace.store))
        for some in keys.pages(store, trace, values):
            there = store.present(some)
            known = work.kit.debts.referred(columns, sorted(there)) if columns and there else set()
            held, residual = held + len(known), residual + len(there - known)
    except (StoreError, ConfigurationError, PolicyError):
        residual = max(residual, found - removed)  # that the store is away is a problem of its own
    why = "rows of others have them" if held else None
    return Part(trace.store, trace.keys, "remove", max(found, removed + held + residual), removed, residual, held, why)
