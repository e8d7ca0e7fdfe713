"""One subject is erased: announced, its rows and keys removed, looked for once more, and the receipt written.

Each step may be the last one of its process: whoever erases the same subject again goes on with what is left.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

from nightcrew import plan as plans
from nightcrew.database import Database, Form, Selection
from nightcrew.erased import Erasure, Found, State, subject_of
from nightcrew.erasures import keys, look, own, receipt, rows
from nightcrew.erasures.completion import store_of
from nightcrew.erasures.work import Gate, Kit, Work, needed
from nightcrew.errors import SafetyStop, StoreError
from nightcrew.hold import Hold
from nightcrew.policy import Policy

_FILED = 100  # receipts that are looked for in the vault each time


def whole(policy: Policy, database: Database, holds: Sequence[Hold]) -> Selection:
    """Return the rows of a policy's table, whatever their time; what is held, or referred to, stays all the same.

    None of them is to be put back, so that none is archived, and no blob of theirs kept for that.
    """
    rule = replace(policy, where=None, keep_latest=None, per=())
    selection = plans.compile(rule, database.now(), database, holds)
    return replace(selection, form=Form.LOCKED, whenever=True, alone=False, archived=False, grace=timedelta(0))


def begin(kit: Kit, policy: Policy, selection: Selection, key: Sequence[str], job: str, by: str) -> Erasure | None:
    """Return the erasure of a row: the one that is under way, or a new one; None for a row that nobody has ever seen.

    Nothing of it is removed yet. Where the row is gone, an earlier erasure may know what else is to be looked for; or
    it left by a job that owes the rest.
    """
    subject = subject_of(kit.secret, selection.table.name, key)
    before = kit.erasures.of(subject)
    if (under_way := next((one for one in before if one.state is State.OPEN), None)) is not None:
        return under_way
    found = kit.named(selection.table, key, needed(policy, selection, kit.mail))
    owed = len(key) == 1 and bool(kit.debts.owed(store_of(job), list(key)))
    values = _values(selection, key, found, before, owed=owed)
    if values is None:
        return None
    _reach(kit)
    surveyed: dict[str, int] = {}
    if found is not None:
        survey = kit.database.survey(replace(selection, only=found.key))
        loosened = {f"{each.table}.{', '.join(each.columns)}": rows for each, rows in survey.loosened.items()}
        surveyed = {**survey.counts, **loosened} if survey.exact else {}
    erasure = Erasure(
        id=f"erasure-{kit.clock.token()}",
        job=job,
        table=selection.table.name,
        subject=subject,
        by=by,
        requested_at=kit.database.now(),
        facts={"values": values, "found": surveyed},
    )
    kit.erasures.open(erasure)
    return erasure


def _values(
    selection: Selection, key: Sequence[str], found: Found | None, before: Sequence[Erasure], *, owed: bool
) -> Mapping[str, str | None] | None:
    if found is not None:
        return found.values
    known = next((one.facts["values"] for one in before if "values" in one.facts), None)
    return known or (dict(zip(selection.table.primary_key, key, strict=True)) if before or owed else None)


def _reach(kit: Kit) -> None:
    """See to it that the vault can be written to, and has no receipts of a time that the database has forgotten."""
    if kit.vault is None:
        return
    last = kit.erasures.last()
    number = last.number if last and last.number else 0
    if kit.vault.ahead(number):
        raise SafetyStop(
            f"{kit.vault.place} has receipts of erasures that the database does not know: it was put back to a time"
            " before them; erase those subjects again first, with 'nightcrew erase replay'"
        )
    kit.vault.file(kit.erasures.receipts(max(0, number - _FILED), _FILED))


def work_of(kit: Kit, policy: Policy, selection: Selection, erasure: Erasure, gate: Gate) -> Work:
    """Return the work that an erasure is; where the row is gone, it is about what else is kept of it."""
    values = erasure.facts["values"]
    key = [values[name] for name in selection.table.primary_key]
    found = kit.subjects.find(selection.table, key, ())
    narrowed = replace(selection, only=found.key if found else tuple(key), run=erasure.id)
    runs = (erasure.id, *(one.id for one in kit.erasures.of(erasure.subject) if one.state is State.INCOMPLETE))
    return Work(kit, policy, narrowed, erasure, values, gate, runs)


def erase(work: Work) -> Erasure:
    """Do all of it, from wherever somebody broke off; return the erasure, closed.

    Raises rows.Kept where the row is to stay, so that there is none. Raises rows.Stopped where the gate ends it
    before, StoreError where the vault cannot be written to, and DatabaseError for what is of no row: then it stays
    open.
    """
    kit, erasure = work.kit, work.erasure
    _announce(work)
    try:
        problems = rows.remove(work)
    except rows.Kept:
        if kit.vault is not None:
            kit.vault.withdraw(erasure)
        kit.erasures.drop(erasure)
        raise
    problems += keys.settle(work)
    problems += keys.follow(work)
    own.forget(work)
    parts = list(look.parts(work, kit.erasures.facts(erasure.id)))
    problems += look.problems(parts)
    told = list(dict.fromkeys(own.nameless(work, problem) for problem in problems))
    closed = kit.erasures.close(
        erasure, lambda number, before, now: receipt.write(kit.secret, erasure, parts, told, (number, before, now))
    )
    if kit.vault is not None:
        kit.vault.file([closed])
    return closed


def _announce(work: Work) -> None:
    """Write outside of the database whom it is to forget; where that cannot be, nothing is begun."""
    kit, erasure = work.kit, work.erasure
    try:
        if kit.vault is not None:
            kit.vault.announce(erasure)
    except StoreError:
        if "tally" not in kit.erasures.facts(erasure.id):
            kit.erasures.drop(erasure)
        raise
