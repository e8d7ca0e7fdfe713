"""A real S3 server on loopback, which can be told to fail as buckets do."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http import HTTPStatus

import boto3
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

Fault = Callable[[dict], tuple[str, bytes] | None]
"""What looks at a request (as WSGI has it), and answers in the server's place, or leaves it to the server."""


class Bucket:
    """A server with an empty bucket; `faults` come before it, and `requests` are those it had.

    Its clock is `ahead` of the machine's, when it says what time it is; what is written is dated as ever.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self.ahead = timedelta(0)
        bucket = self

        class Requests(WSGIRequestHandler):
            def log(self, *_):
                pass

            def date_time_string(self, timestamp=None):
                return format_datetime(datetime.now(UTC) + bucket.ahead, usegmt=True)

        self._app = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=Requests)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self.client = boto3.client("s3", endpoint_url=self.endpoint)
        self.client.create_bucket(Bucket=self.name)

    def url(self, path: str = "") -> str:
        """Return the URL of a store in the bucket."""
        return f"s3://{self.name}{path}?endpoint={self.endpoint}"

    def listed(self) -> list[str]:
        """Return what is in the bucket."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name)
        return [each["Key"] for page in pages for each in page.get("Contents", [])]

    def versions(self) -> list[str]:
        """Return the key of every version and delete marker."""
        said = self.client.list_object_versions(Bucket=self.name)
        return [each["Key"] for each in [*said.get("Versions", []), *said.get("DeleteMarkers", [])]]

    def keep_versions(self) -> None:
        self.client.put_bucket_versioning(Bucket=self.name, VersioningConfiguration={"Status": "Enabled"})

    def empty(self) -> None:
        """Forget everything; the buckets of other servers in this process, which share what they keep, stay."""
        self.faults.clear()
        self.requests.clear()
        self.ahead = timedelta(0)
        for page in self.client.get_paginator("list_object_versions").paginate(Bucket=self.name):
            found = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
            if keys := [{"Key": each["Key"], "VersionId": each["VersionId"]} for each in found]:
                self.client.delete_objects(Bucket=self.name, Delete={"Objects": keys, "Quiet": True})
        self.client.delete_bucket(Bucket=self.name)
        self.client.create_bucket(Bucket=self.name)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _answer(self, environ, start_response):
        self.requests.append(f"{environ['REQUEST_METHOD']} {environ['RAW_URI']}")
        for fault in self.faults:
            if (answer := fault(environ)) is not None:
                status, body = answer
                start_response(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
                return [body]
        return self._app(environ, start_response)


def says(status: int, code: str, message: str = "as the test wants it") -> tuple[str, bytes]:
    """Return an error as S3 writes it."""
    body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return f"{status} {HTTPStatus(status).phrase}", body.encode()


def is_bulk_removal(environ: dict) -> bool:
    return environ["REQUEST_METHOD"] == "POST" and "delete" in environ["QUERY_STRING"]


@contextmanager
def running(name: str = "uploads") -> Iterator[Bucket]:
    """Run a server with a bucket for a while."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    bucket = Bucket(name)
    try:
        yield bucket
    finally:
        bucket.close()
