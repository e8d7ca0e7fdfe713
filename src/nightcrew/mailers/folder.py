"""A folder of `.eml` files, one for each letter, which a mail program shows as they would have arrived."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, timedelta
from hashlib import sha256
from pathlib import Path

from nightcrew.clock import Clock
from nightcrew.errors import MailerError, UsageError
from nightcrew.mailer import Delivery, Fate, Letter
from nightcrew.mailers.mime import mailbox, message

_DRAFT = ".nightcrew-"  # what a file is called until it is whole
_DEAD = timedelta(days=1)  # after which nobody writes it any more
_ODD = re.compile(r"[^A-Za-z0-9@.+_-]")
_SHOWN = 64  # characters of an address
_KNOWN_BY = len("0123456789abcdef.eml")  # what the key makes of a name


class Folder:
    """The folder at a path, made where there is none, for its owner alone.

    A file is called by its letter's date, recipient and key, so that they are listed by date. By its end, which is the
    key's, a letter is known: it is there once, however often it is handed over, and with whichever date.
    """

    idempotent = True

    def __init__(self, path: Path, clock: Clock) -> None:
        self.place = f"file://{path}"
        self._path = path
        self._clock = clock
        self._there: set[str] = set()

    @contextmanager
    def connect(self) -> Iterator["Folder"]:
        """Make the folder, see what is in it, and clear away what somebody left who died; raises MailerError."""
        with self._telling():
            self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
            old = (self._clock.now() - _DEAD).timestamp()
            for draft in self._path.glob(f"{_DRAFT}*"):
                with suppress(FileNotFoundError):
                    if draft.lstat().st_mtime < old:
                        draft.unlink()
            self._there |= {_end(file.name) for file in os.scandir(self._path)}
        yield self

    def deliver(self, letter: Letter) -> Delivery:
        """Write a letter whole, or not at all; it is on the disk when this returns. Raises MailerError."""
        try:
            content, name = message(letter), _name(letter)
        except UsageError as error:
            return Delivery(Fate.REFUSED, str(error))
        with self._telling():
            if _end(name) not in self._there and not os.path.lexists(self._path / name):
                self._write(name, content)
        self._there.add(_end(name))
        return Delivery(Fate.SENT, f"written to {name}")

    def _write(self, name: str, content: bytes) -> None:
        draft = self._path / f"{_DRAFT}{self._clock.token()}"
        file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with open(file, "wb") as whole:  # noqa: PTH123 - it is open already
                whole.write(content)
                whole.flush()
                os.fsync(file)
            draft.replace(self._path / name)
        except BaseException:
            with suppress(OSError):
                draft.unlink()
            raise
        folder = os.open(self._path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise MailerError(
                f"mail cannot be written to folder {self._path} ({error.strerror or error}): make room or let it be"
                " written to, or name another"
            ) from error


def _end(name: str) -> str:
    return name[-_KNOWN_BY:]


def _name(letter: Letter) -> str:
    date = letter.date.astimezone(UTC).strftime("%Y-%m-%dT%H-%M-%S")
    recipient = _ODD.sub("_", mailbox(letter.recipient))[:_SHOWN]
    return f"{date}_{recipient}_{sha256(letter.key.encode()).hexdigest()[:16]}.eml"
