"""Four processes send mail, and are killed and frozen anywhere: nobody gets a mail twice, and nobody is left out."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path

import sqlalchemy as sa
from tests.model.postman import LEASE, STEPS, crew_of_postmen
from tests.tray import NAME, PEOPLE, PREFERENCES

from nightcrew.databases.tables import mails
from nightcrew.errors import DatabaseError
from nightcrew.sent import State

ROOT = Path(__file__).parents[2]
FEW, MANY = 5, 300  # kills on each database: `make test`, `make campaign`
CREW = ("http", "ticker", "http", "ticker")


def taken(book: Path) -> Counter[str]:
    """Count how often each letter was taken."""
    return Counter(line.split()[0] for line in book.read_text().splitlines()) if book.exists() else Counter()


def hurry(link: object) -> None:
    """Let what waits for a retry be due, and what somebody was handing over be theirs no more, dead or alive."""
    busy = mails.c.state.in_((State.SENDING, State.WAITING))
    while True:
        try:
            with link.transaction() as connection:
                connection.execute(sa.update(mails).where(busy).values(due_at=mails.c.planned_at))
        except DatabaseError as error:  # so many rows at once, in no order, may lock each other out
            if not error.transient:
                raise
        else:
            return


def wrong(crew: object, book: Path, retried: set[str]) -> str | None:
    """Say who got a mail twice that nobody had retried, and who is said to have one and has not."""
    before = taken(book)
    with crew._station.link.transaction(writes=False) as connection:
        rows = connection.execute(sa.select(mails.c.key, mails.c.state)).all()
    counts = taken(book)  # others go on meanwhile: what is said to be sent was taken before it was said
    if twice := [key for key, number in counts.items() if number > 1 + (key in retried)]:
        return f"taken twice: {twice[:9]}"
    if bare := [row.key for row in rows if row.state == State.SENT and row.key not in counts]:
        return f"said to be sent, and never taken: {bare[:9]}"
    known = {row.key for row in rows}
    if strange := set(before) - known:
        return f"taken, and due to nobody: {sorted(strange)[:9]}"
    return None


def test_nobody_gets_a_mail_twice_and_nobody_is_left_out(database_url, yard, tmp_path, campaign, figure, request):
    book, seed = tmp_path / "book", request.config.getoption("--seed") or 0
    yard.run(PEOPLE, PREFERENCES)
    crew, chance = crew_of_postmen(database_url, str(book)), random.Random(seed)
    crew.migrate()
    link, kills = crew._station.link, MANY if campaign else FEW
    command = [sys.executable, "-m", "tests.model.postman", database_url, str(book)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, cwd=ROOT, text=True, bufsize=1) as zygote:

        def fork(trigger: str) -> int:
            zygote.stdin.write(f"{trigger}\n")
            return int(zygote.stdout.readline())

        workers = {fork(trigger): trigger for trigger in CREW}
        for kill in range(kills):
            time.sleep(chance.uniform(0.05, 0.8))
            victim = chance.choice(list(workers))
            if chance.random() < 0.3:
                os.kill(victim, signal.SIGSTOP)
                time.sleep(chance.uniform(0, 3 * LEASE))
                os.kill(victim, signal.SIGCONT)
                time.sleep(chance.uniform(0, 0.1))
            os.kill(victim, signal.SIGKILL)
            trigger = workers.pop(victim)
            workers[fork(trigger)] = trigger
            assert wrong(crew, book, set()) is None, f"kill {kill} of seed {seed}"
            if chance.random() < 0.5:
                hurry(link)
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
        zygote.stdin.close()
    drain(crew)
    assert wrong(crew, book, set()) is None
    perhaps = crew.mail.of_state(State.MAYBE_SENT, limit=100_000)
    people = len(crew.mail.of_state(*State, limit=1_000_000)) // len(STEPS.steps)
    if perhaps:
        assert crew.mail.retry() == len(perhaps)
        drain(crew)
    assert wrong(crew, book, {each.key for each in perhaps}) is None
    assert set(crew.mail.counts()) <= {("welcome", step.name, State.SENT) for step in STEPS.steps}
    assert len(taken(book)) == people * len(STEPS.steps)
    told = f"{kills}; {2 * people} mails, of which {len(perhaps)} were perhaps sent, and none twice unasked"
    figure(f"kills of whoever sends mail on {link.engine.dialect.name}", told)
    crew.close()


def drain(crew: object) -> None:
    """Send until nothing waits, with no time between two attempts."""
    until = time.monotonic() + 600
    while time.monotonic() < until:
        hurry(crew._station.link)
        crew.run(NAME, now=True, trigger="http", deadline=timedelta(seconds=20))
        states = {state for _, _, state in crew.mail.counts()}
        planned = crew._station.enrolments.people(STEPS.name) * len(STEPS.steps)
        if not states & {State.WAITING, State.SENDING} and sum(crew.mail.counts().values()) == planned:
            return
    raise AssertionError(f"still under way: {crew.mail.counts()}")
