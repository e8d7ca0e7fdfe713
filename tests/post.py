"""Mail servers on loopback: one that takes letters as others do, and one that follows a script to the letter."""

import contextlib
import datetime as dt
import ipaddress
import socket
import ssl
import struct
import threading
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.letters import letter

from nightcrew.clock import SystemClock
from nightcrew.mailer import Delivery, Fate
from nightcrew.mailers import address, mailer
from nightcrew.mailers.smtp import Smtp
from nightcrew.mailers.smtp_server import Limits

USER, PASSWORD = "me@acme.example", "correct horse battery"
HOST = "127.0.0.1"


class Post:
    """What a server is told to answer, verb by verb, before it takes letters; and what it has taken."""

    def __init__(self, *, pipelining: bool = True) -> None:
        self.letters: list[tuple[str, list[str], bytes]] = []
        self.says: dict[str, list[str]] = defaultdict(list)
        self.connections = 0
        self.pipelining = pipelining
        self.options: list[str] = []
        self.port = 0

    def url(self, user: str = "", options: str = "?starttls=off") -> str:
        return f"smtp://{user}{HOST}:{self.port}{options}"

    async def handle_EHLO(self, server, session, envelope, hostname, responses):  # noqa: N802 - the server calls it so
        session.host_name = hostname
        self.connections += 1
        return [responses[0], "250-PIPELINING", *responses[1:]] if self.pipelining else responses

    async def handle_MAIL(self, server, session, envelope, address, mail_options):  # noqa: N802 - the server calls it so
        if self.says["MAIL"]:
            return self.says["MAIL"].pop(0)
        envelope.mail_from, self.options = address, mail_options
        return "250 2.1.0 Ok"

    async def handle_RCPT(self, server, session, envelope, address, rcpt_options):  # noqa: N802 - the server calls it so
        if self.says["RCPT"]:
            return self.says["RCPT"].pop(0)
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 Ok"

    async def handle_DATA(self, server, session, envelope):  # noqa: N802 - the server calls it so
        if self.says["DATA"]:
            return self.says["DATA"].pop(0)
        self.letters.append((envelope.mail_from, envelope.rcpt_tos, envelope.original_content))
        return "250 2.0.0 Ok: queued as 1A2B"


@contextmanager
def post(post: Post | None = None, **options) -> Iterator[Post]:
    """Run a server; `options` are those of aiosmtpd."""
    post = post or Post()
    with socket.socket() as door:
        door.bind((HOST, 0))
        post.port = door.getsockname()[1]

    def may(server, session, envelope, mechanism, data):
        known = (data.login, data.password) == (USER.encode(), PASSWORD.encode())
        return AuthResult(success=known, handled=False)

    options = {"authenticator": may, "auth_require_tls": False, "enable_SMTPUTF8": True, **options}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Requiring AUTH")  # in clear, which is what some tests are about
        controller = Controller(post, hostname=HOST, port=post.port, **options)
        controller.start()
        try:
            yield post
        finally:
            controller.stop()


class Talk:
    """One connection, from the server's side."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.lines = connection.makefile("rb")

    def say(self, *lines: str) -> None:
        self.connection.sendall("".join(f"{line}\r\n" for line in lines).encode())

    def hear(self, verb: str) -> str:
        line = self.lines.readline().decode()
        assert line.startswith(verb), f"{line!r} is no {verb}"
        return line.rstrip("\r\n")

    def greet(self, *offers: str) -> None:
        self.say("220 ready")
        self.hear("EHLO")
        self.say(*(f"250-{offer}" for offer in ("here", *offers)), "250 HELP")

    def take(self) -> bytes:
        """Take a whole letter without a hitch, command by command."""
        for verb, answer in (("MAIL", "250 ok"), ("RCPT", "250 ok"), ("DATA", "354 go")):
            self.hear(verb)
            self.say(answer)
        content = self.body()
        self.say("250 taken")
        return content

    def body(self) -> bytes:
        content = []
        while (line := self.lines.readline()) not in (b".\r\n", b""):
            content.append(line)
        return b"".join(content)

    def break_off(self) -> None:
        """Hang up so that whatever is still written there is an error."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.hang_up()

    def hang_up(self) -> None:
        self.lines.close()
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
        self.connection.close()


Script = Callable[[Talk], None]


@contextmanager
def scripted(*scripts: Script) -> Iterator[str]:
    """Run a server that plays one script for each connection in turn, and lend its URL; what fails there fails here."""
    failed: list[BaseException] = []

    def play() -> None:
        for script in scripts:
            try:
                connection, _ = door.accept()
            except OSError:
                return
            talk = Talk(connection)
            try:
                script(talk)
            except (OSError, ValueError):
                pass
            except BaseException as error:
                failed.append(error)
            talk.hang_up()
        door.close()

    with socket.create_server((HOST, 0)) as door:
        thread = threading.Thread(target=play, daemon=True)
        thread.start()
        yield f"smtp://{HOST}:{door.getsockname()[1]}?starttls=off"
        with contextlib.suppress(OSError):  # it has played them all
            door.shutdown(socket.SHUT_RDWR)
    thread.join(10)
    assert not failed, failed


def deliver(url: str, *letters, limits: Limits | None = None) -> list[Delivery]:
    """Hand letters to the server at a URL, a usual one unless others are given."""
    way = Smtp(address(url), SystemClock(), limits=limits) if limits else mailer(url, SystemClock())
    with way.connect() as connection:
        return [connection.deliver(each) for each in letters or (letter(),)]


def fates(url: str, *letters, limits: Limits | None = None) -> list[Fate]:
    """Hand letters over, and return what became of each."""
    return [delivery.fate for delivery in deliver(url, *letters, limits=limits)]


class Authority:
    """An authority that certifies servers, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "An authority of the tests")])
        self.file = folder / "authority.pem"
        own = self._signed(self.name, self.key, x509.BasicConstraints(ca=True, path_length=None))
        self.file.write_bytes(own.public_bytes(serialization.Encoding.PEM))

    def context(self, name: str, *, days: int = 1) -> ssl.SSLContext:
        """Return what a server of such a name, or address, encrypts with; with days below zero, its time is over."""
        key = ec.generate_private_key(ec.SECP256R1())
        try:
            other: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(name))
        except ValueError:
            other = x509.DNSName(name)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        found = self._signed(subject, key, x509.SubjectAlternativeName([other]), days)
        file = self.folder / f"{name}{days}.pem"
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        file.write_bytes(secret + found.public_bytes(serialization.Encoding.PEM))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context

    def _signed(self, subject, key, extension, days: int = 1) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        ends = now + dt.timedelta(days=days)
        made = x509.CertificateBuilder().subject_name(subject).issuer_name(self.name).public_key(key.public_key())
        made = made.serial_number(x509.random_serial_number()).not_valid_before(ends - dt.timedelta(days=3))
        made = made.not_valid_after(ends).add_extension(extension, critical=False)
        return made.sign(self.key, hashes.SHA256())
