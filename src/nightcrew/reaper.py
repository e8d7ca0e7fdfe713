"""Reaper: streams that nobody writes any more are ended, and what they have is saved from their logs."""

import asyncio
import inspect
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, TypeVar

from nightcrew.errors import StreamError
from nightcrew.frame import events, plain
from nightcrew.producer import Producer
from nightcrew.stream import Backend, Final, Info, Listed, Ref, State

Persist: TypeAlias = Callable[[Final], Awaitable[object] | object]
"""Saves a stream that has ended, by its ID: it may be handed over again, always the same."""
Soon: TypeAlias = Callable[[Coroutine[Any, Any, object]], None]
"""Does something beside that nobody waits for."""
_LOST = "its producer was not heard of"
_TOGETHER = 200  # streams of the list that are read together
_LOOKED_AT_ONCE, _SAVED_AT_ONCE = 100, 4  # streams: how many the backend, and how many the application has to do with
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Reaped:
    """What was found of streams: how many were looked at, ended as lost, saved, and could not be; and why the first."""

    looked_at: int = 0
    lost: int = 0
    saved: int = 0
    unsaved: int = 0
    reason: str = ""


class Reaper:
    """Ends and saves streams for producers that cannot; whoever looks at one may find that it is needed."""

    def __init__(self, backend: Backend, persist: Persist | None, soon: Soon) -> None:
        self._backend = backend
        self._persist = persist
        self._soon = soon

    async def reap(self) -> Reaped:
        """Look at every stream that is live or not saved yet."""
        looked_at = lost = 0
        unsaved: list[Ref] = []
        async for info, ended in self.examined(None, bury=False):
            looked_at, lost = looked_at + 1, lost + ended
            if info.state is not State.LIVE and not info.saved:
                unsaved.append(info.ref)
        faults = await _together(_SAVED_AT_ONCE, map(self._salvaged, unsaved))
        left = [fault for fault in faults if fault is not None]
        return Reaped(looked_at, lost, len(faults) - len(left), len(left), next(filter(None, left), ""))

    async def _salvaged(self, ref: Ref) -> str | None:
        """Save a stream; return why it is not saved, if it is not."""
        try:
            return None if await self.salvage(ref) else ""
        except Exception as error:  # noqa: BLE001 - the application's: the others are still to be saved
            return said(error)

    async def examined(self, user: str | None, *, bury: bool = True) -> AsyncGenerator[tuple[Info, bool], None]:
        """Yield every stream on the list, and whether it was found lost now; the list is mended on the way."""
        place: int | None = 0
        before: set[Listed] = set()
        while place is not None:
            some, place = await self._backend.listed(user, place, _TOGETHER)
            some, before = [one for one in some if one not in before], set(some)
            seen = await _together(_LOOKED_AT_ONCE, (self._look(one.ref) for one in some))
            await self._backend.forget([one for one, (info, _) in zip(some, seen, strict=True) if _is_over(info)])
            for info, lost in seen:
                if info is None or (_is_over(info) and not lost):
                    continue
                if lost and bury and not info.saved:
                    self._soon(self.salvage(info.ref))
                yield info, lost

    async def _look(self, ref: Ref) -> tuple[Info | None, bool]:
        """Return how a stream stands, having ended it where its producer is lost; and whether it was this that did."""
        info = await self._backend.info(ref)
        if info is None or not info.stale or not await self._end(info):
            return info, False
        return await self._backend.info(ref) or replace(info, state=State.LOST), True

    async def bury(self, seen: Info) -> bool:
        """End a stream whose producer is lost, and save it beside; return whether it was this call that ended it."""
        ended = await self._end(seen)
        if ended:
            self._soon(self.salvage(seen.ref))
        return ended

    async def salvage(self, ref: Ref) -> bool:
        """Save a stream that has ended from its log; return whether it is saved.

        Raises StreamError where the log is not what it was: whoever ended the stream may have saved all of it.
        """
        log = bytearray()
        while True:
            page = await self._backend.read(ref, len(log))
            info = page.info
            if info is None or info.state is State.LIVE:
                return False
            log += page.data
            if not page.data or len(log) >= info.end:
                break
        if info.saved:
            return True
        if self._persist is None:
            return False
        if len(log) < info.end:
            raise StreamError(
                f"stream {ref.id} of chat {ref.chat[:60]!r} had {info.end:,} bytes; {len(log):,} are left"
            )
        text, meta = bytes(log[: info.end]), json.loads(info.meta or "{}")
        told = info.started, info.error, info.stop, meta
        await self.save(Final(ref.id, ref.chat, info.user, info.state, text, tuple(events(text)), *told))
        await self._backend.saved(ref)
        await self._backend.forget([Listed(ref, info.user)])
        return True

    async def save(self, final: Final) -> None:
        """Hand a stream to the application; what does not await is done beside the event loop."""
        if self._persist is None:
            return
        if inspect.iscoroutinefunction(self._persist):
            await self._persist(final)
            return
        done = await asyncio.to_thread(self._persist, final)
        if inspect.isawaitable(done):
            await done

    async def _end(self, seen: Info) -> bool:
        return await self._backend.force(seen, State.LOST, _LOST)


def final(producer: Producer, state: State, error: str) -> Final:
    """Return a stream as its own producer has it, for the application to save."""
    text, opening = bytes(producer.text), producer.opening
    told = producer.started, error, producer.stopped_by, json.loads(opening.meta)
    return Final(producer.id, producer.ref.chat, opening.user, state, text, tuple(events(text)), *told)


def _is_over(info: Info | None) -> bool:
    """Whether nothing is left to do about a stream."""
    return info is None or (info.state is not State.LIVE and info.saved)


async def _together(most: int, work: Iterable[Coroutine[Any, Any, _T]]) -> list[_T]:
    """Do several things, so many at once at most; return what came of each."""
    free = asyncio.Semaphore(most)

    async def one(each: Coroutine[Any, Any, _T]) -> _T:
        async with free:
            return await each

    return await asyncio.gather(*map(one, work))


def said(error: BaseException) -> str:
    """Return an error in one line."""
    text = f"{type(error).__name__}: {error}"[:300] if str(error) else type(error).__name__
    return plain(text)
