"""What a policy promises (docs/policies.md), in plain Python: it shares no thought with the engine."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from tests.model.building import Picture
from tests.model.world import Reference, Scene, Schema

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
        return [key for key in self.schema.references if key.rule not in ("SET NULL", "SET DEFAULT")]

    @property
    def reached(self) -> list[Reference]:
        """The references by which the going of root rows is felt at all, however deep."""
        felt: list[Reference] = []
        tables = [self.schema.root]
        for table in tables:
            for key in self.schema.references:
                kept_out = table == self.schema.root and key.name in self.scene.needed
                if key.parent == table and not kept_out and key in self.taken_along and key not in felt:
                    felt.append(key)
                    tables.append(key.child)
        return felt

    @property
    def uncounted(self) -> set[str]:
        """The tables of which the database takes rows along that refer to rows of their own table, uncounted."""
        trees = {key.parent for key in self.reached if key.parent == key.child}
        below = [key for key in self.reached if key.parent in trees]
        while more := [key for key in self.reached if key.parent in {k.child for k in below} and key not in below]:
            below += more
        return {f"t{key.child}" for key in below}

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
        own = [key for key in self.reached if key.parent == key.child]
        if any(key.rule in BLOCKING for key in own):
            yield "a table refers to itself without a rule"
        if any(key.parent == self.schema.root for key in own):
            yield "the table takes its own rows along"

        if self._leads_round():
            yield "foreign keys lead round in a circle"

    def _leads_round(self) -> bool:
        """Tell whether what goes along leads to a table that it came by."""
        below: dict[int, set[int]] = defaultdict(set)
        for key in self.reached:
            if key.parent != key.child:
                below[key.parent].add(key.child)
        for start in self.schema.tables:
            met, new = set(), below[start]
            while new:
                met |= new
                new = {child for table in new for child in below[table]} - met
            if start in met:
                return True
        return False

    # ── pictures ─────────────────────────────────────────────────────────────────────────────────────────────────

    def picture(self, before: Picture, gone: Rows) -> Picture:
        """Return what is to be seen once these rows are gone (or cleared)."""
        if self.scene.policy.action is Action.CLEAR:
            cleared = {"timed": False, **self.scene.policy.set}
            return _changed(before, dict.fromkeys(gone, cleared))
        nulls: dict[tuple[int, int], dict[str, object]] = defaultdict(dict)
        for key in self.schema.references:
            for table, parent in gone if key not in self.taken_along else ():
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
            if key in self.taken_along:
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


def _without(picture: Picture, gone: Rows) -> Picture:
    return {table: {n: row for n, row in rows.items() if (table, n) not in gone} for table, rows in picture.items()}


def _changed(picture: Picture, changes: Mapping[tuple[int, int], Mapping[str, object]]) -> Picture:
    return {
        table: {n: {**row, **changes.get((table, n), {})} for n, row in rows.items()} for table, rows in picture.items()
    }
