"""The workspace for the stories that happen in it."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from tests import chromium
from tests.chromium import Chromium
from tests.conftest import CREDENTIALS, fresh
from tests.story.tealight import served

DATABASES = ("sqlite", "postgresql", "mysql")
DAY = timedelta(hours=25)
Change = Callable[[], AbstractContextManager[None]]
Uploads = tuple[str, Change, Change]


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    """A browser for the tests of one file."""
    with chromium.running() as browser:
        yield browser


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """One workspace on SQLite for all tests that leave each other alone."""
    folder = tmp_path_factory.mktemp("workspace")
    with served(f"sqlite:///{folder}/tealight.db", folder.as_uri()) as place:
        yield place


@pytest.fixture
def fresh_place(database_url, tmp_path):
    """A workspace of its own, on each database there is, with its files in a folder."""
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    with served(database_url, uploads.as_uri()) as place:
        yield place


def _home(database: str, store: str) -> object:
    name = f"{database} and a {store}"
    return pytest.param((database, store), id=name, marks=pytest.mark.xdist_group(name))


@pytest.fixture(scope="session", params=[_home(kind, "folder") for kind in DATABASES] + [_home("sqlite", "bucket")])
def home(request, tmp_path_factory):
    """One workspace on each database with its files in a folder, and one with them in a bucket, for tests of newcomers.

    Within `away()` the files are out of reach, and within `later()` they are a day old. Where there is a `key`, each
    erasure has its receipt.
    """
    (database, store), folder = request.param, tmp_path_factory.mktemp("home")
    kept = _bucket if store == "bucket" else _folder
    key = "the key of a story's erasures" if database == "sqlite" else None
    with fresh(database, folder) as url, kept(folder) as (uploads, away, later), served(url, uploads, key) as place:
        place.away, place.later, place.key = away, later, key
        yield place


@contextmanager
def _folder(parent: Path) -> Iterator[Uploads]:
    folder = parent / "uploads"
    folder.mkdir()

    @contextmanager
    def away() -> Iterator[None]:
        elsewhere = folder.rename(parent / "elsewhere")
        yield
        elsewhere.rename(folder)

    @contextmanager
    def later() -> Iterator[None]:
        for path in folder.rglob("*"):
            if path.is_file():
                written = path.stat().st_mtime - DAY.total_seconds()
                os.utime(path, (written, written))
        yield

    yield folder.as_uri(), away, later


@contextmanager
def _bucket(_parent: Path) -> Iterator[Uploads]:
    from tests.bucket import running, says  # not every test run has need of it, and it takes a second to load

    with pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        with running("library") as bucket:

            @contextmanager
            def away() -> Iterator[None]:
                bucket.faults.append(lambda _request: says(403, "AccessDenied"))
                yield
                bucket.faults.clear()

            @contextmanager
            def later() -> Iterator[None]:
                bucket.ahead = DAY
                yield
                bucket.ahead = timedelta(0)

            yield bucket.url("/tealight"), away, later
