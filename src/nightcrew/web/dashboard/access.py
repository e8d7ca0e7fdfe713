"""Access: who may look at the desk, and what they may do there."""

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

from nightcrew.errors import ConfigurationError, did_you_mean
from nightcrew.settings import Settings
from nightcrew.web.dashboard.request import Request


class TooOften(Exception):
    """Somebody has been turned away so often that they have to wait; `seconds` says how long."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"wait {seconds:.0f} s")
        self.seconds = seconds


class Permission(StrEnum):
    """What somebody may do who may look; `ack` is to agree to what the rails would refuse."""

    PLAN = "plan"
    RUN = "run"
    ACK = "ack"
    PAUSE = "pause"
    CANCEL = "cancel"
    UNDO = "undo"
    SEND_MAIL = "mail.send"
    CLEAR_STREAM = "stream.clear"


@dataclass(frozen=True, slots=True)
class Access:
    """Somebody who may look: what the audit calls them, and what they may do."""

    actor: str
    may: frozenset[Permission] = frozenset()

    @property
    def extent(self) -> str:
        """What they may do, in words."""
        if self.may == frozenset(Permission):
            return "all"
        return ", ".join(each for each in Permission if each in self.may) or "read only"


Grant: TypeAlias = str | set[str] | frozenset[str] | tuple[str | set[str] | frozenset[str], str] | None
"""None, "read_only", "all", or a set of permissions; or one of the three, and the actor's name."""

Authorize: TypeAlias = Callable[[Request], Grant | Awaitable[Grant]]
"""Says what whoever makes a request may do; as `def` it is called beside the event loop."""

_NOBODY = "somebody"


def gate(authorize: Authorize | None, settings: Settings) -> Authorize:
    """Return who decides; without anybody it is this machine, and only in development.

    Raises ConfigurationError outside of development where nobody decides.
    """
    if authorize is not None:
        return authorize
    if settings.environment != "development":
        raise ConfigurationError(
            "a dashboard without authorize=… would let everybody in: pass a function that says who may do what, as in"
            " crew.dashboard(authorize=…), or set NIGHTCREW_ENV=development on a machine of your own"
        )
    return _only_here


async def _only_here(request: Request) -> Grant:
    return ("all", "developer") if request.at_this_machine else None


async def admit(
    authorize: Authorize, request: Request, beside: Callable[[Callable[[], Any]], Awaitable[Any]]
) -> Access | None:
    """Return what whoever makes a request may do, or None for nothing at all; a `def` is called `beside` the loop.

    Raises ConfigurationError for an answer that means nothing.
    """
    if inspect.iscoroutinefunction(authorize) or inspect.iscoroutinefunction(type(authorize).__call__):
        granted = authorize(request)
    else:
        granted = await beside(lambda: authorize(request))
    return access(await granted if inspect.isawaitable(granted) else granted)


def access(granted: object) -> Access | None:
    """Read what an application's function answers."""
    actor: object = _NOBODY
    if isinstance(granted, tuple) and len(granted) == 2:
        granted, actor = granted
    if granted is None:
        return None
    if not isinstance(actor, str) or not actor.strip() or not _encodable(actor):
        raise ConfigurationError(f"authorize names the actor {actor!r}: give a text that the audit can call them by")
    if granted == "all":
        return Access(actor, frozenset(Permission))
    if granted == "read_only":
        return Access(actor)
    if not isinstance(granted, set | frozenset):
        raise ConfigurationError(
            f"authorize answers {granted!r}: let it return None, 'read_only', 'all', or a set of permissions, and the"
            " actor's name beside it"
        )
    for word in granted - set(Permission):
        raise ConfigurationError(
            f"authorize gives the permission {word!r}, which there is not{did_you_mean(str(word), Permission)}"
        )
    return Access(actor, frozenset(map(Permission, granted)))


def _encodable(text: str) -> bool:
    """Tell whether a text can be written at all: half a pair of surrogates cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
