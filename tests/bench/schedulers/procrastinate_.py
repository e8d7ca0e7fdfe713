"""Procrastinate: periodic tasks and their worker."""

import contextlib

import procrastinate
from tests.bench.schedulers.sink import JOBS, URL, note

PLAIN = URL.replace("+psycopg", "")
app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=PLAIN))
for number in range(JOBS):

    @app.periodic(cron="* * * * * *")
    @app.task(name=f"job-{number}", pass_context=False)
    async def work(timestamp: int, number: int = number) -> None:
        """Note a run."""
        note(number, timestamp)


sync = procrastinate.App(connector=procrastinate.SyncPsycopgConnector(conninfo=PLAIN))
with sync.open(), contextlib.suppress(procrastinate.exceptions.ConnectorException):
    sync.schema_manager.apply_schema()
app.run_worker(concurrency=10)
