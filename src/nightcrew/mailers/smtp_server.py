"""A server of SMTP is called, and says what it can do; what is said after that is encrypted, and somebody logged in."""

import re
import socket
import ssl
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass

from nightcrew.censor import Censor
from nightcrew.clock import Clock
from nightcrew.errors import MailerError
from nightcrew.mailers.address import Place
from nightcrew.mailers.mime import one_line
from nightcrew.mailers.smtp_dialogue import Broken, Dialogue, Reply

_HOST = re.compile(r"(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z0-9-]{1,63}")


@dataclass(frozen=True, slots=True)
class Limits:
    """How many seconds a server has: to be reached, to answer a command, and to take a letter or answer for it.

    RFC 5321 4.5.3.2 has clients wait for minutes. But a run that mails hangs on every answer, servers that take mail
    from applications give theirs within seconds, and a letter that was put off for one that came too late is tried
    again. The last is longer: whoever gives up there does not know what became of the letter.
    """

    connect: float = 10
    command: float = 30
    end: float = 60


class Server:
    """Where mail goes, and who logs in there; opens connections to it."""

    def __init__(self, place: Place, secret: str | None, clock: Clock, limits: Limits) -> None:
        self._place = place
        self._secret = secret or ""
        self._clock = clock
        self.limits = limits
        self._tls = ssl.create_default_context() if place.encrypted else None
        self._token = _base64(f"\0{place.user}\0{self._secret}")
        self._censor = Censor(secret, self._token.rstrip("="), _base64(self._secret).rstrip("="))

    def told(self, said: object) -> str:
        """Return what a server said in one line, without the secret."""
        return one_line(self._censor(str(said)))

    def opened(self) -> "Session":
        """Open a connection; raises MailerError where none can be had."""
        try:
            connection = socket.create_connection((self._place.host, self._place.port), self.limits.connect)
        except OSError as error:
            raise self.error(
                f"cannot be reached ({error.strerror or error}): see that it runs, and that its URL is right",
                transient=True,
            ) from error
        dialogue = Dialogue(connection, self._clock)
        try:
            return self._introduced(dialogue)
        except Broken as broken:
            dialogue.close()
            raise self.error(f"cannot be talked to: {broken}", transient=True) from broken
        except BaseException:
            dialogue.close()
            raise

    def _introduced(self, dialogue: Dialogue) -> "Session":
        if self._place.kind == "smtps":
            self._encrypt(dialogue)
        self._demand(dialogue.hear(self.limits.command), 220, "does not take mail from here now")
        offers = self._hello(dialogue)
        if self._place.kind == "smtp" and self._place.encrypted:
            if "STARTTLS" not in offers:
                raise self.error(
                    "does not offer to encrypt (STARTTLS), or somebody in between hides that it does: use smtps:// if"
                    " it can, or add ?starttls=off if it need not"
                )
            self._demand(self._ask(dialogue, "STARTTLS"), 220, "does not encrypt now")
            self._encrypt(dialogue)
            offers = self._hello(dialogue)
        if self._place.user:
            self._log_in(dialogue, offers.get("AUTH", "").upper().split())
        return Session(dialogue, offers, self._clock.monotonic())

    def _hello(self, dialogue: Dialogue) -> Mapping[str, str]:
        """Introduce ourselves, and return what it offers, by keyword."""
        reply = self._demand(self._ask(dialogue, f"EHLO {_name(dialogue)}"), 250, "does not let us introduce ourselves")
        return {keyword.upper(): rest for keyword, _, rest in (line.partition(" ") for line in reply.lines[1:])}

    def _encrypt(self, dialogue: Dialogue) -> None:
        assert self._tls is not None  # noqa: S101 - for the type checker: it is encrypted, or this is not called
        try:
            dialogue.encrypt(self._tls, self._place.host, self.limits.connect)
        except ssl.SSLCertVerificationError as error:
            raise self.error(
                f"has a certificate that does not prove who it is ({error.verify_message}): call it by the name that is"
                " in it, or where it is by an authority of your own, name a file with that one's in SSL_CERT_FILE"
            ) from error
        except ssl.SSLError as error:
            if isinstance(error, ssl.SSLEOFError):
                raise Broken("the server hung up when it was to encrypt") from error
            raise self.error(
                f"does not speak TLS there ({error.reason or error}): smtps:// is for ports that begin with it, such as"
                " 465, and smtp:// for others, such as 587"
            ) from error
        except OSError as error:
            raise Broken(f"the connection broke while it was encrypted ({error.strerror or error})") from error

    def _log_in(self, dialogue: Dialogue, ways: list[str]) -> None:
        refused = "refused the login: see its user and its secret"
        if "PLAIN" in ways:
            reply = self._ask(dialogue, f"AUTH PLAIN {self._token}")
        elif "LOGIN" in ways:
            self._demand(self._ask(dialogue, "AUTH LOGIN"), 334, refused)
            self._demand(self._ask(dialogue, _base64(self._place.user or "")), 334, refused)
            reply = self._ask(dialogue, _base64(self._secret))
        else:
            offered = one_line(", ".join(ways)) or "none"
            raise self.error(f"offers no way to log in that is known here (PLAIN or LOGIN), but {offered}")
        self._demand(reply, 235, refused)

    def _ask(self, dialogue: Dialogue, command: str) -> Reply:
        dialogue.say(f"{command}\r\n".encode(), self.limits.command)
        return dialogue.hear(self.limits.command)

    def _demand(self, reply: Reply, code: int, otherwise: str) -> Reply:
        if reply.code != code:
            raise self.error(f"{otherwise}; it answered {self.told(reply)!r}", transient=reply.code < 500)
        return reply

    def error(self, what: str, *, transient: bool = False) -> MailerError:
        """Return the error for a server with which something is the matter whatever the letter."""
        return MailerError(f"mail server {self._place} {what}", transient=transient)


@dataclass(slots=True)
class Session:
    """A server that is ready for letters, what it `offers` by keyword, and how many it has had, the last of them when.

    That instant is a monotonic one.
    """

    dialogue: Dialogue
    offers: Mapping[str, str]
    used_at: float
    letters: int = 0


def _name(dialogue: Dialogue) -> str:
    """Return what a client calls itself: the machine's full name, or else its address, by RFC 5321 4.1.3."""
    host, here = socket.gethostname(), dialogue.here.partition("%")[0]
    if _HOST.fullmatch(host):
        return host
    return f"[IPv6:{here}]" if ":" in here else f"[{here}]"


def _base64(text: str) -> str:
    return b64encode(text.encode()).decode("ascii")
