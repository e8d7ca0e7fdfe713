"""A rolling deploy: crews with an old and a new schedule of one job start, tick and end side by side, in any order."""

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from nightcrew import Job, Nightcrew, Settings, cron
from nightcrew.clock import SystemClock
from nightcrew.databases.tables import jobs as job_table
from nightcrew.rivalry import PATIENCE, SETTLED

OLD, NEW = cron("*/20 * * * *"), cron("7,37 * * * *")
BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


class Wound(SystemClock):
    """A clock that is wound by hand; SQLite's is the process's, so that it is the database's, too."""

    def __init__(self):
        self.at = BEGIN

    def now(self):
        return self.at

    def monotonic(self):
        return (self.at - BEGIN).total_seconds()

    def wait(self, event, seconds):
        return super().wait(event, 0.02)


@dataclass
class Deploy:
    """Crews over one database; which slots they ran, and when each schedule was in force."""

    url: str
    clock: Wound = field(default_factory=Wound)
    ran: list = field(default_factory=list)
    reigns: list = field(default_factory=list)
    crews: dict = field(default_factory=dict)

    def start(self, name, schedule):
        """Start a crew, in place of the one that had its name."""
        self.end(name)
        crew = Nightcrew(self.url, settings=Settings(), clock=self.clock)
        crew.add(Job("sweep", schedule, function=lambda run: self.ran.append((self.clock.at, run.slot)) or 1))
        self.crews[name] = crew
        self.tick(name)

    def end(self, name):
        if (crew := self.crews.pop(name, None)) is not None:
            crew.close()

    def tick(self, name):
        self.crews[name].tick(trigger="ticker")
        standing = self.standing(name)
        if not self.reigns or self.reigns[-1][1] != standing.meaning:
            self.reigns.append((standing.epoch_at, standing.meaning))

    def standing(self, name):
        _, standings = self.crews[name]._station.books.standings(["sweep"])
        return standings["sweep"]

    def let(self, span, *names, step=timedelta(seconds=10)):
        """Let time pass, and every crew named tick."""
        until = self.clock.at + span
        while self.clock.at < until:
            self.clock.at += step
            for name in names:
                self.tick(name)

    def slots(self):
        """Return the slots of whatever schedule was in force, as they fell due."""
        ends = [*(begun for begun, _ in self.reigns[1:]), self.clock.at]
        for (begun, meaning), end in zip(self.reigns, ends, strict=True):
            yield from (OLD if meaning == OLD.meaning else NEW).between(begun, end)

    def accounted(self, name):
        """Return a function that tells whether the ledger has a row of a slot."""
        rows = [(row.since or row.slot, row.slot) for row in self.crews[name].runs(limit=10_000)]
        return lambda slot: any(first <= slot <= last for first, last in rows)


@pytest.fixture
def deploy(tmp_path):
    deploy = Deploy(f"sqlite:///{tmp_path}/app.db")
    yield deploy
    for name in [*deploy.crews]:
        deploy.end(name)


@pytest.mark.parametrize("seed", range(2))
def test_no_run_is_fired_because_of_a_deploy_and_no_slot_is_lost_in_any_order(deploy, seed):
    chance = random.Random(seed)
    deploy.start("old-1", OLD)
    schedules = {"old-1": OLD, "old-2": OLD, "new-1": NEW, "new-2": NEW}
    looked = deploy.clock.at
    until = BEGIN + timedelta(hours=1, minutes=45)
    while deploy.clock.at < until:
        deploy.clock.at += timedelta(seconds=chance.choice([1, 10, 20]))
        name, before = chance.choice([*schedules]), len(deploy.ran)
        if name not in deploy.crews or chance.random() < 0.01:
            deploy.start(name, schedules[name])
        elif chance.random() < 0.01 and len(deploy.crews) > 1:
            deploy.end(name)
            continue
        else:
            deploy.tick(name)
        for at, slot in deploy.ran[before:]:
            assert looked < slot <= at, "a slot that was passed over is fired afterwards"
        looked = deploy.clock.at
    deploy.tick(last := next(iter(deploy.crews)))
    due = [slot for slot in deploy.slots() if slot > BEGIN]
    accounted = deploy.accounted(last)
    assert [slot for slot in due if not accounted(slot)] == []
    assert {slot for _, slot in deploy.ran} <= set(due), "a slot of a schedule that was not in force"
    assert len(deploy.ran) == len({slot for _, slot in deploy.ran})
    assert len(deploy.ran) > 2
    assert len(deploy.reigns) <= 8, "the schedules take turns"


def test_a_new_schedule_is_in_force_at_once_and_whoever_looks_runs_its_slots(deploy):
    deploy.start("old", OLD)
    deploy.let(SETTLED, "old")
    deploy.ran.clear()
    deploy.start("new", NEW)
    assert deploy.standing("new").meaning == NEW.meaning
    deploy.let(timedelta(minutes=40), "old", "new")  # the old one always looks first
    assert [slot for _, slot in deploy.ran] == [*NEW.between(BEGIN + SETTLED, deploy.clock.at)]
    assert deploy.crews["old"].status()[0].next_slot == NEW.after(deploy.clock.at)


def test_an_old_crew_that_starts_again_leaves_the_new_schedule_in_force_while_a_new_one_is_there(deploy):
    deploy.start("old", OLD)
    deploy.let(SETTLED, "old")
    deploy.start("new", NEW)
    deploy.start("old", OLD)
    deploy.let(timedelta(minutes=10), "old", "new")
    assert deploy.standing("new").meaning == NEW.meaning
    deploy.end("new")
    deploy.let(2 * PATIENCE + MINUTE, "old")
    assert deploy.standing("old").meaning == OLD.meaning, "it was put back, for nobody has the new one"


def test_a_schedule_that_somebody_has_put_back_gives_way_when_none_is_left_who_has_it(deploy):
    deploy.start("old", OLD)
    deploy.let(SETTLED, "old")
    deploy.start("new", NEW)
    deploy.let(SETTLED, "old", "new")
    deploy.start("old", OLD)  # late in the deploy, say because there were too few
    assert deploy.standing("old").meaning == OLD.meaning
    deploy.let(timedelta(minutes=5), "old", "new")
    assert deploy.standing("old").meaning == OLD.meaning
    deploy.end("old")
    deploy.let(2 * PATIENCE + MINUTE, "new")
    assert deploy.standing("new").meaning == NEW.meaning


def test_commands_of_two_versions_that_look_once_a_minute_take_no_turns(deploy):
    deploy.start("old", OLD)
    for minute in range(45, 75):
        deploy.clock.at = BEGIN + minute * MINUTE
        deploy.start("old", OLD)
        deploy.clock.at += timedelta(seconds=3)
        deploy.start("new", NEW)
    assert len(deploy.reigns) <= 3
    due = [slot for slot in deploy.slots() if slot > BEGIN]
    accounted = deploy.accounted("new")
    assert [slot for slot in due if not accounted(slot)] == []
    assert len(deploy.ran) >= 2


def test_who_saw_the_old_schedule_cannot_claim_a_slot_of_it_once_another_is_in_force(database_url):
    """Its slots that nobody had run are recorded as missed by then."""
    crews = [
        Nightcrew(database_url, jobs=[Job("sweep", schedule, function=lambda run: 1)], settings=Settings())
        for schedule in (cron("0 0 * * *"), cron("* * * * *"))
    ]
    old, new = crews
    old.migrate()
    old.status()
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    with old._station.link.transaction() as connection:
        epoch = {"mark": today - timedelta(days=1), "epoch_at": today - timedelta(days=9)}
        connection.execute(sa.update(job_table).values(**epoch))
    standings, claim = old._station.books.standings, old._station.books.claim

    def meanwhile(*arguments):
        new.tick(trigger="ticker")
        return claim(*arguments)

    old._station.ready(old.jobs)
    old._station.books.claim = meanwhile
    assert old.tick(trigger="ticker") == []
    assert [(row.state, row.slot) for row in new.runs()] == [("missed", today)]
    assert standings(["sweep"])[1]["sweep"].meaning == cron("* * * * *").meaning
    for crew in crews:
        crew.close()
