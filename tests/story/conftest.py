"""The workspace for the stories that happen in it."""

import pytest
from tests.story.tealight import served


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """One workspace on SQLite for all tests that leave each other alone."""
    with served(f"sqlite:///{tmp_path_factory.mktemp('workspace')}/tealight.db") as place:
        yield place


@pytest.fixture
def fresh_place(database_url):
    """A workspace of its own, on each database there is."""
    with served(database_url) as place:
        yield place
