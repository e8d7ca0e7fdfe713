"""The people of the year: when they joined, what they asked, which files they sent, what they connected."""

import unicodedata
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice

from nightcrew.demo.accounts import SESSION_LIFE, hashed
from nightcrew.demo.connections import TOKEN_LIFE
from nightcrew.demo.files import ATTACHED, OF_PROJECTS
from nightcrew.demo.provider import TOOLS
from nightcrew.demo.schema import (
    chats,
    mcp_servers,
    message_sources,
    messages,
    oauth_tokens,
    project_sources,
    projects,
    sessions,
    user_email_preferences,
    users,
)
from nightcrew.demo.year import Row, Year

PASSWORD = "tealight-demo"  # noqa: S105 - everybody the seed makes has it, and the sign-in page says so
PEOPLE = 320
_DAYS = 365
_VERIFIED = timedelta(minutes=4)  # after they joined


def settle(year: Year) -> None:
    """Let everybody join and use the app."""
    for person in _people(year):
        until = _live(year, person)
        if until > year.moment - SESSION_LIFE:
            row = {"token_hash": year.key(256), "user_id": person["id"]}
            year.add(sessions, **row, created_at=until, expires_at=until + SESSION_LIFE)
        if year.chance.random() < 0.3:
            _connect(year, person)


def _people(year: Year) -> Iterator[Row]:
    password = hashed(PASSWORD)
    for first, last in _pairs(year):
        # The square root draws more people to the end of the year than to its beginning: the app is growing.
        joined = year.waking(year.moment - timedelta(days=1 + _DAYS * (1 - year.chance.random() ** 0.5)))
        email = f"{_ascii(first)}.{_ascii(last)}@{year.chance.choice(year.names['mail'])}"
        row = {"id": year.key(), "name": f"{first} {last}", "email": email, "password_hash": password}
        times = {"created_at": joined, "last_active_at": joined, "email_verified_at": joined + _VERIFIED}
        person = year.add(users, **row, **times, deactivated_at=None)
        year.add(user_email_preferences, user_id=person["id"])
        yield person


def _pairs(year: Year) -> list[tuple[str, str]]:
    everybody = [(first, last) for first in year.names["first"] for last in year.names["last"]]
    return year.chance.sample(everybody, PEOPLE)


def _live(year: Year, person: Row) -> datetime:
    """Let one person write for as long as the app keeps them; return when they were last seen."""
    joined: datetime = person["created_at"]
    until = min(joined + timedelta(days=3 + year.chance.expovariate(1 / 150)), year.moment)
    folders = _projects(year, person)
    eagerness = min(3.0, year.chance.paretovariate(1.3))
    wished = 1 + round(eagerness * (until - joined).days / 15)
    for talk in islice(_deck(year), wished):
        begun = year.waking(joined + (until - joined) * year.chance.random())
        ended = _chat(year, person, folders, talk, max(begun, joined))
        person["last_active_at"] = max(person["last_active_at"], ended)
    seen: datetime = person["last_active_at"]
    return seen


def _projects(year: Year, person: Row) -> list[Row]:
    names = year.chance.sample(year.names["projects"], year.chance.choice((0, 0, 0, 1, 1, 2, 3)))
    born = {"user_id": person["id"], "created_at": person["created_at"], "updated_at": person["created_at"]}
    folders = [year.add(projects, id=year.key(), name=year.filled(name), **born) for name in names]
    for folder in folders:
        for _ in range(year.chance.choice((0, 0, 1, 2))):
            file, _ = _file(year, OF_PROJECTS, person["id"])
            year.add(project_sources, id=year.key(), project_id=folder["id"], created_at=person["created_at"], **file)
    return folders


def _deck(year: Year) -> Iterator[Row]:
    """Deal every talk once before any comes again: nobody asks the same thing twice in a row."""
    talks = list(year.talks["talk"])
    while True:
        year.chance.shuffle(talks)
        yield from talks


def _chat(year: Year, person: Row, folders: list[Row], talk: Row, begun: datetime) -> datetime:
    """Add one conversation and return when its last word fell."""
    turns = talk["turns"][: year.chance.randint(1, len(talk["turns"]))]
    title, *lines = year.filled("\x00".join([talk["title"], *(line for turn in turns for line in turn)])).split("\x00")
    folder = year.chance.choice(folders) if folders and year.chance.random() < 0.5 else None
    chat = {"id": year.key(), "user_id": person["id"], "project_id": folder and folder["id"], "title": title}
    said = begun
    for number, line in enumerate(lines):
        said += timedelta(seconds=year.chance.uniform(2, 9) if number % 2 else year.chance.uniform(20, 200))
        _message(year, chat, "assistant" if number % 2 else "user", line, said)
    year.add(chats, **chat, is_saved=year.chance.random() < 0.08, created_at=begun, updated_at=said)
    if folder:
        folder["updated_at"] = max(folder["updated_at"], said)
    return said


def _message(year: Year, chat: Row, role: str, text: str, said: datetime) -> None:
    parts = [{"type": "text", "text": text}]
    message = year.add(messages, id=year.key(), chat_id=chat["id"], role=role, parts=parts, created_at=said)
    if role == "user" and year.chance.random() < 0.02:
        _attach(year, chat, message)


def _attach(year: Year, chat: Row, message: Row) -> None:
    file, origin = _file(year, ATTACHED, chat["user_id"])
    row = {"id": year.key(), "chat_id": chat["id"], "message_id": message["id"], "created_at": message["created_at"]}
    source = year.add(message_sources, **row, **file, origin=origin)
    message["parts"].append({"type": "file", "source": source["id"]})


def _file(year: Year, folder: str, owner: str) -> tuple[Row, str]:
    """Write a file and return what its row says, and where it came from."""
    name, kind, text, origin = year.chance.choice(year.names["files"])
    key = f"{folder}/{owner}/{year.key(128)}"
    year.files[key] = data = (text * year.chance.randint(4, 40)).encode()
    return {"name": name, "media_type": kind, "size": len(data), "blob_key": key}, origin


def _connect(year: Year, person: Row) -> None:
    for tool in year.chance.sample(sorted(TOOLS), year.chance.choice((1, 1, 2))):
        row = {"id": year.key(), "user_id": person["id"], "name": TOOLS[tool].name, "url": TOOLS[tool].url}
        made = person["created_at"] + (person["last_active_at"] - person["created_at"]) * year.chance.random()
        server = year.add(mcp_servers, **row, created_at=made)
        token = {"id": year.key(), "server_id": server["id"], "created_at": made, "refresh_locked_at": None}
        token |= {"access_token": f"at_{year.key(128)}", "refresh_token": f"rt_{year.key(128)}"}
        year.add(oauth_tokens, **token, expires_at=person["last_active_at"] + TOKEN_LIFE)


def _ascii(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name.lower().translate(str.maketrans("ıłø", "ilo")))
    return "".join(sign for sign in plain if sign.isascii() and sign.isalpha())
