"""Templates: a mail's name and what is known of a person → the words of their letter."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from traceback import extract_tb
from typing import Any, NoReturn, TypeAlias

from jinja2 import Template, TemplateSyntaxError
from jinja2 import TemplateError as EngineError

from nightcrew.errors import TemplateError
from nightcrew.letters.check import faults
from nightcrew.letters.engine import engine, line
from nightcrew.letters.files import PARTS, Files
from nightcrew.letters.markup import inline

DEFAULT = Path(__file__).parent / "default"
"""The mails that come with nightcrew: welcome, day3 and day7; they need the constants `product` and `app_url`."""
LONGEST_SUBJECT = 200  # characters; a header's line may have 998 (RFC 5322, 2.1.1), and no mail program shows so many
LARGEST = 500_000  # characters of one part; Gmail shows about a fifth of that, and hides the rest
_EMPTY_LINES = re.compile(r"\n{3,}")

_Three: TypeAlias = tuple[Template, Template, Template]


@dataclass(frozen=True, slots=True)
class Words:
    """What a letter says: its `subject` in one line, its `text`, and the same as `html` with inlined styles."""

    subject: str
    text: str
    html: str


class Templates:
    """The mails in folders, of which an earlier one goes before a later one.

    A mail NAME is the files NAME.subject.txt, NAME.txt and NAME.html, in Jinja2. Each may be there once more for a
    segment, an arm of a comparison, or both, as NAME.SEGMENT.ARM.html; the closest one is taken, file by file.
    Templates are read once; whoever changes one makes Templates anew. Raises ConfigurationError for a folder that is
    none. Any number of threads may render.
    """

    def __init__(self, *folders: Path) -> None:
        self._files = Files(folders)
        self._engine = engine(folders)
        self._found: dict[tuple[str, str | None, str | None], _Three] = {}

    @property
    def names(self) -> list[str]:
        """The mails that there are."""
        return self._files.mails

    def render(
        self, name: str, variables: Mapping[str, Any], *, segment: str | None = None, arm: str | None = None
    ) -> Words:
        """Return the words of a mail for one person.

        Raises TemplateError, which names file and line, for a mail that is not there, for a template that is broken or
        names what is not among the variables, and for a part of more than LARGEST characters.
        """
        subject, text, page = self._three(name, segment, arm)
        return Words(
            line(self._filled(subject, variables), LONGEST_SUBJECT) or _nothing(subject),
            _tidy(self._filled(text, variables)) or _nothing(text),
            self._inlined(page, variables) or _nothing(page),
        )

    def check(self, names: Mapping[str, tuple[Collection[str], Collection[str]]], known: Collection[str]) -> list[str]:
        """Return what is wrong with the mails of sequences: each name with its segments and its arms.

        `known` are the variables that they will be given. A fault is one sentence that names file, line and remedy.
        """
        return faults(self._engine, self._files, names, known)

    def _three(self, name: str, segment: str | None, arm: str | None) -> _Three:
        """Return a mail's templates; segments and arms that no file speaks of are all the same one to it."""
        words = self._files.words(name)
        asked = name, segment if segment in words else None, arm if arm in words else None
        if asked not in self._found:
            subject, text, page = (self._load(name, self._files.part(name, part, *asked[1:]), part) for part in PARTS)
            self._found[asked] = subject, text, page
        return self._found[asked]

    def _load(self, name: str, file: str | None, part: str) -> Template:
        if file is None:
            raise TemplateError(self._files.lacks(name, part))
        try:
            return self._engine.get_template(file)
        except Exception as error:
            raise self._broken(error, file) from error

    def _filled(self, template: Template, variables: Mapping[str, Any]) -> str:
        try:
            filled = template.render(variables)
        except Exception as error:
            raise self._broken(error, template.name or "") from error
        if len(filled) > LARGEST:
            raise TemplateError(
                f"{template.filename} came out with {len(filled):,} characters, and a mail's part has {LARGEST:,} at"
                " most: shorten what it says, such as with the filter 'truncate'"
            )
        return filled

    def _inlined(self, template: Template, variables: Mapping[str, Any]) -> str:
        page = self._filled(template, variables)
        try:
            return inline(page) if page.strip() else ""
        except TemplateError as error:
            raise TemplateError(f"{template.filename}: {error}") from None

    def _broken(self, error: Exception, file: str) -> TemplateError:
        """Name the line that an exception comes from; what it says may be personal unless the engine says it."""
        if isinstance(error, TemplateError):
            return error
        said = str(error) if isinstance(error, EngineError) else f"it ended with {type(error).__name__}"
        return TemplateError(f"{self._place(error) or file}: {said}; 'nightcrew check' looks at every mail")

    def _place(self, error: Exception) -> str | None:
        """Return the line of a template where an exception came up; the engine gives Python the templates' lines."""
        if isinstance(error, TemplateSyntaxError):
            return f"{error.filename}, line {error.lineno}"
        steps = [(Path(step.filename), step.lineno) for step in extract_tb(error.__traceback__)]
        ours = [f"{path}, line {line}" for path, line in steps if any(map(path.is_relative_to, self._files.folders))]
        return ours[-1] if ours else None


def _tidy(text: str) -> str:
    """Return a text whose lines end alike, with nothing at their ends but the space of a signature's mark."""
    lines = (each if each == "-- " else each.rstrip() for each in text.splitlines())
    tidied = _EMPTY_LINES.sub("\n\n", "\n".join(lines)).strip("\n")
    return f"{tidied}\n" if tidied else ""


def _nothing(template: Template) -> NoReturn:
    raise TemplateError(f"{template.filename} came out empty: a mail needs a subject, a text and its HTML")
