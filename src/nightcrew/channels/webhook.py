"""Webhook: an alarm as JSON, signed as the Standard Webhooks have it, so that whoever gets it knows who sent it."""

import json
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from hmac import digest

from nightcrew.alarm import Notice
from nightcrew.channels.channel import Means, send
from nightcrew.errors import ConfigurationError
from nightcrew.ping import Ping, checked

_PREFIX = "whsec_"
_SHORTEST, _LONGEST = 24, 64  # bytes of a key, by the specification


@dataclass(frozen=True, slots=True)
class Webhook:
    """An address that takes POST; `secret` is the key in base64, `whsec_…` or without that word.

    Raises ConfigurationError for what can be neither, and shows none of the two.
    """

    url: str = field(repr=False)
    secret: str = field(repr=False)
    name: str = "webhook"

    def __post_init__(self) -> None:
        checked(self.url, "a webhook", "https://ops.acme.example/alarms", query=True)
        if not _SHORTEST <= len(self._key) <= _LONGEST:
            raise ConfigurationError(
                f"secret is not {_SHORTEST} to {_LONGEST} bytes in base64 (it is not shown):"
                " 'nightcrew secret new' makes one that is"
            )

    @property
    def secrets(self) -> Sequence[str]:
        """The key, and the address, which may have one in it."""
        return self.secret, self.secret.removeprefix(_PREFIX), self.url

    def tell(self, notice: Notice, means: Means) -> None:
        """Post it; every attempt is signed with the time it is made at."""
        body = json.dumps(notice.json(), ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        at = str(int(means.clock.now().timestamp()))
        headers = {"webhook-id": notice.id, "webhook-timestamp": at}
        headers["webhook-signature"] = signature(self._key, notice.id, at, body)
        send(Ping("POST", self.url, body, "application/json", headers))

    @property
    def _key(self) -> bytes:
        try:
            return b64decode(self.secret.strip().removeprefix(_PREFIX), validate=True)
        except ValueError:
            return b""


def signature(key: bytes, id_: str, at: str, body: bytes) -> str:
    """Return what signs a body that has this id and is sent at this time, in seconds since 1970."""
    signed = digest(key, b".".join((id_.encode(), at.encode(), body)), "sha256")
    return f"v1,{b64encode(signed).decode()}"
