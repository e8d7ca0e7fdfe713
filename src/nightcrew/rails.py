"""Rails: what a run must not do unasked: take far more than usual, trust a wrong clock, work in a copy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median_low
from typing import Any, TypeAlias

from nightcrew.clock import instant
from nightcrew.consent import LASTS, Filed, Here
from nightcrew.errors import SafetyStop

Counts: TypeAlias = Mapping[str, int]

LEAST = 1_000  # rows of a table that may always go: the share of a small table says little
TIMES = 5  # so many times what a usual run takes is still usual
FEW = 10  # rows that a policy which was changed may always take; and those of a canary
_MUCH = 2  # times what the policy took before it was changed
SKEW = timedelta(minutes=10)


class Strays(SafetyStop):
    """The first batch of a new policy removed rows of tables that its plan does not know."""

    def __init__(self, job: str, tables: list[str]) -> None:
        self.tables = tables
        named = ", ".join(table or "a table that the server does not name" for table in tables)
        super().__init__(
            f"the first batch also removed rows of {named}, of which no plan knows, and was undone: look"
            f" for triggers there; if that is right, agree with 'nightcrew ack {job}'"
        )


@dataclass(frozen=True, slots=True)
class Permit:
    """What a run is free to take: rows due at `moment`, `most` of each table that is named, `total` of all.

    `canary` says that the policy is new here, so that its first batch is a small one that is looked at. `plan` is the
    one that somebody agreed to.
    """

    fingerprint: str
    moment: datetime
    most: Mapping[str, int | None]
    total: int | None = None
    canary: bool = False
    plan: str | None = None

    def json(self) -> dict[str, Any]:
        """Return it as a ledger's facts."""
        facts = {name: getattr(self, name) for name in self.__slots__}
        return facts | {"moment": self.moment.isoformat(), "most": dict(self.most)}

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "Permit":
        """Read it from a ledger's facts."""
        return cls(**{**facts, "moment": datetime.fromisoformat(facts["moment"])})

    def demand(self, taken: Counts, job: str) -> None:
        """Raise SafetyStop when a run has come to take more than it may."""
        if why := self._over(taken):
            raise SafetyStop(f"{why}; look with 'nightcrew plan {job}'")

    def _over(self, taken: Counts) -> str | None:
        for table, rows in taken.items():
            most = self.most.get(table)
            if most is not None and rows > most:
                return f"it came upon more rows of {table} than there were when it began: more than {most:,}"
        if self.total is not None and sum(taken.values()) > self.total:
            return f"it came to more than {self.total:,} rows in all"
        return None


def grown(rows: int) -> int:
    """Return up to how many rows still count as the same, when so many were seen a while ago."""
    return rows + rows // 5 + 100


def seen(most: int) -> int | None:
    """Return about how many rows were seen of which so many may go; None where it was too few to tell."""
    return (most - 100) * 5 // 6 if most > max(LEAST, 100) else None


def usual(runs: Sequence[Counts]) -> dict[str, int]:
    """Return per table what the runs that took anything took, the middle one of them."""
    tables = {table for counts in runs for table in counts}
    took = [counts for counts in runs if sum(counts.values())]
    return {table: median_low([counts.get(table, 0) for counts in took]) for table in tables if took}


def to_weigh(counts: Counts, runs: Sequence[Counts]) -> dict[str, int]:
    """Return the tables whose size has to be known, for they would lose more than is usual."""
    ordinary = usual(runs)
    return {table: rows for table, rows in counts.items() if rows > max(LEAST, TIMES * ordinary.get(table, 0))}


def breaker(counts: Counts, sizes: Counts, fraction: float, most: int | None) -> str | None:
    """Say why so many rows are too many: `fraction` is the share of a table, `most` the rows of all tables."""
    for table, size in sizes.items():
        if counts[table] > fraction * size:
            share = 100 * counts[table] / max(1, size)
            return (
                f"it would take {counts[table]:,} of the {size:,} rows of {table} ({share:.0f} %), and more than"
                f" {100 * fraction:g} % is not taken unasked"
            )
    if most is not None and sum(counts.values()) > most:
        return f"it would take {sum(counts.values()):,} rows{_spread(counts)}, and max_rows is {most:,}"
    return None


def widened(counts: Counts, before: Counts) -> str | None:
    """Say how much more a policy takes than it did before it was changed, if that is much."""
    now, then = sum(counts.values()), sum(before.values())
    if now <= FEW or now <= _MUCH * then:
        return None
    return (
        f"its policy was changed since the last run and would take {now:,} rows now{_spread(counts)}, where the one"
        f" before would take {then:,}"
    )


def lapsed(plan: Filed, fingerprint: str, now: datetime) -> str | None:
    """Say why a plan holds no more, whatever the rows have come to."""
    if plan.fingerprint != fingerprint:
        return "the policy was changed since"
    if plan.run is not None:
        return f"it has been run, by run {plan.run}"
    if now > plan.moment + LASTS:
        return f"it expired, being of {instant(plan.moment)}"
    return None


def outgrown(plan: Filed, counts: Counts) -> str | None:
    """Say how the rows have outgrown a plan, if they have."""
    for table, rows in counts.items():
        shown = plan.counts.get(table, 0)
        if shown is not None and rows > grown(shown):
            return f"{table} would lose {rows:,} rows now, and it showed {shown:,}"
    return None


def canary(taken: Counts, removed: Counts, known: Mapping[str, int | None]) -> list[str]:
    """Name the tables that lost rows to a batch, as the database counts, and that the plan does not know.

    A database that cannot tell by table counts under the empty name.
    """
    strange = [table for table in removed if table and table not in taken and table not in known]
    nameless = removed.get("", 0) > sum(taken.values()) and "" not in known
    return [*strange, *([""] if nameless else [])]


def misplaced(here: Here) -> str | None:
    """Say that this database is a copy of the one that its own tables tell of, if it is."""
    if not here.marks or not here.identity.known_as or {*here.marks} & {*here.identity.known_as}:
        return None
    return (
        f"the database is not the one that these jobs ran in: it was {', '.join(here.marks)} and is"
        f" {', '.join(here.identity.own)}, as after a restore, or in a copy of another one's data"
    )


def untimely(here: Here, own: datetime) -> str | None:
    """Say that a clock cannot be trusted: the database's, held against this process's and against its own past."""
    if abs(here.now - own) > SKEW:
        return (
            f"the database's clock says {instant(here.now)} and this machine's {instant(own)}: more than"
            f" {SKEW.seconds // 60} minutes apart, one of them is wrong"
        )
    if here.clock_at is not None and here.now < here.clock_at - SKEW:
        return f"the database's clock says {instant(here.now)}, and it had come to {instant(here.clock_at)} before"
    return None


def _spread(counts: Counts) -> str:
    named = [f"{rows:,} of {table}" for table, rows in counts.items() if rows]
    return f" ({', '.join(named[:5])}{', …' if len(named) > 5 else ''})" if len(named) > 1 else ""
