"""How much is left, told without reading it all: counted where that is quick, else what the planner expects ahead."""

from datetime import timedelta

import pytest

from nightcrew.database import Counted
from nightcrew.policy import Policy

ROWS, OLD = 100_000, 90_000
NUMBERS = (
    "SELECT {made} FROM (SELECT a.n + 10 * b.n + 100 * c.n + 1000 * d.n + 10000 * e.n AS i FROM digits a, digits b,"
)
NUMBERS += " digits c, digits d, digits e) AS numbers ORDER BY i"
LATER = {  # a second a row, the first that stays at the moment
    "sqlite": "datetime('2024-06-15 12:00:00', (i - {old}) || ' seconds')",
    "postgresql": "timestamptz '2024-06-15 12:00:00Z' + (i - {old}) * interval '1 second'",
    "mysql": "TIMESTAMP'2024-06-15 12:00:00' + INTERVAL i - {old} SECOND",
}
POLICY = Policy("notes", "at", timedelta(0))
AT_ONCE, PATIENTLY = 0.001, 10.0


@pytest.fixture
def notes(yard):
    yard.run("CREATE TABLE notes (id {number} PRIMARY KEY, at {time} NOT NULL)", "CREATE INDEX notes_at ON notes (at)")
    yard.run("CREATE TABLE digits (n {number})")
    yard.fill("digits", *({"n": n} for n in range(10)))
    yard.run(f"INSERT INTO notes {NUMBERS.format(made='i, ' + LATER[yard.kind].format(old=OLD))}")
    yard.run("ANALYZE TABLE notes" if yard.kind == "mysql" else "ANALYZE notes")
    return yard


def cursors(yard):
    """Where a walk stands that has a third of what has expired before it."""
    yield {"from": yard.written(timedelta(seconds=OLD // 3))}
    if yard.kind == "postgresql":
        with yard.link.transaction(writes=False) as connection:
            look = f"SELECT (ctid::text::point)[0]::int FROM notes WHERE id = {OLD * 2 // 3}"
            yield {"page": connection.exec_driver_sql(look).scalar_one()}


def test_what_is_quickly_counted_is_exact_wherever_the_walk_stands(notes):
    selection = notes.select(POLICY)
    for cursor in ({}, *cursors(notes)):
        assert notes.rows.expected(selection, PATIENTLY, cursor) == Counted(OLD, exact=True)


def test_what_takes_long_is_what_the_planner_expects_ahead_of_the_walk(notes):
    selection = notes.select(POLICY)
    for cursor in cursors(notes):
        found = notes.rows.expected(selection, AT_ONCE, cursor)
        if notes.kind == "sqlite":
            assert found is None
        else:
            assert not found.exact
            assert OLD // 6 < found.rows < OLD * 2 // 3
