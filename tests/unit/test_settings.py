"""The environment is read once, in one place, and tells its secrets to nobody."""

import os

import pytest

from nightcrew.errors import ConfigurationError
from nightcrew.settings import Settings, load_dotenv


def test_an_empty_environment_is_production_without_a_secret():
    settings = Settings.read({})
    assert (settings.environment, settings.secret, settings.ticker) == ("production", None, True)


def test_a_secret_may_come_from_a_file(tmp_path):
    (tmp_path / "secret").write_text("from-a-file-0123456789\n")
    settings = Settings.read({"CRON_SECRET_FILE": str(tmp_path / "secret"), "CRON_SECRET": "ignored"})
    assert settings.secret == "from-a-file-0123456789"


def test_a_secret_file_that_cannot_be_read_is_an_error_that_names_the_variable(tmp_path):
    with pytest.raises(ConfigurationError, match="CRON_SECRET_FILE"):
        Settings.read({"CRON_SECRET_FILE": str(tmp_path / "missing")})


def test_secrets_and_the_database_password_never_show_in_the_repr():
    settings = Settings.read({"CRON_SECRET": "s3cret", "CRON_SECRET_PREVIOUS": "0ld", "DATABASE_URL": "x://u:pw@h"})
    assert not any(word in repr(settings) for word in ("s3cret", "0ld", "pw"))


@pytest.mark.parametrize("name", ["NIGHTCREW_ENV", "NIGHTCREW_TICKER", "NIGHTCREW_LOG_FORMAT"])
def test_a_switch_with_an_unknown_word_is_an_error(name):
    with pytest.raises(ConfigurationError, match=name):
        Settings.read({name: "perhaps"})


def test_a_dotenv_file_sets_only_what_is_not_set(tmp_path, monkeypatch):
    (tmp_path / ".env").write_text(
        "# a comment\nexport NC_A='one two'\nNC_B=two # said so\nNC_C=\"3\"\nNC_D=kept\n\n=x\n"
    )
    for name in ("NC_A", "NC_B", "NC_C"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NC_D", "already there")
    load_dotenv(tmp_path / ".env")
    found = [os.environ.pop(name) for name in ("NC_A", "NC_B", "NC_C")]
    assert (found, os.environ["NC_D"]) == (["one two", "two", "3"], "already there")
    load_dotenv(tmp_path / "missing")
