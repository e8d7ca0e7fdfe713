"""Diagnosis: what a doctor found, in words for a person."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nightcrew.checks.check import Finding, Result, Severity
from nightcrew.console.screen import Screen

_AWAY = 4
_SIGNS = {Severity.PROBLEM: ("✗", "red"), Severity.WARNING: ("!", "yellow")}
_FIRST = {Severity.PROBLEM: 0, Severity.WARNING: 1}


def lines(results: Sequence[Result], screen: Screen) -> Iterator[str]:
    """Yield the problems, then the warnings, then what nobody could tell, then how many checks are well."""
    found = [(finding, result) for result in results for finding in result.findings]
    for finding, result in sorted(found, key=lambda pair: _FIRST[pair[0].severity]):
        yield from _said(finding, result.check.code, screen)
    unable: dict[str, list[str]] = {}
    for result in results:
        if result.unable is not None:
            unable.setdefault(result.unable, []).append(result.check.code)
    for why, codes in unable.items():
        yield f"{screen.paint('?', 'yellow')} {', '.join(codes)}  cannot be told: {why}"
    well = sum(not result.findings and result.unable is None for result in results)
    yield f"{screen.paint('✓', 'green')} {well} of {len(results)} checks found nothing"


@dataclass(frozen=True, slots=True)
class Short:
    """What was found, a sentence for each."""

    problems: list[str]
    warnings: list[str]


def in_short(results: Sequence[Result]) -> Short:
    """Say each finding in a sentence, with its remedy."""
    said: dict[Severity, list[str]] = {severity: [] for severity in Severity}
    for result in results:
        for finding in result.findings:
            remedy = "" if finding.remedy.startswith("see ") else f"; {finding.remedy}"  # the sentence says it already
            said[finding.severity].append(f"{result.check.code} {finding.says}{remedy}")
    return Short(said[Severity.PROBLEM], said[Severity.WARNING])


def code(results: Sequence[Result]) -> int:
    """Return the exit code: 1 where something does not work, 4 where nothing could be looked at in the database."""
    if any(result.problem for result in results):
        return 1
    asked = [result for result in results if not result.check.static]
    return _AWAY if asked and all(result.unable for result in asked) else 0


def _said(finding: Finding, code: str, screen: Screen) -> Iterator[str]:
    sign, colour = _SIGNS[finding.severity]
    yield f"{screen.paint(sign, colour)} {code}  {finding.says}"
    yield f"         cause   {finding.cause}"
    first, *rest = finding.remedy.splitlines() or [""]
    yield f"         remedy  {first}"
    yield from (f"                 {line}" for line in rest)
