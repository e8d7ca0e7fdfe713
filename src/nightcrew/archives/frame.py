"""Frame: what one batch took, as JSON lines that are pressed with zstd, so that any tool can read them.

The first line says of which run they are. Then, table by table, a line says the columns, and one for each row its
values in their order.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from nightcrew.errors import ArchiveError, MissingExtra

FORMAT = 1
_LEVEL = 1
_LARGEST = 2**31  # bytes that a frame may have when it is unpacked: what says more is no frame of ours
_LONGEST_HEAD = 4096  # bytes, of a run's and a job's name
_EXTRA = "archives need zstandard; run: pip install 'nightcrew[archive]'"


@dataclass(frozen=True)
class Copy:
    """So many rows of a table as they were: lines, each a JSON array of a row's values in the order of the columns.

    A value is what the database writes it as, a text mostly; NULL is null, and bytes are in `{"hex": …}` where they
    are no text. `kinds` are the columns' types in the database's own words. Columns that it computes are left out.
    """

    table: str
    columns: tuple[str, ...]
    kinds: tuple[str, ...]
    key: tuple[str, ...]
    lines: str
    size: int

    @cached_property
    def rows(self) -> Sequence[str]:
        """The rows, each a line."""
        return self.lines.split("\n") if self.size else []

    @cached_property
    def values(self) -> list[list[Any]]:
        """The rows as values."""
        return values(self.lines)

    def picked(self, places: Sequence[int]) -> "Copy":
        """Return those of the rows that are at these places."""
        if len(places) == self.size:
            return self
        return replace(self, lines="\n".join([self.rows[place] for place in places]), size=len(places))

    def of(self, names: Sequence[str]) -> list[int]:
        """Return the places of columns in a row."""
        return [self.columns.index(name) for name in names]


@dataclass(frozen=True, slots=True)
class Lines:
    """So many rows as a database answers with them, each a line; and their keys, where the lines do not tell these."""

    text: str
    size: int
    keys: Sequence[tuple[Any, ...]] = ()


@dataclass(frozen=True, slots=True)
class Frame:
    """What a batch of a run took, by table."""

    run: str
    job: str
    copies: tuple[Copy, ...]

    @property
    def counts(self) -> dict[str, int]:
        """How many rows of each table there are."""
        return {copy.table: copy.size for copy in self.copies}


def packed(frame: Frame) -> bytes:
    """Return a frame as it is kept."""
    return bytes(_zstd().ZstdCompressor(level=_LEVEL).compress("\n".join(_lines(frame)).encode()))


def unpacked(data: bytes) -> Frame:
    """Read a frame; raises ArchiveError for what is none."""
    zstd = _zstd()
    try:
        size = zstd.frame_content_size(data)
        if not 0 < size <= _LARGEST:
            raise ArchiveError("it is no frame of an archive")
        return _frame(zstd.ZstdDecompressor().decompress(data).decode().split("\n"))
    except (zstd.ZstdError, ValueError, KeyError, TypeError, IndexError) as error:
        raise ArchiveError(f"it is damaged ({type(error).__name__})") from error


def demand_format(data: bytes) -> None:
    """Raise ArchiveError for what is no frame, or one of a format that is not ours."""
    zstd = _zstd()
    try:
        with zstd.ZstdDecompressor().stream_reader(data) as reader:
            _head(reader.read(_LONGEST_HEAD).decode(errors="ignore").split("\n")[0])
    except (zstd.ZstdError, ValueError, KeyError, TypeError) as error:
        raise ArchiveError(f"it is damaged ({type(error).__name__})") from error


def _head(line: str) -> Mapping[str, Any]:
    head: Mapping[str, Any] = json.loads(line)
    if head["nightcrew"] != FORMAT:
        raise ArchiveError(f"it is of format {head['nightcrew']}, which another version of nightcrew reads")
    return head


def _lines(frame: Frame) -> Iterator[str]:
    yield _json({"nightcrew": FORMAT, "run": frame.run, "job": frame.job})
    for copy in frame.copies:
        head = {"table": copy.table, "columns": copy.columns, "kinds": copy.kinds, "key": copy.key}
        yield _json(head | {"rows": copy.size})
        if copy.size:
            yield copy.lines


def _frame(lines: Sequence[str]) -> Frame:
    head, copies, place = _head(lines[0]), list[Copy](), 1
    while place < len(lines):
        copy = _copy(json.loads(lines[place]), lines[place + 1 :])
        copies.append(copy)
        place += 1 + copy.size
    return Frame(head["run"], head["job"], tuple(copies))


def _copy(head: Mapping[str, Any], below: Sequence[str]) -> Copy:
    rows = below[: head["rows"]]
    if len(rows) < head["rows"]:
        raise ArchiveError("it ends in the middle of a table")
    columns, kinds, key = (tuple(head[name]) for name in ("columns", "kinds", "key"))
    return Copy(head["table"], columns, kinds, key, "\n".join(rows), len(rows))


def _bytes(value: Any) -> dict[str, str]:
    return {"hex": bytes(value).hex()}


_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=_bytes).encode


def row(values: Sequence[Any]) -> str:
    """Return a row's values as a line."""
    return _json(values)


def values(lines: str) -> list[list[Any]]:
    """Return the values of rows that are lines: a line break is nothing but what parts two of them."""
    read: list[list[Any]] = json.loads(f"[{lines.replace(chr(10), ',')}]", object_hook=_read)
    return read


def _read(found: Mapping[str, str]) -> bytes:
    return bytes.fromhex(found["hex"])


def _zstd() -> Any:
    try:
        import zstandard  # noqa: PLC0415 - an extra
    except ModuleNotFoundError:
        raise MissingExtra(_EXTRA) from None
    return zstandard


def demand() -> None:
    """Raise MissingExtra where frames cannot be written here."""
    _zstd()
