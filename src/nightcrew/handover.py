"""Handover: letters leave by a few connections at once, and what came of each is written down."""

from collections import deque
from collections.abc import Callable, Collection, Iterator
from collections.abc import Sequence as Several
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from datetime import timedelta
from itertools import count, islice
from threading import Event, Lock
from typing import TypeAlias, TypeVar

from nightcrew import backoff
from nightcrew.clock import Clock
from nightcrew.errors import DatabaseError, MailerError
from nightcrew.mail import LEASE
from nightcrew.mailer import Connection, Delivery, Fate, Letter, Mailer
from nightcrew.report import one_line
from nightcrew.scheduled import Closed, Going, Mails, Scheduled
from nightcrew.sent import State
from nightcrew.suppression import BOUNCED, EVERYTHING, Subject, Suppressions

ATTEMPTS = 5
FIRST = timedelta(minutes=15)  # before the second attempt
_TOGETHER = 5  # mails that a connection is given at a time: so many are uncertain where a process dies
_LOOK = 0.2  # seconds between two looks whether to stop
_TRIES = 4  # times that is written what is about to leave
_STUBBORN = 9  # times what has left, about a minute in all: nobody else knows it
_PRESSED = timedelta(minutes=5)  # before others take a mail for lost, no letter is begun with: one may take so long

Leaving: TypeAlias = tuple[Going, Letter]
_T = TypeVar("_T")


class Handover:
    """A few connections to a mailer, each used by one thread; `fault` says why no more can leave, once that is so."""

    def __init__(
        self, mailer: Mailer, mails: Mails, suppressions: Suppressions, hands: int, token: str, clock: Clock
    ) -> None:
        self.fault: MailerError | DatabaseError | None = None
        self._mailer = mailer
        self._mails = mails
        self._suppressions = suppressions
        self._number = hands
        self._token = token
        self._clock = clock
        self._connections = ExitStack()
        self._idle: list[Connection] = []
        self._lock = Lock()
        self._stop = Event()
        self._hands = ThreadPoolExecutor(hands, "nightcrew-mail")

    def work(self, going: Several[Leaving], should_stop: Callable[[], bool]) -> Iterator[Closed]:
        """Hand letters over, and return what came of each; once the run should stop, the rest is given back."""
        groups = deque(_groups(going))
        under_way: set[Future[list[Closed]]] = {
            self._hands.submit(self._work_off, groups) for _ in range(min(self._number, len(groups)))
        }
        while under_way:
            done, under_way = wait(under_way, _LOOK, FIRST_COMPLETED)
            for future in done:
                yield from future.result()
            if not self._stop.is_set() and should_stop():
                self._stop.set()
        self._mails.give_back([going.mail for group in groups for going, _ in group], self._token)

    def close(self) -> None:
        """Let go of the threads and the connections."""
        self._hands.shutdown()
        self._connections.close()

    def _work_off(self, groups: deque[list[Leaving]]) -> list[Closed]:
        """Hand over group after group by one connection; what came of one is written with what begins the next."""
        try:
            connection = self._connection()
        except MailerError as fault:
            self._fail(fault)
            return []
        told: list[Closed] = []
        closed: list[Closed] = []
        while not self._stop.is_set() and (group := _next(groups)):
            until = self._clock.monotonic() + (LEASE - _PRESSED).total_seconds()
            may = self._turn(closed, [going.mail.id for going, _ in group])
            closed = [self._one(connection, *leaving, until) for leaving in group if leaving[0].mail.id in may]
            told += closed
        self._turn(closed, ())
        with self._lock:
            self._idle.append(connection)
        return told

    def _connection(self) -> Connection:
        with self._lock:
            return self._idle.pop() if self._idle else self._connections.enter_context(self._mailer.connect())

    def _turn(self, closed: Several[Closed], going: Collection[int]) -> Collection[int]:
        """Write down what came of mails, and what is about to leave; what was written twice is written once."""
        return self._tried(lambda: self._mails.turn(closed, going, self._token), _STUBBORN if closed else _TRIES)

    def _tried(self, act: Callable[[], _T], times: int) -> _T:
        """Do what may be done twice, again while the database is away for a moment."""
        for attempt in count(1):
            try:
                return act()
            except DatabaseError as error:
                if not error.transient or attempt == times:
                    raise
            self._clock.wait(Event(), 0.1 * 2**attempt * self._clock.jitter(0.5))
        raise AssertionError("it ends above")

    def _one(self, connection: Connection, going: Going, letter: Letter, until: float) -> Closed:
        """Hand a letter over; what has not been is as if nobody had begun with it.

        After a long time (a process was frozen, a server is slow) others may take the mail for lost: it is theirs.
        """
        if self._stop.is_set() or self._clock.monotonic() > until:
            return self._as_it_was(going.mail, "")
        try:
            return self._closed(going, connection.deliver(letter))
        except MailerError as fault:
            self._fail(fault)
            return self._as_it_was(going.mail, one_line(str(fault)))
        except Exception as error:  # noqa: BLE001 - a fault of the mailer's own: the fates of the others are known
            self._fail(MailerError(f"mailer {self._mailer.place} raised {type(error).__name__}: this is a fault of it"))
            return Closed(going.mail, State.MAYBE_SENT, f"the mailer raised {type(error).__name__}")

    @staticmethod
    def _as_it_was(mail: Scheduled, reason: str) -> Closed:
        return Closed(mail, State.WAITING, reason, timedelta(0), counts=False, perhaps=mail.perhaps)

    def _closed(self, going: Going, delivery: Delivery) -> Closed:
        mail, reason = going.mail, one_line(delivery.reason)
        if delivery.fate is Fate.SENT:
            return Closed(mail, State.SENT)
        if delivery.fate is Fate.MAYBE_SENT:
            return Closed(mail, State.MAYBE_SENT, reason)
        perhaps = delivery.fate is Fate.UNANSWERED or mail.perhaps
        if delivery.fate is Fate.BOUNCED:
            reason = f"{BOUNCED}: {reason}"
            self._silence(going.address, reason)
            return Closed(mail, State.MAYBE_SENT if perhaps else State.FAILED, reason)
        failures = mail.attempts + 1
        if delivery.fate is Fate.REFUSED or failures >= ATTEMPTS:
            return Closed(mail, State.MAYBE_SENT if perhaps else State.FAILED, reason)
        return Closed(mail, State.WAITING, reason, backoff.wait(FIRST, failures, mail.key), perhaps=perhaps)

    def _silence(self, address: str, reason: str) -> None:
        """Send nothing more to an address; where that cannot be written, the next mail finds it out anew."""
        try:
            self._tried(lambda: self._suppressions.add(Subject(address), EVERYTHING, reason, "mailer"), _TRIES)
        except DatabaseError as fault:
            self._fail(fault)

    def _fail(self, fault: MailerError | DatabaseError) -> None:
        self.fault = self.fault or fault
        self._stop.set()


def _groups(going: Several[Leaving]) -> Iterator[list[Leaving]]:
    rest = iter(going)
    while group := list(islice(rest, _TOGETHER)):
        yield group


def _next(groups: deque[list[Leaving]]) -> list[Leaving] | None:
    try:
        return groups.popleft()
    except IndexError:
        return None
