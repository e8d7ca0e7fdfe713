"""A Letter as the bytes of a whole message, and its addresses as whoever delivers mail wants them.

The standard library's own EmailMessage takes some 4 ms for a letter of two texts, ten times what is left to send it at
a server's pace: it parses every header that it is given. What a header cannot say as it is goes through its `Header`.
"""

import re
from base64 import encodebytes
from binascii import b2a_qp
from collections.abc import Iterator
from datetime import UTC
from email.header import Header
from email.headerregistry import Address
from email.utils import format_datetime
from functools import lru_cache
from textwrap import wrap

from nightcrew.errors import UsageError
from nightcrew.mailer import Letter

_LINE = 78  # characters of a header's line, as RFC 5322 2.1.1 advises
_LONGEST = 998  # octets of any line, as it commands
_LOCAL, _ADDRESS = 64, 254  # octets, by RFC 5321 4.5.3.1
_SHOWN = 250  # characters of a name, or of what a server said
SUBJECT = 1000
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_KEY = re.compile(r"[A-Za-z0-9_.:/-]{1,100}")
_WORDS = re.compile(r"[\w '&+-]+")
_HEADER = re.compile(r"[!-9;-~]{1,70}")  # RFC 5322 3.6.8
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DOMAIN = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")
_ID = str.maketrans({":": "=", ".": "+"})  # a Message-ID may have neither at will, and a key neither of those
_OURS = {"date", "from", "sender", "to", "cc", "bcc", "reply-to", "subject", "message-id", "mime-version"}
_BOUNDARY = "=_nightcrew"  # RFC 2045 6.7: no text that is encoded can have “=_” in it


def message(letter: Letter) -> bytes:
    """Write a letter as RFC 5322 and MIME have it, the text first, then the HTML; the same letter as the same bytes.

    One without HTML is a text and nothing else.

    It is of ASCII alone, unless an address has other characters before its `@`: RFC 6532 has these as they are.
    Control characters in names and in the subject are shown as blanks. Raises UsageError for what no message can say:
    they are in an address or in another header, which is refused, as is a header that the letter has itself.
    """
    head = "".join(f"{line}\r\n" for line in _headers(letter))
    if letter.html is None:
        return b"".join([head.encode(), _part("plain", letter.text), b"\r\n"])
    parts = (_part("plain", letter.text), _part("html", letter.html))
    ends = f"--{_BOUNDARY}\r\n".encode(), f"\r\n--{_BOUNDARY}\r\n".encode(), f"\r\n--{_BOUNDARY}--\r\n".encode()
    return b"".join([head.encode(), b"\r\n", ends[0], parts[0], ends[1], parts[1], ends[2]])


def mailbox(address: Address) -> str:
    """Return an address as `local@domain`, the domain in ASCII; raises UsageError where it can be none."""
    local = address.username
    if not local or _CONTROL.search(local) or len(_utf8(local)) > _LOCAL:
        raise UsageError("an address has nothing before its @ that could be a mailbox: correct it")
    whole = Address(username=local, domain=_domain(address.domain)).addr_spec
    if len(_utf8(whole)) > _ADDRESS:
        raise UsageError(f"an address has more than the {_ADDRESS} characters that RFC 5321 allows: correct it")
    return whole


def named(address: Address) -> str:
    """Return an address with the name of whose it is, for whoever writes headers themselves; raises UsageError."""
    name = one_line(address.display_name)
    if not name:
        return mailbox(address)
    return f"{name if _WORDS.fullmatch(name) else _quoted(name)} <{mailbox(address)}>"


def extra(letter: Letter) -> Iterator[tuple[str, str]]:
    """Return the headers beside the usual ones, each value on one line; raises UsageError for what can be none."""
    for name, value in letter.headers.items():
        if not _HEADER.fullmatch(name):
            raise UsageError(f"a header cannot be called {name[:40]!r}: write a name such as 'List-Unsubscribe'")
        if name.lower() in _OURS or name.lower().startswith("content-"):
            raise UsageError(f"header {name} is one that every letter has: leave it out of its headers")
        if _CONTROL.search(value) or not value.strip():
            raise UsageError(f"header {name} is empty or has a control character in it: write its value on one line")
        yield name, " ".join(value.split())


def checked(letter: Letter) -> Letter:
    """Return a letter whose key and date can be said; raises UsageError for another."""
    if not _KEY.fullmatch(letter.key):
        raise UsageError("a letter's key has to be of 1 to 100 letters, digits, '-', '_', '.', ':' and '/'")
    if letter.date.tzinfo is None:
        raise UsageError("a letter's date has to be aware: give it a time zone")
    return letter


def one_line(text: str, most: int = _SHOWN) -> str:
    """Return a text as one line without control characters, cut where it has more than so many others."""
    line = _CONTROL.sub(" ", text[: 2 * most]).encode("utf-8", "replace").decode().strip()
    return line if len(line) <= most else f"{line[: most - 1]}…"


def _headers(letter: Letter) -> Iterator[str]:
    sender = checked(letter).sender
    yield f"Date: {format_datetime(letter.date.astimezone(UTC))}"
    yield _person("From", sender)
    yield _person("To", letter.recipient)
    if letter.reply_to is not None:
        yield _person("Reply-To", letter.reply_to)
    yield _words("Subject", one_line(letter.subject, SUBJECT))
    yield f"Message-ID: <{letter.key.translate(_ID)}@{_domain(sender.domain)}>"
    for name, value in extra(letter):
        yield _other(name, value)
    yield "MIME-Version: 1.0"
    if letter.html is not None:
        yield f'Content-Type: multipart/alternative; boundary="{_BOUNDARY}"'


def _person(header: str, address: Address) -> str:
    name, spec = one_line(address.display_name), mailbox(address)
    if not name:
        return f"{header}: {spec}"
    line = f"{header}: {_quoted(name)} <{spec}>"
    return line if _is_plain(name, line) else f"{_encoded(header, name)}\r\n <{spec}>"


def _words(header: str, text: str) -> str:
    line = f"{header}: {text}"
    return line if _is_plain(text, line) else _encoded(header, text)


def _is_plain(text: str, line: str) -> bool:
    """Tell whether a line may say a text as it is: it fits, and nobody takes the text for an encoded one."""
    return text.isascii() and "=?" not in text and len(line) <= _LINE


def _other(header: str, value: str) -> str:
    """Write a header that may have a grammar of its own: what is ASCII is folded at its blanks, and not encoded."""
    if not value.isascii():
        return _encoded(header, value)
    if len(line := f"{header}: {value}") <= _LINE:
        return line
    lines = wrap(
        value,
        _LINE,
        initial_indent=f"{header}: ",
        subsequent_indent=" ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    if max(map(len, lines)) >= _LONGEST:
        raise UsageError(f"header {header} has more than {_LONGEST} characters without a blank: shorten it")
    return "\r\n".join(lines)


@lru_cache(256)  # senders and subjects are the same in many letters, and this takes longer than all the rest
def _encoded(header: str, text: str) -> str:
    """Write a header in the encoded words of RFC 2047, as many lines of them as it needs."""
    words = Header(text, "utf-8", header_name=header).encode(linesep="\r\n")
    return f"{header}: {words}"


def _quoted(name: str) -> str:
    return '"' + re.sub(r'([\\"])', r"\\\1", name) + '"'


def _part(subtype: str, text: str) -> bytes:
    """Write a text as a part of its own, in whichever encoding is shorter."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    data = lines.replace("\n", "\r\n").encode("utf-8", "replace")
    # Without a line's end in sight it would not know which it is to break lines with.
    body, encoding = b2a_qp(data + b"\r\n")[:-2], "quoted-printable"
    if len(body) > 4 * len(data) // 3 and len(other := encodebytes(data).replace(b"\n", b"\r\n")[:-2]) < len(body):
        body, encoding = other, "base64"
    head = f'Content-Type: text/{subtype}; charset="utf-8"\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n'
    return head.encode() + body


def _domain(domain: str) -> str:
    """Return a domain in ASCII.

    The standard library knows the names of 2003, by which some letters are others, and so some domains those of
    somebody else: one that does not come back as it was is refused.
    """
    known = domain
    try:
        if not domain.isascii():
            known = domain.encode("idna").decode("ascii")
            if known.encode("ascii").decode("idna") != domain.lower():
                known = ""
    except UnicodeError:
        known = ""
    if not _DOMAIN.fullmatch(known):
        raise UsageError(f"an address has a domain that can be none, {domain[:60]!r}: correct it, or write it as xn--…")
    return known


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise UsageError("an address has half of a character in it: correct it") from None
