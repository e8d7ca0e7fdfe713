"""CronJobs of Kubernetes: no two at once, none that starts long after its slot, and no right that it need not have.

Kubernetes may start a slot twice, or not at all, and starts nothing more once a hundred are missed, but where a
deadline for the start is given; the name of a CronJob has 52 characters at most.
"""

import json
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from hashlib import sha256

from nightcrew.errors import ScheduleError
from nightcrew.exporters import block
from nightcrew.exporters.exporter import HEADER, Call, Command, Export, File, Way, drawn, leaps
from nightcrew.job import Job
from nightcrew.spelling import Line, zoned

PATH = "kubernetes/nightcrew.yml"
CURL = "curlimages/curl:8.11.1"
_SECRET = "nightcrew"  # noqa: S105 - the name of a Secret
_LONGEST = 52
_PATIENCE = timedelta(seconds=200)  # by which a start may be late: a hundred missed are then beyond reach
_DEADLINE, _SECONDS = "50m", 3600  # of a command, which keeps what it has done, and then of its Pod


def cronjobs(jobs: Sequence[Job], way: Way, moment: datetime, path: str, command: str, image: str | None) -> Export:
    """Return the CronJobs, each in its own time zone."""

    def cronjob(job: Job) -> str:
        rows = (_cronjob(job, *each, way, image) for each in enumerate(zoned(job.schedule, moment), 1))
        return "".join(f"{row}\n" for each in rows for row in ("---", *each))

    made = [text for _, text in drawn("Kubernetes", jobs, cronjob)]
    # As files, for a value that is an option stands in the list of processes.
    values = " ".join(f'--from-file={name}=<(printf %s "${name}")' for name in way.variables)
    notes = (
        f"kubectl create secret generic {_SECRET} {values}",
        f"kubectl apply -f {path}",
        *leaps("Kubernetes", jobs, moment),
    )
    return Export((File(path, partial(block.merged, path, "".join(made), command)),), notes)


def _cronjob(job: Job, number: int, line: Line, way: Way, image: str | None) -> Iterator[str]:
    late = int(min(line.gap / 2, _PATIENCE).total_seconds())
    if late < 10:  # the controller looks every ten seconds
        raise ScheduleError(f"{line.expression!r} is too often for Kubernetes, which looks every ten seconds")
    yield from ("apiVersion: batch/v1", "kind: CronJob", "metadata:", f"  name: {_name(job, number)}")
    yield from ("  labels: { app.kubernetes.io/name: nightcrew }", f"  annotations: {{ nightcrew/job: {job.name} }}")
    yield from ("spec:", f"  schedule: {json.dumps(line.expression)}", f"  timeZone: {json.dumps(line.timezone)}")
    yield from ("  concurrencyPolicy: Forbid", f"  startingDeadlineSeconds: {late}")
    yield from ("  successfulJobsHistoryLimit: 3", "  failedJobsHistoryLimit: 3", "  jobTemplate:", "    spec:")
    seconds = int(way.patience.total_seconds()) + 60 if isinstance(way, Call) else _SECONDS
    yield from ("      backoffLimit: 0", f"      activeDeadlineSeconds: {seconds}", "      template:", "        spec:")
    yield from ("          restartPolicy: Never", "          automountServiceAccountToken: false")
    yield "          terminationGracePeriodSeconds: 60"
    yield "          securityContext:"
    yield "            { runAsNonRoot: true, runAsUser: 65534, seccompProfile: { type: RuntimeDefault } }"
    yield from ("          containers:", "            - name: nightcrew", f"              image: {json.dumps(image)}")
    yield f"              command: {json.dumps(_words(job, way))}"
    yield "              env:"
    for name in way.variables:
        where = f"{{ name: {_SECRET}, key: {name} }}"
        yield f"                - {{ name: {name}, valueFrom: {{ secretKeyRef: {where} }} }}"
    yield "              resources: { requests: { cpu: 50m, memory: 128Mi }, limits: { memory: 512Mi } }"
    yield "              securityContext:"
    yield from ("                allowPrivilegeEscalation: false", "                readOnlyRootFilesystem: true")
    yield "                capabilities: { drop: [ALL] }"
    yield "              volumeMounts: [{ name: tmp, mountPath: /tmp }]"
    yield "          volumes: [{ name: tmp, emptyDir: {} }]"


def _words(job: Job, way: Way) -> list[str]:
    if isinstance(way, Command):
        return way.words(job, "--deadline", _DEADLINE)
    return ["sh", "-c", f"printf '{HEADER}' \"$CRON_SECRET\" | curl --config - {way.curl} {way.url(job)}"]


def _name(job: Job, number: int) -> str:
    name = f"nightcrew-{job.name}" + (f"-{number}" if number > 1 else "")
    if len(name) <= _LONGEST:
        return name
    return f"{name[: _LONGEST - 9].rstrip('-')}-{sha256(name.encode()).hexdigest()[:8]}"
