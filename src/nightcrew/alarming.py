"""Alarming: the verbs of a crew about alarms: look which stand, tell people of them, list them, try the channels."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from email.headerregistry import Address
from itertools import islice
from threading import Event, Lock, Thread
from typing import Protocol, TypeVar

from nightcrew import absence, telling
from nightcrew.absence import Facts
from nightcrew.alarm import Alarm, Kept, Kind, changes, trial
from nightcrew.channels.channel import Channel, Means
from nightcrew.chronicle import Chronicle
from nightcrew.clock import Clock
from nightcrew.errors import ConfigurationError, NightcrewError
from nightcrew.ledger import Audience, Entry
from nightcrew.mail import mailbox
from nightcrew.mailer import Mailer
from nightcrew.mailing import Mailing
from nightcrew.roll import JobStatus
from nightcrew.station import Station

_T = TypeVar("_T")

SECRET = "previous_secret"  # noqa: S105 - what a sighting is called
_REMOVALS = 21  # runs that removed rows, of each job: twenty gaps
_RECALLED = 900.0  # seconds for which it is remembered when jobs removed rows
_TOGETHER = 50  # jobs that one statement asks for
_APART = 60.0  # seconds between two sightings, or two glances, of one process


class Crew(Protocol):
    """A crew as its alarms see it."""

    @property
    def chronicle(self) -> Chronicle:
        """The runs, as pages show them."""

    @property
    def mail(self) -> Mailing | None:
        """What is done about mail."""

    def status(self, name: str | None = None) -> list[JobStatus]:
        """Return every job with its standing, last run and next slot."""


class Alarming:
    """What a crew does about alarms; `failures` in a row of one job are one.

    It hears when a caller uses the previous secret, and writes that down.
    """

    def __init__(
        self, crew: Crew, channels: Iterable[Channel], station: Station, clock: Clock, audience: Audience,
        *, failures: int,
    ) -> None:  # fmt: skip
        if not isinstance(failures, int) or isinstance(failures, bool) or failures < 1:
            raise ConfigurationError(f"failures is {failures!r}; write a whole number from 1 on")
        self._crew = crew
        self._station = station
        self._clock = clock
        self._audience = audience
        self._failures = failures
        self._telling = telling.Telling(channels, Means(clock, self._post), audience)
        self._removals: Mapping[str, Sequence[datetime]] = {}
        self._recalled_at = float("-inf")
        self._saw_at = self._glanced_at = float("-inf")
        self._failed = False
        self._lock = Lock()
        audience.join(self)

    @property
    def channels(self) -> Sequence[str]:
        """What the channels are called by which people are told; without any nobody is, and nothing is kept."""
        return self._telling.channels

    def problems(self) -> list[str]:
        """Say which channels cannot be used as things are set; nobody is asked."""
        return self._telling.problems()

    def look(self, stop: Event | None = None) -> int:
        """Look which alarms stand, keep that, and tell of what is to be told; return how many notices were told.

        However many processes look, each notice is told by one of them. Raises DatabaseError where the database is
        away; a channel that cannot be reached is tried again with a later look.
        """
        if not self.channels:
            return 0
        stop = stop or Event()
        found, statuses = self._seen()
        self._keep(found, statuses)
        now, rows = self._station.alarms.listed()
        return self._telling.tell(self._station.alarms, rows, now, stop)

    def watch(self, stop: Event) -> None:
        """Look, and tell the listeners where that begins to fail: the next look tries again, and no run fails."""
        with self._lock:
            self._glanced_at = self._clock.monotonic()
        try:
            self.look(stop)
        except NightcrewError as error:
            self._fail(str(error))
        except Exception as error:  # noqa: BLE001 - looks outlive whatever one of them runs into
            self._fail(f"{type(error).__name__}: {error}")
        else:
            self._failed = False

    def glance(self) -> None:
        """Watch in a thread, unless this process has within a minute: for whoever comes by often and cannot wait."""
        with self._lock:
            now = self._clock.monotonic()
            if not self.channels or now - self._glanced_at < _APART:
                return
            self._glanced_at = now
        Thread(target=self.watch, args=(Event(),), name="nightcrew-lookout", daemon=True).start()

    def kept(self) -> list[Alarm]:
        """Return the alarms that stood when somebody looked last, the oldest first; none where nobody does."""
        if not self.channels:
            return []
        self._station.migrations.ensure()
        return [row.alarm for row in self._station.alarms.listed()[1] if row.stands]

    def standing(self) -> list[tuple[Alarm, Kept | None]]:
        """Return the alarms that stand now, and what is kept of each, the oldest first; nothing is changed."""
        found, _ = self._seen()
        _, rows = self._station.alarms.listed()
        kept = {row.alarm.key: row for row in rows if row.stands}
        pairs = [(alarm, kept.get(alarm.key)) for alarm in found]
        return sorted(pairs, key=lambda pair: (pair[1].alarm if pair[1] else pair[0]).since)

    def test(self) -> Mapping[str, str | None]:
        """Send a test by every channel; return by its name what is wrong, if anything is."""
        return self._telling.sent(trial(self._clock.now(), self._clock.token()), Event())

    # ── which stand ──────────────────────────────────────────────────────────────────────────────────────────────

    def _seen(self) -> tuple[list[Alarm], list[JobStatus]]:
        """Read what there is to know, each time in few statements with short answers."""
        statuses = self._crew.status()
        chronicle, (now, kept) = self._crew.chronicle, self._station.alarms.listed()
        outside = [each.job.name for each in statuses if each.job.failsafe_after is not None]
        facts = Facts(
            now=now,
            found=statuses,
            missed=chronicle.missed(),
            lapsed=absence.long_missed(chronicle.lapsed(now - absence.HEALED)),
            ended=chronicle.ended(),
            newest=_by_few(outside, lambda names: chronicle.strips(names, 4)),
            removals=self._recall(chronicle, statuses),
            unsent=self._unsent(),
            old_secret=self._station.alarms.sighting(SECRET),
            idle={row.alarm.job: row.alarm for row in kept if row.stands and row.alarm.kind is Kind.IDLE},
            failures=self._failures,
        )
        return absence.alarms(facts), statuses

    def _recall(self, chronicle: Chronicle, statuses: Iterable[JobStatus]) -> Mapping[str, Sequence[datetime]]:
        """Return when jobs removed rows, which takes the longest to find out, and is asked for now and then."""
        now = self._clock.monotonic()
        if now - self._recalled_at > _RECALLED:
            removing = [each.job.name for each in statuses if each.job.policy is not None and not absence.quiet(each)]
            self._removals = _by_few(removing, lambda names: chronicle.removals(names, _REMOVALS))
            self._recalled_at = now
        return self._removals

    def _unsent(self) -> tuple[str, datetime] | None:
        """Return since when mail is due of which none leaves, and which job should send it."""
        if (mail := self._crew.mail) is None:
            return None
        due = mail.due(limit=1)
        since = due[0].due if due else None
        return None if since is None or mail.sent_lately() else (mail.job.name, since)

    # ── what is kept of them ─────────────────────────────────────────────────────────────────────────────────────

    def _keep(self, found: Sequence[Alarm], statuses: Iterable[JobStatus]) -> None:
        """Bring the table to what is seen; rows of jobs that this crew has not are left to those that have them."""
        table = self._station.alarms
        now, rows = table.listed()
        kept, seen = {row.alarm.key: row for row in rows}, {alarm.key: alarm for alarm in found}
        ours = {each.job.name: not absence.quiet(each) for each in statuses} | {"": True}
        if fresh := [alarm for alarm in found if alarm.key not in kept]:
            table.raise_({self._clock.token(): alarm for alarm in fresh})
        stood = ((kept[alarm.key], alarm) for alarm in found if alarm.key in kept)
        table.refresh([(row, alarm) for row, alarm in stood if row.stands], now)
        for key, row in kept.items():
            if key[1] not in ours:
                if now - row.seen_at > telling.FORGOTTEN:
                    table.forget([row])
                continue
            changed = changes(row, seen.get(key), now, told=ours[key[1]])
            if changed:
                table.move(row, changed)
            elif changed is not None:
                table.forget([row])

    # ── who hears, and of what ───────────────────────────────────────────────────────────────────────────────────

    def hears(self, kind: str) -> bool:
        """Tell whether it hears of a kind."""
        return kind == "previous_secret_used"

    def __call__(self, entry: Entry) -> None:
        """Write down, in a thread, that somebody used the previous secret: whoever called waits for nothing."""
        with self._lock:
            now = self._clock.monotonic()
            if now - self._saw_at < _APART:
                return
            self._saw_at = now
        by = str(entry.facts.get("caller") or "somebody")
        Thread(target=self._note, args=(by,), name="nightcrew-sighting", daemon=True).start()

    def _fail(self, error: str) -> None:
        """Tell of the first look that fails, and not of each."""
        told, self._failed = self._failed, True
        if not told:
            self._audience.tell(Entry("look_failed", facts={"error": error}))

    def _note(self, by: str) -> None:
        try:
            self._station.migrations.ensure()
            self._station.alarms.saw(SECRET, by)
        except NightcrewError as error:
            self._audience.tell(Entry("sighting_lost", facts={"error": str(error)}))

    def _post(self) -> tuple[Mailer, Address]:
        if self._crew.mail is None:
            raise ConfigurationError("nobody says how mail is sent; write a table [mail], or Nightcrew(mail=…)")
        return self._crew.mail.way_out(), mailbox("sender", self._crew.mail.mail.sender)


def _by_few(names: Sequence[str], ask: Callable[[Sequence[str]], Mapping[str, _T]]) -> dict[str, _T]:
    """Ask for many jobs, some at a time: a statement has a longest length."""
    found: dict[str, _T] = {}
    left = iter(names)
    while some := list(islice(left, _TOGETHER)):
        found |= ask(some)
    return found
