"""The workspace as its pages see it: the data, the crew's desk, the clock, and what was said last to whom."""

import hashlib
import hmac
import secrets
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from nightcrew.clock import Clock
from nightcrew.demo.answers import Answers
from nightcrew.demo.database import Data
from nightcrew.demo.desk import Desk
from nightcrew.demo.files import Files
from nightcrew.demo.mails import Mails
from nightcrew.demo.provider import Provider

_REMEMBERED = 1000


class Notice(NamedTuple):
    """What just happened, in one line: `kind` is good, quiet or bad; `place` is where on the page it is said."""

    kind: str
    text: str
    place: str = ""


@dataclass(frozen=True, slots=True)
class Workspace:
    """Everything a page may ask for."""

    data: Data
    desk: Desk
    files: Files
    mails: Mails
    answers: Answers
    clock: Clock
    provider: Provider = field(default_factory=Provider)
    _key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    _notices: OrderedDict[str, Notice] = field(default_factory=OrderedDict)

    def now(self) -> datetime:
        """Return the moment the app lives in."""
        return self.clock.now()

    def seal(self, badge: str) -> str:
        """Return the proof that a form came from a page we gave to this browser."""
        return hmac.new(self._key, badge.encode(), hashlib.sha256).hexdigest()

    def tell(self, badge: str, notice: Notice) -> None:
        """Keep a line for the next page this browser opens."""
        self._notices[badge] = notice
        while len(self._notices) > _REMEMBERED:
            self._notices.popitem(last=False)

    def told(self, badge: str) -> Notice | None:
        """Return the line that waits for this browser, once."""
        return self._notices.pop(badge, None)
