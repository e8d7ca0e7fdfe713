"""Writers: who writes the answers word by word: the drawer of written ones, or an endpoint that speaks OpenAI's way."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from threading import Thread
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit
from zlib import crc32

from nightcrew.demo import responder
from nightcrew.errors import ConfigurationError
from nightcrew.settings import variable

_QUICKEST, _SLOWEST = 30, 80  # milliseconds between two parts of an answer
_MOST_WORDS = 4  # of one part
_PATIENCE = 60.0  # seconds that a model may be silent
_URL, _MODEL, _KEY = (f"NIGHTCREW_DEMO_OPENAI_{name}" for name in ("URL", "MODEL", "KEY"))


class ModelFailed(Exception):
    """The answer cannot be written, or not to its end; the text says why, to the person who asked."""


class Turn(NamedTuple):
    """One thing said in a chat, by the user or the assistant."""

    role: str
    text: str


class Model(Protocol):
    """Who writes an answer."""

    about: str
    """What stands beside the button that asks it."""

    def answer(self, turns: Sequence[Turn]) -> AsyncIterator[str]:
        """Yield the answer to the last turn, part by part; raises ModelFailed."""


class Drawer:
    """The drawer of written answers, which are read out a few words at a time: the same words at the same pace."""

    about = (
        "No model is behind this: the answer comes from a drawer of written ones, or is drawn if you ask for a drawing."
        " “Everything you know” takes it a while, and if you ask it to “get stuck in the middle”, it does."
    )

    def __init__(self, pace: float = 1.0) -> None:
        self._pace = pace

    async def answer(self, turns: Sequence[Turn]) -> AsyncIterator[str]:
        """Yield the written answer; one that is asked to fail in the middle does."""
        question = turns[-1].text
        parts = list(_parts(responder.answer(question)))
        for number, part in enumerate(parts):
            if number == len(parts) // 2 and responder.to_fail(question):
                raise ModelFailed("The drawer was asked to get stuck in the middle, and did.")
            wait = _QUICKEST + crc32(f"{number} {question}".encode()) % (_SLOWEST - _QUICKEST + 1)
            await asyncio.sleep(self._pace * wait / 1000)
            yield part


class Endpoint:
    """An endpoint of OpenAI's Chat Completions, or of who speaks like it, such as Ollama or vLLM."""

    def __init__(self, url: str, model: str, key: str | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigurationError(f"{_URL} is no address of HTTP: write one such as http://localhost:11434/v1")
        if not model:
            raise ConfigurationError(f"{_MODEL} is missing: name the model that {_URL} is to answer with")
        self._parts = parts
        self._model = model
        self._key = key
        self.about = f"What you write is sent to {parts.hostname}, where {model} answers; drawings are made here."

    async def answer(self, turns: Sequence[Turn]) -> AsyncIterator[str]:
        """Yield what the endpoint streams; whoever reads no more hangs up."""
        loop, heard = asyncio.get_running_loop(), asyncio.Queue[str | Exception | None]()

        def say(word: str | Exception | None) -> None:
            with suppress(RuntimeError):  # nobody listens any more: the loop has ended
                loop.call_soon_threadsafe(heard.put_nowait, word)

        kind = HTTPSConnection if self._parts.scheme == "https" else HTTPConnection
        line = _Line(kind(self._parts.hostname or "", self._parts.port, timeout=_PATIENCE))
        Thread(target=self._ask, args=(line, turns, say), name="model", daemon=True).start()
        try:
            while (word := await heard.get()) is not None:
                if isinstance(word, Exception):
                    raise word
                yield word
        finally:
            line.hang_up()

    def _ask(self, line: "_Line", turns: Sequence[Turn], say: Any) -> None:
        """Ask, and say what comes; in a thread, for the standard library's client waits."""
        try:
            for word in self._words(line, turns):
                say(word)
            say(None)
        except ModelFailed as failure:
            say(failure)
        except (OSError, HTTPException, ValueError) as problem:
            say(ModelFailed(f"The model at {self._parts.hostname} cannot be reached, or broke off: {_first(problem)}"))
        finally:
            line.http.close()

    def _words(self, line: "_Line", turns: Sequence[Turn]) -> Iterator[str]:
        messages = [{"role": turn.role, "content": turn.text} for turn in turns]
        body = json.dumps({"model": self._model, "stream": True, "messages": messages})
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        headers |= {"Authorization": f"Bearer {self._key}"} if self._key else {}
        line.pick_up()
        line.http.request("POST", f"{self._parts.path.rstrip('/')}/chat/completions", body, headers)
        with line.http.getresponse() as reply:
            if reply.status != 200:
                raise ModelFailed(f"The model at {self._parts.hostname} answered {reply.status}: {_reason(reply)}")
            for row in reply:
                data = row.strip().removeprefix(b"data:").strip() if row.startswith(b"data:") else b""
                if data == b"[DONE]":
                    return
                if data and (word := _word(json.loads(data))):
                    yield word
        raise ModelFailed(f"The model at {self._parts.hostname} broke off in the middle.")


class _Line:
    """A connection that one thread reads, and another may hang up."""

    def __init__(self, http: HTTPConnection) -> None:
        self.http = http
        self._socket: socket.socket | None = None
        self._over = False

    def pick_up(self) -> None:
        """Connect; what was hung up before that is at its end at once."""
        self.http.connect()
        self._socket = self.http.sock  # the client lets go of it, where a reply ends with its connection
        if self._over:
            self.hang_up()

    def hang_up(self) -> None:
        """Wake the thread that reads: it finds the line at its end, and closes it."""
        self._over = True
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)


def chosen() -> Model:
    """Return the endpoint that the environment names, or the drawer; raises ConfigurationError."""
    url = variable(_URL)
    return Endpoint(url, variable(_MODEL) or "", variable(_KEY)) if url else Drawer()


def _parts(text: str) -> Iterator[str]:
    """Cut a text behind some of its spaces: all of them together are the text."""
    words, number = text.split(" "), 0
    while words:
        size = 1 + crc32(f"{number} {text}".encode()) % _MOST_WORDS
        part, words, number = words[:size], words[size:], number + 1
        yield " ".join(part) + (" " if words else "")


def _word(said: Mapping[str, Any]) -> str:
    """Read what one event adds to the answer; raises ModelFailed for one that tells of an error."""
    if error := said.get("error"):
        raise ModelFailed(f"The model says: {_told(error)}")
    choices = said.get("choices") or [{}]
    return str((choices[0].get("delta") or {}).get("content") or "")


def _reason(reply: HTTPResponse) -> str:
    """Return why an endpoint refuses, in its own words where it has some."""
    try:
        return _told(json.loads(reply.read(10_000))["error"])
    except (ValueError, KeyError, TypeError):
        return reply.reason


def _told(error: Any) -> str:
    return str(error.get("message", error) if isinstance(error, dict) else error)[:300]


def _first(problem: Exception) -> str:
    return (str(problem) or type(problem).__name__).splitlines()[0][:200]
