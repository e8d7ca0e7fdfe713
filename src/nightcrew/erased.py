"""What was erased, and the shape of the table that keeps it: whose erasure is under way, and the receipts of all.

Whom it was about is said by a keyed hash alone; the values that an erasure needs are kept until it is complete.
"""

import hmac
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from typing import Any, Protocol, TypeAlias

from nightcrew.database import Connection, ForeignKey, Key, Selection, Table

Facts: TypeAlias = dict[str, Any]
"""What an erasure has to remember, as JSON values: the subject's `values`, and the `tally` of what was found."""


class State(StrEnum):
    """How an erasure stands."""

    OPEN = "open"
    COMPLETE = "complete"
    INCOMPLETE = "incomplete"
    RESTORED = "restored"
    """It was done, and the database was put back to a time before: it is to be done again."""


@dataclass(frozen=True, slots=True)
class Erasure:
    """One subject's: of the row of a `table`, by its keyed hash; closed, it has the `number` of its receipt.

    `receipt` is the text that the `digest` was made of, together with the digest of the receipt before.
    """

    id: str
    job: str
    table: str
    subject: str
    by: str
    requested_at: datetime
    state: State = State.OPEN
    facts: Facts = field(default_factory=dict)
    finished_at: datetime | None = None
    number: int | None = None
    receipt: str | None = None
    digest: str | None = None


def subject_of(secret: str, table: str, key: Iterable[str]) -> str:
    """Return the keyed hash by which a row is known once it is gone: nobody guesses it who has not the secret."""
    return hmac.new(secret.encode(), json.dumps([table, *key]).encode(), sha256).hexdigest()


@dataclass(frozen=True, slots=True)
class Found:
    """A row as it was found: by which `key` it is taken, and some of its values as texts."""

    key: Key
    values: Mapping[str, str | None]


class Subjects(Protocol):
    """The application's rows, asked for one by one, by values that are written as texts."""

    def find(self, table: Table, key: Sequence[str], columns: Iterable[str]) -> Found | None:
        """Return the row of this primary key, to the letter, with its values in some columns."""

    def keys(self, table: Table, after: Sequence[str] | None, most: int) -> list[tuple[str, ...]]:
        """Return some primary keys, from one on."""

    def count(self, table: str, columns: Sequence[str], values: Sequence[str]) -> int:
        """Count the rows that have these values."""

    def strays(self, key: ForeignKey, values: Sequence[str]) -> int:
        """Count the rows that refer by a key to a row which had these values, and is gone."""

    def keyed(self, selection: Selection, column: tuple[str, str]) -> int:
        """Count the keys that rows have in a table's column, of those that leave with a selection's."""

    def take(
        self, connection: Connection, selection: Selection, key: ForeignKey, values: Sequence[str], most: int
    ) -> Mapping[str, int]:
        """Remove rows that refer by a key to a row which is gone, with what hangs on them; return rows by table."""

    def tables(self) -> Mapping[str, Table]:
        """Return every table of the database but nightcrew's own."""


class Erasures(Protocol):
    """The table of erasures, beside the application's tables."""

    def open(self, erasure: Erasure) -> None:
        """Write an erasure down, before anything of it is done."""

    def of(self, subject: str) -> list[Erasure]:
        """Return the erasures of a subject, the newest first."""

    def facts(self, erasure: str) -> Facts:
        """Return what an erasure has to remember."""

    def under_way(self, job: str, most: int) -> list[Erasure]:
        """Return erasures of a job that somebody has begun and not closed, the oldest first."""

    def known(self, subjects: Iterable[str]) -> set[str]:
        """Return those of the subjects that were erased, or are being erased."""

    def hold(self, connection: Connection, erasure: str) -> Facts:
        """Lock an erasure until the transaction ends, and return its facts."""

    def note(self, connection: Connection, erasure: str, facts: Facts) -> None:
        """Write its facts down."""

    def add(self, erasure: str, change: Callable[[Facts], None]) -> None:
        """Change its facts in a transaction of its own."""

    def close(self, erasure: Erasure, write: "Callable[[int, str, datetime], Closed]") -> Erasure:
        """Give an erasure the next number, and what `write` makes of that, the digest before it, and the time.

        Once it is complete, the values are forgotten, those of earlier ones of the same subject, too.
        """

    def drop(self, erasure: Erasure) -> None:
        """Forget an erasure of which nothing was done."""

    def last(self) -> Erasure | None:
        """Return the erasure with the newest receipt."""

    def some(self) -> list[Erasure]:
        """Return the erasures with the oldest receipt and the newest, if there are any."""

    def receipts(self, after: int, most: int) -> list[Erasure]:
        """Return closed erasures by their numbers, from one on."""

    def restore(self, lost: Iterable[Erasure]) -> None:
        """Write down erasures that the database does not know any more, as restored."""

    def restored(self) -> list[Erasure]:
        """Return those that are to be done again."""

    def replayed(self) -> None:
        """Let those be over: all that could be done again was."""

    def ids(self) -> set[str]:
        """Return the IDs of all that the database knows."""

    def scrub(self, table: str, words: str, named: Callable[[str, str], bool]) -> int:
        """Take a row out of what the ledger says: by its key in words, and by `named` keys of stores; count entries."""


@dataclass(frozen=True, slots=True)
class Closed:
    """What closes an erasure."""

    state: State
    receipt: str
    digest: str
