"""What a walk has ahead of it is divided in two, and the two ranges together are what it was, however it walks."""

from dataclasses import replace
from datetime import timedelta

import pytest

from nightcrew.database import Cursor, Form
from nightcrew.policy import Policy

NUMBERS = {
    "postgresql": "SELECT n FROM generate_series(1, {0}) AS numbers (n)",
    "mysql": "SELECT seq AS n FROM seq_1_to_{0}",
}
TIMES = {
    "postgresql": "timestamptz '2024-01-01' + div(n, 7) * interval '1 second'",
    "mysql": "timestamp('2024-01-01') + interval n DIV 7 second",
}
MAKE = (
    "CREATE TABLE tokens (id {number} PRIMARY KEY, ends_at {time} NOT NULL, left_at {time}, pad VARCHAR(200))",
    "CREATE INDEX tokens_end ON tokens (ends_at)",
    "CREATE INDEX tokens_left ON tokens (left_at)",
)
POLICIES = {name: Policy("tokens", name, timedelta(hours=1)) for name in ("ends_at", "left_at")}
SMALL, LARGE = 2_000, 60_000  # rows that are walked by their time, and in the order that the table is kept in


@pytest.mark.parametrize("rows", [SMALL, LARGE])
@pytest.mark.parametrize("column", POLICIES)
def test_two_ranges_are_what_one_was_and_each_can_be_divided_again(server_yard, column, rows):
    yard = server_yard
    time = TIMES[yard.kind]
    analyse = "ANALYZE TABLE tokens" if yard.kind == "mysql" else "ANALYZE tokens"
    numbers = NUMBERS[yard.kind].format(rows)
    yard.run(
        *MAKE, f"INSERT INTO tokens SELECT n, {time}, {time}, repeat('x', 150) FROM ({numbers}) AS numbers", analyse
    )
    selection, limit = yard.select(POLICIES[column]), rows // 20
    taken, cursor = take(yard, selection, {}, limit)

    first, second = divide(yard, selection, cursor, 4 * limit)
    walked = {SMALL: "from", LARGE: {"postgresql": "page", "mysql": "key"}[yard.kind]}[rows]
    assert walked in first
    assert walked in second
    assert "end" not in second
    third, fourth = divide(yard, selection, second, 4 * limit)
    assert divide(yard, selection, second, 2 * rows) is None, "there is less than that ahead"

    for part, share in ((third, 0.1), (first, 0.1), (fourth, 0.0)):
        went = sweep(yard, selection, part, limit)
        assert rows * share < went
        taken += went
    assert taken == rows
    assert yard.ids("tokens") == []


def take(yard, selection, cursor: Cursor, limit: int) -> tuple[int, Cursor | None]:
    with yard.rows.transaction() as connection:
        taken = yard.rows.take(connection, selection, cursor, limit)
    return taken.rows, None if taken.exhausted else taken.cursor


def sweep(yard, selection, cursor: Cursor | None, limit: int) -> int:
    rows = 0
    while cursor is not None:
        assert "end" not in cursor or yard.rows.left(selection, cursor, limit).cursor["end"] == cursor["end"]
        went, cursor = take(yard, selection, cursor, limit)
        rows += went
    return rows


def divide(yard, selection, cursor: Cursor, rows: int) -> tuple[Cursor, Cursor] | None:
    with yard.rows.transaction() as connection:
        return yard.rows.divide(connection, selection, cursor, rows)


@pytest.mark.parametrize("form", list(Form))
def test_where_only_one_can_write_nothing_is_divided(sqlite_yard, form):
    sqlite_yard.run(*MAKE)
    assert not sqlite_yard.rows.divides(replace(sqlite_yard.select(POLICIES["ends_at"]), form=form))


def test_rows_that_nothing_hangs_on_are_left_to_one_walk_on_postgresql_unless_they_are_copied(server_yard):
    server_yard.run(*MAKE)
    selection = server_yard.select(POLICIES["ends_at"])
    assert server_yard.rows.divides(selection) is (server_yard.kind == "mysql")
    assert server_yard.rows.divides(replace(selection, form=Form.LOCKED))
    assert server_yard.rows.divides(replace(selection, archived=True))
