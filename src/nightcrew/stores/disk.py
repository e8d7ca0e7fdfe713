"""Blobs as the files of a local folder: a key is a path within it, its folders parted by slashes."""

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from heapq import nsmallest
from itertools import groupby, islice

from nightcrew.clock import Clock, SystemClock
from nightcrew.errors import StoreError
from nightcrew.store import MOST, Blob, Page
from nightcrew.stores import folder
from nightcrew.stores.folder import Astray

_TRIES = 5  # at writing into a folder that somebody else takes for empty, and removes
_DRAFT = ".nightcrew-"  # what a file is called until it is whole
_DEAD = timedelta(days=1)  # after which nobody writes it any more
_NO_FILE = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


class Disk:
    """The folder at an absolute path; no key leads out of it, by links neither.

    Folders that removing leaves empty are removed. Links are not listed, read or removed. Nor are files that are not
    whole listed, which have a name of their own until they are; those that somebody died over who wrote them are
    cleared away by whoever comes upon them a day later.
    """

    most = MOST

    def __init__(self, path: str, clock: Clock | None = None) -> None:
        self.place = f"file://{path}"
        self._path = path
        self._clock = clock or SystemClock()

    def remove(self, keys: Sequence[str]) -> Mapping[str, str]:
        """Remove these files, and return why by the key of each that would not go."""
        refused: dict[str, str] = {}
        paths: list[tuple[tuple[str, ...], str]] = []
        for key in keys:
            try:
                paths.append((folder.steps(key), key))
            except Astray as why:
                refused[key] = str(why)
        with self._root() as root:
            for within, group in groupby(sorted(paths), lambda path: path[0][:-1]):
                refused |= _emptied(root, within, {path[-1]: key for path, key in group})
        return refused

    def page(self, after: str | None = None, limit: int = MOST, *, prefix: str = "") -> Page:
        """Return up to `limit` files whose keys come after one, of those that begin with `prefix`."""
        at = self._clock.now()
        with self._root() as root:
            old = (self._clock.now() - _DEAD).timestamp()
            return Page(tuple(islice(_blobs(root, "", (after or "", prefix, limit), old), limit)), at)

    def present(self, keys: Sequence[str]) -> set[str]:
        """Return those of the keys under which there is a file."""
        with self._root() as root:
            return {key for key in keys if _is_file(root, key)}

    def get(self, key: str) -> bytes | None:
        """Return a file's content, or None where there is none."""
        with self._root() as root, self._renamed(key):
            *within, name = folder.steps(key)
            try:
                with folder.descent(root, within) as folders:
                    folder.demand_no_link(name, folder.look(folders[-1], name))
                    file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folders[-1])
                    with open(file, "rb") as content:  # noqa: PTH123 - it is open already
                        return content.read() if stat.S_ISREG(os.fstat(file).st_mode) else None
            except _NO_FILE:
                return None

    def put(self, key: str, data: bytes) -> None:
        """Write a file whole, or not at all; it is on the disk when this returns."""
        with self._root() as root, self._renamed(key):
            *within, name = folder.steps(key)
            if name.startswith(_DRAFT):
                raise Astray(f"names that begin with {_DRAFT} are those of files that are not whole")
            for attempt in range(1, _TRIES + 1):
                try:
                    with folder.descent(root, within, make=True) as folders:
                        _write(folders[-1], name, data, _DRAFT + self._clock.token())
                        for each in reversed(folders):
                            os.fsync(each)
                        return
                except FileNotFoundError:
                    if attempt == _TRIES:
                        raise

    @contextmanager
    def _root(self) -> Iterator[int]:
        """Open the folder; raises StoreError where it cannot be, or where the system fails in the block."""
        try:
            with folder.opened(self._path) as root:
                yield root
        except (FileNotFoundError, NotADirectoryError):
            raise StoreError(f"there is no folder {self._path}: make or mount it, or correct its URL") from None
        except OSError as error:
            where = f" at {error.filename}" if isinstance(error.filename, str) and error.filename != self._path else ""
            raise StoreError(f"folder {self._path} cannot be used: {_said(error)}{where}") from error

    @contextmanager
    def _renamed(self, key: str) -> Iterator[None]:
        """Say in which place the block could not do something with a key."""
        try:
            yield
        except (Astray, OSError) as error:
            why = _said(error) if isinstance(error, OSError) else str(error)
            raise StoreError(f"key {key[:200]!r} cannot be used in {self.place}: {why}") from error


def _emptied(root: int, within: Sequence[str], keys: Mapping[str, str]) -> dict[str, str]:
    """Remove files of one folder, given as keys by their names, and the folder if that leaves it empty."""
    refused = {}
    try:
        with folder.descent(root, within) as folders:
            if not all(_bears(*step) for step in zip(folders, within, strict=False)):
                return {}
            for name, key in keys.items():
                try:
                    _unlink(folders[-1], name)
                except (Astray, OSError) as error:
                    refused[key] = _said(error)
            os.fsync(folder.prune(folders, within))
    except (FileNotFoundError, NotADirectoryError):
        return refused
    except (Astray, OSError) as error:
        return dict.fromkeys(keys.values(), _said(error))
    return refused


def _unlink(within: int, name: str) -> None:
    found = folder.look(within, name)
    folder.demand_no_link(name, found)
    if found is None or stat.S_ISDIR(found.st_mode) or not folder.bears(within, name, found):
        return
    if not stat.S_ISREG(found.st_mode):
        raise Astray(f"{name} is no file")
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=within)


def _bears(within: int, name: str) -> bool:
    found = folder.look(within, name)
    return found is not None and folder.bears(within, name, found)


def _is_file(root: int, key: str) -> bool:
    try:
        *within, name = folder.steps(key)
        with folder.descent(root, within) as folders:
            found = folder.look(folders[-1], name)
            return found is not None and stat.S_ISREG(found.st_mode)
    except (Astray, FileNotFoundError, NotADirectoryError):
        return False


def _blobs(within: int, above: str, which: tuple[str, str, int], old: float) -> Iterator[Blob]:
    """Walk through the files of an open folder and those in it, in the order of their keys."""
    for key in _keys(within, above, which, old):
        name = key[len(above) :]
        if not key.endswith("/"):
            if (found := folder.look(within, name)) is not None:
                yield Blob(key, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))
            continue
        with suppress(FileNotFoundError, NotADirectoryError, Astray):  # somebody removed or replaced it just now
            below = folder.enter(within, name[:-1])
            try:
                yield from _blobs(below, key, which, old)
            finally:
                os.close(below)


def _keys(within: int, above: str, which: tuple[str, str, int], old: float) -> Iterator[str]:
    """Return the keys of a folder's files, and those of its folders with a slash, in order; few at a time are kept."""
    (after, prefix, limit), last = which, ""
    while True:
        with os.scandir(within) as entries:
            known = filter(None, (_key(entry, above) for entry in entries if _is_whole(within, entry, old)))
            few = nsmallest(limit, (key for key in known if key > last and _leads(key, after, prefix)))
        yield from few
        if len(few) < limit:
            return
        last = few[-1]


def _is_whole(within: int, entry: os.DirEntry[str], old: float) -> bool:
    """Tell drafts from files, and clear one away that was last written before `old`."""
    if not entry.name.startswith(_DRAFT) or not entry.is_file(follow_symlinks=False):
        return True
    with suppress(OSError):  # it is whole by now, or we may only read
        if entry.stat(follow_symlinks=False).st_mtime < old:
            os.unlink(entry.name, dir_fd=within)
    return False


def _key(entry: os.DirEntry[str], above: str) -> str | None:
    if entry.is_dir(follow_symlinks=False):
        return f"{above}{entry.name}/"
    return above + entry.name if entry.is_file(follow_symlinks=False) else None


def _leads(key: str, after: str, prefix: str) -> bool:
    """Tell whether a file is among those that are asked for, or a folder may hold some of them."""
    if key.endswith("/") and prefix.startswith(key):
        return key > after or after.startswith(key)
    return key.startswith(prefix) and (key > after or (key.endswith("/") and after.startswith(key)))


def _write(within: int, name: str, data: bytes, draft: str) -> None:
    """Write a file under another name, and give it its own once it is on the disk."""
    file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666, dir_fd=within)
    try:
        with open(file, "wb") as content:  # noqa: PTH123 - it is open already
            content.write(data)
            content.flush()
            os.fsync(file)
        os.replace(draft, name, src_dir_fd=within, dst_dir_fd=within)
    except BaseException:
        with suppress(OSError):
            os.unlink(draft, dir_fd=within)
        raise


def _said(error: Exception) -> str:
    """Say what the system said, without a path."""
    return getattr(error, "strerror", None) or str(error)
