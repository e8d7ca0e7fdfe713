"""What alarms are made of in tests: crews that tell a service outside, and jobs of which things are known."""

import json
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from nightcrew import Job, Nightcrew, Settings, every
from nightcrew.channels import Webhook
from nightcrew.databases.tables import alarms as alarm_table
from nightcrew.databases.tables import jobs as job_table
from nightcrew.databases.tables import runs as run_table

SIGNED = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)


class Nobody:
    """What looks for no alarm, for who needs a crew without any."""

    channels = ()

    def watch(self, stop):
        pass

    def glance(self):
        pass


def broken(run):
    raise ValueError("the disk is full")


def crew_of(url, *channels, function=lambda run: 7, **more):
    """Return a crew of one job an hour."""
    settings = more.pop("settings", Settings(ticker=False))
    of_job = more.pop("of_job", {})
    crew = Nightcrew(url, settings=settings, alarms=channels, **more)
    crew.add(Job("hourly", every("1 hour"), function=function, pause_after=0, **of_job))
    crew.migrate()
    crew.status()
    return crew


def hook(service, path="/alarms", **more):
    return Webhook(f"{service.url}{path}", SIGNED, **more)


def now_of(crew):
    return crew._station.link.now()


def write(crew, statement):
    with crew._station.link.transaction() as connection:
        return connection.execute(statement)


def stand(crew, job="hourly", **columns):
    write(crew, sa.update(job_table).where(job_table.c.name == job).values(**columns))


def ran(crew, ago, state="done", job="hourly", **columns):
    """Let a run be known that began so long ago."""
    moment = now_of(crew) - ago
    row = {"id": f"{job}.{moment:%Y%m%dT%H%M%S.%f}.{state}", "job": job, "slot": moment, "state": state}
    row |= {"trigger": "ticker", "attempt": 1, "fence": 1, "moment": moment, "finished_at": moment, "deleted": 0}
    write(crew, sa.insert(run_table).values(row | {"counts": {}} | columns))


def late(crew):
    """Let the job be due for hours."""
    now = now_of(crew)
    stand(crew, epoch_at=now - 9 * HOUR, mark=now - 3 * HOUR)


def well(crew):
    """Let it be due no more."""
    stand(crew, mark=datetime(2100, 1, 1, tzinfo=UTC))


def rows(crew):
    return crew._station.alarms.listed()[1]


def age(crew, **columns):
    """Let the alarms' instants be so long ago: `seen_at=HOUR`."""
    now = now_of(crew)
    for name, ago in columns.items():
        there = alarm_table.c[name].is_not(None)
        write(crew, sa.update(alarm_table).where(there).values({name: now - ago}))


def told(service):
    """Return what a service was told, in short: (stage, kind, job)."""
    bodies = [json.loads(body) for *_, body in service.asked]
    return [
        (body["type"].removeprefix("nightcrew.alarm."), body["data"]["kind"], body["data"]["job"]) for body in bodies
    ]
