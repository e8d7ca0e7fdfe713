"""Outlines of tables → Proposals: jobs that a person may want, with the evidence, each held against the live catalog.

Nothing is decided here and nothing is enabled: what is not sure is said, and what would not fit is left out by name.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from math import log10
from typing import Any

from nightcrew import plan
from nightcrew.database import Catalog, Database, ForeignKey, Table
from nightcrew.duration import spell
from nightcrew.errors import DatabaseError, PolicyError
from nightcrew.habits import Doubt, Habit, is_time, look
from nightcrew.job import LONGEST_NAME
from nightcrew.outline import Outline, Sights
from nightcrew.policy import Policy

MOST = 40
"""Proposals that are made at once: what is not read is not decided."""
_TRIED = 80  # tables that are held against the catalog for them
_KEPT_BY = 30  # foreign keys that one proposal names to keep rows by
_LOOSE = ("SET NULL", "SET DEFAULT")


@dataclass(frozen=True, slots=True)
class Proposal:
    """A job that a person may enable, as it would be named and due, and the sentences that speak for it.

    `rows` is the database's own estimate of the table. `create_index` are statements to run before, to paste. `erase`
    says that the job could delete what now keeps rows from leaving.
    """

    job: str
    due: tuple[str, str]
    policy: Policy
    why: tuple[str, ...]
    rows: int | None
    create_index: tuple[str, ...] = ()
    erase: bool = False

    def json(self) -> dict[str, Any]:
        """Return it as JSON values; the span as the configuration writes it."""
        policy, (key, when) = self.policy, self.due
        return {
            "job": self.job,
            key: when,
            "table": policy.table,
            "column": policy.column,
            "olderThan": None if policy.older_than is None else spell(policy.older_than),
            "unlessExists": list(policy.unless_exists),
            "why": list(self.why),
            "rowsEstimated": self.rows,
            "createIndex": list(self.create_index),
        }


@dataclass(frozen=True, slots=True)
class Prospect:
    """What a look at a database led to: proposals, what was left out and why, and what more there is to look at."""

    tables: int
    proposals: tuple[Proposal, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    further: tuple[str, ...] = ()

    def json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        proposals = [proposal.json() for proposal in self.proposals]
        return {"tables": self.tables, "proposals": proposals, "leftOut": dict(self.left_out), "further": self.further}


def propose(sights: Sights, database: Database, moment: datetime) -> Prospect:
    """Look at all tables, and propose what is most worthwhile; the database is only read, and no table is counted."""
    outlines = sights.outlines()
    doubts, found = dict[str, str](), list[tuple[Outline, Habit]]()
    for outline in outlines:
        match look(outline):
            case Doubt(why):
                doubts[outline.name] = why
            case Habit() as habit:
                found.append((outline, habit))
    found.sort(key=lambda pair: (-_worth(*pair), pair[0].name))
    proposals, taken = list[Proposal](), set[str]()
    left = deque(found)
    while left and len(proposals) < MOST and len(found) - len(left) < _TRIED:
        outline, habit = left.popleft()
        try:
            proposal = _proposed(outline, habit, (_name(habit, outline, taken), len(proposals)), database, moment)
            unread = None if is_time(habit.column) else sights.unreadable(outline.name, habit.column.name, moment)
        except (PolicyError, DatabaseError) as refusal:
            if isinstance(refusal, DatabaseError) and refusal.away:
                raise
            unread = str(refusal)
        if unread is not None:
            doubts[outline.name] = unread
            continue
        proposals.append(proposal)
        taken.add(proposal.job)
    further = tuple(outline.name for outline, _ in left)
    return Prospect(len(outlines), tuple(proposals), doubts, further)


def _worth(outline: Outline, habit: Habit) -> float:
    """Weigh how sure a proposal is against how many rows there are."""
    return habit.weight + log10(1 + (outline.rows or 0)) / 2


def _name(habit: Habit, outline: Outline, taken: set[str]) -> str:
    letters = "".join(sign if sign.isascii() and sign.isalnum() else " " for sign in outline.name.lower())
    name = "-".join([habit.verb, *letters.split()])[: LONGEST_NAME - 4].rstrip("-")
    if name == habit.verb:
        name = f"{name}-rows"
    return next(each for each in (name, *(f"{name}-{n}" for n in range(2, 1_000))) if each not in taken)


def _proposed(outline: Outline, habit: Habit, named: tuple[str, int], database: Database, moment: datetime) -> Proposal:
    """Hold what is proposed against the catalog; raises PolicyError for what would not fit."""
    if "." in outline.name:
        raise PolicyError("its name has a dot in it, which would read as a schema: rename it")
    policy = Policy(outline.name, habit.column.name, habit.older_than)
    catalog = database.catalog([outline.name])
    table = catalog.table(outline.name)
    stuck = [key for key in catalog.children(table.name) if _refuses(key, catalog, table.name)]
    if len(stuck) > _KEPT_BY:
        raise PolicyError(f"{len(stuck)} foreign keys keep its rows from leaving: say in a job of your own which do")
    keep = tuple(dict.fromkeys(f"{key.table}.{key.columns[0]}" for key in stuck))
    policy = replace(policy, unless_exists=keep)
    plan.compile(policy, moment, database)
    job, place = named
    due = ("every", "1 hour") if habit.hourly else ("schedule", f"{place * 7 % 60} 3 * * *")
    return Proposal(
        job,
        due,
        policy,
        tuple(_evidence(outline, habit, table, catalog, stuck)),
        outline.rows,
        tuple(dict.fromkeys(_wanting(habit, table, catalog, stuck))),
        erase=bool(keep),
    )


def _refuses(key: ForeignKey, catalog: Catalog, root: str, above: tuple[str, ...] = ()) -> bool:
    """Tell whether rows that a key refers to cannot leave, for the key itself or for one further down."""
    if key.on_delete in _LOOSE:
        return False
    if key.on_delete != "CASCADE" or key.kind != "table":
        return True
    if key.table == root or key.table in above:
        return False
    return any(_refuses(each, catalog, root, (*above, key.table)) for each in catalog.children(key.table))


def _evidence(
    outline: Outline, habit: Habit, table: Table, catalog: Catalog, stuck: Sequence[ForeignKey]
) -> Iterator[str]:
    """Say what speaks for a proposal, and what hangs on it."""
    column = habit.column
    yield f"{column.name} ({column.kind}) {habit.why}."
    index = table.leading(column.name)
    yield f"{_size(outline.rows)}; {f'the index {index}' if index else 'no index'} finds those that are due."
    children = [key for key in catalog.children(table.name) if key not in stuck]
    if along := [key for key in children if key.on_delete == "CASCADE"]:
        yield f"Rows that refer to one go with it (ON DELETE CASCADE): {_listed(along)}."
    if loose := [key for key in children if key.on_delete in _LOOSE]:
        yield f"Rows that stay, and refer to nothing afterwards (ON DELETE SET NULL): {_listed(loose)}."
    if stuck:
        yield (
            f"Rows cannot leave while others refer to them: {_listed(stuck)}. So unless_exists keeps a row that has"
            " any; erase = true in its place deletes those, too, and all that hangs on them."
        )
    if habit.care:
        yield habit.care


def _size(rows: int | None) -> str:
    return f"About {rows:,} rows in all" if rows else "No rows are known of: it is empty, or nobody has analysed it"


def _wanting(habit: Habit, table: Table, catalog: Catalog, stuck: Sequence[ForeignKey]) -> Iterator[str]:
    """Write the statements that make the indexes a sweep would go by."""
    if not table.leads(habit.column.name):
        yield catalog.create_index(table.name, (habit.column.name,))
    for key in catalog.children(table.name):
        if not key.indexed:
            yield catalog.create_index(key.table, key.columns)


def _listed(keys: Sequence[ForeignKey], most: int = 8) -> str:
    names = [f"{key.table}.{', '.join(key.columns)}" for key in keys]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
