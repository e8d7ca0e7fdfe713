"""Keys of a Redis, or of what speaks like one."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from nightcrew.clock import Clock
from nightcrew.errors import ConfigurationError, MissingExtra, StoreError
from nightcrew.place import redis_place
from nightcrew.store import MOST
from nightcrew.stores.patience import Refusal, patiently

try:
    import redis
    from redis.exceptions import (
        AuthenticationError,
        BusyLoadingError,
        NoPermissionError,
        ReadOnlyError,
        RedisError,
        TryAgainError,
    )
    from redis.exceptions import ConnectionError as Unconnected
    from redis.exceptions import TimeoutError as Unanswered
except ImportError:
    raise MissingExtra("a Redis needs redis-py, which is not installed: pip install 'nightcrew[redis]'") from None

_LOOK = 1_000  # keys that a server looks at for one answer, in less than a millisecond
_TIMEOUT = 5.0  # seconds a connection, and an answer, may take
_ODD = "surrogateescape"  # how bytes that are no UTF-8 are read and written
_PASSING = (BusyLoadingError, ReadOnlyError, TryAgainError)


class Redis:
    """The keys of one database of a server at redis://, rediss:// or unix://, each removed with all that it holds."""

    most = MOST

    def __init__(self, url: str, clock: Clock) -> None:
        self.place = redis_place(url)
        self._url = url
        self._clock = clock

    def remove(self, keys: Sequence[str]) -> Mapping[str, str]:
        """Unlink these keys, and return why by the key of each that would not go."""
        return patiently(self._unlink, keys, self._clock)

    def matching(self, pattern: str, place: int = 0) -> tuple[list[str], int]:
        """Look through some keys at a place; return those that match, and the next place, which is 0 at the end.

        The pattern is one of SCAN's. A key that is there from the first look to the last is found, perhaps twice; of
        one that is no UTF-8, each odd byte is a lone surrogate (PEP 383), and the other verbs know it by these.
        """
        with self._renamed():
            further, found = self._client.scan(place, match=pattern.encode(), count=_LOOK)
        return [_text(key) for key in found], int(further)

    def present(self, keys: Sequence[str]) -> set[str]:
        """Return those of the keys that are there."""
        written = {key: data for key in keys if (data := _bytes(key)) is not None}
        with self._renamed(), self._client.pipeline(transaction=False) as pipeline:
            for data in written.values():
                pipeline.exists(data)
            return {key for key, there in zip(written, pipeline.execute(), strict=True) if there}

    @cached_property
    def _client(self) -> Any:
        try:
            bounds = {"socket_timeout": _TIMEOUT, "socket_connect_timeout": _TIMEOUT}
            return redis.Redis.from_url(self._url, encoding_errors=_ODD, **bounds)
        except (ValueError, TypeError) as error:
            raise ConfigurationError(f"redis {self.place} cannot be used: {_said(error, self._url)}") from None

    def _unlink(self, keys: Sequence[str]) -> dict[str, Refusal]:
        refused: dict[str, Refusal] = {}
        sent: list[str] = []
        with self._renamed(), self._client.pipeline(transaction=False) as pipeline:
            for key in keys:
                if (written := _bytes(key)) is None:
                    refused[key] = Refusal("it is no text that can be written", final=True)
                    continue
                pipeline.unlink(written)
                sent.append(key)
            for key, answer in zip(sent, pipeline.execute(raise_on_error=False), strict=True):
                if isinstance(answer, Exception):
                    refused[key] = Refusal(str(answer), final=not isinstance(answer, _PASSING))
        return refused

    @contextmanager
    def _renamed(self) -> Iterator[None]:
        try:
            yield
        except (AuthenticationError, NoPermissionError) as error:
            raise StoreError(f"{self.place} refuses: {_said(error, self._url)}; see the password in its URL") from error
        except (Unconnected, Unanswered) as error:
            what = f"{self.place} cannot be reached: {_said(error, self._url)}"
            raise StoreError(f"{what}; see that it runs, and what its URL says", transient=True) from error
        except RedisError as error:
            raise StoreError(f"{self.place} cannot be used: {_said(error, self._url)}") from error


def _text(key: Any) -> str:
    return key if isinstance(key, str) else str(key.decode("utf-8", _ODD))  # the URL may ask for texts


def _bytes(key: str) -> bytes | None:
    """Return a key as the server has it; None for a text that none can be."""
    try:
        return key.encode("utf-8", _ODD)
    except UnicodeEncodeError:
        return None


def _said(error: Exception, url: str) -> str:
    """Return what an error says, without the password."""
    secret = urlsplit(url).password
    text = str(error).strip().partition("\n")[0][:300]
    return text.replace(secret, "***") if secret else text
