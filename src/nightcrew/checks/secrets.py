"""NC2xx: by which secret callers are let in, and whether it can be the right one."""

import re
from collections.abc import Iterator
from datetime import timedelta

from nightcrew.checks.check import Check, Finding, Patient, problem, warning
from nightcrew.duration import when
from nightcrew.settings import SHORTEST_SECRET

_NEW = "export CRON_SECRET=$(nightcrew secret new)"
_GUESSED = re.compile(
    r"^(.)\1*$|^(change-?me|secret|password|test|your-?(cron-?)?secret|undefined|null|none)[-_!0-9a-z]*$", re.IGNORECASE
)
_USED = timedelta(days=31)  # the rarest usual schedule comes once a month


def _opens(patient: Patient) -> Iterator[Finding]:
    """NC201: what nobody can send, or anybody can guess."""
    settings = patient.settings
    if settings.secret is None:
        says = "CRON_SECRET is not set, so the job routes answer 401 to everybody"
        yield warning(says, "the routes stay closed until there is a secret to compare with", _NEW)
    for name, value in (("CRON_SECRET", settings.secret), ("CRON_SECRET_PREVIOUS", settings.previous_secret)):
        if value is not None:
            yield from _faults(name, value)
    if settings.secret is not None and settings.secret == settings.previous_secret:
        says = "CRON_SECRET_PREVIOUS is the same as CRON_SECRET"
        yield warning(says, "a rotation that was begun has no new secret", "unset CRON_SECRET_PREVIOUS")


def _faults(name: str, value: str) -> Iterator[Finding]:
    remedy = f"export {name}=$(nightcrew secret new)"
    if value != value.strip() or (len(value) >= 2 and value[0] == value[-1] and value[0] in "'\""):
        says = f"{name} begins or ends with a space, a line's end or a quotation mark"
        yield problem(says, "it was copied with something around it, and a header carries none of that", remedy)
    elif len(value) < SHORTEST_SECRET:
        says = f"{name} has {len(value)} characters, and opens nothing: it needs {SHORTEST_SECRET}"
        yield problem(says, "a short secret can be guessed", remedy)
    elif not value.isascii() or not value.isprintable() or " " in value:
        says = f"{name} has characters that an HTTP header cannot carry"
        yield problem(says, "only letters, digits and signs of ASCII arrive as they were sent", remedy)
    elif _GUESSED.match(value):
        yield problem(f"{name} is an example, or one character over and over", "everybody tries those first", remedy)
    elif signs := sorted({*value} & {*"%\"'\\$`"}):
        says = f"{name} has {' '.join(signs)} in it"
        yield warning(says, "a crontab, a shell or a file of YAML takes these for something else", remedy)


def _rotation(patient: Patient) -> Iterator[Finding]:
    """NC203: who still uses the previous secret, or that nobody does."""
    if patient.settings.previous_secret is None:
        return
    seen = patient.old_secret
    if seen is not None and patient.database_now - seen.at < _USED:
        says = f"{seen.by} called with CRON_SECRET_PREVIOUS, the last time {when(seen.at, patient.database_now)}"
        yield warning(says, "that caller was not given the new secret", f"give {seen.by} the new CRON_SECRET")
    else:
        says = "CRON_SECRET_PREVIOUS is set, and no caller has used it for a month, as far as was noted"
        yield warning(says, "the rotation is over", "unset CRON_SECRET_PREVIOUS")


CHECKS = (
    Check("NC201", "the secret of the job routes can be sent, and not be guessed", _opens, static=True),
    Check("NC203", "no caller uses the previous secret", _rotation),
)
