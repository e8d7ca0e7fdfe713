"""Request: one call as a web server hands it over, and what it tells about its caller."""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address

_PROXY = {b"forwarded", b"via", b"x-real-ip", b"x-client-ip", b"true-client-ip", b"cf-connecting-ip"}
_AGENTS = {"": "unknown", "google-cloud-scheduler": "cloud-scheduler", "amazon": "eventbridge", "mozilla": "browser"}


@dataclass(frozen=True, slots=True)
class Request:
    """One call: `path` is decoded and without the point that the routes are mounted at, `query` is raw."""

    method: str
    path: str
    query: bytes = b""
    headers: Sequence[tuple[bytes, bytes]] = ()
    client: str | None = None

    def values(self, name: bytes) -> list[bytes]:
        """Return every value of a header, whose name is given in small letters."""
        return [value for key, value in self.headers if key.lower() == name]

    @property
    def agent(self) -> str:
        """The first word of the user agent, which anybody may write: at most 40 visible characters of ASCII."""
        agent = next(iter(self.values(b"user-agent")), b"").decode("latin-1").lower()
        if "cron-job.org" in agent:
            return "cron-job.org"
        product = visible(agent.split("/")[0].split(" ")[0], 40)
        return _AGENTS.get(product, product)

    @property
    def by_hand(self) -> bool:
        """Whether somebody at this machine made it: no proxy between, and no foreign page behind the browser."""
        return (
            self.method == "GET"
            and self.at_this_machine
            and not self.values(b"origin")
            and set(self.values(b"sec-fetch-site")) <= {b"none", b"same-origin"}
        )

    @property
    def at_this_machine(self) -> bool:
        """Whether it comes from this machine, and was sent to it by a name of its own."""
        hosts = self.values(b"host")
        return (
            _loopback(self.client)
            and not any(name.lower() in _PROXY or name.lower().startswith(b"x-forwarded") for name, _ in self.headers)
            # A foreign name that resolves to this machine is how a web page gets at a developer's servers.
            and len(hosts) == 1
            and _loopback_name(hosts[0].lower())
        )


def visible(text: str, limit: int) -> str:
    """Return the start of a stranger's text, fit for one word of a log line."""
    return "".join(char if "!" <= char <= "~" else "_" for char in text[:limit])


def _loopback(client: str | None) -> bool:
    try:
        address = ip_address(client or "")
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def _loopback_name(host: bytes) -> bool:
    name, colon, port = host.rpartition(b":")
    name = name if colon and port.isdigit() else host
    return name in (b"localhost", b"127.0.0.1", b"[::1]") or (name.endswith(b".localhost") and b":" not in name)
