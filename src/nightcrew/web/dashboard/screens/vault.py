"""Vault: what was archived and can be put back; what an undo would do, and the undo itself."""

from functools import partial
from typing import Any

from nightcrew.archives.undone import Undo
from nightcrew.errors import UsageError
from nightcrew.web.dashboard.access import Permission
from nightcrew.web.dashboard.page import page, sorry
from nightcrew.web.dashboard.screens.start import attempted
from nightcrew.web.dashboard.views.vault import Archived, archived, reasons, shelf_mark, vault
from nightcrew.web.dashboard.visit import Answer, Visit, Way

_PATIENCE = 5.0  # seconds that a page looks what an undo would do
_GONE = "Nobody knows this run: what was archived of it, and its history, may have been cleared away."


def show(visit: Visit) -> Answer:
    """Show what is kept, run by run, the newest first."""
    before = visit.request.query.get("before", "")
    number = int(before) if before.isascii() and before.isdigit() and len(before) < 19 else None
    return page(visit, "vault.html", vault=vault(visit.crew, number), shelf_mark=shelf_mark)


def one(visit: Visit) -> Answer:
    """Show what is kept of one run, and what of it came back."""
    found = archived(visit.crew, visit.path["run"])
    return _page(visit, found) if found else sorry(visit, 404, "Nothing is kept", _GONE)


def look(visit: Visit) -> Answer:
    """Show what an undo would do: it reads what is archived, and holds it against the tables."""
    found = archived(visit.crew, visit.path["run"])
    if found is None:
        return sorry(visit, 404, "Nothing is kept", _GONE)
    return _page(visit, found, visit.crew.undo(found.run, longest=_PATIENCE))


def undo(visit: Visit) -> Answer:
    """Put the rows of a run back, having paused its job if that is asked for."""
    found, reason = archived(visit.crew, visit.path["run"]), visit.form.get("reason", "").strip()
    if found is None:
        return sorry(visit, 404, "Nothing is kept", _GONE)
    if visit.form.get("confirm", "").strip() != found.name:
        raise UsageError(f"the name that was typed is not {found.name!r}: nothing was put back")
    if not reason:
        raise UsageError("an undo needs a reason, for whoever finds the rows back: go back, and say why")
    if visit.form.get("pause") and visit.may(Permission.PAUSE) and found.job is not None:
        visit.crew.pause(found.name, by=visit.access.actor, reason=f"run {found.run} is undone: {reason}")
    asked = partial(visit.crew.undo, found.run, restore=True, by=visit.access.actor, reason=reason)
    done = attempted(visit, found.name, asked)
    return visit.go("vault", found.run, done="begun" if done is None else "undone")


def _page(visit: Visit, found: Archived, would: Undo | None = None) -> Answer:
    facts: dict[str, Any] = {"found": found, "would": would, "reasons": reasons(would) if would else []}
    done = visit.request.query.get("done")
    facts["begun"] = done == "begun" and found.kept is not None and found.kept.restored < found.kept.frames
    facts["done"] = done in ("begun", "undone") and not facts["begun"]
    return page(visit, "archive.html", shelf_mark=shelf_mark, **facts)


WAYS = (
    Way("GET", "/vault", show),
    Way("GET", "/vault/{run}", one),
    Way("POST", "/vault/{run}/look", look, Permission.UNDO),
    Way("POST", "/vault/{run}/undo", undo, Permission.UNDO),
)
