"""How a run ended → what its job's row and its own then say."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from nightcrew.books import RunRow
from nightcrew.databases.connect import storable
from nightcrew.databases.tables import jobs
from nightcrew.outcome import State

IDLE: dict[str, Any] = {
    "run": None,
    "owner": None,
    "lease_until": None,
    "attempt": 0,
    "failures": 0,
    "retry_at": None,
}
"""A job that has no open run."""


def of_job(row: RunRow, now: sa.ColumnElement[datetime], retry_at: datetime | None) -> dict[str, Any]:
    """Return what becomes of the job's row: who leaves a run open has come to an end with it, which is no crash."""
    if row.state.open:
        ended = sa.case((jobs.c.attempt > 0, jobs.c.attempt - 1), else_=0)
        left: dict[str, Any] = {"owner": None, "lease_until": None, "attempt": ended, "retry_at": retry_at}
        return left | ({"failures": jobs.c.failures + 1} if row.state is State.RETRYING else {})
    if row.state is State.DONE:
        return IDLE | {"fail_streak": 0, "last_ok_at": now}
    failed = {"failed_run": row.id} if row.slot is not None else {}
    return IDLE | {"fail_streak": jobs.c.fail_streak + 1} | failed


def of_run(row: RunRow, now: sa.ColumnElement[datetime]) -> dict[str, Any]:
    """Return what the run's row says."""
    return {
        "state": row.state,
        "reason": row.reason and storable(row.reason, 500),
        "deleted": row.deleted,
        "counts": dict(row.counts),
        "error": row.error and storable(row.error, 15_000),
        "finished_at": None if row.state.open else now,
    }
