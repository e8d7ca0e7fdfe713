"""Projects: the folders people file their chats under, each seen by its owner only."""

import secrets
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select

from nightcrew.demo import attachments, sources
from nightcrew.demo.accounts import Person, Refused
from nightcrew.demo.answers import Answers
from nightcrew.demo.database import Data
from nightcrew.demo.files import Files
from nightcrew.demo.schema import chats, project_sources, projects

LONGEST_NAME = 120


@dataclass(frozen=True, slots=True)
class Project:
    """A folder of chats."""

    id: str
    name: str
    updated_at: datetime
    chats: int


def projects_of(data: Data, person: Person) -> list[Project]:
    """Return a person's projects, newest first."""
    inside = select(func.count()).where(chats.c.project_id == projects.c.id).scalar_subquery()
    listed = select(projects.c.id, projects.c.name, projects.c.updated_at, inside)
    with data.reading() as connection:
        found = connection.execute(listed.where(projects.c.user_id == person.id).order_by(projects.c.updated_at.desc()))
        return [Project(*row) for row in found]


def open_project(data: Data, moment: datetime, person: Person, name: str) -> str:
    """Open a project and return its key."""
    name = name.strip()
    if not name:
        raise Refused("Please give the project a name.")
    if len(name) > LONGEST_NAME:
        raise Refused(f"A project's name has at most {LONGEST_NAME} characters; this one has {len(name)}.")
    row = {"id": secrets.token_hex(8), "user_id": person.id, "name": name}
    with data.writing() as connection:
        connection.execute(projects.insert().values(**row, created_at=moment, updated_at=moment))
    return row["id"]


def delete_project(data: Data, files: Files, answers: Answers, person: Person, key: str, *, whole: bool) -> bool:
    """Delete a project with its files; its chats stay, without one, unless the `whole` of it is to go."""
    own, gone = (projects.c.id == key) & (projects.c.user_id == person.id), list[str]()
    with data.writing() as connection:
        if connection.execute(select(projects.c.id).where(own).with_for_update()).one_or_none() is None:
            return False
        sources.remove(connection, files, sources.hold(connection, person, project_sources.c.project_id == key))
        if whole:
            mine = (chats.c.project_id == key) & (chats.c.user_id == person.id)
            gone = attachments.remove_chats(connection, files, answers, mine)
        connection.execute(projects.delete().where(own))
    answers.forget(gone)
    return True


def own(data: Data, person: Person, project: str | None) -> str | None:
    """Return the project's key if it is the person's: nobody files chats in other people's folders."""
    mine = {row.id for row in projects_of(data, person)} if project else set()
    return project if project in mine else None
