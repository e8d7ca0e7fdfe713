"""Prospect: a plan in words for a person."""

import re
from collections.abc import Iterator

from nightcrew.console.prose import clock
from nightcrew.console.reversal import kept
from nightcrew.console.screen import Screen
from nightcrew.database import Form
from nightcrew.deed import deed
from nightcrew.forecast import Forecast, rounded
from nightcrew.job import Job
from nightcrew.plan import Plan, Step
from nightcrew.report import one_line

_FORMS = {
    Form.RANGE: "a stretch of time per batch",
    Form.CONTENDED: "rows that others hold are left for later",
    Form.LOCKED: "rows are locked, then looked at again",
}
_UNITS = (("days", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
_NAMED = 3  # tables whose rows are far from what they were
_STATEMENT = re.compile(r"[ :]+(?=CREATE INDEX|ANALYZE )")
_FRACTION = re.compile(r"\.\d+")


def lines(drawn: Plan, job: Job, screen: Screen, archive: str | None = None) -> list[str]:
    """Return what a run would do: the job's own table, what leaves with it, and what is unwise about it."""
    return [
        f"{job.name} {deed(job)}",
        *(screen.table(["TABLE", "ROWS", *_heads(drawn), "INDEX", "HOW"], _rows(drawn)) if drawn.steps else ()),
        *(f"  {name:<8} {fact}" for name, fact in _facts(drawn)),
        *(f"  archive  {said}" for said in [kept(job, archive)] if said),
        *(f"  held     {sentence}" for sentence in drawn.held),
        *(f"{screen.paint('✗ a run would be refused', 'red')}: {why}" for why in drawn.refusals),
        *(line for warning in drawn.warnings for line in _warning(warning, screen)),
    ]


def _rows(drawn: Plan) -> Iterator[list[str | None]]:
    """Return each step as the row TABLE, ROWS, LAST, INDEX, HOW of a table, the job's own first."""
    along = [step for step in drawn.steps if not step.form]
    for step in sorted(drawn.steps, key=lambda step: not step.form):
        branch = "" if step.form else "└ " if step is along[-1] else "├ "
        yield [f"{branch}{step.table}", f"{step.rows:,}", *_last(step, drawn), _index(step), _manner(step)]


def _heads(drawn: Plan) -> list[str]:
    """Head a column for what the last run took, if there was one."""
    return ["LAST"] if drawn.forecast and drawn.forecast.last else []


def _last(step: Step, drawn: Plan) -> list[str | None]:
    if not drawn.forecast or drawn.forecast.last is None:
        return []
    return [f"{drawn.forecast.last.counts.get(step.table, 0):,}" if step.form or step.leaves else None]


def _index(step: Step) -> str | None:
    if step.index is None:
        return "none" if step.create_index else None
    first, *others = step.index.split(", ")
    return f"{first} +{len(others)}" if others else first


def _manner(step: Step) -> str:
    before = step.how == "delete" and not step.form
    return f"{step.how} before" if before else step.how


def _facts(drawn: Plan) -> Iterator[tuple[str, str]]:
    """Return what else is to be said, chiefly of the job's own table."""
    yield "as of", clock(drawn.moment) + ("" if drawn.exact else "; estimated, for counting took too long")
    for step in drawn.steps:
        if step.how == "drop":
            yield "whole", str(step.note)
        if step.form and step.oldest is not None:
            yield "times", _FRACTION.sub("", f"{step.oldest} to {step.newest}")
        if step.sample:
            yield "oldest", _keys(step)
        if step.form:
            yield "batches", _FORMS[Form(step.form)]
        if step.owed:
            yield "owes", f"{step.table}: {step.owed}"
    if drawn.forecast:
        yield "last run", _past(drawn.forecast)
    if drawn.forecast and drawn.forecast.due:
        yield "takes", _duration(drawn.forecast)
        yield "load", _load(drawn.forecast)


def _past(forecast: Forecast) -> str:
    """Tell of the last run, and name what is far from what it took."""
    last = forecast.last
    if last is None:
        return "none yet"
    rows = "1 row" if last.deleted == 1 else f"{last.deleted:,} rows"
    far = sorted(forecast.changes, key=lambda change: -abs(change.now - change.then))
    named = ", ".join([change.table for change in far[:_NAMED]] + ["…"] * (len(far) > _NAMED))
    return f"{clock(last.moment)}: {rows}" + (f"; far from it now: {named}" if far else "")


def _duration(forecast: Forecast) -> str:
    """Say about how long a run would take and by what that is known, or that it is not."""
    if forecast.rate is not None and forecast.seconds is not None:
        last = forecast.last is not None and forecast.rate.run.id == forecast.last.id
        by = "the last run" if last else f"the run of {clock(forecast.rate.run.moment)}"
        return f"{_about(forecast.seconds)} at pace {forecast.pace}, going by {by}"
    if forecast.due <= forecast.first:
        return "a batch or two"
    if forecast.last is None:
        return "not known before the first run"
    return f"not known: no run at pace {forecast.pace} was long enough to go by"


def _load(forecast: Forecast) -> str:
    rate = forecast.rate
    if rate is not None:
        rows, batches = rounded(rate.rows), rounded(rate.batches)
        return f"about {rows:,} rows a second, in {batches:,} batches of {rounded(rate.rows / rate.batches):,}"
    most = rounded(forecast.share / forecast.longest)
    length, share = f"{1000 * forecast.longest:.0f} ms", f"{forecast.share:.0%}"
    return f"batches of about {length}, {most:g} a second at most: {share} of the time"


def _about(seconds: float) -> str:
    """Write a length of time in one unit, of which there are at least two, for it is no more exact than that."""
    if seconds < 1:
        return "less than a second"
    unit, size = next((unit for unit in _UNITS if seconds >= 2 * unit[1]), _UNITS[-1])
    return f"about {round(seconds / size)} {unit}"


def _keys(step: Step) -> str:
    """Name rows by their keys; the name of a column stands once where there is no other."""
    names = list(step.sample[0])
    keys = [[one_line(str(value)) for value in key.values()] for key in step.sample]
    if len(names) == 1:
        return f"{names[0]} {', '.join(word for (word,) in keys)}"
    return "; ".join(", ".join(f"{name} {word}" for name, word in zip(names, key, strict=True)) for key in keys)


def _warning(sentence: str, screen: Screen) -> list[str]:
    """Put a statement on a line of its own, so that it can be copied."""
    words, *statement = _STATEMENT.split(sentence, maxsplit=1)
    return [f"{screen.paint('! warning', 'yellow')}  {words}", *(f"  {one}" for one in statement)]
