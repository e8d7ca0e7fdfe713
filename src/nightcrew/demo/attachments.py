"""Attachments: the rows of files that hang on messages, each seen by the chat's owner only."""

import secrets
from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, bindparam, select, update

from nightcrew.demo.accounts import Person
from nightcrew.demo.answers import Answers
from nightcrew.demo.files import ATTACHED, Files, Upload
from nightcrew.demo.schema import chats, message_sources, messages

Row = dict[str, Any]


class Attachment(NamedTuple):
    """A file that hangs on a message."""

    id: str
    name: str
    size: int
    origin: str
    message_id: str


def in_chat(connection: Connection, chat: str) -> dict[str, tuple[Attachment, ...]]:
    """Return the attachments of a chat by the message they hang on."""
    found: dict[str, tuple[Attachment, ...]] = {}
    shown = [message_sources.c[name] for name in Attachment._fields]
    hanging = select(*shown).where(message_sources.c.chat_id == chat)
    for row in connection.execute(hanging.order_by(message_sources.c.name)):
        found[row.message_id] = (*found.get(row.message_id, ()), Attachment(*row))
    return found


def kept(files: Files, owner: Person, uploads: Iterable[Upload]) -> list[Row]:
    """Keep files and return what to write of them: no row is to name one that is not there yet."""
    return [new(each.origin, **files.keep(ATTACHED, owner.id, each)) for each in uploads]


def new(origin: str, **facts: Any) -> Row:
    """Return what to write of a file under a new key."""
    return {"id": secrets.token_hex(8), "origin": origin, **facts}


def hang(connection: Connection, rows: Iterable[Row], **place: Any) -> None:
    """Hang files on the message at a place; its parts name them."""
    if written := [row | place for row in rows]:
        connection.execute(message_sources.insert(), written)


def named(connection: Connection, keys: Collection[str]) -> list[Row]:
    """Return the keys and names of attachments, in the order of their names."""
    known = select(message_sources.c.id, message_sources.c.name).where(message_sources.c.id.in_(keys))
    return [{"id": row.id, "name": row.name} for row in connection.execute(known.order_by(message_sources.c.name))]


def hold(connection: Connection, leaving: ColumnElement[bool]) -> list[str]:
    """Lock chats before their files are read: who writes in one meanwhile does so before, or after us."""
    locked = select(chats.c.id).where(leaving).order_by(chats.c.id).with_for_update()
    return list(connection.execute(locked).scalars())


def remove(connection: Connection, files: Files, leaving: Collection[str]) -> None:
    """Take attachments out of their messages, parts and rows, and owe their files; the caller holds their chats."""
    gone = message_sources.c.id.in_(leaving)
    showing = select(message_sources.c.message_id).where(gone)
    said = connection.execute(select(messages.c.id, messages.c.parts).where(messages.c.id.in_(showing))).all()
    owe(connection, files, gone)
    connection.execute(message_sources.delete().where(gone))
    if said:
        left = update(messages).where(messages.c.id == bindparam("message")).values(parts=bindparam("left"))
        connection.execute(left, [{"message": key, "left": _without(leaving, parts)} for key, parts in said])


def remove_chats(connection: Connection, files: Files, answers: Answers, leaving: ColumnElement[bool]) -> list[str]:
    """Delete chats with all that hangs on them, and owe their files and streams; return which."""
    keys = hold(connection, leaving)
    answers.owe(connection, keys)
    owe(connection, files, message_sources.c.chat_id.in_(keys))
    connection.execute(chats.delete().where(chats.c.id.in_(keys)))
    return keys


def owe(connection: Connection, files: Files, leaving: ColumnElement[bool]) -> None:
    """Owe the files of rows that this very transaction is about to delete."""
    files.owe(connection, connection.execute(select(message_sources.c.blob_key).where(leaving)).scalars().all())


def _without(leaving: Collection[str], parts: list[Row]) -> list[Row]:
    return [part for part in parts if part.get("source") not in leaving]
