"""Attachments: the rows of files that hang on messages, each seen by the chat's owner only."""

import secrets
from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, select

from nightcrew.demo.accounts import Person
from nightcrew.demo.database import Data
from nightcrew.demo.files import Files, Upload
from nightcrew.demo.schema import chats, message_sources

Row = dict[str, Any]
_SHOWN = tuple(message_sources.c[name] for name in ("id", "name", "size", "blob_key", "chat_id", "message_id"))


class Attachment(NamedTuple):
    """A file that hangs on a message."""

    id: str
    name: str
    size: int
    blob_key: str
    chat_id: str
    message_id: str


def attachment(data: Data, person: Person, key: str) -> Attachment | None:
    """Return an attachment if it hangs in a chat of this person's."""
    mine = (message_sources.c.id == key) & (chats.c.user_id == person.id)
    with data.reading() as connection:
        row = connection.execute(select(*_SHOWN).join_from(message_sources, chats).where(mine)).one_or_none()
    return Attachment(*row) if row else None


def in_chat(connection: Connection, chat: str) -> dict[str, tuple[Attachment, ...]]:
    """Return the attachments of a chat by the message they hang on."""
    found: dict[str, tuple[Attachment, ...]] = {}
    hanging = select(*_SHOWN).where(message_sources.c.chat_id == chat)
    for row in connection.execute(hanging.order_by(message_sources.c.name)):
        found[row.message_id] = (*found.get(row.message_id, ()), Attachment(*row))
    return found


def kept(files: Files, moment: datetime, owner: Person, uploads: Iterable[Upload], **place: str) -> list[Row]:
    """Keep files and return the rows to write for them: no row is to name one that is not there yet."""
    return [
        {"id": secrets.token_hex(8), "name": each.name, "media_type": each.media_type, "size": len(each.data)}
        | {"blob_key": files.keep(owner.id, each.data), "created_at": moment, **place}
        for each in uploads
    ]


def remove(connection: Connection, files: Files, message: str, leaving: Iterable[str]) -> None:
    """Take attachments from their message, rows and all, and owe their files; the caller holds the chat's row."""
    gone = (message_sources.c.message_id == message) & message_sources.c.id.in_(list(leaving))
    owe(connection, files, gone)
    connection.execute(message_sources.delete().where(gone))


def remove_chats(connection: Connection, files: Files, leaving: ColumnElement[bool]) -> int:
    """Delete chats with all that hangs on them, and owe their files; return how many.

    They are locked before their files are read: who writes in one meanwhile does so before, or finds it gone.
    """
    locked = select(chats.c.id).where(leaving).order_by(chats.c.id).with_for_update()
    keys = connection.execute(locked).scalars().all()
    owe(connection, files, message_sources.c.chat_id.in_(keys))
    connection.execute(chats.delete().where(chats.c.id.in_(keys)))
    return len(keys)


def owe(connection: Connection, files: Files, leaving: ColumnElement[bool]) -> None:
    """Owe the files of rows that this very transaction is about to delete."""
    files.owe(connection, connection.execute(select(message_sources.c.blob_key).where(leaving)).scalars().all())
