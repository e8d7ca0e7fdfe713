"""What a policy promises (docs/policies.md), in plain Python: it shares no thought with the engine."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from tests.model.building import Picture
from tests.model.world import LINK, LOOSE, Reference, Scene, Schema

from nightcrew.policy import Action

Rows = frozenset[tuple[int, int]]
"""Rows by table and number."""
BLOCKING = ("NO ACTION", "RESTRICT")


@dataclass(frozen=True)
class Promise:
    """A scene in its schema, and what may become of it."""

    schema: Schema
    scene: Scene

    @property
    def everything(self) -> Rows:
        """Every row there is."""
        return frozenset((table, n) for table in self.schema.tables for n in range(len(self.scene.rows[table])))

    def ripe(self, standing: Rows) -> frozenset[int]:
        """Return the root rows whose time has come, by themselves, while these rows stand."""
        return frozenset(n for table, n in standing if table == self.schema.root and self._is_ripe(n, standing))

    def leaving(self, standing: Rows) -> Rows:
        """Return what goes (or is cleared) when every ripe row goes at once, with all that cannot be without it."""
        gone: set[tuple[int, int]] = set()
        new = {(self.schema.root, number) for number in self.ripe(standing)}
        if self.scene.policy.action is Action.CLEAR:
            return frozenset(new)
        while new:
            gone |= new
            new = {
                (key.child, number)
                for table, parent in new
                for key in self.taken_along
                if key.parent == table
                for number in self._referring(key, parent, standing)
            } - gone
        return frozenset(gone)

    def gone_at_last(self) -> Rows:
        """Return what is gone when runs are repeated until nothing is ripe: what kept a row may go in its turn."""
        standing = self.everything
        while gone := self.leaving(standing):
            standing -= gone
            if self.scene.policy.action is Action.CLEAR:
                break  # what is cleared stands, and is never ripe again
        return self.everything - standing

    @property
    def taken_along(self) -> list[Reference]:
        """The references whose rows go with what they refer to."""
        return [key for key in self.schema.references if key.rule not in LOOSE and self._known(key)]

    def _known(self, key: Reference) -> bool:
        """Tell whether a reference is one to the database, or to the policy."""
        return key.rule != LINK or key in self.reached

    @property
    def reached(self) -> list[Reference]:
        """The references by which the going of root rows is felt at all, however deep."""
        return self.schema.felt(self.schema.root, self.scene.needed)

    @property
    def uncounted(self) -> set[str]:
        """The tables of which a plan counts some rows only, for they hang on rows of their own table, or below such."""
        below = {table: self._below(table) for table in self.schema.tables}
        return {f"t{table}" for top, there in below.items() if top in there for table in there}

    def _below(self, table: int) -> set[int]:
        """Return the tables that what goes along leads to from one."""
        below: set[int] = set()
        new = {table}
        while new:
            new = {key.child for key in self.reached if key.parent in new} - below
            below |= new
        return below

    def largest_circle(self, standing: Rows) -> int:
        """Return how many rows at most hang on each other, all of them on all."""
        down = {
            (table, n): {
                (key.child, child)
                for key in self.reached
                if key.parent == table
                for child in self._referring(key, n, standing)
            }
            for table, n in standing
        }
        reach = {row: _reached(row, down) for row in down}
        return max((sum(row in reach[other] for other in reach[row]) for row in down if row in reach[row]), default=1)

    # ── refusals ─────────────────────────────────────────────────────────────────────────────────────────────────

    def must_refuse(self) -> Iterator[str]:
        """Say why the policy may not be carried out."""
        policy = self.scene.policy
        if policy.action is Action.CLEAR:
            if not self.schema.nullable:
                yield "the time to clear is NOT NULL"
        elif not policy.erase and any(key.rule in BLOCKING for key in self.reached):
            yield "a foreign key stands in the way"

    def may_refuse(self) -> Iterator[str]:
        """Say why nightcrew may decline what could be carried out."""
        yield from self.must_refuse()
        if not self.schema.keys[self.schema.root].columns:
            yield "no primary key"
        if self.scene.policy.action is Action.CLEAR:
            return
        if self._takes_own_rows and (self.scene.hold or self.scene.needed):
            yield "the table takes rows of its own along, and some are to be kept"

    @property
    def _takes_own_rows(self) -> bool:
        """Whether what goes along leads back to the table."""
        return any(key.child == self.schema.root for key in self.reached)

    # ── pictures ─────────────────────────────────────────────────────────────────────────────────────────────────

    def picture(self, before: Picture, gone: Rows) -> Picture:
        """Return what is to be seen once these rows are gone (or cleared)."""
        if self.scene.policy.action is Action.CLEAR:
            cleared = {"timed": False, **self.scene.policy.set}
            return _changed(before, dict.fromkeys(gone, cleared))
        nulls: dict[tuple[int, int], dict[str, object]] = defaultdict(dict)
        for key in self.schema.references:
            for table, parent in gone if key.rule in LOOSE else ():
                for number in self._referring(key, parent, self.everything - gone) if table == key.parent else ():
                    nulls[key.child, number] |= dict.fromkeys(self.schema.columns(key))
        return _changed(_without(before, gone), nulls)

    def counts(self, gone: Collection[tuple[int, int]]) -> Counter[str]:
        """Count rows per table."""
        return Counter(f"t{table}" for table, _ in gone)

    def loosened(self, gone: Rows, standing: Rows) -> Mapping[tuple[str, tuple[str, ...]], int]:
        """Count the rows that stay when these go, and lose what they refer to, by the key they do it by."""
        counts = {}
        for key in self.schema.references:
            if key.rule not in LOOSE:
                continue
            stay = [
                n
                for table, parent in gone
                if table == key.parent
                for n in self._referring(key, parent, standing - gone)
            ]
            counts[f"t{key.child}", self.schema.columns(key)] = len(stay)
        return {name: count for name, count in counts.items() if count}

    # ── a row ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _is_ripe(self, number: int, standing: Rows) -> bool:
        scene, row = self.scene, self.scene.rows[self.schema.root][number]
        said = [one and one.truth(row.kind, number in scene.listed) for one in (scene.where, scene.hold)]
        wanted, held = scene.where is None or said[0] is True, said[1] is True
        needed = any(
            self._referring(key, number, standing) for key in self.schema.references if key.name in scene.needed
        )
        return self.schema.writing.expired(row.time, scene.cut) and wanted and not held and not needed

    def _referring(self, key: Reference, parent: int, standing: Rows) -> list[int]:
        rows = self.scene.rows[key.child]
        return [n for n, row in enumerate(rows) if (key.child, n) in standing and row.parents[key.name] == parent]


def _reached(row: tuple[int, int], down: Mapping[tuple[int, int], Rows]) -> set[tuple[int, int]]:
    reached: set[tuple[int, int]] = set()
    new = {row}
    while new:
        new = set().union(*(down[one] for one in new)) - reached
        reached |= new
    return reached


def _without(picture: Picture, gone: Rows) -> Picture:
    return {table: {n: row for n, row in rows.items() if (table, n) not in gone} for table, rows in picture.items()}


def _changed(picture: Picture, changes: Mapping[tuple[int, int], Mapping[str, object]]) -> Picture:
    return {
        table: {n: {**row, **changes.get((table, n), {})} for n, row in rows.items()} for table, rows in picture.items()
    }
