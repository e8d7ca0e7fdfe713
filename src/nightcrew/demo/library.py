"""The library: the files that a person has, of messages and of projects, each in the scope of its chat's project."""

from collections.abc import Collection
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, Subquery, func, join, literal_column, null, select, true, union_all

from nightcrew.demo import attachments, sources
from nightcrew.demo.accounts import Person
from nightcrew.demo.database import Data
from nightcrew.demo.files import Files, Origin
from nightcrew.demo.schema import chats, message_sources, project_sources, projects

PAGE = 60
_TOLD = ("id", "name", "media_type", "size", "blob_key", "created_at")
_HANGING = join(message_sources, chats)
_SHOWS = (project_sources.c.blob_key == message_sources.c.blob_key) & (
    project_sources.c.project_id == chats.c.project_id
)


class Item(NamedTuple):
    """A file, and where it is used: in the chat that it came with, or by a project, in `shown` messages."""

    id: str
    name: str
    media_type: str
    size: int
    blob_key: str
    created_at: datetime
    origin: str
    project_id: str | None
    chat_id: str | None
    chat: str | None
    shown: int


class Scope(NamedTuple):
    """A project, or none, and how much of files is in it."""

    project_id: str | None
    name: str
    files: int
    size: int


def scopes(data: Data, person: Person) -> list[Scope]:
    """Return the library proper, of what is in no project, and then every project by its name."""
    every = _files(person)
    summed = select(every.c.project_id, func.count(), func.sum(every.c.size)).group_by(every.c.project_id)
    named = select(projects.c.id, projects.c.name).where(projects.c.user_id == person.id)
    with data.reading() as connection:
        held = {row[0]: (row[1], int(row[2])) for row in connection.execute(summed)}
        folders = connection.execute(named.order_by(projects.c.name, projects.c.id)).all()
    return [Scope(key, name, *held.get(key, (0, 0))) for key, name in ((None, "Library"), *folders)]


def files_of(data: Data, person: Person, project: str | None, page: int = 1) -> list[Item]:
    """Return a page of the files in a project, or in none, the latest first."""
    every = _files(person)
    inside = every.c.project_id.is_(None) if project is None else every.c.project_id == project
    latest = select(every).where(inside).order_by(every.c.created_at.desc(), every.c.id)
    with data.reading() as connection:
        return [Item(*row) for row in connection.execute(latest.limit(PAGE).offset((page - 1) * PAGE))]


def found(data: Data, person: Person, key: str) -> Item | None:
    """Return a file if it is this person's."""
    with data.reading() as connection:
        for of in (
            _of_messages(person, message_sources.c.id == key),
            _of_projects(person, project_sources.c.id == key),
        ):
            if row := connection.execute(of).one_or_none():
                return Item(*row)
    return None


def several(data: Data, person: Person, keys: Collection[str]) -> list[Item]:
    """Return those of files that are this person's, in the order of their names."""
    chosen = _of_messages(person, message_sources.c.id.in_(keys)), _of_projects(person, project_sources.c.id.in_(keys))
    with data.reading() as connection:
        items = [Item(*row) for of in chosen for row in connection.execute(of)]
    return sorted(items, key=lambda item: (item.name.casefold(), item.id))


def delete(data: Data, files: Files, person: Person, keys: Collection[str]) -> int:
    """Delete files, take them out of the messages that show them, and owe them; return how many were the person's.

    A project's file leaves the messages of the project's chats; a chat that was moved away since keeps it.
    """
    with data.writing() as connection:
        held = sources.hold(connection, person, project_sources.c.id.in_(keys))
        chosen = message_sources.c.id.in_(keys) & (chats.c.user_id == person.id)
        going = chosen | _shown_of(project_sources.c.id.in_([row.id for row in held]))
        attachments.hold(
            connection, chats.c.id.in_(select(message_sources.c.chat_id).select_from(_HANGING).where(going))
        )
        number = connection.execute(select(func.count()).select_from(_HANGING).where(chosen)).scalar_one()
        leaving = connection.execute(select(message_sources.c.id).select_from(_HANGING).where(going)).scalars().all()
        attachments.remove(connection, files, leaving)
        sources.remove(connection, files, held)
    return number + len(held)


def _files(person: Person) -> Subquery:
    """Return all of a person's files; one that a message shows of its project is the project's."""
    return union_all(_of_messages(person, ~_shown_of(true())), _of_projects(person, true())).subquery()


def _of_messages(person: Person, which: ColumnElement[bool]) -> Select[Any]:
    told = [message_sources.c[name] for name in (*_TOLD, "origin")]
    chat = chats.c.project_id, chats.c.id.label("chat_id"), chats.c.title.label("chat")
    hanging = select(*told, *chat, literal_column("0").label("shown")).select_from(_HANGING)
    return hanging.where(chats.c.user_id == person.id, which)


def _of_projects(person: Person, which: ColumnElement[bool]) -> Select[Any]:
    told = [project_sources.c[name] for name in _TOLD]
    origin: ColumnElement[str] = literal_column(f"'{Origin.PROJECT}'").label("origin")
    shown = select(func.count()).select_from(_HANGING).where(_SHOWS).correlate(project_sources).scalar_subquery()
    facts = origin, project_sources.c.project_id, null().label("chat_id"), null().label("chat"), shown.label("shown")
    kept = select(*told, *facts).select_from(join(project_sources, projects))
    return kept.where(projects.c.user_id == person.id, which)


def _shown_of(which: ColumnElement[bool]) -> ColumnElement[bool]:
    """Say that a message's file is a source of the project that its chat is in."""
    return select(project_sources.c.id).where(_SHOWS, which).correlate(message_sources, chats).exists()
