"""Many jobs: a look at them asks for few, none is forgotten for it, and what is done is settled together."""

import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from tests.conftest import administrator, fresh

from nightcrew import Job, Nightcrew, Settings, cron, every
from nightcrew.agenda import _FEW
from nightcrew.books import Bidder, Finished, Sequel
from nightcrew.databases.tables import jobs as job_table
from nightcrew.outcome import State

MANY = _FEW + 20
NEVER = cron("0 0 29 2 1")  # a 29th of February that is a Monday


@pytest.fixture
def crew(database_url):
    """A crew with many jobs that have been looked at, and are not due for long."""
    crew = Nightcrew(database_url, settings=Settings())
    crew.calls = []
    for number in range(MANY):
        crew.add(Job(f"job-{number}", NEVER, function=lambda run: crew.calls.append(run.job) or 1))
    crew.migrate()
    assert hand_out(crew, start=True) == []
    yield crew
    crew.close()


def hand_out(crew, *, start=False):
    return crew.hand_out(start=start, stop=threading.Event())


def eventually(holds, seconds=5.0):
    deadline = time.monotonic() + seconds
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.02)
    return holds()


def rewrite(crew, job, **values):
    with crew._station.link.transaction() as connection:
        connection.execute(sa.update(job_table).where(job_table.c.name == job).values(**values))


def ago(**parts):
    return datetime.now(UTC) - timedelta(**parts)


def count(crew, act):
    """Return what is executed meanwhile, with its parameters."""
    statements = []

    def note(_connection, _cursor, statement, parameters, *_):
        statements.append(f"{statement} {parameters}")

    engine = crew._station.link.engine
    sa.event.listen(engine, "before_cursor_execute", note)
    act()
    sa.event.remove(engine, "before_cursor_execute", note)
    return statements


def test_a_tick_with_nothing_due_takes_few_statements_and_asks_for_no_job(crew):
    statements = count(crew, lambda: hand_out(crew))
    assert len(statements) <= 3
    assert not any("job-" in statement for statement in statements)
    assert crew.rest(60) == 60


def test_a_job_that_becomes_due_is_asked_for_then(crew):
    crew.add(Job("soon", every("3 seconds"), function=lambda run: crew.calls.append("soon")))
    time.sleep(max(0.0, time.time() % 3 - 1))  # at least a second from the next slot
    assert hand_out(crew) == []
    assert 0 < crew.rest(60) <= 3
    time.sleep(crew.rest(60) + 0.01)
    (work,) = hand_out(crew)
    work()
    assert crew.calls == ["soon"]


def test_a_slot_that_is_due_in_an_instant_is_looked_at_before_and_claimed_no_earlier(crew, monkeypatch):
    monkeypatch.setattr("nightcrew.agenda._LONGEST_LEAD", 1.0)
    crew.add(Job("soon", every("3 seconds"), function=lambda run: crew.calls.append((run.slot, run.moment))))
    time.sleep(max(0.0, time.time() % 3 - 1))
    assert hand_out(crew) == []
    crew._station.claims.agenda._lead = 1.0
    time.sleep(crew.rest(60))
    looked_at = crew.clock.now()
    (work,) = hand_out(crew)
    work()
    ((slot, moment),) = crew.calls
    assert looked_at < slot <= moment < slot + timedelta(seconds=1)


def test_who_is_told_to_stop_claims_nothing_that_was_waited_for(crew):
    crew.add(Job("soon", every("30 days"), function=lambda run: crew.calls.append("soon")))
    assert hand_out(crew) == []
    crew._station.claims.agenda._lead = timedelta(days=30).total_seconds()
    stop = threading.Event()
    threading.Timer(0.1, stop.set).start()
    assert crew.hand_out(start=False, stop=stop) == []
    assert crew.at_work == []
    assert [run for run in crew.runs("soon") if run.state == "running"] == []


def test_a_run_whose_holder_has_died_is_taken_over_though_nobody_asked_for_its_job(crew):
    dead = Nightcrew(crew._station.link.engine.url.render_as_string(hide_password=False), settings=Settings())
    dead.add(crew.jobs["job-7"])
    claim = dead._station.claims.by_hand(dead.jobs["job-7"], "cli", None)
    dead._station.claims.release(claim)
    assert hand_out(crew) == []
    rewrite(crew, "job-7", lease_until=ago(seconds=1))
    (work,) = hand_out(crew)
    work()
    crew._station.settler.close()
    assert (crew.calls, crew.runs("job-7")[0].state) == (["job-7"], "done")
    dead.close()


def test_a_pause_that_is_over_ends_though_nobody_asked_for_its_job(crew):
    crew.pause("job-3", by="alice", reason="a reason", until=datetime.now(UTC) + timedelta(hours=1))
    assert hand_out(crew) == []
    rewrite(crew, "job-3", paused_at=ago(hours=2), paused_until=ago(hours=1))
    hand_out(crew)
    assert next(one for one in crew.status() if one.job.name == "job-3").standing.paused_at is None


def test_who_asks_for_a_schedule_is_answered_though_nobody_asked_for_its_job(crew):
    rewrite(crew, "job-9", rival="another schedule", rival_since=ago(seconds=30))
    hand_out(crew)
    assert next(one for one in crew.status() if one.job.name == "job-9").standing.rival is None


def test_what_is_done_is_settled_in_a_few_statements_for_all(crew, monkeypatch):
    monkeypatch.setattr("nightcrew.settler._NEW", 60)  # however busy the machine is
    epoch = ago(days=40 * 366)
    with crew._station.link.transaction() as connection:
        connection.execute(sa.update(job_table).values(epoch_at=epoch))
    works = hand_out(crew, start=True)
    assert len(works) == MANY
    first, *others = works
    first()  # looks at the place, for all of them
    statements = count(crew, lambda: [work() for work in others] and crew.stop())
    assert len(crew.calls) == MANY
    assert len(statements) < MANY / 2
    assert all(run.state == "done" and run.deleted == 1 for run in crew.runs(limit=MANY) if run.trigger == "ticker")
    assert crew.at_work == []


def test_who_was_superseded_settles_nothing_with_the_others(crew):
    with crew._station.link.transaction() as connection:
        connection.execute(sa.update(job_table).values(epoch_at=ago(days=40 * 366)))
    heard = []
    crew.listen(heard.append)
    works = {work.args[0].job.name: work for work in hand_out(crew, start=True)}
    books, stolen = crew._station.books, works["job-5"].args[0]
    rewrite(crew, "job-5", lease_until=ago(seconds=1))
    _, standings = books.standings(["job-5"])
    assert books.take_over(standings["job-5"], Bidder("somebody else", "ticker", None, 60)) is not None
    for name in ("job-4", "job-5", "job-6"):
        works[name]()
    crew._station.settler.close()
    outcomes = {entry.job: entry.kind for entry in heard if entry.job in {"job-4", "job-5", "job-6"}}
    assert outcomes == {"job-4": "succeeded", "job-5": "in_progress_elsewhere", "job-6": "succeeded"}
    assert books.run(stolen.run).state == "running"


@pytest.mark.parametrize("which", ["asks", "answers"])
def test_a_deploy_of_many_jobs_takes_few_statements_to_ask_and_to_answer(crew, which):
    other = every("5 hours")
    theirs = {"schedule": other.expression, "timezone": other.timezone, "meaning": other.meaning}
    asked = {"rival": other.meaning, "rival_since": ago(seconds=5)}
    with crew._station.link.transaction() as connection:
        connection.execute(sa.update(job_table).values(**(theirs if which == "asks" else asked)))
    statements = count(crew, lambda: crew.due(trigger="cli"))
    assert len(statements) < 20
    mine = None if which == "answers" else NEVER.meaning
    assert {one.standing.rival for one in crew.status()} == {mine}
    assert len(count(crew, lambda: crew.due(trigger="cli"))) < 5, "who has asked waits for an answer"


def test_each_of_many_jobs_asks_for_its_own_schedule_and_none_for_one_that_has_changed(crew):
    books = crew._station.books
    _, seen = books.standings(crew.jobs)
    rewrite(crew, "job-3", rival="somebody else's", rival_since=ago(seconds=5))
    rewrite(crew, "job-4", meaning="another one by now")
    books.challenge([(standing, f"rival of {name}") for name, standing in seen.items()])
    _, after = books.standings(crew.jobs)
    expected = {name: f"rival of {name}" for name in crew.jobs} | {"job-3": "somebody else's", "job-4": None}
    assert {name: standing.rival for name, standing in after.items()} == expected
    books.challenge([(after["job-3"], "the next")])
    books.answer([after["job-5"], after["job-6"]._replace(meaning="another one then")])
    _, last = books.standings(["job-3", "job-5", "job-6"])
    assert [last[name].rival for name in sorted(last)] == ["the next", None, "rival of job-6"]


# ── several processes ────────────────────────────────────────────────────────────────────────────────────────────────


def make_due(crew, seconds):
    """Let the latest slot of every job be due, each of which takes so long as far as anybody knows."""
    with crew._station.link.transaction() as connection:
        connection.execute(sa.update(job_table).values(epoch_at=ago(days=40 * 366)))
    for job in crew.jobs.values() if seconds else ():
        crew._station.claims.stride.took(job, seconds)
    crew._station.claims.agenda._whole_at = 0.0  # nobody would look at them for long


def claimed(crew, hands=4):
    works = crew.hand_out(start=False, stop=threading.Event(), hands=hands)
    return [work.args[0].job.name for work in works]


@pytest.mark.parametrize(("seconds", "most"), [(10.0, 4), (0.25, 8), (None, 16), (0.001, MANY)])
def test_a_look_claims_what_its_hands_can_begin_with_soon(crew, seconds, most):
    make_due(crew, seconds)
    first = claimed(crew)
    assert len(first) == most
    assert crew.rest(60) == (0 if most < MANY else 60)
    second = claimed(crew)
    assert len(second) == min(most, MANY - most)
    assert not set(first) & set(second)


def test_what_a_process_has_no_hand_for_is_left_to_the_others_and_nothing_is_left_over(crew):
    other = Nightcrew(crew._station.link.engine.url.render_as_string(hide_password=False), settings=Settings())
    for job in crew.jobs.values():
        other.add(job)
    assert hand_out(other, start=True) == []
    make_due(crew, 10.0)
    make_due(other, 10.0)
    found = {crew: [], other: []}
    for _ in range(2 * MANY):
        for each in (crew, other):
            found[each] += claimed(each)
        if sum(map(len, found.values())) == MANY:
            break
    assert sorted(found[crew] + found[other]) == sorted(crew.jobs)
    assert min(map(len, found.values())) > MANY / 4
    assert [claimed(each) for each in found] == [[], []]
    other.close()


def test_runs_that_were_left_are_taken_over_no_faster_than_there_are_hands(crew):
    dead = Nightcrew(crew._station.link.engine.url.render_as_string(hide_password=False), settings=Settings())
    for number in range(10):
        dead.add(crew.jobs[f"job-{number}"])
        claim = dead._station.claims.by_hand(dead.jobs[f"job-{number}"], "cli", None)
        dead._station.claims.release(claim)
    dead.close()
    with crew._station.link.transaction() as connection:
        connection.execute(sa.update(job_table).values(lease_until=ago(seconds=1)))
    make_due(crew, 10.0)
    looks = [claimed(crew) for _ in range(3)]
    assert [len(one) for one in looks] == [4, 4, 4]
    assert len({job for one in looks for job in one}) == 12


def test_a_look_at_what_was_left_asks_for_those_and_for_no_other(crew, monkeypatch):
    monkeypatch.setattr("nightcrew.agenda._BACKLOG", 10)
    make_due(crew, 10.0)
    claimed(crew)
    statements = count(crew, lambda: claimed(crew))
    (look, *_) = (statement for statement in statements if "nightcrew_place" in statement)
    assert look.count("job-") == 10


def test_at_the_start_what_runs_on_start_is_claimed_however_much_it_is(tmp_path):
    crew = Nightcrew(f"sqlite:///{tmp_path}/x.db", settings=Settings())
    for number in range(20):
        crew.add(Job(f"job-{number}", cron("0 0 * * *"), function=lambda run: 1, on_start=number < 18))
    assert len(crew.hand_out(start=True, stop=threading.Event(), hands=4)) == 18
    crew.close()


MORE_THAN_A_STATEMENT_TAKES = 33_000  # of two parameters each


def test_the_leases_of_any_number_of_claims_are_renewed(crew):
    books, claims = crew._station.books, crew._station.claims
    held = [claims.by_hand(crew.jobs[f"job-{number}"], "cli", None) for number in (5, 6)]
    mine = [(claim.job.name, claim.fence) for claim in held]
    others = [(f"other-{number}", number) for number in range(MORE_THAN_A_STATEMENT_TAKES)]
    assert books.renew_all([mine[0], *others, mine[1]], 60.0) == set(mine)
    assert books.renew_all([], 60.0) == set()


def test_any_number_of_runs_is_settled_at_once(crew):
    books, claims = crew._station.books, crew._station.claims
    held = [claims.by_hand(crew.jobs[f"job-{number}"], "cli", None) for number in (5, 6)]
    mine = [done(claim) for claim in held]
    others = [Finished(f"other-{n}", n, f"other.{n}", None, 0) for n in range(MORE_THAN_A_STATEMENT_TAKES)]
    assert books.settle_done([mine[0], *others, mine[1]]) == {(claim.job.name, claim.fence) for claim in held}
    assert {run.state for run in crew.runs()} == {"done"}


def done(claim):
    return Finished(claim.job.name, claim.fence, claim.run, "it went well", 1)


def refused(connection):
    connection.execute(sa.text("SELECT no_such_column FROM nightcrew_jobs"))


def tripped_over(_connection):
    raise TypeError("no driver takes this")


@pytest.mark.parametrize("mishap", [refused, tripped_over])
def test_where_runs_cannot_be_settled_together_each_is_settled_alone(crew, monkeypatch, mishap):
    with crew._station.link.transaction() as connection:
        connection.execute(sa.update(job_table).values(epoch_at=ago(days=40 * 366)))
    works = hand_out(crew, start=True)[:3]

    def together(connection, link, ended):
        mishap(connection)

    monkeypatch.setattr("nightcrew.databases.endings.settle_done", together)
    for work in works:
        work()
    crew._station.settler.close()
    assert {crew._station.books.run(work.args[0].run).state for work in works} == {"done"}


def test_where_no_thread_can_be_started_to_settle_runs_whoever_ran_them_does(crew, monkeypatch):
    with crew._station.link.transaction() as connection:
        connection.execute(sa.update(job_table).values(epoch_at=ago(days=40 * 366)))
    (first, *_) = hand_out(crew, start=True)
    start = threading.Thread.start

    def starts(thread):
        if thread.name == "nightcrew-settler":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", starts)
    first()
    claim = first.args[0]
    assert crew._station.books.run(claim.run).state == "done"
    assert claim.job.name not in crew.at_work


def test_a_claim_that_was_renewed_while_it_waited_is_asked_about_before_its_function_is_called(database_url):
    crew, ran = Nightcrew(database_url, settings=Settings(), lease=1.5), []
    for name in ("first", "second"):
        crew.add(Job(name, every("1 day"), function=lambda run: ran.append(run.job), on_start=True))
    crew.migrate()
    works = hand_out(crew, start=True)
    works[0]()
    crew.stop_all(by="alice", reason="a fire")
    time.sleep(1.3)  # the lease was renewed twice meanwhile
    works[1]()
    assert ran == ["first"]
    crew.close()


def test_one_run_looks_at_the_place_again_in_good_time_and_the_others_go_on(crew, monkeypatch):
    monkeypatch.setattr("nightcrew.settler._NEW", 60)  # however busy the machine is
    with crew._station.link.transaction() as connection:
        connection.execute(sa.update(job_table).values(epoch_at=ago(days=40 * 366)))
    first, *others = hand_out(crew, start=True)
    first()
    settler = crew._station.settler
    now, settler._look_at, settler._known_until = time.monotonic(), 0.0, float("inf")
    assert [settler.trusts(work.args[0], now) for work in others[:4]] == [False, True, True, True]
    looks = count(crew, lambda: [work() for work in others])
    assert not any("nightcrew_place" in one for one in looks)
    assert len(crew.calls) == MANY


def test_a_lease_that_has_just_begun_is_not_renewed_with_the_others(database_url):
    crew, ran = Nightcrew(database_url, settings=Settings(), lease=12), []
    for name in ("elder", "junior"):
        crew.add(Job(name, NEVER, function=ran.append))
    crew.migrate()
    assert crew.waiting() == []  # they have their rows
    claims = crew._station.claims
    old = claims.by_hand(crew.jobs["elder"], "cli", None)
    time.sleep(3)  # the heartbeat goes every four seconds
    young = claims.by_hand(crew.jobs["junior"], "cli", None)
    renewals = count(crew, lambda: time.sleep(2))
    for claim in (old, young):
        claims.release(claim)
    crew.close()
    assert [("elder" in one, "junior" in one) for one in renewals if one.startswith("UPDATE")] == [(True, False)]


def test_runs_of_one_job_that_are_settled_together_are_told_apart_by_their_fences(crew):
    with crew._station.link.transaction() as connection:
        connection.execute(sa.update(job_table).values(epoch_at=ago(days=40 * 366)))
    books = crew._station.books
    old = next(work.args[0] for work in hand_out(crew, start=True) if work.args[0].job.name == "job-5")
    crew._station.claims.release(old)
    rewrite(crew, "job-5", lease_until=ago(seconds=1))
    _, standings = books.standings(["job-5"])
    other = books.take_over(standings["job-5"], Bidder("somebody else", "ticker", None, 60))
    failed = replace(books.run(old.run), state=State.FAILED, reason="it failed", error="it failed")
    assert books.settle("job-5", other.fence, failed, Sequel()) is not None
    new = crew._station.claims.by_hand(old.job, "cli", None)
    assert books.settle_done([done(old), done(new)]) == {("job-5", new.fence)}
    assert [books.run(claim.run).state for claim in (old, new)] == ["failed", "done"]
    crew._station.claims.release(new)


def test_a_job_that_is_behind_catches_up_within_seconds_and_not_a_slot_a_look(crew):
    crew.add(Job("behind", every("1 hour"), function=lambda run: crew.calls.append(run.slot), catch_up="all"))
    hand_out(crew)
    rewrite(crew, "behind", epoch_at=ago(hours=4))
    crew._station.claims.agenda._whole_at = 0.0
    for slot in range(1, 5):
        (work,) = hand_out(crew)
        work()
        crew._station.settler.close()
        assert len(crew.calls) == slot
        assert (crew.rest(60) < 1) is (slot < 4), "a slot that is due waits for the next look"
        time.sleep(min(crew.rest(60), 1))


def test_a_look_at_one_job_is_none_at_all_of_them(crew):
    crew._station.claims.agenda._whole_at = 0.0
    assert crew.due(trigger="celery", only="job-4") == []
    assert any("job-4" in statement for statement in count(crew, lambda: hand_out(crew)))


def test_runs_whose_database_is_away_when_they_end_are_settled_when_it_is_back(tmp_path):
    calls, heard = [], []
    with fresh("postgresql", tmp_path) as url:
        crew, made = Nightcrew(url, settings=Settings(), listeners=[heard.append]), sa.make_url(url)
        with administrator(made.set(database="postgres"), "postgresql").connect() as server:

            def gate(open_to_all):
                server.execute(sa.text(f'ALTER DATABASE "{made.database}" ALLOW_CONNECTIONS {open_to_all}'))
                of_crew = f"FROM pg_stat_activity WHERE datname = '{made.database}'"
                server.execute(sa.text(f"SELECT pg_terminate_backend(pid) {of_crew}"))

            @crew.job(every="1 day", on_start=True)
            def send(run):
                calls.append(run.id)
                gate(open_to_all=False)
                return 1

            crew.migrate()
            (work,) = hand_out(crew, start=True)
            work()
            time.sleep(0.7)
            gate(open_to_all=True)
            assert eventually(lambda: crew.at_work == [])
        assert crew._station.books.run(calls[0]).state == "done"
        assert [entry.kind for entry in heard if entry.run] == ["begun", "succeeded"]
        crew.close()


def test_a_run_that_was_settled_though_the_answer_was_lost_is_told_as_done(crew):
    with crew._station.link.transaction() as connection:
        connection.execute(sa.update(job_table).values(epoch_at=ago(days=40 * 366)))
    books, claim = crew._station.books, hand_out(crew, start=True)[0].args[0]
    ended = [done(claim)]
    assert books.settle_done(ended) == books.settle_done(ended) == {(claim.job.name, claim.fence)}
    crew._station.claims.release(claim)


def test_a_job_with_the_schedule_of_another_version_is_looked_at_every_minute(crew):
    crew.add(Job("shared", cron("0 0 29 2 1", "Europe/Paris"), function=lambda run: 1))
    hand_out(crew)
    assert crew.rest(600) == 600
    rewrite(crew, "shared", schedule="0 0 29 2 1", timezone="UTC", meaning=NEVER.meaning)
    crew._station.claims.agenda._whole_at = 0.0
    hand_out(crew)
    rewrite(crew, "shared", rival=None, rival_since=None)  # somebody has answered
    hand_out(crew)
    assert crew.rest(600) <= 60, "they may be gone by then"
