"""Conversations: chats and messages with their files, each seen by its owner only."""

import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, Select, func, select, update

from nightcrew.demo import attachments, responder
from nightcrew.demo.accounts import Person, Refused
from nightcrew.demo.attachments import Attachment
from nightcrew.demo.database import Data
from nightcrew.demo.files import LARGEST, Files, Upload
from nightcrew.demo.projects import own
from nightcrew.demo.schema import chats, message_sources, messages, projects

LONGEST_MESSAGE = 8000
EXCERPT = 280
PAGE = 60


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation, or a shell nobody has written in yet."""

    id: str
    title: str | None
    project_id: str | None
    project: str | None
    is_saved: bool
    created_at: datetime
    updated_at: datetime
    messages: int


class Words(NamedTuple):
    """What somebody is about to say, as it can be kept."""

    text: str
    files: tuple[Upload, ...]


@dataclass(frozen=True, slots=True)
class Message:
    """One thing said, with the files that hang on it."""

    role: str
    text: str
    created_at: datetime
    files: tuple[Attachment, ...]


def how_many(data: Data, person: Person, project: str | None = None) -> int:
    """Return how many chats a person has, or one of their projects."""
    with data.reading() as connection:
        return connection.execute(select(func.count()).where(_listed(person, project))).scalar_one()


def chats_of(data: Data, person: Person, project: str | None = None, page: int = 1) -> list[Chat]:
    """Return a page of a person's chats, or of one of their projects, the latest first."""
    newest = _chats().where(_listed(person, project)).order_by(chats.c.updated_at.desc(), chats.c.id)
    with data.reading() as connection:
        return [Chat(*row) for row in connection.execute(newest.limit(PAGE).offset((page - 1) * PAGE))]


def chat(data: Data, person: Person, key: str) -> Chat | None:
    """Return a chat if it is this person's."""
    with data.reading() as connection:
        row = connection.execute(_chats().where(_mine(person, key))).one_or_none()
    return Chat(*row) if row else None


def messages_of(data: Data, key: str) -> list[Message]:
    """Return what was said in a chat, oldest first."""
    said = select(messages).where(messages.c.chat_id == key).order_by(messages.c.created_at, messages.c.role.desc())
    with data.reading() as connection:
        files = attachments.in_chat(connection, key)
        return [_message(row, files.get(row.id, ())) for row in connection.execute(said)]


def open_chat(data: Data, moment: datetime, person: Person, project: str | None) -> str:
    """Open an empty chat and return its key: if nobody writes in it, the night removes it."""
    key = secrets.token_hex(8)
    row = {"id": key, "user_id": person.id, "project_id": own(data, person, project), "title": None}
    with data.writing() as connection:
        connection.execute(chats.insert().values(**row, is_saved=False, created_at=moment, updated_at=moment))
    return key


def worded(text: str, files: tuple[Upload, ...]) -> Words:
    """Return a message as it can be kept: of a text that is too long its beginning, and the whole of it as a file.

    Raises Refused for one that says nothing, or whose files are too large.
    """
    text = text.strip()
    if not text and not files:
        raise Refused("Please write something first, or choose a file.")
    if len(text) > LONGEST_MESSAGE:
        files = (*files, Upload("pasted-text.txt", "text/plain", text.encode()))
        text = f"{text[:EXCERPT].rstrip()} …"
    if (size := sum(len(each.data) for each in files)) > LARGEST:
        raise Refused(f"The files of a message have at most {LARGEST:,} bytes together; these have {size:,}.")
    return Words(text, files)


def say(data: Data, files: Files, moment: datetime, person: Person, key: str, words: Words) -> bool:
    """Keep a question with its files, and its answer; return whether the chat is still there."""
    text, uploads = words
    if chat(data, person, key) is None:  # nobody fills the store for a chat that is not theirs
        return False
    message = secrets.token_hex(8)
    sources = attachments.kept(files, moment, person, uploads, chat_id=key, message_id=message)
    subject = text or sources[0]["name"]
    question = {"id": message, "role": "user", "parts": _parts(text, sources)}
    answer = {"id": secrets.token_hex(8), "role": "assistant", "parts": _parts(responder.answer(subject), [])}
    with data.writing() as connection:
        # The row stays locked to the end: the night job must see either no chat being written in, or its messages.
        held = connection.execute(select(chats.c.title).where(_mine(person, key)).with_for_update()).one_or_none()
        if held is None:
            return False
        values = {"updated_at": moment, "title": held.title or responder.title_of(subject)}
        connection.execute(update(chats).where(chats.c.id == key).values(values))
        rows = [row | {"chat_id": key, "created_at": moment} for row in (question, answer)]
        connection.execute(messages.insert(), rows)
        if sources:
            connection.execute(message_sources.insert(), sources)
    return True


def edit(data: Data, files: Files, moment: datetime, person: Person, key: str, words: Words, keep: set[str]) -> bool:
    """Put the last question of a chat in other words and answer it anew; of its files, only those to `keep` stay.

    Returns whether there is such a question.
    """
    text, uploads = words
    if chat(data, person, key) is None:
        return False
    new = attachments.kept(files, moment, person, uploads, chat_id=key)
    with data.writing() as connection:
        question = _last_question(connection, person, key)
        if question is None:
            return False
        named = {part["source"] for part in question.parts if part["type"] == "file"}
        attachments.remove(connection, files, question.id, named - keep)
        stay = [{"id": source} for source in sorted(named & keep)]
        parts, subject = _parts(text, [*stay, *new]), text or new[0]["name"]
        connection.execute(update(messages).where(messages.c.id == question.id).values(parts=parts))
        if new:
            connection.execute(message_sources.insert(), [row | {"message_id": question.id} for row in new])
        answered = (messages.c.chat_id == key) & (messages.c.role == "assistant")
        connection.execute(messages.delete().where(answered, messages.c.created_at >= question.created_at))
        answer = {"id": secrets.token_hex(8), "role": "assistant", "parts": _parts(responder.answer(subject), [])}
        connection.execute(messages.insert().values(**answer, chat_id=key, created_at=moment))
        connection.execute(update(chats).where(chats.c.id == key).values(updated_at=moment))
    return True


def detach(data: Data, files: Files, person: Person, key: str) -> Attachment | None:
    """Take a file out of its message, if it is this person's, and owe it; return what it was."""
    found = attachments.attachment(data, person, key)
    if found is None:
        return None
    with data.writing() as connection:
        if not _held(connection, person, found.chat_id):
            return None
        attachments.remove(connection, files, found.message_id, [found.id])
        message = messages.c.id == found.message_id
        parts = connection.execute(select(messages.c.parts).where(message)).scalar_one_or_none()
        left = [part for part in parts or [] if part.get("source") != found.id]
        connection.execute(update(messages).where(message).values(parts=left))
    return found


def change(data: Data, person: Person, key: str, **values: Any) -> bool:
    """Save a chat, or file it under another project; return whether it was the person's."""
    if "project_id" in values:
        values["project_id"] = own(data, person, values["project_id"])
    with data.writing() as connection:
        return connection.execute(update(chats).where(_mine(person, key)).values(values)).rowcount == 1


def delete_chats(data: Data, files: Files, person: Person, keys: Collection[str]) -> int:
    """Delete chats with their messages, and owe their files; return how many of them were the person's."""
    mine = (chats.c.user_id == person.id) & chats.c.id.in_(keys)
    with data.writing() as connection:
        return attachments.remove_chats(connection, files, mine)


def _chats() -> Select[Any]:
    said = select(func.count()).where(messages.c.chat_id == chats.c.id).scalar_subquery()
    names = (chats.c.id, chats.c.title, chats.c.project_id, projects.c.name, chats.c.is_saved)
    return select(*names, chats.c.created_at, chats.c.updated_at, said).outerjoin_from(chats, projects)


def _listed(person: Person, project: str | None) -> ColumnElement[bool]:
    theirs = chats.c.user_id == person.id
    return theirs & (chats.c.project_id == project) if project else theirs


def _held(connection: Connection, person: Person, key: str) -> bool:
    """Lock a chat before its files are read: who writes in it meanwhile does so before, or after us."""
    return connection.execute(select(chats.c.id).where(_mine(person, key)).with_for_update()).one_or_none() is not None


def _last_question(connection: Connection, person: Person, key: str) -> Row[Any] | None:
    if not _held(connection, person, key):
        return None
    asked = select(messages).where(messages.c.chat_id == key, messages.c.role == "user")
    return connection.execute(asked.order_by(messages.c.created_at.desc()).limit(1)).one_or_none()


def _mine(person: Person, key: str) -> ColumnElement[bool]:
    return (chats.c.id == key) & (chats.c.user_id == person.id)


def _message(row: Row[Any], files: tuple[Attachment, ...]) -> Message:
    return Message(row.role, "".join(part.get("text", "") for part in row.parts), row.created_at, files)


def _parts(text: str, sources: list[dict[str, Any]]) -> list[dict[str, str]]:
    return [{"type": "text", "text": text}, *({"type": "file", "source": row["id"]} for row in sources)]
