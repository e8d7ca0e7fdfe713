"""Services: what a document says of services outside that hear of runs, and of how people hear of alarms."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from nightcrew import absence
from nightcrew.channels import channel
from nightcrew.channels.channel import Channel
from nightcrew.document import Key, odd_kind
from nightcrew.errors import did_you_mean
from nightcrew.keys import ALARMS, CHANNELS, MONITORS
from nightcrew.listeners import checkin
from nightcrew.listeners.checkin import Monitor
from nightcrew.reading import Reading

_S = TypeVar("_S")


class Services(Reading):
    """Reads what a document says of them."""

    def monitor(self, name: str, values: object) -> Monitor | None:
        """Read how one service is told of runs."""
        if name not in MONITORS or not isinstance(values, dict):
            near = did_you_mean(name, MONITORS) or "; write a table [monitors.healthchecks], sentry or cronitor"
            self.note(("monitors", name), f"there is no monitor {name!r} with such keys{near}")
            return None
        return self._service(("monitors", name), values, MONITORS[name], lambda make: checkin.Later(name, make))

    def alarms(self, values: Mapping[str, Any]) -> tuple[tuple[Channel, ...], int]:
        """Read by which channels people are told of alarms, and how many failures in a row are one."""
        rest = {name: each for name, each in values.items() if name not in CHANNELS}
        given = self.table(("alarms",), rest, ALARMS | dict.fromkeys(CHANNELS, _TABLE), "alarms: ")
        found = (self._channel(name, each) for name, each in values.items() if name in CHANNELS)
        failures = given.get("failures", absence.FAILURES)
        if isinstance(failures, bool) or failures < 1:
            self.note(("alarms", "failures"), f"alarms: failures is {failures}; write a whole number from 1 on")
        return tuple(filter(None, found)), failures

    def _channel(self, name: str, values: object) -> Channel | None:
        keys = ("alarms", name)
        if not isinstance(values, dict):
            self.note(keys, f"alarms: {name} is {odd_kind(values, dict)}; write a table [alarms.{name}]")
            return None
        return self._service(keys, values, CHANNELS[name], lambda make: channel.Later(name, make))

    def _service(
        self,
        keys: tuple[str, str],
        values: Mapping[str, Any],
        kind: tuple[Callable[..., _S], dict[str, Key]],
        later: Callable[[Callable[[], _S]], _S],
    ) -> _S | None:
        """Make one of what is said of it: `later` where that has variables, whose values are needed only then."""
        (make, allowed), whose, before = kind, f"{'.'.join(keys)}: ", len(self.problems)
        given, needed = self.texts(keys, values, allowed, whose), list(allowed)
        if keys[0] == "monitors":
            del needed[1:]
        for name in needed:
            if name not in values:
                self.note(keys, f"{whose}{name} is missing; write {name} = {allowed[name].example}")
        if len(self.problems) > before:
            return None

        def made() -> _S:
            return make(**{key: value() if callable(value) else value for key, value in given.items()})

        return later(made) if any(map(callable, given.values())) else self.built(keys, whose, made)


_TABLE = Key("", kind=Mapping)
