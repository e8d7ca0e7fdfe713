"""Whatever the table, its children and the batch: what survives is what a few lines of Python say survives."""

from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nightcrew.database import Form
from nightcrew.errors import PolicyError
from nightcrew.policy import Action, Policy, Sql

CUT = timedelta(hours=10)
RULES = ["CASCADE", "SET NULL", "NO ACTION", "RESTRICT"]


@dataclass(frozen=True)
class World:
    """A table of rows (age in hours or None, kind) with children that point at them by number."""

    rows: list[tuple[int | None, int]]
    children: list[int]
    rule: str
    indexes: tuple[bool, bool]
    without_rowid: bool
    policy: Policy
    limit: int


@st.composite
def worlds(draw):
    ages = st.one_of(st.none(), st.integers(-2, 20), st.just(10), st.just(15))
    rows = draw(st.lists(st.tuples(ages, st.integers(0, 2)), max_size=40))
    kinds = st.one_of(st.none(), st.sampled_from(["kind = 1", "kind IN (SELECT 2)", "kind + NULL = 1"]))
    action = draw(st.sampled_from(Action))
    deletes = action is Action.DELETE
    policy = Policy(
        "things",
        "at",
        CUT,
        where=draw(kinds),
        hold=draw(kinds),
        unless_exists=("parts.thing_id",) if draw(st.booleans()) else (),
        erase=deletes and draw(st.booleans()),
        action=action,
        set={"name": Sql("'gone ' || id")} if action is Action.ANONYMIZE else {},
    )
    children = draw(st.lists(st.integers(0, max(len(rows) - 1, 0)), max_size=20)) if rows else []
    switches = draw(st.tuples(st.booleans(), st.booleans()))
    return World(
        rows, children, draw(st.sampled_from(RULES)), switches, draw(st.booleans()), policy, draw(st.integers(1, 9))
    )


def leaves(world: World, number: int) -> bool:
    """Say whether a row leaves: the whole rule, in Python."""
    age, kind = world.rows[number]
    said = {None: None, "kind = 1": kind == 1, "kind IN (SELECT 2)": kind == 2, "kind + NULL = 1": None}
    wanted = world.policy.where is None or said[world.policy.where] is True
    held = world.policy.hold is not None and said[world.policy.hold] is True
    needed = bool(world.policy.unless_exists) and number in world.children
    return age is not None and age > 10 and wanted and not held and not needed


def build(yard, world: World) -> None:
    yard.run("DROP TABLE IF EXISTS parts", "DROP TABLE IF EXISTS things")
    rowid = " WITHOUT ROWID" * world.without_rowid
    yard.run(
        f"CREATE TABLE things (id INTEGER NOT NULL, kind INTEGER, at DATETIME, name TEXT, PRIMARY KEY (id)){rowid}"
    )
    yard.run(f"CREATE TABLE parts (thing_id INTEGER REFERENCES things ON DELETE {world.rule})")
    times, keys = world.indexes
    yard.run(
        *["CREATE INDEX things_at ON things (at)"] * times, *["CREATE INDEX parts_thing ON parts (thing_id)"] * keys
    )
    for table, rows in (
        (
            "things",
            [{"id": n, "at": a if a is None else timedelta(hours=a), "kind": k} for n, (a, k) in enumerate(world.rows)],
        ),
        ("parts", [{"thing_id": n} for n in world.children]),
    ):
        if rows:
            yard.fill(table, *rows)


def blocked(world: World) -> bool:
    """Say whether the foreign key stands in the way."""
    policy = world.policy
    deletes = policy.action is Action.DELETE and not policy.unless_exists
    return deletes and world.rule in ("NO ACTION", "RESTRICT") and not policy.erase


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(worlds())
def test_what_survives_is_what_the_rule_says(sqlite_yard, world):
    build(sqlite_yard, world)
    if blocked(world):
        with pytest.raises(PolicyError, match="cannot leave"):
            sqlite_yard.select(world.policy)
        return
    selection = sqlite_yard.select(world.policy)
    gone = {number for number in range(len(world.rows)) if leaves(world, number)}
    surveyed = sqlite_yard.rows.survey(selection)
    swept = sqlite_yard.sweep(selection, world.limit)
    assert surveyed.rows == swept["things"] == len(gone)
    assert {table: rows for table, rows in surveyed.counts.items() if rows} == swept
    if world.policy.action is not Action.DELETE:
        assert sqlite_yard.ids("things") == list(range(len(world.rows)))
        assert len(sqlite_yard.ids("parts", "thing_id")) == len(world.children)
    else:
        assert sqlite_yard.ids("things") == [n for n in range(len(world.rows)) if n not in gone]
        orphaned = [None if n in gone else n for n in world.children if world.rule == "SET NULL" or n not in gone]
        assert sorted(map(str, sqlite_yard.ids("parts", "thing_id"))) == sorted(map(str, orphaned))
    assert sqlite_yard.sweep(selection, world.limit) == {}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(worlds(), st.sampled_from(Form))
def test_the_form_does_not_change_what_survives(sqlite_yard, world, form):
    policy = replace(world.policy, erase=world.policy.action is Action.DELETE)
    build(sqlite_yard, world)
    selection = replace(sqlite_yard.select(policy), form=form)
    if selection.drains:
        return  # only the locked form takes children along
    gone = {number for number in range(len(world.rows)) if leaves(world, number)}
    assert sqlite_yard.sweep(selection, world.limit)["things"] == len(gone)
