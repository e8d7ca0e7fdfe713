"""Bids → the claims that were won: one statement takes every slot that is still free."""

import json
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from nightcrew.books import Bid, Bidder, RunRow, Won
from nightcrew.databases.connect import Instant, micros
from nightcrew.databases.dialect import Dialect
from nightcrew.databases.tables import jobs
from nightcrew.outcome import State


def win(connection: sa.Connection, dialect: Dialect, bids: Sequence[Bid], bidder: Bidder, early: float) -> list[Won]:
    """Claim what is free of the slots that were bid for, up to so many seconds `early`."""
    asked = [
        {"job": bid.job, "slot": bid.slot and dialect.bid_instant(bid.slot), "run": bid.run, "fence": bid.fence}
        for bid in sorted(bids, key=lambda bid: bid.job)
    ]
    values = {
        "bids": json.dumps(asked),
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


def opened(won: Won, bid: Bid, bidder: Bidder) -> RunRow:
    """Return the run that begins with a claim, as the ledger records it."""
    return RunRow(
        id=won.run,
        job=won.job,
        slot=bid.slot,
        state=State.RUNNING,
        trigger=bidder.trigger[:20],
        caller=bidder.caller,
        fence=won.fence,
        owner=bidder.owner,
        moment=won.moment,
    )
