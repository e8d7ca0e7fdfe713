"""The table of frames: written in the transaction of the batch whose rows a frame holds."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

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


def _manifest(row: Any) -> Manifest:
    return Manifest(**row._mapping)  # noqa: SLF001 - SQLAlchemy's name for what is public of a row
