"""The table of people who are enrolled: written in the application's transaction, planned by whoever sends mail."""

from collections import defaultdict
from collections.abc import Collection
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from nightcrew.databases.connect import Link, storable
from nightcrew.databases.guests import Guest
from nightcrew.databases.names import quoted
from nightcrew.databases.tables import enrolments, mails, suppressions
from nightcrew.enrolment import REMOVED, Changes, Planned, changes
from nightcrew.errors import UsageError
from nightcrew.scheduled import key_of
from nightcrew.sent import State
from nightcrew.sequence import Sequence
from nightcrew.suppression import Subject

LONGEST_PERSON = 150
_LONGEST_REASON = 500


class Enrolled:
    """The `Enrolments` of one database."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def enroll(self, connection: object, sequence: str, person: str, since: datetime | None) -> None:
        """Write one row, in the driver's words."""
        dialect, guest = self._link.dialect, Guest.of(self._link, connection, "sign-up")
        begun = None if since is None else dialect.bid_instant(since)
        columns = ", ".join(quoted(name, dialect.quote) for name in ("sequence", "person", "since", "steps"))
        at = dialect.now if begun is None else guest.mark
        there = dialect.unless_there.format(column="person")
        guest.write(
            f"INSERT INTO {enrolments.name} ({columns}) VALUES ({guest.mark}, {guest.mark}, {at}, '') {there}",
            [(sequence, _checked(person), *([] if begun is None else [begun]))],
        )

    def cancel(self, connection: object, sequence: str | None, person: str, reason: str) -> None:
        """End the enrolment first, whose row whoever plans its mails holds."""
        dialect, guest = self._link.dialect, Guest.of(self._link, connection, "cancellation")
        whose, values = f"person = {guest.mark}", [_checked(person)]
        if sequence is not None:
            whose, values = f"{whose} AND {quoted('sequence', dialect.quote)} = {guest.mark}", [*values, sequence]
        row = (storable(reason, _LONGEST_REASON), *values)
        guest.write(
            f"UPDATE {enrolments.name} SET ended_at = {dialect.now}, reason = {guest.mark}"
            f" WHERE {whose} AND ended_at IS NULL",
            [row],
        )
        guest.write(
            f"UPDATE {mails.name} SET state = '{State.CANCELLED}', reason = {guest.mark}, due_at = NULL, claim = NULL"
            f" WHERE {whose} AND COALESCE(state, '') = '{State.WAITING}'",  # found by the person, not by the state
            [row],
        )

    def forget(self, person: str) -> int:
        """Remove their rows from the three tables; whoever has a mail of theirs in hand finds nothing to write."""
        theirs = {enrolments: enrolments.c.person == person, mails: mails.c.person == person}
        theirs[suppressions] = suppressions.c.subject == Subject(person=person).text
        with self._link.transaction() as connection:
            return sum(connection.execute(sa.delete(table).where(these)).rowcount for table, these in theirs.items())

    def plan(self, sequence: Sequence, most: int) -> int:
        """Hold the rows of some people, and make their mails those of the steps."""
        other = sa.or_(enrolments.c.steps < sequence.fingerprint, enrolments.c.steps > sequence.fingerprint)
        some = sa.select(enrolments).where(
            enrolments.c.sequence == sequence.name, enrolments.c.ended_at.is_(None), other
        )
        with self._link.transaction() as connection:
            people = connection.execute(some.limit(most).with_for_update(skip_locked=True)).all()
            if not people:
                return 0
            now = connection.execute(sa.select(self._link.clock_reading())).scalar_one()
            known = _mails_of(connection, sequence.name, [row.person for row in people])
            found = {
                row.person: changes(sequence, row.since, now, known[row.person], first=row.steps == "")
                for row in people
            }
            _carry_out(connection, sequence, found)
            done = sa.update(enrolments).where(enrolments.c.id.in_([row.id for row in people]))
            connection.execute(done.values(steps=sequence.fingerprint))
        return len(people)

    def fresh(self, sequences: Collection[str]) -> int:
        """Count the rows that no fingerprint of steps is in yet."""
        new = enrolments.c.sequence.in_(sequences), enrolments.c.ended_at.is_(None), enrolments.c.steps == ""
        with self._link.transaction(writes=False) as connection:
            return int(connection.execute(sa.select(sa.func.count()).where(*new)).scalar_one())

    def people(self, sequence: str) -> int:
        """Count their rows."""
        alive = enrolments.c.sequence == sequence, enrolments.c.ended_at.is_(None)
        with self._link.transaction(writes=False) as connection:
            return int(connection.execute(sa.select(sa.func.count()).where(*alive)).scalar_one())


def _checked(person: str) -> str:
    size = len(person.encode("utf-8", "replace"))
    if not 0 < size <= LONGEST_PERSON or storable(person, LONGEST_PERSON) != person:
        raise UsageError(
            f"person {person[:60]!r} is not a text of 1 to {LONGEST_PERSON} bytes: give their key, as in str(user.id)"
        )
    return person


def _mails_of(connection: sa.Connection, sequence: str, people: list[str]) -> dict[str, dict[str, Planned]]:
    known: dict[str, dict[str, Planned]] = defaultdict(dict)
    columns = mails.c.id, mails.c.person, mails.c.step, mails.c.planned_at, mails.c.state, mails.c.reason, mails.c.names
    theirs = sa.select(*columns).where(mails.c.person.in_(people), mails.c.sequence == sequence)
    for row in connection.execute(theirs):
        names, state = frozenset(row.names.split()), State(row.state)
        known[row.person][row.step] = Planned(row.id, row.step, row.planned_at, state, row.reason or "", names)
    return known


def _carry_out(connection: sa.Connection, sequence: Sequence, found: dict[str, Changes]) -> None:
    """Rename first: what a step is called now may be new to nobody."""
    one = mails.c.id == sa.bindparam("mail")
    renamed = [
        {"mail": number, "name": name, "all": _written(each.names[number])}
        for each in found.values()
        for number, name in each.rename.items()
    ]
    named: dict[str, Any] = {"step": sa.bindparam("name"), "names": sa.bindparam("all")}
    _many(connection, sa.update(mails).where(one).values(**named), renamed)
    gone = [{"mail": number} for each in found.values() for number in each.cancel]
    waiting = one, sa.func.coalesce(mails.c.state, "") == State.WAITING  # found by the ID, not by the state
    ended = {"state": State.CANCELLED, "reason": REMOVED, "due_at": None, "claim": None}
    _many(connection, sa.update(mails).where(*waiting).values(**ended), gone)
    moved = [{"mail": number, "when": due} for each in found.values() for number, due in each.move.items()]
    back: dict[str, Any] = {"state": State.WAITING, "reason": None, "claim": None}
    back |= {"planned_at": sa.bindparam("when"), "due_at": sa.bindparam("when")}
    still = one, sa.or_(mails.c.state == State.WAITING, mails.c.reason == REMOVED)
    _many(connection, sa.update(mails).where(*still).values(**back), moved)
    fresh = [
        _fresh(sequence, step, person, due) for person, each in found.items() for step, due in each.add.items()
    ]  # fmt: skip
    if fresh:
        connection.execute(sa.insert(mails), fresh)


def _fresh(sequence: Sequence, step: str, person: str, due: datetime) -> dict[str, Any]:
    names = [one.names for one in sequence.steps if one.name == step]
    whose = {"sequence": sequence.name, "step": step, "names": _written(*names), "person": person}
    whose["key"] = key_of(sequence.name, step, person, due)
    return whose | {"planned_at": due, "due_at": due, "state": str(State.WAITING), "attempts": 0}


def _written(*names: frozenset[str]) -> str:
    return " ".join(sorted(frozenset().union(*names)))


def _many(connection: sa.Connection, statement: sa.Update, rows: list[dict[str, Any]]) -> None:
    if rows:
        connection.execute(statement, rows)
