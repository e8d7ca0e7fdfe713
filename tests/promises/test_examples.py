"""Promise: the jobs that docs/functions.md shows do what it says of them."""

import re
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

PAGE = (Path(__file__).parents[2] / "docs/functions.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
CURRENCIES = ["CHF", "EUR", "TRY", "USD"]
ORDERS = 250


@pytest.fixture
def names(tmp_path, monkeypatch):
    """What the examples define, with an application around them."""
    monkeypatch.chdir(tmp_path)
    engine = sa.create_engine("sqlite:///shop.db")
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE totals (number INTEGER)")
    refreshed, sent, away = [], [], ["TRY"]

    def refresh(currency, key):
        refreshed.append(key)
        if currency in away:
            away.remove(currency)
            raise ConnectionError(f"no rate of {currency}")

    def add_to_totals(connection, orders):
        connection.exec_driver_sql(f"INSERT INTO totals VALUES ({len(orders)})")

    def send(person, key):
        sent.append(key)
        if away:
            raise ConnectionError(f"no mail server for {person}")

    names = {
        "outdated": lambda moment, after: [name for name in CURRENCIES if after is None or name > after],
        "refresh": refresh,
        "refreshed": refreshed,
        "readers": lambda after: ["ada"] if after is None else [],
        "send": send,
        "sent": sent,
        "away": away,
        "engine": engine,
        "next_orders": lambda connection, after, limit: list(range(after + 1, ORDERS + 1))[:limit],
        "add_to_totals": add_to_totals,
    }
    for example in EXAMPLES:
        exec(example, names)
    yield names
    names["crew"].close()
    engine.dispose()


def test_a_job_goes_on_where_it_broke_off_with_the_same_keys(names):
    crew = names["crew"]
    first, second = (crew.run("refresh-rates", trigger="http") for _ in range(2))
    assert (first.outcome, first.deleted, second.outcome, second.deleted) == ("failed", 2, "succeeded", 4)
    assert names["refreshed"] == [f"{first.run}/{name}" for name in ("CHF", "EUR", "TRY", "TRY", "USD")]


def test_a_batch_and_its_cursor_commit_together_and_each_call_keeps_to_its_deadline(names):
    crew = names["crew"]
    assert crew.run("total-orders", trigger="http", deadline=timedelta(0)).outcome == "partial"
    rest = crew.run("total-orders", trigger="http")
    assert (rest.outcome, rest.deleted) == ("succeeded", ORDERS)
    with names["engine"].connect() as connection:
        assert connection.exec_driver_sql("SELECT number FROM totals").scalars().all() == [100, 100, 50]


def test_a_job_that_fails_is_tried_again_after_a_while_with_the_same_key(names):
    crew = names["crew"]
    first = crew.run("send-digests", trigger="http")
    assert (first.outcome, crew.runs("send-digests")[0].state) == ("failed", "retrying")
    assert 20 < (first.retry_at - first.timestamp).total_seconds() <= 30
    names["away"].clear()
    assert crew.run("send-digests", trigger="cli", now=True).outcome == "nothing_to_do"
    assert names["sent"][:2] == [f"{first.run}/ada"] * 2
