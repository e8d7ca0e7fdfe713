"""What is written for other schedulers: read back by their own tools, and merged without losing what is not ours."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import takewhile
from pathlib import Path
from zoneinfo import ZoneInfo

import kubernetes_validate
import pytest
import yaml
from cronsim import CronSim
from hypothesis import given
from hypothesis import strategies as st

from nightcrew.errors import ConfigurationError, UsageError
from nightcrew.exporters import block, crontab, github, kubernetes, splice, systemd, vercel
from nightcrew.exporters.exporter import Call, Command, Export
from nightcrew.job import Job
from nightcrew.schedule import Cron, Schedule, cron, every

NOW = datetime(2026, 1, 1, tzinfo=UTC)
YEAR = NOW + timedelta(days=365)
CALL = Call("https://app.example", timedelta(seconds=60))
COMMAND = Command("/usr/local/bin/nightcrew", (), ("DATABASE_URL",))


def job(name: str, schedule: Schedule, **more: str) -> Job:
    return Job(name, schedule, function=lambda run: None, **more)


PLAIN = [
    job("every-ten", every("10 minutes")),
    job("every-45", every("45 minutes")),
    job("weekly", every("7 days", timedelta(hours=3))),
    job("twice-a-day", cron("0 */12 * * *")),
    job("dates-and-mondays", cron("30 4 1,15 * MON")),
    job("monthly", cron("0 0 1 * *")),
    job("in-summer", cron("17 5 * 6-8 *")),
]
ZONED = [
    job("paris", cron("0 9 * * 1-5", "Europe/Paris")),
    job("in-the-gap", cron("30 2 * * *", "Europe/Paris")),
    job("twice-in-autumn", cron("30 1,13 * * *", "America/New_York")),
    job("wildcard", cron("*/30 * * * *", "Europe/Paris")),
]
ONLY_SYSTEMD = [
    job("last-day", cron("0 3 L * *", "Europe/Paris")),
    job("second-monday", cron("0 3 * * MON#2")),
    job("last-friday", cron("0 3 * * 5L")),
    job("fifth-sunday", cron("0 3 * * SUN#5")),
    job("odd-mondays", cron("0 3 */2 * MON")),
    job("last-day-or-monday", cron("0 3 L * MON")),
    job("half-a-minute", every("30 seconds", timedelta(seconds=5))),
]


def text(export: Export) -> str:
    return "".join(file.merged(None) for file in export.files)


@cache
def called(expression: str, timezone: str = "UTC") -> frozenset[datetime]:
    """Read an expression as cron does that counts wall times of a zone, and runs what comes twice each time."""
    clocks = ZoneInfo(timezone)
    start, end = (each.replace(tzinfo=None) for each in (NOW - timedelta(days=2), YEAR + timedelta(days=2)))
    found: set[datetime] = set()
    for wall in takewhile(lambda each: each < end, CronSim(expression, start)):
        for fold in (0, 1):
            instant = wall.replace(tzinfo=clocks, fold=fold).astimezone(UTC)
            if instant.astimezone(clocks).replace(tzinfo=None) == wall and NOW < instant <= YEAR:
                found.add(instant)
    return frozenset(found)


@cache
def slots(of: Job) -> frozenset[datetime]:
    return frozenset(of.schedule.between(NOW, YEAR))


def leapt(of: Job) -> set[datetime]:
    return {*of.schedule.leapt(NOW, YEAR)} if isinstance(of.schedule, Cron) else set()


def assert_same(of: Job, calls: set[datetime]) -> None:
    """Every slot has its call, but for those that the clocks leap over; a call beside them finds nothing due."""
    assert slots(of) - calls <= leapt(of)
    for extra in calls - slots(of):  # the second pass of a time that comes twice
        assert timedelta(0) < extra - of.schedule.latest(extra) <= timedelta(hours=1), extra


def test_vercels_crons_have_the_same_slots_in_utc() -> None:
    found: dict[str, set[datetime]] = {}
    for each in json.loads(text(vercel.crons(PLAIN, NOW, "vercel.json", hobby=False)))["crons"]:
        assert set(each) == {"path", "schedule"}
        assert 9 <= len(each["schedule"]) <= 256
        _, _, date, _, weekday = each["schedule"].split()
        assert "*" in {date, weekday}  # Vercel takes one of the two only
        assert re.fullmatch(r"[0-9*,/ -]+", each["schedule"])  # and no names
        found.setdefault(each["path"].rpartition("/")[2], set()).update(called(each["schedule"]))
    assert found == {each.name: slots(each) for each in PLAIN}


def test_vercels_schedules_have_their_own_time_zone() -> None:
    found: dict[str, set[datetime]] = {}
    for name, each in json.loads(text(vercel.schedules(PLAIN + ZONED, NOW, "vercel.json")))["schedules"].items():
        assert set(each) == {"schedule", "timezone", "requestMethod", "path"}
        assert each["requestMethod"] == "GET"
        assert name.startswith(each["path"].rpartition("/")[2])
        found.setdefault(each["path"].rpartition("/")[2], set()).update(called(each["schedule"], each["timezone"]))
    for each in PLAIN + ZONED:
        assert_same(each, found[each.name])


def test_on_hobby_a_cron_runs_once_a_day() -> None:
    export = vercel.crons([job("twice", cron("0 6,18 * * 1"))], NOW, "vercel.json", hobby=True)
    crons = json.loads(text(export))["crons"]
    assert [each["schedule"] for each in crons] == ["0 6 * * 1", "0 18 * * 1"]
    with pytest.raises(ConfigurationError, match=r"job 'every-ten'.*Hobby"):
        vercel.crons([PLAIN[0]], NOW, "vercel.json", hobby=True)


def test_what_vercel_cannot_take_is_refused_whole_with_the_reason_and_the_rest_to_name() -> None:
    with pytest.raises(ConfigurationError) as caught:
        vercel.crons([*PLAIN[:2], ZONED[0], ONLY_SYSTEMD[0]], NOW, "vercel.json", hobby=False)
    assert "job 'paris'" in str(caught.value)
    assert "job 'last-day'" in str(caught.value)
    assert str(caught.value).endswith("--schedules, or name the jobs that are to be exported: every-ten every-45")
    with pytest.raises(UsageError, match="takes 100 of a project"):
        vercel.crons([job(f"j{n}", cron("0 3 * * *")) for n in range(101)], NOW, "vercel.json", hobby=False)


def test_the_workflow_calls_each_job_within_its_slot_and_never_as_an_hour_begins(tmp_path: Path) -> None:
    written = text(github.workflow(PLAIN + ZONED, CALL, NOW, "w.yml", "nightcrew export github", None))
    (tmp_path / "w.yml").write_text(written)
    schema = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows"]
    subprocess.run([*schema, tmp_path / "w.yml"], check=True, capture_output=True)
    workflow = yaml.safe_load(written)
    assert workflow["permissions"] == {}
    runs = workflow["jobs"]
    assert workflow[True]["workflow_dispatch"]["inputs"]["job"]["options"] == [each.name for each in PLAIN + ZONED]
    for each in PLAIN + ZONED:
        run = runs[f"job-{each.name}"]
        calls: set[datetime] = set()
        for when in workflow[True]["schedule"]:
            if f"github.event.schedule == '{when['cron']}'" in run["if"]:
                assert "0" not in when["cron"].split()[0].split(",")
                calls |= called(when["cron"], when.get("timezone", "UTC"))
        reached = {each.schedule.latest(call) for call in calls}
        assert {slot for slot in slots(each) if slot < YEAR - timedelta(hours=1)} - reached <= leapt(each)
        assert run["timeout-minutes"] == 5
        step = run["steps"][0]
        assert step["env"] == {"CRON_SECRET": "${{ secrets.CRON_SECRET }}"}
        assert "secrets." not in step["run"]


def test_a_workflow_may_run_the_command_in_an_image() -> None:
    way = Command("nightcrew", (), ("DATABASE_URL", "REDIS_URL"))
    workflow = yaml.safe_load(text(github.workflow(PLAIN[:1], way, NOW, "w.yml", "x", "registry.example/acme:1")))
    run = workflow["jobs"]["job-every-ten"]
    assert run["container"] == {"image": "registry.example/acme:1"}
    assert run["steps"][0]["run"] == "nightcrew -q run every-ten --deadline 50m"
    assert set(run["steps"][0]["env"]) == {"DATABASE_URL", "REDIS_URL"}


def test_github_runs_nothing_more_often_than_every_five_minutes() -> None:
    with pytest.raises(ConfigurationError, match="every 5 minutes"):
        github.workflow([job("often", every("2 minutes"))], CALL, NOW, "w.yml", "x", None)
    assert "1-59" not in text(github.workflow([job("five", every("5 minutes"))], CALL, NOW, "w.yml", "x", None))


def rows(of: str) -> Iterator[tuple[str, str, str]]:
    """Yield when, who and what of each line of a crontab that is one."""
    for line in of.splitlines():
        if line and not line.startswith("#") and not re.match(r"[A-Z]+=", line):
            when, who, what = line.split("\t")
            yield when, who, what


@pytest.mark.parametrize("way", [CALL, COMMAND])
def test_a_crontab_has_the_same_slots_in_the_machines_zone(way: Call | Command, tmp_path: Path) -> None:
    found: dict[str, set[datetime]] = {}
    export = crontab.crontab(PLAIN, way, NOW, "f", "x", zone="UTC", user="acme", folder="/srv/acme")
    for when, who, what in rows(text(export)):
        assert who == "acme"
        name = next(each.name for each in PLAIN if re.search(rf"\b{each.name}\b", what))
        found.setdefault(name, set()).update(called(when))
    assert found == {each.name: slots(each) for each in PLAIN}
    if shutil.which("crontab") is None:
        pytest.skip("there is no crontab(1) here to read it: apt-get install cron")
    users = tmp_path / "crontab"  # a user's own, which is what it reads, names no user
    users.write_text(text(export).replace("\tacme\t", "\t"))
    subprocess.run(["crontab", "-n", users], check=True, capture_output=True)


def test_a_percent_sign_ends_no_command() -> None:
    way = Call("https://app.example/~a", timedelta(seconds=60))
    strange = Command("/opt/50%/nightcrew", (), ())
    for each in (way, strange):
        export = crontab.crontab(PLAIN[:1], each, NOW, "f", "x", zone="UTC", user="acme", folder="/srv/a%b")
        assert not re.search(r"(?<!\\)%", text(export))


def test_times_of_another_zone_are_refused_for_a_crontab_where_the_seasons_differ() -> None:
    with pytest.raises(ConfigurationError, match="--timezone"):
        crontab.crontab(ZONED[:1], CALL, NOW, "f", "x", zone="UTC", user="a", folder="/")
    export = crontab.crontab(ZONED[:2], CALL, NOW, "f", "x", zone="Europe/Paris", user="a", folder="/")
    assert [when for when, _, _ in rows(text(export))] == ["0 9 * * 1-5", "30 2 * * *"]


def analyze(*words: str) -> str:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze here to read it")
    done = subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("each", PLAIN + ZONED + ONLY_SYSTEMD, ids=lambda each: each.name)
def test_systemd_elapses_at_the_same_slots(each: Job) -> None:
    expected = {*each.schedule.between(NOW, YEAR, 2_000)}
    until = min(YEAR, max(expected))
    found: set[datetime] = set()
    for calendar in systemd.calendars(each.schedule, NOW):
        said = analyze(
            "calendar", f"--iterations={len(expected) + 1}", f"--base-time={NOW:%Y-%m-%d %H:%M:%S} UTC", calendar
        )
        for day in re.findall(r"(?:Next elapse|\(in UTC\)|Iter\. #\d+): \w{3} (\S+ \S+) UTC", said):
            found.add(datetime.fromisoformat(day).replace(tzinfo=UTC))
    assert expected - {slot for slot in found if slot <= until} == leapt(each)
    assert {slot for slot in found if NOW < slot <= until} <= expected


@pytest.mark.parametrize("seconds", [1.5, 7, 90])
def test_what_systemd_cannot_say_is_refused(seconds: float) -> None:
    with pytest.raises(ConfigurationError, match="job 'odd' cannot be exported to systemd"):
        systemd.units([job("odd", every(timedelta(seconds=seconds)))], CALL, NOW, "f", "x", "/")


@pytest.mark.parametrize("way", [CALL, Command("/usr/bin/env", (), ("DATABASE_URL",))])
def test_systemd_verifies_the_units_and_finds_them_locked_in(way: Call | Command, tmp_path: Path) -> None:
    export = systemd.units(PLAIN + ONLY_SYSTEMD, way, NOW, str(tmp_path), "x", "/")
    for file in export.files:
        Path(file.path).write_text(file.merged(None))
    assert analyze("verify", "--man=no", *[file.path for file in export.files]) == ""
    said = analyze("security", "--offline=true", "--threshold=25", export.files[1].path)
    assert "OK" in said


def test_kubernetes_takes_the_cronjobs() -> None:
    for way, image in ((CALL, kubernetes.CURL), (COMMAND, "registry.example/acme:1")):
        found: dict[str, set[datetime]] = {}
        for each in yaml.safe_load_all(text(kubernetes.cronjobs(PLAIN + ZONED, way, NOW, "f", "x", image))):
            kubernetes_validate.validate(each, "1.32", strict=True)
            spec = each["spec"]
            assert spec["concurrencyPolicy"] == "Forbid"
            assert 10 <= spec["startingDeadlineSeconds"] <= 200
            assert len(each["metadata"]["name"]) <= 52
            name = each["metadata"]["annotations"]["nightcrew/job"]
            found.setdefault(name, set()).update(called(spec["schedule"], spec["timeZone"]))
        for one in PLAIN + ZONED:
            assert_same(one, found[one.name])


def test_long_names_of_cronjobs_are_cut_and_stay_different() -> None:
    long = [job("a" * 90 + end, every("1 hour")) for end in "xy"]
    names = [
        each["metadata"]["name"]
        for each in yaml.safe_load_all(text(kubernetes.cronjobs(long, CALL, NOW, "f", "x", "i")))
    ]
    assert len(set(names)) == 2
    assert all(len(name) <= 52 for name in names)


def test_a_slot_that_is_leapt_over_is_told() -> None:
    for export in (
        kubernetes.cronjobs(ZONED, CALL, NOW, "f", "x", "i"),
        systemd.units(ZONED, CALL, NOW, "f", "x", "/"),
        vercel.schedules(ZONED, NOW, "f"),
    ):
        assert [note for note in export.notes if "leap" in note] == [
            next(note for note in export.notes if "'in-the-gap'" in note and "2026-03-29 01:00Z" in note)
        ]


def test_no_file_has_a_secret_on_a_command_line() -> None:
    for export in (
        github.workflow(PLAIN, CALL, NOW, "f", "x", None),
        crontab.crontab(PLAIN, CALL, NOW, "f", "x", zone="UTC", user="a", folder="/"),
        systemd.units(PLAIN, CALL, NOW, "f", "x", "/"),
        kubernetes.cronjobs(PLAIN, CALL, NOW, "f", "x", "i"),
    ):
        for line in [*text(export).splitlines(), *export.notes]:
            assert not re.search(r"curl[^|]*(-H|--header)", line), line
            assert not re.search(r"(?<!printf )(?<!')\$CRON_SECRET", line) or "printf" in line, line


# ── files that others have written in, too ──────────────────────────────────────────────────────────────────────────


VERCEL = """{
    "$schema": "https://openapi.vercel.sh/vercel.json",
    "crons": [ {"path": "/api/theirs",   "schedule": "5 5 * * *"},
               {"path": "/api/internal/jobs/gone", "schedule": "0 0 * * *"},
               {"path": "/api/own/", "schedule": "1 1 * * *"} ],
    "headers": [{ "source": "/(.*)",  "headers": [] }]
}
"""


def test_vercels_file_keeps_what_is_not_ours_to_the_byte() -> None:
    mine = job("mine", cron("0 3 * * *"), path="/api/own")
    file = vercel.crons([mine], NOW, "vercel.json", hobby=False).files[0]
    once = file.merged(VERCEL)
    assert json.loads(once)["crons"] == [
        {"path": "/api/theirs", "schedule": "5 5 * * *"},
        {"path": "/api/internal/jobs/mine", "schedule": "0 3 * * *"},
    ]
    assert '{"path": "/api/theirs",   "schedule": "5 5 * * *"}' in once
    assert once.startswith(VERCEL[: VERCEL.index("[")])
    assert once.endswith(VERCEL[VERCEL.index(',\n    "headers"') :])
    assert file.merged(once) == once
    moved = vercel.schedules([mine], NOW, "vercel.json").files[0].merged(once)
    assert json.loads(moved)["crons"] == [{"path": "/api/theirs", "schedule": "5 5 * * *"}]
    assert list(json.loads(moved)["schedules"]) == ["mine"]
    assert file.merged(moved) == once


@pytest.mark.parametrize(
    ("before", "reason"),
    [
        ("[]", "no object"),
        ("{,}", "Expecting property name"),
        ('{"crons": {}}', "'crons' are no array"),
        ('{"crons": [], "crons": []}', "'crons' twice"),
        ('{"crons": [1,]}', "Illegal trailing comma|Expecting value"),
        ("{} x", "Extra data"),
        ("\ufeff{}", "BOM"),
    ],
)
def test_a_file_that_would_be_spoilt_is_left_alone(before: str, reason: str) -> None:
    file = vercel.crons(PLAIN[:1], NOW, "vercel.json", hobby=False).files[0]
    with pytest.raises(UsageError, match=reason):
        file.merged(before)


def test_a_schedule_of_that_name_that_calls_something_else_is_not_overwritten() -> None:
    before = '{"schedules": {"every-ten": {"schedule": "* * * * *", "path": "/theirs"}}}'
    with pytest.raises(UsageError, match="'every-ten' is of something else"):
        vercel.schedules(PLAIN[:1], NOW, "vercel.json").files[0].merged(before)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=5), JSON, max_size=5), st.sampled_from([None, 1, 2, 4, "\t"]), JSON)
def test_a_spliced_member_changes_no_other(before: dict[str, object], indent: int | str | None, value: object) -> None:
    written = json.dumps(before, indent=indent)
    after = splice.put(written, "crons", json.dumps(value))
    assert json.loads(after) == {**before, "crons": value}
    assert splice.put(after, "crons", json.dumps(value)) == after
    before.pop("crons", None)
    assert json.loads(splice.drop(after, "crons")) == before


def test_a_block_is_replaced_where_it_stands() -> None:
    first = block.merged("f", "one\n", "x", None)
    file = f"# mine above\n{first}# mine below\nbelow: 1\n"
    again = block.merged("f", "two\n", "x", file)
    assert again == file.replace("one\n", "two\n")
    assert block.merged("f", "two\n", "x", again) == again


@pytest.mark.parametrize(
    "before",
    ["somebody: else\n", f"{block.BEGIN}\n", f"{block.END}\n{block.BEGIN}\n", f"{block.BEGIN}\n" * 2 + block.END],
)
def test_a_file_without_our_marks_is_left_alone(before: str) -> None:
    with pytest.raises(UsageError, match=r"^deploy/f is"):
        block.merged("deploy/f", "one\n", "x", before)
