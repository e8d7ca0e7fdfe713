"""Shelf: a store of blobs as an application declares it, which columns name its blobs, and what becomes of the rest."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from enum import StrEnum
from typing import Any

from nightcrew.errors import ConfigurationError, did_you_mean, misfit
from nightcrew.owing import Owing
from nightcrew.schedule import Cron, Every, Schedule, cron
from nightcrew.store import BlobStore

_NAME = re.compile(r"^[A-Za-z0-9](?:[A-Za-z0-9_-]{0,62}[A-Za-z0-9])?$")
_EXAMPLE = "'message_source.blob_key'"
DAY = timedelta(hours=24)
WEEKLY = cron("0 4 * * 0")


class Orphans(StrEnum):
    """What becomes of blobs that no row knows."""

    REPORT = "report"
    """They are counted, and some are named."""
    REMOVE = "remove"
    """They are owed to the store, and so removed."""


@dataclass(frozen=True, slots=True)
class Shelf:
    """Where the blobs are (`url`, what returns one, or a store), and what is known of them.

    `columns` of the application's tables ("message_source.blob_key") hold keys of the store, besides those of jobs that
    declare `blobs`. With `orphans` ("report", "remove"), a job of its own looks on a `schedule` for blobs that none of
    them names, and that were last written more than `older_than` ago. More than `max_fraction` of all are not removed
    unasked.

    Raises ConfigurationError for what cannot be meant.
    """

    url: str | Callable[[], str] | BlobStore
    columns: tuple[str, ...] = ()
    orphans: Orphans | None = None
    schedule: Schedule = WEEKLY
    older_than: timedelta = DAY
    max_fraction: float = 0.2

    def __post_init__(self) -> None:
        if wrong := misfit(self.columns, (list, tuple), f"write a list, such as [{_EXAMPLE}]"):
            raise ConfigurationError(f"columns {wrong}")
        object.__setattr__(self, "columns", tuple(dict.fromkeys(self.columns)))
        for column in self.columns:
            if not isinstance(column, str) or not all(column.rpartition(".")):
                raise ConfigurationError(f"columns has {str(column)[:80]!r}, which is no column: write {_EXAMPLE}")
        if self.orphans is not None:
            object.__setattr__(self, "orphans", orphans(self.orphans))
        if wrong := misfit(self.schedule, (Cron, Every), "write cron('0 4 * * 0') or every('1 day')"):
            raise ConfigurationError(f"schedule {wrong}")
        if wrong := misfit(self.older_than, timedelta, "write timedelta(hours=24)"):
            raise ConfigurationError(f"older_than {wrong}")
        if self.older_than < timedelta(hours=1):
            raise ConfigurationError(
                f"older_than is {self.older_than}: a blob may be written long before its row is; write an hour or more"
            )
        if isinstance(self.max_fraction, bool) or misfit(self.max_fraction, (int, float), ""):
            raise ConfigurationError(f"max_fraction is {self.max_fraction!r}; write a share, such as 0.2")
        if not 0 < self.max_fraction <= 1:
            raise ConfigurationError(f"max_fraction is {self.max_fraction}; write a share above 0, at most 1")

    def owings(self, store: str) -> tuple[Owing, ...]:
        """Return its columns as those of a store's keys."""
        parts = (column.rpartition(".") for column in self.columns)
        return tuple(Owing(store, table, column) for table, _, column in parts)


_FIELDS = tuple(each.name for each in fields(Shelf))


def shelf(given: object) -> Shelf:
    """Return what is said of a store in code: a URL, a store, or a mapping of what a Shelf has."""
    if isinstance(given, Shelf):
        return given
    if not isinstance(given, Mapping):
        return Shelf(given)  # type: ignore[arg-type]
    for key in given:
        if key not in _FIELDS:
            raise ConfigurationError(f"it has no {key!r}{did_you_mean(str(key), _FIELDS)}")
    if "url" not in given:
        raise ConfigurationError("url is missing; write url = 's3://bucket/prefix' or 'file:///srv/uploads'")
    values: dict[str, Any] = dict(given)
    if isinstance(columns := values.get("columns"), Iterable) and not isinstance(columns, str):
        values["columns"] = tuple(columns)
    return Shelf(**values)


def orphans(word: str) -> Orphans:
    """Return what this word says of orphans; raises ConfigurationError for none."""
    words = [str(each) for each in Orphans]
    if word in words:
        return Orphans(word)
    raise ConfigurationError(f"there is no orphans {str(word)[:40]!r}{did_you_mean(str(word), words)}")


def check_archive(name: str, shelves: Mapping[str, Shelf]) -> None:
    """Raise ConfigurationError for an archive that is no store of blobs, or not one of its own."""
    if name not in shelves:
        near = did_you_mean(name, shelves) or f"; declare it, as [blobs.{name}]"
        raise ConfigurationError(f"archive: there is no store of blobs {name!r}{near}")
    if shelves[name].orphans is not None or shelves[name].columns:
        raise ConfigurationError(
            f"archive: store {name!r} has columns or orphans, which would take what is archived for blobs that no row"
            " knows: give the archive a store of its own"
        )


def check_name(name: object) -> str:
    """Return a store's name; raises ConfigurationError for one that cannot be one."""
    wrong = misfit(name, str, "write a text such as 'uploads'")
    if wrong or not _NAME.match(str(name)):
        said = wrong or f"{str(name)[:80]!r} is none: use letters, digits, - and _, at most 64"
        raise ConfigurationError(f"the name of a store {said}")
    return str(name)
