"""Mailing: the verbs of a crew about mail: who is due which, what came of it, and to whom none is sent."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cached_property

from nightcrew import delivery
from nightcrew.acts import Act
from nightcrew.call import Call
from nightcrew.clock import Clock
from nightcrew.delivery import Office
from nightcrew.errors import ConfigurationError, UsageError, did_you_mean, misfit
from nightcrew.job import Job
from nightcrew.letters.writer import Writer
from nightcrew.mail import Mail
from nightcrew.mailer import Delivery, Letter, Mailer
from nightcrew.mailers import mailer
from nightcrew.mailers.folder import Folder
from nightcrew.scheduled import Scheduled
from nightcrew.sent import RETRIED, State
from nightcrew.sequence import Person, Sequence, Step
from nightcrew.settings import Settings
from nightcrew.station import Station
from nightcrew.suppression import BY_HAND, EVERYTHING, UNSUBSCRIBED, Subject, Suppression

_FIRST, _LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)  # what is added stays a date
_SAMPLE = ("Ada Lovelace", "ada@example.com")


class Mailing:
    """What a crew that sends mail does about it."""

    def __init__(self, mail: Mail, station: Station, settings: Settings, clock: Clock, zone: str) -> None:
        self.mail = mail
        self._station = station
        self._settings = settings
        self._clock = clock
        self._zone = zone

    @property
    def job(self) -> Job:
        """The job that sends what is due; it is enabled where CLOUD_DEPLOY is true."""
        return delivery.job(self.mail, self._process, enabled=self._settings.cloud_deploy)

    @property
    def unsubscribe_keys(self) -> tuple[str, ...]:
        """The keys that links may be signed with, the present one first; none where none is set."""
        return self._settings.unsubscribe_keys

    # ── in the application's transactions ────────────────────────────────────────────────────────────────────────

    def enroll(self, connection: object, person: object, sequence: str, *, since: datetime | None = None) -> None:
        """Let a person be due the mails of a sequence, from now or `since` then (aware) on.

        It is written in the transaction of `connection`: a SQLAlchemy Session or Connection to the crew's database, or
        a connection of its driver's own. Committed, it is certain; rolled back, it is nothing. Who is, or was, in the
        sequence stays as they are. `person` is their key in the table of people.

        Raises UsageError for a sequence that there is not, and for a connection that is in no transaction.
        """
        self._sequence(sequence)
        wrong = misfit(since, (datetime, type(None)), "give an aware datetime")
        if wrong or (since is not None and since.tzinfo is None):
            raise UsageError(f"since {wrong or f'{since} has no time zone: give an aware datetime'}")
        if since is not None and not _FIRST <= since <= _LAST:
            raise UsageError(f"since {since} is no day of anybody's: give one from {_FIRST:%Y} to {_LAST:%Y}")
        self._station.enrolments.enroll(connection, sequence, str(person), since)

    def cancel(
        self, connection: object, person: object, sequence: str | None = None, *, reason: str = "cancelled"
    ) -> None:
        """End a sequence, or all, for a person: what they have not been sent they will not be. Written likewise."""
        if sequence is not None:
            self._sequence(sequence)
        self._station.enrolments.cancel(connection, sequence, str(person), reason)

    # ── what is due, and what came of it ─────────────────────────────────────────────────────────────────────────

    def due(self, *, limit: int = 20) -> list[Scheduled]:
        """Return mails that are due by now, the oldest first; whoever sends them decides whether they leave."""
        return self._ready().mails.listed([State.WAITING], limit, due=True)

    def newly_enrolled(self) -> int:
        """Count the people whose mails are not made yet, because no mail has been sent since they were enrolled."""
        return self._ready().enrolments.fresh(self.mail.by_name)

    def sent_lately(self, within: timedelta = timedelta(hours=1)) -> bool:
        """Tell whether any mail was handed over within so long."""
        return self._ready().mails.left(within) > 0

    def of_state(self, *states: State, limit: int = 20) -> list[Scheduled]:
        """Return mails that stand so, the newest first."""
        return self._ready().mails.listed(states, limit)

    def counts(self) -> Mapping[tuple[str, str, State], int]:
        """Count the mails by sequence, step and state."""
        return self._ready().mails.counts()

    def retry(
        self, ids: Collection[int] | None = None, *, states: Collection[State] = RETRIED[:1], by: str | None = None
    ) -> int:
        """Let mails be tried again that were perhaps sent, or failed, or came too late; return how many that are.

        A mail that was perhaps sent may arrive a second time. Raises UsageError for other states.
        """
        if wrong := set(states) - set(RETRIED):
            raise UsageError(f"mails that are {', '.join(sorted(wrong))} are not sent again")
        which = f"all that are {', '.join(sorted(states))}" if ids is None else f"mail {', '.join(map(str, ids))[:300]}"
        self._note(by, "retry mail", which)
        return self._ready().mails.retry(states, ids)

    # ── to look at ───────────────────────────────────────────────────────────────────────────────────────────────

    def preview(
        self,
        sequence: str,
        step: str,
        person: object | None = None,
        *,
        segment: str | None = None,
        arm: str | None = None,
    ) -> Letter:
        """Return a mail as a person would get it now, or somebody invented; nothing is sent.

        Raises UsageError for a step, a person, a segment or an arm that there is not, ConfigurationError for templates
        that are broken.
        """
        chosen = self._step(self._sequence(sequence), step)
        _one_of("segment", segment, self._writer.segments)
        _one_of("arm", arm, chosen.arms)
        found = self._sample() if person is None else self._person(str(person))
        now = self._clock.now()
        due = Scheduled(0, f"preview.{step}", sequence, chosen.name, found.id, now, now, State.WAITING)
        told = arm or (chosen.arm(sequence, found.id) if person is not None else next(iter(chosen.arms), None))
        return self._writer.letter(due, chosen, found, told, now, segment)

    def send_test(
        self, address: str, sequence: str, step: str, *, segment: str | None = None, arm: str | None = None
    ) -> Delivery:
        """Send a mail, as somebody invented would get it, to an address of yours, and return what came of it.

        Raises MailerError where no mail could leave.
        """
        letter = self._writer.test(self.preview(sequence, step, segment=segment, arm=arm), address, self._clock.token())
        with self.way_out().connect() as connection:
            return connection.deliver(letter)

    def faults(self) -> list[str]:
        """Say what is wrong with the words of the mails, having asked nobody."""
        try:
            return self._writer.faults()
        except ConfigurationError as problem:
            return [str(problem)]

    def doubts(self) -> list[str]:
        """Say what keeps mail from leaving as things are set, having asked nobody."""
        found = list(self._hindrances())
        if not self._settings.cloud_deploy:
            found.append(f"CLOUD_DEPLOY is not true, so job {delivery.NAME!r} is disabled, and no mail leaves")
        try:
            self.way_out()
        except ConfigurationError as problem:
            found.append(str(problem))
        return found

    # ── consent ──────────────────────────────────────────────────────────────────────────────────────────────────

    def suppress(
        self, *, address: str | None = None, person: object | None = None, topic: str = EVERYTHING,
        reason: str = BY_HAND, by: str,
    ) -> None:  # fmt: skip
        """Send nothing of a sequence (default: nothing at all) to an address or a person from now on."""
        subject = _subject(address, person)
        self._note(by, "suppress mail", reason)
        self._ready().suppressions.add(subject, topic, reason, by)

    def unsuppress(
        self, *, address: str | None = None, person: object | None = None, topic: str = EVERYTHING,
        by: str | None = None,
    ) -> bool:  # fmt: skip
        """Take that back; return whether there was anything to take back."""
        subject = _subject(address, person)
        self._note(by, "unsuppress mail")
        return self._ready().suppressions.remove(subject, topic)

    def suppressions(self, *, limit: int = 100) -> list[Suppression]:
        """Return to whom nothing is sent, the newest first."""
        return self._ready().suppressions.listed(limit)

    def opt_out(self, person: object, topic: str = EVERYTHING) -> None:
        """Note that a person wants no mail of a sequence any more, or none at all; as a link in a mail lets them do."""
        self._ready().suppressions.add(Subject(person=str(person)), topic, UNSUBSCRIBED, "themselves")

    def opt_in(self, person: object, topic: str = EVERYTHING) -> None:
        """Note that they want it after all; what somebody else has suppressed stays so."""
        self._ready().suppressions.remove(Subject(person=str(person)), topic, UNSUBSCRIBED)

    def opted_out(self, person: object) -> Collection[str]:
        """Return the sequences that a person wants no mail of; an empty name stands for all."""
        return set(self._ready().suppressions.of(Subject(person=str(person))))

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _note(self, by: str | None, verb: str, reason: str | None = None) -> None:
        """Write down that a person did something, and not whom it is about: that person may want to be forgotten."""
        if by is not None:
            self._ready().acts.keep(Act(by, verb, self.job.name, reason=reason))

    def _process(self, run: Call) -> None:
        """Sends the mails that people are due, each once."""
        for problem in self._hindrances():
            raise ConfigurationError(problem)
        station = self._ready()
        tables = station.mails, station.enrolments, station.suppressions, station.directory, station.adopted
        delivery.process(run, Office(self.mail, *tables, self.way_out(), self._writer.letter, self._clock, self._zone))

    def _hindrances(self) -> Iterator[str]:
        """Say why no letter can be written that has to have its links."""
        if not self.unsubscribe_keys:
            yield _NO_KEY
        if not self.mail.base_url.startswith("https:") and not self._stays_here:
            yield f"base_url is {self.mail.base_url!r}, and links in mails need https: give the site's https address"

    @property
    def _stays_here(self) -> bool:
        """Whether links may do without https: in development, and where mail goes to a folder and nowhere else."""
        if self._settings.environment == "development":
            return True
        with suppress(ConfigurationError):
            return isinstance(self.way_out(), Folder)
        return False

    def _ready(self) -> Station:
        """Make sure that the tables are there."""
        self._station.migrations.ensure()
        return self._station

    def way_out(self) -> Mailer:
        """Return the mailer; raises ConfigurationError where none can be had as things are set."""
        said, secret = self.mail.mailer, self.mail.secret
        given = said() if callable(said) else said
        if not isinstance(given, str):
            return given
        return mailer(given, self._clock, secret=secret() if callable(secret) else secret)

    @cached_property
    def _writer(self) -> Writer:
        return Writer(self.mail, self.unsubscribe_keys, development=self._stays_here)

    def _sequence(self, name: str) -> Sequence:
        known = self.mail.by_name
        if name not in known:
            raise UsageError(f"there is no sequence {str(name)[:80]!r}{did_you_mean(str(name), known)}")
        return known[name]

    def _step(self, sequence: Sequence, name: str) -> Step:
        step = sequence.step(name)
        if step is None:
            near = did_you_mean(name, [each.name for each in sequence.steps])
            raise UsageError(f"sequence {sequence.name!r} has no step {name[:80]!r}{near}")
        return step

    def _person(self, key: str) -> Person:
        found = self._station.directory.reader(self.mail.people, self.mail.sequences)([key])
        if key not in found:
            raise UsageError(
                f"table {self.mail.people.table!r} has nobody whose {self.mail.people.key} is {key[:80]!r}"
            )
        return found[key]

    def _sample(self) -> Person:
        name, address = _SAMPLE
        return Person("0", address, name, facts={fact: f"[{fact}]" for fact in self.mail.people.facts})


_NO_KEY = (
    "NIGHTCREW_UNSUBSCRIBE_KEY is not set, by which the links are signed that every mail has to have: make one with"
    " 'nightcrew secret new', and keep it as long as there are mails"
)


def _one_of(what: str, name: str | None, known: Collection[str]) -> None:
    if name is None or name in known:
        return
    there = f"; there are: {', '.join(known)}" if known else ""
    raise UsageError(f"there is no {what} {name[:60]!r}{did_you_mean(name, known) or there}")


def _subject(address: str | None, person: object | None) -> Subject:
    if (address is None) == (person is None):
        raise UsageError("a suppression is of an address or of a person: name one of the two")
    if address is not None and "@" not in address:
        raise UsageError(f"{address[:120]!r} is no address: 'somebody@example.com'")
    return Subject(address) if address is not None else Subject(person=str(person))
