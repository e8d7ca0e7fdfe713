"""Telling: of many processes one tells people of an alarm, by every channel, and another one where it does not."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as TooLong
from dataclasses import replace
from datetime import datetime, timedelta
from threading import Event, Thread
from typing import Any

from nightcrew.alarm import Alarm, Alarms, Kept, Notice, Stage, summed_up
from nightcrew.channels.channel import Channel, Means
from nightcrew.errors import ChannelError, ConfigurationError, NightcrewError
from nightcrew.ledger import Audience, Entry

LEASE = timedelta(seconds=60)
"""How long who tells has a notice: longer than all channels together may take."""
FORGOTTEN = timedelta(days=1)
"""When an alarm that no process looks for any more is forgotten: its job is registered nowhere."""
_PATIENCE = 15.0  # seconds that a channel has
_EACH = 5  # alarms that are told of one by one; of more at once one notice tells, for nobody reads a flood
_AT_ONCE = 500  # alarms that one notice tells of; the next look has the next
_TRIES = 8
_REST, _LONGEST_REST = timedelta(minutes=1), timedelta(hours=1)
_DAY = timedelta(days=1)


class Telling:
    """Tells of what is due to be told, by the channels of one crew."""

    def __init__(self, channels: Iterable[Channel], means: Means, audience: Audience) -> None:
        parts = [part for channel in channels for part in getattr(channel, "each", lambda one=channel: [one])()]
        self._lines = [_Line(part, means, audience) for part in parts]
        self._audience = audience
        names = [line.name for line in self._lines]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ConfigurationError(f"two channels for alarms are called {min(twice)!r}: give one another name")

    @property
    def channels(self) -> Sequence[str]:
        """What they are called."""
        return [line.name for line in self._lines]

    def problems(self) -> list[str]:
        """Say which channels cannot be used, for want of a variable; nobody is asked."""
        found = ((line.name, line.learned()) for line in self._lines)
        return [f"channel {name!r} for alarms cannot be used: {wrong}" for name, wrong in found if wrong]

    def tell(self, table: Alarms, rows: Iterable[Kept], now: datetime, stop: Event) -> int:
        """Tell of those among these rows that are due, where nobody else has begun to; return how many notices were."""
        told = 0
        due = [row for row in rows if row.due_at is not None and row.due_at <= now and not row.held(now)]
        for together in _batches(due):
            if stop.is_set():
                break
            if won := table.claim(together, LEASE):
                notice = won[0].notice if len(won) == 1 else summed_up([row.notice for row in won])
                said = self.sent(notice, stop, beside=won[0].reached)
                moved = [table.move(row, self._outcome(row, said, now)) for row in won]
                told += any(moved)
        return told

    def sent(self, notice: Notice, stop: Event, *, beside: Sequence[str] = ()) -> dict[str, str | None]:
        """Send a notice by every channel but those `beside`; return by name what is wrong, if anything is."""
        notice = self._discreet(notice)
        asked = [(line, line.send(notice)) for line in self._lines if line.name not in beside]
        until, found = _Until(self._lines), dict[str, str | None]()
        for line, future in asked:
            found[line.name] = until.wait(future, stop)
        return {name: wrong and self._audience.censor(wrong) for name, wrong in found.items()}

    def _outcome(self, row: Kept, said: Mapping[str, str | None], now: datetime) -> dict[str, Any]:
        """Return what is to be kept of an alarm that was told of, where the channels said this."""
        well = [name for name, wrong in said.items() if wrong is None]
        badly = {name: wrong for name, wrong in said.items() if wrong is not None}
        reached = sorted({*row.reached, *well})
        kept: dict[str, Any] = {"reached": reached, "lease_until": None, "wrong": None}
        if reached:
            kept["told_at"] = now
        facts = {"alarm": str(row.alarm.kind), "stage": str(row.stage), "sentence": row.notice.text}
        if well:
            self._tell("alarm_told", row, facts | {"channels": ", ".join(well)})
        if not badly:
            return kept | {"due_at": None}
        wrong = "; ".join(f"{name}: {why}" for name, why in badly.items())
        over = row.attempts >= _TRIES
        if row.attempts == 1 or over:
            self._tell("alarm_untold", row, facts | {"error": wrong, "attempts": row.attempts})
        kept["wrong"] = wrong
        if not over:
            return kept | {"lease_until": now + min(_REST * 2 ** (row.attempts - 1), _LONGEST_REST)}
        return kept | ({"due_at": None} if reached else {"due_at": now + _DAY, "attempts": 0})

    def _tell(self, kind: str, row: Kept, facts: dict[str, Any]) -> None:
        self._audience.tell(Entry(kind, row.alarm.job or None, facts=facts))

    def _discreet(self, notice: Notice) -> Notice:
        """Return a notice without the secrets that an error may have quoted."""
        censor, alarm = self._audience.censor, notice.alarm
        parts = tuple(_without(each, censor) for each in notice.parts)
        return replace(notice, alarm=_without(alarm, censor), parts=parts)


def _without(alarm: Alarm, censor: Callable[[str], str]) -> Alarm:
    return replace(alarm, says=censor(alarm.says), remedy=censor(alarm.remedy))


def _batches(due: Iterable[Kept]) -> list[list[Kept]]:
    """Return what is told together, the oldest first: each by itself, or many of one stage for the same channels."""
    alike: dict[tuple[Stage, tuple[str, ...]], list[Kept]] = {}
    for row in sorted(due, key=lambda row: (row.due_at or row.seen_at, row.alarm.key)):
        alike.setdefault((row.stage, row.reached), []).append(row)
    batches: list[list[Kept]] = []
    for rows in alike.values():
        size = 1 if len(rows) <= _EACH else _AT_ONCE
        batches.extend(rows[start : start + size] for start in range(0, len(rows), size))
    return batches


class _Until:
    """How long channels are waited for that were asked together."""

    def __init__(self, lines: Sequence["_Line"]) -> None:
        self._clock = lines[0].clock if lines else None
        self._until = self._clock.monotonic() + _PATIENCE if self._clock else 0.0

    def wait(self, future: "Future[str | None]", stop: Event) -> str | None:
        """Return what became of a notice, or that nobody knows."""
        while self._clock is not None:
            left = self._until - self._clock.monotonic()
            try:
                return future.result(max(0.0, min(left, 0.2)))
            except TooLong:
                if left <= 0 or stop.is_set():
                    break
        return f"it took longer than {_PATIENCE:.0f} s"


class _Line:
    """One channel, in a thread of its own: who hangs keeps nobody waiting, and is not asked again meanwhile."""

    def __init__(self, channel: Channel, means: Means, audience: Audience) -> None:
        self.name = channel.name
        self.clock = means.clock
        self._channel = channel
        self._means = means
        self._audience = audience
        self._thread: Thread | None = None
        self._last: tuple[str, Future[str | None]] | None = None

    def learned(self) -> str | None:
        """Let the censor know its secrets; return why it cannot be used, if it cannot."""
        try:
            for secret in self._channel.secrets:
                self._audience.censor.learn(secret)
        except ConfigurationError as problem:
            return str(problem)
        return None

    def send(self, notice: Notice) -> "Future[str | None]":
        """Begin to send a notice; one that has left meanwhile, however long that took, is not sent again."""
        busy = self._thread is not None and self._thread.is_alive()  # as it is not in the child of a fork
        if self._last is not None and self._last[0] == notice.id:
            last = self._last[1]
            if last.result() is None if last.done() else busy:
                return last
        future = Future[str | None]()
        if busy:
            future.set_result("it is still busy with what it was asked before")
            return future
        self._last = notice.id, future
        self._thread = Thread(target=self._work, args=(notice, future), name=f"nightcrew-{self.name}", daemon=True)
        try:
            self._thread.start()
        except (RuntimeError, MemoryError):  # the process has as many threads as it may
            self._thread, self._last = None, None
            future.set_result("no thread could be started for it")
        return future

    def _work(self, notice: Notice, future: "Future[str | None]") -> None:
        wrong = self.learned()
        if wrong is None:
            try:
                self._channel.tell(notice, self._means)
            except (ChannelError, ConfigurationError) as problem:
                wrong = str(problem)
            except NightcrewError as problem:
                wrong = f"{type(problem).__name__}: {problem}"
            except Exception as error:  # noqa: BLE001 - a channel of somebody's own may do whatever it likes
                wrong = type(error).__name__
        future.set_result(wrong)
