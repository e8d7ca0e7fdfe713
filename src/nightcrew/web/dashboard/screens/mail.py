"""Mail: what is due, what a person has to look at, to whom nothing is sent, and how each step reads."""

from typing import Any

from nightcrew.errors import UsageError
from nightcrew.sent import RETRIED, State
from nightcrew.web.dashboard.access import Permission
from nightcrew.web.dashboard.crew import Post
from nightcrew.web.dashboard.page import page
from nightcrew.web.dashboard.visit import Answer, Visit, Way

_SHOWN = 50
_NOTICES = {
    "retried": "It is tried again from now on.",
    "over": "It is not tried again: it was sent meanwhile, or whoever it is for wants no more of them.",
}


def show(visit: Visit) -> Answer:
    """Show what is due and what is doubtful, some of each; nothing is counted."""
    post = _post(visit)
    due = post.due(limit=_SHOWN + 1)
    odd = post.of_state(State.MAYBE_SENT, State.FAILED, limit=_SHOWN + 1)
    silent = post.suppressions(limit=_SHOWN + 1)
    lists: dict[str, list[Any]] = {"due": due, "odd": odd, "silent": silent}
    facts: dict[str, Any] = {name: rows[:_SHOWN] for name, rows in lists.items()}
    facts["more"] = {name for name, rows in lists.items() if len(rows) > _SHOWN}
    notice = _NOTICES.get(visit.request.query.get("done", ""))
    return page(visit, "mail.html", sequences=post.mail.sequences, notice=notice, **facts)


def preview(visit: Visit) -> Answer:
    """Show a step as somebody invented would get it now; nothing is sent."""
    sequence, step = visit.path["sequence"], visit.path["step"]
    letter = _post(visit).preview(sequence, step)
    return page(visit, "letter.html", sequence=sequence, step=step, letter=letter)


def retry(visit: Visit) -> Answer:
    """Let one mail be tried again."""
    number = visit.form.get("mail", "")
    if not (number.isascii() and number.isdigit() and len(number) < 19):
        raise UsageError("a mail is tried again by its number: use the button beside it")
    again = _post(visit).retry([int(number)], states=RETRIED, by=visit.access.actor)
    return visit.go("mail", done="retried" if again else "over")


def _post(visit: Visit) -> Post:
    if visit.crew.mail is None:
        raise UsageError("nobody says how mail is sent: write a table [mail], as docs/mail.md shows")
    return visit.crew.mail


WAYS = (
    Way("GET", "/mail", show),
    Way("GET", "/mail/{sequence}/{step}", preview),
    Way("POST", "/mail/retry", retry, Permission.SEND_MAIL),
)
