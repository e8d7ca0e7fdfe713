"""Mails that an application has scheduled by itself: taken over when they are due, and told how they ended."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from nightcrew.databases.catalog import describe, source
from nightcrew.databases.connect import Link
from nightcrew.databases.enrolments import LONGEST_PERSON
from nightcrew.databases.tables import mails
from nightcrew.databases.times import raw
from nightcrew.errors import PolicyError, nearest
from nightcrew.mail import ScheduledEmails
from nightcrew.scheduled import Scheduled, key_of
from nightcrew.sent import State

_TOLD = (State.SENT, State.MAYBE_SENT)
_ENDED = tuple(set(State) - {State.WAITING, State.SENDING})


class Adoptions:
    """The `Adopted` of one database."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def take(self, table: ScheduledEmails, steps: Collection[str], most: int) -> int:
        """Lock some of their rows, so that nobody else takes them, and let a row of ours stand for each."""
        with self._link.transaction() as connection:
            rows, open_ = self._open(connection, table)
            kind = describe(connection, self._link.dialect, table.table).columns[table.due]
            now = connection.execute(sa.select(self._link.clock_reading())).scalar_one()
            reading = self._link.dialect.reading(connection, rows, kind, now)
            person = self._link.dialect.letters(rows.c[table.person]).label("nightcrew_person")
            ours = self._ours(table, rows).is_(None)
            due = sa.select(person, rows.c[table.step], reading.mark(rows.c[table.due])).where(open_, reading.expired)
            due = due.where(rows.c[table.person].is_not(None), rows.c[table.step].in_(steps), ours)
            due = due.order_by(rows.c[table.due]).limit(most)
            found = connection.execute(due.with_for_update(skip_locked=True, of=rows)).all()
            known = [
                (who, step, datetime.fromisoformat(reading.spell(mark)))
                for who, step, mark in found
                if len(who.encode()) <= LONGEST_PERSON
            ]
            self._adopt(connection, table.sequence, known)
            return len(known)

    @staticmethod
    def _ours(table: ScheduledEmails, rows: Any) -> sa.ScalarSelect[int]:
        """Compose which mail stands for a row, looked up for each: figures of before there was any mislead a join.

        A text in another order than the index has would not be found by it.
        """
        person = sa.cast(rows.c[table.person], sa.Text)
        this = sa.select(mails.c.id).where(mails.c.person == person, mails.c.sequence == table.sequence)
        this = this.where(
            mails.c.step == rows.c[table.step], sa.func.coalesce(mails.c.adopted, sa.false()) == sa.true()
        )
        return this.correlate(rows).scalar_subquery()

    def _adopt(self, connection: sa.Connection, sequence: str, found: Sequence[tuple[str, str, datetime]]) -> None:
        """Let a mail that is there already be the one that is meant, and two of theirs be one."""
        who = {person for person, _, _ in found}
        there = sa.select(mails.c.id, mails.c.person, mails.c.step)
        there = there.where(mails.c.person.in_(who), mails.c.sequence == sequence)
        known = {(row.person, row.step): row.id for row in connection.execute(there)}
        meant = [known[person, step] for person, step, _ in found if (person, step) in known]
        if meant:
            connection.execute(sa.update(mails).where(mails.c.id.in_(meant)).values(adopted=True))
        fresh: dict[tuple[str, str], dict[str, Any]] = {}
        for person, step, due in found:
            whose = {"person": person, "sequence": sequence, "step": step, "names": step}
            whose |= {"key": key_of(sequence, step, person, due), "state": str(State.WAITING)}
            fresh.setdefault((person, step), whose | {"planned_at": due, "due_at": due, "attempts": 0, "adopted": True})
        if added := [row for name, row in fresh.items() if name not in known]:
            connection.execute(sa.insert(mails), added)

    def gone(self, table: ScheduledEmails, some: Sequence[Scheduled]) -> set[int]:
        """Look for the rows of theirs that are still open."""
        with self._link.transaction(writes=False) as connection:
            rows, open_ = self._open(connection, table)
            person = self._link.dialect.letters(rows.c[table.person])
            mine = sa.select(mails.c.id).where(mails.c.id.in_([mail.id for mail in some]), mails.c.adopted == sa.true())
            adopted = set(connection.execute(mine).scalars())
            theirs = sa.select(person, rows.c[table.step]).where(
                open_, rows.c[table.person].in_([raw(mail.person) for mail in some if mail.id in adopted])
            )
            left = {tuple(row) for row in connection.execute(theirs)} if adopted else set()
        return {mail.id for mail in some if mail.id in adopted and (mail.person, mail.step) not in left}

    def tell(self, table: ScheduledEmails, most: int) -> int:
        """Write into their rows what came of them, and forget that it was to be written, in one transaction."""
        ended = sa.select(mails).where(mails.c.adopted == sa.true(), mails.c.state.in_(_ENDED)).limit(most)
        with self._link.transaction() as connection:
            found = connection.execute(ended.with_for_update(skip_locked=True)).all()
            if not found:
                return 0
            rows, open_ = self._open(connection, table)
            for row in found:
                these = rows.c[table.person] == raw(row.person), rows.c[table.step] == raw(row.step), open_
                left = State(row.state) in _TOLD
                said: dict[str, Any] = {table.sent: sa.true()} if left else {table.cancelled: sa.true()}
                if left and table.sent_at is not None:
                    said[table.sent_at] = self._link.moment
                connection.execute(sa.update(rows).where(*these).values(said))
            done = sa.update(mails).where(mails.c.id.in_([row.id for row in found]))
            connection.execute(done.values(adopted=False))
        return len(found)

    def unknown(self, table: ScheduledEmails, steps: Collection[str]) -> int:
        """Count their open rows of other steps."""
        with self._link.transaction(writes=False) as connection:
            rows, open_ = self._open(connection, table)
            others = sa.select(sa.func.count()).select_from(rows).where(open_, rows.c[table.step].not_in(steps))
            return int(connection.execute(others).scalar_one())

    def _open(self, connection: sa.Connection, table: ScheduledEmails) -> tuple[Any, sa.ColumnElement[bool]]:
        known = describe(connection, self._link.dialect, table.table)
        for name in table.columns:
            if name not in known.columns:
                raise PolicyError(f"table {known.name!r} has no column {name!r}{nearest(name, known.columns)}")
        rows = source(known.name, table.columns)
        sent, cancelled = rows.c[table.sent], rows.c[table.cancelled]
        return rows, sa.and_(*(sa.or_(one.is_(None), one == sa.false()) for one in (sent, cancelled)))
