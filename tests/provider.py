"""A provider of mail on loopback that has Resend's API, and can be told what to answer."""

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = "re_correct_horse_battery"

Fault = Callable[[BaseHTTPRequestHandler], bool]
"""What comes before an answer, and says whether it was one itself."""


class Provider:
    """What has been handed over, by key; what is to be `answers` instead; faults `before` and `after` one is taken."""

    def __init__(self) -> None:
        self.letters: dict[str, dict] = {}
        self.answers: list[tuple[int, dict | bytes, dict]] = []
        self.before: list[Fault] = []
        self.after: list[Fault] = []
        self.requests = 0
        self.connections = 0
        self.url = ""

    def messages(self) -> list[EmailMessage]:
        """Return them as messages that were made of what was asked for."""
        made = []
        for letter in self.letters.values():
            message = EmailMessage()
            for header in ("from", "to", "subject", "reply_to"):
                if header in letter:
                    value = letter[header]
                    message[header.replace("_", "-")] = ", ".join(value) if isinstance(value, list) else value
            for header, value in letter["headers"].items():
                message[header] = value
            message.set_content(letter["text"])
            message.add_alternative(letter["html"], subtype="html")
            made.append(message)
        return made

    def answer(self, key: str, authorization: str, body: bytes) -> tuple[int, dict | bytes, dict]:
        if self.answers:
            return self.answers.pop(0)
        if authorization != f"Bearer {KEY}":
            return 401, {"statusCode": 401, "name": "validation_error", "message": "API key is invalid"}, {}
        letter = json.loads(body)
        if self.letters.setdefault(key, letter) != letter:
            return 409, {"name": "invalid_idempotent_request", "message": "This key was used with another payload"}, {}
        return 200, {"id": f"id-of-{key}"}, {}


class Quiet(ThreadingHTTPServer):
    """A server that does not mind who hangs up."""

    daemon_threads = True

    def handle_error(self, *_):
        pass


@contextmanager
def provider(context: ssl.SSLContext | None = None) -> Iterator[Provider]:
    """Run one, which with a context is encrypted."""
    provider = Provider()

    class Requests(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self):
            provider.connections += 1
            super().setup()

        def do_POST(self):
            provider.requests += 1
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if provider.before and provider.before.pop(0)(self):
                return
            key, authorization = self.headers["Idempotency-Key"], self.headers["Authorization"]
            agreed = (self.path, self.headers["Content-Type"]) == ("/emails", "application/json")
            status, said, headers = provider.answer(key, authorization, body) if agreed else (404, {}, {})
            if provider.after and provider.after.pop(0)(self):
                return
            content = said if isinstance(said, bytes) else json.dumps(said).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = Quiet(("127.0.0.1", 0), Requests)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    provider.url = f"resend://127.0.0.1:{server.server_port}{'?tls=off' if context is None else ''}"
    try:
        yield provider
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def hang_up(request: BaseHTTPRequestHandler) -> bool:
    """Say nothing."""
    request.close_connection = True
    return True
