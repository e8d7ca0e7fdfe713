"""Connections: the OAuth flow with PKCE, from the first click to a token, and what an abandoned one leaves."""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from sqlalchemy import Connection, Row, exists, select, update

from nightcrew.demo.accounts import Person, Refused
from nightcrew.demo.database import Data
from nightcrew.demo.provider import Provider, Tool, challenge_of
from nightcrew.demo.schema import mcp_oauth_sessions, mcp_servers, oauth_pkce_states, oauth_tokens, users

STATE_LIFE = timedelta(minutes=10)
SESSION_LIFE = timedelta(minutes=15)
TOKEN_LIFE = timedelta(hours=8)


@dataclass(frozen=True, slots=True)
class Connected:
    """One of a person's tools as the page shows it; without a token it was begun and never finished."""

    id: str
    name: str
    url: str
    expires_at: datetime | None
    locked_at: datetime | None


def mine(data: Data, person: Person) -> list[Connected]:
    """Return a person's tools by name."""
    tools = select(mcp_servers, oauth_tokens.c.expires_at, oauth_tokens.c.refresh_locked_at).outerjoin(oauth_tokens)
    with data.reading() as connection:
        found = connection.execute(tools.where(mcp_servers.c.user_id == person.id).order_by(mcp_servers.c.name))
        return [Connected(row.id, row.name, row.url, row.expires_at, row.refresh_locked_at) for row in found]


def begin(data: Data, moment: datetime, person: Person, tool: Tool, redirect_uri: str) -> str:
    """Keep a fresh state and its verifier, and return the provider's address to send the browser to."""
    state, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(48)
    with data.writing() as connection:
        # One at a time: two clicks at once would make the same tool twice.
        connection.execute(select(users.c.id).where(users.c.id == person.id).with_for_update())
        server = _server(connection, moment, person, tool)
        row = state_row(state, verifier, server, person.id, redirect_uri, moment)
        connection.execute(oauth_pkce_states.insert().values(row))
    question = {"tool": tool.key, "state": state, "redirect_uri": redirect_uri}
    proof = {"code_challenge": challenge_of(verifier), "code_challenge_method": "S256"}
    return f"/provider/authorize?{urlencode(question | proof)}"


def finish(data: Data, moment: datetime, person: Person, state: str, code: str, provider: Provider) -> str:
    """Trade a code for tokens and return the tool's name; the state is gone afterwards, whatever came of it."""
    row = _take(data, state)
    if row is None:
        raise Refused("This connection was never begun, was finished already, or waited so long that it was removed.")
    if row.user_id != person.id or not hmac.compare_digest(row.integrity_hash, _hash_of(row)):
        raise Refused("This connection was begun by somebody else, or changed on its way: please begin again.")
    if row.expires_at <= moment:
        raise Refused("This connection waited for more than ten minutes: please begin again.")
    tokens = provider.exchange(moment, code, row.code_verifier, row.redirect_uri)
    if tokens is None:
        raise Refused("The provider did not accept the code: please begin again.")
    return _keep(data, moment, row, tokens)


def abandon(data: Data, person: Person, state: str) -> None:
    """Remove the state of a connection the person declined, and the tool unless it is connected or asked for again."""
    this = (oauth_pkce_states.c.state == state) & (oauth_pkce_states.c.user_id == person.id)
    with data.writing() as connection:
        server = connection.scalar(select(oauth_pkce_states.c.server_uuid).where(this))
        connection.execute(oauth_pkce_states.delete().where(this))
        held = exists().where(oauth_tokens.c.server_id == mcp_servers.c.id)
        begun = exists().where(oauth_pkce_states.c.server_uuid == mcp_servers.c.id)
        connection.execute(mcp_servers.delete().where(mcp_servers.c.id == server, ~held, ~begun))


def refresh(data: Data, moment: datetime, person: Person, server: str, *, crash: bool = False) -> None:
    """Renew a tool's token under a lock; `crash` stops halfway, as a killed process would, and the lock stays."""
    held = select(mcp_servers.c.id).where(mcp_servers.c.id == server, mcp_servers.c.user_id == person.id)
    token = (oauth_tokens.c.server_id.in_(held)) & oauth_tokens.c.refresh_locked_at.is_(None)
    with data.writing() as connection:
        if connection.execute(update(oauth_tokens).where(token).values(refresh_locked_at=moment)).rowcount == 0:
            raise Refused("A refresh is under way already. If it died, the night job frees its lock after a minute.")
    if crash:
        return
    renewed = {"refresh_locked_at": None, "expires_at": moment + TOKEN_LIFE}
    fresh = {"access_token": f"at_{secrets.token_urlsafe(24)}"}
    with data.writing() as connection:
        connection.execute(update(oauth_tokens).where(oauth_tokens.c.server_id == server).values(renewed | fresh))


def disconnect(data: Data, person: Person, server: str) -> bool:
    """Forget a tool and its tokens; return whether it was the person's."""
    own = (mcp_servers.c.id == server) & (mcp_servers.c.user_id == person.id)
    with data.writing() as connection:
        return connection.execute(mcp_servers.delete().where(own)).rowcount == 1


def state_row(state: str, verifier: str, server: str, user: str, redirect_uri: str, moment: datetime) -> dict[str, Any]:
    """Return a PKCE state as it is stored, with the hash that shows whether somebody changed it."""
    row = {"state": state, "server_uuid": server, "user_id": user, "redirect_uri": redirect_uri}
    integrity = {"code_verifier": verifier, "integrity_hash": _integrity(state, server, user, redirect_uri, verifier)}
    return row | integrity | {"created_at": moment, "expires_at": moment + STATE_LIFE}


def _integrity(*parts: str) -> str:
    return hashlib.sha256("\x00".join(parts).encode()).hexdigest()


def _hash_of(row: Row[Any]) -> str:
    return _integrity(row.state, row.server_uuid, row.user_id, row.redirect_uri, row.code_verifier)


def _server(connection: Connection, moment: datetime, person: Person, tool: Tool) -> str:
    own = select(mcp_servers.c.id).where(mcp_servers.c.user_id == person.id, mcp_servers.c.url == tool.url)
    known = connection.scalar(own)
    if known is not None:
        return str(known)
    row = {"id": secrets.token_hex(8), "user_id": person.id, "name": tool.name, "url": tool.url}
    connection.execute(mcp_servers.insert().values(**row, created_at=moment))
    return row["id"]


def _take(data: Data, state: str) -> Row[Any] | None:
    """Remove a state and return it, to exactly one caller."""
    this = oauth_pkce_states.c.state == state
    with data.writing() as connection:
        row = connection.execute(select(oauth_pkce_states).where(this)).one_or_none()
        taken = connection.execute(oauth_pkce_states.delete().where(this)).rowcount == 1
    return row if taken else None


def _keep(data: Data, moment: datetime, state: Row[Any], tokens: tuple[str, str]) -> str:
    access, renewal = tokens
    token = {"id": secrets.token_hex(8), "server_id": state.server_uuid, "access_token": access}
    token |= {"refresh_token": renewal, "created_at": moment, "expires_at": moment + TOKEN_LIFE}
    session = {"id": secrets.token_hex(8), "state": state.state, "server_uuid": state.server_uuid}
    session |= {"profile_uuid": state.user_id, "callback_url": state.redirect_uri, "created_at": moment}
    with data.writing() as connection:
        name = connection.scalar(select(mcp_servers.c.name).where(mcp_servers.c.id == state.server_uuid))
        connection.execute(oauth_tokens.delete().where(oauth_tokens.c.server_id == state.server_uuid))
        connection.execute(oauth_tokens.insert().values(**token, refresh_locked_at=None))
        expiry = {"provider": name, "expires_at": moment + SESSION_LIFE}
        connection.execute(mcp_oauth_sessions.insert().values(session | expiry))
    return str(name)
