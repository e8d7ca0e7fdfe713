"""Rows of any table that says itself when they expire."""

import re
from typing import Any

from nightcrew.job import Job
from nightcrew.policy import Policy
from nightcrew.schedule import cron


def delete_expired_rows(*, table: str, column: str = "expires_at", **changes: Any) -> Job:
    """Delete the rows of `table` whose `column` has passed, every hour; `older_than` keeps them that much longer."""
    bare = table.rpartition(".")[2].lower()
    name = f"delete-expired-{re.sub(r'[^a-z0-9]+', '-', bare).strip('-') or 'rows'}"
    return Job(name, cron("7 * * * *"), policy=Policy(table, column)).but(**changes)
