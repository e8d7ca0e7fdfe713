"""Cronitor: telemetry events, as cronitor.io/docs/telemetry-api has them."""

from dataclasses import dataclass, field
from typing import ClassVar
from urllib.parse import urlencode

from nightcrew.listeners.checkin import CheckIn, Stage, base, required, slug
from nightcrew.ping import Ping

URL = "https://cronitor.link"
_STATES = {Stage.BEGUN: "run", Stage.WELL: "complete", Stage.BADLY: "fail"}
_LONGEST_KEY, _LONGEST_MESSAGE = 100, 2_000


@dataclass(frozen=True, slots=True)
class Cronitor:
    """An account, by its API key. A job's monitor is called like the job, and made when it is first told of."""

    key: str = field(repr=False)
    environment: str = ""
    url: str = URL
    name: ClassVar[str] = "Cronitor"

    def __post_init__(self) -> None:
        required("key", self.key)
        object.__setattr__(self, "url", base(self.url))

    @property
    def secret(self) -> str:
        """The API key."""
        return self.key

    def ping(self, checkin: CheckIn) -> Ping:
        """Return the event of a run, whose `series` joins its beginning and its end."""
        said = [("state", _STATES[checkin.stage]), ("series", str(checkin.id))]
        if self.environment:
            said.append(("env", self.environment))
        if checkin.message:
            said.append(("message", checkin.message[:_LONGEST_MESSAGE]))
        if checkin.stage is not Stage.BEGUN:
            said += [
                ("metric", f"count:{checkin.counted}"),
                ("metric", f"error_count:{checkin.stage is Stage.BADLY:d}"),
            ]
        if checkin.took is not None:
            said.append(("metric", f"duration:{checkin.took.total_seconds():.3f}"))
        return Ping("GET", f"{self.url}/p/{self.key}/{slug(checkin.job, _LONGEST_KEY)}?{urlencode(said)}")
