"""The engine that renders a template: Jinja2 in its sandbox, strict about names and about what may stand in a mail."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import FileSystemLoader, StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup

from nightcrew.errors import TemplateError

# Controls but tab and newlines; what turns the reading direction of all that follows; what is no character at all.
_UNFIT = re.compile(
    "[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]"
)


def engine(folders: Sequence[Path]) -> "Engine":
    """Return an engine for the templates in folders, which compiles each once."""
    return Engine(
        loader=FileSystemLoader([str(folder) for folder in folders]),
        autoescape=lambda name: name is not None and name.endswith(".html"),
        undefined=StrictUndefined,
        finalize=_fit,
        auto_reload=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )


class Engine(ImmutableSandboxedEnvironment):
    """Jinja2's environment, with a filter `line` for what strangers wrote of themselves, such as their names."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.filters["line"] = line

    def join_path(self, template: str, parent: str) -> str:
        """Return the name of what `parent` includes, extends or imports; raises TemplateError for another kind.

        Text inside HTML would not be escaped there, and HTML inside text would be.
        """
        if Path(template).suffix != Path(parent).suffix:
            raise TemplateError(unlike(template, parent))
        return template


def unlike(template: str, parent: str) -> str:
    """Say why one template cannot stand in another, whose name ends otherwise."""
    ending = Path(parent).suffix
    return f"{parent} cannot hold {template!r}, which is escaped otherwise: name a template that ends with {ending}"


def line(text: object, longest: int = 60) -> str:
    """Return a text on one line, of so many characters at most."""
    folded = " ".join(str(text).split())
    return folded if len(folded) <= longest else f"{folded[: longest - 1].rstrip()}…"


def _fit(value: Any) -> Any:
    """Return a value as it may stand in a mail: an empty column as nothing, a text without what is unfit for one."""
    if value is None:
        return ""
    if isinstance(value, str) and _UNFIT.search(value):
        kept = _UNFIT.sub("", value)
        return Markup(kept) if isinstance(value, Markup) else kept  # noqa: S704 - it was markup, and is less of it
    return value
