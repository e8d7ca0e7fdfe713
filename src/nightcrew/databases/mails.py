"""The table of the mails that people are due: claimed a batch at a time, and written down before one is handed over."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql.dml import ReturningUpdate

from nightcrew.databases.connect import Link, storable
from nightcrew.databases.tables import enrolments, mails, suppressions
from nightcrew.mail import LEASE
from nightcrew.scheduled import Closed, Going, Scheduled
from nightcrew.sent import State
from nightcrew.sequence import AGAIN, DAY, End, Wait
from nightcrew.suppression import EVERYTHING, LONGEST, compared

_LONGEST_REASON = 500
_MOST = 2**63  # what a number of ours stays below
_DIED = "whoever sent it died, or was stopped, as it was handed over"
_ONE = mails.c.id == sa.bindparam("mail")
_WHO, _WHERE = sa.literal("p:") + mails.c.person, sa.literal("a:") + mails.c.address
_OF_IT = suppressions.c.topic.in_([EVERYTHING, mails.c.sequence])
_SILENT = sa.and_(suppressions.c.subject.in_([_WHO, _WHERE]), _OF_IT)
"""Whether a suppression is one of a mail: of its person, or of its address."""


def _is(*states: State) -> sa.ColumnElement[bool]:
    """Compose a test of mails that are found by what else is said of them.

    The index of states must not be taken for it: a planner whose figures are from when no mail waited thinks that it is
    the quickest way to one of them, and goes through all that wait, for each.
    """
    return sa.or_(*(sa.func.coalesce(mails.c.state, "") == state for state in states))


def _these(*states: State) -> list[sa.ColumnElement[bool]]:
    """Compose which mails are meant that are in somebody's hands: those of some IDs, of a token and a state."""
    ids: sa.BindParameter[Any] = sa.bindparam("ids", expanding=True)
    return [mails.c.id.in_(ids), mails.c.claim == sa.bindparam("token"), _is(*states)]


def _wanted() -> list[sa.ColumnElement[bool]]:
    """Compose that no suppression is of a mail, each subject by itself: MariaDB looks two up by reading all."""
    return [
        ~sa.exists().where(suppressions.c.subject == subject, _OF_IT).correlate(mails) for subject in (_WHO, _WHERE)
    ]


def _once(moment: sa.ColumnElement[datetime]) -> sa.ScalarSelect[datetime]:
    """Read the clock once for all rows: where it is read for each of them, no index tells which come before it."""
    return sa.select(moment).scalar_subquery()


def _begun(link: Link) -> sa.Update | ReturningUpdate[int]:
    """Let mails go that nobody wants to be kept back; where the database has it, say which."""
    begun = sa.update(mails).where(*_these(State.WAITING), *_wanted())
    held = {"due_at": link.later(LEASE.total_seconds()), "sent_at": sa.func.coalesce(mails.c.sent_at, link.moment)}
    begun = begun.values(state=State.SENDING, **held)
    return begun.returning(mails.c.id) if link.dialect.returning else begun


def _going(_link: Link) -> sa.Select[int]:
    return sa.select(mails.c.id).where(*_these(State.SENDING))


def _back(link: Link) -> sa.Update:
    return sa.update(mails).where(*_these(State.WAITING)).values(due_at=link.moment, claim=None)


def _handed_over() -> sa.Update:
    return sa.update(mails).where(*_these(State.SENDING, State.MAYBE_SENT))


def _sent(_link: Link) -> sa.Update:
    ended = {"state": State.SENT, "reason": None, "due_at": None, "claim": None}
    return _handed_over().values(attempts=mails.c.attempts + 1, **ended)


class Post:
    """The `Mails` of one database."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def now(self) -> datetime:
        """Ask the database."""
        return self._link.now()

    def claim(self, sequences: Collection[str], most: int, token: str) -> list[Scheduled]:
        """Let a claim be the time that a mail is next looked at: who dies with it need not give it back."""
        due = sa.select(mails).where(
            mails.c.state == State.WAITING, mails.c.due_at <= _once(self._link.moment), mails.c.sequence.in_(sequences)
        )
        due = due.order_by(mails.c.due_at, mails.c.id).limit(most).with_for_update(skip_locked=True)
        with self._link.transaction() as connection:
            found = [_scheduled(row) for row in connection.execute(due)]
            if found:
                mine = sa.update(mails).where(mails.c.id.in_([mail.id for mail in found]))
                connection.execute(mine.values(claim=token, due_at=self._link.later(LEASE.total_seconds())))
        return found

    def recent(self, people: Collection[str], token: str) -> dict[str, list[datetime]]:
        """Count what others are about to send, too."""
        now = self._link.moment
        others = sa.and_(_is(State.WAITING), mails.c.claim.is_not(None), mails.c.claim != token)
        ours = sa.and_(_is(State.WAITING), mails.c.claim == token)  # of which some have perhaps been sent before
        busy = sa.or_(
            sa.and_(mails.c.sent_at > self._link.later(-DAY.total_seconds()), ~ours),
            sa.and_(others, mails.c.due_at > now),
        )
        held = self._link.later((AGAIN - DAY).total_seconds())  # what they have not begun with is soon known
        at = sa.func.coalesce(mails.c.sent_at, held, type_=mails.c.sent_at.type).label("at")
        theirs = sa.select(mails.c.person, at).where(mails.c.person.in_(people), busy).order_by(at)
        found: dict[str, list[datetime]] = defaultdict(list)
        with self._link.transaction(writes=False) as connection:
            for row in connection.execute(theirs):
                found[row.person].append(row.at)
        return found

    def decide(self, verdicts: Iterable[tuple[Scheduled, Wait | End]], token: str) -> None:
        """Change what is still ours; where a sequence has ended for a person, all of it."""
        waits, ends, over = list[dict[str, Any]](), list[dict[str, Any]](), list[dict[str, Any]]()
        for mail, verdict in verdicts:
            told = {"mail": mail.id, "why": storable(verdict.reason, _LONGEST_REASON)}
            if isinstance(verdict, Wait):
                waits.append(told | {"until": verdict.until})
                continue
            ends.append(told | {"how": str(verdict.state)})
            if verdict.whole:
                over.append({"whose": mail.person, "what": mail.sequence, "why": told["why"]})
        mine = sa.update(mails).where(_ONE, mails.c.claim == token, _is(State.WAITING))
        why: sa.BindParameter[str] = sa.bindparam("why")
        gone = {"due_at": None, "claim": None}
        whose = {"whose": mails.c.person, "what": mails.c.sequence}
        theirs = [column == sa.bindparam(name) for name, column in whose.items()]
        enrolled = [enrolments.c.person == sa.bindparam("whose"), enrolments.c.sequence == sa.bindparam("what")]
        with self._link.transaction() as connection:
            if over:
                ended = sa.update(enrolments).where(*enrolled, enrolments.c.ended_at.is_(None))
                connection.execute(ended.values(ended_at=self._link.moment, reason=why), over)
            if waits:
                connection.execute(mine.values(due_at=sa.bindparam("until"), reason=why, claim=None), waits)
            if ends:
                connection.execute(mine.values(state=sa.bindparam("how"), reason=why, **gone), ends)
            if over:
                rest = sa.update(mails).where(*theirs, _is(State.WAITING))
                connection.execute(rest.values(state=State.CANCELLED, reason=why, **gone), over)

    def address(self, going: Iterable[Going], token: str) -> None:
        """Write addresses as they are compared."""
        rows = [
            {"mail": one.mail.id, "to": storable(compared(one.address), LONGEST), "variant": one.arm} for one in going
        ]
        mine = _ONE, mails.c.claim == token, _is(State.WAITING)
        there = sa.update(mails).where(*mine).values(address=sa.bindparam("to"), arm=sa.bindparam("variant"))
        if rows:
            with self._link.transaction() as connection:
                connection.execute(there, rows)

    def silent(self, ids: Collection[int]) -> dict[int, str]:
        """Let what somebody said of all mail stand for what they said of a sequence."""
        why = sa.select(mails.c.id, suppressions.c.reason).join(suppressions, _SILENT)
        with self._link.transaction(writes=False) as connection:
            rows = connection.execute(why.where(mails.c.id.in_(ids)).order_by(suppressions.c.topic.desc()))
            return {row.id: row.reason for row in rows}

    def turn(self, closed: Sequence[Closed], going: Collection[int], token: str) -> Collection[int]:
        """Look at the suppressions in the very statement that lets a mail go."""
        with self._link.transaction() as connection:
            self._close(connection, closed, token)
            if not going:
                return ()
            these = {"ids": list(going), "token": token}
            begun = connection.execute(self._link.kept(_begun), these)
            may = set(begun.scalars()) if self._link.dialect.returning else set[int]()
            if len(may) < len(going):  # one that we let go when the connection was lost is let go
                may.update(connection.execute(self._link.kept(_going), these).scalars())
            if len(may) < len(going):
                connection.execute(self._link.kept(_back), these)
        return may

    def _close(self, connection: sa.Connection, closed: Sequence[Closed], token: str) -> None:
        """Write what came of them, also of one that was taken for uncertain meanwhile: now it is known."""
        alike: dict[tuple[State, str, timedelta | None, bool, bool], list[int]] = defaultdict(list)
        for one in closed:
            alike[one.state, one.reason, one.wait, one.counts, one.perhaps].append(one.mail.id)
        for (state, reason, wait, counts, perhaps), ids in alike.items():
            if state is State.SENT:
                connection.execute(self._link.kept(_sent), {"ids": ids, "token": token})
                continue
            said: dict[str, Any] = {
                "state": state,
                "reason": storable(reason, _LONGEST_REASON) or None,
                "attempts": mails.c.attempts + (1 if counts else 0),
                "due_at": None if wait is None else self._link.later(wait.total_seconds()),
                "claim": None,
            }
            if state is not State.MAYBE_SENT and not perhaps:
                said["sent_at"] = None
            connection.execute(_handed_over().values(**said), {"ids": ids, "token": token})

    def give_back(self, mails_: Iterable[Scheduled], token: str) -> None:
        """Let them be due when they were."""
        if given := [{"mail": mail.id, "when": mail.due} for mail in mails_]:
            mine = _ONE, mails.c.claim == token, _is(State.WAITING)
            back = sa.update(mails).where(*mine).values(due_at=sa.bindparam("when"), claim=None)
            with self._link.transaction() as connection:
                connection.execute(back, given)

    def abandoned(self, known: timedelta | None) -> tuple[int, int]:
        """Keep the claim of what is perhaps sent, for whoever only was slow may say how it ended."""
        lost = sa.update(mails).where(mails.c.state == State.SENDING, mails.c.due_at <= _once(self._link.moment))
        end = lost.values(state=State.MAYBE_SENT, reason=_DIED, due_at=None)
        young = lost if known is None else lost.where(mails.c.sent_at > self._link.later(-known.total_seconds()))
        again = young.values(state=State.WAITING, reason=_DIED, due_at=self._link.moment, claim=None)
        if known is None:
            again = again.values(sent_at=None)
        with self._link.transaction() as connection:
            waiting = connection.execute(again).rowcount if known != timedelta(0) else 0
            return waiting, connection.execute(end).rowcount

    def left(self, within: timedelta) -> int:
        """Count by when they were handed over."""
        since = _once(self._link.later(-within.total_seconds()))
        with self._link.transaction(writes=False) as connection:
            return int(connection.execute(sa.select(sa.func.count()).where(mails.c.sent_at > since)).scalar_one())

    def listed(self, states: Collection[State], most: int, *, due: bool = False) -> list[Scheduled]:
        """Read some."""
        some = sa.select(mails).where(mails.c.state.in_(states))
        some = some.order_by(mails.c.id.desc())
        if due:
            some = sa.select(mails).where(mails.c.state.in_(states), mails.c.due_at <= _once(self._link.moment))
            some = some.order_by(mails.c.due_at, mails.c.id)
        with self._link.transaction(writes=False) as connection:
            return [_scheduled(row) for row in connection.execute(some.limit(most))]

    def counts(self) -> Mapping[tuple[str, str, State], int]:
        """Count them all."""
        groups = mails.c.sequence, mails.c.step, mails.c.state
        with self._link.transaction(writes=False) as connection:
            rows = connection.execute(sa.select(*groups, sa.func.count()).group_by(*groups)).all()
        return {(row[0], row[1], State(row[2])): int(row[3]) for row in rows}

    def waiting(self) -> tuple[int, datetime | None]:
        """Count those that are due."""
        due = mails.c.state == State.WAITING, mails.c.due_at <= _once(self._link.moment)
        with self._link.transaction(writes=False) as connection:
            row = connection.execute(sa.select(sa.func.count(), sa.func.min(mails.c.due_at)).where(*due)).one()
        return int(row[0]), row[1]

    def retry(self, states: Collection[State], ids: Collection[int] | None = None) -> int:
        """Let them be planned for now, or they would have come too late."""
        over = sa.exists().where(
            enrolments.c.person == mails.c.person,
            enrolments.c.sequence == mails.c.sequence,
            enrolments.c.ended_at.is_not(None),
        )
        again = sa.update(mails).where(mails.c.state.in_(states), ~over.correlate(mails))
        if ids is not None:
            again = again.where(mails.c.id.in_([one for one in ids if 0 < one < _MOST]))
        fresh = {"state": State.WAITING, "reason": "retried by hand", "attempts": 0, "claim": None, "sent_at": None}
        with self._link.transaction() as connection:
            now = self._link.moment
            return connection.execute(again.values(planned_at=now, due_at=now, **fresh)).rowcount


def _scheduled(row: Any) -> Scheduled:
    return Scheduled(
        id=row.id,
        key=row.key,
        sequence=row.sequence,
        step=row.step,
        person=row.person,
        planned=row.planned_at,
        due=row.due_at,
        state=State(row.state),
        attempts=row.attempts,
        reason=row.reason or "",
        arm=row.arm,
        address=row.address,
        sent=row.sent_at,
    )
