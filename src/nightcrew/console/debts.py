"""Debts: what is owed to the stores, and what they have that no row knows, as a person reads it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from nightcrew.comparison import Survey, size
from nightcrew.console.progress import Progress
from nightcrew.console.screen import Screen
from nightcrew.debt import Balance, Overdue
from nightcrew.duration import spell, when
from nightcrew.ledger import Entry
from nightcrew.report import one_line

_ALWAYS = ("blobs", "orphans", "missing")  # said of a store even where it is none


def lines(balances: Sequence[Balance], overdue: Sequence[Overdue], now: datetime, screen: Screen) -> list[str]:
    """Say what is owed by store, and what could not be settled."""
    if not balances:
        return ["no store is declared, and nothing is owed"]
    rows = [
        [each.store, f"{each.due:,}", f"{each.waiting:,}", f"{each.failed:,}", when(each.oldest, now)]
        for each in balances
    ]
    found = screen.table(["STORE", "DUE", "WAITING", "FAILED", "OLDEST"], rows)
    tried = [
        [each.store, one_line(each.key), str(each.attempts), _stands(each, screen), when(each.since, now), each.reason]
        for each in overdue
    ]
    return found + (["", *screen.table(["STORE", "KEY", "TRIED", "", "OWED", "WHY"], tried)] if tried else [])


def _stands(each: Overdue, screen: Screen) -> str:
    return screen.mark("failed") if each.given_up else "tried again"


def verdict(given_up: Mapping[str, int], screen: Screen) -> str | None:
    """Say in one line that what is owed could not be settled, if that is so."""
    if not given_up:
        return None
    each = ", ".join(f"{number:,} to {store}" for store, number in given_up.items())
    return f"{screen.paint('✗', 'red')} debts were given up ({each}): 'nightcrew owed' says why"


def following(progress: Progress, store: str) -> Callable[[Survey], None]:
    """Return what lets a comparison of a store be followed."""

    def heard(survey: Survey) -> None:
        facts = {"done": survey.blobs + survey.keys, "total": None}
        progress.hear(Entry("progress", f"orphans of {store}", store, facts))

    return heard


def findings(survey: Survey, refusal: str | None, older_than: timedelta, screen: Screen) -> list[str]:
    """Say what a comparison found: figures first, then what they are about."""
    rows = [
        [what, f"{number:,}", about]
        for what, number, about in _figures(survey, older_than)
        if number or what in _ALWAYS
    ]
    named = (("orphan", survey.some_orphans, survey.orphans), ("missing", survey.some_missing, survey.missing))
    return [
        f"{survey.store} ({survey.place}) and {', '.join(survey.columns)}",
        *screen.table(["", "NUMBER", ""], rows),
        *(f"  {word:<8} {key}" for word, some, _ in named for key in some),
        *(f"  {word:<8} … and {number - len(some):,} more" for word, some, number in named if number > len(some)),
        *([f"{screen.paint('✗ a run would remove nothing', 'red')}: {refusal}"] if refusal else ()),
    ]


def _figures(survey: Survey, older_than: timedelta) -> Iterator[tuple[str, int, str]]:
    yield "blobs", survey.blobs, size(survey.bytes)
    yield "known", survey.known, "rows have their keys"
    yield "young", survey.young, f"no row has their keys, and they are younger than {spell(older_than)}"
    yield "owed", survey.owed, "they leave already: 'nightcrew owed'"
    yield "strange", survey.strange, "no row could have their names"
    yield "orphans", survey.orphans, f"no row has their keys: {size(survey.orphan_bytes)}"
    yield "keys", survey.keys, "rows have them"
    yield "missing", survey.missing, "rows have their keys, and there is no blob"
