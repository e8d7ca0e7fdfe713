"""Streams in the memory of one process: for development, and where one process is all that there is."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from threading import RLock

from nightcrew.clock import Clock, SystemClock
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
    Opened,
    Opening,
    Page,
    Ref,
    Start,
    State,
    Stop,
)

_KEPT = 7 * 86_400.0  # seconds that a stream which has ended waits to be saved
_ASKED = 600.0  # seconds that a request is known by
_ERASED = 3_600.0  # seconds in which what was erased stays so
_LOST = "its producer was not heard of"


@dataclass(slots=True)
class _Stream:
    opening: Opening
    state: State
    epoch: int
    started: float
    leased: float
    until: float
    log: bytearray = field(default_factory=bytearray)
    ended: float | None = None
    stop: str = ""
    error: str = ""
    saved: bool = False


class Vault:
    """What the nodes of one process share: the streams themselves."""

    def __init__(self, clock: Clock | None = None, *, linger: float = 120.0) -> None:
        self.clock = clock or SystemClock()
        self.linger = linger
        self.lock = RLock()
        self.streams: OrderedDict[Ref, _Stream] = OrderedDict()
        self.active: dict[str, Ref] = {}
        self.requests: dict[tuple[str, str], tuple[Ref, float]] = {}
        self.tombs: dict[str, float] = {}
        self.nodes: list[Memory] = []

    def now(self) -> float:
        """Return the seconds that only ever grow."""
        return self.clock.monotonic()

    def sweep(self) -> None:
        """Let go of what has had its time."""
        now = self.now()
        for ref in [ref for ref, one in self.streams.items() if one.until <= now]:
            del self.streams[ref]
            if self.active.get(ref.chat) == ref:
                del self.active[ref.chat]
        self.requests = {key: (ref, until) for key, (ref, until) in self.requests.items() if until > now}
        self.tombs = {chat: until for chat, until in self.tombs.items() if until > now}

    def tell(self, ref: Ref, message: Message) -> None:
        """Tell those who follow a stream."""
        for node in self.nodes:
            if ref in node.followed:
                node.hear(message)

    def tell_owner(self, one: _Stream, message: Message) -> None:
        """Tell the node that writes a stream."""
        for node in self.nodes:
            if node.owner == one.opening.owner:
                node.hear(message)

    def close(self, one: _Stream, state: State, reason: str, *, shut_out: bool) -> None:
        """End a stream."""
        ref = one.opening.ref
        one.state, one.error, one.ended = state, reason, self.clock.now().timestamp()
        one.epoch += shut_out
        one.until = self.now() + (self.linger if one.saved else _KEPT)
        if self.active.get(ref.chat) == ref:
            del self.active[ref.chat]
        self.tell(ref, Ended(ref, state, len(one.log)))
        if shut_out:
            self.tell_owner(one, Ended(ref, state, len(one.log)))

    def taken(self, ref: Ref) -> bool:
        """Whether the chat has another stream that somebody writes; one that nobody writes any more is ended."""
        other = self.seen(self.active.get(ref.chat))
        if other is None or other.ref == ref:
            return False
        if other.stale:
            self.close(self.streams[other.ref], State.LOST, _LOST, shut_out=True)
        return not other.stale

    def seen(self, ref: Ref | None) -> Info | None:
        """Return how a stream stands."""
        return None if ref is None or ref not in self.streams else self.stand(ref)

    def stand(self, ref: Ref) -> Info:
        """Return how a stream stands that there is."""
        one = self.streams[ref]
        said = one.opening
        return Info(
            ref, one.state, one.epoch, len(one.log), said.user, said.owner, one.started, one.ended,
            one.leased - self.now(), one.stop, one.error, one.saved, said.meta,
        )  # fmt: skip


class Memory:
    """One node of a vault, by default the only one."""

    place = "memory"

    def __init__(self, owner: str = "", vault: Vault | None = None) -> None:
        self.owner = owner
        self.followed: set[Ref] = set()
        self._vault = vault or Vault()
        self._heard: asyncio.Queue[Message] = asyncio.Queue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._vault.nodes.append(self)

    def hear(self, message: Message) -> None:
        """Take a message, whatever thread it comes from."""
        if self._loop is None:
            self._heard.put_nowait(message)
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._heard.put_nowait, message)

    async def start(self, opening: Opening) -> Start:
        """Look at what is live first."""
        with self._open() as vault:
            ref = opening.ref
            if (own := vault.seen(ref)) is not None:
                return Start(Opened.BEGUN, own)
            known, _ = vault.requests.get((ref.chat, opening.request), (None, 0.0))
            if (info := vault.seen(known)) is not None:
                return Start(Opened.KNOWN, info)
            ended = None
            if (old := vault.seen(vault.active.get(ref.chat))) is not None:
                if not old.stale and opening.conflict.value in _LEAVES:
                    return Start(_LEAVES[opening.conflict.value], old)
                state, reason = (State.LOST, _LOST) if old.stale else (State.REPLACED, "")
                vault.close(vault.streams[old.ref], state, reason, shut_out=True)
                ended = old.ref
            self._keep(vault, opening, 1, vault.clock.now().timestamp())
            return Start(Opened.BEGUN, vault.stand(ref), ended)

    async def append(self, appends: Sequence[Append], lease: float) -> Sequence[Appended]:
        """Write to one after the other."""
        with self._open() as vault:
            return [self._append(vault, one, lease) for one in appends]

    async def resurrect(self, opening: Opening, epoch: int, started: float) -> Answer:
        """Nothing is lost here, but by time."""
        with self._open() as vault:
            ref = opening.ref
            if ref in vault.streams:
                return Answer.WRITTEN
            if ref.chat in vault.tombs:
                return Answer.GONE
            known, _ = vault.requests.get((ref.chat, opening.request), (ref, 0.0))
            if (known != ref and known in vault.streams) or vault.taken(ref):
                return Answer.CLOSED
            self._keep(vault, opening, epoch, started)
            return Answer.WRITTEN

    async def request_stop(self, ref: Ref, by: str) -> Info | None:
        """Note it, and tell the owner."""
        with self._open() as vault:
            one = vault.streams.get(ref)
            if one is not None and one.state is State.LIVE:
                one.stop = one.stop or by
                vault.tell_owner(one, Stop(ref, one.stop))
            return vault.seen(ref)

    async def finish(self, last: Append, state: State, error: str = "", stop: str = "") -> Appended:
        """End it unless it has ended."""
        with self._open() as vault:
            one = vault.streams.get(last.ref)
            if one is None:
                return Appended(Answer.GONE if last.ref.chat in vault.tombs else Answer.MISSING)
            if (one.epoch, one.state) == (last.epoch, state):
                return Appended(Answer.WRITTEN, len(one.log), one.stop, started=one.started)
            if one.epoch != last.epoch or one.state is not State.LIVE:
                return Appended(Answer.CLOSED, state=one.state)
            if len(one.log) != last.offset:
                return Appended(Answer.ELSEWHERE, len(one.log), one.stop)
            one.stop = one.stop or stop
            vault.close(one, state, error, shut_out=False)
            return Appended(Answer.WRITTEN, len(one.log), one.stop, started=one.started)

    async def force(self, seen: Info, state: State, reason: str = "") -> bool:
        """End it where its lease is over, or it was asked to stop."""
        with self._open() as vault:
            one = vault.streams.get(seen.ref)
            if one is None or one.epoch != seen.epoch or one.state is not State.LIVE:
                return False
            if one.leased > vault.now() and not (state is State.STOPPED and one.stop):
                return False
            vault.close(one, state, reason, shut_out=True)
            return True

    async def active(self, chat: str) -> Info | None:
        """Look it up."""
        with self._open() as vault:
            return vault.seen(vault.active.get(chat))

    async def info(self, ref: Ref) -> Info | None:
        """Look it up."""
        with self._open() as vault:
            return vault.seen(ref)

    async def read(self, ref: Ref, offset: int, most: int = PAGE) -> Page:
        """Copy a part."""
        with self._open() as vault:
            one = vault.streams.get(ref)
            return Page(b"" if one is None else bytes(one.log[offset : offset + most]), vault.seen(ref))

    async def listed(self, user: str | None, after: int, most: int) -> tuple[Sequence[Listed], int | None]:
        """Go through all of them."""
        with self._open() as vault:
            some = [
                Listed(ref, one.opening.user)
                for ref, one in vault.streams.items()
                if (user is None or one.opening.user == user) and (one.state is State.LIVE or not one.saved)
            ]
            return some, None

    async def saved(self, ref: Ref) -> None:
        """Let it be forgotten soon."""
        with self._open() as vault:
            one = vault.streams.get(ref)
            if one is not None and one.state is not State.LIVE:
                one.saved, one.until = True, vault.now() + vault.linger

    async def forget(self, some: Sequence[Listed]) -> None:
        """Do nothing: there is no list apart from the streams."""

    async def erase(self, chat: str) -> int:
        """Remove all of the chat's."""
        with self._open() as vault:
            gone = [ref for ref in vault.streams if ref.chat == chat]
            for ref in gone:
                one = vault.streams.pop(ref)
                vault.tell(ref, Gone(ref))
                vault.tell_owner(one, Gone(ref))
            vault.active.pop(chat, None)
            vault.requests = {key: found for key, found in vault.requests.items() if key[0] != chat}
            vault.tombs[chat] = vault.now() + _ERASED
            return len(gone)

    async def follow(self, ref: Ref) -> None:
        """Follow it from now on."""
        self.followed.add(ref)

    async def unfollow(self, ref: Ref) -> None:
        """Follow it no more."""
        self.followed.discard(ref)

    async def messages(self) -> AsyncIterator[Message]:
        """Yield what was heard."""
        self._loop = asyncio.get_running_loop()
        while True:
            yield await self._heard.get()

    async def close(self) -> None:
        """Leave the vault."""
        if self in self._vault.nodes:
            self._vault.nodes.remove(self)

    def _open(self) -> "_Opened":
        return _Opened(self._vault)

    @staticmethod
    def _keep(vault: Vault, opening: Opening, epoch: int, started: float) -> None:
        now, ref = vault.now(), opening.ref
        until = now + opening.longest + vault.linger
        one = _Stream(opening, State.LIVE, epoch, started, now + opening.lease, until, saved=opening.saved)
        vault.streams[ref], vault.active[ref.chat] = one, ref
        if opening.request:
            vault.requests[ref.chat, opening.request] = ref, now + _ASKED

    @staticmethod
    def _append(vault: Vault, asked: Append, lease: float) -> Appended:
        one = vault.streams.get(asked.ref)
        if one is None:
            return Appended(Answer.GONE if asked.ref.chat in vault.tombs else Answer.MISSING)
        if one.epoch != asked.epoch or one.state is not State.LIVE:
            return Appended(Answer.CLOSED, state=one.state)
        if lease:
            one.leased = vault.now() + lease
        if len(one.log) != asked.offset:
            return Appended(Answer.ELSEWHERE, len(one.log), one.stop)
        if asked.data:
            one.log += asked.data
            vault.tell(asked.ref, Data(asked.ref, asked.offset, asked.data))
        return Appended(Answer.WRITTEN, len(one.log), one.stop)


_LEAVES = {"reject": Opened.REJECTED, "join": Opened.JOINED}


class _Opened:
    """A vault while one verb is done to it."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def __enter__(self) -> Vault:
        self._vault.lock.acquire()
        self._vault.sweep()
        return self._vault

    def __exit__(self, *_: object) -> None:
        self._vault.lock.release()
