"""What OAuth flows leave behind: PKCE states, sessions, and locks on tokens whose refresh never ended."""

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
        policy=Policy("oauth_pkce_states", "expires_at"),
        label="OAuth Cleanup",
        path="/api/oauth/cleanup-pkce",
        on_start=True,
    )
    return job.but(**changes)


def cleanup_oauth_sessions(**changes: Any) -> Job:
    """Delete expired OAuth sessions: every hour, and when the application starts."""
    policy = Policy("mcp_oauth_sessions", "expires_at")
    job = Job("cleanup-oauth-sessions", every("1 hour"), policy=policy, label="OAuth Sessions", on_start=True)
    return job.but(**changes)


def clear_stale_token_locks(**changes: Any) -> Job:
    """Clear locks that a token refresh took more than a minute ago and never gave back, every minute."""
    policy = Policy("oauth_tokens", "refresh_locked_at", older_than=timedelta(minutes=1), action=Action.CLEAR)
    return Job("clear-stale-token-locks", every("1 minute"), policy=policy, label="Token Locks").but(**changes)
