"""How fast blobs leave a bucket: a store's removal, and the outbox around it, beside the raw bulk deletes of boto3.

The server is a process of its own, and slow: only ratios say something, each of neighbouring rounds.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
import sqlalchemy as sa

from nightcrew import Nightcrew, Settings
from nightcrew.clock import SystemClock
from nightcrew.outbox import NAME
from nightcrew.stores import blob_store

BLOBS = 20_000  # that each of the three removes in each round
ROUNDS = 3
_WAYS = ("raw", "store", "outbox")


def measure() -> dict[str, float]:
    """Return keys per second of each, and the ratios to the raw rate."""
    from tests.conftest import CREDENTIALS

    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder, _server() as endpoint:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        rates = _rates(endpoint, Path(folder))
    found = {way: statistics.median(rates[way]) for way in _WAYS}
    for way in ("store", "outbox"):
        found[f"{way}_ratio"] = statistics.median(
            ours / raw for ours, raw in zip(rates[way], rates["raw"], strict=True)
        )
    print(
        f"blobs: {BLOBS:,} from a bucket: boto3 {found['raw']:,.0f}/s, the store {found['store']:,.0f}/s (ratio"
        f" {found['store_ratio']:.2f}), the outbox with its debts in SQLite {found['outbox']:,.0f}/s (ratio"
        f" {found['outbox_ratio']:.2f})"
    )
    return found


def _rates(endpoint: str, folder: Path) -> dict[str, list[float]]:
    url, each = f"s3://uploads?endpoint={endpoint}", BLOBS
    client, store = boto3.client("s3", endpoint_url=endpoint), blob_store(url, SystemClock())
    crew = Nightcrew(f"sqlite:///{folder}/shop.db", settings=Settings(), blobs={"uploads": url})
    crew.migrate()
    engine = sa.create_engine(f"sqlite:///{folder}/shop.db")
    rates: dict[str, list[float]] = {way: [] for way in _WAYS}

    def raw(keys: Sequence[str]) -> None:
        for first in range(0, len(keys), 1_000):
            part = [{"Key": key} for key in keys[first : first + 1_000]]
            assert len(client.delete_objects(Bucket="uploads", Delete={"Objects": part})["Deleted"]) == len(part)

    def drain(keys: Sequence[str]) -> None:
        assert crew.run(NAME, now=True).deleted == len(keys)

    for warm in (
        client.delete_objects(Bucket="uploads", Delete={"Objects": [{"Key": "none"}]}),
        store.remove(["none"]),
    ):
        _demand("Errors" not in warm)
    drain([])
    removing = {"raw": raw, "store": lambda keys: _demand(not store.remove(keys)), "outbox": drain}
    for number in range(ROUNDS):
        for way in _WAYS[number % 3 :] + _WAYS[: number % 3]:
            keys = [key(way, index) for index in range(number * each, (number + 1) * each)]
            if way == "outbox":
                with engine.begin() as connection:
                    crew.owe(connection, "uploads", keys)
            began = time.perf_counter()
            removing[way](keys)
            rates[way].append(each / (time.perf_counter() - began))
    _demand(not store.page().blobs)
    crew.close()
    engine.dispose()
    return rates


def key(way: str, number: int) -> str:
    """Name a blob."""
    return f"{way}/{number % 100}/{number:06}-upload.png"


def _demand(holds: bool) -> None:
    assert holds, "blobs were left"


@contextmanager
def _server() -> Iterator[str]:
    line = [sys.executable, "-m", "tests.bench.blobs"]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.terminate()


def _serve() -> None:
    """Run a server whose bucket is full, as long as somebody is there; it is filled from within, which is quicker."""
    from moto.s3.models import s3_backends
    from tests.bucket import running
    from tests.conftest import CREDENTIALS

    patch = pytest.MonkeyPatch()
    for name, value in CREDENTIALS.items():
        patch.setenv(name, value)
    with running() as bucket:
        backend: Any = s3_backends["123456789012"]["aws"]
        for way in _WAYS:
            for number in range(ROUNDS * BLOBS):
                backend.put_object(bucket.name, key(way, number), b"x")
        print(bucket.endpoint, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    _serve()
