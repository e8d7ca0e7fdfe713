"""Which files a mail is made of: one for each of its parts, the one most closely about a segment and an arm."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from nightcrew.errors import ConfigurationError, did_you_mean

PARTS = (".subject.txt", ".txt", ".html")
"""What the names of a mail's three files end with: its subject, its text, and the same as HTML."""
SUBJECT = "subject"
"""No segment and no arm may be called that: its text would be the subject."""
WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
"""What mails, segments and arms are called, for their names are parts of files' names."""


class Files:
    """The files of folders, of which the first that has any file of a mail has them all.

    So whoever overwrites a mail does it whole, and never sends half of another's. What mails include and extend is
    looked for in every folder, the first first. A file that comes later is seen by Files made anew.
    Raises ConfigurationError for a folder that is none.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = folders
        self._owners: dict[str, Path] = {}
        self._of: dict[str, frozenset[str]] = {}
        for folder in folders:
            for mail, names in _listed(folder).items():
                if mail not in self._of:
                    self._owners[mail], self._of[mail] = folder, frozenset(names)

    @property
    def mails(self) -> list[str]:
        """The names of the mails that there are."""
        return sorted(mail for mail, names in self._of.items() if any(name.endswith(PARTS[0]) for name in names))

    def of(self, mail: str) -> frozenset[str]:
        """Return the names of all files that begin with a mail's name, or none."""
        return self._of.get(mail, frozenset())

    def folder(self, mail: str) -> Path:
        """Return where a mail's files are, or would be."""
        return self._owners.get(mail, self.folders[0])

    def part(self, mail: str, part: str, segment: str | None, arm: str | None) -> str | None:
        """Return the file of one of PARTS that is most closely about a segment and an arm, or None without any."""
        names = self.of(mail)
        return next((name for name in _closest_first(mail, part, segment, arm) if name in names), None)

    def lacks(self, mail: str, part: str) -> str:
        """Say that a mail has no file for a part, and what was meant perhaps where it has none at all."""
        guess = "" if self.of(mail) else did_you_mean(mail, self.mails)
        return f"mail {mail!r} has no {self.folder(mail) / (mail + part)}{guess or ': write it'}"

    def words(self, mail: str) -> frozenset[str]:
        """Return the segments and arms that the names of a mail's files speak of."""
        return frozenset(word for name in self.of(mail) for word in name.split(".")[1:-1]) - {SUBJECT}


def _closest_first(mail: str, part: str, segment: str | None, arm: str | None) -> Iterator[str]:
    if segment and arm:
        yield f"{mail}.{segment}.{arm}{part}"
    if segment:
        yield f"{mail}.{segment}{part}"
    if arm:
        yield f"{mail}.{arm}{part}"
    yield f"{mail}{part}"


def _listed(folder: Path) -> Mapping[str, set[str]]:
    found: dict[str, set[str]] = {}
    try:
        for path in folder.iterdir():
            mail = path.name.partition(".")[0]
            if path.is_file() and WORD.fullmatch(mail):
                found.setdefault(mail, set()).add(path.name)
    except OSError as error:
        raise ConfigurationError(
            f"the folder of mail templates {folder} cannot be read ({error.strerror}): make it, or name another"
        ) from None
    return found
