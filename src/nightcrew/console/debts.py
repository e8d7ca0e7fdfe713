"""Debts: what is owed to the stores, as a person reads it."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from nightcrew.console.screen import Screen, when
from nightcrew.debt import Balance, Overdue
from nightcrew.report import one_line


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
