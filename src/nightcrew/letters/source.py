"""Source: a template as it is written, and what it names, before anything is rendered."""

from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

from jinja2 import TemplateAssertionError, TemplateNotFound, TemplateSyntaxError, meta, nodes

from nightcrew.errors import TemplateError, did_you_mean
from nightcrew.letters.engine import Engine, unlike

Reference: TypeAlias = nodes.Extends | nodes.Include | nodes.Import | nodes.FromImport
"""A place in a template that names others."""


class Source:
    """One template: `place` is its path as faults name it. Raises TemplateError where it cannot be read or parsed."""

    def __init__(self, engine: Engine, file: str) -> None:
        assert engine.loader is not None  # noqa: S101 - engine() gives it one
        self._engine = engine
        self.file = self.place = file
        try:
            text, path, _ = engine.loader.get_source(engine, file)
            self.place = path or file
            self.tree = engine.parse(text, file, path)
        except TemplateSyntaxError as error:
            raise TemplateError(f"{self.place}, line {error.lineno}: {error.message}") from None
        except UnicodeDecodeError as error:
            raise TemplateError(f"{file} is not UTF-8 (byte {error.start}): save it as UTF-8") from None

    @cached_property
    def lacking(self) -> dict[str, int]:
        """The variables that somebody else has to give, each with the first line that names it."""
        try:
            names = meta.find_undeclared_variables(self.tree)
        except TemplateAssertionError:  # an unknown filter or test, of which faults() tells
            return {}
        found = ((node.name, node.lineno) for node in self.tree.find_all(nodes.Name) if node.name in names)
        return dict(sorted(found, key=lambda each: each[1], reverse=True))

    @cached_property
    def own(self) -> frozenset[str]:
        """The names that it sets itself, which what it extends, includes and imports may see."""
        named = {node.name for node in self.tree.find_all(nodes.Name) if node.ctx != "load"}
        for macro in self.tree.find_all(nodes.Macro):
            named.add(macro.name)
        for module in self.tree.find_all(nodes.Import):
            named.add(module.target)
        for names in self.tree.find_all(nodes.FromImport):
            named |= {name if isinstance(name, str) else name[1] for name in names.names}
        return frozenset(named)

    @cached_property
    def blocks(self) -> dict[str, nodes.Block]:
        """Its blocks by name."""
        return {block.name: block for block in self.tree.find_all(nodes.Block)}

    def references(self) -> Iterator[tuple[Reference, list[str]]]:
        """Yield each place that names other templates, with their names: of several, one will do."""
        for node in self.tree.find_all(nodes.Node):
            if isinstance(node, Reference):
                yield node, named(node)

    @property
    def parent(self) -> str | None:
        """The template that it extends."""
        return next((files[0] for node, files in self.references() if isinstance(node, nodes.Extends) and files), None)

    def faults(self) -> Iterator[str]:
        """Yield what is wrong with it by itself: names of filters and tests, and of other templates."""
        for node in self.tree.find_all(nodes.Filter):
            yield from self._unknown("filter", node, node.name, self._engine.filters)
        for test in self.tree.find_all(nodes.Test):
            yield from self._unknown("test", test, test.name, self._engine.tests)
        for reference, files in self.references():
            yield from self._astray(reference, files)

    def _unknown(self, what: str, node: nodes.Node, name: str, known: Iterable[str]) -> Iterator[str]:
        if name not in known:
            yield f"{self.place}, line {node.lineno}: there is no {what} {name!r}{did_you_mean(name, known)}"

    def _astray(self, reference: Reference, files: list[str]) -> Iterator[str]:
        where = f"{self.place}, line {reference.lineno}"
        if not files:
            yield f"{where}: which template this is turns out only when it is rendered: write its name"
            return
        there = self._engine.list_templates()
        alike = [file for file in files if Path(file).suffix == Path(self.file).suffix]
        if len(alike) < len(files):
            yield f"{where}: {unlike(next(file for file in files if file not in alike), self.file)}"
        elif not getattr(reference, "ignore_missing", False) and not any(file in there for file in files):
            yield f"{where}: there is no template {files[0]!r}{did_you_mean(files[0], there)}"


def read(engine: Engine, file: str) -> Source | None:
    """Return a template, or None where there is none of this name."""
    try:
        return Source(engine, file)
    except TemplateNotFound:
        return None


def named(reference: Reference) -> list[str]:
    """Return the templates that a place names, or none where that turns out only when it is rendered."""
    node = reference.template
    each = node.items if isinstance(node, nodes.List | nodes.Tuple) else [node]
    texts = [item.value for item in each if isinstance(item, nodes.Const) and isinstance(item.value, str)]
    return texts if len(texts) == len(each) else []
