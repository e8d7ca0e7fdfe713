"""Bids → the claims that were won: one statement takes every slot that is still free."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from nightcrew.books import Bid, Bidder, RunRow, Won
from nightcrew.databases.connect import Instant, Link, micros
from nightcrew.databases.dialect import Dialect
from nightcrew.databases.listed import listed, parts
from nightcrew.databases.tables import entries, jobs, runs
from nightcrew.outcome import State

# What a run has of its own when it begins, and what is the same of all.
_OWN = {"id": str, "job": str, "slot": datetime, "said": str, "fence": int, "moment": datetime}
_BEGUN: dict[str, Any] = {
    name: sa.literal_column(value)
    for name, value in (("state", f"'{State.RUNNING}'"), ("attempt", "1"), ("deleted", "0"), ("counts", "'{}'"))
}


def win(connection: sa.Connection, dialect: Dialect, bids: Sequence[Bid], bidder: Bidder, early: float) -> list[Won]:
    """Claim what is free of the slots that were bid for, up to so many seconds `early`."""
    asked = [
        {"job": bid.job, "slot": bid.slot, "run": bid.run, "fence": bid.fence}
        for bid in sorted(bids, key=lambda bid: bid.job)
    ]
    values = {
        "bids": json.dumps(asked, default=dialect.bid_instant),
        "owner": bidder.owner,
        "lease": micros(bidder.lease),
        "early": micros(early),
    }
    claim = sa.text(dialect.claim)
    if dialect.returning:
        answer = connection.execute(claim.columns(moment=Instant()), values)
    elif connection.execute(claim, values).rowcount == 0:
        return []
    else:
        answer = connection.execute(_won_by(dialect, bids, bidder.owner))
    return [Won(row.job, row.run, row.fence, row.moment) for row in answer]


def _won_by(dialect: Dialect, bids: Sequence[Bid], owner: str) -> sa.Select[Any]:
    claimed = sa.tuple_(jobs.c.name, jobs.c.run, jobs.c.fence)
    mine = claimed.in_([(bid.job, bid.run, bid.fence + 1) for bid in bids])
    moment = sa.type_coerce(sa.literal_column(dialect.now), Instant()).label("moment")
    return sa.select(jobs.c.name.label("job"), jobs.c.run, jobs.c.fence, moment).where(jobs.c.owner == owner, mine)


def begin(connection: sa.Connection, link: Link, claimed: Sequence[tuple[Won, Bid]], bidder: Bidder) -> None:
    """Record the runs that begin with claims, and what is remarked on them."""
    own = listed(link.dialect, _OWN, [_own(won, bid, bidder) for won, bid in claimed])
    columns = {name: own.c[name] for name in _OWN if name != "said"} | {"trigger": own.c.said} | _BEGUN
    columns |= {"caller": sa.literal(bidder.caller, sa.String), "owner": sa.literal(bidder.owner)}
    connection.execute(sa.insert(runs).from_select(list(columns), sa.select(*columns.values())))
    for won, bid in claimed:
        for remark in bid.remarks:
            facts = {"sentence": remark.sentence, **remark.facts}
            connection.execute(sa.insert(entries).values(run=won.run, at=link.moment, kind=remark.kind, facts=facts))


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


def _own(won: Won, bid: Bid, bidder: Bidder) -> Sequence[Any]:
    return won.run, won.job, bid.slot, (bid.trigger or bidder.trigger)[:20], won.fence, won.moment
