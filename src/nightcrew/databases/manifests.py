"""The table of frames: written in the transaction of the batch whose rows a frame holds."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from nightcrew.archives.kept import LOOKED_AT, Kept, Shelved
from nightcrew.archives.manifest import Left, Manifest
from nightcrew.databases.connect import Link
from nightcrew.databases.tables import frames

_SAID = ("run", "job", "store", "key", "counts", "size", "digest", "seal")


class Inventory:
    """The `Manifests` of one database."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def enter(self, connection: sa.Connection, manifest: Manifest, kept: timedelta) -> None:
        """Insert a row."""
        said = {name: getattr(manifest, name) for name in _SAID}
        said["counts"] = dict(manifest.counts)
        until = self._link.later(kept.total_seconds())
        connection.execute(sa.insert(frames).values(at=self._link.moment, until=until, **said))

    def of(self, run: str) -> list[Manifest]:
        """Go by the order in which they were written: a row has left no later than what it refers to."""
        kept = sa.select(frames).where(frames.c.run == run, frames.c.until > self._link.moment)
        return self._read(kept.order_by(frames.c.id.desc()))

    def listed(self, before: int | None, most: int) -> list[Kept]:
        """Step from run to run by the frames' numbers, past those of runs that are listed: a page costs what it has."""
        with self._link.transaction(writes=False) as connection:
            runs, passed, place = list[str](), set[str](), before
            while len(runs) < most and (newest := self._newest(connection, place, passed)) is not None:
                place, run = newest
                passed.add(run)
                if before is None or place == self._last(connection, run):  # or it stands on a page before this one
                    runs.append(run)
            return self._kept(connection, runs)

    @staticmethod
    def _newest(connection: sa.Connection, before: int | None, passed: Collection[str]) -> tuple[int, str] | None:
        """Return the newest frame before a place that is of none of these runs."""
        one = sa.select(frames.c.id, frames.c.run).where(frames.c.run.not_in(passed))
        if before is not None:
            one = one.where(frames.c.id < before)
        row = connection.execute(one.order_by(frames.c.id.desc()).limit(1)).first()
        return None if row is None else (row.id, row.run)

    @staticmethod
    def _last(connection: sa.Connection, run: str) -> int:
        last: int = connection.execute(sa.select(sa.func.max(frames.c.id)).where(frames.c.run == run)).scalar_one()
        return last

    def told(self, run: str) -> Kept | None:
        """Add it up."""
        with self._link.transaction(writes=False) as connection:
            return next(iter(self._kept(connection, [run])), None)

    def _kept(self, connection: sa.Connection, runs: Sequence[str]) -> list[Kept]:
        """Add up the frames of these runs; of their rows only so many, for each frame has its own account of them."""
        of_these, c = frames.c.run.in_(runs), frames.c
        own = sa.select(c.run, c.counts, c.left, c.restored_at).where(of_these).order_by(c.id.desc()).limit(LOOKED_AT)
        tables, looked = _shelved(connection.execute(own))
        added = sa.select(
            *(c.run, sa.func.max(c.job).label("job"), sa.func.max(c.store).label("store")),
            *(sa.func.count().label("frames"), sa.func.sum(c.size).label("size")),
            *(sa.func.count(c.seal).label("sealed"), sa.func.count(c.restored_at).label("restored")),
            sa.func.count(sa.case((c.until <= self._link.moment, 1))).label("over"),
            *(sa.func.min(c.at).label("since"), sa.func.max(c.at).label("last")),
            *(sa.func.min(c.until).label("until"), sa.func.max(c.until).label("over_at")),
            sa.func.max(c.id).label("place"),
        )
        rows = connection.execute(added.where(of_these).group_by(c.run).order_by(sa.desc("place")))
        return [
            Kept(**{**row._mapping, "size": int(row.size)}, tables=tables[row.run], whole=looked[row.run] == row.frames)  # noqa: SLF001
            for row in rows
        ]

    def held(self, connection: sa.Connection, number: int) -> Manifest | None:
        """Lock its row."""
        one = sa.select(frames).where(frames.c.id == number, frames.c.until > self._link.moment)
        row = connection.execute(one.with_for_update()).one_or_none()
        return None if row is None else _manifest(row)

    def restored(self, connection: sa.Connection, number: int, left: Left) -> None:
        """Update its row."""
        what = {table: list(places) for table, places in left.items() if places}
        update = sa.update(frames).where(frames.c.id == number)
        connection.execute(update.values(restored_at=self._link.moment, left=what))

    def expired(self, store: str, most: int) -> list[Manifest]:
        """Look for those whose time is over."""
        over = sa.select(frames).where(frames.c.store == store, frames.c.until <= self._link.moment)
        return self._read(over.order_by(frames.c.until, frames.c.id).limit(most))

    def known(self, store: str, keys: Sequence[str]) -> set[str]:
        """Compare to the letter."""
        these = sa.select(frames.c.key).where(frames.c.store == store, frames.c.key.in_(keys))
        with self._link.transaction(writes=False) as connection:
            return {*connection.execute(these).scalars()}.intersection(keys)

    def forget(self, numbers: Sequence[int]) -> None:
        """Delete their rows."""
        if numbers:
            with self._link.transaction() as connection:
                connection.execute(sa.delete(frames).where(frames.c.id.in_(sorted(numbers))))

    def _read(self, statement: sa.Select[Any]) -> list[Manifest]:
        with self._link.transaction(writes=False) as connection:
            return [_manifest(row) for row in connection.execute(statement)]


def _shelved(rows: Iterable[Any]) -> tuple[dict[str, dict[str, Shelved]], Counter[str]]:
    """Add up the rows of frames by run and table; also return how many frames of each run there were."""
    tables: dict[str, dict[str, Shelved]] = defaultdict(lambda: defaultdict(Shelved))
    looked: Counter[str] = Counter()
    for row in rows:
        looked[row.run] += 1
        for table, number in row.counts.items():
            shelved, left = tables[row.run][table], len((row.left or {}).get(table, ()))
            shelved.archived += number
            shelved.back += 0 if row.restored_at is None else number - left
            shelved.left += left
    return tables, looked


def _manifest(row: Any) -> Manifest:
    return Manifest(**row._mapping)  # noqa: SLF001 - SQLAlchemy's name for what is public of a row
