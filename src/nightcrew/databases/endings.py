"""Endings: a run is settled or handed over by who holds it, cancelled, or closed when it was left open."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from nightcrew.books import Finished, Pause, RunRow, Sequel, Settled, Standing
from nightcrew.databases.bids import note
from nightcrew.databases.connect import Link, storable
from nightcrew.databases.divisions import is_cut, is_held, retire
from nightcrew.databases.listed import either, listed, these, told
from nightcrew.databases.tables import entries, jobs, runs
from nightcrew.outcome import State
from nightcrew.respite import ITSELF, respite

_SAID = {"run": str, "reason": str, "counted": int}  # of a run that is done
_UNCANCELLED: dict[str, Any] = {"cancelled_run": None, "cancelled_by": None, "cancelled_reason": None}
_LEFT: dict[str, Any] = {"owner": None, "lease_until": None}
OVER: dict[str, Any] = {"run": None, "owner": None, "lease_until": None, "attempt": 0, "failures": 0, "retry_at": None}
"""A job that has no open run."""


def settle(
    connection: sa.Connection, link: Link, fence: int, row: RunRow, sequel: Sequel, *, cut: bool
) -> Settled | None:
    """Close the run, or hand it over (partial), from then on (retrying); None when a newer fence exists."""
    standing = _left(row, sequel.retry_at) if row.state.open else _told(link, row) | _over(row)
    if row.state is State.FAILED and row.slot is not None:
        standing["failed_run"] = row.id
    mine = sa.update(jobs).where(jobs.c.name == row.job, jobs.c.fence == fence, jobs.c.owner.is_not(None))
    if connection.execute(mine.ordered_values(*standing.items())).rowcount == 0:
        return None
    return _settled(connection, link, row, sequel, cut=cut)


def settle_done(connection: sa.Connection, link: Link, ended: Sequence[Finished]) -> set[tuple[str, int]]:
    """Close runs of functions that are done under these fences, in few statements; return those that are.

    One that is closed already under its fence was by a commit whose answer was lost.
    """
    close = _close_each if link.dialect.settle is None else _close_all
    done = close(connection, link, ended)
    left = [(one.run, one.fence) for one in ended if one[:2] not in done]
    if not left:
        return done
    same = sa.tuple_(runs.c.id, runs.c.fence).in_(left), runs.c.state == State.DONE
    before = connection.execute(sa.select(runs.c.job, runs.c.fence).where(*same))
    return done | {(row.job, row.fence) for row in before}


def _close_all(connection: sa.Connection, link: Link, ended: Sequence[Finished]) -> set[tuple[str, int]]:
    """Close those whose fences are the newest, in one statement; return those."""
    closed = connection.execute(link.kept(_settle), told(link.dialect, map(_said, ended)))
    return {(job, fence) for job, fence in closed.all()}


def _close_each(connection: sa.Connection, link: Link, ended: Sequence[Finished]) -> set[tuple[str, int]]:
    """Do the same where a statement changes one table only."""
    of_jobs = these(link.dialect, {one.job for one in ended})
    held = {(job, fence) for job, fence in connection.execute(link.kept(_held), of_jobs)}
    done = [one for one in ended if one[:2] in held]
    if done:
        all_held = len(done) == len(ended)
        connection.execute(link.kept(_free), of_jobs if all_held else these(link.dialect, {one.job for one in done}))
        connection.execute(link.kept(_close), told(link.dialect, map(_said, done)))
    return {one[:2] for one in done}


def _said(one: Finished) -> dict[str, Any]:
    return {**one._asdict(), "reason": one.reason and storable(one.reason, 500)}


def _settle(link: Link) -> sa.TextClause:
    return sa.text(str(link.dialect.settle))


def _held(link: Link) -> sa.Select[Any]:
    of_jobs = either(link.dialect, jobs.c.name), jobs.c.owner.is_not(None)
    return sa.select(jobs.c.name, jobs.c.fence).where(*of_jobs).order_by(jobs.c.name).with_for_update()


def _free(link: Link) -> sa.Update:
    failed = sa.case((jobs.c.failed_run == jobs.c.run, None), else_=jobs.c.failed_run)
    over = {"failed_run": failed, "fail_streak": 0, "last_ok_at": link.moment, **OVER, **_UNCANCELLED}
    return sa.update(jobs).where(either(link.dialect, jobs.c.name)).ordered_values(*over.items())


def _close(link: Link) -> sa.Update:
    each = listed(link.dialect, _SAID).c
    closed = sa.update(runs).where(runs.c.id == each.run).values(reason=each.reason, deleted=each.counted)
    return closed.values(state=State.DONE, error=None, finished_at=link.moment)


def close(connection: sa.Connection, link: Link, standing: Standing, row: RunRow, sequel: Sequel) -> Settled | None:
    """Close, as the row says, an open run that nobody holds; None when the standing has changed, or is held."""
    if is_held(connection, standing.job, row.id):
        return None
    same = jobs.c.name == standing.job, jobs.c.fence == standing.fence, jobs.c.run == row.id
    left = sa.update(jobs).where(*same, sa.or_(jobs.c.owner.is_(None), jobs.c.lease_until < link.moment))
    over = {**_told(link, row), **_over(row), "fence": jobs.c.fence + 1}
    if connection.execute(left.ordered_values(*over.items())).rowcount == 0:
        return None
    return _settled(connection, link, row, sequel, cut=True)


def cancel(connection: sa.Connection, link: Link, job: str, run: str, words: tuple[str, str]) -> bool:
    """Let an open run end where it is, and nobody go on with it; False when the job has no such run open."""
    by, reason = words
    wish = {"cancelled_run": run, "cancelled_by": storable(by, 100), "cancelled_reason": storable(reason, 500)}
    if connection.execute(sa.update(jobs).where(jobs.c.name == job, jobs.c.run == run).values(wish)).rowcount == 0:
        return False
    facts = {"by": by, "reason": reason}
    connection.execute(sa.insert(entries).values(run=run, at=link.moment, kind="cancelled", facts=facts))
    return True


def _told(link: Link, row: RunRow) -> dict[str, Any]:
    """Return what a job's row keeps of how its run ended; a run that fails once more has failed before.

    It comes first in an UPDATE: there are databases that see there what was set before it.
    """
    if row.state is State.DONE:
        return {"fail_streak": 0, "last_ok_at": link.moment}
    again = sa.case((jobs.c.failed_run == row.id, 0), else_=1)
    return {"fail_streak": jobs.c.fail_streak + again} if row.state is State.FAILED else {}


def _over(row: RunRow) -> dict[str, Any]:
    """Return what becomes of a job's row when its run is over."""
    failed = sa.case((jobs.c.failed_run == row.id, None), else_=jobs.c.failed_run)
    return {"failed_run": failed, **OVER, **_UNCANCELLED}


def _left(row: RunRow, retry_at: datetime | None) -> dict[str, Any]:
    """Return what becomes of a job's row when its run is left to whoever comes next, or comes after a time."""
    failed = {"failures": jobs.c.failures + 1} if row.state is State.RETRYING else {}
    return {**_LEFT, **failed, "retry_at": retry_at}


def _settled(connection: sa.Connection, link: Link, row: RunRow, sequel: Sequel, *, cut: bool) -> Settled:
    """Write down what became of a run, whose job's row is ours; of one that may be `cut` no batch commits later."""
    ended: dict[str, Any] = {
        "state": row.state,
        "reason": row.reason and storable(row.reason, 500),
        "deleted": row.deleted,
        "counts": dict(row.counts),
        "error": row.error and storable(row.error, 15_000),
        "finished_at": None if row.state.open else link.moment,
    }
    if cut and is_cut(connection, row.id):
        retire(connection, row.id)
        del ended["deleted"], ended["counts"]  # which its batches have kept
    connection.execute(sa.update(runs).where(runs.c.id == row.id).values(ended))
    if row.state is State.RETRYING:  # what the next attempt comes to is written over it
        facts = {"reason": ended["reason"], "error": ended["error"]}
        connection.execute(sa.insert(entries).values(run=row.id, at=link.moment, kind="failed_attempt", facts=facts))
    if (skipped := sequel.skipped) is not None:
        behind = jobs.c.name == row.job, sa.or_(jobs.c.mark.is_(None), jobs.c.mark < skipped.slot)
        connection.execute(sa.update(jobs).where(*behind).values(mark=skipped.slot))
        note(connection, link.moment, [skipped])
    return Settled(_paused(connection, link, row, sequel.pause_after) if row.state is State.FAILED else None)


def _paused(connection: sa.Connection, link: Link, row: RunRow, after: int) -> Pause | None:
    """Pause the job of a run that failed, if too many have in a row; its row is ours until the transaction ends."""
    of_job = jobs.c.name == row.job
    looked = jobs.c.fail_streak, jobs.c.paused_at, jobs.c.paused_until, link.clock_reading()
    standing = connection.execute(sa.select(*looked).where(of_job)).one()
    length = respite(standing.fail_streak, after)
    in_force = standing.paused_at and (standing.paused_until is None or standing.paused_until > standing.now)
    if length is None or in_force:
        return None
    last = (row.error or row.reason or "").strip().rpartition("\n")[2]
    reason = f"{standing.fail_streak} failures in a row, the last: {last}"
    pause = Pause(standing.now + length, storable(reason, 500))
    words = {"paused_by": ITSELF, "paused_reason": pause.reason, "paused_until": pause.until}
    connection.execute(sa.update(jobs).where(of_job).values({"paused_at": standing.now, **words}))
    return pause
