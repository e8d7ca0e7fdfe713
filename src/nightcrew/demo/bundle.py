"""Bundle: several files as one zip, written while it is sent, so that no more than one of them is in memory."""

import re
from collections.abc import Iterable, Iterator
from io import RawIOBase
from itertools import chain, count
from pathlib import PurePosixPath
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from nightcrew.demo.files import Files, safe
from nightcrew.demo.library import Item

LEFT_OUT = "left-out.txt"
_FORBIDDEN = re.compile(r'[<>:"|?*]')  # by Windows, in a name
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)  # which no file there may be called
_OLDEST = 1980  # the first year that a zip can say


def names(items: Iterable[Item]) -> dict[str, str]:
    """Return the name of each file in the zip by its key: one that leads no unpacker elsewhere, and no other has."""
    taken, found = {LEFT_OUT}, dict[str, str]()
    for item in items:
        name = _FORBIDDEN.sub("_", safe(item.name))
        path = PurePosixPath(f"_{name}" if _DEVICES.fullmatch(name) else name)
        ways = chain([path.name], (f"{path.stem} ({number}){path.suffix}" for number in count(2)))
        found[item.id] = next(way for way in ways if way.casefold() not in taken)
        taken.add(found[item.id].casefold())
    return found


def zipped(files: Files, items: Iterable[Item], gone: int = 0) -> Iterator[bytes]:
    """Return a zip of files part by part; what had gone before, or has no bytes any more, is told in a file of its own.

    The first part is there once the first file is. Raises StoreError where the store is out of reach.
    """
    items = list(items)
    named, left, pipe = names(items), list[str](), _Pipe()
    with ZipFile(pipe, "w", ZIP_DEFLATED) as bundle:
        for item in items:
            data = files.get(item.blob_key)
            if data is None:
                left.append(f"{named[item.id]}: its bytes are gone")
                continue
            bundle.writestr(_entry(named[item.id], item), data)
            yield pipe.taken()
        left += [f"{gone} more: deleted, or never yours"] if gone else []
        if left:
            bundle.writestr(LEFT_OUT, "\n".join([*left, ""]))
    yield pipe.taken()


def _entry(name: str, item: Item) -> ZipInfo:
    at = item.created_at
    entry = ZipInfo(name, (max(at.year, _OLDEST), at.month, at.day, at.hour, at.minute, at.second))
    entry.compress_type = ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    return entry


class _Pipe(RawIOBase):
    """What a zip is written to, and taken from at once: nobody goes back in it."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._parts.append(bytes(data))
        return len(data)

    def taken(self) -> bytes:
        found, self._parts = b"".join(self._parts), []
        return found
