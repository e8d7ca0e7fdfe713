"""How worlds are drawn: few shapes that matter, each often, rather than every shape there is."""

from datetime import timedelta

from hypothesis import strategies as st
from tests.conftest import MOMENT
from tests.model.building import MOST_TABLES
from tests.model.world import CODE, HALF, LINK, NONE, NUMBER, PAIR, Reference, Row, Said, Scene, Schema
from tests.model.writing import DAY, SECOND, WRITINGS, Writing

from nightcrew.owing import Owing
from nightcrew.policy import Action, Policy

RULES = {
    "sqlite": ["CASCADE", "CASCADE", "SET NULL", "NO ACTION", "RESTRICT", "SET DEFAULT"],
    "postgresql": ["CASCADE", "CASCADE", "SET NULL", "NO ACTION", "RESTRICT", "SET DEFAULT"],
    "mysql": ["CASCADE", "CASCADE", "SET NULL", "NO ACTION", "RESTRICT"],
}
SAYINGS = [
    Said("kind = 1", lambda kind, _: None if kind is None else kind == 1),
    Said("kind <> 1", lambda kind, _: None if kind is None else kind != 1),
    Said("kind IS NULL OR kind = 2", lambda kind, _: kind in (None, 2)),
    Said("NOT (kind = 1)", lambda kind, _: None if kind is None else kind != 1),
    Said("kind = 1 + NULL", lambda _kind, _: None),
    Said("id IN (SELECT row_id FROM listed)", lambda _, listed: listed),
    Said("NOT EXISTS (SELECT 1 FROM listed l WHERE l.row_id = {root}.id)", lambda _, listed: not listed),
    Said("kind = 1 OR id IN (SELECT row_id FROM listed)", lambda kind, listed: listed or _is_one(kind)),
]
AGES = [timedelta(0), timedelta(days=30), timedelta(microseconds=1), timedelta(hours=5, microseconds=123_456)]
EDGES = [-1, 0, 1, -1000, 1000, -SECOND, SECOND, -SECOND // 4, -DAY, DAY, -2 * DAY]  # microseconds from the cut
MOST_ROWS, MOST_SCENES, MOST_REFERENCES = 14, 4, 6


def _is_one(kind: int | None) -> bool | None:
    return None if kind is None else kind == 1


@st.composite
def worlds(draw, kind: str):
    """Draw a schema that the database takes, and scenes to play in it."""
    schema = draw(schemas(kind))
    return schema, draw(st.lists(scenes(schema), min_size=1, max_size=MOST_SCENES))


@st.composite
def schemas(draw, kind: str):
    """Draw up to five tables; references lead from a table to itself or to an earlier one, some of them round."""
    keys = draw(st.lists(st.sampled_from([NUMBER, NUMBER, CODE, PAIR]), min_size=1, max_size=MOST_TABLES))
    references = []
    for number in range(draw(st.integers(0, MOST_REFERENCES))):
        child = draw(st.integers(0, len(keys) - 1))
        parent = draw(st.one_of(*[st.integers(0, child)] * 4, st.integers(0, len(keys) - 1)))
        rules = RULES[kind] if child >= parent else ["CASCADE", "SET NULL", "NO ACTION"]
        linkable = child > parent and len(keys[parent].columns) == 1
        rule = draw(st.sampled_from([*rules, *[LINK] * linkable]))
        references.append(Reference(f"f{number}", child, parent, rule, draw(st.sampled_from([True, True, False]))))
    for table in set(range(len(keys))) - {reference.parent for reference in references}:
        if kind != "mysql" and draw(st.integers(0, 4)) == 4:  # there, slices of its rows could not be told apart
            keys[table] = NONE
    return Schema(
        keys=tuple(keys),
        references=tuple(references),
        root=draw(st.integers(0, len(keys) - 1)),
        writing=draw(st.sampled_from(WRITINGS[kind])),
        nullable=draw(st.booleans()),
        walked=draw(st.sampled_from([True, True, False])),
    )


@st.composite
def scenes(draw, schema: Schema):
    """Draw rows, and a policy over the root table."""
    sizes = [draw(st.integers(0, MOST_ROWS if table == schema.root else MOST_ROWS // 2)) for table in schema.tables]
    times = _times(schema.writing, nullable=schema.nullable)
    rows = tuple(tuple(draw(_row(schema, table, sizes, times)) for _ in range(sizes[table])) for table in schema.tables)
    where, hold = draw(_saying(schema)), draw(_saying(schema))
    pointing = [key for key in schema.references if key.parent == schema.root]
    needed = draw(st.lists(st.sampled_from(pointing), unique=True, max_size=2)) if pointing else []
    if any(key.child == schema.root for key in schema.felt(schema.root)) and draw(st.integers(0, 3)):
        hold, needed = None, []  # or most are refused
    action = draw(st.sampled_from([Action.DELETE] * (4 if schema.nullable else 20) + [Action.CLEAR]))
    deletes = action is Action.DELETE
    changes = {} if deletes or draw(st.booleans()) else {"note": "cleared", "kind": None}
    going = {schema.root, *(key.child for key in schema.felt(schema.root, {key.name for key in needed}))}
    owing = draw(st.frozensets(st.sampled_from(sorted(going)))) if deletes else {schema.root} if changes else ()
    policy = Policy(
        table=f"t{schema.root}",
        column="due",
        older_than=draw(st.sampled_from([None, *AGES])),
        where=where and where.sql.format(root=f"t{schema.root}"),
        hold=hold and hold.sql.format(root=f"t{schema.root}"),
        unless_exists=tuple(f"t{key.child}.{schema.columns(key)[-1]}" for key in needed),
        erase=deletes and draw(st.sampled_from([True, True, True, True, False])),
        links=schema.links({key.name for key in needed}) if deletes else (),
        action=action,
        set=changes,
        blobs=[Owing("uploads", f"t{table}", "note") for table in sorted(owing)],
    )
    return Scene(
        rows=rows,
        listed=draw(st.frozensets(st.integers(0, MOST_ROWS - 1), max_size=4)),
        moment=MOMENT + timedelta(microseconds=draw(st.sampled_from([0, 1, 999_999]))),
        policy=policy,
        where=where,
        hold=hold,
        needed=tuple(key.name for key in needed),
        limit=draw(st.integers(1, 5)),
        load=draw(st.sampled_from([1, 2, 3, 4, 6, 1000])),
    )


def _times(writing: Writing, *, nullable: bool):
    edges = st.one_of(st.sampled_from(EDGES), st.integers(-3 * DAY, 3 * DAY), st.just(-DAY // 2))
    ends = [st.sampled_from(sorted(writing.ends))] if writing.ends else []
    return st.one_of(edges, edges, *ends, *([st.none()] if nullable else []))


@st.composite
def _row(draw, schema: Schema, table: int, sizes: list[int], times):
    parents = {}
    for key in schema.down(table):
        nothing = st.sampled_from([None, HALF]) if len(schema.keys[key.parent].columns) > 1 else st.none()
        numbers = [st.integers(0, sizes[key.parent] - 1)] * 2 if sizes[key.parent] else []
        parents[key.name] = draw(st.one_of(nothing, *numbers))
    time = draw(times) if table == schema.root else None
    return Row(parents, time, draw(st.sampled_from([0, 1, 2, None])))


def _saying(schema: Schema):
    return st.one_of(st.none(), st.none(), st.sampled_from(SAYINGS))
