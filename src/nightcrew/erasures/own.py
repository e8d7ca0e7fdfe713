"""What nightcrew itself keeps of a subject: keys that earlier runs owe, what the ledger says of the row, their mails.

Whoever keeps something more of a person (copies of rows) adds what forgets it to FORGETTING.
"""

import re
from collections.abc import Callable, Mapping

from nightcrew.erasures.completion import store_of
from nightcrew.erasures.work import Work
from nightcrew.report import one_line

_ERASED = "(erased)"


def forget(work: Work) -> None:
    """Take the subject out of whatever nightcrew keeps."""
    for name, act in FORGETTING.items():
        if forgotten := act(work):
            work.count(f"own {name}", removed=forgotten)


def _ledger(work: Work) -> int:
    """Take the row's key, and its keys in stores, out of the ledger's entries."""
    words = ", ".join(f"{name} {value}" for name, value in zip(work.selection.table.primary_key, work.key, strict=True))
    traced = [(trace.store, trace.finds(values)) for trace in work.policy.traces if (values := work.named(trace))]

    def named(store: str, key: str) -> bool:
        return any(store == name and pattern.fullmatch(key) for name, pattern in traced)

    return work.kit.erasures.scrub(work.selection.table.name, words, named)


def _owed(work: Work) -> int:
    """Forget that the rest of this erasure is owed."""
    key, debts = work.key, work.kit.debts
    if len(key) != 1:
        return 0
    found = debts.alike(store_of(work.erasure.job), key[0], key[0].__eq__)
    debts.settle(found)
    return len(found)


def _mails(work: Work) -> int:
    """Forget what they were sent and are due, and that they wanted no more of it."""
    mail = work.kit.mail
    person = mail.of(work.selection.table, work.values) if mail else None
    return mail.enrolments.forget(person) if mail and person else 0


FORGETTING: Mapping[str, Callable[[Work], int]] = {"ledger": _ledger, "outbox": _owed, "mails": _mails}
"""What forgets a subject, by the name that its receipt has for it; each says how many things it has forgotten."""


def nameless(work: Work, sentence: str) -> str:
    """Return a sentence without the subject's values: what a store or a database says may quote them."""
    for value in sorted((value for value in work.values.values() if value), key=len, reverse=True):
        if len(value) > 3 or not value.isdigit():  # that a small number is in a sentence says nothing of anybody
            sentence = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", _ERASED, sentence)
    return one_line(sentence)
