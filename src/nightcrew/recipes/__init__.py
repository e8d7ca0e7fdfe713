"""Ready Jobs, as data: each takes the fields of Job and Policy that differ in the application at hand."""

from collections.abc import Callable, Mapping

from nightcrew.job import Job
from nightcrew.recipes.accounts import delete_stale_deactivated_accounts
from nightcrew.recipes.chats import delete_stale_empty_chats
from nightcrew.recipes.history import prune_audit, prune_run_history
from nightcrew.recipes.oauth import cleanup_oauth_sessions, cleanup_pkce, clear_stale_token_locks
from nightcrew.recipes.rows import delete_expired_rows

RECIPES: Mapping[str, Callable[..., Job]] = {
    "delete-stale-deactivated-accounts": delete_stale_deactivated_accounts,
    "delete-stale-empty-chats": delete_stale_empty_chats,
    "cleanup-pkce": cleanup_pkce,
    "cleanup-oauth-sessions": cleanup_oauth_sessions,
    "clear-stale-token-locks": clear_stale_token_locks,
    "prune-run-history": prune_run_history,
    "prune-audit": prune_audit,
    "delete-expired-rows": delete_expired_rows,
}
"""Every recipe by the name that `recipe = "…"` takes in nightcrew.toml."""
