"""Enrolment: a person in a sequence, which mails they are due of it, and the shape of the table that keeps that."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from nightcrew.sent import State
from nightcrew.sequence import Sequence, Step

REMOVED = "its step was removed"
_LONGEST_WAIT = timedelta(days=8)  # that hours and days of the week may keep a mail from leaving


@dataclass(frozen=True, slots=True)
class Planned:
    """A mail of a person as planning sees it: its step, when it was due at first, and how it stands.

    `names` are all that its step is, or was, called.
    """

    id: int
    step: str
    planned: datetime
    state: State
    reason: str = ""
    names: frozenset[str] = frozenset()

    @property
    def removed(self) -> bool:
        """Whether it has ended for nothing but that its step was removed."""
        return self.state is State.CANCELLED and self.reason == REMOVED


@dataclass(frozen=True, slots=True)
class Changes:
    """What makes a person's mails those of the steps: mails to `add`, to `move` in time, to `cancel`, to `rename`.

    By ID, but for those that are added, which are told by their step. `names` are all of those that are renamed.
    """

    add: Mapping[str, datetime] = field(default_factory=dict)
    move: Mapping[int, datetime] = field(default_factory=dict)
    cancel: tuple[int, ...] = ()
    rename: Mapping[int, str] = field(default_factory=dict)
    names: Mapping[int, frozenset[str]] = field(default_factory=dict)


def changes(
    sequence: Sequence, since: datetime, now: datetime, mails: Mapping[str, Planned], *, first: bool
) -> Changes:
    """Compare the mails that a person has, by step, with the steps that there are.

    A mail that has ended stays as it ended, but for one whose step was removed and is back. A step that is new to
    somebody who was enrolled before it came is only due where it would not be late; the `first` time all are, so that
    what could not leave is seen.

    A mail is known by all the names of its step, also by those that only another version of the application knows:
    while two of them run side by side, or one goes back to the former, a step that was renamed stays the same.
    """
    add: dict[str, datetime] = {}
    move: dict[int, datetime] = {}
    rename: dict[int, str] = {}
    names: dict[int, frozenset[str]] = {}
    left = dict(mails)
    for step in sequence.steps:
        due = since + step.after
        mail, former = left.pop(step.name, None), _former(sequence, step, left)
        if mail is None and former is not None:
            mail = left.pop(former.step)
        if mail is None:
            if first or now <= due + step.within + _LONGEST_WAIT:
                add[step.name] = due
            continue
        if mail.step != step.name:
            rename[mail.id], names[mail.id] = step.name, mail.names | step.names | {mail.step}
        if mail is not former and former is not None and former.state is not State.WAITING and not former.removed:
            left[mail.step] = mail  # it has had its end under another name
        elif mail.removed or (mail.state is State.WAITING and _moves(mail.planned, due, now)):
            move[mail.id] = due
    gone = tuple(mail.id for mail in left.values() if mail.state is State.WAITING)
    return Changes(add, move, gone, rename, names)


def _moves(planned: datetime, due: datetime, now: datetime) -> bool:
    """Say whether a mail that waits comes at another time: one that is due stays so, and is no later for it.

    So one that somebody let be tried again, long after its time, does not turn out to be too late.
    """
    return planned != due and not due < planned <= now


def _former(sequence: Sequence, step: Step, mails: Mapping[str, Planned]) -> Planned | None:
    """Return the mail that has the step under another name, of several one that is more than removed."""
    some = [
        mail for mail in mails.values() if sequence.step(mail.step) is None and step.names & {mail.step, *mail.names}
    ]
    return min(some, key=lambda mail: (mail.removed, mail.state is State.WAITING), default=None)


class Enrolments(Protocol):
    """The table of people who are enrolled."""

    def enroll(self, connection: object, sequence: str, person: str, since: datetime | None) -> None:
        """Enrol a person, in a transaction of the application's own; who is, or was, enrolled stays as they are.

        `since` (aware) is when their time began, by default the database's moment. Raises UsageError for what is no
        connection to this database, and for one that is in no transaction.
        """

    def cancel(self, connection: object, sequence: str | None, person: str, reason: str) -> None:
        """End a sequence, or all, for a person, in a transaction of the application's own."""

    def forget(self, person: str) -> int:
        """Remove whatever is kept of a person: what they were enrolled in, their mails, and what they wanted none of.

        Return how many rows that were. An address that nothing is sent to stays so.
        """

    def plan(self, sequence: Sequence, most: int) -> int:
        """Give some of those who have the mails of other steps, or none yet, those of these; return how many people."""

    def fresh(self, sequences: Collection[str]) -> int:
        """Count those who are enrolled in some sequences and have never been given the mails of any steps."""

    def people(self, sequence: str) -> int:
        """Count those who are enrolled, and whose sequence has not ended."""
