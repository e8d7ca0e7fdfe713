"""The responder that stands in for an AI: a drawer of written answers, searched by words, without a network."""

import re
import tomllib
from functools import cache
from pathlib import Path

_COMMON = re.compile(
    r"\b(?:a|an|and|are|at|be|but|can|do|does|for|from|have|how|i|in|is|it|me|my|not|of|on|or|our|please|so|that|the|them"
    r"|then|this|to|was|we|what|when|where|which|why|will|with|you|your)\b"
)

_ALL = re.compile(r"\beverything you know\b", re.IGNORECASE)
_STUCK = re.compile(r"\b(?:get stuck|fail) in the middle\b", re.IGNORECASE)

DRAWN = "Here it is. I only know hills: your words choose their shape and the hour, and arithmetic does the rest."


def answer(question: str) -> str:
    """Return the written answer whose question is nearest, or all if asked to; or say honestly that there is none."""
    if _ALL.search(question):
        return "\n\n".join(reply for _, reply in _drawer())
    asked = _words(question)
    score, reply = max((len(asked & words), reply) for words, reply in _drawer())
    if score >= 2:
        return reply
    return (
        "I am only a drawer of written answers, and none of them fits this. Ask me about dinners, slow queries, a"
        " letter to the landlord, sourdough, a trip, a test that fails on Mondays, or how to undo a pushed commit."
    )


def to_fail(question: str) -> bool:
    """Tell whether somebody wants to see an answer fail."""
    return _STUCK.search(question) is not None


def title_of(question: str) -> str:
    """Return what a chat is called after its first question."""
    line = " ".join(question.split())
    return line if len(line) <= 60 else f"{line[:59].rsplit(' ', 1)[0]}…"


@cache
def _drawer() -> tuple[tuple[frozenset[str], str], ...]:
    talks = tomllib.loads((Path(__file__).parent / "talks.toml").read_text(encoding="utf-8"))
    first = {name: choices[0] for name, choices in talks["fill"].items()}
    cards = []
    for talk in talks["talk"]:
        for question, reply in talk["turns"]:
            cards.append((_words(f"{talk['title']} {question}"), reply))
    return tuple((words, _filled(reply, first)) for words, reply in cards)


def _filled(text: str, words: dict[str, str]) -> str:
    return re.sub(r"\{([a-z]+)\}", lambda gap: words[gap[1]], text)


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"[a-z]{2,}", _COMMON.sub(" ", text.lower())))
