"""Accounts: sign up, sign in, sign out, deactivate, and come back by an explicit step."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeAlias

from sqlalchemy import Connection, select, update
from sqlalchemy.exc import IntegrityError

from nightcrew.demo.database import Data
from nightcrew.demo.schema import deactivation_feedback, sessions, user_email_preferences, users

SESSION_LIFE = timedelta(days=60)
GRACE = timedelta(days=30)
LONGEST_NAME = 80
SHORTEST_PASSWORD = 8
LONGEST_PASSWORD = 200
LONGEST_REASON = 2000
CATEGORIES = {
    "too_expensive": "It costs too much",
    "missing_features": "It lacks something I need",
    "found_alternative": "I found something else",
    "not_useful": "I do not need it any more",
    "privacy": "I worry about my data",
    "too_hard": "It is hard to use",
    "other": "Something else",
}
_EMAIL = re.compile(r"^[^@\s<>]{1,64}@[^@\s<>]+\.[^@\s<>]+$")


class Refused(Exception):
    """The form cannot be accepted; the text says why, to the person who filled it in."""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with an account."""

    id: str
    name: str
    email: str
    deactivated_at: datetime | None = None
    verified: bool = False


Beside: TypeAlias = Callable[[Connection, Person], None]
"""What else is written of a person in the transaction that changes their account."""


def sign_up(data: Data, moment: datetime, name: str, email: str, password: str, beside: Beside) -> Person:
    """Open an account; raises Refused for a form that cannot be one."""
    name, email = name.strip(), email.strip().lower()
    if not 1 <= len(name) <= LONGEST_NAME:
        raise Refused(f"Please tell us your name, in at most {LONGEST_NAME} characters.")
    if not _EMAIL.match(email) or len(email) > 254:
        raise Refused("That does not look like an e-mail address.")
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise Refused(f"A password has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters.")
    person = Person(secrets.token_hex(8), name, email)
    row = {"id": person.id, "name": name, "email": email, "password_hash": hashed(password)}
    try:
        with data.writing() as connection:
            connection.execute(users.insert().values(**row, created_at=moment, last_active_at=moment))
            connection.execute(user_email_preferences.insert().values(user_id=person.id))
            beside(connection, person)
    except IntegrityError:
        raise Refused("There is an account with this address already: sign in instead.") from None
    return person


def proven(data: Data, email: str, password: str) -> Person:
    """Return whose address and password these are; raises Refused without saying which of the two is wrong."""
    with data.reading() as connection:
        row = connection.execute(select(users).where(users.c.email == email.strip().lower())).one_or_none()
    # Unknown addresses cost the same time as known ones, so that nobody can list our people with a stopwatch.
    if not _matches(password[:LONGEST_PASSWORD], row.password_hash if row else _NOBODY) or row is None:
        raise Refused("That address and password do not belong together.")
    return Person(row.id, row.name, row.email, row.deactivated_at)


def sign_in(data: Data, moment: datetime, person: Person) -> str:
    """Open a session and return its token; signing in never reactivates: a deactivated person is Refused."""
    token = secrets.token_urlsafe(32)
    alive = (users.c.id == person.id) & users.c.deactivated_at.is_(None)
    with data.writing() as connection:
        if connection.execute(update(users).where(alive).values(last_active_at=moment)).rowcount == 0:
            raise Refused("This account is deactivated.")
        _open_session(connection, moment, person, token)
    return token


def reactivate(data: Data, moment: datetime, person: Person) -> str:
    """Bring a deactivated account back and open a session, in one transaction; the caller has proven the password."""
    token = secrets.token_urlsafe(32)
    back = {"deactivated_at": None, "last_active_at": moment}
    with data.writing() as connection:
        if connection.execute(update(users).where(users.c.id == person.id).values(back)).rowcount == 0:
            raise Refused("This account has been deleted.")
        _open_session(connection, moment, person, token)
    return token


def deactivate(data: Data, moment: datetime, person: Person, category: str, reason: str, beside: Beside) -> None:
    """Switch the account off, keep why, and end every session; the night job deletes it after the grace time."""
    if category not in CATEGORIES:
        raise Refused("Please choose what comes closest.")
    if len(reason) > LONGEST_REASON:
        raise Refused(f"Please say it in at most {LONGEST_REASON} characters; these are {len(reason)}.")
    feedback = {"id": secrets.token_hex(8), "user_id": person.id, "category": category, "reason": reason.strip()}
    with data.writing() as connection:
        connection.execute(update(users).where(users.c.id == person.id).values(deactivated_at=moment))
        connection.execute(deactivation_feedback.insert().values(**feedback, created_at=moment))
        connection.execute(sessions.delete().where(sessions.c.user_id == person.id))
        beside(connection, person)


def sign_out(data: Data, token: str) -> None:
    """End one session."""
    with data.writing() as connection:
        connection.execute(sessions.delete().where(sessions.c.token_hash == _digest(token)))


def whose(data: Data, moment: datetime, token: str) -> Person | None:
    """Return who is signed in with this token, if the session and the account are alive."""
    alive = (sessions.c.expires_at > moment) & users.c.deactivated_at.is_(None)
    mine = select(users).join(sessions, sessions.c.user_id == users.c.id)
    with data.reading() as connection:
        row = connection.execute(mine.where(sessions.c.token_hash == _digest(token), alive)).one_or_none()
    return Person(row.id, row.name, row.email, verified=row.email_verified_at is not None) if row else None


def hashed(password: str) -> str:
    """Return a salted scrypt hash of a password."""
    salt = secrets.token_bytes(16)
    return f"scrypt${salt.hex()}${_scrypt(password, salt).hex()}"


def _open_session(connection: Connection, moment: datetime, person: Person, token: str) -> None:
    row = {"token_hash": _digest(token), "user_id": person.id, "created_at": moment}
    connection.execute(sessions.insert().values(**row, expires_at=moment + SESSION_LIFE))


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _scrypt(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=2**14, r=8, p=1)


def _matches(password: str, stored: str) -> bool:
    _, salt, digest = stored.split("$")
    return hmac.compare_digest(_scrypt(password, bytes.fromhex(salt)), bytes.fromhex(digest))


_NOBODY = f"scrypt${'00' * 16}${'00' * 64}"
