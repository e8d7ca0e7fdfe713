"""Prospect: what an erasure would find in each place; nothing is removed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nightcrew.database import Selection
from nightcrew.erased import Erasure, subject_of
from nightcrew.erasures import keys
from nightcrew.erasures.look import Part
from nightcrew.erasures.work import Kit, needed
from nightcrew.errors import ConfigurationError, PolicyError, StoreError
from nightcrew.owing import Trace
from nightcrew.policy import Policy

_MOST_LISTED = 100_000  # keys of one pattern that are counted


@dataclass(frozen=True, slots=True)
class Prospect:
    """What would be removed and what would stay of one subject, and why it may come to nothing.

    `before` are its earlier erasures, the newest first.
    """

    job: str
    table: str
    there: bool
    parts: tuple[Part, ...] = ()
    problems: tuple[str, ...] = ()
    before: tuple[Erasure, ...] = ()

    def json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        earlier = [{"erasure": one.id, "state": str(one.state), "receipt": one.number} for one in self.before]
        said = {"job": self.job, "table": self.table, "there": self.there, "problems": list(self.problems)}
        return said | {"parts": [part.json() for part in self.parts], "before": earlier}


def look(kit: Kit, policy: Policy, selection: Selection, key: Sequence[str], job: str) -> Prospect:
    """Count what hangs on a row, and what stores have of it."""
    before = tuple(kit.erasures.of(subject_of(kit.secret, selection.table.name, key)))
    found = kit.named(selection.table, key, needed(policy, selection, kit.mail))
    if found is None:
        return Prospect(job, selection.table.name, there=False, before=before)
    one, problems = replace(selection, only=found.key), list[str]()
    if not kit.database.left(one, {}, 1).rows:
        problems.append("the row would stay: a hold protects it or what hangs on it, or unless_exists keeps it")
    parts = list(_rows(kit, policy, one))
    for trace in policy.traces:
        named = {name: found.values[name] for name in trace.columns}
        values = {name: value for name, value in named.items() if value}
        try:
            number = _listed(kit, trace, values) if len(values) == len(named) else 0
        except (StoreError, ConfigurationError, PolicyError) as error:
            problems.append(f"store {trace.store}: {error}")
            continue
        parts.append(Part(trace.store, trace.keys, "remove", number, 0))
    return Prospect(job, selection.table.name, there=True, before=before, parts=tuple(parts), problems=tuple(problems))


def _rows(kit: Kit, policy: Policy, one: Selection) -> Iterator[Part]:
    survey = kit.database.survey(one)
    cascades = {path[-1].table for path in one.cascades}
    for table, rows in survey.counts.items():
        known = "a tree, of which more may go" if table in one.partly else None
        yield Part(table, "rows", "cascade" if table in cascades else "delete", rows, 0, why=known)
    for key, rows in survey.loosened.items():
        why = next((policy.keep.get(f"{key.table}.{name}") for name in key.columns), None)
        yield Part(key.table, ", ".join(key.columns), key.on_delete.lower(), rows, 0, 0, rows, why)
    for owing in one.blobs:
        yield Part(owing.store, f"keys in {owing}", "remove", kit.subjects.keyed(one, (owing.table, owing.column)), 0)


def _listed(kit: Kit, trace: Trace, values: dict[str, str]) -> int:
    if column := trace.ambiguous(values):
        raise StoreError(f"{trace} would be skipped, for {column} has the sign in it by which it ends there")
    number = 0
    for some in keys.pages(kit.stores[trace.store], trace, values):
        number += len(some)
        if number >= _MOST_LISTED:
            break
    return number
