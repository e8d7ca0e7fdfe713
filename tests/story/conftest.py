"""The workspace for the stories that happen in it."""

import pytest
from tests.story.tealight import served


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
