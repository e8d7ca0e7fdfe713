"""nightcrew's own history: what ran, and who did what."""

from datetime import timedelta
from typing import Any

from nightcrew.job import Job
from nightcrew.policy import Policy
from nightcrew.schedule import cron


def prune_run_history(**changes: Any) -> Job:
    """Delete runs that ended more than 90 days ago, with their ledger entries, once a night.

    Nothing is run twice for it: which slots were claimed is kept on the job, not in the history.
    """
    policy = Policy("nightcrew_runs", "finished_at", older_than=timedelta(days=90), max_fraction=1)
    return Job("prune-run-history", cron("23 4 * * *"), policy=policy, label="Run History").but(**changes)


def prune_audit(**changes: Any) -> Job:
    """Delete what people did more than a year ago from the audit, once a night; who paused or stopped what stays so."""
    policy = Policy("nightcrew_acts", "at", older_than=timedelta(days=365), max_fraction=1)
    return Job("prune-audit", cron("29 4 * * *"), policy=policy, label="Audit").but(**changes)
