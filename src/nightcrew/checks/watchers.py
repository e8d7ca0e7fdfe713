"""NC6xx to NC9xx: rails that stopped a run, what the crew's rooms say of themselves, and whether anybody would hear."""

from collections.abc import Iterator

from nightcrew.alarm import Kind
from nightcrew.checks.check import Check, Finding, Patient, problem, warning


def _refused(patient: Patient) -> Iterator[Finding]:
    """NC602: a rail stopped the last run of a job."""
    for alarm, _ in patient.alarms:
        if alarm.kind is Kind.REFUSED:
            says = f"job {alarm.job!r}: {alarm.says}"
            yield problem(says, "it would have taken far more than usual, or its policy has changed", alarm.remedy)


def _archive(patient: Patient) -> Iterator[Finding]:
    """NC603: where rows are copied to before they leave."""
    for sentence in patient.problems["archive"]:
        yield warning(sentence, "so the crew is set up", "see docs/archive.md")


def _stores(patient: Patient) -> Iterator[Finding]:
    """NC702: stores of blobs, keys and calls."""
    for sentence in patient.problems["stores"]:
        yield warning(sentence, "so the crew is set up", "see docs/blobs.md")


def _heard(patient: Patient) -> Iterator[Finding]:
    """NC901: nobody would hear of a job that does not run."""
    if not patient.watched:
        says = "nobody hears of a job that fails, or does not run"
        cause = "no monitor and no channel of alarms is configured"
        yield warning(says, cause, '[alarms.slack]\nurl = "${SLACK_WEBHOOK_URL}"')


def _channels(patient: Patient) -> Iterator[Finding]:
    """NC902: monitors and channels that cannot be used as they are set."""
    for sentence in (*patient.problems["monitors"], *patient.problems["alarms"]):
        yield problem(sentence, "so the crew is set up", "nightcrew alarms --test")


CHECKS = (
    Check("NC602", "no rail has stopped a run", _refused),
    Check("NC603", "what is archived can be", _archive, static=True),
    Check("NC702", "the stores can be used", _stores, static=True),
    Check("NC901", "somebody hears of what does not run", _heard, static=True),
    Check("NC902", "monitors and channels can be used", _channels, static=True),
)
