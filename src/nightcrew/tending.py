"""Tending: what a crew does about an application's streams: the stale are ended every minute, the deleted erased."""

import asyncio
import importlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from nightcrew.call import Call
from nightcrew.censor import Censor
from nightcrew.errors import ConfigurationError, JobFailed, StoreError, StreamError, UsageError
from nightcrew.job import Job
from nightcrew.reaper import Persist, Reaped
from nightcrew.schedule import every
from nightcrew.stream import Final, Info, Stopped
from nightcrew.streaming import Streams

JOB = "stale-streams"
_PATIENCE = 60.0  # seconds that an event loop may take for what it is asked
_T = TypeVar("_T")


class Tending:
    """Streams as threads without an event loop see them; also a store, whose keys are the IDs of chats.

    What is asked is done by the event loop that the application's streams live in, where there is one in this process,
    and else by one of its own.
    """

    most = 100

    def __init__(self, streams: Streams, censor: Censor) -> None:
        self._streams = streams
        self._censor = censor
        self.place = "streams"

    @property
    def job(self) -> Job:
        """The job that ends what nobody writes any more, and saves what is not saved yet."""
        return Job(JOB, every("1 minute"), function=self._reap, label="Stale Streams")

    def live(self, user: str | None = None, *, limit: int | None = None) -> list[Info]:
        """Return the live streams, of a user or all, the oldest first; raises StreamError where the backend is away."""
        return self._asked(lambda streams: streams.live(user, limit=limit))

    def stop(self, chat: str, stream: str, *, by: str) -> bool:
        """Ask a stream to stop, wherever it is written; return whether it was live. Raises StreamError."""
        return self._asked(lambda streams: streams.stop(chat, stream, by=by)) in (Stopped.STOPPED, Stopped.FORCED)

    def chats(self) -> set[str]:
        """Return the chats whose streams are live; raises StreamError."""
        return {one.ref.chat for one in self.live()}

    def reap(self) -> Reaped:
        """End the streams whose producer is lost, and save what is not saved yet; raises StreamError."""
        found = self._asked(lambda streams: streams.reap())
        return replace(found, reason=self._censor(found.reason))

    def remove(self, keys: Sequence[str]) -> Mapping[str, str]:
        """Erase the streams of chats: whoever writes or reads one finds that it is gone."""

        async def erase(streams: Streams) -> None:
            for key in keys:
                await streams.erase(key)

        try:
            self._asked(erase)
        except StreamError as away:
            raise StoreError(f"{away}; see that it can be reached", transient=True) from away
        return {}

    def _reap(self, run: Call) -> None:
        """Ends the streams whose producer died, and saves what they have."""
        found = self.reap()
        run.count(max(found.lost, found.saved))
        run.say(said(found))
        if found.unsaved:
            raise JobFailed(f"{said(found)[:-1]}: {found.reason or 'nobody says how: see [streams] persist'}")

    def _asked(self, verb: Callable[[Streams], Awaitable[_T]]) -> _T:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise UsageError(
                "an event loop cannot wait for streams that it writes itself: call it by asyncio.to_thread"
            )
        self._censor.learn_url(self._streams.url)
        loop = self._streams.loop
        if loop is not None and loop.is_running():

            async def here() -> _T:
                return await verb(self._streams)

            asked = asyncio.run_coroutine_threadsafe(here(), loop)
            try:
                return asked.result(_PATIENCE)
            except TimeoutError:
                asked.cancel()
                raise StreamError(f"the event loop of the streams has not answered for {_PATIENCE:g} s") from None

        async def alone() -> _T:
            apart = self._streams.apart()
            try:
                return await verb(apart)
            finally:
                await apart.close()

        return asyncio.run(alone())


def named(path: str) -> str:
    """Return what names a function as MODULE:NAME; raises ConfigurationError for what does not."""
    module, colon, name = path.partition(":")
    if not (colon and name.isidentifier() and all(part.isidentifier() for part in module.split("."))):
        raise ConfigurationError(f"persist is {path[:80]!r}; write a function as MODULE:NAME, such as 'app.chats:save'")
    return path


def persisting(path: str) -> Persist:
    """Return the function that MODULE:NAME names, which is imported when there is something to save."""
    module, _, name = named(path).partition(":")

    def save(final: Final) -> object:
        try:
            function = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as problem:
            raise ConfigurationError(f"persist is {path!r}, and cannot be imported: {problem}") from problem
        return function(final)

    return save


def said(found: Reaped) -> str:
    """Say what was found, in one sentence."""
    if not found.lost and not found.saved and not found.unsaved:
        return "No stream was stale."
    parts = [f"Ended {found.lost} stream{'s' * (found.lost != 1)} whose producer was lost", f"saved {found.saved}"]
    return f"{', '.join([*parts, *([f'could not save {found.unsaved}'] if found.unsaved else [])])}."
