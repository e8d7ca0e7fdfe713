"""A service outside, on loopback: it keeps every request, and answers as a test says."""

import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, urlsplit

from tests.provider import Quiet


class Service:
    """Keeps what was asked: (method, path, query, headers, body); it answers with `status`, once `go` is set."""

    def __init__(self):
        self.asked, self.status, self.go, self.url = [], [], threading.Event(), ""
        self.go.set()

    def wait(self, number):
        for _ in range(500):
            if len(self.asked) >= number:
                return self.asked
            time.sleep(0.02)
        raise AssertionError(f"{len(self.asked)} of {number} requests came: {self.asked}")


@contextmanager
def serving():
    service = Service()

    class Handler(BaseHTTPRequestHandler):
        def _any(self):
            body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
            parts = urlsplit(self.path)
            service.asked.append((self.command, parts.path, parse_qs(parts.query), self.headers, body))
            service.go.wait(20)
            self.send_response(service.status.pop(0) if service.status else 200)
            self.send_header("Content-Length", "0")
            self.send_header("Location", f"{service.url}/elsewhere")
            self.end_headers()

        do_GET = do_POST = _any  # noqa: N815 - the names of http.server

        def log_message(self, *_):
            pass

    server = Quiet(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    service.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield service
    service.go.set()
    server.shutdown()
    thread.join()
    server.server_close()
