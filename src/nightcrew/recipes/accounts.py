"""Accounts that were deactivated and never came back."""

from datetime import timedelta
from typing import Any

from nightcrew.job import Job
from nightcrew.policy import Policy
from nightcrew.schedule import cron


def delete_stale_deactivated_accounts(**changes: Any) -> Job:
    """Delete accounts deactivated more than 30 days ago, with the rows that refer to them.

    Rows whose foreign keys say ON DELETE SET NULL outlive them: `nightcrew plan` counts those.

    It runs on the first of the month at 00:00 UTC, so an account goes 30 to 61 days after its deactivation; who
    reactivates meanwhile (deactivated_at NULL again) stays, even if that happens while the job runs.
    """
    policy = Policy("users", "deactivated_at", older_than=timedelta(days=30), erase=True)
    job = Job("delete-stale-deactivated-accounts", cron("0 0 1 * *"), policy=policy, label="Deactivated Accounts")
    return job.but(**changes)
