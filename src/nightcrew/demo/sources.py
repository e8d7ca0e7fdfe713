"""Sources: the files of a project, which the messages of its chats may show; each is kept once, whoever shows it."""

import secrets
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, select

from nightcrew.demo import attachments
from nightcrew.demo.accounts import Person, Refused
from nightcrew.demo.database import Data
from nightcrew.demo.files import LARGEST, MOST, OF_PROJECTS, Files, Origin, Upload
from nightcrew.demo.schema import project_sources, projects

OFFERED = 20
_SHARED = ("name", "media_type", "size", "blob_key")


class Source(NamedTuple):
    """A file of a project, as it is offered to a message."""

    id: str
    name: str
    size: int


def offered(data: Data, project: str | None) -> list[Source]:
    """Return the latest files of a project."""
    if project is None:
        return []
    latest = select(*(project_sources.c[name] for name in Source._fields))
    latest = latest.order_by(project_sources.c.created_at.desc(), project_sources.c.id).limit(OFFERED)
    with data.reading() as connection:
        return [Source(*row) for row in connection.execute(latest.where(project_sources.c.project_id == project))]


def add(data: Data, files: Files, moment: datetime, person: Person, project: str, uploads: Sequence[Upload]) -> bool:
    """Keep files as a project's own; return whether the project is still there.

    Raises Refused where there is none to keep, and where they are too many or too large.
    """
    theirs = select(projects.c.id).where(projects.c.id == project, projects.c.user_id == person.id)
    with data.reading() as connection:
        if connection.execute(theirs).one_or_none() is None:  # nobody fills the store for what is not theirs
            return False
    if not uploads:
        raise Refused("Please choose a file first.")
    check(uploads)
    rows = [
        {"id": secrets.token_hex(8), "project_id": project, "created_at": moment}
        | files.keep(OF_PROJECTS, person.id, each)
        for each in uploads
    ]
    with data.writing() as connection:
        # Who deletes the project holds it, too, and so finds these files there, or leaves them no project.
        if connection.execute(theirs.with_for_update()).one_or_none() is None:
            return False
        connection.execute(project_sources.insert(), rows)
    return True


def check(uploads: Sequence[Upload], besides: int = 0) -> None:
    """Raise Refused for files that are too many, with others `besides`, or too large."""
    if (number := len(uploads) + besides) > MOST:
        raise Refused(f"At most {MOST} files go at once; these are {number}.")
    if (size := sum(len(each.data) for each in uploads)) > LARGEST:
        raise Refused(f"Files that go at once have at most {LARGEST:,} bytes together; these have {size:,}.")


def hold(connection: Connection, person: Person, which: ColumnElement[bool]) -> Sequence[Row[Any]]:
    """Lock sources of a person's and return them; who is to hold chats, too, holds these first."""
    theirs = project_sources.c.project_id.in_(select(projects.c.id).where(projects.c.user_id == person.id))
    locked = select(project_sources).where(which, theirs).order_by(project_sources.c.id).with_for_update()
    return connection.execute(locked).all()


def lent(connection: Connection, person: Person, project: str | None, keys: Collection[str]) -> list[dict[str, Any]]:
    """Return what attachments that share a project's files say of each; until they are written, nobody deletes them."""
    chosen = project_sources.c.id.in_(keys) & (project_sources.c.project_id == project)
    held = hold(connection, person, chosen) if keys and project else ()
    return [attachments.new(Origin.PROJECT, **{name: getattr(row, name) for name in _SHARED}) for row in held]


def remove(connection: Connection, files: Files, held: Sequence[Row[Any]]) -> None:
    """Delete sources that the caller holds, and owe their files."""
    files.owe(connection, [row.blob_key for row in held])
    connection.execute(project_sources.delete().where(project_sources.c.id.in_([row.id for row in held])))
