"""Letters for tests to send, and what a reader makes of a message."""

from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.header import decode_header, make_header
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import parseaddr

from nightcrew.mailer import Letter

SENDER = Address("Acme", "hello", "acme.example")
ANN = Address("Ann Smith", "ann", "example.com")
DATE = datetime(2024, 6, 15, 12, 30, tzinfo=UTC)


def letter(key: str = "welcome/day3:1", **other) -> Letter:
    """Return a letter, with whatever is to be other than usual."""
    usual = {
        "date": DATE, "sender": SENDER, "recipient": ANN, "subject": "Welcome", "text": "Hello Ann\n",
        "html": "<p>Hello Ann</p>\n",
    }  # fmt: skip
    return Letter(key=key, **{**usual, **other})


def read(content: bytes) -> EmailMessage:
    """Read a message as a mail program does, and see that nothing is wrong with it."""
    message = message_from_bytes(content, policy=policy.default)
    assert not [each.defects for each in message.walk() if each.defects]
    assert not [value.defects for each in message.walk() for value in each.values() if value.defects]
    return message


def said(content: bytes, header: str) -> str:
    """Return what a header says, by the parser that leaves no blank between two encoded words, as RFC 2047 has it."""
    return str(make_header(decode_header(message_from_bytes(content)[header])))


def person(content: bytes, header: str) -> tuple[str, str]:
    """Return the name and the address in a header."""
    name, spec = parseaddr(message_from_bytes(content)[header])
    return str(make_header(decode_header(name))), spec


def texts(message: EmailMessage) -> tuple[str, str]:
    """Return both texts of a message with the ends of their lines as Python has them."""
    text, html = message.iter_parts()
    assert (text.get_content_type(), html.get_content_type()) == ("text/plain", "text/html")
    return text.get_content().replace("\r\n", "\n"), html.get_content().replace("\r\n", "\n")
