"""Hold: what protects rows of a table from every job, and with them all that they hang on."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from nightcrew.censor import shown
from nightcrew.database import Catalog, Database, Path, Selection, Shield, Shielded, Table
from nightcrew.errors import PolicyError
from nightcrew.job import Job
from nightcrew.policy import Action, Policy

_NAMED = 3  # rows by their keys
_PATIENCE = 5.0  # seconds that finding out about them may take


@dataclass(frozen=True, slots=True)
class Hold:
    """A predicate of one job that protects rows of its table; `job` is its name."""

    job: str
    table: str
    predicate: str


def holds(jobs: Iterable[Job]) -> tuple[Hold, ...]:
    """Return the holds of those jobs that delete: what one of them may not remove, no other may."""
    rules = ((job.name, job.policy) for job in jobs if job.policy is not None)
    return tuple(
        Hold(name, policy.table, policy.hold)
        for name, policy in rules
        if policy.hold and policy.action is Action.DELETE
    )


Living: TypeAlias = tuple[str, tuple[str, ...]] | None
"""A column of the IDs of chats, and those of them whose streams are live: their rows stay."""


def streaming(policy: Policy | None, living: Callable[[], Collection[str]]) -> Living:
    """Return the chats that a policy leaves alone because a stream is live, if it leaves any.

    They are those of this moment: whose stream begins later has a message by then, and is looked at for that. Raises
    StreamError where nobody can say which they are.
    """
    column = None if policy is None else policy.unless_active_stream
    return None if column is None else (column, tuple(sorted(living())))


def heeding(policy: Policy, given: Sequence[Hold], catalog: Catalog) -> Policy:
    """Return a policy that deletes with the holds that other jobs have on its table for its own, too."""
    if policy.action is not Action.DELETE:
        return policy
    own = catalog.table(policy.table).name
    found = (hold.predicate for hold in given if _named(hold, catalog) == own)
    predicates = list(dict.fromkeys((*([policy.hold] if policy.hold else ()), *found)))
    if len(predicates) < 2:
        return replace(policy, hold=predicates[0]) if predicates else policy
    return replace(policy, hold=" OR ".join(f"(\n{predicate}\n)" for predicate in predicates))


def shields(
    given: Sequence[Hold], paths: Sequence[Path], knots: Sequence[Sequence[str]], catalog: Catalog
) -> tuple[Shield, ...]:
    """Return which holds protect rows at the ends of the paths down from a table.

    Raises PolicyError where foreign keys lead round: rows that are followed one by one are not looked at so far ahead.
    """
    found = {
        Shield(path, hold.predicate): hold
        for path in paths
        for hold in given
        if _named(hold, catalog) == path[-1].table
    }
    if found and knots:
        hold = next(iter(found.values()))
        raise PolicyError(
            f"job {hold.job!r} holds rows of table {hold.table!r} ({hold.predicate}), which would go along here, and"
            " below this table foreign keys lead round, so that nobody can see in time which rows they hang on: say in"
            " hold here which rows stay for them, and in where there what its hold says"
        )
    return tuple(found)


def _named(hold: Hold, catalog: Catalog) -> str | None:
    """Return the catalog's name for the table of a hold; None for one that is not there, which its own job will say."""
    return None if hold.table in catalog.refusals else catalog.table(hold.table).name


def staying(selection: Selection, database: Database) -> tuple[str, ...]:
    """Say which rows stay for what hangs on them, a sentence for each shield that keeps any."""
    kept = database.shielded(selection, _NAMED, _PATIENCE)
    return tuple(_words(each, selection.table) for each in kept if each.rows != 0)


def _words(kept: Shielded, table: Table) -> str:
    child = kept.shield.path[-1].table
    if kept.rows is None and not kept.keys:
        return f"rows of {table.name} that stay for held rows of {child} are not counted, for that takes too long"
    many = "some rows" if kept.rows is None else "1 row" if kept.rows == 1 else f"{kept.rows:,} rows"
    keys = (zip(table.primary_key, key, strict=True) for key in kept.keys)
    named = [", ".join(f"{name} {shown(value)}" for name, value in key) for key in keys]
    listed = "; ".join((*named, *(["…"] if kept.rows != len(named) else [])))
    return f"{many} of {table.name} {'stays' if kept.rows == 1 else 'stay'} for held rows of {child}: {listed}"
