"""A folder that no key leads out of: every step of a path is taken from an open folder, and never through a link."""

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from unicodedata import normalize

_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)


class Astray(Exception):
    """A key that is no path within a folder; its text says why."""


def steps(key: str) -> tuple[str, ...]:
    """Return the names a key leads through, the file's own last; raises Astray for a key that cannot be a path."""
    names = tuple(key.split("/"))
    if not key or "\0" in key or {"", ".", ".."} & {*names}:
        raise Astray("it is no path within the folder")
    try:
        os.fsencode(key)
    except UnicodeEncodeError:
        raise Astray("it cannot be the name of a file") from None
    return names


@contextmanager
def opened(path: str) -> Iterator[int]:
    """Open a folder by its path, which may lead through links; raises OSError."""
    folder = os.open(path, _FOLDER)
    try:
        yield folder
    finally:
        os.close(folder)


@contextmanager
def descent(root: int, names: Sequence[str], *, make: bool = False) -> Iterator[list[int]]:
    """Open the folders within an open one by their names, and return all of them, that one first.

    Raises OSError, and Astray for a link. With `make`, those that are not there are made.
    """
    folders = [root]
    try:
        for name in names:
            if make:
                with suppress(FileExistsError):
                    os.mkdir(name, dir_fd=folders[-1])
            folders.append(enter(folders[-1], name))
        yield folders
    finally:
        for folder in folders[1:]:
            os.close(folder)


def enter(folder: int, name: str) -> int:
    """Open a folder within an open one; raises OSError, and Astray for a link."""
    try:
        return os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
    except NotADirectoryError:
        demand_no_link(name, look(folder, name))
        raise


def look(folder: int, name: str) -> os.stat_result | None:
    """Return what is there by a name, a link itself and not what it leads to, or None."""
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return None


def demand_no_link(name: str, found: os.stat_result | None) -> None:
    """Raise Astray for a link."""
    if found is not None and stat.S_ISLNK(found.st_mode):
        raise Astray(f"{name} is a link, which may lead out of the folder")


def bears(folder: int, name: str, found: os.stat_result) -> bool:
    """Tell whether what was found by a name is called so to the letter, where the file system may fold case or form."""
    others = {name.swapcase(), normalize("NFC", name), normalize("NFD", name)} - {name}
    if not any(_same(found, look(folder, other)) for other in others):
        return True
    with os.scandir(folder) as entries:
        return any(entry.name == name for entry in entries)


def prune(folders: Sequence[int], names: Sequence[str]) -> int:
    """Remove the folders of a descent that are empty, the innermost first, and return the innermost that is left."""
    for depth in range(len(names), 0, -1):
        try:
            os.rmdir(names[depth - 1], dir_fd=folders[depth - 1])
        except OSError:  # it is not empty, or somebody was quicker
            return folders[depth]
    return folders[0]


def _same(one: os.stat_result, other: os.stat_result | None) -> bool:
    return other is not None and (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
