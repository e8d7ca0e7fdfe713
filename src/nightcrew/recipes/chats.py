"""Chats that were opened and never written in."""

from datetime import timedelta
from typing import Any

from nightcrew.job import Job
from nightcrew.policy import Policy
from nightcrew.schedule import cron


def delete_stale_empty_chats(**changes: Any) -> Job:
    """Delete chats older than 15 minutes that have no message, at 00:00 and 12:00 UTC.

    A chat whose first message arrives while the job runs stays.
    """
    policy = Policy("chats", "created_at", older_than=timedelta(minutes=15), unless_exists=("messages.chat_id",))
    return Job("delete-stale-empty-chats", cron("0 */12 * * *"), policy=policy, label="Empty Chats").but(**changes)
