"""Conversations: chats and messages, each seen by its owner only."""

import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, func, select, update

from nightcrew.demo import responder
from nightcrew.demo.accounts import Person, Refused
from nightcrew.demo.database import Data
from nightcrew.demo.projects import own
from nightcrew.demo.schema import chats, message_sources, messages, projects

LONGEST_MESSAGE = 8000
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


@dataclass(frozen=True, slots=True)
class Message:
    """One thing said, with the files that hang on it."""

    role: str
    text: str
    created_at: datetime
    files: tuple[tuple[str, int], ...]


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
        files: dict[str, list[tuple[str, int]]] = {}
        for source in connection.execute(select(message_sources).where(message_sources.c.chat_id == key)):
            files.setdefault(source.message_id, []).append((source.name, source.size))
        return [_message(row, tuple(files.get(row.id, ()))) for row in connection.execute(said)]


def open_chat(data: Data, moment: datetime, person: Person, project: str | None) -> str:
    """Open an empty chat and return its key: if nobody writes in it, the night removes it."""
    key = secrets.token_hex(8)
    row = {"id": key, "user_id": person.id, "project_id": own(data, person, project), "title": None}
    with data.writing() as connection:
        connection.execute(chats.insert().values(**row, is_saved=False, created_at=moment, updated_at=moment))
    return key


def say(data: Data, moment: datetime, person: Person, key: str, text: str) -> bool:
    """Keep a question and its answer; return whether the chat is still there."""
    text = text.strip()
    if not text:
        raise Refused("Please write something first.")
    if len(text) > LONGEST_MESSAGE:
        raise Refused(f"A message has at most {LONGEST_MESSAGE} characters; this one has {len(text)}.")
    pair = (("user", text), ("assistant", responder.answer(text)))
    rows = [
        {"id": secrets.token_hex(8), "chat_id": key, "role": role, "created_at": moment, "parts": _parts(words)}
        for role, words in pair
    ]
    with data.writing() as connection:
        # The row stays locked to the end: the night job must see either no chat being written in, or its messages.
        held = connection.execute(select(chats.c.title).where(_mine(person, key)).with_for_update()).one_or_none()
        if held is None:
            return False
        values = {"updated_at": moment, "title": held.title or responder.title_of(text)}
        connection.execute(update(chats).where(chats.c.id == key).values(values))
        connection.execute(messages.insert(), rows)
    return True


def change(data: Data, person: Person, key: str, **values: Any) -> bool:
    """Save a chat, or file it under another project; return whether it was the person's."""
    if "project_id" in values:
        values["project_id"] = own(data, person, values["project_id"])
    with data.writing() as connection:
        return connection.execute(update(chats).where(_mine(person, key)).values(values)).rowcount == 1


def delete_chat(data: Data, person: Person, key: str) -> bool:
    """Delete a chat with its messages; return whether it was the person's."""
    with data.writing() as connection:
        return connection.execute(chats.delete().where(_mine(person, key))).rowcount == 1


def _chats() -> Select[Any]:
    said = select(func.count()).where(messages.c.chat_id == chats.c.id).scalar_subquery()
    names = (chats.c.id, chats.c.title, chats.c.project_id, projects.c.name, chats.c.is_saved)
    return select(*names, chats.c.created_at, chats.c.updated_at, said).outerjoin_from(chats, projects)


def _listed(person: Person, project: str | None) -> ColumnElement[bool]:
    theirs = chats.c.user_id == person.id
    return theirs & (chats.c.project_id == project) if project else theirs


def _mine(person: Person, key: str) -> ColumnElement[bool]:
    return (chats.c.id == key) & (chats.c.user_id == person.id)


def _message(row: Row[Any], files: tuple[tuple[str, int], ...]) -> Message:
    return Message(row.role, "".join(part.get("text", "") for part in row.parts), row.created_at, files)


def _parts(text: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text}]
