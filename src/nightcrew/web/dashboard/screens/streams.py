"""Streams: the answers that are being written, and the end of one, or of those that nobody writes any more."""

from datetime import UTC, datetime

from nightcrew.acts import Act
from nightcrew.errors import UsageError
from nightcrew.tending import Tending, said
from nightcrew.web.dashboard.access import Permission
from nightcrew.web.dashboard.page import page
from nightcrew.web.dashboard.visit import Answer, Visit, Way

_SHOWN = 200
_NOTICES = {
    "stopped": "It was asked to stop, and what it has so far is saved.",
    "over": "It had ended by itself.",
    "swept": "What nobody writes any more has been ended, and saved if the application says how.",
}


def show(visit: Visit) -> Answer:
    """Show the live streams, the oldest first."""
    live = _tending(visit).live(limit=_SHOWN + 1)
    begun = {one.ref.id: datetime.fromtimestamp(one.started, UTC) for one in live}
    notice = _NOTICES.get(visit.request.query.get("done", ""))
    return page(visit, "streams.html", live=live[:_SHOWN], whole=len(live) <= _SHOWN, begun=begun, notice=notice)


def stop(visit: Visit) -> Answer:
    """Ask one to stop."""
    chat, stream = visit.form.get("chat", ""), visit.form.get("stream", "")
    if not (chat and stream):
        raise UsageError("a stream is stopped by its chat and its ID: use the button beside it")
    tending = _tending(visit)
    visit.crew.acts.keep(Act(visit.access.actor, "stop stream", reason=f"stream {stream[:60]}"))
    live = tending.stop(chat, stream, by=visit.access.actor)
    return visit.go("streams", done="stopped" if live else "over")


def sweep(visit: Visit) -> Answer:
    """End what nobody writes, and save it."""
    tending = _tending(visit)
    visit.crew.acts.keep(Act(visit.access.actor, "sweep streams"))
    found = tending.reap()
    if found.unsaved:
        raise UsageError(f"{said(found)[:-1]}: {found.reason or 'nobody says how: see [streams] persist'}")
    return visit.go("streams", done="swept")


def _tending(visit: Visit) -> Tending:
    if visit.crew.streams is None:
        raise UsageError("this crew knows of no streams; say where they are kept in a table [streams]")
    return visit.crew.streams


WAYS = (
    Way("GET", "/streams", show),
    Way("POST", "/streams/stop", stop, Permission.CLEAR_STREAM),
    Way("POST", "/streams/sweep", sweep, Permission.CLEAR_STREAM),
)
