"""NC1xx: whether anything in the application runs the jobs at all."""

from collections.abc import Iterator

from nightcrew.absence import quiet
from nightcrew.alarm import Kind
from nightcrew.checks.check import Check, Finding, Patient, problem, warning
from nightcrew.duration import when

_ON = "attach it: FastAPI(lifespan=crew.lifespan), or run: nightcrew serve"


def _off(patient: Patient) -> Iterator[Finding]:
    """NC101: this environment keeps the ticker off."""
    settings = patient.settings
    if settings.environment == "test":
        says = "NIGHTCREW_ENV is “test”, so that no ticker starts in this environment"
        yield warning(says, "tests are not to run jobs by the way", "unset NIGHTCREW_ENV where jobs are to run")
    elif not settings.ticker:
        says = "NIGHTCREW_TICKER is “off”, so that no ticker starts in this environment"
        yield warning(says, "somebody leaves the jobs to callers from outside", "unset NIGHTCREW_TICKER")


def _registered(patient: Patient) -> Iterator[Finding]:
    """NC102: there are no jobs."""
    if not patient.jobs:
        cause = "the module that defines them is not imported, or every job of the file is still a comment"
        remedy = "import the module before the crew starts, or take the # away from a job's lines"
        yield warning("no job is enabled, so nothing is looked after", cause, remedy)


def _alive(patient: Patient) -> Iterator[Finding]:
    """NC103: slots are due, and nobody runs them."""
    late = [alarm for alarm, _ in patient.alarms if alarm.kind is Kind.LATE]
    newest = {each.job.name: each.last for each in patient.standings}
    for alarm in late:
        last = newest.get(alarm.job)
        if last is None:
            cause = "no process has ever run it: no ticker is attached, or it is off in that environment"
        else:
            ran = f", {when(last.moment, patient.database_now)}" if last.moment else ""
            cause = f"it last ran by “{last.trigger}”{ran}; whoever did that is gone, or busy with another job"
        yield problem(f"job {alarm.job!r} {alarm.says}", cause, _ON)


def _missed(patient: Patient) -> Iterator[Finding]:
    """NC106: slots passed that nobody ran."""
    for alarm, _ in patient.alarms:
        if alarm.kind is Kind.MISSED:
            yield warning(f"job {alarm.job!r}: {alarm.says}", "no process was there then", alarm.remedy)


def _paused(patient: Patient) -> Iterator[Finding]:
    """NC107: jobs that somebody paused, or that are disabled, which no alarm tells of."""
    for each in patient.standings:
        if not each.job.enabled:
            says = f"job {each.job.name!r} is disabled {each.job.disabled}".rstrip()
            yield warning(says, "that is what the configuration says", "enabled = true")
        elif quiet(each):
            by, why = each.standing.paused_by or "somebody", each.standing.paused_reason or "no reason was given"
            says = f"job {each.job.name!r} is paused by {by}: {why}"
            yield warning(says, "a paused job raises no alarm", f"nightcrew resume {each.job.name}")


def _tables(patient: Patient) -> Iterator[Finding]:
    """NC304: nightcrew's own tables."""
    if not patient.migrated:
        says = "nightcrew's own tables are missing in this database, or of another version"
        yield problem(says, "it was never migrated, or this is another database", "nightcrew migrate")


def _outside(patient: Patient) -> Iterator[Finding]:
    """NC207: a caller from outside who does not come."""
    for alarm, _ in patient.alarms:
        if alarm.kind is Kind.UNCOVERED:
            says = f"job {alarm.job!r}: {alarm.says}"
            yield warning(
                says, "its caller is gone, or is answered 401, 404 or a redirect", "nightcrew doctor --probe URL"
            )


CHECKS = (
    Check("NC101", "the ticker is not switched off here", _off, static=True),
    Check("NC102", "there are jobs", _registered, static=True),
    Check("NC103", "what is due is run", _alive),
    Check("NC106", "no slot was missed of late", _missed),
    Check("NC107", "no job is paused or disabled", _paused),
    Check("NC207", "callers from outside come", _outside),
    Check("NC304", "nightcrew's own tables are of this version", _tables),
)
