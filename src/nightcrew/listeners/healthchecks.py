"""Healthchecks: pings by key and slug, as healthchecks.io/docs/http_api has them, there or on a server of one's own."""

from dataclasses import dataclass, field
from typing import ClassVar
from urllib.parse import urlencode

from nightcrew.listeners.checkin import CheckIn, Stage, base, required, slug
from nightcrew.ping import Ping

URL = "https://hc-ping.com"
_ENDINGS = {Stage.BEGUN: "/start", Stage.WELL: "", Stage.BADLY: "/fail"}
_LONGEST_SLUG, _LONGEST_BODY = 100, 10_000


@dataclass(frozen=True, slots=True)
class Healthchecks:
    """A project, by its ping key. A job's check is called like the job, and made when it first pings."""

    key: str = field(repr=False)
    url: str = URL
    name: ClassVar[str] = "Healthchecks"

    def __post_init__(self) -> None:
        required("key", self.key)
        object.__setattr__(self, "url", base(self.url))

    @property
    def secret(self) -> str:
        """The ping key."""
        return self.key

    def ping(self, checkin: CheckIn) -> Ping:
        """Return the ping of a run, which its `rid` names, with what is said of it as the body."""
        query = urlencode({"rid": str(checkin.id), "create": 1})
        path = f"{slug(checkin.job, _LONGEST_SLUG)}{_ENDINGS[checkin.stage]}"
        body = checkin.message.encode("utf-8", "replace")[:_LONGEST_BODY]
        return Ping("POST", f"{self.url}/{self.key}/{path}?{query}", body)
