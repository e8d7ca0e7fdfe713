"""A shop whose jobs Celery's workers run: `celery -A tests.story.shop worker`, told by the environment where.

Its bell rings every second, and its tokens are swept when somebody asks for that.
"""

import os
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from subprocess import Popen

import pytest
import redis
import sqlalchemy as sa
from celery import Celery
from celery.beat import EmbeddedService

from nightcrew import Job, Nightcrew, Settings, every
from nightcrew.ledger import Entry
from nightcrew.triggers.celery import attach

ROOT = Path(__file__).parents[2]
ADDRESSES = {"redis": "redis://127.0.0.1:6379/7", "rabbitmq": "amqp://guest:guest@127.0.0.1:5672//"}
LEASE = 1.5
NAP = float(os.environ.get("SHOP_NAP", "0.1"))  # seconds after each batch, for the sweep to last
FAN_OUT = int(os.environ.get("SHOP_FAN_OUT", "4000"))


def broker(kind: str) -> str:
    """Return a broker's URL; skips the test, or under CI fails it, where there is none."""
    variable = f"NIGHTCREW_TEST_{kind.upper()}"
    url = os.environ.get(variable) or ADDRESSES[kind]
    try:
        with Celery(broker=url).connection_for_write(connect_timeout=2) as connection:
            connection.ensure_connection(max_retries=1)
    except Exception as error:
        sentence = f"NO {kind.upper()} BROKER, so nothing was tested on it: {url}: {error}; set {variable}"
        pytest.fail(sentence) if os.environ.get("CI") == "true" else pytest.skip(sentence)
    return url


def nap(entry: Entry) -> None:
    """Make a sweep slower than it is."""
    if entry.kind == "batch":
        time.sleep(NAP)


def hire(database: str) -> Nightcrew:
    """Return the shop's crew."""
    crew = Nightcrew(database, settings=Settings(), listeners=[nap], lease=LEASE)
    terms = {"older_than": timedelta(days=1), "schedule": "0 0 1 1 *", "max_fraction": 1, "fan_out": FAN_OUT}
    crew.expire("sweep-tokens", "tokens", column="left_at", **terms)

    def ring(run) -> int:
        with crew._station.link.transaction() as connection:
            connection.execute(sa.text("INSERT INTO rung (run) VALUES (:run)"), {"run": run.id})
        return 1

    crew.add(Job("ring-the-bell", every("1 second"), function=ring))
    return crew


def application(url: str, queue: str) -> Celery:
    """Return an application that keeps no results and listens to one queue."""
    app = Celery("shop", broker=url)
    app.conf.update(task_ignore_result=True, worker_prefetch_multiplier=1, broker_connection_retry_on_startup=True)
    if url.startswith("redis"):  # what a worker had fetched when it was killed has a name of its own there
        app.conf.broker_transport_options = {"global_keyprefix": queue}
    app.conf.update(task_default_queue=queue, worker_enable_remote_control=False, beat_max_loop_interval=0.2)
    return app


@contextmanager
def queue(url: str) -> Iterator[str]:
    """Lend the name of a queue that nobody else uses, and that is gone afterwards with all there was in it."""
    name = f"nightcrew-test-{uuid.uuid4().hex[:12]}"
    yield name
    if url.startswith("redis"):
        with redis.Redis.from_url(url) as server:
            server.delete(*server.keys(f"{name}*"), name)
        return
    app = application(url, name)
    with app.connection_for_write() as connection:
        app.amqp.queues[name](connection.default_channel).delete()


@contextmanager
def working(database: str, url: str, queue: str, number: int, **told: str) -> Iterator[list[Popen[bytes]]]:
    """Keep so many workers, each a process that does two things at a time."""
    line = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "tests.story.shop",
        "worker",
        "--pool",
        "threads",
        "--concurrency",
        "2",
    ]
    told |= {"DATABASE_URL": database, "SHOP_BROKER": url, "SHOP_QUEUE": queue}
    quick = ("--without-gossip", "--without-mingle", "--loglevel", "ERROR")
    workers = [Popen([*line, *quick], cwd=ROOT, env=os.environ | told) for _ in range(number)]
    try:
        yield workers
    finally:
        for worker in workers:
            worker.kill()
        for worker in workers:
            worker.wait()


@contextmanager
def beating(app: Celery, file: str) -> Iterator[None]:
    """Keep a beat in this process, whose memory is a file of its own."""
    app.conf.beat_schedule_filename = file
    app.finalize()
    beat = EmbeddedService(app, max_interval=0.2, thread=True)
    beat.start()
    yield
    beat.stop()


def until(met, seconds: float = 15.0) -> None:
    """Wait until something is the case."""
    end = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.05)


if "SHOP_BROKER" in os.environ:
    crew = hire(os.environ["DATABASE_URL"])
    app = application(os.environ["SHOP_BROKER"], os.environ["SHOP_QUEUE"])
    attach(crew, app)
