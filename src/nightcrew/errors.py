"""The error tree, ordered by who must act.

NightcrewError
├── ConfigurationError      the developer: found before anything runs
│   ├── DurationError       a span of time that cannot be read
│   ├── ScheduleError       a schedule that cannot be read, or can never fire
│   ├── PolicyError         a retention rule that names what is not there
│   ├── NoDatabase          nobody says which database, or the variable that does is not set
│   ├── UnknownJob          a job name nobody registered
│   ├── TemplateError       a mail's template that is missing or broken, or names what nobody gives
│   └── MissingExtra        an optional package that a chosen feature needs
├── UsageError              the caller: an argument that makes no sense (400, exit code 2)
├── SafetyStop              the operator: a safety rail refused the run (503, exit code 3)
├── DatabaseError           the operator: the database is away or said no (503, exit code 4)
│   ├── SchemaError         nightcrew's own tables are missing or of another version
│   └── RowLost             a job's own row is gone from under a running crew, which then makes it anew
├── StoreError              the operator: a store of blobs, keys or calls is away or said no (exit code 4)
│   └── ArchiveError        a frame of the archive is damaged or gone, or sealed with another key
├── MailerError             the operator: whoever delivers mail is away or said no to all of it (exit code 4)
├── ChannelError            the operator: a channel for alarms is away or said no (exit code 4)
├── StreamError             the operator: where streams are kept is away or said no (503, exit code 4)
├── StreamRefused           the caller: the chat has a live stream already (409)
├── StreamTooLong           the producer: its stream is longer than it may be
├── StreamClosed            the producer: another hand has ended its stream, or erased it; write no more
├── BrokerError             the operator: the broker by which work is handed to workers is away (503)
├── ClaimLost               nobody: a newer fence exists; stop at once, undo nothing
├── JobPaused               nobody: somebody has paused the job, or stopped them all; hand the run over
├── RunCancelled            nobody: somebody has cancelled the run; end it, and let nobody go on with it
├── OutputLost              the caller: stdout is full, so that an answer is lost (exit code 1)
└── JobFailed               the job's author: their exception is the cause

A slot already taken, nothing to do and a budget used up are outcomes, not errors.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class NightcrewError(Exception):
    """Root of every error nightcrew raises on purpose; its text is one sentence for a person."""


class ConfigurationError(NightcrewError):
    """The configuration cannot mean anything."""


class DurationError(ConfigurationError):
    """A span of time cannot be read."""


class ScheduleError(ConfigurationError):
    """A schedule cannot be read, or can never fire."""


class PolicyError(ConfigurationError):
    """A retention rule names what is not there, or would be unsafe to carry out.

    `key` is the key of the rule that is to blame, as nightcrew.toml spells it, where one alone is.
    """

    def __init__(self, message: str, *, key: str | None = None) -> None:
        super().__init__(message)
        self.key = key


class NoDatabase(ConfigurationError):
    """Which database it is about is said nowhere, or by a variable that is not set."""


class UnknownJob(ConfigurationError):
    """No job has this name."""


class TemplateError(ConfigurationError):
    """A mail's template is missing or broken, or it cannot be filled with what is known of a person."""


class MissingExtra(ConfigurationError):
    """A chosen feature needs a package that is not installed."""


class UsageError(NightcrewError):
    """A call carries an argument that makes no sense."""


class SafetyStop(NightcrewError):
    """A safety rail refused the run; nothing was deleted by what it refused."""


class DatabaseError(NightcrewError):
    """The database is out of reach, or refused a statement.

    `transient` says that the same call may succeed a moment later, `away` that no server answered, `of_row` that
    the statement is sound and some row would not have it: a constraint, a trigger, a value; `of_statement` that the
    statement makes no sense there: its grammar, or a name that it uses. Whose `link` it was tells its database from
    every other.
    """

    def __init__(
        self,
        message: str,
        *,
        transient: bool = False,
        away: bool = False,
        of_row: bool = False,
        of_statement: bool = False,
        link: object = None,
    ) -> None:
        super().__init__(message)
        self.transient = transient
        self.away = away
        self.of_row = of_row
        self.of_statement = of_statement
        self.link = link


class StoreError(NightcrewError):
    """A store is out of reach, or refused what was asked; `transient` says that it may do so a moment later."""

    def __init__(self, message: str, *, transient: bool = False) -> None:
        super().__init__(message)
        self.transient = transient


class ArchiveError(StoreError):
    """What was archived cannot be read: it is damaged, gone, or sealed with another key."""


class MailerError(NightcrewError):
    """Mail cannot leave, whoever it is for: nobody answers, or the login is refused. No letter was handed over.

    `transient` says that it may be possible a moment later.
    """

    def __init__(self, message: str, *, transient: bool = False) -> None:
        super().__init__(message)
        self.transient = transient


class ChannelError(NightcrewError):
    """A channel could not tell people of an alarm."""


class BrokerError(NightcrewError):
    """A worker could not be told what to do; nothing was run."""


class StreamError(NightcrewError):
    """Where streams are kept does not answer, or refuses; what was written so far is kept by its producer."""


class StreamRefused(NightcrewError):
    """A stream cannot begin: another one is live in the chat."""


class StreamTooLong(NightcrewError):
    """A stream would be longer than it may be."""


class StreamClosed(NightcrewError):
    """A producer's stream has had its end by another hand."""


class SchemaError(DatabaseError):
    """nightcrew's own tables are missing or of another version."""


class OutputLost(NightcrewError):
    """An answer could not be written; what was asked for has been done."""


class RowLost(DatabaseError):
    """Somebody has deleted the rows of these jobs in nightcrew's own table."""

    def __init__(self, jobs: Iterable[str]) -> None:
        self.jobs = tuple(sorted(jobs))
        super().__init__(
            f"nightcrew_jobs has lost the rows of {', '.join(self.jobs)}: call again to register them anew"
        )


class ClaimLost(NightcrewError):
    """Another crew holds a newer fence for this job: stop at once, undo nothing."""


class JobPaused(NightcrewError):
    """Somebody has paused the job or stopped all sweeps; its text says who and why."""


class RunCancelled(NightcrewError):
    """Somebody has cancelled the run; its text says who and why."""


class JobFailed(NightcrewError):
    """A job's own function raised; its exception is the cause."""


def misfit(value: object, kinds: type | tuple[type, ...], remedy: str) -> str:
    """Return “is 30 (int); REMEDY” for a value of none of these kinds, or nothing."""
    if isinstance(value, kinds):
        return ""
    shown = repr(value)
    return f"is {shown if len(shown) <= 60 else f'{shown[:59]}…'} ({type(value).__name__}); {remedy}"


def did_you_mean(wrong: str, right: Iterable[str]) -> str:
    """Return “; did you mean 'x'?” for the nearest of `right`, or the whole list when it is short, or nothing."""
    names = sorted(right)
    near = get_close_matches(wrong, names, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; there is {', '.join(repr(name) for name in names)}" if 0 < len(names) <= 9 else ""


def nearest(wrong: str, right: Iterable[str]) -> str:
    """Suggest a name; one that differs in its capitals only is the nearest of all."""
    names = list(right)
    alike = [name for name in names if name.casefold() == wrong.casefold()]
    return did_you_mean(alike[0] if alike else wrong, names)
