"""Receipt: what an erasure found and removed in each place, without a word of whom it was about; a chain of them."""

import hmac
import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any

from nightcrew.clock import instant
from nightcrew.erased import Closed, Erasure, State
from nightcrew.erasures.look import Part
from nightcrew.errors import ConfigurationError
from nightcrew.settings import ERASURE_KEY

_VERSION = 1


def write(
    secret: str, erasure: Erasure, parts: Sequence[Part], problems: Sequence[str], place: tuple[int, str, datetime]
) -> Closed:
    """Write the receipt of an erasure at its place: its number, the digest of the one before, the time it ended."""
    number, before, now = place
    state = State.INCOMPLETE if problems else State.COMPLETE
    said = {
        "version": _VERSION,
        "number": number,
        "erasure": erasure.id,
        "job": erasure.job,
        "table": erasure.table,
        "subject": erasure.subject,
        "by": erasure.by,
        "requestedAt": instant(erasure.requested_at),
        "finishedAt": instant(now),
        "result": str(state),
        "problems": list(problems),
        "parts": [part.json() for part in parts],
        "previous": before,
    }
    text = json.dumps(said, sort_keys=True)
    return Closed(state, text, sealed(secret, text))


def sealed(secret: str, text: str) -> str:
    """Return the digest that only who has the secret can make of a receipt."""
    return hmac.new(secret.encode(), text.encode(), sha256).hexdigest()


def check_key(secret: str, receipts: Sequence[Erasure]) -> None:
    """Raise ConfigurationError where none of some receipts was sealed with this key: it would know nobody again."""
    if receipts and not any(_is_whole(secret, each) for each in receipts):
        raise ConfigurationError(
            f"{ERASURE_KEY} is not the key that the receipts were written with, by which erased subjects are known:"
            " set that one"
        )


def read(erasure: Erasure) -> dict[str, Any]:
    """Return what a receipt says."""
    said: dict[str, Any] = json.loads(erasure.receipt or "{}")
    return said | {"digest": erasure.digest}


def faults(secret: str, receipts: Iterable[Erasure]) -> Iterator[str]:
    """Say which receipts, in the order of their numbers, are not those that were written, or are missing."""
    before, number = "", 0
    for each in receipts:
        if each.number != number + 1:
            yield f"receipt {number + 1} is missing: the next one is {each.number}"
        said = read(each)
        if not _is_whole(secret, each):
            yield f"receipt {each.number} was changed, or written with another NIGHTCREW_ERASURE_KEY"
        elif said["previous"] != before and each.number == number + 1:
            yield f"receipt {each.number} does not follow the one before it: that one was changed"
        elif (said["number"], said["subject"], said["result"]) != (each.number, each.subject, _result(each)):
            yield f"receipt {each.number} is not the one that belongs in its place"
        before, number = each.digest or "", each.number or 0


def unlike(here: Iterable[Erasure], there: Iterable[Erasure], place: str) -> Iterator[str]:
    """Say which receipts, of two lists in the order of their numbers, the database or a place alone has."""
    ours = {one.number or 0: one.digest for one in here}
    theirs = {one.number or 0: one.digest for one in there}
    for number in sorted({*ours, *theirs}):
        if number not in theirs:
            yield f"receipt {number} is not in {place}: it was removed there, or the next erasure files it"
        elif number not in ours:
            yield f"receipt {number} is in {place} alone: it was removed here, or a backup was put back: erase replay"
        elif ours[number] != theirs[number]:
            yield f"receipt {number} is another one in {place}"


def _is_whole(secret: str, erasure: Erasure) -> bool:
    return sealed(secret, erasure.receipt or "") == erasure.digest


def _result(erasure: Erasure) -> str:
    return str(State.COMPLETE) if erasure.state is State.RESTORED else str(erasure.state)
