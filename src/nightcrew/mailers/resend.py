"""Resend: letters are handed over by its HTTP API, each with a key under which it is sent once.

What it answers is written at resend.com/docs/api-reference/errors, of keys at …/dashboard/emails/idempotency-keys.
"""

import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from threading import Event

from nightcrew.censor import Censor
from nightcrew.clock import Clock
from nightcrew.errors import MailerError, UsageError
from nightcrew.mailer import Delivery, Fate, Letter
from nightcrew.mailers.address import Place
from nightcrew.mailers.mime import SUBJECT, checked, extra, mailbox, named, one_line

_CONNECT, _ANSWER = 10.0, 30.0  # seconds
_MOST = 65536  # octets of an answer
_TRIES = 5  # where it says that letters come too fast
_PATIENCE = 5  # seconds that it may ask to be left alone, each time; its limits are per second
_ABOUT_US = {"invalid_from_address", "invalid_api_key", "daily_quota_exceeded", "monthly_quota_exceeded"}
_LATER = {408, 425, 429, 503}
_UNTOLD = "concurrent_idempotent_requests"


class Resend:
    """Resend, or what answers as it does, at a place; `secret` is the API key. Redirects are not followed.

    It knows a letter's key for 24 hours: within these a letter that was handed over again is sent once.
    """

    idempotent = True

    def __init__(self, place: Place, clock: Clock, *, secret: str, limit: float = _ANSWER) -> None:
        self.place = str(place)
        self._place = place
        self._clock = clock
        self._secret = secret
        self._limit = limit

    @contextmanager
    def connect(self) -> Iterator["Line"]:
        """Open a connection; raises MailerError."""
        line = Line(self._place, self._clock, self._secret, self._limit)
        try:
            yield line
        finally:
            line.close()


@dataclass(frozen=True, slots=True)
class _Answer:
    """What was answered: a status, the name of an error, what it says, and in how many seconds to ask again."""

    status: int
    name: str
    message: str
    retry_after: float

    def __str__(self) -> str:
        return " ".join(filter(None, [str(self.status), self.name, self.message]))


class Line:
    """A line to Resend, over one connection after the other."""

    def __init__(self, place: Place, clock: Clock, secret: str, limit: float) -> None:
        self._place = place
        self._clock = clock
        self._secret = secret
        self._limit = limit
        self._censor = Censor(secret)
        self._connection: HTTPConnection = (
            HTTPSConnection(place.host, place.port, timeout=_CONNECT, context=ssl.create_default_context())
            if place.encrypted
            else HTTPConnection(place.host, place.port, timeout=_CONNECT)
        )
        self._open()

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def deliver(self, letter: Letter) -> Delivery:
        """Hand a letter over; raises MailerError where none could be handed over now.

        Where it says that letters come too fast, this waits as long as it is asked to, a few seconds at most.
        """
        try:
            content, recipient = _written(letter), mailbox(letter.recipient)
        except UsageError as error:
            return Delivery(Fate.REFUSED, str(error))
        for tried in range(1, _TRIES + 1):
            try:
                answer = self._asked(content, letter.key)
            except (OSError, HTTPException) as error:
                self._connection.close()
                return Delivery(Fate.UNANSWERED, f"it did not answer ({self._told(error) or type(error).__name__})")
            if answer.name != "rate_limit_exceeded" or answer.retry_after > _PATIENCE or tried == _TRIES:
                break
            self._clock.wait(Event(), answer.retry_after)
        said = self._told(str(answer).replace(recipient, "…"))
        if (fate := _fate(answer)) is None:
            raise self._error(
                f"takes no letter: see its API key, its quota and the sender's domain; it answered {said!r}"
            )
        return Delivery(fate, said)

    def _asked(self, content: bytes, key: str) -> _Answer:
        """Ask, once more over a new connection where the one that was open has been closed meanwhile."""
        while True:
            was_open = self._connection.sock is not None
            if not was_open:
                self._open()
            try:
                return self._answer(content, key)
            except TimeoutError:
                raise
            except (OSError, HTTPException):
                if not was_open:
                    raise
                self._connection.close()

    def _answer(self, content: bytes, key: str) -> _Answer:
        headers = {
            "Authorization": f"Bearer {self._secret}",
            "Content-Type": "application/json",
            "User-Agent": "nightcrew",
            "Idempotency-Key": key,
        }
        self._connection.request("POST", "/emails", content, headers)
        response = self._connection.getresponse()
        body = response.read(_MOST)
        if not response.isclosed():  # there is more, which would be taken for the next answer
            self._connection.close()
        return _read(response.status, body, response.headers.get("Retry-After", ""))

    def _open(self) -> None:
        try:
            self._connection.connect()
            self._connection.sock.settimeout(self._limit)
        except ssl.SSLCertVerificationError as error:
            raise self._error(
                f"has a certificate that does not prove who it is ({error.verify_message}): see its URL"
            ) from error
        except OSError as error:
            self._connection.close()
            raise self._error(
                f"cannot be reached ({error.strerror or error}): see that the network lets it be", transient=True
            ) from error

    def _told(self, said: object) -> str:
        return one_line(self._censor(str(said)))

    def _error(self, what: str, *, transient: bool = False) -> MailerError:
        return MailerError(f"{self._place} {what}", transient=transient)


def _written(letter: Letter) -> bytes:
    """Write a letter as JSON; raises UsageError for what no message can say."""
    checked(letter)
    fields = {
        "from": named(letter.sender),
        "to": [named(letter.recipient)],
        "subject": one_line(letter.subject, SUBJECT),
        "text": letter.text,
        "headers": dict(extra(letter)),
    }
    if letter.html is not None:
        fields["html"] = letter.html
    if letter.reply_to is not None:
        fields["reply_to"] = named(letter.reply_to)
    return json.dumps(fields, ensure_ascii=False).encode("utf-8", "replace")


def _read(status: int, body: bytes, retry_after: str) -> _Answer:
    """Read an answer, which may be anything where it is not Resend's."""
    try:
        fields = json.loads(body)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        fields = {"message": body[:_MOST].decode("utf-8", "replace")}
    message = fields.get("message") or fields.get("id") or ""
    wait = float(retry_after) if retry_after.isdecimal() else 1.0
    return _Answer(status, str(fields.get("name") or ""), str(message), wait)


def _fate(answer: _Answer) -> Fate | None:
    """Return what becomes of a letter by an answer, or None where it is about all that we send."""
    if 200 <= answer.status < 300:
        return Fate.SENT
    if answer.name == "invalid_idempotent_request":  # another letter had this key before, and may have been sent
        return Fate.MAYBE_SENT
    if answer.status < 400 or answer.status in {401, 403, 404, 405} or answer.name in _ABOUT_US:
        return None
    if answer.status == 400 and "api key" in answer.message.casefold():  # it has no name of its own there
        return None
    if answer.status in _LATER:
        return Fate.DEFERRED
    untold = answer.status >= 500 or answer.name == _UNTOLD  # it may have begun with the letter
    return Fate.UNANSWERED if untold else Fate.REFUSED
