"""What a job does, in words for a person."""

import inspect
from collections.abc import Iterable
from functools import partial

from nightcrew.duration import spell
from nightcrew.job import Job
from nightcrew.policy import Action, Policy
from nightcrew.report import one_line

_OWN = __name__.partition(".")[0]


def deed(job: Job) -> str:
    """Say in words what a job does."""
    if job.policy is None:
        return _called(job.function)
    policy = job.policy
    age = f"{spell(policy.older_than)} after {policy.column}" if policy.older_than else f"once {policy.column} is past"
    return f"{_verb(policy)} {policy.table} {age}{''.join(_conditions(policy))}"


def _called(function: object) -> str:
    """Name a function, and say of it what the first line of its docstring does; of one of nightcrew's own only that."""
    while isinstance(function, partial):
        function = function.func
    place, name = getattr(function, "__module__", "?"), getattr(function, "__qualname__", type(function).__qualname__)
    said = (inspect.getdoc(function) or "").partition("\n")[0].strip().removesuffix(".")
    if said and place.partition(".")[0] == _OWN:
        return said[:1].lower() + said[1:]
    return one_line(f"calls {place}.{name}{f': {said}' if said else ''}")


def _verb(policy: Policy) -> str:
    if policy.action is Action.DELETE:
        return "deletes rows of"
    if policy.action is Action.ANONYMIZE:
        return f"anonymizes {', '.join(policy.set)} in rows of"
    return f"clears {', '.join([policy.column, *policy.set])} in rows of"


def _conditions(policy: Policy) -> Iterable[str]:
    if policy.where:
        yield f", where {policy.where}"
    if policy.unless_exists:
        yield f", unless {' or '.join(policy.unless_exists)} refers to them"
    if policy.hold:
        yield f", never where {policy.hold}"
    if policy.keep_latest:
        group = f" per {', '.join(policy.per)}" if policy.per else ""
        yield f", never one of the latest {policy.keep_latest}{group}"
    if policy.erase:
        yield ", with everything that refers to them"
    if policy.archive:
        yield f", archived for {spell(policy.archive)}"
