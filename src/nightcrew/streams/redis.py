"""Streams in a Redis, or in what speaks like one: seen by every process that asks it.

What has to happen at once is a script (the folder lua/), on keys of one chat alone, which share a slot. A log is a
string: to append is to say where it is thought to end. What is appended is published by the same script.
"""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import cache, lru_cache
from hashlib import sha1
from importlib.resources import files
from typing import Any, TypeVar
from urllib.parse import quote, unquote

from nightcrew.errors import ConfigurationError, MissingExtra, StreamError
from nightcrew.place import redis_place
from nightcrew.stream import (
    PAGE,
    Answer,
    Append,
    Appended,
    Data,
    Ended,
    Gone,
    Info,
    Listed,
    Message,
    Missed,
    Opened,
    Opening,
    Page,
    Ref,
    Start,
    State,
    Stop,
)

try:
    from redis.asyncio.connection import ConnectionPool
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import NoScriptError, RedisError
except ImportError:
    raise MissingExtra("streams in a Redis need redis-py: pip install 'nightcrew[redis]'") from None

from nightcrew.streams.ears import Ears
from nightcrew.streams.wire import Command, Wire

_TIMEOUT = 5.0  # seconds that a connection may take
_LISTED = 8 * 86_400  # seconds that the list of streams is kept after the last was begun: longer than any of them
_ID = re.compile(r"[0-9a-f-]{36}")
_T = TypeVar("_T")
_Script = tuple[str, str]


class Redis:
    """The streams of one Redis at redis://, rediss:// or unix://, as one process sees them.

    It takes three connections, however many write and read. `prefix` is what every key begins with, `linger` the
    seconds for which a stream can be read once it has ended and is saved.
    """

    def __init__(self, url: str, owner: str, *, prefix: str = "nightcrew", linger: float = 120.0) -> None:
        self._prefix = prefix
        self._linger = linger
        self._control = f"{prefix}:ctl:{owner}".encode()
        self.place = redis_place(url)
        try:
            pool = ConnectionPool.from_url(
                url, socket_connect_timeout=_TIMEOUT, protocol=2, retry=Retry(NoBackoff(), 1),
            )  # fmt: skip
            pool.make_connection()  # type: ignore[no-untyped-call] # no more than an object: an option that there is none of is found here
        except (ValueError, TypeError):
            raise ConfigurationError(
                f"redis {self.place} has an option in its URL that redis-py does not know, or not with that value"
            ) from None
        self._ears = Ears(pool.make_connection, self._control)
        self._appending = Wire(pool.make_connection)
        self._asking = Wire(pool.make_connection)
        self._followed: dict[bytes, Ref] = {}
        self._own: dict[str, Opening] = {}

    # ── to write ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def start(self, opening: Opening) -> Start:
        """Put it on the list, too."""
        ref = opening.ref
        how, seen, ended = await self._keep("start", opening, opening.conflict)
        info = _info(ref.chat, seen)
        if info is None:
            raise StreamError(f"redis {self.place} lost a stream as it began")
        if info.ref != ref:
            self._own.pop(ref.id, None)
            await self.forget([Listed(ref, opening.user)])
        return Start(Opened(how.decode()), info, Ref(ref.chat, ended.decode()) if ended else None)

    async def append(self, appends: Sequence[Append], lease: float) -> Sequence[Appended]:
        """Write them in one round trip; those that write nothing are put on the list again: it may have been lost."""
        rows = [(one.ref, one.epoch, one.offset, _ms(lease), one.data) for one in appends]
        quiet = [self._own[one.ref.id] for one in appends if not one.data and one.ref.id in self._own]
        answers = await self._many("append", rows, quiet, wire=self._appending)
        return [self._answer(one.ref, answer) for one, answer in zip(appends, answers, strict=True)]

    async def resurrect(self, opening: Opening, epoch: int, started: float) -> Answer:
        """Make its facts anew; its log is empty, and its producer has all of it."""
        return Answer((await self._keep("resurrect", opening, epoch, _ms(started))).decode())

    async def request_stop(self, ref: Ref, by: str) -> Info | None:
        """Set it down, and tell its owner."""
        return _info(ref.chat, await self._run("stop", ref, by))

    async def finish(self, last: Append, state: State, error: str = "", stop: str = "") -> Appended:
        """Close its log."""
        answer = await self._run("finish", last.ref, last.epoch, last.offset, state, error, stop)
        appended = self._answer(last.ref, answer)
        if appended.answer is Answer.WRITTEN:
            self._own.pop(last.ref.id, None)
        return appended

    async def force(self, seen: Info, state: State, reason: str = "") -> bool:
        """Close its log unless its producer was heard of meanwhile, or it is one that was asked to stop."""
        return bool(await self._run("force", seen.ref, seen.epoch, int(state is State.STOPPED), state, reason))

    # ── to look ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def active(self, chat: str) -> Info | None:
        """Read it by the chat's one key."""
        return _info(chat, await self._run("info", Ref(chat, "")))

    async def info(self, ref: Ref) -> Info | None:
        """Read its facts."""
        return _info(ref.chat, await self._run("info", ref))

    async def read(self, ref: Ref, offset: int, most: int = PAGE) -> Page:
        """Read a range of the string."""
        data, seen = await self._run("read", ref, offset, most)
        return Page(data, _info(ref.chat, seen))

    async def listed(self, user: str | None, after: int, most: int) -> tuple[Sequence[Listed], int | None]:
        """Read the list by its order, in which `after` is the millisecond that the last one was begun in."""
        key, score = self._listing(user), str(after)
        while True:
            asked = "ZRANGE", key, score, "+inf", "BYSCORE", "LIMIT", 0, most, "WITHSCORES"
            (found,) = await self._asked([asked])
            members, scores = found[::2], found[1::2]
            read = [_member(member) for member in members]
            some = [one for one in read if one is not None]
            if odd := [member for member, one in zip(members, read, strict=True) if one is None]:
                await self._asked([("ZREM", key, *odd)])  # whoever wrote that, no stream is called so
            if len(members) < most:
                return some, None
            if (last := int(scores[-1])) > after:
                return some, last
            most *= 2  # as many were begun in one millisecond

    async def saved(self, ref: Ref) -> None:
        """Let it be forgotten soon."""
        await self._run("saved", ref)

    async def forget(self, some: Sequence[Listed]) -> None:
        """Take them off both lists."""
        if some:
            await self._asked([("ZREM", key, _named(one)) for one in some for key in self._lists(one.user)])

    async def erase(self, chat: str) -> int:
        """Remove the keys of its streams; what is on the list is taken off by whoever reads it."""
        return int(await self._run("erase", Ref(chat, "")))

    # ── to hear ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def follow(self, ref: Ref) -> None:
        """Subscribe to it; a message that comes after the answer is none of before."""
        channel = self._channel(ref)
        self._followed[channel] = ref
        await self._told(lambda: self._ears.add(channel))

    async def unfollow(self, ref: Ref) -> None:
        """Unsubscribe."""
        channel = self._channel(ref)
        self._followed.pop(channel, None)
        await self._told(lambda: self._ears.remove(channel))

    async def messages(self) -> AsyncIterator[Message]:
        """Listen, and say of each line that something may have been missed before."""
        try:
            async for heard in self._ears.heard():
                if heard is None:
                    yield Missed()
                elif (message := self._read(*heard)) is not None:
                    yield message
        except (RedisError, OSError) as error:
            raise StreamError(f"redis {self.place} cannot be listened to: {_said(error)}") from error

    async def close(self) -> None:
        """Close all but the line of whoever listens, who does that."""
        await self._appending.close()
        await self._asking.close()

    def _read(self, channel: bytes, data: bytes) -> Message | None:
        """Read what was published; of a stream that is none of ours any more, nothing."""
        kind, _, rest = data.partition(b" ")
        if channel != self._control:
            ref = self._followed.get(channel)
            return None if ref is None else _heard(ref, kind, rest)
        if kind == b"F":
            end, state, name, _ = rest.split(b" ", 3)
            rest = end + b" " + state
        else:
            name, _, rest = rest.partition(b" ")
        opening = self._own.get(name.decode())
        if opening is not None and kind != b"S":
            del self._own[opening.ref.id]
        return None if opening is None else _heard(opening.ref, kind, rest)

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _spans(self, opening: Opening) -> list[Any]:
        times = _ms(opening.lease), _ms(opening.longest), int(opening.saved), _ms(self._linger)
        return [*times, opening.meta]

    async def _keep(self, script: str, opening: Opening, own: Any, *more: Any) -> Any:
        """Keep a stream, put it on the list before that, so that no list misses one, and once more after that.

        Whoever mends the list in between takes off what is not kept yet.
        """
        ref = opening.ref
        self._own[ref.id] = opening
        request = f"{self._chat(ref.chat)}:r:{quote(opening.request, safe='')}" if opening.request else ""
        row = ref, opening.user, self._control, own, request, *self._spans(opening), *more
        (answer,) = await self._many(script, [row], [opening])
        return answer

    def _listings(self, openings: Sequence[Opening]) -> list[Command]:
        """Return the commands that put some on the lists."""
        keys = [(key, Listed(one.ref, one.user)) for one in openings for key in self._lists(one.user)]
        put = [("ZADD", key, "NX", _order(one.ref), _named(one)) for key, one in keys]
        return [*put, *(("EXPIRE", key, _LISTED) for key, _ in keys)]

    def _answer(self, ref: Ref, said: Sequence[Any] | int) -> Appended:
        if isinstance(said, int):
            return Appended(Answer.WRITTEN, said)
        how, end, stop, state, *started = said
        answer = Answer(how.decode())
        if answer in (Answer.CLOSED, Answer.GONE):
            self._own.pop(ref.id, None)
        asked = stop.decode("utf-8", "replace")
        ended = State(state.decode()) if state else None
        return Appended(answer, int(end), asked, ended, int(started[0]) / 1000 if started and started[0] else 0.0)

    async def _run(self, script: str, ref: Ref, *arguments: Any) -> Any:
        (answer,) = await self._many(script, [(ref, *arguments)])
        return answer

    async def _many(
        self, script: str, rows: Sequence[Command], listed: Sequence[Opening] = (), wire: Wire | None = None
    ) -> list[Any]:
        """Run a script once for each row, in one round trip; where the server has forgotten it, it is told again.

        Some are put on the lists, before it and after it.
        """
        name, text = _script(script)
        listings = self._listings(listed)
        runs = [("EVALSHA", name, 0, self._chat(ref.chat), ref.id, *arguments) for ref, *arguments in rows]
        answers = await self._asked([*listings, *runs, *listings], wire, tolerated=NoScriptError)
        answers = answers[len(listings) : len(listings) + len(runs)]
        if any(isinstance(answer, NoScriptError) for answer in answers):
            await self._asked([("SCRIPT", "LOAD", text)])
            again = [row for row, answer in zip(rows, answers, strict=True) if isinstance(answer, NoScriptError)]
            anew = iter(await self._many(script, again, listed, wire))
            answers = [next(anew) if isinstance(answer, NoScriptError) else answer for answer in answers]
        return answers

    async def _asked(self, commands: Sequence[Command], wire: Wire | None = None, tolerated: Any = ()) -> list[Any]:
        answers = await self._told(lambda: (wire or self._asking).ask(commands))
        for answer in answers:
            if isinstance(answer, Exception) and not isinstance(answer, tolerated):
                raise StreamError(f"redis {self.place} refused a command: {_said(answer)}") from answer
        return answers

    async def _told(self, act: Callable[[], Awaitable[_T]]) -> _T:
        try:
            return await act()
        except (RedisError, OSError) as error:
            raise StreamError(f"redis {self.place} does not answer: {_said(error)}") from error

    def _chat(self, chat: str) -> str:
        return f"{self._prefix}:{{{_quoted(chat)}}}"

    def _channel(self, ref: Ref) -> bytes:
        return f"{self._chat(ref.chat)}:c:{ref.id}".encode()

    def _listing(self, user: str | None) -> str:
        return f"{self._prefix}:live" if user is None else f"{self._prefix}:u:{quote(user, safe='')}"

    def _lists(self, user: str) -> list[str]:
        return [self._listing(None), self._listing(user)] if user else [self._listing(None)]


@lru_cache(maxsize=10_000)
def _quoted(chat: str) -> str:
    return quote(chat, safe="")


@cache
def _script(name: str) -> _Script:
    """Return a script with what it begins with, and the name that a server knows it by."""
    folder = files("nightcrew.streams") / "lua"
    parts = ("token", "prelude", name) if name == "append" else ("prelude", name)
    text = "".join((folder / f"{part}.lua").read_text("utf-8") for part in parts)
    return sha1(text.encode()).hexdigest(), text  # noqa: S324 - it is how Redis names scripts


def _info(chat: str, seen: Sequence[Any]) -> Info | None:
    """Read a stream's facts; one of which somebody else took some away is not kept."""
    try:
        return _facts(chat, *seen) if seen else None
    except (KeyError, ValueError):
        return None


def _facts(chat: str, name: bytes, now: int, length: int, listed: Sequence[bytes]) -> Info:
    facts: Mapping[bytes, bytes] = dict(zip(listed[::2], listed[1::2], strict=True))
    state = State(facts[b"st"].decode())
    text = {key.decode(): value.decode("utf-8", "replace") for key, value in facts.items()}
    return Info(
        Ref(chat, name.decode()),
        state,
        int(facts[b"ep"]),
        int(text.get("end", length)) if state is not State.LIVE else int(length),
        user=text.get("user", ""),
        owner=text.get("owner", ""),
        started=float(text["t0"]) / 1000,
        ended=float(text["ended"]) / 1000 if "ended" in text else None,
        lease=(float(text["lease"]) - float(now)) / 1000,
        stop=text.get("stop", ""),
        error=text.get("err", ""),
        saved=text.get("saved") == "1",
        meta=text.get("meta", ""),
    )


def _heard(ref: Ref, kind: bytes, rest: bytes) -> Message | None:
    if kind == b"D":
        offset, _, data = rest.partition(b" ")
        return Data(ref, int(offset), data)
    if kind == b"F":
        end, _, state = rest.partition(b" ")
        return Ended(ref, State(state.decode()), int(end))
    if kind == b"S":
        return Stop(ref, rest.partition(b" ")[2].decode("utf-8", "replace"))
    return Gone(ref) if kind == b"G" else None


def _named(one: Listed) -> str:
    return f"{quote(one.user, safe='')}/{quote(one.ref.chat, safe='')}/{one.ref.id}"


def _member(member: bytes) -> Listed | None:
    user, _, rest = member.decode("utf-8", "replace").partition("/")
    chat, _, name = rest.partition("/")
    return Listed(Ref(unquote(chat), name), unquote(user)) if _ID.fullmatch(name) else None


def _order(ref: Ref) -> int:
    """IDs grow with time: their first 48 bits are milliseconds (RFC 9562, 5.7)."""
    return int(ref.id.replace("-", "")[:12], 16)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _said(error: BaseException) -> str:
    return str(error)[:200] or type(error).__name__
