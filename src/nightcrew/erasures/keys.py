"""The keys: of what rows named in stores, and of what is named after the row there; removed, and looked for again."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from nightcrew.erasures.work import Work
from nightcrew.errors import ConfigurationError, PolicyError, StoreError
from nightcrew.owing import Trace
from nightcrew.store import Store

_HELD = 300.0  # seconds that a batch of debts is ours
_LATER = timedelta(minutes=1)  # before somebody else tries again what would not go


def settle(work: Work) -> list[str]:
    """Settle what the rows owe, be it from an earlier erasure that was incomplete; return what is wrong."""
    return [problem for name in owed(work) if (problem := _shielded(work, name, _settle)) is not None]


def owed(work: Work) -> Counter[str]:
    """Count by store what erasures of the subject owe now."""
    counts: Counter[str] = Counter()
    with work.kit.database.transaction() as connection:
        for run in work.runs:
            counts.update(work.kit.debts.incurred(connection, run, 0))
    return counts


def follow(work: Work) -> list[str]:
    """Remove the keys that are named after the row; return what is wrong."""
    problems = []
    for trace in work.policy.traces:
        if unknown := [name for name in trace.columns if name not in work.values]:
            problems.append(f"store {trace.store}: {trace} was skipped, for nobody knows {unknown[0]} any more")
            continue
        if (values := work.named(trace)) is None:
            continue
        if column := trace.ambiguous(values):
            problems.append(
                f"store {trace.store}: {trace} was skipped, for its {column} has the sign in it by which it ends there,"
                " and keys of others may begin like that"
            )
        elif problem := _shielded(work, trace.store, lambda one, name, trace=trace: _follow(one, name, trace)):
            problems.append(problem)
    return problems


def part(trace: Trace) -> str:
    """Name a trace's part of the tally."""
    return f"keys {trace.store} {trace.keys}"


def _shielded(work: Work, name: str, act: Any) -> str | None:
    """Do something with a store; say why it cannot be done."""
    try:
        act(work, name)
    except (StoreError, ConfigurationError, PolicyError) as error:
        return f"store {name}: {error}"
    return None


def _settle(work: Work, name: str) -> None:
    for run in work.runs:
        _settle_run(work, name, run)


def _settle_run(work: Work, name: str, run: str) -> None:
    store, debts, last = work.kit.stores[name], work.kit.debts, 0
    while claimed := debts.of_run(run, name, last, store.most, _HELD):
        last = claimed[-1].id
        keys = list(dict.fromkeys(debt.key for debt in claimed))
        try:
            gone = _remove(work, name, keys)
        except BaseException:
            debts.leave(claimed)
            raise
        debts.settle(debt for debt in claimed if debt.key not in gone.left)
        debts.put_off({debt: (_REFUSED, _LATER) for debt in claimed if debt.key in gone.left})
        earlier = run != work.erasure.id
        work.count(f"owed {name}", held=gone.held, found=len(keys) if earlier else 0)


_REFUSED = "it would not go while a subject was erased"


@dataclass(frozen=True, slots=True)
class _Gone:
    """What came of some keys: how many a row still has, and which would not go."""

    held: int
    left: set[str]


def _remove(work: Work, name: str, keys: Sequence[str]) -> _Gone:
    """Remove keys that no row has any more, and look whether they are there all the same."""
    store, columns = work.kit.stores[name], list(work.kit.columns(name))
    kept = work.kit.debts.referred(columns, keys) if columns else set()
    going = [key for key in keys if key not in kept]
    left = {*(store.remove(going) if going else ())}
    if going and hasattr(store, "present"):
        left |= store.present(going)
    return _Gone(len(kept), left)


def _follow(work: Work, name: str, trace: Trace) -> None:
    """Remove what is there, page by page, then what is owed of it since before, be it for later."""
    values, store = work.named(trace) or {}, work.kit.stores[name]
    for keys in pages(store, trace, values):
        gone = _remove(work, name, keys)
        work.count(part(trace), found=len(keys), removed=len(keys) - gone.held - len(gone.left))
        if not hasattr(store, "present") and gone.left:
            work.kit.debts.incur(name, sorted(gone.left))
    finds = trace.finds(values).fullmatch
    for debts in _some(work.kit.debts.alike(name, trace.prefix(values), finds), store.most):
        gone = _remove(work, name, [debt.key for debt in debts])
        work.kit.debts.settle(debt for debt in debts if debt.key not in gone.left)


def _some(things: list[Any], most: int) -> Iterator[list[Any]]:
    return (things[start : start + most] for start in range(0, len(things), most))


def pages(store: Store, trace: Trace, values: dict[str, str]) -> Iterator[list[str]]:
    """Find the keys of a trace in a store, some at a time; raises StoreError for one that cannot be looked through."""
    found: Iterator[list[str]]
    if trace.whole:
        key = trace.prefix(values)
        found = iter([[key]] if not hasattr(store, "present") or store.present([key]) else [])
    elif hasattr(store, "matching"):
        found = _matching(store, trace.glob(values), trace.finds(values))
    elif hasattr(store, "page"):
        found = _listed(store, trace.prefix(values), trace.finds(values))
    else:
        raise StoreError(f"{store.place} cannot be looked through for {trace}: write a pattern without *")
    for keys in found:
        yield from _some(keys, store.most)


def _listed(store: Any, prefix: str, finds: re.Pattern[str]) -> Iterator[list[str]]:
    after: str | None = None
    while True:
        page = store.page(after, prefix=prefix)
        if keys := [blob.key for blob in page.blobs if finds.fullmatch(blob.key)]:
            yield keys
        if not page.blobs:
            return
        after = page.blobs[-1].key


def _matching(store: Any, pattern: str, finds: re.Pattern[str]) -> Iterator[list[str]]:
    place, looked = 0, False
    while place or not looked:
        keys, place = store.matching(pattern, place)
        looked = True
        if some := [key for key in dict.fromkeys(keys) if finds.fullmatch(key)]:
            yield some
