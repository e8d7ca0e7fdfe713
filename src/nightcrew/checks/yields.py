"""NC401, NC403, NC407: jobs that run and remove nothing: errors, conditions and switches told apart."""

from collections.abc import Iterator
from datetime import timedelta

from nightcrew.alarm import Kind
from nightcrew.checks.check import Check, Finding, Patient, problem, sweeping, warning
from nightcrew.duration import spell
from nightcrew.errors import DatabaseError, PolicyError
from nightcrew.outcome import State

_RUNS = 3  # that removed nothing before anybody need wonder


def _fails(patient: Patient) -> Iterator[Finding]:
    """NC401: a run that failed is no run that found nothing."""
    for each in patient.standings:
        last = each.last
        if last is not None and last.state is State.FAILED:
            times = each.standing.fail_streak
            says = f"job {each.job.name!r} failed{f' {times} times in a row' if times > 1 else ''}: {last.reason}"
            yield problem(says, "the error of its last run", f"nightcrew runs {each.job.name} --failed -v")


def _removes(patient: Patient) -> Iterator[Finding]:
    """NC403: whose runs end well and have never removed a row, or no more do; and why."""
    names = [job for job, _ in sweeping(patient)]
    removed = patient.chronicle.removals(names, 1) if names else {}
    idle = {alarm.job: alarm.says for alarm, _ in patient.alarms if alarm.kind is Kind.IDLE}
    strips = patient.chronicle.strips([name for name in names if not removed.get(name)], _RUNS) if names else {}
    for job, policy in sweeping(patient):
        ran = [row for row in strips.get(job, ()) if row.state is State.DONE]
        never = not removed.get(job) and len(ran) >= _RUNS
        if job in idle or never:
            says = idle.get(job) or "it runs, and has never removed a row"
            for cause, remedy in _reasons(patient, job, policy.column, policy.older_than):
                yield warning(f"job {job!r}: {says}", cause, remedy)


def _reasons(patient: Patient, job: str, column: str, older_than: timedelta | None) -> Iterator[tuple[str, str]]:
    """Yield why nothing is there to be removed; nothing, where that is as it should be."""
    try:
        reach = patient.reach(job)
        found = patient.eligible(job)
    except (PolicyError, DatabaseError) as error:
        yield f"its rows cannot be looked at: {error}", f"nightcrew plan {job}"
        return
    if not reach.some:
        yield "its table has no rows", "compare DATABASE_URL with that of the application"
    elif reach.newest is None:
        yield (
            f"{column} is NULL in every row, and NULL never expires",
            f"name another column, or let rows have {column}",
        )
    elif found is not None and found[0] and not all(found[1].values()):
        without = ", ".join(name for name, rows in found[1].items() if not rows)
        cause = f"{found[0]:,} rows are old enough, and {without} keeps every one of them"
        yield cause, f"correct {without}; 'nightcrew plan {job}' counts again"
    elif found is not None and not found[0]:
        age = f", and is to be {spell(older_than)} old" if older_than else ""
        yield (
            f"no row is old enough: {column} is from {reach.oldest} to {reach.newest}{age}",
            f"see that {column} is written, in UTC; or wait: 'nightcrew plan {job}' says when there is something",
        )
    elif found is None:
        yield "its rows are too many to be counted in a second each time", f"nightcrew plan {job}"
    elif len(found[1]) > 1:
        together = " and ".join(found[1])
        yield f"{found[0]:,} rows are old enough, and {together} together keep them", f"nightcrew plan {job}"


def _gates(patient: Patient) -> Iterator[Finding]:
    """NC407: what is switched off, and says so to nobody."""
    for sentence in patient.problems["gate"]:
        yield warning(sentence, "so the crew is set up", "nightcrew mail due")


def _templates(patient: Patient) -> Iterator[Finding]:
    """NC801: mail that cannot be written."""
    for sentence in patient.problems["mail"]:
        yield problem(sentence, "a template, or what it names, is not as it is to be", "nightcrew mail preview STEP")


CHECKS = (
    Check("NC401", "no job's last run failed", _fails),
    Check("NC403", "jobs that run remove rows", _removes),
    Check("NC407", "mail can leave", _gates, static=True),
    Check("NC801", "each mail can be written", _templates, static=True),
)
