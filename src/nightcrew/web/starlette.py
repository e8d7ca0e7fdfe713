"""The job routes, and the pages of unsubscribe links, as a router of Starlette or FastAPI; a stream as a response."""

from nightcrew.errors import MissingExtra
from nightcrew.job import ROUTES
from nightcrew.stream import Ref
from nightcrew.streaming import Streams
from nightcrew.trigger import Roster
from nightcrew.unsubscribe import PATH as PAGES
from nightcrew.web.asgi import App, Receive, Scope, Send, asgi
from nightcrew.web.streams import HEARTBEAT, EventStream

try:
    from starlette.responses import Response
    from starlette.routing import BaseRoute, Route, Router
except ImportError:
    raise MissingExtra(
        "a router needs Starlette; run: pip install 'nightcrew[starlette]', or use the plain ASGI app."
    ) from None

try:  # FastAPI includes routers of its own kind only; that kind is a Starlette Router too
    from fastapi import APIRouter
except ImportError:
    APIRouter = Router  # type: ignore[misc, assignment]


def router(roster: Roster) -> APIRouter:
    """Return the routes for `app.include_router(...)` in FastAPI, or `Mount("/", ...)` in Starlette.

    A job that gets a path of its own after this call is reached by its `/api/internal/jobs` route until the router
    is made again; `doors` and `asgi` have no such limit.
    """
    app = asgi(roster)
    routes: list[BaseRoute] = [
        Route(ROUTES, _Endpoint(app, ROUTES)),
        Route(f"{ROUTES}/{{below:path}}", _Endpoint(app, f"{ROUTES}/")),
    ]
    if roster.mail is not None:
        routes.append(Route(f"{PAGES}{{below:path}}", _Endpoint(app, PAGES)))
    for path in {job.path for job in roster.jobs.values() if job.path}:
        routes += [Route(path, _Endpoint(app, path)), Route(f"{path}/", _Endpoint(app, path))]
    return APIRouter(routes=routes, default=app)


class StreamResponse(Response):
    """What a route returns that has begun a stream: its events as they come.

    >>> return StreamResponse(streams, (await streams.run(chat, user, answer())).ref)
    """

    def __init__(self, streams: Streams, ref: Ref, after: int = 0, *, heartbeat: float = HEARTBEAT) -> None:
        super().__init__()
        self._events = EventStream(streams, ref, after, heartbeat=heartbeat)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        await self._events(scope, receive, send)


class _Endpoint:
    """One route, whose path is known whatever prefix the router was included under."""

    def __init__(self, app: App, path: str) -> None:
        self._app = app
        self._path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = self._path + scope["path_params"].get("below", "")
        await self._app({**scope, "path": path, "root_path": ""}, receive, send)
