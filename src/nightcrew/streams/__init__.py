"""Where the streams of chats are kept: Redis for many processes, and memory for one."""

from collections.abc import Callable

from nightcrew.errors import ConfigurationError
from nightcrew.stream import Backend
from nightcrew.streams.memory import Memory, Vault

MEMORY = "memory://"
_SCHEMES = ("redis://", "rediss://", "unix://")


class Way:
    """What connects a process, by its name, to the streams at a URL, which is asked for when it is needed."""

    def __init__(self, url: str | Callable[[], str], prefix: str) -> None:
        self._url = url
        self._prefix = prefix
        self._vault = Vault() if url == MEMORY else None

    @property
    def url(self) -> str:
        """The URL, with whatever password is in it; raises ConfigurationError where there is none."""
        said = self._url() if callable(self._url) else self._url
        _check(said)
        return said

    def __call__(self, owner: str) -> Backend:
        """Connect."""
        if self._vault is not None:
            return Memory(owner, self._vault)
        from nightcrew.streams.redis import Redis  # noqa: PLC0415 - redis-py is an extra

        return Redis(self.url, owner, prefix=self._prefix)


def way(url: str | Callable[[], str], *, prefix: str = "nightcrew") -> Way:
    """Return what connects a process, by its name, to the streams at a URL: redis://, rediss://, unix:// or memory://.

    Raises ConfigurationError for another URL; a function that returns one is asked when it is needed.
    """
    if not callable(url):
        _check(url)
    return Way(url, prefix)


def _check(url: str) -> None:
    if url != MEMORY and not url.startswith(_SCHEMES):
        kind = url.partition("://")[0][:20]
        raise ConfigurationError(f"streams are kept at redis://, rediss://, unix:// or memory://, and not at {kind!r}")
