"""Screen: tables, colours, JSON, talk."""

import json
import os
import shutil
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TextIO

import click

from nightcrew import settings
from nightcrew.errors import OutputLost

_MARKS = {
    "succeeded": ("✓", "green"), "done": ("✓", "green"), "nothing_to_do": ("✓", "green"),
    "already_done": ("•", "green"),
    "running": ("▸", "yellow"), "in_progress_elsewhere": ("▸", "yellow"), "partial": ("▸", "yellow"),
    "failed": ("✗", "red"), "refused": ("✗", "red"), "missed": ("✗", "yellow"), "never": ("○", None),
    "skipped": ("○", None), "disabled": ("○", None), "paused": ("○", "yellow"),
}  # fmt: skip
_SPANS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
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
        self._write(sys.stdout, text)

    def talk(self, text: str) -> None:
        """Say something beside the data."""
        if not self.quiet:
            self._write(sys.stderr, text)

    def fail(self, problem: BaseException | str, sentence: str = "") -> None:
        """Say what went wrong, a line for every fault; the traceback only with -v."""
        censor = settings.censor()
        if self.verbose and isinstance(problem, BaseException):
            self._write(sys.stderr, censor("".join(traceback.format_exception(problem)).rstrip()))
        text = censor(sentence or str(problem))
        for line in text.splitlines():
            self._write(sys.stderr, f"nightcrew: {line}")
        if self.json:
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

    def _write(self, stream: TextIO, text: str) -> None:
        """Write a text; a reader that has gone away (`… | head`) changes nothing about how the command ends.

        Raises OutputLost where the text could not be kept for another reason (a full disk).
        """
        try:
            print(text, file=stream, flush=True)
        except OSError as problem:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # or the interpreter fails at its end, too
            if not isinstance(problem, BrokenPipeError) and stream is sys.stdout:
                raise OutputLost(
                    f"stdout cannot be written ({problem.strerror}): the command was carried out, its answer is lost"
                ) from None


def when(moment: datetime | None, now: datetime) -> str:
    """Say how far away a moment is: “3 min ago”, “just now”, “in 7 min”."""
    if moment is None:
        return "-"
    words, coming = span(abs(moment - now)), moment > now
    if words == "0 s":
        return "now" if coming else "just now"
    return f"in {words}" if coming else f"{words} ago"


def span(length: timedelta) -> str:
    """Say a length of time in its two largest units, and drop the second when it is nothing."""
    seconds = round(length.total_seconds())
    for index, (unit, size) in enumerate(_SPANS):
        if seconds >= size:
            rest = seconds % size // _SPANS[index + 1][1] if size > 60 and seconds < 10 * size else 0
            return f"{seconds // size} {unit}" + (f" {rest} {_SPANS[index + 1][0]}" if rest else "")
    return "0 s"


def _length(cell: str) -> int:
    return len(click.unstyle(cell))


def _fit(cell: str, width: int) -> str:
    if _length(cell) > width:
        cell = f"{click.unstyle(cell)[: width - 1]}…"
    return cell + " " * (width - _length(cell))
