"""A URL that stops sweeps unless it answers 2xx."""

from dataclasses import dataclass
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

from nightcrew.gauge import LONGEST, Gauge, Level

_HEADERS = {"User-Agent": "nightcrew", "Accept": "*/*"}


@dataclass(frozen=True, slots=True)
class Http:
    """A URL of http or https, asked by GET and through no proxy."""

    name: str
    url: str
    patient: bool = False

    def read(self) -> Gauge:
        """Ask it; raises OSError when nobody answers."""
        request = Request(self.url, headers=_HEADERS)  # noqa: S310 - a hook's URL is of http or https
        try:
            with build_opener(ProxyHandler({})).open(request, timeout=LONGEST) as answer:
                return Gauge(self.name, seen=f"answered {answer.status}")
        except HTTPError as refusal:
            with refusal:
                return Gauge(self.name, Level.STOP, f"answered {refusal.code}")
