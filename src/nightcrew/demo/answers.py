"""Answers: begun once the question is kept, streamed to whoever has the chat open, and kept however they end."""

import json
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from anyio import from_thread
from sqlalchemy import Connection, select

from nightcrew.crew import Nightcrew
from nightcrew.demo.accounts import Person
from nightcrew.demo.database import Data
from nightcrew.demo.forms import plain
from nightcrew.demo.schema import chats, messages
from nightcrew.demo.writers import Model, ModelFailed, Turn
from nightcrew.errors import StreamError
from nightcrew.stream import Conflict, Final, State
from nightcrew.streaming import Streams, Terms
from nightcrew.streams import way

STORE = "streams"
ENDINGS = {
    State.STOPPED: "Stopped.",
    State.FAILED: "The answer failed.",
    State.LOST: "Interrupted: whoever wrote this answer was not heard of any more.",
    State.REPLACED: "Cut off by another question.",
    "gone": "This chat has been deleted.",
}
"""What stands below an answer that did not come to its end."""
_LONGEST = 600.0  # seconds that an answer may take
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Writing:
    """An answer that is being written: its stream, and the question that it is for."""

    stream: str
    question: str


def streams_at(place: str, data: Data) -> Streams:
    """Return the streams of the chats, whose answers are kept in a database."""
    return Streams(
        way(place, prefix="nightcrew-demo"), persist=lambda final: keep(data, final), terms=Terms(longest=_LONGEST)
    )


class Answers:
    """What pages may ask about answers: from threads, for the streams live in the server's event loop."""

    def __init__(self, crew: Nightcrew, streams: Streams, model: Model) -> None:
        self.streams = streams
        self.about = model.about
        self._crew = crew
        self._model = model

    def begin(self, person: Person, chat: str, question: str, turns: Sequence[Turn]) -> None:
        """Begin to answer a question that is kept; what is being written in the chat is cut off, and kept."""

        async def run() -> None:
            asked = {"conflict": Conflict.REPLACE, "request": question, "meta": {"question": question}}
            await self.streams.run(chat, person.id, self._events(turns), **asked)

        self._here(run)

    def stop(self, person: Person, chat: str, stream: str) -> None:
        """Stop an answer, and no later one."""
        self._here(lambda: self.streams.stop(chat, stream, by=person.id))

    def writing(self, chat: str) -> Writing | None:
        """Return what is being written in a chat; nothing where nobody can tell."""
        with suppress(StreamError):
            found = self._here(lambda: self.streams.active(chat))
            return Writing(found.ref.id, json.loads(found.meta or "{}").get("question", "")) if found else None
        return None

    def busy(self, person: Person) -> set[str]:
        """Return the chats of a person in which something is being written."""
        with suppress(StreamError):
            return {found.ref.chat for found in self._here(lambda: self.streams.live(person.id))}
        return set()

    def owe(self, connection: Connection, leaving: Iterable[str]) -> None:
        """Owe the streams of chats in the transaction that deletes them."""
        self._crew.owe(connection, STORE, leaving)

    def forget(self, gone: Collection[str]) -> None:
        """End the streams of chats that are deleted, at once; those that cannot be reached now are owed."""

        async def erase() -> None:
            for chat in gone:
                await self.streams.erase(chat)

        with suppress(StreamError):
            self._here(erase)

    async def _events(self, turns: Sequence[Turn]) -> AsyncIterator[dict[str, str]]:
        """Yield the events of an answer: its words, and what went wrong."""
        try:
            async for words in self._model.answer(turns):
                yield {"text": plain(words)}
        except ModelFailed as failure:
            yield {"problem": plain(str(failure))}
            raise

    def _here(self, verb: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        return from_thread.run(verb)


def keep(data: Data, final: Final) -> None:
    """Keep an answer however it ended, once: unless its chat or its question has gone, or was put in other words."""
    question, row = final.meta.get("question"), {"stream_id": final.id, "role": "assistant", "chat_id": final.chat}
    with data.writing() as connection:
        if connection.execute(select(chats.c.id).where(chats.c.id == final.chat).with_for_update()).first() is None:
            return
        if connection.execute(select(messages.c.id).where(messages.c.stream_id == final.id)).first() is not None:
            return
        asked = (messages.c.id == question) & (messages.c.chat_id == final.chat)
        moment = connection.scalar(select(messages.c.created_at).where(asked))
        if moment is None:
            return
        state = None if final.state is State.DONE else final.state.value
        told = {"created_at": moment, "state": state, "parts": parts_of(final)}
        connection.execute(messages.insert().values(id=final.id.replace("-", "")[-16:], **row, **told))


def parts_of(final: Final) -> list[dict[str, Any]]:
    """Return an answer as a message has it: what it says, and what went wrong."""
    said = [json.loads(event) for event in final.events]
    text, problem = ("".join(each.get(kind, "") for each in said) for kind in ("text", "problem"))
    if not problem and final.stop == "shutdown":
        problem = "The server was shut down."
    return [{"type": "text", "text": text}, *([{"type": "problem", "text": problem}] if problem else [])]
