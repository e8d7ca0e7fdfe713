"""Whatever the schema, its rows and the policy: what survives, and what is owed, is what a page of Python says."""

from collections import Counter
from dataclasses import dataclass, field

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, event, given, note, settings
from tests.model.building import Picture, build, fill, photograph
from tests.model.drawing import worlds
from tests.model.promise import Promise

from nightcrew import plan
from nightcrew.clock import SystemClock
from nightcrew.database import Selection
from nightcrew.databases.migrations import Migrations
from nightcrew.databases.parcels import SEPARATOR
from nightcrew.databases.rows import Rows
from nightcrew.databases.tables import owed as debts
from nightcrew.errors import DatabaseError, PolicyError
from nightcrew.policy import Action

EXAMPLES = {"sqlite": 100, "postgresql": 50, "mysql": 40}
CAMPAIGN = {"sqlite": 4000, "postgresql": 1500, "mysql": 1000}
MOST_BATCHES = 400


@dataclass
class Tally:
    """How many scenes were played, refused, and found something to do."""

    played: int = 0
    refused: Counter = field(default_factory=Counter)
    rows: int = 0

    def __str__(self) -> str:
        refused = sum(self.refused.values())
        return (
            f"{self.played} scenes, {refused} refused ({refused / max(self.played, 1):.0%}), {self.rows} rows gone;"
            f" {dict(self.refused)}"
        )


def test_what_survives_is_what_the_policy_promises(yard, campaign, figure):
    tally = Tally()
    Migrations(yard.link, SystemClock()).apply()

    @settings(
        max_examples=(CAMPAIGN if campaign else EXAMPLES)[yard.kind],
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(worlds(yard.kind))
    def check(world):
        schema, scenes = world
        build(yard, schema)
        for scene in scenes:
            fill(yard, schema, scene)
            play(yard, Promise(schema, scene), tally)

    check()
    figure(f"survivors on {yard.kind}", str(tally))
    most, least = (0.5, 0.5) if campaign else (0.75, 0.25)  # few schemas are drawn, and one decides about its scenes
    assert sum(tally.refused.values()) < most * tally.played, "most scenes were refused: the suite proves little"
    assert tally.rows > least * tally.played, "hardly a row left: the suite proves little"


def owed(yard) -> set[str]:
    """Return what is owed, and forget it."""
    with yard.link.transaction() as connection:
        keys = {key for row in connection.execute(sa.select(debts.c.key)).scalars() for key in row.split(SEPARATOR)}
        connection.execute(sa.delete(debts))
    return keys


def play(yard, promise: Promise, tally: Tally) -> None:
    """Sweep until nothing is left, and compare what each sweep took, said and left standing."""
    tally.played += 1
    yard.rows = Rows(yard.link)
    before = photograph(yard, promise.schema)
    selection = compiled(yard, promise, before, tally)
    if selection is None:
        return
    assert not list(promise.must_refuse())
    gone = sweep_to_the_end(yard, promise, selection, before)
    assert owed(yard) == {f"t{table}/{n}" for table, n in gone if f"t{table}" in {one.table for one in selection.blobs}}
    event("swept" if gone else "nothing to do")
    tally.rows += len(gone)


def compiled(yard, promise: Promise, before: Picture, tally: Tally) -> Selection | None:
    """Compile the policy; a refusal needs a reason that the model knows, and changes nothing."""
    reason = next(promise.may_refuse(), None)
    try:
        return plan.compile(promise.scene.policy, promise.scene.moment, yard.rows)
    except PolicyError:
        if reason is None:
            raise
    assert photograph(yard, promise.schema) == before
    event(f"refused: {reason}")
    tally.refused[reason] += 1
    return None


def sweep_to_the_end(yard, promise: Promise, selection: Selection, before: Picture) -> frozenset[tuple[int, int]]:
    """Run until a run takes nothing; return what is gone, or cleared."""
    gone: frozenset[tuple[int, int]] = frozenset()
    at_last = promise.gone_at_last()
    picture = before
    for _ in range(len(promise.everything) + 2):
        expected = promise.leaving(promise.everything - gone)
        survey = yard.rows.survey(selection)
        assert_counts(promise, survey.counts, expected)
        assert_loosened(promise, survey.loosened, promise.loosened(expected, promise.everything - gone))
        total = swept(yard, promise, selection, promise.everything - gone)
        after = photograph(yard, promise.schema)
        taken = difference(promise, picture, after)
        note(f"{selection.form}: surveyed {survey.counts}, swept {total}, gone {sorted(taken)}")
        assert +Counter(total) == promise.counts(taken)
        assert taken >= expected if promise.scene.policy.action is Action.DELETE else taken == expected
        gone, picture = gone | taken, after
        assert gone <= at_last
        assert after == promise.picture(before, gone)
        if not taken:
            assert gone == at_last
            return gone
        if promise.scene.policy.action is Action.CLEAR:
            assert +swept(yard, promise, selection, promise.everything - gone) == {}
            return gone
    pytest.fail("runs do not come to an end")


def swept(yard, promise: Promise, selection: Selection, standing) -> Counter[str]:
    """Sweep once; rows that hang on each other, and are more than a batch may take, are refused as what they are."""
    scene, total = promise.scene, Counter()
    try:
        for taken in yard.batches(selection, scene.limit, MOST_BATCHES, scene.load):
            total.update(taken.counts)
    except DatabaseError as error:
        if "than fit into one batch" not in str(error) or promise.largest_circle(standing) <= scene.load:
            raise
        event("a circle larger than a batch")
        return total + yard.sweep(selection, scene.limit, MOST_BATCHES)
    return +total


def difference(promise: Promise, before: Picture, after: Picture) -> frozenset[tuple[int, int]]:
    """Name the rows that are gone, or whose time was cleared."""
    if promise.scene.policy.action is Action.CLEAR:
        root = promise.schema.root
        return frozenset((root, n) for n, row in before[root].items() if row["timed"] and not after[root][n]["timed"])
    return frozenset((table, n) for table, rows in before.items() for n in rows if n not in after[table])


def assert_loosened(promise: Promise, said, counts) -> None:
    """Compare the rows that were said to outlive what they refer to; which trees go along is not known beforehand."""
    if promise.scene.policy.action is Action.DELETE and not promise.uncounted:
        assert {(key.table, key.columns): rows for key, rows in said.items() if rows} == counts
    elif promise.scene.policy.action is Action.CLEAR:
        assert not said


def assert_counts(promise: Promise, said, rows) -> None:
    """Compare what a plan counts with the rows, table by table."""
    said, real = +Counter(said), promise.counts(rows)
    trees = promise.uncounted
    for table in {*said, *real}:
        if table in trees:
            assert said[table] <= real[table]
        else:
            assert said[table] == real[table], f"{table}: reported {said[table]}, gone {real[table]}"
