"""Rows of any table that says itself when they expire."""

from typing import Any

from nightcrew.job import Job
from nightcrew.policy import Policy
from nightcrew.schedule import cron


def delete_expired_rows(*, table: str, column: str = "expires_at", **changes: Any) -> Job:
    """Delete the rows of `table` whose `column` has passed, every hour; `older_than` keeps them that much longer."""
    name = f"delete-expired-{table.rpartition('.')[2].replace('_', '-').lower()}"
    return Job(name, cron("7 * * * *"), policy=Policy(table, column)).but(**changes)
