"""The pages where a person leaves a topic, and comes back to it: a Request in, a Response out, no framework.

Whoever holds a link may look at its page, and programs that look at every link in a mail do so: GET changes nothing.
POST acts, whatever its body, whether a person pressed the button or their mail program did (RFC 8058); the body is not
read at all. Nothing is answered by a redirect, which such programs do not follow.
"""

from dataclasses import dataclass
from urllib.parse import parse_qsl

from nightcrew.errors import DatabaseError
from nightcrew.trigger import Choices, Roster
from nightcrew.triggers.http import Response
from nightcrew.triggers.page import Button, page
from nightcrew.triggers.request import Request
from nightcrew.unsubscribe import PATH, read

_DO, _UNDO = "leave", "undo"  # the queries of what the buttons post; without one, a POST leaves
_LEAVE, _RETURN = Button("Unsubscribe", _DO), Button("Subscribe again", _UNDO, quiet=True)
UNKNOWN = page(
    404,
    "This link does not work",
    "Nothing was changed. It may have been cut off on its way here: open the last mail that we sent you, and use the"
    " unsubscribe link in it.",
)
"""What every link is answered that was not made here, whatever is wrong with it."""
NOT_ALLOWED = page(
    405, "Nothing happens here", "This address can be opened, and its button pressed.", (b"allow", b"GET, HEAD, POST")
)


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants who holds a genuine link: to leave a topic, or to come `back` to it."""

    person: str
    topic: str
    back: bool


class Leaving:
    """The pages of one crew: first what is asked for, then, if it is to act, acting.

    `look` is quick and touches nothing; `grant` writes to the database. Without mail, no path is one of its pages.
    """

    def __init__(self, roster: Roster) -> None:
        self._roster = roster

    @property
    def _mail(self) -> Choices | None:
        return self._roster.mail

    def owns(self, path: str) -> bool:
        """Whether a path is one of a link, genuine or not."""
        return path.startswith(PATH) and self._mail is not None

    def answer(self, request: Request) -> Response:
        """Answer a call from beginning to end."""
        seen = self.look(request)
        return seen if isinstance(seen, Response) else self.grant(seen)

    def look(self, request: Request) -> Response | Wish:
        """Return the page for whoever looks, or what they want who press its button."""
        if request.method not in ("GET", "HEAD", "POST"):
            return NOT_ALLOWED
        token = request.path.removeprefix(PATH).removesuffix("/")
        known = read(self._mail.unsubscribe_keys, token) if self._mail else None
        if known is None:
            return UNKNOWN
        person, topic = known
        if request.method == "POST":
            asked = parse_qsl(request.query.decode("latin-1"), keep_blank_values=True)
            return Wish(person, topic, back=(_UNDO, "") in asked)
        return page(
            200, "No more “{topic}” mail?", "One click, and it stops. Nothing else changes.", topic=topic, button=_LEAVE
        )

    def grant(self, wish: Wish) -> Response:
        """Do what is wanted; the page says whether that is done, or that nothing was."""
        assert self._mail is not None  # noqa: S101 - nobody holds a wish without
        act = self._mail.opt_in if wish.back else self._mail.opt_out
        try:
            act(wish.person, wish.topic)
        except Exception as error:  # noqa: BLE001 - whoever wants to leave must hear that they have not
            self._roster.tell("opt_failed", topic=wish.topic, back=wish.back, error=error)
            return _failed(wish, error)
        if wish.back:
            return page(
                200, "You are subscribed again", "“{topic}” mail will reach you as before.",
                topic=wish.topic, button=Button("Unsubscribe", _DO, quiet=True),
            )  # fmt: skip
        return page(
            200,
            "You are unsubscribed",
            "You will get no more “{topic}” mail; one that is on its way already may still arrive. Was it a mistake?",
            topic=wish.topic,
            button=_RETURN,
        )


def _failed(wish: Wish, error: Exception) -> Response:
    again = Button("Try again", _UNDO if wish.back else _DO)
    if isinstance(error, DatabaseError):
        text = "Nothing was changed, for our database does not answer. Please try again in a minute."
        return page(503, "Not just now", text, (b"retry-after", b"60"), button=again)
    text = "Nothing was changed. It is our fault, and we have been told of it; trying again may help all the same."
    return page(500, "Something broke", text, button=again)
