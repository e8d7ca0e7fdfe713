"""APScheduler 3 with its jobs in the database."""

import sqlalchemy as sa
from apscheduler.events import EVENT_JOB_EXECUTED
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.schedulers.blocking import BlockingScheduler
from apscheduler.triggers.cron import CronTrigger
from tests.bench.schedulers.sink import JOBS, URL, note


def work() -> None:
    """Do nothing: the listener knows which second it was due in."""


def listen(event) -> None:
    """Note a run."""
    note(int(event.job_id), event.scheduled_run_time.timestamp())


store = SQLAlchemyJobStore(sa.make_url(URL).set(drivername="postgresql+psycopg").render_as_string(hide_password=False))
scheduler = BlockingScheduler(jobstores={"default": store}, timezone="UTC")
scheduler.add_listener(listen, EVENT_JOB_EXECUTED)
for number in range(JOBS):
    trigger = CronTrigger(second="*", timezone="UTC")
    scheduler.add_job(work, trigger, id=str(number), replace_existing=True)
scheduler.start()
