"""Signing up, in and out; leaving, and coming back."""

from sqlalchemy import select
from starlette.responses import Response

from nightcrew.demo import accounts, timemachine
from nightcrew.demo.accounts import Refused
from nightcrew.demo.people import PASSWORD
from nightcrew.demo.schema import users
from nightcrew.demo.visit import SESSION, Visit, Way
from nightcrew.errors import NightcrewError


def ask_in(visit: Visit) -> Response:
    """Show the sign-in form, with two people of the seed to look in as."""
    if visit.person:
        return visit.go("/chats")
    return _sign_in_page(visit, visit.asked("email"))


def let_in(visit: Visit) -> Response:
    """Sign in; who is deactivated is asked whether to come back, and stays out until they say so."""
    email = visit.form.get("email", "")
    try:
        person = accounts.proven(visit.workspace.data, email, visit.form.get("password", ""))
        if person.deactivated_at:
            return _reactivation_page(visit, email, person)
        token = accounts.sign_in(visit.workspace.data, visit.workspace.now(), person)
    except Refused as refusal:
        return _sign_in_page(visit, email, str(refusal))
    return visit.come_in(token, "/chats", f"Welcome back, {person.name}.")


def come_back(visit: Visit) -> Response:
    """Reactivate an account, by its password once more."""
    email = visit.form.get("email", "")
    try:
        person = accounts.proven(visit.workspace.data, email, visit.form.get("password", ""))
    except Refused as refusal:
        return visit.page("reactivate.html", 422, email=email, leaver=None, ends=None, error=str(refusal))
    try:
        token = accounts.reactivate(visit.workspace.data, visit.workspace.now(), person)
    except Refused as refusal:
        return _sign_in_page(visit, email, str(refusal))
    return visit.come_in(token, "/chats", "Your account is active again, with everything in it.")


def ask_up(visit: Visit) -> Response:
    """Show the sign-up form."""
    return visit.page("sign_up.html", name="", email="", error=None)


def join(visit: Visit) -> Response:
    """Open an account, enrol it for the welcome mails, and sign in; the address is asked to confirm itself."""
    name, email, password = (visit.form.get(key, "") for key in ("name", "email", "password"))
    here, moment = visit.workspace, visit.workspace.now()
    try:
        person = accounts.sign_up(here.data, moment, name, email, password, here.mails.enroll)
        token = accounts.sign_in(here.data, moment, person)
    except Refused as refusal:
        return visit.page("sign_up.html", 422, name=name, email=email, error=str(refusal))
    said = f"Welcome, {person.name}."
    try:
        here.mails.ask(person)
    except NightcrewError as error:
        said = f"{said} But {error}."
    return visit.come_in(token, "/chats", said)


def sign_out(visit: Visit) -> Response:
    """End this browser's session."""
    accounts.sign_out(visit.workspace.data, visit.request.cookies.get(SESSION, ""))
    return visit.leave("/sign-in", "You are signed out.")


def settings(visit: Visit) -> Response:
    """Show the account and the way out of it."""
    return _settings_page(visit)


def deactivate(visit: Visit) -> Response:
    """Deactivate the account, which ends every session."""
    try:
        category, reason = visit.form.get("category", ""), visit.form.get("reason", "")
        here = visit.workspace
        accounts.deactivate(here.data, here.now(), visit.guest, category, reason, here.mails.cancel)
    except Refused as refusal:
        return _settings_page(visit, str(refusal))
    days = accounts.GRACE.days
    return visit.leave("/sign-in", f"Your account is deactivated. Sign in within {days} days to bring it back.")


def _sign_in_page(visit: Visit, email: str, error: str | None = None) -> Response:
    with visit.workspace.data.reading() as connection:
        seeded = users.c.created_at <= timemachine.end_of_the_year(connection)
        people = select(users.c.name, users.c.email).where(seeded).limit(1)
        here = people.where(users.c.deactivated_at.is_(None)).order_by(users.c.last_active_at.desc())
        left = people.where(users.c.deactivated_at.is_not(None)).order_by(users.c.deactivated_at.desc())
        known = {name: connection.execute(one).one_or_none() for name, one in (("here", here), ("left", left))}
    return visit.page("sign_in.html", 422 if error else 200, email=email, error=error, password=PASSWORD, **known)


def _settings_page(visit: Visit, error: str | None = None) -> Response:
    written = {"category": visit.form.get("category"), "reason": visit.form.get("reason", "")}
    facts = {"categories": accounts.CATEGORIES, "grace": accounts.GRACE, "longest": accounts.LONGEST_REASON}
    return visit.page("settings.html", 422 if error else 200, error=error, **written, **facts)


def _reactivation_page(visit: Visit, email: str, person: accounts.Person) -> Response:
    ends = person.deactivated_at and person.deactivated_at + accounts.GRACE
    return visit.page("reactivate.html", email=email, leaver=person, ends=ends, error=None)


WAYS = (
    Way("GET", "/sign-in", ask_in, open=True),
    Way("POST", "/sign-in", let_in, open=True),
    Way("POST", "/reactivate", come_back, open=True, page="/sign-in"),
    Way("GET", "/sign-up", ask_up, open=True),
    Way("POST", "/sign-up", join, open=True),
    Way("POST", "/sign-out", sign_out),
    Way("GET", "/settings", settings),
    Way("POST", "/settings/deactivate", deactivate, page="/settings"),
)
