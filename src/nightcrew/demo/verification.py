"""Verification: an address is somebody's once they follow the signed link in a mail to it, and press the button there.

Looking at the link changes nothing: programs that look at every link in a mail must not confirm it.
"""

import hmac
import re
from datetime import UTC, datetime, timedelta

from sqlalchemy import select, update

from nightcrew.demo.accounts import Person
from nightcrew.demo.database import Data
from nightcrew.demo.schema import users

PATH = "/verify/"
"""What the paths of links begin with; the token follows."""
LIFE = timedelta(days=7)
_TOKEN = re.compile(r"([0-9a-f]{16})-([0-9]{1,11})-([0-9a-f]{32})")
_PURPOSE = b"tealight address "  # a key that signs other things too signs none of these


def path(key: str, person: Person, moment: datetime) -> str:
    """Return where somebody confirms their address within LIFE from `moment` on; another address needs another one."""
    until = int((moment + LIFE).timestamp())
    return f"{PATH}{person.id}-{until}-{_mark(key, person.id, person.email, until)}"


def claimed(data: Data, key: str, moment: datetime, token: str) -> Person | None:
    """Return whose address a token is for, or None where it is not ours, too old, or for an address they had before."""
    found = _TOKEN.fullmatch(token)
    if found is None or datetime.fromtimestamp(int(found[2]), UTC) < moment:
        return None
    with data.reading() as connection:
        row = connection.execute(select(users).where(users.c.id == found[1])).one_or_none()
    if row is None or not hmac.compare_digest(_mark(key, row.id, row.email, int(found[2])), found[3]):
        return None
    return Person(row.id, row.name, row.email, row.deactivated_at, row.email_verified_at is not None)


def confirm(data: Data, moment: datetime, person: Person) -> None:
    """Note that an address is theirs, unless that is known."""
    theirs = (users.c.id == person.id) & (users.c.email == person.email) & users.c.email_verified_at.is_(None)
    with data.writing() as connection:
        connection.execute(update(users).where(theirs).values(email_verified_at=moment))


def _mark(key: str, person: str, email: str, until: int) -> str:
    text = f"{person} {until} {email}".encode("utf-8", "surrogatepass")
    return hmac.digest(key.encode(), _PURPOSE + text, "sha256")[:16].hex()
