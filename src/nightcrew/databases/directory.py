"""The application's tables as far as they tell of people: who is to get a mail, and what holds for them."""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from nightcrew.database import Table
from nightcrew.databases.catalog import describe, source
from nightcrew.databases.connect import Link
from nightcrew.databases.target import spelled
from nightcrew.databases.times import raw
from nightcrew.errors import DatabaseError, PolicyError, nearest
from nightcrew.mail import People
from nightcrew.scheduled import Reader
from nightcrew.sequence import Person, Sequence

_LONGEST_LOOK = 30.0  # seconds in which some people are to be found by their keys
_NOTHING = re.compile(r"[\s\0T:+.0-]*")  # a bit, a number or a date of zeros, and an empty text
_NO = {"f", "false", "n", "no", "off"}
_UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


class Registry:
    """The `Directory` of one database."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def reader(self, people: People, sequences: Iterable[Sequence]) -> Reader:
        """Look at the tables once, and compose what is asked of them each time."""
        some = list(sequences)
        with self._link.transaction(writes=False) as connection:
            table = describe(connection, self._link.dialect, people.table)
            _demand(table, people.columns)
            beside = self._beside(connection, people, some)
        return _Reader(self._link, people, table, some, beside)

    def _beside(self, connection: sa.Connection, people: People, some: list[Sequence]) -> tuple[Table, str] | None:
        if people.preferences is None:
            return None
        name, _, column = people.preferences.rpartition(".")
        table = describe(connection, self._link.dialect, name)
        _demand(table, [column, *(one.preference for one in some if one.preference is not None)])
        return table, column


class _Reader:
    def __init__(
        self, link: Link, people: People, table: Table, sequences: list[Sequence], beside: tuple[Table, str] | None
    ) -> None:
        self._link = link
        self._people = people
        self._rows = source(table.name, people.columns)
        steps = [step for one in sequences for step in one.steps]
        said = [one.goal for one in sequences] + [step.only_if for step in steps]
        self._predicates = list(dict.fromkeys(text for text in said if text is not None))
        self._preferences = list(dict.fromkeys(one.preference for one in sequences if one.preference is not None))
        self._beside = beside
        told = (people.address, people.name, people.zone, people.segment, *people.facts)
        self._others = list(dict.fromkeys(name for name in told if name is not None))

    def __call__(self, ids: Collection[str]) -> Mapping[str, Person]:
        """Read all at once; where the database takes one for no key at all, or a row cannot be read, the others."""
        try:
            return self._read(ids)
        except DatabaseError as error:
            if error.away or error.transient or error.of_statement:
                raise
            if len(ids) == 1:
                return {one: Person(one, None, unread=str(error)) for one in self._there(ids)}
            some, half = list(ids), len(ids) // 2
            return {**self(some[:half]), **self(some[half:])}

    def _there(self, ids: Collection[str]) -> Collection[str]:
        """Tell whose row is there, whatever stands in it."""
        asked, key = _spellings(ids), self._rows.c[self._people.key]
        theirs = sa.select(self._link.dialect.letters(key)).where(key.in_([raw(one) for one in asked]))
        try:
            with self._link.glimpse(_LONGEST_LOOK) as connection:
                return {asked[one] for one in connection.execute(theirs).scalars() if one in asked}
        except DatabaseError as error:
            if error.away or error.transient or error.of_statement:
                raise
            return ()

    def _read(self, ids: Collection[str]) -> Mapping[str, Person]:
        key, verified = self._rows.c[self._people.key], self._people.verified
        written = self._link.dialect.letters(key).label("nightcrew_key")
        proof = sa.literal("yes") if verified is True else self._link.dialect.letters(self._rows.c[str(verified)])
        others = [self._rows.c[name] for name in self._others]
        holds = [
            sa.case((spelled(text, ""), 1), else_=0).label(f"nightcrew_{place}")
            for place, text in enumerate(self._predicates)
        ]
        theirs = sa.select(written, proof.label("nightcrew_proof"), *others, *holds)
        asked = _spellings(ids)
        with self._link.glimpse(_LONGEST_LOOK) as connection:
            rows = connection.execute(theirs.where(key.in_([raw(one) for one in asked]))).all()
            wants = self._wants(connection, asked)
        width = 2 + len(others)
        found = {}
        for row in rows:
            if (one := asked.get(row[0])) is None:  # a collation, or a number made of a text, takes others for the same
                continue
            values = dict(zip(self._others, row[2:width], strict=True))
            true = frozenset(text for text, held in zip(self._predicates, row[width:], strict=True) if held)
            found[one] = self._person(one, row[1], values, true, wants.get(one, {}))
        return found

    def _wants(self, connection: sa.Connection, asked: Mapping[str, str]) -> Mapping[str, Mapping[str, bool]]:
        """Read what people say of their preferences; who says nothing of one wants it."""
        if self._beside is None or not self._preferences:
            return {}
        table, column = self._beside
        rows, letters = source(table.name, (column, *self._preferences)), self._link.dialect.letters
        said_of = [letters(rows.c[name]).label(f"nightcrew_{place}") for place, name in enumerate(self._preferences)]
        theirs = sa.select(letters(rows.c[column]).label("nightcrew_key"), *said_of)
        found: dict[str, dict[str, bool]] = {}
        for row in connection.execute(theirs.where(rows.c[column].in_([raw(one) for one in asked]))):
            said = found.setdefault(asked.get(row[0], ""), {})
            for name, value in zip(self._preferences, row[1:], strict=True):
                said[name] = said.get(name, True) and (value is None or _says_yes(value))
        return found

    def _person(
        self, key: str, proof: str | None, values: Mapping[str, Any], true: frozenset[str], wants: Mapping[str, bool]
    ) -> Person:
        people = self._people

        def text(column: str | None) -> str | None:
            value = values[column] if column is not None else None
            return None if value is None else str(value)

        facts = {name: values[name] for name in people.facts}
        named = text(people.name) or "", _says_yes(proof), text(people.zone), text(people.segment)
        return Person(key, (text(people.address) or "").strip() or None, *named, true, wants, facts)


def _demand(table: Table, columns: Iterable[str]) -> None:
    for name in columns:
        if name not in table.columns:
            raise PolicyError(f"table {table.name!r} has no column {name!r}{nearest(name, table.columns)}")


def _spellings(ids: Collection[str]) -> Mapping[str, str]:
    """Return the IDs by how a column may write them: SQLAlchemy's Uuid leaves the hyphens out where it keeps texts."""
    bare = {one.replace("-", "").lower(): one for one in ids if _UUID.fullmatch(one)}
    return bare | {one: one for one in ids}


def _says_yes(written: str | None) -> bool:
    """Read yes or no as applications write it: as a boolean, a bit, a number, a word, or the time since when."""
    return written is not None and not _NOTHING.fullmatch(written) and written.strip().casefold() not in _NO
