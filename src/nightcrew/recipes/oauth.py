"""What OAuth flows leave behind: PKCE states, sessions, and locks on tokens whose refresh never ended.

Almost all of such a table may have expired whenever nobody cleaned it for a while, so a large share is no alarm here.
"""

from datetime import timedelta
from typing import Any

from nightcrew.job import Job
from nightcrew.policy import Action, Policy
from nightcrew.schedule import every


def cleanup_pkce(**changes: Any) -> Job:
    """Delete PKCE states as soon as they have expired: every 10 minutes, and when the application starts."""
    job = Job(
        "cleanup-pkce",
        every("10 minutes"),
        policy=Policy("oauth_pkce_states", "expires_at", max_fraction=1),
        label="OAuth Cleanup",
        path="/api/oauth/cleanup-pkce",
        on_start=True,
    )
    return job.but(**changes)


def cleanup_oauth_sessions(**changes: Any) -> Job:
    """Delete expired OAuth sessions: every hour, and when the application starts."""
    policy = Policy("mcp_oauth_sessions", "expires_at", max_fraction=1)
    job = Job("cleanup-oauth-sessions", every("1 hour"), policy=policy, label="OAuth Sessions", on_start=True)
    return job.but(**changes)


def clear_stale_token_locks(**changes: Any) -> Job:
    """Clear locks that a token refresh took more than a minute ago and never gave back, every minute."""
    lock = Policy("oauth_tokens", "refresh_locked_at", timedelta(minutes=1), action=Action.CLEAR, max_fraction=1)
    return Job("clear-stale-token-locks", every("1 minute"), policy=lock, label="Token Locks").but(**changes)
