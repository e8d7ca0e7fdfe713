"""Mountable in FastAPI and Starlette, served by `nightcrew serve`; plain ASGI, no framework."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any, TypeAlias

from nightcrew.trigger import Roster
from nightcrew.triggers.http import NOT_FOUND, Door, Response
from nightcrew.triggers.request import Request
from nightcrew.triggers.unsubscribe import Leaving
from nightcrew.web.pool import Pool

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
Lifespan: TypeAlias = Callable[[Any], AbstractAsyncContextManager[Any]]

RUNS_AT_ONCE = 8  # more jobs than that at the same time would not be gentle; a further call waits for its turn


def asgi(
    roster: Roster,
    *,
    on_start: Callable[[], object] | None = None,
    on_stop: Callable[[], object] | None = None,
) -> App:
    """Return the job routes as an ASGI application, to be served alone or mounted anywhere in another.

    With mail, they are also the pages of its unsubscribe links.

    `on_start` and `on_stop` are called, beside the event loop, when the server starts and stops; a mounted
    application never hears of either and uses `lifespan`.
    """
    return doors(_Ground(lifespan(on_start, on_stop)), roster)


def doors(app: App, roster: Roster) -> App:
    """Return the application with the job routes before it: a stranger is sent away before it hears of the call.

    >>> app = doors(app, crew)  # or: app.add_middleware(doors, roster=crew)
    """
    return _Doors(app, Door(roster), Leaving(roster))


def beside(app: App, at: str, mounted: App) -> App:
    """Return an application with another mounted at a path, `at`, which answers all that is below it."""

    async def both(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan" and (scope["path"] == at or scope["path"].startswith(f"{at}/")):
            await mounted({**scope, "root_path": at}, receive, send)
        else:
            await app(scope, receive, send)

    return both


def lifespan(
    start: Callable[[], object] | None, stop: Callable[[], object] | None, inner: Lifespan | None = None
) -> Lifespan:
    """Return a lifespan that starts after `inner` (the application's own) has, and stops before it does.

    >>> app = FastAPI(lifespan=lifespan(ticker.start, ticker.stop, inner=open_pools))
    """

    @asynccontextmanager
    async def live(app: Any) -> AsyncIterator[Any]:
        async with AsyncExitStack() as stack:
            state = await stack.enter_async_context(inner(app)) if inner else None
            if start:
                await asyncio.to_thread(start)
            try:
                yield state
            finally:
                if stop:
                    await asyncio.to_thread(stop)

    return live


class _Doors:
    """The routes before an application."""

    def __init__(self, app: App, door: Door, leaving: Leaving) -> None:
        self._app = app
        self._door = door
        self._leaving = leaving
        self._pool = Pool(RUNS_AT_ONCE, "nightcrew-http")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = self._route(scope) if scope["type"] == "http" else None
        if path is None:
            await self._app(scope, receive, send)
            return
        client = scope.get("client")
        request = Request(
            scope["method"], path, scope.get("query_string", b""), scope.get("headers", ()), client and client[0]
        )
        answer = await (self._left(request) if self._leaving.owns(path) else self._ran(request))
        with suppress(OSError):
            await _reply(answer, send, head=scope["method"] == "HEAD")

    async def _ran(self, request: Request) -> Response:
        visitor = self._door.admit(request)
        if isinstance(visitor, Response):
            return visitor
        # A caller who hangs up only loses the answer: nobody listens for it here, and a thread runs to its end.
        return await asyncio.wrap_future(self._pool.submit(partial(self._door.serve, request, visitor)))

    async def _left(self, request: Request) -> Response:
        """Answer whoever follows an unsubscribe link; that is over in no time, and waits for no job that runs long."""
        seen = self._leaving.look(request)
        return seen if isinstance(seen, Response) else await asyncio.to_thread(self._leaving.grant, seen)

    def _route(self, scope: Scope) -> str | None:
        """Return the path of a route of ours, without what it is mounted at; a mount may itself end in our prefix."""
        path: str = scope["path"]
        root: str = scope.get("root_path", "").rstrip("/")
        start = len(root) if root and path.startswith(f"{root}/") else 0
        while not (self._door.owns(path[start:]) or self._leaving.owns(path[start:])):
            if start == 0:
                return None
            start = max(0, root.rfind("/", 0, start))
        return path[start:]


class _Ground:
    """What lies under the routes when no application does: nothing but the server's start and stop."""

    def __init__(self, life: Lifespan) -> None:
        self._life = life

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["type"]:
            case "http":
                await _reply(NOT_FOUND, send, head=scope["method"] == "HEAD")
            case "websocket":
                await send({"type": "websocket.close", "code": 1000})
            case "lifespan":
                await self._live(receive, send)
            case other:
                raise NotImplementedError(f"nothing here speaks the ASGI protocol {other!r}")

    async def _live(self, receive: Receive, send: Send) -> None:
        phase = "startup"
        await receive()
        try:
            async with self._life(self):
                await send({"type": "lifespan.startup.complete"})
                phase = "shutdown"
                await receive()
        except Exception as error:
            await send({"type": f"lifespan.{phase}.failed", "message": f"{type(error).__name__}: {error}"})
            raise
        await send({"type": "lifespan.shutdown.complete"})


async def _reply(response: Response, send: Send, *, head: bool) -> None:
    # Fresh containers for every call: middleware adds headers to a message in place.
    await send({"type": "http.response.start", "status": response.status, "headers": [*response.headers]})
    await send({"type": "http.response.body", "body": b"" if head else response.body})
