"""config.py: what a nightcrew.toml means, and how it says what is wrong with it."""

import re
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from nightcrew.config import Configuration, read
from nightcrew.errors import ConfigurationError, NoDatabase
from nightcrew.hours import Hours
from nightcrew.job import Job
from nightcrew.policy import Action, Policy, Sql
from nightcrew.recipes import RECIPES
from nightcrew.schedule import cron, every

JOB = '[jobs.cleanup]\nevery = "10 minutes"\ntable = "users"\ncolumn = "left_at"\n'
"""Four lines that are right."""
PKCE = '[jobs.cleanup-pkce]\nrecipe = "cleanup-pkce"\n'
DOTTED = 'b.every = "1 day"\n"b".table = "t"\nb."column" = "c"\n'


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path("nightcrew.toml")


def read_text(path: Path, text: str, **environ: str) -> Configuration:
    path.write_text(text, encoding="utf-8")
    return read(path, environ)


def refusal(path: Path, text: str, **environ: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        read_text(path, text, **environ)
    return str(caught.value)


# ── what it means ────────────────────────────────────────────────────────────────────────────────────────────────────


FULL = """
[nightcrew]
database = "${DATABASE_URL}"
timezone = "Europe/Paris"

[jobs.delete-stale-deactivated-accounts]
schedule   = "0 0 1 * *"
timezone   = "UTC"
path       = "/api/accounts/sweep"
on_start   = true
enabled    = false
owner      = "team-accounts"
runbook    = "https://example.com/runbook"
label      = "Accounts"
table      = "app.users"
column     = "deactivated_at"
older_than = "30 days"
where      = "plan = 'free'"
hold       = "legal_hold"
erase      = true

[jobs.delete-stale-empty-chats]
schedule      = "0 */12 * * *"
table         = "chats"
column        = "created_at"
older_than    = "15 minutes"
unless_exists = ["messages.chat_id"]

[jobs.forget-addresses]
every      = "1 hour"
table      = "visits"
column     = "seen_at"
action     = "clear"
set        = { address = "", seen = 0, kept = true }

[jobs.anonymize-users]
every       = "1 day"
table       = "users"
column      = "left_at"
action      = "anonymize"
set         = { email = { sql = "'anon-' || id" }, name = "gone", phone = { sql = "NULL" } }
keep_latest = 3
per         = ["team_id"]
"""


def test_a_file_gives_the_same_values_as_python(here: Path) -> None:
    found = read_text(here, FULL, DATABASE_URL="driver://host/app")
    assert found.database
    assert found.database() == "driver://host/app"
    assert found == Configuration(
        path=here,
        timezone="Europe/Paris",
        jobs=(
            Job(
                "delete-stale-deactivated-accounts",
                cron("0 0 1 * *"),
                Policy(
                    "app.users",
                    "deactivated_at",
                    timedelta(days=30),
                    where="plan = 'free'",
                    hold="legal_hold",
                    erase=True,
                ),
                path="/api/accounts/sweep",
                on_start=True,
                enabled=False,
                owner="team-accounts",
                runbook="https://example.com/runbook",
                label="Accounts",
            ),
            Job(
                "delete-stale-empty-chats",
                cron("0 */12 * * *", "Europe/Paris"),
                Policy("chats", "created_at", timedelta(minutes=15), unless_exists=("messages.chat_id",)),
            ),
            Job(
                "forget-addresses",
                every(timedelta(hours=1)),
                Policy("visits", "seen_at", action=Action.CLEAR, set={"address": "", "seen": 0, "kept": True}),
            ),
            Job(
                "anonymize-users",
                every(timedelta(days=1)),
                Policy(
                    "users",
                    "left_at",
                    action=Action.ANONYMIZE,
                    set={"email": Sql("'anon-' || id"), "name": "gone", "phone": Sql("NULL")},
                    keep_latest=3,
                    per=("team_id",),
                ),
            ),
        ),
    )


@pytest.mark.parametrize(
    "spelling",
    [
        'jobs.cleanup = { every = "10 minutes", table = "users", column = "left_at" }',
        '[jobs]\n"cleanup".every = "10 minutes"\ncleanup."table" = "users"\ncleanup.column = \'left_at\'',
        '\ufeff[ jobs . "cleanup" ] #\r\nevery="10 minutes"\r\ntable="""\\\n   users"""\ncolumn="left\\u005fat"',
    ],
)
def test_every_spelling_toml_has_for_a_table_means_the_same(here: Path, spelling: str) -> None:
    here.write_bytes(spelling.encode())
    assert read(here, {}).jobs == read_text(here, JOB).jobs


def test_a_recipe_alone_is_a_whole_job(here: Path) -> None:
    assert read_text(here, '[jobs.cleanup-pkce]\nrecipe = "cleanup-pkce"').jobs == (RECIPES["cleanup-pkce"](),)


def test_other_keys_change_a_recipe(here: Path) -> None:
    text = """
        [jobs.nightly]
        recipe = "cleanup-pkce"
        schedule = "0 3 * * *"
        table = "pkce"
        older_than = "1 hour"
        path = "/sweep"
        on_start = false
    """
    assert read_text(here, f'[nightcrew]\ntimezone = "Asia/Tokyo"\n{text}').jobs == (
        Job(
            "nightly",
            cron("0 3 * * *", "Asia/Tokyo"),
            Policy("pkce", "expires_at", timedelta(hours=1), max_fraction=1),
            label="OAuth Cleanup",
            path="/sweep",
        ),
    )


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_can_be_named_in_a_file(here: Path, recipe: str) -> None:
    table = 'table = "sessions"\n' if recipe == "delete-expired-rows" else ""
    assert [job.name for job in read_text(here, f'[jobs.{recipe}]\nrecipe = "{recipe}"\n{table}').jobs] == [recipe]


def test_a_database_url_never_shows_in_a_repr(here: Path) -> None:
    assert "hunter2" not in repr(read_text(here, '[nightcrew]\ndatabase = "${D}"\n' + JOB, D="driver://me:hunter2@db"))


def test_a_file_without_a_database_leaves_it_to_the_environment(here: Path) -> None:
    assert read_text(here, JOB).database is None


# ── variables ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${HOST}", "db"),
        ("driver://${USER}@${HOST}/app", "driver://me@db/app"),
        ("$${HOST}", "${HOST}"),
        ("$HOST $ {x} $$", "$HOST $ {x} $$"),
        ("$$${HOST}", "$${HOST}"),
        ("${TRICKY}", "${HOST}"),
    ],
)
def test_a_variable_is_replaced_once_wherever_it_stands(here: Path, text: str, value: str) -> None:
    found = read_text(here, f'[nightcrew]\ndatabase = "{text}"\n{JOB}', HOST="db", USER="me", TRICKY="${HOST}")
    assert found.database
    assert found.database() == value


def test_variables_are_replaced_in_arrays_and_inline_tables_too(here: Path) -> None:
    text = JOB + 'unless_exists = [\n "${T}.user_id",\n]\n[jobs.forget]\nevery = "1 day"\ntable = "t"\ncolumn = "c"\n'
    made = read_text(here, text + 'action = "clear"\nset = { note = "by ${T}", n = 1 }\n', T="orders").jobs
    assert [job.policy and (job.policy.unless_exists, job.policy.set) for job in made] == [
        (("orders.user_id",), {}),
        ((), {"note": "by orders", "n": 1}),
    ]


def test_the_process_environment_is_read_by_default_and_a_file_may_hold_the_value(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.with_name("secret").write_text("driver://host/app\n")
    monkeypatch.setenv("APP_DB_FILE", "secret")
    here.write_text('[nightcrew]\ndatabase = "${APP_DB}"\n' + JOB)
    found = read(here)
    assert found.database
    assert found.database() == "driver://host/app"


@pytest.mark.parametrize(("value", "how"), [({}, "not set"), ({"APP_DB": ""}, "empty")])
def test_the_databases_variable_may_be_unset_until_it_is_asked_for(here: Path, value: dict[str, str], how: str) -> None:
    found = read_text(here, f'[nightcrew]\ndatabase = "${{APP_DB}}"\n{JOB}', **value)
    assert [job.name for job in found.jobs] == ["cleanup"]
    assert found.database
    with pytest.raises(NoDatabase, match=rf"^nightcrew.toml:2: environment variable APP_DB is {how}; export it, or"):
        found.database()


SECRET = "Sup3r Secret;"


@pytest.mark.parametrize(
    "line",
    ['table = "${S}"', 'older_than = "${S}"', 'unless_exists = ["${S}"]', 'where = "${S}"', 'path = "${S}"',
     'action = "x${S}"', 'every = "${S}"', 'schedule = "${S}"', 'timezone = "${S}"'],
)  # fmt: skip
def test_a_value_from_the_environment_is_never_quoted_in_an_error(here: Path, line: str) -> None:
    name = line.split(maxsplit=1)[0]
    kept = [other for other in JOB.splitlines() if not other.startswith((name, "every"))]
    when = [] if name in {"every", "schedule"} else ['schedule = "0 0 * * *"']
    said = refusal(here, "\n".join([*kept, *when, line]), S=SECRET)
    assert f"nightcrew.toml:{len(kept) + len(when) + 1}: job 'cleanup': {name} comes from ${{S}}" in said
    assert not any(word.lower() in said.lower() for word in SECRET.split())
    assert "set it as in" in said


def test_a_recipe_is_due_in_the_zone_of_the_file_or_its_own(here: Path) -> None:
    recipe = '[jobs.{}]\nrecipe = "{}"\n'
    text = (
        '[nightcrew]\ntimezone = "Europe/Paris"\n'
        + recipe.format("prune", "prune-run-history")
        + recipe.format("chats", "delete-stale-empty-chats")
        + 'timezone = "Asia/Tokyo"\n'
        + recipe.format("pkce", "cleanup-pkce")
        + recipe.format("mine", "prune-run-history")
        + 'schedule = "0 1 * * *"\n'
    )
    assert [job.schedule for job in read_text(here, text).jobs] == [
        cron("23 4 * * *", "Europe/Paris"),
        cron("0 */12 * * *", "Asia/Tokyo"),
        every("10 minutes"),
        cron("0 1 * * *", "Europe/Paris"),
    ]


def test_a_failsafe_waits_two_minutes_unless_told_otherwise(here: Path) -> None:
    found = read_text(
        here,
        JOB.replace("cleanup", "a") + 'primary = "external"\n'
        + JOB.replace("cleanup", "b") + 'primary = "external"\nfailsafe_after = "90 s"\n'
        + JOB.replace("cleanup", "c"),
    )  # fmt: skip
    assert [job.failsafe_after and job.failsafe_after.total_seconds() for job in found.jobs] == [120, 90, None]


def test_a_window_is_read_in_the_zone_of_its_job_or_of_the_file(here: Path) -> None:
    found = read_text(
        here,
        '[nightcrew]\ntimezone = "Europe/Paris"\n'
        + JOB.replace("cleanup", "a") + 'window = "22:00-6:00"\n'
        + JOB.replace("cleanup", "b") + 'window = "22:00-06:00"\ntimezone = "Asia/Tokyo"\n'
        + PKCE + 'window = "22:00-06:00"\n',
    )  # fmt: skip
    zones = {job.name: job.window for job in found.jobs}
    assert zones == {
        "a": Hours("22:00-06:00", "Europe/Paris"),
        "b": Hours("22:00-06:00", "Asia/Tokyo"),
        "cleanup-pkce": Hours("22:00-06:00", "Europe/Paris"),
    }


# ── one mistake each ─────────────────────────────────────────────────────────────────────────────────────────────────

MISTAKES = {
    # what is wrong: (the file, the line it is on, a part of the sentence, the remedy)
    "unknown key": (JOB + 'colum = "x"', 5, "job 'cleanup': unknown key 'colum'", "did you mean 'column'?"),
    "unknown key like none": (JOB + "zzz = 1", 5, "unknown key 'zzz'", "remove it"),
    "key of a later version": (JOB + "quorum = 1", 5, "unknown key 'quorum'", "remove it"),
    "archive for ever": (JOB + "archive = true", 5, "archive is true", "archive = '7 days'"),
    "archive nowhere": (JOB + "archive = '7 days'", 5, "there is no archive", "archive = 'vault' under [nightcrew]"),
    "unknown table": (JOB + "[gauges.chat]", 5, "unknown key 'gauges'", "there is 'alarms', 'blobs', 'calls', 'jobs'"),
    "misspelt table": (JOB + "[nightcrow]", 5, "unknown key 'nightcrow'", "did you mean 'nightcrew'?"),
    "unknown setting": ('[nightcrew]\ntimezon = "UTC"\n' + JOB, 2, "unknown key 'timezon'", "did you mean 'timezone'?"),
    "quoted table": (JOB + JOB.replace("cleanup", '"a.b"') + '"t x" = 1', 9, "unknown key 't x'", "remove it"),
    "dotted key": ("[ jobs ]\n" + DOTTED + "b.tabel = 1", 5, "job 'b': unknown key 'tabel'", "did you mean 'table'?"),
    "age as a number": (JOB + "older_than = 30", 5, "older_than is a number", 'write older_than = "30 days"'),
    "age as a date": (JOB + "older_than = 2026-01-01", 5, "older_than is a date", 'write older_than = "30 days"'),
    "age as a naive moment": (JOB + "older_than = 2026-01-01 10:00:00", 5, "is a date", 'write older_than = "30 days"'),
    "age as a time": (JOB + "older_than = 10:00:00", 5, "older_than is a time", 'write older_than = "30 days"'),
    "age without unit": (JOB + 'older_than = "30"', 5, "has no unit", "write it like '30 days'"),
    "age in months": (JOB + 'older_than = "1 month"', 5, "months", "say '30 days'"),
    "switch as a text": (JOB + 'on_start = "true"', 5, "on_start is a text", "write on_start = true"),
    "text as a switch": (JOB + "owner = true", 5, "owner is true or false", 'write owner = "team-accounts"'),
    "text for an array": (JOB + 'unless_exists = "a.b"', 5, "is a text", 'write unless_exists = ["messages.chat_id"]'),
    "array of numbers": (JOB + "unless_exists = [\n 1,\n]", 5, "with a number in it", "write unless_exists = ["),
    "array for a text": (JOB + 'where = ["a"]', 5, "where is an array", "write where = "),
    "set with a date": (JOB + "set.at = 2026-01-01", 5, "a table with a date in it", "write set = {"),
    "job as a number": (JOB + "[jobs]\nother = 1", 6, "job 'other' is a number", "write a table [jobs.NAME]"),
    "jobs as a number": ("jobs = 1", 1, "jobs is a number", "write a table [jobs]"),
    "array of tables": ("\n[[jobs]]\nevery = 'x'", 2, "jobs is an array", "write a table [jobs]"),
    "no table": (JOB.replace("table", "owner"), 1, "job 'cleanup': table is missing", 'write table = "users"'),
    "no column": (JOB.replace("column", "owner"), 1, "column is missing", "write column = "),
    "no schedule": (JOB.replace("every", "owner"), 1, "when it is due is missing", 'or every = "10 minutes"'),
    "two schedules": (JOB + 'schedule = "0 0 * * *"', 5, "schedule and every exclude each other", "remove one"),
    "zone of an interval": (JOB + 'timezone = "UTC"', 5, "timezone goes with schedule", "remove it"),
    "a primary that is none": (JOB + 'primary = "extern"', 5, "no primary 'extern'", "did you mean 'external'"),
    "a failsafe of nothing": (JOB + 'failsafe_after = "1 minute"', 5, "goes with primary 'external'", "write that too"),
    "fan out": (JOB + "fan_out = true", 5, "fan_out of job 'cleanup' is True", "write a number of rows: 500_000"),
    "window of hours": (JOB + 'window = "22-6"', 5, "window '22-6' is no time of day", "such as '22:00-06:00'"),
    "cron of four fields": (JOB.replace('every = "10 minutes"', 'schedule = "0 3 * *"'), 2, "4 fields", "write five"),
    "bad interval": (JOB.replace("10 minutes", "soon"), 2, "'soon'", "write it like"),
    "unknown zone": ('[nightcrew]\ntimezone = "Europa/Paris"\n' + JOB, 2, "no time zone", "mean 'Europe/Paris'?"),
    "zone of a recipe": (PKCE + 'timezone = "UTC"', 3, "job 'cleanup-pkce': timezone goes with", "write that"),
    "zone of every": (PKCE + 'every = "1 day"\ntimezone = "UTC"', 4, "timezone goes with", "write that"),
    "unknown recipe": (JOB + 'recipe = "cleanup-pckes"', 5, "there is no recipe", "did you mean 'cleanup-pkce'?"),
    "recipe without its table": ('[jobs.a]\nrecipe = "delete-expired-rows"', 1, "table is missing", "write table"),
    "recipe that becomes nonsense": (PKCE + 'set = {a = 1}', 3, "set goes with action", "'clear'"),
    "path of a recipe": (
        PKCE + '[jobs.b]\nrecipe = "cleanup-pkce"',
        3, "job 'cleanup-pkce' answers on this path already", "give one of them another",
    ),
    "bad table name": (JOB.replace("users", "us;ers"), 3, "no table name", "write 'table' or 'schema.table'"),
    "unfinished predicate": (JOB + 'hold = "(a"', 5, "is not one SQL expression", "check its quotes and brackets"),
    "bad child column": (JOB + 'unless_exists = ["messages"]', 5, "no column of a table", "write 'messages.chat_id'"),
    "unknown action": (JOB + 'action = "purge"', 5, "there is no action 'purge'", "there is 'anonymize', 'clear'"),
    "set with an odd table": (JOB + 'set.at = { sq = "1" }', 5, "a table with a table in it", "write set = { status"),
    "sql that is none": (JOB + 'set.at = { sql = "(1" }', 5, "sql '(1' is not one SQL expression", "check its quotes"),
    "keep_latest in words": (JOB + 'keep_latest = "3"', 5, "keep_latest is a text", "write keep_latest = 3"),
    "keep_latest of none": (JOB + "keep_latest = 0", 5, "keep_latest 0 is no number of rows", "write 1 to 1000"),
    "per alone": (JOB + 'per = ["user_id"]', 5, "per goes with keep_latest", "say how many rows"),
    "misspelt action": (JOB + 'action = "delte"', 5, "there is no action 'delte'", "did you mean 'delete'?"),
    "set without clear": (JOB + "set = { a = 1 }", 5, "set goes with action 'clear'", "no columns left to set"),
    "erase with clear": (JOB + 'erase = true\naction = "clear"', 5, "erase goes with action 'delete'", "stays"),
    "bad job name": (JOB + JOB.replace("cleanup", '"Clean Up"'), 5, "'Clean Up'", "use small letters"),
    "bad path": (JOB + 'path = "api x"', 5, "path 'api x'", "no plain URL path such as '/api/cleanup'"),
    "path of another job": (
        JOB + 'path = "/x"\n' + JOB.replace("cleanup", "other") + 'path = "/x"',
        10, "job 'cleanup' answers on this path already", "give one of them another",
    ),
    "route of another job": (
        JOB + JOB.replace("cleanup", "other") + 'path = "/api/internal/jobs/cleanup"',
        9, "job 'cleanup' answers on this path already", "give one of them another",
    ),
    "job declared twice": (JOB + "\n" + JOB, 6, "this table is there twice", "rename one"),
    "job declared twice in two spellings": (JOB + '[jobs . "cleanup"]', 5, "this table is there twice", "rename one"),
    "key given twice": (JOB + 'table = "a"', 5, "this key is there twice", "remove one"),
    "no quotes": (JOB + "owner = me\n", 5, "not valid TOML", "put text in quotes"),
    "True": (JOB + "erase = True\n", 5, "not valid TOML", "write true and false small"),
    "no value": (JOB + "owner\n", 5, "a key has no value", 'write key = "value"'),
    "open array": (JOB + 'unless_exists = ["a.b"\n\n[jobs.x]\n', 5, "is not finished", "close its quotes and brackets"),
    "open array at the end": (JOB + 'unless_exists = ["a.b",\n\n\n', 5, "is not finished", "close its quotes"),
    "open text": (JOB + 'owner = "me\ntable = "a"', 5, "a line ends inside a text", "close its quotes"),
    "open long text": (JOB + "owner = '''me\n\n", 5, "is not finished", "close its quotes"),
    "open heading": (JOB + "[jobs.x\n\n", 5, "a table's name is not closed", "write [jobs.NAME]"),
    "two statements on a line": (JOB + 'owner = "a" label = "b"', 5, "behind the value", "on a line of its own"),
    "bare backslash": (JOB + r'owner = "a\d"' + "\n", 5, r"a bare \;", r"write \\"),
    "a number too long": (JOB + "owner = " + "9" * 5000 + "\n\n", 5, "a number in it is too long", "shorten it"),
    "brackets too deep": (JOB + "owner = " + "[" * 5000, 5, "nested too deep", "take some out"),
    "unset variable": (JOB + 'owner = "${NOPE}"', 5, "variable NOPE is not set", "export it"),
    "empty variable": (JOB + 'owner = "${VOID}"', 5, "variable VOID is empty", "export it"),
    "no variable of a database": ('[nightcrew]\ndatabase = "${"\n' + JOB, 2, "'${' starts no variable", "write ${N"),
    "database of no text": ("[nightcrew]\ndatabase = 5\n" + JOB, 2, "database is a number", "write database = "),
    "unset variable in an array": (JOB + 'unless_exists = [\n "${NOPE}"]', 5, "NOPE is not set", "put it into .env"),
    "unfinished variable": (JOB + 'owner = "${A"', 5, "'${' starts no variable", "write ${NAME}, or $${"),
    "variable of no name": (JOB + 'owner = "${}"', 5, "'${' starts no variable", "write ${NAME}, or $${"),
    "empty file": ("", 1, "there are no jobs", "'nightcrew init'"),
    "comments only": ("# nothing yet\n", 1, "there are no jobs", "[jobs.cleanup-pkce]"),
    "no jobs": ('[nightcrew]\ntimezone = "UTC"\n', 1, "there are no jobs", "'nightcrew init'"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "line", "fault", "remedy"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_sentence_with_file_line_and_remedy(
    here: Path, text: str, line: int, fault: str, remedy: str
) -> None:
    said = refusal(here, text, VOID="")
    assert said.startswith(f"nightcrew.toml:{line}: ")
    assert fault in said
    assert remedy in said
    assert "\n" not in said
    assert len(said) < 240


def test_all_mistakes_are_reported_at_once_in_the_order_of_the_file(here: Path) -> None:
    text = '[nightcrew]\nredis = 1\n[jobs.a]\nevery = 5\nolder_than = 30\ntable = "b;c"\n[jobs.b]\npath = 3\n'
    said = [line.split(": ")[0] for line in refusal(here, text).splitlines()]
    assert said == [f"nightcrew.toml:{line}" for line in (2, 3, 4, 5, 6, 7, 7, 7, 8)]


def test_a_misspelt_key_is_not_called_missing_as_well(here: Path) -> None:
    assert refusal(here, JOB.replace("column", "colum").replace("every", "evry")).count("\n") == 1


def test_lines_are_counted_alike_whoever_ended_them(here: Path) -> None:
    here.write_bytes((JOB + "colum = 1").replace("\n", "\r\n").encode())
    with pytest.raises(ConfigurationError, match=r"nightcrew\.toml:5: job 'cleanup': unknown key 'colum'"):
        read(here, {})


def test_the_path_is_named_as_it_was_given(here: Path) -> None:
    Path("etc").mkdir()
    assert refusal(Path("etc/crew.toml"), "x").startswith("etc/crew.toml:1: ")


# ── a file that cannot be read ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("gone.toml", "gone.toml does not exist; write one with 'nightcrew init'"),
        (".", ". is a directory; name the file in it"),
        ("nul\0.toml", "'nul\\x00.toml' cannot be read (embedded null byte); fix the path"),
        ("x" * 5000, "cannot be read (File name too long); fix the path"),
    ],
)
def test_a_file_that_cannot_be_opened_is_named_with_the_remedy(here: Path, path: str, fault: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(Path(path), {})
    assert fault in str(caught.value)


def test_a_file_in_another_encoding_names_the_line_of_the_first_wrong_byte(here: Path) -> None:
    here.write_bytes(JOB.encode() + 'owner = "Zoë"'.encode("latin-1"))
    with pytest.raises(ConfigurationError, match=r"nightcrew\.toml:5: byte 0xeb is not UTF-8; save the file as UTF-8"):
        read(here, {})


# ── nothing else ever comes out ──────────────────────────────────────────────────────────────────────────────────────

WORDS = [
    *(
        "[jobs.a]",
        "[jobs]",
        "[[jobs]]",
        "[nightcrew]",
        '[jobs."b c"]',
        "a.b",
        "jobs.a",
        "'''",
        '"""',
        "#",
        "[",
        "]",
        "{",
    ),
    *(
        "every",
        "schedule",
        "timezone",
        "table",
        "column",
        "older_than",
        "where",
        "hold",
        "unless_exists",
        "erase",
        "set",
    ),
    *(
        "action",
        "path",
        "label",
        "enabled",
        "recipe",
        "database",
        "=",
        " = ",
        "\n",
        "\n",
        "\r\n",
        ",",
        ".",
        "true",
        "}",
    ),
    *('"10 minutes"', '"0 0 1 * *"', '"users"', '"a.b"', '"${A}"', '"${B}"', '"$${A}"', '"/x"', "2026-01-01"),
    *(
        "nan",
        "1e400",
        "true",
        "}",
        "30",
        '"99999999 days"',
        '"\\u0000"',
        '"UTC"',
        '"../UTC"',
        '"clear"',
        "\x0b",
        "\u2028",
        "\ufeff",
    ),
]
NONSENSE = st.one_of(st.lists(st.sampled_from(WORDS)).map("".join), st.text(), st.binary())
VALUES = st.one_of(
    st.text().map(repr), st.integers().map(str), st.sampled_from([word for word in WORDS if word.strip()]), st.floats()
)


@given(NONSENSE, st.text())
@example("a." * 3000 + "b = 1", "")
@example("jobs." + "a." * 3000 + "b = 1", "")
@example("[jobs.a]\nset" + ".a" * 3000 + " = 1", "")
@example("[jobs.a]\nset = " + "[" * 150 + "]" * 150, "")
@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_file_makes_anything_but_a_configuration_error(here: Path, nonsense: str | bytes, value: str) -> None:
    here.write_bytes(nonsense if isinstance(nonsense, bytes) else nonsense.encode("utf-8", "surrogatepass"))
    _read_or_refuse(here, value)


@given(st.dictionaries(st.sampled_from([word for word in WORDS if word.islower()]), VALUES), st.text())
@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_value_of_a_key_makes_anything_but_a_configuration_error(
    here: Path, keys: dict[str, object], value: str
) -> None:
    here.write_text("[jobs.a]\n" + "".join(f"{key} = {text}\n" for key, text in keys.items()), encoding="utf-8")
    _read_or_refuse(here, value)


def _read_or_refuse(path: Path, value: str) -> None:
    said = ""
    try:
        read(path, {"A": value})
    except ConfigurationError as error:
        said = str(error)
    assert all(re.match(r"nightcrew\.toml:\d+: .", line) for line in said.split("\n") if said)


def test_a_file_that_never_ends_is_refused(tmp_path):
    huge = tmp_path / "nightcrew.toml"
    huge.write_bytes(b"#" * 300_000)
    with pytest.raises(ConfigurationError, match="larger than 256 KiB"):
        read(huge, {})


def test_what_a_job_owes_is_a_list_of_tables(here: Path) -> None:
    text = (
        JOB + 'blobs = [{ store = "uploads", table = "users", column = "avatar" }]\n[blobs.uploads]\nurl = "memory://"'
    )
    (job,) = read_text(here, text).jobs
    assert job.policy is not None
    assert [str(owing) for owing in job.policy.blobs] == ["users.avatar"]


@pytest.mark.parametrize(
    ("blobs", "said"),
    [
        ('"uploads"', "blobs is a text; write blobs = [{ store ="),
        ('["uploads"]', "an entry of blobs is 'uploads' (str); write {"),
        ('[{ store = "uploads", tabel = "users", column = "avatar" }]', "blobs has no 'tabel'; did you mean 'table'?"),
        ('[{ store = "uploads", table = "users" }]', "column of an entry of blobs is None"),
        (
            '[{ store = "uploads", table = "us;ers", column = "a" }]',
            "is no column of a table: write both names without",
        ),
    ],
)
def test_what_says_no_column_to_owe_is_refused(here: Path, blobs: str, said: str) -> None:
    refused = refusal(here, f"{JOB}blobs = {blobs}\n")
    assert said in refused
    assert refused.startswith("nightcrew.toml:5: job 'cleanup': ")
