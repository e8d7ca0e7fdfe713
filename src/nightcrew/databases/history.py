"""The runs and the ledger's entries, read."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from nightcrew.books import Batch, RunRow
from nightcrew.databases.connect import Link
from nightcrew.databases.tables import entries, jobs, runs
from nightcrew.outcome import State

_MOST = 5_000  # rows of one look at slots
_RUN = [runs.c[name] for name in RunRow.__slots__]


def newest(link: Link, job: str | None, states: Sequence[State], limit: int) -> list[RunRow]:
    """Return the newest runs first."""
    statement = sa.select(*_RUN).order_by(runs.c.moment.desc(), runs.c.id.desc()).limit(limit)
    if job is not None:
        statement = statement.where(runs.c.job == job)
    if states:
        statement = statement.where(runs.c.state.in_(states))
    with link.transaction(writes=False) as connection:
        return [_run(row) for row in connection.execute(statement)]


def latest(link: Link, job: str | None = None) -> dict[str, RunRow]:
    """Return the newest run of every job, or of one; slots that nobody ran are not runs."""
    one = runs.alias("one")
    ran = one.c.job == jobs.c.name, one.c.state.not_in([State.MISSED, State.SKIPPED])
    newest = sa.select(one.c.id).where(*ran).order_by(one.c.moment.desc(), one.c.id.desc()).limit(1)
    # Job by job through the index of both: to group them all would be to look at every run there is.
    found = sa.select(*_RUN).select_from(jobs.join(runs, runs.c.id == newest.correlate(jobs).scalar_subquery()))
    if job is not None:
        found = found.where(jobs.c.name == job)
    with link.transaction(writes=False) as connection:
        return {row.job: _run(row) for row in connection.execute(found)}


def accounts(link: Link, job: str, since: datetime, until: datetime) -> list[RunRow]:
    """Return what is known of a job's slots from one instant to another."""
    touching = runs.c.slot >= since, sa.func.coalesce(runs.c.since, runs.c.slot) <= until
    statement = sa.select(*_RUN).where(runs.c.job == job, *touching).order_by(runs.c.slot).limit(_MOST)
    with link.transaction(writes=False) as connection:
        return [_run(row) for row in connection.execute(statement)]


def one(link: Link, run: str) -> RunRow | None:
    """Return one run."""
    with link.transaction(writes=False) as connection:
        row = connection.execute(sa.select(*_RUN).where(runs.c.id == run)).one_or_none()
    return None if row is None else _run(row)


def of_run(link: Link, run: str, limit: int) -> list[Mapping[str, Any]]:
    """Return a run's ledger entries, oldest first."""
    statement = sa.select(entries).where(entries.c.run == run).order_by(entries.c.id).limit(limit)
    with link.transaction(writes=False) as connection:
        return [dict(row) for row in connection.execute(statement).mappings()]


def noted(link: Link, run: str, kind: str) -> Mapping[str, Any] | None:
    """Return the facts of a run's newest entry of a kind."""
    of_kind = sa.select(entries.c.facts).where(entries.c.run == run, entries.c.kind == kind)
    with link.transaction(writes=False) as connection:
        return connection.execute(of_kind.order_by(entries.c.id.desc()).limit(1)).scalar_one_or_none()


def batches(link: Link, run: str, most: int) -> list[Batch]:
    """Return a run's newest batches, so many at most, the oldest of them first."""
    of_kind = sa.select(entries.c.at, entries.c.facts).where(entries.c.run == run, entries.c.kind == "batch")
    with link.transaction(writes=False) as connection:
        found = connection.execute(of_kind.order_by(entries.c.id.desc()).limit(most)).all()
    return [Batch(row.at, row.facts) for row in reversed(found)]


def _run(row: Any) -> RunRow:
    fields = {name: getattr(row, name) for name in RunRow.__slots__}
    return RunRow(**{**fields, "state": State(row.state)})
