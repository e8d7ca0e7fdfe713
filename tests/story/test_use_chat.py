"""A front end of the AI SDK's reads our streams: `useChat` goes on after a refresh, and ends where it is stopped."""

import asyncio
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Mount, Route

from nightcrew.frame import AI_SDK
from nightcrew.streaming import Streams, Terms
from nightcrew.web.starlette import StreamResponse
from nightcrew.web.streams import streams as routes

SCRIPT = Path(__file__).with_name("use_chat.mjs")
PACKAGES = "ai@6", "@ai-sdk/react@3", "react@19", "react-dom@19", "jsdom@26"
WORDS = [f"word {number}, " for number in range(60)]


@pytest.fixture(scope="module")
def front_end(tmp_path_factory) -> list[str]:
    """Return the command of a front end; skips where there is no Node, or nobody to install its packages from."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("no Node here, so no useChat was tried")
    folder = tmp_path_factory.mktemp("front-end")
    line = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder), *PACKAGES]
    if subprocess.run(line, check=False, capture_output=True, timeout=180).returncode:
        pytest.skip("npm could not install the AI SDK, so no useChat was tried")
    shutil.copy(SCRIPT, folder)
    return ["node", str(folder / SCRIPT.name)]


async def parts():
    for kind in ({"type": "start", "messageId": "m1"}, {"type": "start-step"}, {"type": "text-start", "id": "1"}):
        yield kind
    for word in WORDS:
        await asyncio.sleep(0.08)
        yield {"type": "text-delta", "id": "1", "delta": word}
    for kind in ({"type": "text-end", "id": "1"}, {"type": "finish-step"}, {"type": "finish"}):
        yield kind


@pytest.fixture
def back_end() -> Iterator[str]:
    """An application that answers over our routes."""
    streams = Streams("memory://", terms=Terms(codec=AI_SDK))

    async def answer(request: Request) -> StreamResponse:
        return StreamResponse(streams, (await streams.run((await request.json())["id"], "ada", parts())).ref)

    own = Mount("/", routes(streams, authorize=lambda _scope, _chat: "ada"))
    app = Starlette(routes=[Route("/api/chat", answer, methods=["POST"]), own])
    config = uvicorn.Config(app, port=0, log_level="error", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


@contextmanager
def shown(front_end: list[str], url: str, verb: str) -> Iterator[Iterator[dict]]:
    """Open a chat in a front end, and yield what it shows, one after the other."""
    with subprocess.Popen([*front_end, url, "chat", verb], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield (json.loads(line) for line in process.stdout)
        finally:
            process.kill()


def test_a_front_end_that_is_opened_anew_shows_the_whole_answer(front_end, back_end):
    with shown(front_end, back_end, "send") as told:
        next(one for one in told if one["text"].count("word") >= 5)
    with shown(front_end, back_end, "resume") as told:
        texts = list(told)
    whole = "".join(WORDS)
    assert (texts[-1]["status"], texts[-1]["text"], texts[-1]["error"]) == ("ready", whole, None)
    assert all(whole.startswith(one["text"]) for one in texts)


def test_a_front_end_shows_what_there_was_when_somebody_stopped_it(front_end, back_end):
    with shown(front_end, back_end, "send") as told:
        next(one for one in told if one["text"].count("word") >= 5)
        (live,) = httpx.get(f"{back_end}/api/chat/streams").json()["streams"]
        stopped = httpx.post(f"{back_end}/api/chat/chat/stop", json={"streamId": live["streamId"]})
        assert stopped.json()["outcome"] == "stopped"
        last = list(told)[-1]
    assert last["status"] == "ready"
    assert 5 <= last["text"].count("word") < len(WORDS)
    with shown(front_end, back_end, "resume") as told:
        assert next(told) == {"status": "ready", "text": "", "error": None}, "nothing is live any more"
