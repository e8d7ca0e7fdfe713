"""What is owed to the stores, and the shape of the table that keeps it until it is settled.

A debt is written in the transaction that makes it: rows leave, and the keys they held are owed, or neither.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from nightcrew.clock import instant
from nightcrew.database import Connection
from nightcrew.owing import Owing


@dataclass(frozen=True, slots=True)
class Debt:
    """A key that is owed to a store, under the number of its row; so many attempts at it have failed."""

    id: int
    key: str
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Overdue:
    """A debt at which an attempt has failed: why, whether it was the last, and since when it is owed (UTC)."""

    store: str
    key: str
    attempts: int
    reason: str
    since: datetime
    given_up: bool

    def json(self) -> dict[str, Any]:
        """Return it as JSON values; instants are ISO-8601 in UTC."""
        facts = {"store": self.store, "key": self.key, "attempts": self.attempts, "reason": self.reason}
        return facts | {"since": instant(self.since), "failed": self.given_up}


@dataclass(frozen=True, slots=True)
class Balance:
    """What is owed to one store: `due` by now, `waiting` for a time that is to come, `failed` for good.

    The `oldest` is owed since then (UTC).
    """

    store: str
    due: int = 0
    waiting: int = 0
    failed: int = 0
    oldest: datetime | None = None

    @property
    def owed(self) -> int:
        """How many debts there are in all."""
        return self.due + self.waiting + self.failed

    def json(self) -> dict[str, Any]:
        """Return it as JSON values; instants are ISO-8601 in UTC."""
        counts = {"store": self.store, "owed": self.owed, "due": self.due, "waiting": self.waiting}
        return counts | {"failed": self.failed, "oldest": self.oldest and instant(self.oldest)}


class Debts(Protocol):
    """The table of things owed, beside the application's tables, so that a debt and its cause commit together."""

    def owe(self, connection: object, store: str, keys: Iterable[str], not_before: datetime | None) -> int:
        """Owe keys to a store in a transaction of the application's own; return how many, each once.

        Raises UsageError for what is no connection to this database, and for one that is in no transaction.
        """

    def claim(self, store: str, most: int, held: float) -> Sequence[Debt]:
        """Take debts of a store that are due, the oldest first; nobody else is given them for so many seconds."""

    def of_run(self, run: str, store: str, after: int, most: int, held: float) -> Sequence[Debt]:
        """Take what a run owes to a store, from a number on, whether it is due or somebody was given it."""

    def newest(self, connection: Connection) -> int:
        """Return the number of the newest debt, after which `incurred` counts."""

    def incurred(self, connection: Connection, run: str, since: int) -> Mapping[str, int]:
        """Count by store what a run owes since then."""

    def alike(self, store: str, prefix: str, finds: Callable[[str], object]) -> list[Debt]:
        """Return debts of a store, due or not, whose keys have the prefix and are found."""

    def referred(self, columns: Iterable[Owing], keys: Sequence[str]) -> set[str]:
        """Return those of the keys that rows of the application still have in some of these columns.

        Raises PolicyError for a column that is not there: then nobody knows.
        """

    def named(self, column: Owing, after: str | None, most: int) -> tuple[Sequence[str], str | None]:
        """Return some keys that rows have in a column, in the database's order, and after which one to go on, if any.

        Raises PolicyError for a column that is not there.
        """

    def owed(self, store: str, keys: Sequence[str]) -> set[str]:
        """Return those of the keys that are owed to a store, due or not, given up or not."""

    def waiting(self, store: str, keys: Sequence[str], seconds: float) -> set[str]:
        """Return those of the keys that are owed to a store and not due for so many seconds."""

    def incur(self, store: str, keys: Sequence[str]) -> None:
        """Owe keys to a store in a transaction of its own."""

    def settle(self, debts: Iterable[Debt]) -> None:
        """Forget debts: they are settled, or were none."""

    def leave(self, debts: Iterable[Debt]) -> None:
        """Give debts that were claimed back as they were: nothing came of the attempt, and it is not their fault."""

    def put_off(self, failed: Mapping[Debt, tuple[str, timedelta | None]]) -> None:
        """Count a failed attempt at debts: why, and how long each waits for the next; None gives it up."""

    def recall(self, run: str, columns: Callable[[str], Iterable[Owing]]) -> None:
        """Forget what a run owes to stores of keys that rows have again in some of the store's columns."""

    def balances(self) -> list[Balance]:
        """Return what is owed, by store in the order of their names."""

    def overdue(self, store: str | None, most: int) -> list[Overdue]:
        """Return debts at which an attempt has failed, of one store or all: given up ones first, and the oldest."""

    def failed(self) -> Mapping[str, int]:
        """Return how many debts of each store were given up, of those that have any."""

    def retry(self, store: str | None = None) -> int:
        """Let what was given up, of one store or all, be tried again from now on; return how many that are."""
