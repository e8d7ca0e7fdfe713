"""A database URL says what is wrong with it, and never its password."""

import sys

import pytest

from nightcrew.clock import SystemClock
from nightcrew.databases.connect import Link
from nightcrew.errors import ConfigurationError, DatabaseError, MissingExtra


def link(url):
    return Link(url, SystemClock())


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://bob:hunter2secret@127.0.0.1:1/acme",
        "postgresql://bob@127.0.0.1:1/acme?password=hunter2secret",
        "mysql://bob@127.0.0.1:1/acme?password=hunter2secret",
        "mysql://bob:hunter2secret@127.0.0.1:1/acme?connection_limit=5",
    ],
)
def test_a_database_that_is_away_is_named_without_its_password(url):
    with pytest.raises(DatabaseError, match="cannot be reached") as caught:
        link(url).now()
    assert "hunter2secret" not in str(caught.value)
    assert "127.0.0.1" in str(caught.value)
    assert caught.value.away
    assert caught.value.transient


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgersql://localhost/acme", "did you mean 'postgresql'"),
        ("acme.db", "does not know"),
        ("oracle://localhost/acme", "does not know"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("mysql://root@127.0.0.1:3306", "names no database"),
        ("postgresql://bob:p@ss@localhost/acme", "%40"),
        ("postgresql://bob:p@ss/hunter2secret@localhost/acme", "%40"),
        ("postgresql://localhost:port/acme", "cannot be read"),
        ("postgresql://localhost/acme?schema=app&schema=public", "write one name"),
        ("postgresql://localhost/acme?schema=app%0Apublic", "write one name"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_with_its_remedy(url, words):
    with pytest.raises(ConfigurationError, match=words.replace("?", r"\?")) as caught:
        link(url)
    assert "hunter2secret" not in str(caught.value)
    assert "p@ss" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "mysql://root@127.0.0.1:1/acme?sslmode=hunter2secret",
        "mysql://root@127.0.0.1:1/acme?ssl=hunter2secret",
        "mysql://root@127.0.0.1:1/acme?ssl_ca=/no/such/file",
        "mysql://root@127.0.0.1:1/acme?connect_timeout=hunter2secret",
        "postgresql://localhost:1/acme?sslaccept=hunter2secret",
    ],
)
def test_an_option_that_the_driver_cannot_use_is_refused_before_anything_is_asked(url):
    with pytest.raises(ConfigurationError, match=r"127.0.0.1|localhost"):
        link(url).now()


def test_a_missing_driver_names_the_extra_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pymysql", None)
    with pytest.raises(MissingExtra, match=r"pip install 'nightcrew\[mysql\]'"):
        link("mysql://root@localhost/acme")


def test_a_name_shows_no_query():
    assert link("postgresql://bob:x@localhost/acme?sslmode=require").name == "postgresql://bob:***@localhost/acme"


@pytest.mark.parametrize("scheme", ["postgres", "postgresql+psycopg", "mysql", "mariadb"])
def test_a_name_has_the_scheme_that_was_given(scheme):
    assert link(f"{scheme}://bob:x@localhost/acme").name == f"{scheme}://bob:***@localhost/acme"
