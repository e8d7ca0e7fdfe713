"""What a configuration, and code, say of stores; and how they say what is wrong with it."""

import json
import os
import re
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from nightcrew import Nightcrew, Settings, config, every
from nightcrew.cli import nightcrew
from nightcrew.console.desk import Desk
from nightcrew.errors import ConfigurationError
from nightcrew.outbox import NAME
from nightcrew.schedule import cron
from nightcrew.shelf import Orphans
from nightcrew.store import Blob
from nightcrew.stores.disk import Disk
from nightcrew.stores.memory import Memory

JOB = '[jobs.cleanup]\nevery = "10 minutes"\ntable = "users"\ncolumn = "left_at"\n'
FULL = """
[nightcrew]
redis = "${REDIS_URL}"
timezone = "Europe/Paris"

[blobs.uploads]
url = "s3://acme-uploads/mine"
columns = ["message_source.blob_key", "app.pictures.at"]
orphans = "remove"
older_than = "2 days"
max_fraction = 0.5
schedule = "30 4 * * 6"

[blobs.Folder_2]
url = "${UPLOADS}"

[calls.billing]
url = "https://api.example.com/v1/subscriptions/{key}"
method = "POST"
secret = "${BILLING_TOKEN}"
"""


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/shop.db")
    return Path("nightcrew.toml")


def loaded(here: Path, text: str) -> Nightcrew:
    here.write_text(JOB + text, encoding="utf-8")
    return config.load(here)


def refusal(here: Path, text: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        loaded(here, text)
    return str(caught.value).replace("nightcrew.toml:", "line ")


def test_everything_that_can_be_said(here):
    crew = loaded(here, FULL)
    assert sorted(crew.stores) == ["Folder_2", "billing", "redis", "uploads"]
    assert {*crew.jobs} == {"cleanup", NAME, "sweep-orphans-uploads"}
    assert crew.jobs["sweep-orphans-uploads"].schedule == cron("30 4 * * 6", "Europe/Paris")
    shelf = crew.stores.shelves["uploads"]
    assert (shelf.orphans, shelf.older_than, shelf.max_fraction) == (Orphans.REMOVE, timedelta(days=2), 0.5)
    assert [(owing.table, owing.column) for owing in crew.columns_of("uploads")] == [
        ("message_source", "blob_key"),
        ("app.pictures", "at"),
    ]
    assert crew.stores["uploads"].place == "s3://acme-uploads/mine"


def test_the_page_about_blobs_shows_what_can_be_loaded(here, monkeypatch):
    monkeypatch.setenv("REDIS_URL", "redis://cache")
    monkeypatch.setenv("BILLING_TOKEN", "swordfish-swordfish")
    page = (Path(__file__).parents[2] / "docs/blobs.md").read_text(encoding="utf-8")
    crew = loaded(here, re.search(r"```toml\n(.*?)```", page, re.DOTALL)[1])
    assert [crew.stores[name].place for name in ("uploads", "billing", "redis")] == [
        "s3://acme-uploads",
        "https://api.example.com/v1/subscriptions/{key}",
        "redis://cache",
    ]
    assert "sweep-orphans-uploads" in crew.jobs


def test_a_variable_is_looked_at_when_its_store_is_used(here, monkeypatch):
    crew = loaded(here, FULL)
    for name, variable in (("Folder_2", "UPLOADS"), ("billing", "BILLING_TOKEN"), ("redis", "REDIS_URL")):
        with pytest.raises(
            ConfigurationError, match=rf"nightcrew.toml:\d+: environment variable {variable} is not set"
        ):
            _ = crew.stores[name]
    monkeypatch.setenv("UPLOADS", "file:///srv/my%20uploads/")
    monkeypatch.setenv("BILLING_TOKEN", "swordfish-swordfish")
    monkeypatch.setenv("REDIS_URL", "redis://:hunter2-hunter2@cache:6380/3")
    places = [crew.stores[name].place for name in ("Folder_2", "billing", "redis")]
    billing = "https://api.example.com/v1/subscriptions/{key}"
    assert places == ["file:///srv/my uploads", billing, "redis://cache:6380/3"]
    assert crew._audience.censor("swordfish-swordfish, hunter2-hunter2") == "***, ***"


def test_a_check_says_which_stores_cannot_be_used_here(here):
    here.write_text(JOB + FULL, encoding="utf-8")
    told = CliRunner().invoke(nightcrew, ["--json", "check"], obj=Desk(config=str(here)))
    warnings = [each for each in json.loads(told.stdout)["warnings"] if "store" in each]
    assert [re.sub(r"nightcrew.toml:\d+: ", "", warning) for warning in warnings] == [
        f"NC702 store {name!r} cannot be used: environment variable {variable} is not set; export it, or put it into"
        " .env beside this file"
        for name, variable in (("Folder_2", "UPLOADS"), ("billing", "BILLING_TOKEN"), ("redis", "REDIS_URL"))
    ]


def test_a_store_that_cannot_be_opened_stops_no_other(here, monkeypatch):
    crew = loaded(here, FULL.replace("s3://acme-uploads/mine", "memory://"))
    crew.migrate()
    report = crew.run(NAME, now=True)
    crew.close()
    assert report.outcome == "failed"
    assert "nothing of billing was settled: nightcrew.toml:" in report.message
    assert "nothing of redis was settled" in report.message
    assert "uploads" not in report.message


def test_a_fork_opens_its_own(here):
    crew = loaded(here, '[blobs.uploads]\nurl = "memory://"')
    ours = crew.stores["uploads"]
    assert crew.stores["uploads"] is ours
    child = os.fork()
    if child == 0:
        os._exit(7 if crew.stores["uploads"] is not ours else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[blobs.uploads]\n", "line 5: store 'uploads': url is missing; write url = \"s3://acme-uploads\""),
        ('[blobs]\nuploads = "s3://x"', "line 6: store 'uploads' is a text; write a table [blobs.NAME]"),
        ('[blobs.uploads]\nurl = "s4://acme"', "line 6: store 'uploads': url 's4://acme' is no place"),
        ('[blobs.uploads]\nurl = "/srv/uploads"', "line 6: store 'uploads': url '/srv/uploads' is no place"),
        ('[blobs.uploads]\nurl = "file://srv/uploads"', "names no whole path of a folder; write 'file:///srv/uploads'"),
        ('[blobs.uploads]\nurl = "file:///"', "names no whole path of a folder"),
        ('[blobs.uploads]\nurl = "s3://key:swordfish@acme"', "url s3://… has credentials in it (they are not shown)"),
        ('[blobs.uploads]\nurl = "s3://"', "names no bucket; write 's3://acme-uploads'"),
        ('[blobs.uploads]\nurl = "s3://acme?regoin=x"', "has no option 'regoin'; did you mean 'region'?"),
        ('[blobs.uploads]\nurl = "s3://acme?endpoint=minio:9000"', "is no URL; write endpoint=https"),
        ('[blobs.uploads]\nurl = "memory://x"', "names a place in memory, which has none; write 'memory://'"),
        ('[blobs.uploads]\nurl = "memory://"\ncolumn = ["a.b"]', "line 7: store 'uploads': unknown key 'column'"),
        ('[blobs.uploads]\nurl = "memory://"\ncolumns = ["b"]', "line 7: store 'uploads': columns has 'b'"),
        ('[blobs.uploads]\nurl = "memory://"\norphans = "delete"', "line 7: store 'uploads': there is no orphans"),
        ('[blobs.uploads]\nurl = "memory://"\nolder_than = "5 minutes"', "older_than is 0:05:00"),
        ('[blobs.uploads]\nurl = "memory://"\nmax_fraction = 2', "line 7: store 'uploads': max_fraction is 2; write a"),
        ('[blobs.uploads]\nurl = "memory://"\nevery = "1 day"\nschedule = "0 4 * * *"', "schedule and every"),
        ('[blobs."up loads"]\nurl = "memory://"', "line 5: the name of a store 'up loads' is none"),
        ('[calls.x]\nurl = "https://x"', "line 6: store 'x': url of calls has no single {key} in it"),
        ('[calls.x]\nurl = "https://x/{key}"\nmethod = "GET"', "line 7: store 'x': there is no method 'GET'"),
        ('[calls.x]\nurl = "https://x/{key}"\ntoken = "a"', "line 7: store 'x': unknown key 'token'"),
        ("[nightcrew]\nredis = 7", 'line 6: redis is a number; write redis = "${REDIS_URL}"'),
        ('[calls.x]\nurl = "https://x/{key}"\n[blobs.x]\nurl = "memory://"', "two stores are called 'x'"),
        (
            '[jobs.b]\nrecipe = "cleanup-pkce"\nblobs = [{store="y", table="a", column="c"}]',
            "line 7: job 'b': there is no s",
        ),
    ],
)
def test_a_mistake_is_told_with_its_line(here, text, told):
    said = refusal(here, text)
    assert told in said
    assert "swordfish" not in said


# ── in code ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class Attic:
    """A store of the application's own, of the shape that any has."""

    place = "attic://"
    most = 10

    def remove(self, keys):
        return dict.fromkeys(keys, "stuck")

    def page(self, after=None, limit=1, *, prefix=""):
        return [Blob("a", 1, None)]


def test_code_says_the_same(tmp_path):
    blobs = {
        "uploads": {
            "url": f"file://{tmp_path}",
            "columns": ["files.key"],
            "orphans": "report",
            "schedule": every("1 day"),
        },
        "memory": "memory://",
        "later": lambda: f"file://{tmp_path}",
        "attic": Attic(),
    }
    calls = {"billing": "https://api.example.com/{key}", "mail": {"url": "https://x/{key}", "secret": lambda: "sesame"}}
    crew = Nightcrew("sqlite:///x.db", settings=Settings(), blobs=blobs, calls=calls, redis="redis://cache")
    assert [type(crew.stores[name]) for name in ("uploads", "memory", "later", "attic")] == [Disk, Memory, Disk, Attic]
    assert crew.jobs["sweep-orphans-uploads"].schedule == every("1 day")
    assert crew.stores["mail"].place == "https://x/{key}"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"blobs": {"uploads": "s4://x"}}, "store 'uploads' of blobs: url 's4://x' is no place of blobs"),
        ({"blobs": {"uploads": 7}}, "store 'uploads' of blobs: url is 7 (int); write a URL"),
        ({"blobs": {"uploads": {"columns": []}}}, "store 'uploads' of blobs: url is missing"),
        ({"blobs": {"uploads": {"url": "memory://", "orphan": 1}}}, "it has no 'orphan'; did you mean 'orphans'?"),
        (
            {"blobs": {"uploads": {"url": "memory://", "schedule": "0 4 * * *"}}},
            "schedule is '0 4 * * *' (str); write cron",
        ),
        ({"blobs": {"uploads": {"url": "memory://", "older_than": 3}}}, "older_than is 3 (int); write timedelta"),
        ({"calls": {"x": {"method": "DELETE"}}}, "store 'x' of calls: url is missing"),
        ({"calls": {"x": 7}}, "store 'x' of calls: url is 7 (int); write a text"),
        ({"blobs": {7: "memory://"}}, "the name of a store is 7 (int)"),
        ({"blobs": {"redis": "memory://"}, "redis": "redis://x"}, "two stores are called 'redis'"),
    ],
)
def test_a_mistake_in_code_names_the_store(given, told):
    with pytest.raises(ConfigurationError) as caught:
        Nightcrew("sqlite:///x.db", settings=Settings(), **given)
    assert told in str(caught.value)
