"""Slack: an alarm as a message, by an incoming webhook of Slack's, or of whoever understands these."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from nightcrew.alarm import Notice
from nightcrew.channels.channel import Means, send
from nightcrew.ping import Ping, checked

_ESCAPED = {ord("&"): "&amp;", ord("<"): "&lt;", ord(">"): "&gt;"}  # what Slack has a meaning for, and no more
_LONGEST = 3_000


@dataclass(frozen=True, slots=True)
class Slack:
    """An incoming webhook; its `url` is the secret."""

    url: str = field(repr=False)
    name: str = "slack"

    def __post_init__(self) -> None:
        checked(self.url, "an incoming webhook", "https://hooks.slack.com/services/…", query=False)

    @property
    def secrets(self) -> Sequence[str]:
        """The address, and what of it opens it."""
        return self.url, self.url.partition("://")[2].partition("/")[2]

    def tell(self, notice: Notice, means: Means) -> None:
        """Post it."""
        text = f"{notice.subject}\n{notice.text}"[:_LONGEST].translate(_ESCAPED)
        send(Ping("POST", self.url, json.dumps({"text": text}).encode(), "application/json"))
