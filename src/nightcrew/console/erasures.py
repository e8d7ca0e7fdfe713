"""Erasures: what would be removed of a person, and what a receipt says of it, as a person reads it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nightcrew.console.screen import Screen
from nightcrew.erasures.prospect import Prospect


def prospect(found: Prospect, screen: Screen) -> list[str]:
    """Say what would be found, and what went before."""
    before = [
        f"erased before: {one.id} is {one.state}{f', receipt {one.number}' if one.number else ''}"
        for one in found.before
    ]
    if not found.there:
        return [f"table {found.table} has no such row", *before]
    parts = [part.json() for part in found.parts]
    rows = [[part["place"], part["what"], part["how"], f"{part['found']:,}", _stays(part)] for part in parts]
    wrong = [f"{screen.paint('✗', 'red')} {problem}" for problem in found.problems]
    return [*screen.table(["PLACE", "WHAT", "HOW", "FOUND", "STAYS"], rows), *wrong, *before]


def _stays(part: Mapping[str, Any]) -> str:
    stays = f"{part['held']:,}" if part["held"] else ""
    return f"{stays} ({part['why']})".strip() if part["why"] else stays


def receipt(said: Mapping[str, Any], screen: Screen) -> list[str]:
    """Say what a receipt says: figures first, then what is wrong."""
    rows = [
        [part["place"], part["what"], *(f"{part[name]:,}" for name in ("found", "removed", "residual")), _stays(part)]
        for part in said["parts"]
    ]
    sign = screen.glyph("done" if said["result"] == "complete" else "failed")
    head = f"{sign} receipt {said['number']}: {said['result']} ({said['erasure']}, {said['finishedAt']})"
    wrong = [f"  {screen.paint('✗', 'red')} {problem}" for problem in said["problems"]]
    return [head, *screen.table(["PLACE", "WHAT", "FOUND", "REMOVED", "LEFT", "STAYS"], rows), *wrong]


def list_of(receipts: Iterable[Mapping[str, Any]], faults: Sequence[str], screen: Screen) -> list[str]:
    """Say in a line each which receipts there are, and what is wrong with them."""
    rows = [
        [
            str(said["number"]),
            said["finishedAt"],
            said["table"],
            said["subject"][:12],
            said["result"],
            said["digest"][:12],
        ]
        for said in receipts
    ]
    table = screen.table(["RECEIPT", "FINISHED", "TABLE", "SUBJECT", "RESULT", "DIGEST"], rows)
    return [
        *(table if rows else ["no receipt was written yet"]),
        *(f"{screen.paint('✗', 'red')} {one}" for one in faults),
    ]
