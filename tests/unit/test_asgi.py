"""The ASGI application, alone and mounted: same answers everywhere, and an event loop that never waits for a run."""

import asyncio
import os
import signal
import sys
import threading
import warnings
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from tests.alarms import Nobody

from nightcrew.clock import SystemClock
from nightcrew.errors import MissingExtra
from nightcrew.job import Job
from nightcrew.outcome import Outcome
from nightcrew.report import Report
from nightcrew.schedule import every
from nightcrew.settings import Settings
from nightcrew.web.asgi import App, asgi, doors, lifespan
from nightcrew.web.starlette import router

SECRET = "correct-horse-battery-staple"
BEARER = {"authorization": f"Bearer {SECRET}"}
JOB = "/api/internal/jobs/cleanup-pkce"
OWN = "/api/oauth/cleanup-pkce"


@dataclass
class Crew:
    """A crew whose one job does what the test gives it to do."""

    work: Callable[[], object] = lambda: None
    settings: Settings = field(default_factory=lambda: Settings(secret=SECRET))
    errand = None
    mail = None
    alarms = Nobody()
    clock: SystemClock = field(default_factory=SystemClock)
    jobs: Mapping[str, Job] = field(
        default_factory=lambda: {"cleanup-pkce": Job("cleanup-pkce", every("10 minutes"), function=print, path=OWN)}
    )
    runs: list[dict[str, Any]] = field(default_factory=list)

    def tick(self, **_: Any) -> list[Report]:
        return []

    def run(self, name: str, **asked: Any) -> Report:
        self.runs.append({"name": name, **asked})
        self.work()
        return Report(name, Outcome.NOTHING_TO_DO, "Nothing to do.", datetime(2026, 3, 29, tzinfo=UTC), "http")

    def tell(self, kind: str, **facts: Any) -> None: ...


@pytest.fixture
def crew() -> Crew:
    return Crew()


def scope(path: str, method: str = "GET", root: str = "", **headers: str) -> dict[str, Any]:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {
        "type": "http", "method": method, "path": path, "root_path": root, "query_string": b"",
        "headers": raw, "client": ("203.0.113.9", 1),
    }  # fmt: skip


async def drive(app: App, scope: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    """Call an ASGI application that may not read the body, and return what it sends."""
    sent: list[dict[str, Any]] = []

    async def receive() -> Any:
        raise AssertionError("the body was read")

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, more.get("receive", receive), more.get("send", send))
    return sent


def fetch(app: Any, *paths: str, method: str = "POST", headers: Mapping[str, str] = BEARER) -> list[httpx.Response]:
    async def all_of_them() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://app.example") as client:
            return [await client.request(method, path, headers=headers, content=b"x" * 9999) for path in paths]

    return asyncio.run(all_of_them())


async def home(_: Any) -> PlainTextResponse:
    return PlainTextResponse("the application")


def fastapi_router(crew: Crew, prefix: str = "") -> FastAPI:
    app = FastAPI()
    app.include_router(router(crew), prefix=prefix)
    app.add_route("/", home)
    return app


def fastapi_doors(crew: Crew) -> FastAPI:
    app = FastAPI()
    app.add_middleware(doors, roster=crew)
    app.add_route("/", home)
    return app


def fastapi_mount(crew: Crew) -> FastAPI:
    app = FastAPI()
    app.add_route("/", home)
    app.mount("/", asgi(crew))
    return app


def mounted(prefix: str, crew: Crew) -> Starlette:
    return Starlette(routes=[Mount(prefix, asgi(crew))])


HOMES: dict[str, tuple[str, Callable[[Crew], Any]]] = {
    "alone": ("", asgi),
    "before an application": ("", lambda crew: doors(Starlette(routes=[Route("/", home)]), crew)),
    "Starlette, mounted at the root": ("", lambda crew: Starlette(routes=[Route("/", home), Mount("/", asgi(crew))])),
    "Starlette, mounted under a prefix": ("/cron", lambda crew: mounted("/cron", crew)),
    "Starlette, mounted twice": ("/a/b", lambda crew: Starlette(routes=[Mount("/a", mounted("/b", crew))])),
    "Starlette, mounted at half the prefix": ("", lambda crew: mounted("/api", crew)),
    "Starlette, a router": ("", lambda crew: Starlette(routes=[Mount("/", router(crew))])),
    "Starlette, a router under a prefix": ("/cron", lambda crew: Starlette(routes=[Mount("/cron", router(crew))])),
    "Starlette, the router's routes": ("", lambda crew: Starlette(routes=router(crew).routes)),
    "FastAPI, a router": ("", fastapi_router),
    "FastAPI, a router under a prefix": ("/cron", lambda crew: fastapi_router(crew, "/cron")),
    "FastAPI, mounted": ("", fastapi_mount),
    "FastAPI, as middleware": ("", fastapi_doors),
}  # fmt: skip


@pytest.fixture(params=HOMES)
def housed(request: pytest.FixtureRequest, crew: Crew) -> tuple[str, Any]:
    prefix, build = HOMES[request.param]
    return prefix, build(crew)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_wherever_it_lives_every_route_runs_its_job_and_nothing_redirects(
    housed: tuple[str, Any], crew: Crew, method: str
) -> None:
    prefix, app = housed
    paths = [JOB, f"{JOB}/", OWN, f"{OWN}/"]
    answers = fetch(app, *(prefix + path for path in paths), method=method)
    assert [answer.status_code for answer in answers] == [200] * 4
    assert len(crew.runs) == 4


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "BREW"])
def test_wherever_it_lives_a_stranger_gets_our_401_for_any_method_and_any_job(
    housed: tuple[str, Any], crew: Crew, method: str
) -> None:
    prefix, app = housed
    paths = [JOB, f"{JOB}/", OWN, f"{OWN}/", "/api/internal/jobs/nope", "/api/internal/jobs/a/b"]
    paths += ["/api/internal/jobs", "/api/internal/jobs/"]
    for answer in fetch(app, *(prefix + path for path in paths), method=method, headers={}):
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.headers["x-robots-tag"] == "noindex, nofollow, noarchive"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["content-type"] == "application/json"
    assert not crew.runs


def test_wherever_it_lives_our_405_and_404_answer_and_not_the_frameworks(housed: tuple[str, Any]) -> None:
    prefix, app = housed
    for method in ("HEAD", "PUT", "OPTIONS"):
        (refused,) = fetch(app, prefix + JOB, method=method)
        assert (refused.status_code, refused.headers["allow"]) == (405, "GET, POST")
    (missing,) = fetch(app, f"{prefix}/api/internal/jobs/cleanup-pkec/")
    assert missing.status_code == 404
    assert "did you mean 'cleanup-pkce'?" in missing.json()["error"]


@pytest.mark.parametrize("prefix", ["", "/cron"])
def test_mounted_at_its_own_prefix_the_jobs_answer_there(crew: Crew, prefix: str) -> None:
    for kind in (asgi, router):
        app = Starlette(routes=[Mount(f"{prefix}/api/internal/jobs", kind(crew))])
        answers = fetch(app, prefix + JOB, f"{prefix}{JOB}/")
        assert [answer.status_code for answer in answers] == [200, 200]
        assert fetch(app, prefix + JOB, headers={})[0].status_code == 401


def test_a_root_path_that_a_proxy_strips_does_not_matter(crew: Crew) -> None:
    for path, root in ((JOB, "/srv"), (f"/srv{JOB}", "/srv"), (f"/srv{JOB}", "/srv/"), (JOB, "/"), (JOB, "srv")):
        start, _ = asyncio.run(drive(asgi(crew), scope(path, root=root, **BEARER)))
        assert start["status"] == 200


def test_a_prefix_that_begins_a_jobs_path_leads_to_that_job(crew: Crew) -> None:
    crew.jobs = {name: Job(name, every("1 hour"), function=print, path=path) for name, path in
                 (("long", "/cron/cleanup"), ("short", "/cleanup"))}  # fmt: skip
    for kind in (asgi, router):
        fetch(Starlette(routes=[Mount("/cron", kind(crew))]), "/cron/cron/cleanup", "/cron/cleanup")
        assert [run["name"] for run in crew.runs] == ["long", "short"]
        crew.runs.clear()


@pytest.mark.parametrize("build", [fastapi_router, fastapi_doors, fastapi_mount])
def test_the_applications_own_routes_still_answer(crew: Crew, build: Callable[[Crew], FastAPI]) -> None:
    assert fetch(build(crew), "/", method="GET")[0].text == "the application"


def test_the_routes_are_not_in_the_applications_openapi_document(crew: Crew) -> None:
    assert "internal" not in fetch(fastapi_router(crew), "/openapi.json", method="GET")[0].text


def test_doors_answer_a_stranger_before_the_application_hears_of_the_call(crew: Crew) -> None:
    heard: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        heard.append(scope["path"])

    wrapped = doors(app, crew)
    for path in (JOB, OWN, "/", "/api/oauth/other", f"{OWN}x"):
        asyncio.run(drive(wrapped, scope(path)))
    assert heard == ["/", "/api/oauth/other", f"{OWN}x"]


def test_a_job_registered_later_is_reached_at_once(crew: Crew) -> None:
    app = asgi(crew)
    crew.jobs = {**crew.jobs, "late": Job("late", every("1 hour"), function=print, path="/late")}
    assert [answer.status_code for answer in fetch(app, "/late", "/late/", "/api/internal/jobs/late")] == [200] * 3


def test_a_stranger_costs_no_thread_and_no_body(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading.Thread, "start", lambda *_: pytest.fail("a thread was started"))
    start, body = asyncio.run(drive(asgi(crew), scope(JOB, "POST", content_length="9999999")))
    assert start["status"] == 401
    assert body["body"].startswith(b'{"error"')


def test_headers_that_middleware_adds_do_not_pile_up_from_call_to_call(crew: Crew) -> None:
    cors = Middleware(CORSMiddleware, allow_origins=["*"], expose_headers=["x-test"])
    app = Starlette(routes=[Mount("/", asgi(crew))], middleware=[cors, Middleware(GZipMiddleware, minimum_size=1)])
    answers = fetch(app, *[JOB] * 4, headers={"origin": "http://x.example", "accept-encoding": "gzip"})
    assert len({len(answer.headers.multi_items()) for answer in answers}) == 1
    assert {answer.status_code for answer in answers} == {401}


def test_a_head_gets_the_headers_and_no_body(crew: Crew) -> None:
    for headers in ({}, BEARER):
        start, body = asyncio.run(drive(asgi(crew), scope(JOB, "HEAD", **headers)))
        assert int(dict(start["headers"])[b"content-length"]) > 0
        assert body["body"] == b""


def test_alone_a_path_that_is_none_of_ours_is_not_found(crew: Crew) -> None:
    (answer,) = fetch(asgi(crew), "/robots.txt")
    assert answer.status_code == 404
    assert answer.headers["x-robots-tag"] == "noindex, nofollow, noarchive"


def test_alone_a_websocket_is_closed(crew: Crew) -> None:
    (close,) = asyncio.run(drive(asgi(crew), {"type": "websocket", "path": JOB}))
    assert close["type"] == "websocket.close"


def test_an_unknown_protocol_is_refused_as_asgi_wants_it(crew: Crew) -> None:
    with pytest.raises(NotImplementedError, match="carrier-pigeon"):
        asyncio.run(drive(asgi(crew), {"type": "carrier-pigeon"}))


# Beside the event loop


def test_the_event_loop_keeps_turning_while_a_job_runs(crew: Crew) -> None:
    finish = threading.Event()
    crew.work = lambda: finish.wait(10)

    async def story() -> int:
        call = asyncio.ensure_future(drive(asgi(crew), scope(JOB, **BEARER)))
        turns = 0
        while turns < 50:
            await asyncio.sleep(0.001)
            turns += 1
        assert not call.done()
        finish.set()
        await call
        return turns

    assert asyncio.run(story()) == 50


def test_runs_leave_the_applications_own_threads_free(crew: Crew) -> None:
    finish = threading.Event()
    crew.work = lambda: finish.wait(10)

    async def story() -> None:
        app = asgi(crew)
        calls = [asyncio.ensure_future(drive(app, scope(JOB, **BEARER))) for _ in range(40)]
        async with asyncio.timeout(5):
            await asyncio.gather(*(asyncio.to_thread(int) for _ in range(40)))
        finish.set()
        await asyncio.gather(*calls)

    asyncio.run(story())
    assert len(crew.runs) == 40


@pytest.fixture
def halfway(crew: Crew) -> Iterator[tuple[threading.Event, threading.Event, list[str]]]:
    """A job that says when it is half-way, goes on when told, and remembers that it finished."""
    reached, go_on, done = threading.Event(), threading.Event(), []

    def work() -> None:
        reached.set()
        go_on.wait(10)
        done.append("finished")

    crew.work = work
    yield reached, go_on, done
    go_on.set()


def test_a_caller_who_hangs_up_does_not_stop_a_run_half_way(crew: Crew, halfway: tuple[Any, ...]) -> None:
    reached, go_on, done = halfway

    async def send(_: Any) -> None:
        raise ConnectionResetError("the caller is gone")

    async def story() -> None:
        call = asyncio.ensure_future(drive(asgi(crew), scope(JOB, **BEARER), send=send))
        await asyncio.to_thread(reached.wait, 10)
        go_on.set()
        await call

    asyncio.run(story())
    assert done == ["finished"]


def test_a_server_that_cancels_the_call_does_not_stop_a_run_half_way(crew: Crew, halfway: tuple[Any, ...]) -> None:
    reached, go_on, done = halfway

    async def story() -> None:
        call = asyncio.ensure_future(drive(asgi(crew), scope(JOB, **BEARER)))
        await asyncio.to_thread(reached.wait, 10)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        go_on.set()
        for _ in range(1000):
            if done:
                break
            await asyncio.sleep(0.005)

    asyncio.run(story())
    assert done == ["finished"]


def test_a_run_sees_the_context_of_its_call(crew: Crew) -> None:
    trace: ContextVar[str] = ContextVar("trace", default="none")
    seen: list[str] = []
    crew.work = lambda: seen.append(trace.get())

    async def story() -> None:
        trace.set("call 7")
        await drive(asgi(crew), scope(JOB, **BEARER))

    asyncio.run(story())
    assert seen == ["call 7"]


def test_what_a_scope_may_leave_out_is_not_missed(crew: Crew) -> None:
    bare = {"type": "http", "method": "GET", "path": JOB}
    assert asyncio.run(drive(asgi(crew), bare))[0]["status"] == 401
    bare["headers"] = [(b"authorization", BEARER["authorization"].encode())]
    assert asyncio.run(drive(asgi(crew), bare))[0]["status"] == 200


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_the_child_of_a_fork_answers_after_its_parent_has_served_a_call(crew: Crew) -> None:
    app = asgi(crew)
    assert asyncio.run(drive(app, scope(JOB, **BEARER)))[0]["status"] == 200
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads is what a preloading server does
        child = os.fork()
    if child == 0:
        signal.alarm(10)  # a child that hangs dies of it
        answered = asyncio.run(drive(app, scope(JOB, **BEARER)))[0]["status"]
        os._exit(0 if answered == 200 else 1)
    assert os.waitpid(child, 0)[1] == 0


# Start and stop


def live(app: App, *, until: str = "lifespan.shutdown") -> list[str]:
    """Take an application through its life, and return what it said of it."""
    said: list[str] = []
    messages = iter([{"type": "lifespan.startup"}, {"type": until}])

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        said.append(message["type"].removeprefix("lifespan.") + message.get("message", ""))

    async def story() -> None:
        try:
            await app({"type": "lifespan"}, receive, send)
        except ValueError as error:
            said.append(f"raised {error}")

    asyncio.run(story())
    return said


def test_start_and_stop_are_called_with_the_server(crew: Crew) -> None:
    story: list[str] = []
    said = live(asgi(crew, on_start=lambda: story.append("start"), on_stop=lambda: story.append("stop")))
    assert story == ["start", "stop"]
    assert said == ["startup.complete", "shutdown.complete"]
    assert live(asgi(crew)) == said


def test_a_start_that_fails_is_reported_and_nothing_is_stopped(crew: Crew) -> None:
    def fail() -> None:
        raise ValueError("no database")

    app = asgi(crew, on_start=fail, on_stop=lambda: pytest.fail("stopped what never started"))
    assert live(app) == ["startup.failedValueError: no database", "raised no database"]
    app = asgi(crew, on_stop=fail)
    assert live(app)[1:] == ["shutdown.failedValueError: no database", "raised no database"]


def test_the_crew_starts_after_the_applications_own_lifespan_and_stops_before_it(crew: Crew) -> None:
    story: list[str] = []

    @asynccontextmanager
    async def pools(app: FastAPI) -> AsyncIterator[dict[str, str]]:
        story.append(f"open pools of {app.title}")
        yield {"pool": "open"}
        story.append("close pools")

    wrapped = lifespan(lambda: story.append("start"), lambda: story.append("stop"), inner=pools)
    app = FastAPI(title="app", lifespan=wrapped)

    async def serve() -> None:
        async with app.router.lifespan_context(app) as state:
            assert state == {"pool": "open"}
            story.append("serving")

    asyncio.run(serve())
    assert story == ["open pools of app", "start", "serving", "stop", "close pools"]


def test_the_crew_stops_even_when_serving_fails_and_pools_close_even_when_the_start_fails() -> None:
    story: list[str] = []

    @asynccontextmanager
    async def pools(_: Any) -> AsyncIterator[None]:
        try:
            yield
        finally:
            story.append("close pools")

    def fail() -> None:
        raise ValueError("no database")

    async def serve(start: Callable[[], object]) -> None:
        async with lifespan(start, lambda: story.append("stop"), inner=pools)(None):
            raise ValueError("serving failed")

    with pytest.raises(ValueError, match="serving failed"):
        asyncio.run(serve(lambda: None))
    assert story == ["stop", "close pools"]
    story.clear()
    with pytest.raises(ValueError, match="no database"):
        asyncio.run(serve(fail))
    assert story == ["close pools"]


def test_stopping_does_not_hold_up_the_event_loop() -> None:
    may_stop = threading.Event()

    async def story() -> None:
        async with lifespan(None, lambda: may_stop.wait(10) or pytest.fail("the loop stood still"))(None):
            asyncio.get_running_loop().call_later(0.01, may_stop.set)

    asyncio.run(story())


def test_lifespan_messages_reach_the_application_behind_the_doors(crew: Crew) -> None:
    @asynccontextmanager
    async def own(_: Any) -> AsyncIterator[None]:
        yield

    assert live(doors(Starlette(lifespan=own), crew)) == ["startup.complete", "shutdown.complete"]


# Without the extras


def reimported(monkeypatch: pytest.MonkeyPatch, *missing: str) -> Any:
    for name in [module for module in sys.modules if module.split(".")[0] in missing]:
        monkeypatch.delitem(sys.modules, name)
    for name in missing:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "nightcrew.web.starlette")
    from nightcrew.web import starlette

    return starlette


def test_without_starlette_the_router_names_the_package_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import nightcrew.web

    monkeypatch.delattr(nightcrew.web, "starlette")
    with pytest.raises(MissingExtra, match=r"pip install 'nightcrew\[starlette\]'"):
        reimported(monkeypatch, "starlette", "fastapi")


def test_without_fastapi_the_router_is_a_plain_starlette_one(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    import nightcrew.web

    monkeypatch.delattr(nightcrew.web, "starlette")
    plain = reimported(monkeypatch, "fastapi").router(crew)
    assert type(plain).__module__ == "starlette.routing"
    assert fetch(Starlette(routes=[Mount("/", plain)]), JOB, f"{OWN}/")[1].status_code == 200
