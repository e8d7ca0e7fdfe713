"""nightcrew's own tables of the alarms that stand, and of what is to come to an end and was seen again."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from nightcrew.alarm import Alarm, Kept, Kind, Sighting, Stage
from nightcrew.databases.connect import Link, storable
from nightcrew.databases.tables import alarms, sightings
from nightcrew.errors import DatabaseError

_MOST = 5_000
_AGAIN = 3
_SAYS, _REMEDY, _WRONG, _BY = 1000, 300, 500, 100
_FRESH = timedelta(seconds=45)  # of many processes that look once a minute, few write that they saw the same
_RARE, _APART = 55.0, 25 * 3600.0  # seconds between two sightings that are written, and that belong together


class Board:
    """The `Alarms` of one database."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def listed(self) -> tuple[datetime, list[Kept]]:
        """Read them all: there is one for a kind and a job at most."""
        with self._link.transaction(writes=False) as connection:
            now: datetime = connection.execute(sa.select(self._link.clock_reading())).scalar_one()
            rows = connection.execute(sa.select(alarms).order_by(alarms.c.since).limit(_MOST)).mappings().all()
        return now, [_kept(row) for row in rows]

    def raise_(self, risen: Mapping[str, Alarm]) -> None:
        """Write those that are not there, all at once; and look again where somebody else's come in between."""
        for _ in range(_AGAIN):
            try:
                with self._link.transaction() as connection:
                    there = {tuple(row) for row in connection.execute(sa.select(alarms.c.kind, alarms.c.job))}
                    rows = [_raised(*each) for each in risen.items() if each[1].key not in there]
                    moment = self._link.moment
                    for row in sorted(rows, key=lambda row: (row["kind"], row["job"])):
                        connection.execute(sa.insert(alarms).values(**row, seen_at=moment, due_at=moment))
            except DatabaseError as error:
                if not error.of_row:
                    raise
            else:
                return

    def move(self, seen: Kept, changes: Mapping[str, Any]) -> bool:
        """Set columns where the fence is the one that was seen."""
        given = {name: _storable(name, value) for name, value in changes.items()}
        with self._link.transaction() as connection:
            moved = sa.update(alarms).where(*_as(seen)).values(**given, fence=seen.fence + 1)
            return connection.execute(moved).rowcount == 1

    def refresh(self, seen: Sequence[tuple[Kept, Alarm]], now: datetime) -> None:
        """Write those where nobody has done so a moment ago, all at once, and in one order whoever does."""
        old = sorted((pair for pair in seen if now - pair[0].seen_at >= _FRESH), key=lambda pair: pair[0].alarm.key)
        if not old:
            return
        with self._link.transaction() as connection:
            for kept, alarm in old:
                kind, job = kept.alarm.key
                this = alarms.c.kind == str(kind), alarms.c.job == job, alarms.c.ended_at.is_(None)
                again = sa.update(alarms).where(*this).values(seen_at=self._link.moment)
                connection.execute(again if kept.due_at is not None else again.values(**_said(alarm)))

    def claim(self, seen: Sequence[Kept], lease: timedelta) -> list[Kept]:
        """Put their leases ahead, by the database's clock: in one order, so that a second one waits for the first."""
        moment = self._link.moment
        free = sa.or_(alarms.c.lease_until.is_(None), alarms.c.lease_until <= moment), alarms.c.due_at <= moment
        until, won = self._link.later(lease.total_seconds()), list[Kept]()
        with self._link.transaction() as connection:
            for row in sorted(seen, key=lambda row: row.alarm.key):
                given = {"lease_until": until, "fence": row.fence + 1, "attempts": row.attempts + 1}
                taken = sa.update(alarms).where(*_as(row), *free).values(given)
                if connection.execute(taken).rowcount == 1:
                    won.append(row._replace(fence=row.fence + 1, attempts=row.attempts + 1))
        return won

    def forget(self, seen: Sequence[Kept]) -> None:
        """Delete them one by one, for they are few."""
        for one in seen:
            with self._link.transaction() as connection:
                connection.execute(sa.delete(alarms).where(*_as(one)))

    def saw(self, what: str, by: str) -> None:
        """Update its row where that is old enough, or make one."""
        moment, who = self._link.moment, storable(by, _BY)
        apart = sightings.c.at < self._link.later(-_APART)
        since = sa.case((apart, moment), else_=sightings.c.since)
        old = sightings.c.at < self._link.later(-_RARE)
        seen = sa.update(sightings).where(sightings.c.what == what, old).values(since=since, at=moment, by=who)
        try:
            with self._link.transaction() as connection:
                if connection.execute(seen).rowcount:
                    return
                if connection.execute(sa.select(sightings.c.at).where(sightings.c.what == what)).first() is None:
                    connection.execute(sa.insert(sightings).values(what=what, since=moment, at=moment, by=who))
        except DatabaseError as error:
            if not error.of_row:  # somebody else's row came in between
                raise

    def sighting(self, what: str) -> Sighting | None:
        """Read it."""
        columns = sightings.c.since, sightings.c.at, sightings.c.by
        with self._link.transaction(writes=False) as connection:
            row = connection.execute(sa.select(*columns).where(sightings.c.what == what)).one_or_none()
        return None if row is None else Sighting(*row)


def _as(seen: Kept) -> tuple[sa.ColumnElement[bool], ...]:
    kind, job = seen.alarm.key
    return alarms.c.kind == str(kind), alarms.c.job == job, alarms.c.fence == seen.fence


def _raised(episode: str, alarm: Alarm) -> dict[str, Any]:
    given = {"kind": str(alarm.kind), "job": alarm.job, "episode": episode, "since": alarm.since, **_said(alarm)}
    return given | {"rises": 1, "stage": str(Stage.RAISED), "number": 1, "fence": 0, "attempts": 0, "reached": []}


def _said(alarm: Alarm) -> dict[str, str]:
    return {"says": storable(alarm.says, _SAYS), "remedy": storable(alarm.remedy, _REMEDY)}


def _storable(name: str, value: Any) -> Any:
    longest = {"says": _SAYS, "remedy": _REMEDY, "wrong": _WRONG}.get(name)
    return storable(value, longest) if longest is not None and value is not None else value


def _kept(row: Mapping[Any, Any]) -> Kept:
    alarm = Alarm(Kind(row["kind"]), row["job"], row["since"], row["says"], row["remedy"])
    rest = {name: row[name] for name in Kept._fields if name not in ("alarm", "stage", "reached")}
    return Kept(alarm=alarm, stage=Stage(row["stage"]), reached=tuple(row["reached"]), **rest)
