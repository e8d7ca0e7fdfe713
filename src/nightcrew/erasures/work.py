"""Work: one subject's erasure as it is under way, and what it is done with."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from nightcrew.clock import Clock
from nightcrew.database import Connection, Database, ForeignKey, Selection, Table
from nightcrew.debt import Debts
from nightcrew.enrolment import Enrolments
from nightcrew.erased import Erasure, Erasures, Facts, Found, Subjects
from nightcrew.erasures.vault import Vault
from nightcrew.errors import DatabaseError
from nightcrew.mail import People
from nightcrew.owing import Owing, Trace
from nightcrew.policy import Policy
from nightcrew.store import Store


class Gate(Protocol):
    """What lets an erasure go on, batch after batch."""

    def hold(self, connection: Connection) -> None:
        """Keep others out until the transaction has ended, or raise."""

    def heard(self, connection: Connection, counts: Mapping[str, int]) -> None:
        """Hear what a batch has removed, before it commits."""

    def goes_on(self, seconds: float) -> bool:
        """Rest after so many seconds of work; False where the work has to end for now."""


class Mailed(NamedTuple):
    """Who is sent mail, and where it is kept which."""

    people: People
    enrolments: Enrolments

    def of(self, table: Table, values: Mapping[str, str | None]) -> str | None:
        """Return what mail knows the person of a row by, if it is one of the table of people."""
        return values.get(self.people.key) if self.people.table == table.name else None


@dataclass(frozen=True, slots=True)
class Kit:
    """What erasures are done with; `columns` are those that keep a store's keys in use."""

    secret: str
    database: Database
    subjects: Subjects
    erasures: Erasures
    debts: Debts
    stores: Mapping[str, Store]
    columns: Callable[[str], Iterable[Owing]]
    vault: Vault | None
    clock: Clock
    mail: Mailed | None = None

    def named(self, table: Table, key: Sequence[str], columns: Iterable[str]) -> Found | None:
        """Return the row that a person names; None also for a key that no row can have, as a word where numbers are.

        Whoever looks whether a row has gone must not ask like this: an error is no proof of that.
        """
        try:
            return self.subjects.find(table, key, columns)
        except DatabaseError as error:
            if error.of_row:
                return None
            raise


@dataclass(frozen=True, slots=True)
class Work:
    """An erasure under way: the one row in `selection`, and those of its `values` by which the rest is found.

    Its `runs` are those erasures of the subject that may owe something.
    """

    kit: Kit
    policy: Policy
    selection: Selection
    erasure: Erasure
    values: Mapping[str, str | None]
    gate: Gate
    runs: tuple[str, ...]

    @property
    def key(self) -> tuple[str, ...]:
        """The row's primary key."""
        return tuple(self.values[name] or "" for name in self.selection.table.primary_key)

    def referred(self, columns: Iterable[str]) -> list[str] | None:
        """Return its values in some columns; None where one of them is not known, or NULL."""
        found = [self.values.get(name) for name in columns]
        return None if None in found else [value for value in found if value is not None]

    def named(self, trace: Trace) -> dict[str, str] | None:
        """Return the values that a trace names; None where one is missing, so that no key can be named after it."""
        found = self.referred(trace.columns)
        return dict(zip(trace.columns, found, strict=True)) if found and all(found) else None

    @property
    def direct(self) -> Iterator[ForeignKey]:
        """The keys by which other rows refer to this one and go with it."""
        return (key for key in self.selection.keys if key.parent == self.selection.table.name)

    def count(self, part: str, **numbers: int) -> None:
        """Add to what was found of a part that is not the database's rows."""
        self.kit.erasures.add(self.erasure.id, lambda facts: add(facts, part, **numbers))


def add(facts: Facts, part: str, **numbers: int) -> None:
    """Add numbers to a part of the tally."""
    tally: dict[str, Any] = facts.setdefault("tally", {}).setdefault(part, {})
    for name, number in numbers.items():
        tally[name] = tally.get(name, 0) + number


def needed(policy: Policy, selection: Selection, mail: Mailed | None) -> list[str]:
    """Return the columns of a row by which all that is kept of it elsewhere is found once it is gone."""
    paths = selection.drains + selection.cascades + selection.loosened
    referred = [name for path in paths for name in path[0].parent_columns]
    known = [mail.people.key] if mail and mail.people.table == selection.table.name else []
    return list(dict.fromkeys((*selection.table.primary_key, *referred, *traced(policy), *known)))


def traced(policy: Policy) -> list[str]:
    """Return the columns that its traces name."""
    return [name for trace in policy.traces for name in trace.columns]
