"""A month of mail: people sign up every hour, nobody is there for a week, and each mail leaves on its day or never."""

import random
from collections import Counter, defaultdict
from datetime import timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from tests.conftest import MOMENT
from tests.model.timepiece import Timepiece
from tests.tray import NAME, PEOPLE, PREFERENCES, SENT, Tray, application, crew_of, people

from nightcrew.outcome import Outcome
from nightcrew.sent import State
from nightcrew.sequence import DAY, Sequence, Step

HOUR = timedelta(hours=1)
ZONES = ("UTC", "Europe/Paris", "America/New_York", "Asia/Kolkata", "Pacific/Auckland")
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat")
STEPS = (Step("welcome"), Step("day3", 3 * DAY), Step("day7", 7 * DAY))
MONTH = Sequence("welcome", STEPS, hours="08:00-20:00", days=DAYS)
DARK = range(10 * 24, 17 * 24)  # the hours in which nobody sends anything


@pytest.mark.parametrize("per_day", [None, 1.5])
def test_every_mail_leaves_on_its_day_and_a_week_of_darkness_is_followed_by_no_burst(request, sqlite_yard, per_day):
    number, pace = (10_000, 1) if request.config.getoption("--campaign") else (240, 6)  # people, hours between looks
    each_day = number / 30
    most = None if per_day is None else int(per_day * 3 * each_day)
    clock, chance = Timepiece(), random.Random(7)
    url = sqlite_yard.link.engine.url.render_as_string(hide_password=False)
    sqlite_yard.run(PEOPLE, PREFERENCES)
    left: dict[str, list[tuple[str, object]]] = defaultdict(list)

    def fate(letter):
        left[letter.recipient.addr_spec].append((letter.key.split(".")[1], clock.now()))
        return SENT

    crew = crew_of(url, Tray(fate), MONTH, clock=clock, per_day=most)
    crew.migrate()
    engine, since = application(url), {}
    rows = [row | {"zone": chance.choice(ZONES)} for row in people(*range(number))]
    for start in range(0, number, 1_000):
        sqlite_yard.fill("people", *rows[start : start + 1_000])
    for hour in range(38 * 24):
        clock.move(3_600)
        fresh = [person for person in range(number) if person * (30 * 24) // number == hour]
        with engine.begin() as connection:
            for person in fresh:
                crew.mail.enroll(connection, person, "welcome", since=clock.now())
        since |= dict.fromkeys(fresh, clock.now())
        if hour % pace == 0 and hour not in DARK:
            report = crew.run(NAME, now=True)
            assert report.outcome in (Outcome.SUCCEEDED, Outcome.NOTHING_TO_DO, Outcome.FAILED)
            assert report.outcome is not Outcome.FAILED or "expired" in report.message
    counts = Counter()
    for (_, _, state), count in crew.mail.counts().items():
        counts[state] += count
    by_day = Counter((at - MOMENT) // DAY for some in left.values() for _, at in some)
    crew.close()
    engine.dispose()

    assert sum(counts.values()) == 3 * number
    assert counts[State.SENT] == sum(map(len, left.values()))
    assert set(counts) == {State.SENT, State.EXPIRED}
    zones = {row["email"]: row["zone"] for row in rows}
    for person, begun in since.items():
        address = f"p{person}@example.com"
        some = left[address]
        assert len({step for step, _ in some}) == len(some), "no step twice"
        assert all(second - first >= DAY for (_, first), (_, second) in pairwise(some)), "one a day"
        for step, at in some:
            local = at.astimezone(ZoneInfo(zones[address]))
            assert 8 <= local.hour < 20
            assert local.strftime("%a").lower() in DAYS
            due = begun + MONTH.step(step).after
            assert due <= at <= MONTH.opens(due, zones[address]) + 2 * DAY + pace * HOUR
    dark = {day for day in range(40) if {day * 24 - 1, day * 24 + 22} <= {*DARK}}
    assert not any(by_day[day] for day in dark)
    if most is None:
        assert max(by_day.values()) <= 4 * 3 * each_day, "two days' mail, and a Sunday's, and the day's own"
        lost = counts[State.EXPIRED] / (3 * number)
        assert lost < 0.2, "what was due in the dark week, and no more"
    else:
        assert max(by_day.values()) <= 2 * most
