"""What is wrong with the mails of sequences, found before anybody is sent one."""

from collections.abc import Collection, Iterator, Mapping
from itertools import chain, product

from jinja2 import nodes

from nightcrew.errors import TemplateError, did_you_mean
from nightcrew.letters.engine import Engine
from nightcrew.letters.files import PARTS, SUBJECT, WORD, Files
from nightcrew.letters.source import Source, named, read

WAY_OUT = "unsubscribe_url"
"""The variable without which no text and no HTML may leave."""


def faults(
    engine: Engine, files: Files, names: Mapping[str, tuple[Collection[str], Collection[str]]], known: Collection[str]
) -> list[str]:
    """Return one sentence for each fault of these mails, which come with their segments and arms."""
    inspection = _Inspection(engine, files, frozenset(known) | {WAY_OUT})
    found = chain.from_iterable(inspection.mail(name, *words) for name, words in names.items())
    return list(dict.fromkeys(found))


class _Inspection:
    """One look at all of them, in which each template is read once."""

    def __init__(self, engine: Engine, files: Files, known: frozenset[str]) -> None:
        self._engine = engine
        self._files = files
        self._known = known
        self._sources: dict[str, Source | str | None] = {}

    def mail(self, name: str, segments: Collection[str], arms: Collection[str]) -> Iterator[str]:
        if not self._files.of(name):
            yield self._files.lacks(name, PARTS[0])
            return
        if misnamed := list(_misnamed(name, segments, arms)):
            yield from misnamed
            return
        meant: set[str] = set()
        for part, segment, arm in product(PARTS, (None, *segments), (None, *arms)):
            file = self._files.part(name, part, segment, arm)
            if file is None and (segment or not segments) and (arm or not arms):
                yield self._files.lacks(name, part)
            elif file is not None and file not in meant:
                meant.add(file)
                yield from self._template(file)
                if part != PARTS[0] and self._hides_the_way_out(file):
                    where = self._files.folder(name) / file
                    yield f"{where} never shows {WAY_OUT}: write it where people look for it, as in the last lines"
        used = meant.union(*(self._reached(file) for file in meant))
        for file in sorted(self._files.of(name) - used):
            yield self._unused(name, file, [*segments, *arms])

    def _unused(self, name: str, file: str, words: list[str]) -> str:
        spoken = file.split(".")[1:-1]
        wrong = next((word for word in spoken if word not in (*words, SUBJECT)), None)
        why = f": {wrong!r} is none of its segments and arms{did_you_mean(wrong, words)}" if wrong else ""
        return f"{self._files.folder(name) / file} is never used for mail {name!r}{why or ': rename or remove it'}"

    def _template(self, file: str) -> Iterator[str]:
        """Yield what is wrong with a template and all that it is made of."""
        pending, seen = [(file, self._known)], set[str]()
        while pending:
            file, given = pending.pop()
            line = self._line_of_descent(file)
            given |= frozenset().union(*(source.own for source in line))
            for source in line:
                if source.file in seen:
                    continue
                seen.add(source.file)
                yield from source.faults()
                yield from _nameless(source, given, self._known)
                yield from _homeless(source, line)
                pending += [(other, seeing) for other, seeing in _made_of(source, given)]
            yield from self._unread(file, line)

    def _unread(self, file: str, line: list[Source]) -> Iterator[str]:
        """Yield why a line of descent ends early, unless what is not there was told of by whoever names it."""
        last = line[-1].parent if line else file
        fault = self._source(last) if last and last not in [source.file for source in line] else None
        if isinstance(fault, str):
            yield fault

    def _line_of_descent(self, file: str | None) -> list[Source]:
        """Return a template, the one that it extends, and so on, as far as they can be read."""
        line: list[Source] = []
        while file and isinstance(source := self._source(file), Source) and source not in line:
            line.append(source)
            file = source.parent
        return line

    def _source(self, file: str) -> Source | str | None:
        """Return a template, or why it cannot be read, or None where there is none."""
        if file not in self._sources:
            try:
                self._sources[file] = read(self._engine, file)
            except TemplateError as fault:
                self._sources[file] = str(fault)
        return self._sources[file]

    def _reached(self, file: str) -> set[str]:
        """Return the names of a template and of all that it may be made of."""
        reached, pending = set[str](), [file]
        while pending:
            reached.add(file := pending.pop())
            if isinstance(source := self._source(file), Source):
                pending += [other for _, files in source.references() for other in files if other not in reached]
        return reached

    def _hides_the_way_out(self, file: str) -> bool:
        return isinstance(self._source(file), Source) and WAY_OUT not in self._shown(file)

    def _shown(self, file: str, above: frozenset[str] = frozenset()) -> set[str]:
        """Return the variables that a template names where it is not overwritten by what extends it."""
        shown: set[str] = set()
        overwritten: set[str] = set()
        for source in self._line_of_descent(file):
            for node in _standing(source, overwritten):
                if isinstance(node, nodes.Name):
                    shown.add(node.name)
                elif isinstance(node, nodes.Include | nodes.Import | nodes.FromImport):
                    inner = above | {file}
                    shown.update(*(self._shown(other, inner) for other in named(node) if other not in inner))
            overwritten |= {name for name, block in source.blocks.items() if not _asks_for_parents(block)}
        return shown


def _misnamed(name: str, segments: Collection[str], arms: Collection[str]) -> Iterator[str]:
    for word in (*segments, *arms):
        if not WORD.fullmatch(word) or word == SUBJECT:
            yield (
                f"mail {name!r} cannot have a segment or an arm {word!r}, which is to be a part of its files' names:"
                f" use letters, digits, '_' and '-', and not {SUBJECT!r}"
            )
    for word in set(segments) & set(arms):
        yield f"mail {name!r} has a segment and an arm {word!r}, whose files would be the same: rename one"


def _nameless(source: Source, given: frozenset[str], known: frozenset[str]) -> Iterator[str]:
    for name, line in source.lacking.items():
        if name in given:
            continue
        remedy = did_you_mean(name, given - source.own)
        if name in known:
            remedy = ": import what names it 'with context', or hand it over"
        yield f"{source.place}, line {line}: nobody gives {name!r}{remedy}"


def _homeless(source: Source, line: list[Source]) -> Iterator[str]:
    """Yield blocks that are rendered nowhere, for nothing that is extended has them."""
    if source.parent is None or source is line[-1]:
        return
    above = {name for other in line[line.index(source) + 1 :] for name in other.blocks}
    for block in source.tree.body:
        if isinstance(block, nodes.Block) and block.name not in above:
            guess = did_you_mean(block.name, above)
            yield f"{source.place}, line {block.lineno}: {source.parent} has no block {block.name!r}{guess}"


def _made_of(source: Source, given: frozenset[str]) -> Iterator[tuple[str, frozenset[str]]]:
    """Yield what a template includes and imports, each with the variables that it will see."""
    for reference, files in source.references():
        if not isinstance(reference, nodes.Extends):
            seeing = given if reference.with_context else frozenset[str]()
            yield from ((file, seeing) for file in files)


def _standing(source: Source, overwritten: set[str]) -> Iterator[nodes.Node]:
    """Yield the nodes of a template that are rendered: of one that extends another, those in its blocks."""
    pending: list[nodes.Node] = list(source.blocks.values()) if source.parent else [source.tree]
    while pending:
        node = pending.pop()
        if isinstance(node, nodes.Block) and node.name in overwritten:
            continue
        yield node
        pending += node.iter_child_nodes()


def _asks_for_parents(block: nodes.Block) -> bool:
    return any(name.name == "super" for name in block.find_all(nodes.Name))
