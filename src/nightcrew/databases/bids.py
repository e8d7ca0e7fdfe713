"""Bids → the claims that were won: one statement takes every slot that is still free."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any

import sqlalchemy as sa

from nightcrew.books import Bid, Bidder, RunRow, Won
from nightcrew.databases.connect import Instant, Link, micros
from nightcrew.databases.dialect import Dialect
from nightcrew.databases.listed import listed, parts, told
from nightcrew.databases.tables import entries, jobs, runs
from nightcrew.outcome import State

_ASKED = {"job": str, "slot": datetime, "run": str, "fence": int, "said": str}  # of a bid, as a statement is told
_BEGUN: dict[str, Any] = {
    name: sa.literal_column(value)
    for name, value in (("state", f"'{State.RUNNING}'"), ("attempt", "1"), ("deleted", "0"), ("counts", "'{}'"))
}


def _asked(bids: Iterable[Bid], bidder: Bidder) -> list[dict[str, Any]]:
    """Return bids as statements are told of them."""
    said = bidder.trigger[:20]
    return [
        {"job": bid.job, "slot": bid.slot, "run": bid.run, "fence": bid.fence, "said": bid.trigger or said}
        for bid in bids
    ]


def win(connection: sa.Connection, link: Link, bids: Sequence[Bid], bidder: Bidder, early: float) -> list[Won]:
    """Claim what is free of the slots that were bid for, up to so many seconds `early`, and record that it begins."""
    dialect = link.dialect
    rows = told(dialect, _asked(sorted(bids, key=attrgetter("job")), bidder))
    values = {
        "bids": rows["rows"],
        "owner": bidder.owner,
        "lease": micros(bidder.lease),
        "early": micros(early),
    }
    if dialect.settle is not None:
        begun = connection.execute(link.kept(_claim), {**values, "caller": bidder.caller})
        return [Won(*row) for row in begun.all()]
    answer = connection.execute(link.kept(_claim), values)
    if dialect.returning:
        won = answer.all()
    else:
        won = connection.execute(_won_by(dialect, bids, bidder.owner)).all() if answer.rowcount else []
    if not won:
        return []
    moment = max(row[-1] for row in won)  # each row has read the clock by itself
    if len(won) < len(bids):
        free = {row[0] for row in won}
        rows = told(dialect, _asked((bid for bid in bids if bid.job in free), bidder))
    _begin(connection, link, rows, moment, bidder)
    return [Won(job, run, fence, moment) for job, run, fence, _ in won]


def begin(connection: sa.Connection, link: Link, bid: Bid, moment: datetime, bidder: Bidder) -> None:
    """Record a run that begins with a claim which was won by other means, and what is remarked on it."""
    _begin(connection, link, told(link.dialect, _asked([bid], bidder)), moment, bidder)
    remark(connection, link, [bid])


def remark(connection: sa.Connection, link: Link, bids: Iterable[Bid]) -> None:
    """Record what is remarked on runs that begin."""
    for run, one in ((bid.run, one) for bid in bids for one in bid.remarks):
        facts = {"sentence": one.sentence, **one.facts}
        connection.execute(sa.insert(entries).values(run=run, at=link.moment, kind=one.kind, facts=facts))


def _claim(link: Link) -> sa.Executable:
    claim = sa.text(link.dialect.claim)
    return claim.columns(moment=Instant()) if link.dialect.returning else claim


def _won_by(dialect: Dialect, bids: Sequence[Bid], owner: str) -> sa.Select[Any]:
    claimed = sa.tuple_(jobs.c.name, jobs.c.run, jobs.c.fence)
    mine = claimed.in_([(bid.job, bid.run, bid.fence + 1) for bid in bids])
    moment = sa.type_coerce(sa.literal_column(dialect.now), Instant()).label("moment")
    return sa.select(jobs.c.name.label("job"), jobs.c.run, jobs.c.fence, moment).where(jobs.c.owner == owner, mine)


def _begin(connection: sa.Connection, link: Link, rows: Mapping[str, Any], moment: datetime, bidder: Bidder) -> None:
    same = {"moment": moment, "caller": bidder.caller, "owner": bidder.owner}
    connection.execute(link.kept(_beginning), {**rows, **same})


def _beginning(link: Link) -> sa.Insert:
    own = listed(link.dialect, _ASKED).c
    columns: dict[str, Any] = {"id": own.run, "job": own.job, "slot": own.slot, "trigger": own.said}
    columns |= {"fence": own.fence + 1, "moment": sa.bindparam("moment", type_=Instant()), **_BEGUN}
    columns |= {name: sa.bindparam(name, type_=sa.String) for name in ("caller", "owner")}
    return sa.insert(runs).from_select(list(columns), sa.select(*columns.values()))


def note(connection: sa.Connection, now: sa.ColumnElement[Any], rows: Sequence[RunRow]) -> None:
    """Record slots that will not run, unless a restored ledger knows them already."""
    if not rows:
        return
    known: set[str] = set()
    for part in parts([row.id for row in rows]):
        known.update(connection.execute(sa.select(runs.c.id).where(runs.c.id.in_(part))).scalars())
    fresh = {row.id: values(row) for row in rows if row.id not in known}
    for noted in fresh.values():
        del noted["moment"], noted["finished_at"]
    if fresh:
        connection.execute(sa.insert(runs).values(moment=now, finished_at=now), list(fresh.values()))


def values(row: RunRow) -> dict[str, Any]:
    """Return a run as the columns of its row."""
    return {name: getattr(row, name) for name in RunRow.__slots__} | {"counts": dict(row.counts)}
