"""Log lines read as people grep for them, and as machines parse them."""

import json
import logging
import re
from datetime import UTC, datetime

import pytest

from nightcrew import Entry, Outcome, Report
from nightcrew.censor import Censor
from nightcrew.ledger import Audience
from nightcrew.listeners import log as room

log = room.Log()


@pytest.fixture(autouse=True)
def own_logger():
    """Leave the logger as it was."""
    logger = logging.getLogger("nightcrew")
    before = (logger.handlers[:], logger.level, logger.propagate)
    yield
    logger.handlers[:], logger.propagate = before[0], before[2]
    logger.setLevel(before[1])


def ended(outcome, message, deleted=0, slot=None):
    report = Report("cleanup-pkce", outcome, message, datetime(2026, 1, 1, tzinfo=UTC), "ticker", "cleanup-pkce.x",
                    slot, deleted, duration_ms=12)  # fmt: skip
    return Entry(str(outcome), "cleanup-pkce", "cleanup-pkce.x", report.json() | {"label": "OAuth Cleanup"})


def test_a_run_is_one_line_headed_by_the_jobs_label(capsys):
    room.configure("text")
    log(ended(Outcome.SUCCEEDED, "Deleted 42 rows of oauth_pkce_states.", 42))
    line = capsys.readouterr().err
    assert "[OAuth Cleanup] deleted 42 rows of oauth_pkce_states (run cleanup-pkce.x, by hand, ticker, 12 ms)" in line
    assert line.count("\n") == 1


def test_a_failure_is_an_error_line(capsys):
    room.configure("text")
    log(ended(Outcome.FAILED, "Job cleanup-pkce failed: no such table"))
    assert "ERROR" in capsys.readouterr().err


def test_json_lines_carry_the_facts(capsys):
    room.configure("json")
    log(ended(Outcome.SUCCEEDED, "Deleted 42 rows.", 42, datetime(2026, 1, 1, tzinfo=UTC)))
    line = json.loads(capsys.readouterr().err)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
    assert (line["event"], line["job"], line["deletedCount"], line["level"]) == (
        "succeeded",
        "cleanup-pkce",
        42,
        "info",
    )


def test_every_kind_of_entry_has_words_that_fit_its_facts(caplog):
    facts = {
        "label": "OAuth Cleanup", "level": "stop", "gauge": "database", "seen": "60 threads", "topic": "welcome",
        "by": "alice", "reason": "r", "jobs": 3, "period": 1.0, "seconds": 30, "error": "e",
        "erasure": "erasure-1", "state": "complete", "why": "by CLOUD_DEPLOY",
        "mail": 3, "sequence": "welcome", "step": "day3",
        "failures": 2, "schedule": "every 10 minutes", "next_slot": "t", "listener": "l", "path": "/x", "client": "c",
        "caller": "#ab", "message": "Did it.", "slot": None, "trigger": "http", "durationMs": 1,
        "table": "users", "tables": ["users"], "partition": "p1", "about": 9, "rows": 9, "plan": "x.plan-1",
        "key": "id 17", "keys": ["id 17"], "traceback": "Traceback\n  at\r line 1",
        "sentence": "nobody came", "until": "t", "ranges": 4, "left": 2, "monitor": "Sentry",
        "stage": "raised", "channels": "slack",
    }  # fmt: skip
    with caplog.at_level(logging.DEBUG, "nightcrew"):
        logging.getLogger("nightcrew").propagate = True
        for kind in [*room._WORDS, "something_new"]:
            log(Entry(kind, "cleanup-pkce", "cleanup-pkce.x", facts))
    assert len(caplog.records) == len(room._WORDS) + 1
    assert all(record.getMessage().startswith("[") for record in caplog.records)


def test_a_traceback_keeps_its_lines_and_none_of_them_passes_for_a_record(capsys):
    room.configure("text", verbose=True)
    facts = {"label": "Rates", "traceback": "Traceback:\n  at x\n2026-01-01 00:00:00 INFO forged\x1b[2J\n"}
    log(Entry("traceback", "rates", "rates.x", facts))
    first, *lines = capsys.readouterr().err.splitlines()
    assert first.endswith("DEBUG   [Rates] traceback of run rates.x")
    assert lines == ["    Traceback:", "      at x", "    2026-01-01 00:00:00 INFO forged [2J"]


def test_a_library_configures_no_logging_by_itself():
    assert any(isinstance(handler, logging.NullHandler) for handler in logging.getLogger("nightcrew").handlers)


def test_a_listener_that_fails_is_reported_to_the_others_and_stops_nobody():
    heard = []

    def broken(entry):
        raise ValueError("no disk left")

    Audience([broken, heard.append]).tell(Entry("batch", "a", "a.1"))
    assert [entry.kind for entry in heard] == ["listener_failed", "batch"]
    assert heard[0].facts["error"] == "no disk left"


def test_no_listener_hears_a_secret():
    heard = []
    audience = Audience([heard.append], Censor("s3cr3t-s3cr3t", url="postgresql://me:p%40ss@db/app"))
    facts = {
        "error": ValueError("s3cr3t-s3cr3t"),
        "reason": "p@ss or p%40ss, mysql://u:pw@h/x",
        "rows": 3,
        "keys": ["p@ss"],
    }
    audience.tell(Entry("odd", "a", "a.1", facts))
    assert heard[0].facts == {"error": "ValueError('***')", "reason": "*** or ***, mysql://u:***@h/x", "rows": 3,
                              "keys": ["***"]}  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "{'password': 'hunter2'}",
        '{"secret": "hunter2"}',
        "token=hunter2&x=1",
        "pwd: hunter2",
        "PassWord=hunter2",
        "\u017fecret: hunter2",
        "redis://user:hunter2@cache and http://h",
    ],
)
def test_what_looks_like_a_password_is_hidden_however_it_is_written(text):
    assert "hunter2" not in Censor()(text)
    assert "***" in Censor()(text)


def test_a_long_text_of_nothing_but_beginnings_is_read_once():
    assert Censor()("://a:b" * 30_000) == "://a:b" * 30_000


class Choosy:
    """Listens to failures alone, and cannot say of one kind whether it does."""

    def __init__(self):
        self.heard = []

    def hears(self, kind):
        if kind == "odd":
            raise LookupError(kind)
        return kind == "failed"

    def __call__(self, entry):
        self.heard.append(entry.kind)


def test_a_listener_that_says_what_it_listens_to_hears_nothing_else():
    choosy, all_of_it = Choosy(), []
    quiet, loud = Audience([choosy]), Audience([choosy, lambda entry: all_of_it.append(entry.kind)])
    assert (quiet.hears("succeeded"), quiet.hears("failed"), loud.hears("succeeded")) == (False, True, True)
    for kind in ("succeeded", "failed", "odd"):
        loud.tell(Entry(kind))
    assert (choosy.heard, all_of_it) == (["failed", "odd"], ["succeeded", "failed", "odd"])


@pytest.mark.parametrize(("level", "hears"), [(logging.INFO, True), (logging.WARNING, False)])
def test_the_log_listens_to_what_the_applications_logging_lets_through(level, hears):
    logging.getLogger("nightcrew").setLevel(level)
    assert (log.hears("succeeded"), log.hears("failed"), log.hears("something_new")) == (hears, True, False)
