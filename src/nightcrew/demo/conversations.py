"""Conversations: chats and messages with their files, each seen by its owner only."""

import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, Select, func, select, update

from nightcrew.demo import attachments, drawing, responder, sources
from nightcrew.demo.accounts import Person, Refused
from nightcrew.demo.answers import ENDINGS, Answers
from nightcrew.demo.attachments import Attachment
from nightcrew.demo.database import Data
from nightcrew.demo.files import PNG, Files, Origin, Upload, upload
from nightcrew.demo.projects import own
from nightcrew.demo.schema import chats, message_sources, messages, projects
from nightcrew.demo.writers import Turn

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
    sources: frozenset[str] = frozenset()
    """Which files it shows besides: those of the project, and of its own those that stay."""


@dataclass(frozen=True, slots=True)
class Message:
    """One thing said, with the files that hang on it; `ending` says why an answer did not come to its end."""

    id: str
    role: str
    text: str
    created_at: datetime
    files: tuple[Attachment, ...]
    ending: str = ""
    stream: str | None = None


class Asked(NamedTuple):
    """A question that is kept: what it is about, and whether its answer is there already, as one that is drawn is."""

    question: str
    subject: str
    answered: bool


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


def several(data: Data, person: Person, keys: Collection[str]) -> list[Chat]:
    """Return those of chats that are this person's, the latest first."""
    newest = _chats().where(_listed(person, None), chats.c.id.in_(keys)).order_by(chats.c.updated_at.desc(), chats.c.id)
    with data.reading() as connection:
        return [Chat(*row) for row in connection.execute(newest)]


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


def worded(text: str, files: tuple[Upload, ...], shown: frozenset[str] = frozenset()) -> Words:
    """Return a message as it can be kept: of a text that is too long its beginning, and the whole of it as a file.

    Raises Refused for one that says nothing, or whose files are too large.
    """
    text = text.strip()
    if not text and not files and not shown:
        raise Refused("Please write something first, or choose a file.")
    sources.check(files, len(shown))
    if len(text) > LONGEST_MESSAGE:
        files = (*files, Upload("pasted-text.txt", "text/plain", text.encode(), Origin.PASTE))
        text = f"{text[:EXCERPT].rstrip()} …"
    return Words(text, files, shown)


def turns_of(data: Data, key: str, asked: Asked) -> Sequence[Turn]:
    """Return what was said in a chat up to a question, for whoever is to answer it."""
    said = messages_of(data, key)
    before = next((number for number, message in enumerate(said) if message.id == asked.question), len(said))
    return [*(Turn(message.role, message.text) for message in said[:before]), Turn("user", asked.subject)]


def say(data: Data, files: Files, moment: datetime, person: Person, key: str, words: Words) -> Asked | None:
    """Keep a question with its files, and the answer that is drawn; return nothing if the chat is not there."""
    mine = chat(data, person, key)
    if mine is None:  # nobody fills the store for a chat that is not theirs
        return None
    sent, drawn = attachments.kept(files, person, words.files), attachments.kept(files, person, _drawing(words.text))
    with data.writing() as connection:
        sent += sources.lent(connection, person, mine.project_id, words.sources)
        # The row stays locked to the end: the night job must see either no chat being written in, or its messages.
        held = connection.execute(select(chats.c.title).where(_mine(person, key)).with_for_update()).one_or_none()
        if held is None:
            return None
        subject = _subject(words.text, sent)
        values = {"updated_at": moment, "title": held.title or responder.title_of(subject)}
        connection.execute(update(chats).where(chats.c.id == key).values(values))
        question = {"id": secrets.token_hex(8), "role": "user", "parts": _parts(words.text, sent)}
        connection.execute(messages.insert().values(**question, chat_id=key, created_at=moment))
        attachments.hang(connection, sent, chat_id=key, message_id=question["id"], created_at=moment)
        _draw(connection, moment, key, drawn)
    return Asked(str(question["id"]), subject, bool(drawn))


def edit(data: Data, files: Files, moment: datetime, person: Person, key: str, words: Words) -> Asked | None:
    """Put another question in the place of a chat's last one; files that the words do not show leave it.

    What is still being written for the old one finds it gone, and is not kept. Returns nothing if there is none.
    """
    mine = chat(data, person, key)
    if mine is None:
        return None
    sent, drawn = attachments.kept(files, person, words.files), attachments.kept(files, person, _drawing(words.text))
    with data.writing() as connection:
        sent += sources.lent(connection, person, mine.project_id, words.sources)
        question = _last_question(connection, person, key)
        if question is None:
            return None
        named = {part["source"] for part in question.parts if part["type"] == "file"}
        attachments.remove(connection, files, named - words.sources)
        stay = attachments.named(connection, named & words.sources)
        subject, parts = _subject(words.text, [*stay, *sent]), _parts(words.text, [*stay, *sent])
        anew = {"id": secrets.token_hex(8), "role": "user", "parts": parts, "created_at": question.created_at}
        connection.execute(messages.insert().values(**anew, chat_id=key))
        hanging = update(message_sources).where(message_sources.c.message_id == question.id)
        connection.execute(hanging.values(message_id=anew["id"]))
        connection.execute(messages.delete().where(messages.c.id == question.id))
        attachments.hang(connection, sent, chat_id=key, message_id=anew["id"], created_at=moment)
        answered = (messages.c.chat_id == key) & (messages.c.role == "assistant")
        answered &= messages.c.created_at >= question.created_at
        attachments.owe(connection, files, message_sources.c.message_id.in_(select(messages.c.id).where(answered)))
        connection.execute(messages.delete().where(answered))
        _draw(connection, moment, key, drawn)
        connection.execute(update(chats).where(chats.c.id == key).values(updated_at=moment))
    return Asked(str(anew["id"]), subject, bool(drawn))


def change(data: Data, person: Person, key: str, **values: Any) -> bool:
    """Save a chat, or file it under another project, or none; return whether it was the person's.

    Raises Refused for a project that is not, or has gone: the chat stays where it is.
    """
    if (project := values.get("project_id")) is not None and own(data, person, project) is None:
        raise Refused("There is no such project: the chat stays where it is.")
    with data.writing() as connection:
        return connection.execute(update(chats).where(_mine(person, key)).values(values)).rowcount == 1


def delete_chats(data: Data, files: Files, answers: Answers, person: Person, keys: Collection[str]) -> int:
    """Delete chats with their messages, and owe their files; return how many of them were the person's.

    What is being written in them ends at once.
    """
    mine = (chats.c.user_id == person.id) & chats.c.id.in_(keys)
    with data.writing() as connection:
        gone = attachments.remove_chats(connection, files, answers, mine)
    answers.forget(gone)
    return len(gone)


def _chats() -> Select[Any]:
    said = select(func.count()).where(messages.c.chat_id == chats.c.id).scalar_subquery()
    names = (chats.c.id, chats.c.title, chats.c.project_id, projects.c.name, chats.c.is_saved)
    return select(*names, chats.c.created_at, chats.c.updated_at, said).outerjoin_from(chats, projects)


def _listed(person: Person, project: str | None) -> ColumnElement[bool]:
    theirs = chats.c.user_id == person.id
    return theirs & (chats.c.project_id == project) if project else theirs


def _last_question(connection: Connection, person: Person, key: str) -> Row[Any] | None:
    if not attachments.hold(connection, _mine(person, key)):
        return None
    asked = select(messages).where(messages.c.chat_id == key, messages.c.role == "user")
    return connection.execute(asked.order_by(messages.c.created_at.desc()).limit(1)).one_or_none()


def _mine(person: Person, key: str) -> ColumnElement[bool]:
    return (chats.c.id == key) & (chats.c.user_id == person.id)


def _subject(text: str, sent: list[dict[str, Any]]) -> str:
    """Return what a question is about; raises Refused for one that says nothing, now that its files have gone."""
    if not text and not sent:
        raise Refused("The file that you chose has been deleted meanwhile.")
    return text or str(sent[0]["name"])


def _drawing(text: str) -> tuple[Upload, ...]:
    """Return the picture that a question asks for, or none."""
    if not drawing.wanted(text):
        return ()
    name = responder.title_of(text).replace("/", " ")
    return (replace(upload(f"{name}.png", PNG, drawing.drawn(text)), origin=Origin.IMAGE),)


def _draw(connection: Connection, moment: datetime, key: str, drawn: list[dict[str, Any]]) -> None:
    """Answer with a picture, at once; any other answer is still to be written."""
    if not drawn:
        return
    answer = {"id": secrets.token_hex(8), "role": "assistant", "parts": _parts(responder.DRAWN, drawn)}
    connection.execute(messages.insert().values(**answer, chat_id=key, created_at=moment))
    attachments.hang(connection, drawn, chat_id=key, message_id=answer["id"], created_at=moment)


def _message(row: Row[Any], files: tuple[Attachment, ...]) -> Message:
    said, problem = (
        "".join(part.get("text", "") for part in row.parts if part["type"] == kind) for kind in ("text", "problem")
    )
    ending = " ".join(filter(None, (ENDINGS.get(row.state, ""), problem))) if row.state else ""
    return Message(row.id, row.role, said, row.created_at, files, ending, row.stream_id)


def _parts(text: str, sources: list[dict[str, Any]]) -> list[dict[str, str]]:
    return [{"type": "text", "text": text}, *({"type": "file", "source": row["id"]} for row in sources)]
