"""Mail: what people are due, the folder that it goes to, the links in it, and what somebody wants of it."""

import re

from starlette.exceptions import HTTPException
from starlette.responses import Response

from nightcrew.delivery import NAME as JOB
from nightcrew.demo import preferences, verification
from nightcrew.demo.mailbox import Mailbox, Opened
from nightcrew.demo.mails import shown
from nightcrew.demo.visit import Visit, Way
from nightcrew.errors import NightcrewError
from nightcrew.outcome import Outcome

_PAGE = 12  # letters
_GONE = "There is no such mail in the folder."
_STALE = (
    "Nothing was changed: the link was cut off on its way, is older than seven days, or was made before the demo was"
    " last started. Sign in, and ask for another one with your e-mail settings."
)
_HEAD = re.compile(r"<head(\s[^>]*)?>", re.IGNORECASE)
_TO_A_NEW_TAB = '<base target="_blank">'
_FRAMED = {
    # No script, nothing fetched, no form: a stranger's page, whose only way out is a link to another tab.
    "Content-Security-Policy": (
        "sandbox allow-popups allow-popups-to-escape-sandbox; default-src 'none'; style-src 'unsafe-inline';"
        " img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    ),
    "Referrer-Policy": "no-referrer",
}


def show(visit: Visit) -> Response:
    """Show what is due to whom, and the letters in the folder."""
    here = visit.workspace
    box = Mailbox(here.mails.folder)
    names = box.names
    page, last = visit.turned_to(len(names), _PAGE)
    return visit.page(
        "mail.html",
        due=here.mails.due(),
        standings=here.mails.standings(here.data),
        shown=shown,
        letters=box.headings(names[(page - 1) * _PAGE : page * _PAGE]),
        total=len(names),
        folder=str(here.mails.folder),
        ticking=here.desk.ticking,
        number=page,
        last=last,
    )


def send(visit: Visit) -> Response:
    """Send what is due now, as the hourly job does."""
    try:
        report = visit.workspace.desk.run(JOB)
    except NightcrewError as error:
        return visit.go("/mail", "bad", str(error))
    return visit.go("/mail", "bad" if report.outcome is Outcome.FAILED else "good", report.message)


def letter(visit: Visit) -> Response:
    """Show one letter, its HTML in a frame of its own."""
    return visit.page("letter.html", letter=_opened(visit))


def framed(visit: Visit) -> Response:
    """Give the HTML of a letter to the frame, where it can do nothing but be read."""
    html = _opened(visit).html or ""
    head = _HEAD.search(html)
    at = head.end() if head else 0
    body = f"{html[:at]}{_TO_A_NEW_TAB}{html[at:]}" if head else f"<!doctype html>{_TO_A_NEW_TAB}{html}"
    return Response(body, media_type="text/html", headers=_FRAMED)


def raw(visit: Visit) -> Response:
    """Give the file of a letter, to be opened by a mail program."""
    content = Mailbox(visit.workspace.mails.folder).raw(visit.key)
    if content is None:
        raise HTTPException(404, _GONE)
    disposition = {"Content-Disposition": f'attachment; filename="{visit.key}.eml"'}
    return Response(content, media_type="message/rfc822", headers=disposition)


def ask_to_verify(visit: Visit) -> Response:
    """Show whose address a link confirms; it is confirmed by the button alone."""
    here = visit.workspace
    person = verification.claimed(here.data, here.mails.key, here.now(), _token(visit))
    facts = {"token": _token(visit), "stale": _STALE}
    return visit.page("verify.html", 200 if person else 404, whose=person, **facts)


def verify(visit: Visit) -> Response:
    """Note that an address is whose account it is."""
    here = visit.workspace
    person = verification.claimed(here.data, here.mails.key, here.now(), _token(visit))
    if person is None:
        return visit.page("verify.html", 404, whose=None, token="", stale=_STALE)
    verification.confirm(here.data, here.now(), person)
    said = f"{person.email} is confirmed. A welcome is on its way to it."
    return visit.go("/preferences" if visit.person else "/sign-in", said=said)


def ask_again(visit: Visit) -> Response:
    """Send the link by which an address is confirmed once more."""
    try:
        visit.workspace.mails.ask(visit.guest)
    except NightcrewError as error:
        return visit.go("/preferences", "bad", f"{error}.")
    return visit.go("/preferences", said=f"Another link is on its way to {visit.guest.email}.")


def prefer(visit: Visit) -> Response:
    """Show what somebody gets."""
    here = visit.workspace
    wanted = preferences.wanted(here.data, here.mails.mailing, visit.guest)
    left = preferences.left_by_link(here.mails.mailing, visit.guest)
    return visit.page("preferences.html", topics=preferences.TOPICS, wanted=wanted, left=left)


def choose(visit: Visit) -> Response:
    """Keep what somebody wants."""
    here = visit.workspace
    topics = {name for name in preferences.TOPICS if visit.form.get(name) == "yes"}
    preferences.choose(here.data, here.mails.mailing, visit.guest, topics)
    return visit.go("/preferences", said="Saved. It holds for every mail that has not left yet.")


def _opened(visit: Visit) -> Opened:
    found = Mailbox(visit.workspace.mails.folder).opened(visit.key)
    if found is None:
        raise HTTPException(404, _GONE)
    return found


def _token(visit: Visit) -> str:
    return str(visit.request.path_params["token"])


WAYS = (
    Way("GET", "/mail", show, open=True),
    Way("POST", "/mail/send", send, open=True, page="/mail"),
    Way("GET", "/mail/{id}", letter, open=True),
    Way("GET", "/mail/{id}/html", framed, open=True),
    Way("GET", "/mail/{id}/eml", raw, open=True),
    Way("GET", "/verify/{token}", ask_to_verify, open=True),
    Way("POST", "/verify/{token}", verify, open=True),
    Way("GET", "/preferences", prefer),
    Way("POST", "/preferences", choose),
    Way("POST", "/preferences/verify", ask_again, page="/preferences"),
)
