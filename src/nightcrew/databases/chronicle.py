"""The runs in nightcrew's own tables as pages show them: each statement goes by an index, and has a longest answer."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from nightcrew.books import Batch, RunRow
from nightcrew.chronicle import AMONG, PAGE, REMEMBERED, Place, Removed, Starter, Traffic
from nightcrew.databases import history
from nightcrew.databases.connect import Link
from nightcrew.databases.tables import entries, jobs, runs
from nightcrew.outcome import State

_MOST = 10_000  # of all jobs' runs that are added up
_ENDED = State.DONE, State.FAILED, State.CANCELLED
_SHORT = [runs.c[name] for name in RunRow.__slots__ if name not in ("error", "counts")]


class Pages:
    """The `Chronicle` of one database."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def missed(self) -> dict[str, RunRow]:
        """Return the slots that nobody ran, of each job of which nothing newer is known."""
        found = _newest_of_each().where(runs.c.state == State.MISSED)
        return {row.job: row for row in self._runs(found)}

    def lapsed(self, since: datetime) -> list[RunRow]:
        """Return the slots that nobody ran and that were noted since an instant, among the newest runs there are."""
        recent = sa.select(*_SHORT).where(runs.c.moment >= since).order_by(runs.c.moment.desc()).limit(AMONG).subquery()
        return self._runs(sa.select(recent).where(recent.c.state == State.MISSED).order_by(recent.c.moment))

    def removals(self, names: Sequence[str], number: int) -> Mapping[str, Sequence[datetime]]:
        """Return when each job began the newest of its runs that removed rows, so many at most, the newest first."""
        found: dict[str, list[datetime]] = defaultdict(list)
        each = []
        for name in names:
            seen = self._newest(name, runs.c.job, runs.c.moment, runs.c.deleted).limit(REMEMBERED).subquery()
            some = sa.select(seen.c.job, seen.c.moment).where(seen.c.deleted > 0)
            each.append(sa.select(some.order_by(seen.c.moment.desc()).limit(number).subquery()))
        if each:
            with self._link.transaction(writes=False) as connection:
                for row in connection.execute(sa.union_all(*each)):
                    found[row.job].append(row.moment)
        return {name: sorted(moments, reverse=True) for name, moments in found.items()}

    def ended(self) -> dict[str, RunRow]:
        """Return the newest run of each job that has come to an end."""
        return {row.job: row for row in self._runs(_newest_of_each(*_ENDED))}

    def strips(self, names: Sequence[str], number: int) -> Mapping[str, Sequence[RunRow]]:
        """Return the newest runs of each job, so many at most, the newest first."""
        found: dict[str, list[RunRow]] = defaultdict(list)
        if names:
            each = (self._newest(name).limit(number).subquery() for name in names)
            for row in self._runs(sa.union_all(*(sa.select(one) for one in each))):
                found[row.job].append(row)
        return {name: sorted(rows, key=_place, reverse=True) for name, rows in found.items()}

    def traffic(self, names: Sequence[str], edges: Sequence[datetime]) -> list[Traffic]:
        """Count the runs of these jobs that began between one edge and the next; slots nobody ran, by their time."""
        unrun = runs.c.state.in_([State.MISSED, State.SKIPPED])
        at = sa.case((unrun, sa.func.coalesce(runs.c.slot, runs.c.moment)), else_=runs.c.moment)
        spans: list[tuple[Any, Any]] = [
            (at < edge, sa.literal_column(str(number - 1))) for number, edge in enumerate(edges)
        ]
        span = sa.case(*spans, else_=sa.literal_column("-1")).label("span")
        ours = sa.select(runs.c.job, runs.c.state, span).where(runs.c.job.in_(names), runs.c.moment >= edges[0])
        seen = ours.subquery()
        counted = sa.select(seen.c.job, seen.c.span, seen.c.state, sa.func.count().label("number"))
        counted = counted.where(seen.c.span >= 0).group_by(seen.c.job, seen.c.span, seen.c.state)
        with self._link.transaction(writes=False) as connection:
            found = connection.execute(counted).all()
        return [Traffic(row.job, row.span, State(row.state), row.number) for row in found]

    def removed(self, names: Sequence[str], since: datetime) -> dict[str, Removed]:
        """Add up what each of these jobs has removed since an instant, in its newest runs."""
        if not names:
            return {}
        sums = []
        for name in names:
            recent = self._newest(name, runs.c.job, runs.c.deleted).where(runs.c.moment >= since)
            seen = recent.limit(AMONG).subquery()
            sums.append(sa.select(seen.c.job, *_sum(seen)).group_by(seen.c.job))
        with self._link.transaction(writes=False) as connection:
            found = connection.execute(sa.union_all(*sums)).all()
        return {row.job: Removed(int(row.rows), row.number < AMONG) for row in found}

    def removed_in_all(self, since: datetime) -> Removed:
        """Add up what all jobs have removed since an instant, in the newest runs there are."""
        recent = sa.select(runs.c.deleted).where(runs.c.moment >= since).order_by(runs.c.moment.desc())
        seen = recent.limit(_MOST).subquery()
        with self._link.transaction(writes=False) as connection:
            row = connection.execute(sa.select(*_sum(seen))).one()
        return Removed(int(row.rows or 0), row.number < _MOST)

    def page(self, job: str, states: Iterable[State] = (), before: Place | None = None) -> list[RunRow]:
        """Return the newest runs of a job first, those before a place where one is given; one more than a page."""
        statement = self._newest(job)
        if before is not None:
            earlier = sa.and_(runs.c.moment == before.moment, runs.c.id < before.id)
            statement = statement.where(runs.c.moment <= before.moment)
            statement = statement.where(sa.or_(runs.c.moment < before.moment, earlier))
        if named := list(states):
            statement = statement.where(runs.c.state.in_(named))
        return self._runs(statement.limit(PAGE + 1))

    def starters(self, job: str) -> list[Starter]:
        """Return what started the newest runs of a job, the latest first."""
        ran = runs.c.state.not_in([State.MISSED, State.SKIPPED])
        seen = self._newest(job, runs.c.trigger, runs.c.moment).where(ran).limit(AMONG).subquery()
        last = sa.func.max(seen.c.moment).label("last")
        counted = sa.select(seen.c.trigger, sa.func.count().label("number"), last).group_by(seen.c.trigger)
        with self._link.transaction(writes=False) as connection:
            found = connection.execute(counted.order_by(last.desc())).all()
        return [Starter(row.trigger, row.number, row.last) for row in found]

    def run(self, run: str) -> RunRow | None:
        """Return one run, with all that is known of it."""
        return history.one(self._link, run)

    def batches(self, run: str, most: int) -> list[Batch]:
        """Return a run's newest batches, so many at most, the oldest of them first."""
        return history.batches(self._link, run, most)

    def remarks(self, run: str) -> list[Mapping[str, Any]]:
        """Return a run's newest entries that are no batches, 100 at most, the oldest of them first."""
        others = sa.select(entries).where(entries.c.run == run, entries.c.kind != "batch")
        with self._link.transaction(writes=False) as connection:
            found = connection.execute(others.order_by(entries.c.id.desc()).limit(100)).mappings().all()
        return [dict(row) for row in reversed(found)]

    def failures(self, job: str) -> list[RunRow]:
        """Return the newest runs of a job that failed, among those looked at."""
        seen = self._newest(job).limit(AMONG).subquery()
        failed = sa.select(seen).where(seen.c.state == State.FAILED).order_by(seen.c.moment.desc()).limit(200)
        return self._runs(failed)

    def _newest(self, job: str, *columns: sa.ColumnElement[Any]) -> sa.Select[Any]:
        """Select the runs of a job, the newest first, as the index on both has them."""
        chosen: sa.Select[Any] = sa.select(*(columns or _SHORT))
        return chosen.where(runs.c.job == job).order_by(runs.c.moment.desc(), runs.c.id.desc())

    def _runs(self, statement: sa.Select[Any] | sa.CompoundSelect[Any]) -> list[RunRow]:
        with self._link.transaction(writes=False) as connection:
            found = connection.execute(statement).mappings().all()
        return [RunRow(**{**row, "state": State(row["state"])}) for row in found]


def _newest_of_each(*states: State) -> sa.Select[Any]:
    """Select the newest run of each job, or the newest in one of these states, through the index on both."""
    one = runs.alias("one")
    ours = sa.select(one.c.id).where(one.c.job == jobs.c.name)
    named = ours.where(one.c.state.in_(states)) if states else ours
    last = named.order_by(one.c.moment.desc(), one.c.id.desc()).limit(1).correlate(jobs).scalar_subquery()
    return sa.select(*_SHORT).select_from(jobs.join(runs, runs.c.id == last))


def _sum(seen: sa.Subquery) -> tuple[sa.ColumnElement[Any], ...]:
    return sa.func.sum(seen.c.deleted).label("rows"), sa.func.count().label("number")


def _place(row: RunRow) -> tuple[datetime, str]:
    assert row.moment is not None  # noqa: S101 - every row has one
    return row.moment, row.id
