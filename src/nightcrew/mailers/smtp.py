"""SMTP (RFC 5321): letters are handed to a server that delivers them, many over one connection."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import NamedTuple

from nightcrew.clock import Clock
from nightcrew.errors import UsageError
from nightcrew.mailer import Delivery, Fate, Letter
from nightcrew.mailers.address import Place
from nightcrew.mailers.mime import mailbox, message
from nightcrew.mailers.smtp_dialogue import Broken, Reply
from nightcrew.mailers.smtp_fate import Step, fate
from nightcrew.mailers.smtp_server import Limits, Server, Session

_MOST = 100  # letters over one connection; a server that allows fewer says 421 or hangs up, which costs no letter
_IDLE = 60.0  # seconds after which whatever lies between may have forgotten a connection without a word
_QUIT = 2.0  # seconds a server has to say goodbye
_END = b".\r\n"
_GO = 354
_CLOSING = 421
_ALWAYS = Limits()


class Smtp:
    """A server of SMTP, whose certificate is verified; where its URL names a user, `secret` is their password.

    A letter is sent by its last line, a dot. One that was not answered after it is maybe sent, and one before it not.
    """

    idempotent = False

    def __init__(self, place: Place, clock: Clock, *, secret: str | None = None, limits: Limits = _ALWAYS) -> None:
        self.place = str(place)
        self._server = Server(place, secret, clock, limits)
        self._clock = clock

    @contextmanager
    def connect(self) -> Iterator["Line"]:
        """Open a connection; raises MailerError where none can be had."""
        line = Line(self._server, self._clock)
        try:
            yield line
        finally:
            line.close()


class _Envelope(NamedTuple):
    """A letter as it is handed over."""

    sender: str
    recipient: str
    content: bytes


class _Unheard(Exception):
    """The server went away before it had heard of the letter; the text says why."""


class Line:
    """A line to a server, over one connection after the other."""

    def __init__(self, server: Server, clock: Clock) -> None:
        self._server = server
        self._clock = clock
        self._session: Session | None = server.opened()

    def deliver(self, letter: Letter) -> Delivery:
        """Hand a letter over; raises MailerError where none could be handed over now."""
        try:
            envelope = _Envelope(mailbox(letter.sender), mailbox(letter.recipient), message(letter))
        except UsageError as error:
            return Delivery(Fate.REFUSED, str(error))
        while True:
            session, is_fresh = self._ready()
            if why := _too_much(session, envelope):
                return Delivery(Fate.REFUSED, why)
            try:
                return self._hand(session, envelope)
            except _Unheard as unheard:
                self._drop()
                if is_fresh:
                    raise self._server.error(f"takes no letter now: {unheard}", transient=True) from None

    def close(self) -> None:
        """Say goodbye, without waiting long for an answer."""
        if self._session is not None:
            with suppress(Broken):
                self._session.dialogue.say(b"QUIT\r\n", _QUIT)
                self._session.dialogue.hear(_QUIT)
        self._drop()

    def _drop(self) -> None:
        """Hang up without a word."""
        session, self._session = self._session, None
        if session is not None:
            session.dialogue.close()

    def _ready(self) -> tuple[Session, bool]:
        """Return a session that can be used, and whether it was opened just now."""
        session = self._session
        if session is not None and session.dialogue.quiet:
            if session.letters < _MOST and self._clock.monotonic() - session.used_at < _IDLE:
                return session, False
            self.close()
        self._drop()
        self._session = session = self._server.opened()
        return session, True

    def _hand(self, session: Session, envelope: _Envelope) -> Delivery:
        try:
            step, reply = self._offered(session, envelope)
            if step is Step.DATA and reply.code == _GO:
                early = self._written(session, envelope.content)
                if early is None:
                    return self._ended(session, envelope)
                step, reply = Step.END, early
        except Broken as broken:
            self._drop()
            return Delivery(Fate.DEFERRED, self._server.told(broken))
        except BaseException:  # whoever was interrupted here may go on, and the next letter must not end this one
            self._drop()
            raise
        return self._refused(step, reply, envelope)

    def _offered(self, session: Session, envelope: _Envelope) -> tuple[Step, Reply]:
        """Announce a letter, and return the last step with the yes to it, or the first that was refused."""
        heard = self._heard(session, _commands(session, envelope))
        session.letters += 1
        session.used_at = self._clock.monotonic()
        step, reply = next((each for each in heard if not each[0].agrees(each[1])), heard[-1])
        if not step.agrees(reply):
            if reply.code < 400:
                raise Broken(f"the server answered {step.value[1]} with {reply}")
            self._clear(session, step, heard[-1][1])
        return step, reply

    def _heard(self, session: Session, commands: Mapping[Step, bytes]) -> list[tuple[Step, Reply]]:
        """Say commands, all at once where that may be, and return what was answered up to where it makes no sense."""
        at_once = "PIPELINING" in session.offers
        limit = self._server.limits.command
        heard: list[tuple[Step, Reply]] = []
        try:
            if at_once:
                session.dialogue.say(b"".join(commands.values()), limit)
            for step, command in commands.items():
                if not at_once:
                    session.dialogue.say(command, limit)
                heard.append((step, reply := session.dialogue.hear(limit)))
                if not (at_once or step.agrees(reply)):
                    break
        except Broken as broken:
            self._drop()
            if not heard:
                raise _Unheard(self._server.told(broken)) from broken
            if all(step.agrees(reply) for step, reply in heard):
                raise
        if heard[0][1].code == _CLOSING:
            raise _Unheard(self._server.told(heard[0][1]))
        return heard

    def _clear(self, session: Session, step: Step, last: Reply) -> None:
        """Leave a letter that was refused at a step, so that the next may follow; `last` is what was said last."""
        waiting = step is not Step.DATA and last.code == _GO
        # Where the sender was refused, nobody knows to whom it would send what it is given.
        if last.code == _CLOSING or (waiting and step is Step.MAIL):
            self._drop()
        if self._session is None:
            return
        limits = self._server.limits
        try:
            if waiting:  # RFC 2920 3.1: it waits for a letter to nobody, and is given an empty one
                session.dialogue.say(_END, limits.command)
                session.dialogue.hear(limits.end)
            session.dialogue.say(b"RSET\r\n", limits.command)
            session.dialogue.hear(limits.command)
        except Broken:
            self._drop()

    def _written(self, session: Session, content: bytes) -> Reply | None:
        """Write a letter up to its last line; return what the server said meanwhile, after which it is not sent."""
        session.dialogue.say(content.replace(b"\r\n.", b"\r\n.."), self._server.limits.end)
        if session.dialogue.quiet:
            return None
        reply = session.dialogue.hear(self._server.limits.command)
        self._drop()  # it may be waiting for the rest
        if reply.code < 400:
            raise Broken(f"the server answered {reply} before the letter was whole")
        return reply

    def _ended(self, session: Session, envelope: _Envelope) -> Delivery:
        """Write the last line of a letter."""
        try:
            session.dialogue.say(_END, self._server.limits.command)
            reply = session.dialogue.hear(self._server.limits.end)
        except Broken as broken:
            return self._unknown(str(broken))
        session.used_at = self._clock.monotonic()
        if Step.END.agrees(reply):
            return Delivery(Fate.SENT, self._told(reply, envelope))
        return self._refused(Step.END, reply, envelope) if reply.code >= 400 else self._unknown(str(reply))

    def _unknown(self, why: str) -> Delivery:
        self._drop()
        return Delivery(Fate.MAYBE_SENT, self._server.told(f"after the whole letter was written: {why}"))

    def _refused(self, step: Step, reply: Reply, envelope: _Envelope) -> Delivery:
        if reply.code == _CLOSING:
            self._drop()
        found = fate(step, reply)
        if found is None:
            remedy = "see its user and its secret, and whether these may send from the sender's address"
            raise self._server.error(f"lets nothing be sent: {remedy}; it answered {self._told(reply, envelope)!r}")
        return Delivery(found, self._told(reply, envelope))

    def _told(self, reply: Reply, envelope: _Envelope) -> str:
        """Return what the server said, without the address that it was about: whoever reads it has that, or may not."""
        return self._server.told(str(reply).replace(envelope.recipient, "…"))


def _too_much(session: Session, envelope: _Envelope) -> str | None:
    """Return why a server cannot take a letter, by what it said of itself, or None."""
    if not envelope.content.isascii() and "SMTPUTF8" not in session.offers:
        return "the mail server takes no address with letters other than ASCII's before its @ (SMTPUTF8)"
    most = session.offers.get("SIZE", "")
    if most.isdecimal() and 0 < int(most) < len(envelope.content):
        return f"the letter has {len(envelope.content):,} octets, and the mail server takes {int(most):,} (SIZE)"
    return None


def _commands(session: Session, envelope: _Envelope) -> dict[Step, bytes]:
    """Return what announces a letter, step by step; it is of ASCII alone, unless it needs SMTPUTF8."""
    options = f" SIZE={len(envelope.content)}" if "SIZE" in session.offers else ""
    if not envelope.content.isascii():
        options += " BODY=8BITMIME SMTPUTF8"
    return {
        Step.MAIL: f"MAIL FROM:<{envelope.sender}>{options}\r\n".encode(),
        Step.RCPT: f"RCPT TO:<{envelope.recipient}>\r\n".encode(),
        Step.DATA: b"DATA\r\n",
    }
