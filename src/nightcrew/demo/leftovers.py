"""What the night finds: accounts whose time is up, empty shells, expired states, locks nobody holds."""

from datetime import timedelta

from nightcrew.demo.connections import SESSION_LIFE, state_row
from nightcrew.demo.schema import (
    chats,
    deactivation_feedback,
    mcp_oauth_sessions,
    mcp_servers,
    oauth_pkce_states,
    oauth_tokens,
    sessions,
    users,
)
from nightcrew.demo.year import Row, Year

LEFT_LONG_AGO, LEFT_LATELY, LEFT_JUST_NOW = 9, 14, 4
OLD_SHELLS, FRESH_SHELLS = 140, 5
EXPIRED_STATES, LIVE_STATES = 37, 6
EXPIRED_SESSIONS, LIVE_SESSIONS = 52, 7
STALE_LOCKS, LIVE_LOCKS = 3, 1
_CALLBACK = "http://127.0.0.1:8000/oauth/callback"
_MINUTE = 1 / 1440


def leave(year: Year) -> None:
    """Add to a finished year what every job is for, and beside it what it must spare."""
    _deactivate(year)
    _open_shells(year)
    _begin_connections(year)
    _open_tool_sessions(year)
    _lock(year)


def _deactivate(year: Year) -> None:
    """Some left over 30 days ago and are due; most of the others will be when 31 more days have passed."""
    days = [year.chance.uniform(31, 58) for _ in range(LEFT_LONG_AGO)]
    days += [year.chance.uniform(10, 29) for _ in range(LEFT_LATELY)]
    days += [year.chance.uniform(0.1, 9) for _ in range(LEFT_JUST_NOW)]
    for ago in days:
        left = year.moment - timedelta(days=ago)
        # Nobody writes after leaving.
        silent = [row for row in _staying(year) if row["last_active_at"] < left]
        person = year.chance.choice(silent)
        person["deactivated_at"] = left
        why = year.chance.choice(year.names["leaving"])
        year.add(deactivation_feedback, id=year.key(), user_id=person["id"], created_at=left, **why)
    here = {person["id"] for person in _staying(year)}
    year.rows[sessions] = [row for row in year.rows[sessions] if row["user_id"] in here]


def _staying(year: Year) -> list[Row]:
    return [person for person in year.rows[users] if person["deactivated_at"] is None]


def _servers(year: Year) -> list[Row]:
    """Return the tools of people who are still here: what hangs on the others leaves with their accounts."""
    here = {person["id"] for person in _staying(year)}
    return [server for server in year.rows[mcp_servers] if server["user_id"] in here]


def _open_shells(year: Year) -> None:
    ages = [year.chance.uniform(20 * _MINUTE, 40) for _ in range(OLD_SHELLS)]
    ages += [year.chance.uniform(1 * _MINUTE, 12 * _MINUTE) for _ in range(FRESH_SHELLS)]
    people = _staying(year)
    for age in ages:
        person = year.chance.choice(people)
        opened = max(year.moment - timedelta(days=age), person["created_at"])
        row = {"id": year.key(), "user_id": person["id"], "project_id": None, "title": None, "is_saved": False}
        year.add(chats, **row, created_at=opened, updated_at=opened)


def _begin_connections(year: Year) -> None:
    ages = [year.chance.uniform(11 * _MINUTE, 4) for _ in range(EXPIRED_STATES)]
    ages += [year.chance.uniform(0, 6 * _MINUTE) for _ in range(LIVE_STATES)]
    servers = _servers(year)
    for age in ages:
        server = year.chance.choice(servers)
        begun = year.moment - timedelta(days=age)
        row = state_row(year.key(256), year.key(256), server["id"], server["user_id"], _CALLBACK, begun)
        year.add(oauth_pkce_states, **row)


def _open_tool_sessions(year: Year) -> None:
    ages = [year.chance.uniform(16 * _MINUTE, 6) for _ in range(EXPIRED_SESSIONS)]
    ages += [year.chance.uniform(0, 10 * _MINUTE) for _ in range(LIVE_SESSIONS)]
    for age in ages:
        server = year.chance.choice(year.rows[mcp_servers])
        opened = year.moment - timedelta(days=age)
        row = {"id": year.key(), "state": year.key(256), "server_uuid": server["id"]}
        row |= {"profile_uuid": server["user_id"], "callback_url": _CALLBACK, "provider": server["name"]}
        year.add(mcp_oauth_sessions, **row, created_at=opened, expires_at=opened + SESSION_LIFE)


def _lock(year: Year) -> None:
    servers = {server["id"] for server in _servers(year)}
    held = [token for token in year.rows[oauth_tokens] if token["server_id"] in servers]
    tokens = year.chance.sample(held, STALE_LOCKS + LIVE_LOCKS)
    for token in tokens[:STALE_LOCKS]:
        token["refresh_locked_at"] = year.ago(2 * _MINUTE, 1)
    for token in tokens[STALE_LOCKS:]:
        token["refresh_locked_at"] = year.moment - timedelta(seconds=2)
