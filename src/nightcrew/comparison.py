"""Comparison: a store of blobs held against the columns that name them, page by page, in both directions."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from enum import StrEnum
from itertools import islice
from typing import Any

from nightcrew.debt import Debts
from nightcrew.duration import spell
from nightcrew.errors import SafetyStop
from nightcrew.owing import Owing
from nightcrew.report import one_line
from nightcrew.shelf import Shelf
from nightcrew.store import MOST, BlobStore

_LISTED = 5_000  # blobs a look takes at once
_NAMED = 10  # orphans, and keys without a blob, that are told one by one
_LONGEST = 200  # letters of a key that is told


@dataclass(frozen=True, slots=True)
class Survey:
    """What was found so far.

    Of `blobs` in the store, rows know the keys of `known`; of the others, `young` were written too short a time ago to
    be judged, `owed` leave anyway, `strange` have a name that no row could have, and the rest are `orphans`. Of `keys`
    that rows have, `missing` have no blob. Some are named.
    """

    store: str
    place: str
    columns: tuple[str, ...]
    blobs: int = 0
    bytes: int = 0
    known: int = 0
    young: int = 0
    owed: int = 0
    strange: int = 0
    orphans: int = 0
    orphan_bytes: int = 0
    some_orphans: tuple[str, ...] = ()
    keys: int = 0
    missing: int = 0
    some_missing: tuple[str, ...] = ()

    def json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "Survey":
        """Read it from JSON values."""
        values: dict[str, Any] = {key: tuple(each) if isinstance(each, list) else each for key, each in facts.items()}
        return cls(**values)


class Stage(StrEnum):
    """What is being done."""

    BLOBS = "blobs"
    ROWS = "rows"
    REMOVAL = "removal"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Stand:
    """How far a comparison is: past a key `after` which it goes on, of rows in one of the columns."""

    survey: Survey
    stage: Stage = Stage.BLOBS
    after: str | None = None
    column: int = 0
    removed: int = 0

    def json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "Stand":
        """Read it from JSON values."""
        return cls(**{**facts, "survey": Survey.of(facts["survey"]), "stage": Stage(facts["stage"])})


@dataclass(frozen=True, slots=True)
class Comparison:
    """A store by its name, and the columns that hold keys of it."""

    name: str
    blobs: BlobStore
    shelf: Shelf
    columns: tuple[Owing, ...]
    debts: Debts

    def begin(self) -> Stand:
        """Return where it begins; raises SafetyStop where no column is declared, so that all blobs would be orphans."""
        if not self.columns:
            raise SafetyStop(
                f"no column is declared that names blobs of store {self.name!r}, so that nobody can tell which are"
                f" orphans; write columns = ['message_source.blob_key'] under [blobs.{self.name}]"
            )
        if not hasattr(self.blobs, "page"):
            raise SafetyStop(f"store {self.name!r} cannot be listed, so that nobody can tell which blobs are orphans")
        return Stand(Survey(self.name, self.blobs.place, tuple(str(owing) for owing in self.columns)))

    def all(self, heard: Callable[[Survey], None]) -> Survey:
        """Go through all of it at once."""
        stand = self.begin()
        while stand.stage is not Stage.REMOVAL:
            stand = self.further(stand)
            heard(stand.survey)
        return stand.survey

    def further(self, stand: Stand) -> Stand:
        """Look at one more page: of the blobs first, and then of what rows have in each column."""
        if stand.stage is Stage.BLOBS:
            survey, after, _ = self.look(stand.survey, stand.after)
            return replace(stand, survey=survey, after=after, stage=Stage.BLOBS if after is not None else Stage.ROWS)
        return self._look_back(stand)

    def look(self, survey: Survey, after: str | None) -> tuple[Survey, str | None, list[str]]:
        """Look at a page of blobs; return what is found by then, where to go on (None: at the end), and the orphans."""
        page = self.blobs.page(after, _LISTED)
        blobs = {blob.key: blob for blob in page.blobs}
        asked = [key for key in blobs if _is_text(key)]
        known = {key for part in _parts(asked) for key in self.debts.referred(self.columns, part)}
        rest = [blobs[key] for key in asked if key not in known]
        young = {blob.key for blob in rest if blob.modified_at > page.at - self.shelf.older_than}
        old = [blob.key for blob in rest if blob.key not in young]
        owed = {key for part in _parts(old) for key in self.debts.owed(self.name, part)}
        orphans = [blobs[key] for key in old if key not in owed]
        found = replace(
            survey,
            blobs=survey.blobs + len(blobs),
            bytes=survey.bytes + sum(blob.size for blob in page.blobs),
            known=survey.known + len(known),
            young=survey.young + len(young),
            owed=survey.owed + len(owed),
            strange=survey.strange + len(blobs) - len(asked),
            orphans=survey.orphans + len(orphans),
            orphan_bytes=survey.orphan_bytes + sum(blob.size for blob in orphans),
            some_orphans=_some(survey.some_orphans, (blob.key for blob in orphans)),
        )
        end = len(page.blobs) < _LISTED
        return found, None if end else page.blobs[-1].key, [blob.key for blob in orphans]

    def _look_back(self, stand: Stand) -> Stand:
        owing, survey = self.columns[stand.column], stand.survey
        keys, last = self.debts.named(owing, stand.after, MOST)
        gone = {*keys} - self.blobs.present(keys)
        if gone:  # unless the row left, and its blob with it, between the two looks
            gone &= self.debts.referred([owing], sorted(gone))
        survey = replace(
            survey,
            keys=survey.keys + len(keys),
            missing=survey.missing + len(gone),
            some_missing=_some(survey.some_missing, (f"{owing} {key}" for key in sorted(gone))),
        )
        if last is not None:
            return replace(stand, survey=survey, after=last)
        column = stand.column + 1
        stage = Stage.ROWS if column < len(self.columns) else Stage.REMOVAL
        return replace(stand, survey=survey, after=None, column=column, stage=stage)


def sentences(survey: Survey, older_than: timedelta) -> list[str]:
    """Say what was found, for a person."""
    said = [f"looked at {_count(survey.blobs, 'blob')} of {survey.store} ({survey.place}, {size(survey.bytes)})"]
    orphans = f"{_count(survey.orphans, 'orphan')} ({size(survey.orphan_bytes)})"
    said.append(
        f"{orphans}: {', '.join(_told(survey.some_orphans, survey.orphans))}" if survey.orphans else "no orphan"
    )
    if survey.young:
        said.append(f"{survey.young:,} that no row knows are younger than {spell(older_than)}")
    if survey.owed:
        said.append(f"{survey.owed:,} leave already, being owed")
    if survey.strange:
        said.append(f"{survey.strange:,} have names that no row could have, and stay")
    missing = f"of {_count(survey.keys, 'key')} that rows have, {survey.missing:,} name a blob that is missing"
    said.append(
        f"{missing}: {', '.join(_told(survey.some_missing, survey.missing))}" if survey.missing else "none is missing"
    )
    return said


def _told(some: Sequence[str], number: int) -> list[str]:
    return [*some, *["…"] * (number > len(some))]


def _count(number: int, noun: str) -> str:
    """Say how many: “1 blob”, “2,000 blobs”."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def size(number: int) -> str:
    """Write bytes as “3.4 MB”."""
    size, units = float(number), ["bytes", "kB", "MB", "GB", "TB"]
    while size >= 1_000 and len(units) > 1:
        size, units = size / 1_000, units[1:]
    return f"{size:,.0f} {units[0]}" if units[0] == "bytes" else f"{size:,.1f} {units[0]}"


def _some(told: Sequence[str], keys: Iterable[str]) -> tuple[str, ...]:
    """Add keys to those that are told, as long as these are few."""
    return (*told, *(one_line(key)[:_LONGEST] for key in islice(keys, max(0, _NAMED - len(told)))))


def _parts(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    return (keys[first : first + MOST] for first in range(0, len(keys), MOST))


def _is_text(key: str) -> bool:
    """Tell whether a database could have a key: a name on a disk may be any bytes."""
    try:
        return "\0" not in key.encode().decode()
    except UnicodeError:
        return False
