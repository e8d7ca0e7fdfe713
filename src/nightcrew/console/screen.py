"""Screen: tables, colours, JSON, talk."""

import json
import os
import shutil
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from typing import Any, TextIO

import click

from nightcrew import settings
from nightcrew.errors import OutputLost

_MARKS = {
    "succeeded": ("✓", "green"), "done": ("✓", "green"), "nothing_to_do": ("✓", "green"),
    "already_done": ("•", "green"),
    "running": ("▸", "yellow"), "in_progress_elsewhere": ("▸", "yellow"), "partial": ("▸", "yellow"),
    "retrying": ("▸", "yellow"),
    "failed": ("✗", "red"), "refused": ("✗", "red"), "missed": ("✗", "yellow"), "never": ("○", None),
    "maybe_sent": ("?", "yellow"),
    "cancelled": ("○", "yellow"), "skipped": ("○", None), "disabled": ("○", None), "paused": ("○", "yellow"),
}  # fmt: skip
_NARROWEST = 12  # a cut text shorter than this says nothing


@dataclass(frozen=True, slots=True)
class Screen:
    """Where commands say what they have to say: data on stdout, talk on stderr, colour only to a person."""

    json: bool = False
    quiet: bool = False
    verbose: bool = False
    plain: bool = False

    def show(self, body: Mapping[str, Any], lines: Iterable[str]) -> None:
        """Give the data: one JSON object if that was asked for, else lines."""
        text = json.dumps(body, ensure_ascii=False, default=str) if self.json else "\n".join(lines)
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    def talk(self, text: str) -> None:
        """Say something beside the data."""
        if not self.quiet:
            _say(text)

    def fail(self, problem: BaseException | str, sentence: str = "") -> None:
        """Say what went wrong, a line for every fault; the traceback only with -v."""
        censor = settings.censor()
        if self.verbose and isinstance(problem, BaseException):
            _say(censor("".join(traceback.format_exception(problem)).rstrip()))
        text = censor(sentence or str(problem))
        for line in text.splitlines():
            _say(f"nightcrew: {line}")
        if self.json:
            with suppress(OutputLost):  # the sentence stands on stderr, and the code tells of a worse problem
                self.show({"error": text}, ())

    def mark(self, word: str) -> str:
        """Return a state or an outcome as glyph, word and colour."""
        glyph, colour = _MARKS[word]
        return self.paint(f"{glyph} {word.replace('_', ' ')}", colour)

    def glyph(self, word: str) -> str:
        """Return a state or an outcome as glyph and colour, before a sentence that says the word."""
        return self.paint(*_MARKS[word])

    def paint(self, text: str, colour: str | None) -> str:
        """Return the text in a colour, where colours are seen and wanted."""
        return click.style(text, fg=colour) if colour and self._colourful() else text

    def table(self, heads: Sequence[str], rows: Iterable[Sequence[str | None]]) -> list[str]:
        """Align rows under their heads; on a terminal the widest column gives way."""
        cells = [[" ".join((cell or "-").split()) for cell in row] for row in rows]
        widths = [max(map(_length, column)) for column in zip(heads, *cells, strict=True)]
        if sys.stdout.isatty():
            spare = shutil.get_terminal_size().columns - 2 * (len(widths) - 1)
            widest = widths.index(max(widths))
            widths[widest] = max(min(widths[widest], spare - sum(widths) + widths[widest]), _NARROWEST)
        return [
            "  ".join(_fit(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in (heads, *cells)
        ]

    def _colourful(self) -> bool:
        wanted = not (self.plain or settings.variable("NO_COLOR") or settings.variable("TERM") == "dumb")
        return wanted and sys.stdout.isatty()


class Output:
    """Stdout, whoever writes to it: a reader that has gone away (`… | head`) changes nothing about how a command ends.

    Raises OutputLost where a text cannot be kept for another reason: a full disk, or a stdout that was closed.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        """Be the stream in everything else."""
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text, which may be kept back until the next flush."""
        if text == "":  # by which libraries try a stream, and mind no error
            return 0
        with self._kept():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Write what was kept back."""
        with self._kept():
            self._stream.flush()

    @contextmanager
    def _kept(self) -> Iterator[None]:
        try:
            yield
        except OSError as problem:
            _drain(self._stream)
            if not isinstance(problem, BrokenPipeError):
                raise OutputLost(
                    f"stdout cannot be written ({problem.strerror}): the command was carried out, its answer is lost"
                ) from None


@contextmanager
def outputs() -> Iterator[None]:
    """Let a command have a stdout, whatever the shell has made of it."""
    if sys.stdout is None:  # closed: what takes nothing stands in its place, or a database's file might
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_RDONLY), "w", closefd=False)
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.reconfigure(errors="replace")  # a ✓ must not fail on a Latin-1 terminal
    with redirect_stdout(Output(sys.stdout)):
        yield


def _say(text: str) -> None:
    """Write to stderr; where that cannot be done nobody is there to be told."""
    if sys.stderr is None:  # closed by the shell
        return
    try:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
    except OSError:
        _drain(sys.stderr)


def _drain(stream: TextIO) -> None:
    """Let what is still to be written go nowhere, or the interpreter fails with it at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _length(cell: str) -> int:
    return len(click.unstyle(cell))


def _fit(cell: str, width: int) -> str:
    if _length(cell) > width:
        cell = f"{click.unstyle(cell)[: width - 1]}…"
    return cell + " " * (width - _length(cell))
