"""`nightcrew init` on databases that nobody prepared: what it proposes fits, and none of it is enabled."""

import json
import time
import tomllib
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.conftest import administrator, server

from nightcrew import config
from nightcrew.cli import nightcrew
from nightcrew.console.desk import Desk
from nightcrew.console.line import run

# Names as Django, Rails, Laravel, Prisma and NextAuth write them: what follows is the columns beside the key.
EXPECTED = {
    "django_session": ("expire_date {time} NOT NULL", "expire-django-session", "expire_date"),
    "Session": ("userId {number}, expires {time} NOT NULL", "expire-session", "expires"),
    "VerificationToken": ("token {text}, expires {time} NOT NULL", "expire-verificationtoken", "expires"),
    "oauth_pkce_states": ("expires_at {time}", "expire-oauth-pkce-states", "expires_at"),
    "token_blacklist_outstandingtoken": ("expires_at {time}", "expire-token-blacklist-outstandingtoken", "expires_at"),
    "invitations": ("expiresAt {time}, createdAt {time}", "expire-invitations", "expiresAt"),
    "password_reset_tokens": ("created_at {time}", "expire-password-reset-tokens", "created_at"),
    "users": ("email {text}, created_at {time}, deleted_at {time}", "purge-users", "deleted_at"),
    "workspaces": ("deactivated_at {time}", "purge-workspaces", "deactivated_at"),
    "messages": ("created_at {time}, archived_at {time}", "purge-messages", "archived_at"),
    "django_admin_log": ("action_time {time} NOT NULL", "prune-django-admin-log", "action_time"),
    "auditlog_logentry": ("timestamp {time} NOT NULL", "prune-auditlog-logentry", "timestamp"),
    "versions": ("item {text}, created_at {time}", "prune-versions", "created_at"),
    "axes_accessattempt": ("attempt_time {time}", "prune-axes-accessattempt", "attempt_time"),
    "ahoy_visits": ("started_at {time}", "prune-ahoy-visits", "started_at"),
    "ahoy_events": ("time {time}", "prune-ahoy-events", "time"),
    "solid_queue_jobs": ("created_at {time}, finished_at {time}", "prune-solid-queue-jobs", "finished_at"),
    "failed_jobs": ("failed_at {time} NOT NULL", "prune-failed-jobs", "failed_at"),
    "django_celery_results_taskresult": ("date_done {time} NOT NULL", "prune-django-celery-results-taskresult",
                                         "date_done"),
    "event_outbox": ("created_at {time}, published_at {time}", "prune-event-outbox", "published_at"),
    "notifications": ("created_at {time}, read_at {time}", "prune-notifications", "created_at"),
    "rails_sessions": ("created_at {time}, updated_at {time}", "expire-rails-sessions", "updated_at"),
    "laravel_sessions": ("last_activity {number} NOT NULL", "expire-laravel-sessions", "last_activity"),
    "promo_banners": ("valid_until {time}", "expire-promo-banners", "valid_until"),
    "Weird # sessions": ("expires_at {time}", "expire-weird-sessions", "expires_at"),
    "weird-sessions": ("expires_at {time}", "expire-weird-sessions-2", "expires_at"),
    "${HOME}_sessions": ("expires_at {time}", "expire-home-sessions", "expires_at"),
    "back\\slash_sessions": ("expires_at {time}", "expire-back-slash-sessions", "expires_at"),
    "séances_sessions": ("expires_at {time}", "expire-s-ances-sessions", "expires_at"),
}  # fmt: skip
LEFT_OUT = {
    "Account": ("expires_at {number}", "outlives the date"),
    "subscriptions": ("expires_at {time}", "outlives the date"),
    "delayed_jobs": ("created_at {time}, run_at {time}", "must not leave by its age"),
    "jobs": ("created_at {time}, finished_at {time} NOT NULL", "is never NULL"),
    "dotted.sessions": ("expires_at {time}", "has a dot in it"),
    'a"\n[jobs.evil]\nevery = "1 hour"\n_sessions': ("expires_at {time}", "has a dot in it"),
    'b"\n[jobs]\n_sessions': ("expires_at {time}", "is no table name"),
    "odd_sessions": ("expires\n]at {time}", "is no column name"),
}
SILENT = {
    "alembic_version": "created_at {time}", "django_migrations": "applied {time}, expires_at {time}",
    "_prisma_migrations": "finished_at {time}, deleted_at {time}", "schema_migrations": "created_at {time}",
    "nightcrew_sessions": "expires_at {time}", "catalogs": "created_at {time}", "blog": "created_at {time}",
    "event_types": "created_at {time}", "tasks": "completed_at {time}", "orders": "created_at {time}",
    "rates": "valid_from {time}, valid_to {time}", "posts": "created_at {time}, deleted {number}",
    "todo_lists": "created_at {time}, updated_at {time}", "api_keys": "created_at {time}, last_used_at {time}",
}  # fmt: skip
HOSTILE = 'kid"\n[jobs]\n# table = "users'


@pytest.fixture
def here(tmp_path, monkeypatch, database_url):
    folder = tmp_path / "application"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DATABASE_URL", database_url)
    return folder


def create(yard, tables):
    """Make tables by their columns beside the key, every name quoted as the database does."""
    quote, types = yard.link.engine.dialect.identifier_preparer.quote_identifier, yard.types
    with yard.link.transaction() as connection:
        for name, columns in tables.items():
            written = (column.format(**types).partition(" ") for column in columns.split(", "))
            rest = ", ".join(f"{quote(column)} {kind}" for column, _, kind in written)
            connection.exec_driver_sql(f"CREATE TABLE {quote(name)} (id {types['number']} PRIMARY KEY, {rest})")


def hang(yard, child, parent, rule):
    quote = yard.link.engine.dialect.identifier_preparer.quote_identifier
    with yard.link.transaction() as connection:
        connection.exec_driver_sql(
            f"CREATE TABLE {quote(child)} (id {yard.types['number']} PRIMARY KEY, parent_id {yard.types['number']},"
            f" FOREIGN KEY (parent_id) REFERENCES {quote(parent)} (id) {rule})"
        )


def begun(capsys, *args):
    """Run init, and return what it says as data, and the file."""
    code = run(nightcrew, ["--json", "init", *args], Desk())
    said = capsys.readouterr()
    assert code == 0, said.err
    return json.loads(said.out), Path("nightcrew.toml").read_text(encoding="utf-8")


def enabled(text, *jobs):
    """Take the sign away from the lines of some jobs, or of all, as a person would."""
    lines, inside = [], False
    for line in text.split("\n"):
        if line.startswith("# [jobs."):
            inside = not jobs or line in {f"# [jobs.{job}]" for job in jobs}
        inside = inside and line.startswith("# ")
        lines.append(line.removeprefix("# ") if inside else line)
    return "\n".join(lines)


def test_what_is_proposed_for_a_hundred_tables_and_more_fits_and_nothing_is_enabled(yard, here, capsys):
    filler = {f"thing_{n}": "name {text}, created_at {time}, updated_at {time}" for n in range(60)}
    create(yard, {name: columns for name, (columns, *_) in {**EXPECTED, **LEFT_OUT}.items()} | SILENT | filler)
    yard.run("CREATE TABLE keyless_logs (line {text}, created_at {time})")
    hang(yard, "profiles", "users", "ON DELETE CASCADE")
    hang(yard, "invoices", "users", "")
    hang(yard, "folders", "workspaces", "ON DELETE CASCADE")
    hang(yard, "files", "folders", "")
    hang(yard, "mentions", "messages", "ON DELETE SET NULL")
    hang(yard, HOSTILE, "messages", "ON DELETE CASCADE")
    hang(yard, "kid\n[jobs.evil]", "promo_banners", "")

    said, text = begun(capsys)
    assert said["tables"] >= 110
    found = {each["table"]: (each["job"], each["column"]) for each in said["proposals"]}
    wanted = {name: tuple(rest) for name, (_, *rest) in EXPECTED.items() if name != "promo_banners"}
    # Which of two names of the same letters comes first is a matter of their order.
    assert found.keys() == wanted.keys(), said["leftOut"]
    assert {job for job, _ in found.values()} == {job for job, _ in wanted.values()}
    assert {name: column for name, (_, column) in found.items()} == {
        name: column for name, (_, column) in wanted.items()
    }
    for name, (_, reason) in LEFT_OUT.items():
        assert reason in said["leftOut"][name], name
    assert "no primary key" in said["leftOut"]["keyless_logs"]
    assert "promo_banners" in said["leftOut"]
    assert not {*SILENT, *filler} & {*said["leftOut"], *said["further"]}

    by_table = {each["table"]: each for each in said["proposals"]}
    assert by_table["users"]["unlessExists"] == ["invoices.parent_id"]
    assert by_table["workspaces"]["unlessExists"] == ["folders.parent_id"]
    assert any("profiles.parent_id" in why and "CASCADE" in why for why in by_table["users"]["why"])
    assert any("mentions.parent_id" in why and "SET NULL" in why for why in by_table["messages"]["why"])
    assert any("CREATE INDEX" in line and "deleted_at" in line for line in by_table["users"]["createIndex"])

    assert tomllib.loads(text)["jobs"] == {}
    assert run(nightcrew, ["jobs", "--json"], Desk()) == 0
    assert json.loads(capsys.readouterr().out) == {"jobs": []}
    assert run(nightcrew, ["check"], Desk()) == 0
    assert "no job is enabled" in capsys.readouterr().out

    everything = enabled(text)
    assert {job: values["table"] for job, values in tomllib.loads(everything)["jobs"].items()} == {
        each["job"]: each["table"].replace("${", "$${") for each in said["proposals"]
    }
    for job, _ in found.values():
        assert tomllib.loads(enabled(text, job))["jobs"].keys() == {job}
    Path("nightcrew.toml").write_text(everything, encoding="utf-8")
    assert run(nightcrew, ["check"], Desk()) == 0
    capsys.readouterr()
    with closing(config.load(Path("nightcrew.toml"))) as crew:
        for name in crew.jobs:
            assert crew.plan(name).rows == 0


def test_a_thousand_tables_are_looked_at_in_seconds(yard, here, capsys):
    shapes = ("expires_at {time}", "created_at {time}, name {text}", "deleted_at {time}", "name {text}")
    kinds = "sessions", "logs", "things", "others"
    create(yard, {f"t{n}_{kinds[n % 4]}": shapes[n % 4] for n in range(1_000)})
    began = time.monotonic()
    said, text = begun(capsys)
    assert time.monotonic() - began < 10
    assert (said["tables"], len(said["proposals"]), len(said["further"])) == (1_000, 40, 710)
    assert len(text) < 40_000


def test_rows_are_the_databases_own_estimate(yard, here, capsys):
    create(yard, {"sessions": "expires_at {time} NOT NULL"})
    yard.fill("sessions", *({"id": n, "expires_at": "2020-01-01 00:00:00"} for n in range(500)))
    yard.run("ANALYZE TABLE sessions" if yard.kind == "mysql" else "ANALYZE")
    said, text = begun(capsys)
    assert 400 <= said["proposals"][0]["rowsEstimated"] <= 600
    assert f"About {said['proposals'][0]['rowsEstimated']} rows" in text


def test_values_that_are_no_times_are_left_out(yard, here, capsys):
    create(yard, {"sessions": "expires_at {text}", "tokens": "expires_at {number}"})
    yard.fill("sessions", {"id": 1, "expires_at": "soon"})
    yard.fill("tokens", {"id": 1, "expires_at": 17})
    said, _ = begun(capsys)
    assert said["proposals"] == []
    assert said["leftOut"].keys() == {"sessions", "tokens"}


def test_a_role_that_may_only_read_suffices_and_nothing_is_left_behind(postgresql_yard, tmp_path, monkeypatch, capsys):
    create(postgresql_yard, {"sessions": "expires_at {time}", "users": "deleted_at {time}"})
    hang(postgresql_yard, "invoices", "users", "")
    url = postgresql_yard.link.engine.url
    reader = "nightcrew_reader"
    with administrator(server("postgresql").set(database=url.database), "postgresql").connect() as connection:
        connection.exec_driver_sql(f"DROP ROLE IF EXISTS {reader}")
        connection.exec_driver_sql(f"CREATE ROLE {reader} LOGIN PASSWORD 'secret-of-reader'")
        try:
            connection.exec_driver_sql(f"GRANT USAGE ON SCHEMA public TO {reader}")
            connection.exec_driver_sql(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {reader}")
            hired = url.set(drivername="postgresql", username=reader, password="secret-of-reader")
            monkeypatch.setenv("DATABASE_URL", hired.render_as_string(hide_password=False))
            monkeypatch.chdir(tmp_path)
            said, text = begun(capsys)
        finally:
            connection.exec_driver_sql(f"DROP OWNED BY {reader}")
            connection.exec_driver_sql(f"DROP ROLE {reader}")
    assert {each["table"] for each in said["proposals"]} == {"sessions", "users"}, said
    assert "secret-of-reader" not in text
    assert not sa.inspect(postgresql_yard.link.engine).has_table("nightcrew_runs")


@pytest.mark.parametrize("way", ["unset", "away", "flag", "no url"])
def test_without_a_database_the_example_is_written_and_the_reason_said(tmp_path, monkeypatch, capsys, way):
    monkeypatch.chdir(tmp_path)
    urls = {"away": f"sqlite:///{tmp_path}/none.db", "no url": "sqlite:///", "flag": f"sqlite:///{tmp_path}/none.db"}
    monkeypatch.setenv("DATABASE_URL", urls[way]) if way in urls else monkeypatch.delenv("DATABASE_URL", raising=False)
    said, text = begun(capsys, *(["--no-database"] if way == "flag" else []))
    assert said["proposals"] == []
    reasons = {"unset": "DATABASE_URL is not set", "away": "none.db does not exist", "no url": "names no file"}
    assert reasons.get(way, "") in (said["noDatabase"] or "")
    assert (said["noDatabase"] is None) == (way == "flag")
    assert list(tomllib.loads(text)["jobs"]) == ["cleanup-pkce"]
    assert not (tmp_path / "none.db").exists()
    assert run(nightcrew, ["init"], Desk()) == 2
    assert Path("nightcrew.toml").read_text(encoding="utf-8") == text
