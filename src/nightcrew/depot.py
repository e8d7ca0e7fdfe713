"""Depot: the stores of a crew by name, each opened when it is first asked for."""

import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, TypeAlias

from nightcrew.censor import Censor
from nightcrew.clock import Clock
from nightcrew.errors import ConfigurationError, did_you_mean, misfit
from nightcrew.shelf import Shelf, check_name, shelf
from nightcrew.store import BlobStore, Store
from nightcrew.stores import blob_store
from nightcrew.stores.address import address
from nightcrew.stores.calls import Calls, template, verb

REDIS = "redis"
"""The name of the store that the keys of the crew's Redis are owed to."""
STREAMS = "streams"
"""The name of the store that the streams of chats are owed to, by the IDs of the chats."""

Text: TypeAlias = str | Callable[[], str]
"""A text, or what returns it when it is needed."""

_OF_CALLS: Mapping[str, Callable[[str], str]] = {"url": template, "method": verb, "secret": str}


class Depot(Mapping[str, Store]):
    """Stores by name: `blobs` as shelf() takes them, `calls` by their URL or as its mapping, and the keys of a `redis`.

    `streams` is a store whose keys are chats.

    What a URL says is looked at at once, unless a function is to give it; nothing is asked of anybody before a store
    is used. Raises ConfigurationError for what cannot be one, and names it.
    """

    def __init__(
        self,
        clock: Clock,
        censor: Censor | None = None,
        *,
        blobs: Mapping[str, Any] | None = None,
        calls: Mapping[str, Any] | None = None,
        redis: Text | None = None,
        streams: Store | None = None,
    ) -> None:
        self._clock = clock
        self._censor = censor or Censor()
        self._makers: dict[str, Callable[[], Store]] = {}
        self._open: dict[tuple[int, str], Store] = {}
        self.shelves: dict[str, Shelf] = {}
        for name, given in (blobs or {}).items():
            self._declare(name, "blobs", partial(self._blobs, name, given))
        for name, given in (calls or {}).items():
            self._declare(name, "calls", partial(self._calls, given))
        if redis is not None:
            self._declare(REDIS, "redis", partial(partial, self._redis, redis))
        if streams is not None:
            self._declare(STREAMS, "streams", lambda: lambda: streams)

    def __getitem__(self, name: str) -> Store:
        """Return a store; what the parent of a fork has open is the parent's."""
        whose = (os.getpid(), name)
        if whose not in self._open:
            self._open.setdefault(whose, self._makers[name]())
        return self._open[whose]

    def __iter__(self) -> Iterator[str]:
        """Go through the names."""
        return iter(self._makers)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._makers)

    def blobs(self, name: str) -> BlobStore:
        """Return a store of blobs; raises KeyError for another."""
        _ = self.shelves[name]
        return self[name]  # type: ignore[return-value]

    def problems(self) -> list[str]:
        """Say which stores cannot be opened here, for want of a variable or a library; nobody is asked."""
        found = []
        for name in self:
            try:
                _ = self[name]
            except ConfigurationError as problem:
                found.append(f"store {name!r} cannot be used: {problem}")
        return found

    def _declare(self, name: str, part: str, read: Callable[[], Callable[[], Store]]) -> None:
        if check_name(name) in self._makers:
            raise ConfigurationError(f"two stores are called {name!r}: give one of them another name")
        try:
            self._makers[name] = read()
        except ConfigurationError as error:
            error.args = (f"store {name!r} of {part}: {error}",)
            raise

    def _blobs(self, name: str, given: Any) -> Callable[[], Store]:
        self.shelves[name] = found = shelf(given)
        place = found.url
        if not isinstance(place, str) and not callable(place):
            if not hasattr(place, "remove"):
                raise ConfigurationError(f"url {misfit(place, (), 'write a URL, such as file:///srv/uploads')}")
            return lambda: place
        if isinstance(place, str):
            address(place)
        return lambda: blob_store(_said(place), self._clock)

    def _calls(self, given: Any) -> Callable[[], Store]:
        if hasattr(given, "remove"):
            return lambda: given
        values: dict[str, Any] = dict(given) if isinstance(given, Mapping) else {"url": given}
        for key, value in values.items():
            if key not in _OF_CALLS:
                raise ConfigurationError(f"it has no {key!r}{did_you_mean(str(key), _OF_CALLS)}")
            if callable(value):
                continue
            if wrong := misfit(value, str, "write a text"):
                raise ConfigurationError(f"{key} {wrong}")
            _OF_CALLS[key](value)
        if "url" not in values:
            raise ConfigurationError("url is missing; write url = 'https://api.example.com/things/{key}'")
        return partial(self._opened, values)

    def _opened(self, values: Mapping[str, Any]) -> Store:
        told = {key: _said(value) for key, value in values.items()}
        self._censor.learn(told.get("secret"))
        return Calls(told.pop("url"), self._clock, **told)

    def _redis(self, url: Text) -> Store:
        from nightcrew.stores.redis import Redis  # noqa: PLC0415 - redis-py is an extra

        told = _said(url)
        self._censor.learn_url(told)
        return Redis(told, self._clock)


def _said(given: Any) -> str:
    return str(given() if callable(given) else given)
