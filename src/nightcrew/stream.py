"""Stream: the answer that is being written in a chat, and the shape of what keeps it.

What has been written is a log of bytes, ready to be sent. Its length is the cursor of whoever reads along, so that a
gap and a repeat are seen for what they are.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol, TypeAlias
from uuid import UUID

LEASE = 15.0
"""Seconds after which nobody writes a stream any more whose producer has not been heard of."""
PAGE = 64 * 1024
"""Bytes of a log that are read at once."""


class State(StrEnum):
    """How a stream stands; all but the first are ends, and none of these ever changes."""

    LIVE = "live"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"
    LOST = "lost"
    """Its producer died, or was not heard of for as long as its lease."""
    REPLACED = "replaced"


class Conflict(StrEnum):
    """What becomes of a start where a stream is live in the chat."""

    REJECT = "reject"
    JOIN = "join"
    REPLACE = "replace"


class Stopped(StrEnum):
    """What came of asking a stream to stop."""

    STOPPED = "stopped"
    ALREADY_FINAL = "already_final"
    NOT_FOUND = "not_found"
    FORCED = "forced"
    """Its producer did not end by itself, and was shut out: it is dead, or will find that it may write no more."""


@dataclass(frozen=True, slots=True)
class Ref:
    """Which stream: its chat, and its own ID, which is never used again."""

    chat: str
    id: str


@dataclass(frozen=True, slots=True)
class Listed:
    """A stream on the list of those that are live or to be saved, and its user."""

    ref: Ref
    user: str


def new_id(now: datetime, token: str) -> str:
    """Return an ID that grows with time: a UUID of version 7 (RFC 9562, 5.7), from a random text of 32 hex digits."""
    digits = f"{int(now.timestamp() * 1000):012x}7{token[:3]}{8 + int(token[3], 16) % 4:x}{token[4:19]}"
    return str(UUID(digits))


@dataclass(frozen=True, slots=True)
class Opening:
    """What a stream is begun with. Times are in seconds.

    `request` is the same for a call and its repeat. `longest` is the most that it may take, after which it is forgotten
    whatever it does; `saved` says that nobody is to keep its text elsewhere.
    """

    ref: Ref
    user: str
    owner: str
    conflict: Conflict
    request: str = ""
    lease: float = LEASE
    longest: float = 6 * 3600.0
    saved: bool = False
    meta: str = ""


@dataclass(frozen=True, slots=True)
class Info:
    """What is kept of a stream: `end` is the length of its log, `lease` the seconds until its producer counts as lost.

    `epoch` is raised when its producer is shut out. `started` and `ended` are seconds since 1970 by the backend's
    clock, `stop` who asked it to stop. A live one is `stale` once its lease is over.
    """

    ref: Ref
    state: State
    epoch: int
    end: int
    user: str = ""
    owner: str = ""
    started: float = 0.0
    ended: float | None = None
    lease: float = 0.0
    stop: str = ""
    error: str = ""
    saved: bool = False
    meta: str = ""

    @property
    def stale(self) -> bool:
        """Whether its producer was not heard of for as long as its lease."""
        return self.state is State.LIVE and self.lease <= 0


class Opened(StrEnum):
    """How a start went."""

    BEGUN = "begun"
    KNOWN = "known"
    """The same request has begun it before."""
    JOINED = "joined"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Start:
    """What a start found, or began, and the stream before it that it ended, which may still have to be saved."""

    how: Opened
    info: Info
    ended: Ref | None = None


class Answer(StrEnum):
    """What became of bytes that were to be appended."""

    WRITTEN = "written"
    ELSEWHERE = "elsewhere"
    """The log ends at another place than was thought: behind it where the backend lost some, or ahead of it where an
    answer was lost."""
    MISSING = "missing"
    """Nothing is kept of the stream: the backend lost it."""
    CLOSED = "closed"
    """It has its end, by another's hand: the producer is shut out."""
    GONE = "gone"
    """Its chat was erased."""


@dataclass(frozen=True, slots=True)
class Append:
    """Bytes for the log of a stream, which is to end at `offset`; without any, that its producer is alive."""

    ref: Ref
    epoch: int
    offset: int
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class Appended:
    """The answer, where the log ends now, who asked the producer to stop, and the state of one that is closed.

    Of one that its producer has ended, also when it was begun.
    """

    answer: Answer
    end: int = 0
    stop: str = ""
    state: State | None = None
    started: float = 0.0


@dataclass(frozen=True, slots=True)
class Data:
    """Bytes that a log has grown by, from `offset` on."""

    ref: Ref
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Ended:
    """That a stream has ended, in a state, at a length."""

    ref: Ref
    state: State
    end: int


@dataclass(frozen=True, slots=True)
class Stop:
    """That somebody asks the producer of a stream to stop."""

    ref: Ref
    by: str


@dataclass(frozen=True, slots=True)
class Gone:
    """That a stream was erased with its chat."""

    ref: Ref


@dataclass(frozen=True, slots=True)
class Missed:
    """That messages may have been missed, of any stream."""


Message: TypeAlias = Data | Ended | Stop | Gone | Missed


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a log, and how its stream stood at that moment; None where nothing is kept of it."""

    data: bytes
    info: Info | None


@dataclass(frozen=True, slots=True)
class Final:
    """A stream that has ended, for the application to save: `data` is what its log has, `events` the texts in it.

    It is handed over at least once, and always with the same content: the `id` tells one time from the next. IDs grow
    with time, so that of two streams of a chat the later one has the greater; `started` is the backend's time, in
    seconds since 1970.
    """

    id: str
    chat: str
    user: str
    state: State
    data: bytes = field(repr=False)
    events: tuple[str, ...] = field(repr=False)
    started: float
    error: str = ""
    stop: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)


class Backend(Protocol):
    """Where streams are kept, as one process sees it. Every clock is the backend's own.

    Each verb is done at once for all who look, and may be called again where its answer was lost. Each raises
    StreamError where the backend is away.
    """

    @property
    def place(self) -> str:
        """What a message calls it, without anything secret."""

    async def start(self, opening: Opening) -> Start:
        """Begin a stream, unless the chat has one that is live; one whose producer is lost is ended first."""

    async def append(self, appends: Sequence[Append], lease: float) -> Sequence[Appended]:
        """Write to several logs, in one round trip; each has its own answer.

        The producers' leases end in `lease` seconds from now, or when they would have where it is 0.
        """

    async def resurrect(self, opening: Opening, epoch: int, started: float) -> Answer:
        """Keep a stream again that the backend lost: WRITTEN, or GONE with its chat, or CLOSED for another one."""

    async def request_stop(self, ref: Ref, by: str) -> Info | None:
        """Ask the producer of a live stream to stop, and return how it stands."""

    async def finish(self, last: Append, state: State, error: str = "", stop: str = "") -> Appended:
        """Let its producer end a stream, whose log is to end where `last` says, without data.

        The answer is WRITTEN, or what stood in the way. `stop` is who asked it to stop, if the backend does not know.
        """

    async def force(self, seen: Info, state: State, reason: str = "") -> bool:
        """End a stream for its producer and shut that out, unless it was heard of since it was `seen`."""

    async def active(self, chat: str) -> Info | None:
        """Return the live stream of a chat."""

    async def info(self, ref: Ref) -> Info | None:
        """Return what is kept of a stream."""

    async def read(self, ref: Ref, offset: int, most: int = PAGE) -> Page:
        """Return a part of a log."""

    async def listed(self, user: str | None, after: int, most: int) -> tuple[Sequence[Listed], int | None]:
        """Return some streams that are live or still to be saved, the oldest first, and what to go on after.

        It may name some that are neither, and one twice; it names all, whatever is begun and forgotten meanwhile.
        """

    async def saved(self, ref: Ref) -> None:
        """Note that the text of a stream that has ended is kept elsewhere: it is soon forgotten here."""

    async def forget(self, some: Sequence[Listed]) -> None:
        """Take streams off the list that are neither live nor to be saved."""

    async def erase(self, chat: str) -> int:
        """Forget a chat for good, and tell whoever writes or reads there; return how many streams it had."""

    async def follow(self, ref: Ref) -> None:
        """Hear of a stream from now on: of all that is done after this returns."""

    async def unfollow(self, ref: Ref) -> None:
        """Hear of it no more."""

    def messages(self) -> AsyncIterator[Message]:
        """Yield what is heard of the streams that are followed, and of those that this process writes."""

    async def close(self) -> None:
        """Let go of every connection."""
