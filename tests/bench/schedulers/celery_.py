"""Celery: beat, and with the argument "worker" a worker of threads, over Redis."""

import os
import sys
import tempfile

from celery import Celery
from tests.bench.schedulers.sink import JOBS, note

app = Celery("bench", broker=os.environ.get("NIGHTCREW_BENCH_REDIS", "redis://127.0.0.1:6379/9"))
app.conf.update(task_ignore_result=True, worker_hijack_root_logger=False, broker_connection_retry_on_startup=True)
app.conf.beat_schedule = {str(number): {"task": "work", "schedule": 1.0, "args": [number]} for number in range(JOBS)}


@app.task(name="work")
def work(number: int) -> None:
    """Note a run; a task is not told which second it was due in."""
    note(number)


if sys.argv[4:] == ["worker"]:
    app.control.purge()
    alone = ["--without-gossip", "--without-mingle"]
    app.worker_main(["worker", "--pool=threads", "--concurrency=4", "--loglevel=ERROR", *alone])
else:
    with tempfile.TemporaryDirectory() as folder:
        app.Beat(schedule=f"{folder}/schedule", loglevel="ERROR").run()
