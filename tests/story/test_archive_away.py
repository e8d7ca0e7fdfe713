"""An archive in a bucket that fails, or on a disk that is full: what cannot be copied stays, and all comes back."""

import os
import subprocess
from contextlib import contextmanager
from itertools import count
from random import Random

import pytest
from tests.bucket import says
from tests.contract.test_archive import SCHEMA, Site

from nightcrew.outcome import Outcome

USERS = 60


@contextmanager
def archiving(database_url, vault):
    """Open a site whose rows are archived there."""
    site = Site(database_url, vault, pause_after=0)
    site.crew.migrate()
    site.run(*SCHEMA)
    site.fill(USERS)
    try:
        yield site
    finally:
        site.crew.close()


def hold_to_account(site, before):
    """What has gone is in frames that count, and nothing else is."""
    gone = {table: len(rows) - len(site.rows()[table]) for table, rows in before.items()}
    told = {table: sum(frame.counts.get(table, 0) for frame in site.frames()) for table in before}
    assert gone == told


def put_back(site):
    """Undo every run that took something."""
    for run in dict.fromkeys(frame.run for frame in site.frames()):
        assert site.undone(run).conflicts == 0


@pytest.fixture
def sqlite_url(tmp_path):
    """Return the URL of a file: what a bucket answers is the same to every database."""
    return f"sqlite:///{tmp_path / 'site.db'}"


@pytest.fixture
def hasty(monkeypatch):
    """Let no request be sent again after a while: that is the next run's part."""
    monkeypatch.setattr("nightcrew.stores.s3._TRIES", 1)


@pytest.fixture
def small_batches(monkeypatch):
    """Let a batch have no more than a few rows, so that a run writes many frames."""
    monkeypatch.setattr("nightcrew.databases.copies._MOST_BYTES", 2_000)


def test_rows_go_to_a_bucket_and_come_back(database_url, bucket):
    with archiving(database_url, bucket.url("/nights")) as site:
        before, run = site.rows(), site.purged()
        assert site.rows()["users"] == []
        assert {key.rpartition("/")[0] for key in bucket.listed()} == {f"nights/{run}"}
        assert site.undone(run).json()["tables"]["answers"]["back"] == 4 * USERS
        assert site.rows() == before
        assert site.undone(run).back == 0


@pytest.mark.usefixtures("hasty", "small_batches")
def test_a_bucket_that_fails_half_of_the_time_loses_nothing(database_url, bucket):
    chance, failed = Random(7), count()

    def fails(request):
        return says(500, "InternalError") if chance.random() < 0.5 and [next(failed)] else None

    with archiving(database_url, bucket.url()) as site:
        before = site.rows()
        bucket.faults.append(fails)
        for _ in range(50):
            report = site.crew.run("purge", now=True)
            hold_to_account(site, before)
            if report.outcome is Outcome.SUCCEEDED:
                break
            assert "answers PutObject with InternalError" in f"{report.message} {report.details}"
        assert site.rows()["users"] == []
        assert next(failed) > len(site.frames()) / 4
        bucket.faults.clear()
        put_back(site)
        assert site.rows() == before


@pytest.mark.usefixtures("hasty", "small_batches")
@pytest.mark.parametrize("after", [0, 3], ids=["at once", "midway"])
@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (says(403, "AccessDenied"), "AccessDenied"),
        (says(404, "NoSuchBucket"), "NoSuchBucket"),
        (says(507, "XMinioStorageFull", "no space left"), "XMinioStorageFull"),
    ],
    ids=["no permission", "no bucket", "full"],
)
def test_where_a_bucket_takes_nothing_more_the_rest_stays_until_it_does(sqlite_url, bucket, answer, told, after):
    puts = count()

    def refuses(request):
        return answer if request["REQUEST_METHOD"] == "PUT" and next(puts) >= after else None

    with archiving(sqlite_url, bucket.url()) as site:
        before = site.rows()
        bucket.faults.append(refuses)
        report = site.crew.run("purge", now=True)
        assert report.outcome is Outcome.FAILED
        assert told in f"{report.message} {report.details}"
        assert "s3://uploads" in f"{report.message} {report.details}"
        hold_to_account(site, before)
        assert (site.rows() == before) is (after == 0)
        bucket.faults.clear()
        site.purged()
        assert site.rows()["users"] == []
        put_back(site)
        assert site.rows() == before


@pytest.mark.usefixtures("hasty")
def test_an_endpoint_where_nobody_listens_keeps_all_rows(sqlite_url):
    with archiving(sqlite_url, "s3://uploads?endpoint=http://127.0.0.1:9") as site:
        before = site.rows()
        report = site.crew.run("purge", now=True)
        assert report.outcome is Outcome.FAILED
        assert "s3://uploads cannot be reached at http://127.0.0.1:9" in f"{report.message} {report.details}"
        assert (site.rows(), site.frames()) == (before, [])


@pytest.fixture
def small_disk(tmp_path):
    """Mount a disk with room for a few frames."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32k", "none", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("only root may mount a small disk, and not in every container")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.usefixtures("small_batches")
def test_a_disk_that_fills_up_loses_nothing_and_the_job_goes_on_once_there_is_room(database_url, small_disk):
    with archiving(database_url, small_disk.as_uri()) as site:
        before = site.rows()
        report = site.crew.run("purge", now=True)
        assert report.outcome is Outcome.FAILED
        assert "No space left on device" in f"{report.message} {report.details}"
        assert f"file://{small_disk}" in f"{report.message} {report.details}"
        hold_to_account(site, before)
        assert 0 < len(site.rows()["users"]) < USERS
        files = [path for path in small_disk.rglob("*") if path.is_file()]
        assert len(files) == len(site.frames())  # and no half of one
        subprocess.run(["mount", "-o", "remount,size=10m", str(small_disk)], check=True)
        site.purged()
        assert site.rows()["users"] == []
        put_back(site)
        assert site.rows() == before
