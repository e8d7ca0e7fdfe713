"""What becomes of one mail at a moment, and which mails a person has when the steps have changed."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightcrew.enrolment import REMOVED, Planned, changes
from nightcrew.errors import ConfigurationError
from nightcrew.sent import State
from nightcrew.sequence import DAY, DAYS, Look, Person, Send, Sequence, Step, Wait, decide

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)  # a Wednesday
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
STEPS = (Step("welcome"), Step("day3", 3 * DAY), Step("day7", 7 * DAY))
WELCOME = Sequence("welcome", STEPS)
ADA = Person("1", "ada@example.com", "Ada")
MOMENTS = st.integers(0, 3 * 365 * 24 * 60).map(
    lambda minutes: datetime(2025, 1, 1, tzinfo=UTC) + minutes * timedelta(minutes=1)
)
ZONES = st.sampled_from(
    ["UTC", "Europe/Paris", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Apia"]
)


def look(now=NOON, due=NOON, person=ADA, **more):
    return Look(due, now, person, **more)


def of(sequence=WELCOME, step="welcome", **more):
    return decide(sequence, sequence.step(step), look(**more))


def test_what_is_due_leaves():
    assert of() == Send(ADA, None)


@pytest.mark.parametrize(
    ("sequence", "more", "state", "reason"),
    [
        (WELCOME, {"now": NOON + 3 * DAY, "person": None}, State.EXPIRED, "there is no such person"),
        (Sequence("s", STEPS, goal="done"), {"person": Person("1", "a@b.c", true=frozenset({"done"}))}, State.CANCELLED,
         "goal"),
        (WELCOME, {"suppressed": "unsubscribed"}, State.SUPPRESSED, "unsubscribed"),
        (Sequence("s", STEPS, preference="tips"), {"person": Person("1", "a@b.c", wants={"tips": False})},
         State.SUPPRESSED, "preference tips"),
        (Sequence("s", (Step("welcome", only_if="plan = 'free'"),)), {}, State.SUPPRESSED, "condition"),
        (WELCOME, {"now": NOON + 2 * DAY + timedelta(seconds=1)}, State.EXPIRED, "it could not leave in time"),
        (WELCOME, {"now": NOON + 3 * DAY, "person": Person("1", "a@b.c", verified=False)}, State.SUPPRESSED,
         "the address was not verified in time"),
        (WELCOME, {"now": NOON + 3 * DAY, "person": Person("1", None)}, State.SUPPRESSED,
         "the address was not verified in time"),
    ],
)  # fmt: skip
def test_what_will_not_leave_any_more_ends_with_a_reason(sequence, more, state, reason):
    verdict = of(sequence, **more)
    assert (verdict.state, verdict.reason) == (state, reason)
    assert verdict.whole == (state is State.CANCELLED)


@pytest.mark.parametrize(
    ("so_far", "wait"),
    [(timedelta(0), MINUTE), (3 * MINUTE, MINUTE), (20 * MINUTE, 5 * MINUTE), (4 * HOUR, HOUR), (30 * HOUR, HOUR)],
)
def test_an_address_that_is_not_verified_is_waited_for_the_longer_the_longer_it_is_not(so_far, wait):
    verdict = of(now=NOON + so_far, person=Person("1", "a@b.c", verified=False))
    assert verdict == Wait(NOON + so_far + wait, "the address is not verified")


def test_who_is_not_there_may_be_in_a_little_while():
    assert of(now=NOON + 20 * MINUTE, person=None) == Wait(NOON + 25 * MINUTE, "there is no such person")
    assert of(now=NOON + 2 * DAY, person=None) == Wait(NOON + 2 * DAY + HOUR, "there is no such person")


def test_who_never_said_no_wants_it():
    assert isinstance(of(Sequence("s", STEPS, preference="tips"), person=Person("1", "a@b.c")), Send)


def test_it_leaves_when_the_clocks_of_the_person_allow():
    office = Sequence("s", STEPS, hours="09:00-17:00", days=("mon", "tue", "wed", "thu", "fri"))
    friday_evening = datetime(2026, 3, 6, 22, 30, tzinfo=UTC)
    of_paris = Person("1", "a@b.c", zone="Europe/Paris")
    assert of(office, now=friday_evening, due=friday_evening, person=of_paris) == Wait(
        datetime(2026, 3, 9, 8, tzinfo=UTC), "quiet hours in Europe/Paris"
    )
    of_new_york = Person("1", "a@b.c", zone="America/New_York")
    assert of(office, now=friday_evening, due=friday_evening, person=of_new_york).until.weekday() == 0
    noon = datetime(2026, 3, 6, 17, tzinfo=UTC)  # there
    assert isinstance(of(office, now=noon, due=noon, person=of_new_york), Send)


def test_a_night_and_a_weekend_are_no_delay():
    monday = Sequence("s", (Step("welcome", within=HOUR),), hours="09:00-17:00", days=("mon",))
    tuesday = datetime(2026, 3, 3, 12, tzinfo=UTC)
    opens = datetime(2026, 3, 9, 9, tzinfo=UTC)
    assert of(monday, due=tuesday, now=opens) == Send(ADA, None)
    assert of(monday, due=tuesday, now=opens + HOUR + timedelta(seconds=1)).state is State.EXPIRED


@pytest.mark.parametrize("zone", ["", "Mars/Olympus", "../../etc/passwd", "Europe/Paris\n", "x" * 5_000])
def test_what_stands_in_the_column_of_a_zone_may_be_anything(zone):
    verdict = of(Sequence("s", STEPS, hours="20:00-21:00"), person=Person("1", "a@b.c", zone=zone), zone="Europe/Paris")
    assert verdict.reason == "quiet hours in Europe/Paris"


def test_a_person_gets_so_many_a_day_and_the_next_when_the_day_is_over():
    recent = [NOON - 20 * HOUR, NOON - 2 * HOUR]
    assert of(recent=recent[1:]) == Wait(NOON + 22 * HOUR, "1 a day for a person")
    assert of(recent=recent, most=2) == Wait(NOON + 4 * HOUR, "2 a day for a person")
    assert isinstance(of(recent=recent, most=3), Send)


@pytest.mark.parametrize(
    ("zone", "hours", "due", "opens"),
    [
        ("Europe/Paris", "02:30-04:00", "2026-03-29T00:59Z", "2026-03-29T01:00Z"),  # 2:30 is not there: at 3:00
        ("Europe/Paris", "02:15-02:45", "2026-03-29T00:59Z", "2026-03-30T00:15Z"),  # nor are these hours, that day
        ("America/New_York", "02:10-23:00", "2026-03-08T06:59Z", "2026-03-08T07:00Z"),
        ("Australia/Lord_Howe", "02:15-04:00", "2026-10-03T15:29Z", "2026-10-03T15:30Z"),  # half an hour is not
        ("Europe/Paris", "09:00-02:30", "2026-10-25T00:30Z", "2026-10-25T08:00Z"),  # 2:30 came, and comes once more
        ("America/New_York", "20:00-01:30", "2026-11-01T06:00Z", "2026-11-02T01:00Z"),
        ("Australia/Lord_Howe", "20:00-01:45", "2026-04-04T15:05Z", "2026-04-05T09:30Z"),
    ],
)
def test_what_is_due_where_clocks_leap_leaves_right_after_it_and_never_in_quiet_hours(zone, hours, due, opens):
    sequence = Sequence("s", STEPS, hours=hours)
    assert sequence.opens(datetime.fromisoformat(due), zone) == datetime.fromisoformat(opens)


@given(MOMENTS, ZONES, st.sets(st.sampled_from(DAYS), min_size=1), st.integers(0, 23), st.integers(1, 22))
def test_whatever_the_hours_say_what_opens_is_open_and_not_before_now(now, zone, days, begin, length):
    end = (begin + length) % 24
    sequence = Sequence("s", STEPS, hours=f"{begin:02}:00-{end:02}:00", days=tuple(days))
    opened = sequence.opens(now, zone)
    assert now <= opened <= now + 9 * DAY
    assert DAYS[opened.astimezone(ZoneInfo(zone)).weekday()] in days
    assert sequence.opens(opened, zone) == opened


def test_a_variant_is_the_same_for_a_person_whenever_it_is_asked_for_and_about_half_get_each():
    step = Step("welcome", arms=("a", "b"))
    arms = [step.arm("s", str(person)) for person in range(2_000)]
    assert arms == [step.arm("s", str(person)) for person in range(2_000)]
    assert 900 < Counter(arms)["a"] < 1_100
    assert step.arm("s", "1\0") in ("a", "b")
    other = [Step("day3", arms=("a", "b")).arm("s", str(person)) for person in range(2_000)]
    assert 900 < sum(one == two for one, two in zip(arms, other, strict=True)) < 1_100


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: Sequence("s", ()), "has no steps"),
        (lambda: Sequence("s", (Step("a"), Step("a"))), "two steps that are, or were, called 'a'"),
        (lambda: Sequence("s", (Step("a"), Step("b", was=("a",)))), "two steps that are, or were, called 'a'"),
        (lambda: Sequence("Wel come", STEPS), "the name of a sequence 'Wel come'"),
        (lambda: Sequence("s", STEPS, hours="9-17"), "hours '9-17'"),
        (lambda: Sequence("s", STEPS, days=("mon", "tun")), "and not ['tun']"),
        (lambda: Sequence("s", STEPS, days=()), "not none"),
        (lambda: Step("a", -DAY), "before anybody is enrolled"),
        (lambda: Step("a", within=timedelta(0)), "could never leave"),
        (lambda: Step("../a"), "the name of a step"),
        (lambda: Step("a", arms=("A B",)), "the name of a step"),
        (lambda: Step(3), "is 3 (int)"),
    ],
)
def test_what_makes_no_sense_is_said_before_anything_starts(build, said):
    with pytest.raises(ConfigurationError) as problem:
        build()
    assert said in str(problem.value)


def planned(*mails):
    return {
        step: Planned(number, step, since, state, reason) for number, (step, since, state, reason) in enumerate(mails)
    }


def waiting(step, due):
    return step, due, State.WAITING, ""


def test_who_is_new_is_due_all_steps_however_late():
    long_ago = NOON - 30 * DAY
    found = changes(WELCOME, long_ago, NOON, {}, first=True)
    assert found.add == {"welcome": long_ago, "day3": long_ago + 3 * DAY, "day7": long_ago + 7 * DAY}
    assert not (found.move)
    assert not (found.cancel)
    assert not (found.rename)


def test_a_step_that_is_new_is_due_where_it_is_not_late():
    mails = planned(("welcome", NOON, State.SENT, ""), waiting("day3", NOON + 3 * DAY))
    assert changes(WELCOME, NOON, NOON + DAY, mails, first=False).add == {"day7": NOON + 7 * DAY}
    assert changes(WELCOME, NOON, NOON + 30 * DAY, mails, first=False).add == {}


def test_the_order_of_steps_says_nothing_and_their_time_moves_what_waits():
    other = Sequence("welcome", (Step("day7", 7 * DAY), Step("day3", 4 * DAY), Step("welcome")))
    mails = planned(("welcome", NOON, State.SENT, ""), waiting("day3", NOON + 3 * DAY), waiting("day7", NOON + 7 * DAY))
    found = changes(other, NOON, NOON + DAY, mails, first=False)
    assert found.move == {1: NOON + 4 * DAY}
    assert not (found.add)
    assert not (found.cancel)
    assert not (found.rename)
    assert other.fingerprint != WELCOME.fingerprint
    assert Sequence("welcome", STEPS[::-1]).fingerprint == WELCOME.fingerprint


def test_a_step_that_is_called_otherwise_is_another_one_unless_it_says_so():
    mails = planned(("welcome", NOON, State.SENT, ""), waiting("day3", NOON + 3 * DAY), waiting("day7", NOON + 7 * DAY))
    renamed = Sequence("welcome", (STEPS[0], Step("tips", 3 * DAY, was=("day3",)), STEPS[2]))
    found = changes(renamed, NOON, NOON + DAY, mails, first=False)
    assert found.rename == {1: "tips"}
    assert not (found.add)
    assert not (found.move)
    assert not (found.cancel)
    fresh = changes(
        Sequence("welcome", (STEPS[0], Step("tips", 3 * DAY), STEPS[2])), NOON, NOON + DAY, mails, first=False
    )
    assert (fresh.cancel, fresh.add) == ((1,), {"tips": NOON + 3 * DAY})


def test_a_step_that_is_gone_takes_along_what_waits_and_brings_it_when_it_is_back():
    mails = planned(("welcome", NOON, State.SENT, ""), waiting("day3", NOON + 3 * DAY), ("day7", NOON, State.SENT, ""))
    assert changes(Sequence("welcome", STEPS[:1]), NOON, NOON, mails, first=False).cancel == (1,)
    mails = planned(("day3", NOON + 3 * DAY, State.CANCELLED, REMOVED), ("day7", NOON, State.CANCELLED, "goal"))
    back = changes(WELCOME, NOON, NOON, mails, first=False)
    assert back.move == {0: NOON + 3 * DAY}
    assert set(back.add) == {"welcome"}


SEQUENCES = st.builds(
    lambda steps: Sequence("s", tuple(Step(name, timedelta(hours=after)) for name, after in steps.items())),
    st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 300), min_size=1),
)


@given(history=st.lists(st.tuples(SEQUENCES, st.integers(0, 40)), min_size=1, max_size=6))
def test_however_often_steps_change_no_mail_that_left_is_due_again(history):
    """Play the changes on the rows: what was sent stays, what waits is what there is, and each step is there once."""
    rows: dict[str, Planned] = {}
    now, number, sent = NOON, 0, set()
    for place, (sequence, hours) in enumerate(history):
        now += timedelta(hours=hours)
        found = changes(sequence, NOON, now, rows, first=place == 0)
        by_id = {mail.id: mail for mail in rows.values()}
        for mail in found.cancel:
            by_id[mail] = Planned(mail, by_id[mail].step, by_id[mail].planned, State.CANCELLED, REMOVED)
        for mail, due in found.move.items():
            assert by_id[mail].step not in sent
            by_id[mail] = Planned(mail, by_id[mail].step, due, State.WAITING)
        rows = {mail.step: mail for mail in by_id.values()}
        for step, due in found.add.items():
            assert step not in rows
            rows[step] = Planned(number := number + 1, step, due, State.WAITING)
        assert {step for step, mail in rows.items() if mail.state is State.WAITING} <= {
            step.name for step in sequence.steps
        }
        for step, mail in list(rows.items()):
            if mail.state is State.WAITING and mail.planned <= now:
                assert step not in sent
                sent.add(step)
                rows[step] = Planned(mail.id, step, mail.planned, State.SENT)
