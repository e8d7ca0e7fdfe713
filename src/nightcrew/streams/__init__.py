"""Where the streams of chats are kept: Redis for many processes, and memory for one."""

from collections.abc import Callable

from nightcrew.errors import ConfigurationError
from nightcrew.stream import Backend
from nightcrew.streams.memory import Memory, Vault

MEMORY = "memory://"
_SCHEMES = ("redis://", "rediss://", "unix://")


def way(url: str | Callable[[], str], *, prefix: str = "nightcrew") -> Callable[[str], Backend]:
    """Return what connects a process, by its name, to the streams at a URL: redis://, rediss://, unix:// or memory://.

    Raises ConfigurationError for another URL; a function that returns one is asked when it is needed.
    """
    if not callable(url):
        _check(url)
        if url == MEMORY:
            vault = Vault()
            return lambda owner: Memory(owner, vault)

    def connect(owner: str) -> Backend:
        from nightcrew.streams.redis import Redis  # noqa: PLC0415 - redis-py is an extra

        said = url() if callable(url) else url
        _check(said)
        return Redis(said, owner, prefix=prefix)

    return connect


def _check(url: str) -> None:
    if url != MEMORY and not url.startswith(_SCHEMES):
        kind = url.partition("://")[0][:20]
        raise ConfigurationError(f"streams are kept at redis://, rediss://, unix:// or memory://, and not at {kind!r}")
