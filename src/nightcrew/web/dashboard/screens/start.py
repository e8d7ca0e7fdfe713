"""Start: what somebody asks for begins beside the page, which shows it once it has."""

from collections.abc import Callable
from concurrent.futures import Future, wait
from functools import partial
from typing import Any, TypeVar

from nightcrew.bid import hand_id
from nightcrew.caller import Caller
from nightcrew.outcome import Outcome
from nightcrew.web.dashboard.visit import Answer, Visit
from nightcrew.web.pool import Pool

_R = TypeVar("_R")
TRIGGER = "dashboard"
_PATIENCE = 2.0  # seconds that a page waits for a run to be over: most are, and show how they ended
_pool = Pool(8, "nightcrew-desk-run")


def begun(visit: Visit, job: str) -> Answer | None:
    """Go to the run that this same form has begun before, if it has."""
    run = hand_id(job, _caller(visit).token or "")
    return visit.go("runs", run) if visit.crew.chronicle.run(run) is not None else None


def start(visit: Visit, job: str, plan: str | None = None) -> Answer:
    """Begin a run of a job, of what a plan showed perhaps, and go where it can be seen.

    The same form sent twice asks for the same run. With an errand somebody else runs it, who is told of the same key.
    """
    caller = _caller(visit)
    at_once = plan is None
    if visit.crew.errand is not None and at_once:
        visit.crew.errand(job, None, caller, at_once)
        return visit.go("jobs", job, done="handed")
    asked = partial(visit.crew.run, job, trigger=TRIGGER, now=at_once, plan=plan, caller=caller)
    report, run = attempted(visit, job, asked), hand_id(job, caller.token or "")
    if report is not None:
        busy = report.outcome is Outcome.IN_PROGRESS_ELSEWHERE
        if report.run:
            return visit.go("runs", report.run, done="busy" if busy else None)
        return visit.go("jobs", job, done="busy" if busy else "kept")
    known = visit.crew.chronicle.run(run) is not None
    return visit.go("runs", run) if known else visit.go("jobs", job, done="begun")


def attempted(visit: Visit, job: str, work: Callable[[], _R]) -> _R | None:
    """Begin work beside the page, and wait for it a moment; None where it goes on. Raises what it was turned away for.

    Of what goes wrong later the log hears.
    """
    asking = _pool.submit(work)
    wait([asking], _PATIENCE)
    if asking.done():
        return asking.result()
    asking.add_done_callback(partial(_tell, visit, job))
    return None


def _caller(visit: Visit) -> Caller:
    return Caller(visit.access.actor, key=visit.form.get("key") or visit.key())


def _tell(visit: Visit, job: str, asking: "Future[Any]") -> None:
    """Let the log hear of what could not be done, where the page has been answered and nobody else does."""
    if (error := asking.exception()) is not None:
        visit.crew.tell("http_error", job=job, error=error)
