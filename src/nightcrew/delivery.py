"""What people are due is sent: claimed, decided, written down as about to leave, handed over, and closed.

A mail is written down before it is handed over. Whoever dies in between leaves it as one that has perhaps been sent,
and no such mail is handed over again unasked, unless whoever delivers it tells a second one from the first.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from collections.abc import Sequence as Several
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeAlias

from nightcrew.call import Call
from nightcrew.clock import Clock
from nightcrew.enrolment import REMOVED, Enrolments
from nightcrew.errors import ConfigurationError, JobFailed, NightcrewError, UsageError
from nightcrew.handover import Handover, Leaving
from nightcrew.job import Job
from nightcrew.mail import LONGEST_ADDRESS, Mail
from nightcrew.mailer import KNOWN, Letter, Mailer
from nightcrew.report import one_line
from nightcrew.scheduled import Adopted, Closed, Directory, Going, Mails, Reader, Scheduled
from nightcrew.sent import State
from nightcrew.sequence import AGAIN, DAY, NOBODY, End, Look, Person, Send, Step, Wait, decide
from nightcrew.suppression import Suppressions

NAME = "process-scheduled-emails"
PATH = "/api/emails/process-scheduled"
_BATCH = 100  # mails that are claimed and decided together
_PEOPLE = 500  # whose mails are planned together
_ROWS = 2_000  # of the application's own table that are taken over together: all that are open are read for them
_STRANGE = 2 * DAY  # that a mail waits for a version of the application which knows its step
_MANY = 3  # mails to people that are not there, and no other: then it is not they who are wrong
_WHO_IS_IT = (
    "none of the {mails:,} mails is to somebody in the table of people, where {name!r} for one is not: see that its"
    " table and key in [mail.people] are those of the people that were enrolled"
)
_NAMED = 20  # mails that a run cannot send are written down one by one
_UNANSWERED = "It was handed over, and no answer came while it could be asked for."
_TAKEN_BACK = End(State.CANCELLED, "the application has sent it, or taken it back")


Compose: TypeAlias = Callable[[Scheduled, Step, Person, str | None, datetime], Letter]
"""Writes the letter of a mail to a person, in an arm, now.

Raises ConfigurationError where its templates would not, UsageError where what is kept of the person makes none.
"""


@dataclass(frozen=True, slots=True)
class Office:
    """What mail is sent with; `zone` is that of people who have none."""

    mail: Mail
    mails: Mails
    enrolments: Enrolments
    suppressions: Suppressions
    directory: Directory
    adopted: Adopted
    mailer: Mailer
    compose: Compose
    clock: Clock
    zone: str


@dataclass(slots=True)
class Account:
    """What came of the mails of a run: how many by outcome, and the first reason of those that did not leave."""

    counts: Counter[str] = field(default_factory=Counter)
    reasons: dict[str, str] = field(default_factory=dict)
    broken: NightcrewError | None = None
    found: int = 0
    """How many mails are to people that are there."""
    strangers: list[str] = field(default_factory=list)
    """Those that are not, one for each mail that is to them."""

    def add(self, what: str, reason: str = "") -> None:
        """Count a mail."""
        self.counts[what] += 1
        if reason:
            self.reasons.setdefault(what, one_line(reason)[:200])

    def __str__(self) -> str:
        """Say it: “Sent 12 mails; 3 suppressed (unsubscribed), 1 failed (550 no such user)”."""
        sent = self.counts["sent"]
        rest = [
            f"{number:,} {what.replace('_', ' ')}{f' ({why})' if (why := self.reasons.get(what)) else ''}"
            for what, number in self.counts.items()
            if number and what != "sent"
        ]
        said = f"Sent {sent:,} mail{'s' * (sent != 1)}" if sent or rest else "No mail was due"
        return f"{said}; {', '.join(rest)}" if rest else said


def job(mail: Mail, function: Callable[[Call], None], *, enabled: bool) -> Job:
    """Return the job that sends what is due; the seed's route leads to it. What goes wrong is another's fault."""
    return Job(
        NAME,
        mail.schedule,
        function=function,
        label="Scheduled Emails",
        path=PATH,
        pause_after=0,
        enabled=enabled,
        disabled="until CLOUD_DEPLOY is true",
    )


def process(run: Call, office: Office) -> None:
    """Send what is due, until nothing is, or the run should stop.

    Raises JobFailed where mail was due and none was sent, where the mailer is away, or templates would not be written.
    """
    account = Account()
    _plan(run, office)
    _take_over(run, office, account)
    known = KNOWN if office.mailer.idempotent else timedelta(0)
    again, perhaps = office.mails.abandoned(None if office.mail.uncertain == "resend" else known)
    if again or perhaps:
        run.enter("abandoned", again=again, perhaps=perhaps)
        account.counts["maybe_sent"] += perhaps
    round_ = _Round(run, office, account)
    try:
        while not run.should_stop and round_.batch():
            run.checkpoint(None)
    finally:
        round_.close()
        _tell_back(office)
    run.count(account.counts["sent"])
    _tell(run, account)


def _plan(run: Call, office: Office) -> None:
    """Give those who were enrolled the mails of the steps that there are."""
    for sequence in office.mail.sequences:
        people = 0
        while not run.should_stop and (found := office.enrolments.plan(sequence, _PEOPLE)):
            people += found
            run.checkpoint(None)
        if people:
            run.enter("planned", sequence=sequence.name, people=people)


def _take_over(run: Call, office: Office, account: Account) -> None:
    """Take what the application has scheduled by itself, of steps that there are; of others it is told."""
    table = office.mail.scheduled_emails
    if table is None:
        return
    steps = [step.name for step in office.mail.by_name[table.sequence].steps]
    while not run.should_stop and office.adopted.take(table, steps, _ROWS):
        run.checkpoint(None)
    if unknown := office.adopted.unknown(table, steps):
        account.counts["unknown"] = unknown
        account.reasons["unknown"] = f"table {table.table} has them of steps that sequence {table.sequence} has not"


def _tell_back(office: Office) -> None:
    """Write into the application's table what came of its mails; what cannot be written now is by the next run."""
    table = office.mail.scheduled_emails
    while table is not None and office.adopted.tell(table, _BATCH):
        pass


def _tell(run: Call, account: Account) -> None:
    sentence = f"{account}."
    tried = any(account.counts[what] for what in ("failed", "tried_again_later", "maybe_sent", "expired"))
    if account.broken is not None:
        raise JobFailed(f"{sentence.rstrip('.')}; {account.broken}") from account.broken
    if len(account.strangers) >= _MANY and not account.found:
        raise JobFailed(
            f"{sentence.rstrip('.')}; {_WHO_IS_IT.format(name=account.strangers[0][:60], mails=len(account.strangers))}"
        )
    if tried and not account.counts["sent"] and not run.stopped:
        raise JobFailed(f"mail was due, and none was sent: {sentence[:1].lower()}{sentence[1:]}")
    run.say(sentence)


def _outcome(verdict: Wait | End) -> str:
    """Say what a mail is counted as that does not leave: of one that nobody could get, nothing is wrong with mail."""
    if isinstance(verdict, Wait):
        return "waiting"
    return "addressed_to_nobody" if verdict.reason == NOBODY else str(verdict.state)


class _Round:
    """The batches of one run."""

    def __init__(self, run: Call, office: Office, account: Account) -> None:
        self._run = run
        self._office = office
        self._account = account
        self._token = office.clock.token()
        self._sequences = office.mail.by_name
        self._read: Reader = office.directory.reader(office.mail.people, office.mail.sequences)
        hands = office.mail.connections
        self._handover = Handover(office.mailer, office.mails, office.suppressions, hands, self._token, office.clock)

    def batch(self) -> bool:
        """Send some mails; return whether there may be more."""
        office, left = self._office, _BATCH
        if office.mail.per_day is not None:
            left = min(left, office.mail.per_day - office.mails.left(DAY))
            if left <= 0:
                waiting, _ = office.mails.waiting()
                if waiting:
                    self._account.counts["waiting"] = waiting
                    self._account.reasons["waiting"] = f"{office.mail.per_day:,} a day"
                return False
        claimed = office.mails.claim([*self._sequences], left, self._token)
        if not claimed:
            return False
        try:
            going = self._decide(claimed)
        except BaseException:
            office.mails.give_back(claimed, self._token)
            raise
        self._hand_over(going)
        return self._handover.fault is None

    def _decide(self, claimed: Several[Scheduled]) -> list[Leaving]:
        """Say of each mail what becomes of it, and write those that leave."""
        now, ids = self._office.mails.now(), sorted({mail.person for mail in claimed})
        people, recent = self._read(ids), defaultdict(list, self._office.mails.recent(ids, self._token))
        self._office.mails.address(self._going(claimed, people), self._token)
        silent, gone = self._office.mails.silent([mail.id for mail in claimed]), self._gone(claimed)
        verdicts: list[tuple[Scheduled, Wait | End]] = []
        going: list[Leaving] = []
        for mail in claimed:
            so_far, most = recent[mail.person], self._office.mail.per_person
            who = people.get(mail.person)
            if who is None:
                self._account.strangers.append(mail.person)
            else:
                self._account.found += 1
            look = Look(mail.planned, now, who, self._office.zone, silent.get(mail.id), so_far, most)
            leaving = _TAKEN_BACK if mail.id in gone else self._written(mail, look)
            if mail.perhaps and not isinstance(leaving, Wait):
                leaving = self._once_more(mail, leaving, now)
            if isinstance(leaving, tuple):
                going.append(leaving)
                recent[mail.person] = [*so_far, now]
                continue
            verdicts.append((mail, leaving))
            self._account.add(_outcome(leaving), leaving.reason)
        if verdicts:
            self._office.mails.decide(verdicts, self._token)
        return going

    def _written(self, mail: Scheduled, look: Look) -> Leaving | Wait | End:
        """Write the letter of a mail that leaves."""
        sequence = self._sequences[mail.sequence]
        if (step := sequence.step(mail.step)) is None:
            if look.now > look.due + _STRANGE:
                return End(State.CANCELLED, REMOVED)
            return Wait(look.now + AGAIN, "this version of the application has no such step")
        verdict = decide(sequence, step, look)
        if look.person is not None and look.person.unread:
            self._account.broken = self._account.broken or NightcrewError(
                f"what is kept of person {look.person.id} cannot be read: {look.person.unread}"
            )
        if not isinstance(verdict, Send):
            return verdict
        try:
            letter = self._office.compose(mail, step, verdict.person, verdict.arm, look.now)
        except ConfigurationError as problem:  # nobody gets this mail before it is mended
            self._account.broken = self._account.broken or problem
            return Wait(look.now + AGAIN, str(problem))
        except UsageError as problem:  # what is kept of the person makes no letter
            return End(State.FAILED, str(problem))
        return Going(mail, letter.recipient.addr_spec, verdict.arm), letter

    def _once_more(self, mail: Scheduled, leaving: Leaving | End, now: datetime) -> Leaving | End:
        """Say what becomes of a mail of which nobody knows whether it left: it is sent while its key is known."""
        if isinstance(leaving, End):
            return End(State.MAYBE_SENT, f"{_UNANSWERED} Since then: {leaving.reason}", leaving.whole)
        known = self._office.mailer.idempotent and mail.sent is not None and now <= mail.sent + KNOWN
        return leaving if known or self._office.mail.uncertain == "resend" else End(State.MAYBE_SENT, _UNANSWERED)

    def _gone(self, claimed: Several[Scheduled]) -> Collection[int]:
        """Return which mails the application has taken back in its own table."""
        table = self._office.mail.scheduled_emails
        return () if table is None else self._office.adopted.gone(table, claimed)

    def _going(self, claimed: Several[Scheduled], people: Mapping[str, Person]) -> Iterator[Going]:
        """Say where mails would go, and in which arm."""
        for mail in claimed:
            step, person = self._sequences[mail.sequence].step(mail.step), people.get(mail.person)
            if step is not None and person is not None and person.address and len(person.address) <= LONGEST_ADDRESS:
                yield Going(mail, person.address, step.arm(mail.sequence, mail.person))

    def _hand_over(self, going: list[Leaving]) -> None:
        """Hand the letters over, by several connections at once, and stop between two groups if the run should."""
        for one in self._handover.work(going, lambda: self._run.should_stop):
            self._note(one)
        self._account.broken = self._handover.fault or self._account.broken

    def _note(self, one: Closed) -> None:
        waits = one.state is State.WAITING
        self._account.add(("tried_again_later" if one.counts else "waiting") if waits else str(one.state), one.reason)
        if one.state in (State.FAILED, State.MAYBE_SENT) and self._account.counts[str(one.state)] <= _NAMED:
            told = {"mail": one.mail.id, "sequence": one.mail.sequence, "step": one.mail.step, "reason": one.reason}
            self._run.enter(f"mail_{one.state}", person=one.mail.person, **told)

    def close(self) -> None:
        """Close the connections."""
        self._handover.close()
