"""The way to an application that is deployed: through proxies that do what proxies do."""

import re
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.story.test_export import SECRET, place, served

from nightcrew.checks.check import Finding
from nightcrew.checks.probe import probe

__all__ = ["place", "served"]
Reply = tuple[int, dict[str, str], bytes]


@contextmanager
def proxy(answer: Callable[[BaseHTTPRequestHandler], Reply]) -> Iterator[str]:
    """A server before the application, which answers as it likes."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = answer(self)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 - as the library calls it

        def log_message(self, *said: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def passing(served: str, *, without: str = "", **more: str) -> Callable[[BaseHTTPRequestHandler], Reply]:
    """Hand a request on without one of its headers, and its answer back with some more."""

    def answer(request: BaseHTTPRequestHandler) -> Reply:
        headers = {name: value for name, value in request.headers.items() if name.lower() != without}
        onward = urllib.request.Request(served + request.path, headers=headers, method=request.command)
        try:
            with urllib.request.urlopen(onward) as found:
                return found.status, dict(found.headers) | more, found.read()
        except urllib.error.HTTPError as found:
            return found.code, dict(found.headers) | more, found.read()

    return answer


def of(base: str, code: str, secret: str | None = SECRET) -> list[Finding]:
    return [
        finding for result in probe(base, "daily", secret) for finding in result.findings if result.check.code == code
    ]


def test_a_way_that_is_free_is_nothing_to_tell_of_and_runs_no_job(place, served: str) -> None:
    results = probe(served, "daily", SECRET)
    assert [(result.check.code, result.findings, result.unable) for result in results] == [
        ("NC208", (), None),
        ("NC204", (), None),
    ]
    assert place.runs == []
    assert "✓ 2 of 2 checks found nothing" in place.nightcrew("doctor", "--probe", served).stdout


def test_a_proxy_that_takes_the_header_away_is_told_from_a_wrong_secret(served: str) -> None:
    with proxy(passing(served, without="authorization")) as base:
        (finding,) = of(base, "NC204")
        assert "takes the header Authorization away" in finding.cause
        assert SECRET not in str(finding)
    (finding,) = of(served, "NC204", "f" * 32)
    assert "another secret" in finding.cause
    assert "secret fingerprint" in finding.remedy
    assert of(served, "NC204") == []


@pytest.mark.parametrize(
    ("reply", "says", "remedy"),
    [
        ((308, {"Location": "https://www.app.example/x/"}, b""), "answered 308, to https://www.app.example/x/", "www"),
        ((405, {"Allow": "POST"}, b""), "GET .* is answered 405", "let GET through"),
        ((404, {}, b"{}"), "is answered 404", "include_router"),
        ((403, {"Content-Type": "text/html"}, b"<h1>Log in"), "answered 403, with a page for people", "let /api"),
        ((200, {"Content-Type": "text/html"}, b"<h1>Log in"), "answered 200, with a page for people", "let /api"),
        ((200, {"Content-Type": "application/json"}, b"{}"), "is answered 200", "NIGHTCREW_ENV"),
        ((502, {}, b""), "is answered 502", "log"),
    ],
)
def test_what_answers_in_the_applications_place_is_named(reply: Reply, says: str, remedy: str) -> None:
    with proxy(lambda request: reply) as base:
        (finding,) = of(base, "NC208")
    assert re.search(says, finding.says)
    assert remedy in finding.remedy


def test_a_slash_that_is_redirected_is_found(served: str) -> None:
    def answer(request: BaseHTTPRequestHandler) -> Reply:
        if request.path.endswith("/"):
            return 307, {"Location": request.path.rstrip("/")}, b""
        return passing(served)(request)

    with proxy(answer) as base:
        (finding,) = of(base, "NC208")
    assert "/daily/ is answered 307" in finding.says


def test_a_cache_is_found(served: str) -> None:
    with proxy(passing(served, Age="17")) as base:
        assert "from a cache (Age 17)" in of(base, "NC208")[0].says


def test_nobody_there_and_no_such_name() -> None:
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (finding,) = of(f"http://127.0.0.1:{port}", "NC208")
    assert "cannot be reached" in finding.says
    (finding,) = of("https://nobody.invalid", "NC208")
    assert "is not known" in finding.says


def test_without_a_secret_nothing_is_sent(place, served: str, tmp_path: Path) -> None:
    reached, let_in = probe(served, None, None)
    assert reached.findings == ()
    assert "CRON_SECRET is not set here" in (let_in.unable or "")
    assert "for all to read" in place.nightcrew("doctor", "--probe", "http://app.example", code=2).stderr
