"""Preferences: which mail people want, as they said on a page; what they said by a link in a mail is the crew's."""

from collections.abc import Collection, Mapping

from sqlalchemy import select

from nightcrew.demo.accounts import Person
from nightcrew.demo.database import Data
from nightcrew.demo.mails import WELCOME
from nightcrew.demo.schema import user_email_preferences
from nightcrew.mailing import Mailing

TOPICS: Mapping[str, tuple[str, str]] = {
    "welcome_emails": ("Welcome mails", "At most three, in your first week."),
    "product_updates": ("Product updates", "When something new is worth a line. This demo has none."),
    "marketing_emails": ("Offers", "Off, unless you want them. This demo has none of these, either."),
}
_table = user_email_preferences


def wanted(data: Data, mailing: Mailing, person: Person) -> set[str]:
    """Return what somebody gets, by the names of TOPICS: who has left the welcome mails by their link has left them."""
    theirs = select(*(_table.c[name] for name in TOPICS)).where(_table.c.user_id == person.id)
    with data.reading() as connection:
        row = connection.execute(theirs).mappings().one_or_none()
    chosen = {name for name in TOPICS if row is not None and row[name]}
    return chosen - {"welcome_emails"} if left_by_link(mailing, person) else chosen


def left_by_link(mailing: Mailing, person: Person) -> bool:
    """Tell whether somebody has unsubscribed from the welcome mails by the link in one."""
    return bool({WELCOME.name, ""} & set(mailing.opted_out(person.id)))


def choose(data: Data, mailing: Mailing, person: Person, topics: Collection[str]) -> None:
    """Write what somebody wants; who wants the welcome mails again comes back to them whichever way they left."""
    with data.writing() as connection:
        said = {name: name in topics for name in TOPICS}
        connection.execute(_table.update().where(_table.c.user_id == person.id).values(said))
    if "welcome_emails" in topics:
        for topic in (WELCOME.name, ""):
            mailing.opt_in(person.id, topic)
