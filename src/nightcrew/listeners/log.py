"""Log lines: the only file that logs.

Lines read as people grep for them, `[OAuth Cleanup] deleted 42 rows of oauth_pkce_states …`; every record also
carries the entry's facts as the attribute `nightcrew`, and `configure("json")` writes those.
"""

import json
import logging
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from nightcrew.clock import instant
from nightcrew.ledger import Entry
from nightcrew.report import indented, one_line

_logger = logging.getLogger("nightcrew")
_logger.addHandler(logging.NullHandler())


class Log:
    """The listener that every crew has."""

    def hears(self, kind: str) -> bool:
        """Tell whether the application's logging lets lines of a kind through."""
        return _logger.isEnabledFor(_worded(kind)[0])

    def __call__(self, entry: Entry) -> None:
        """Write an entry as one line; what nobody has words for is a debug line with its facts."""
        level, words = _worded(entry.kind)
        _logger.log(level, "%s", words(entry), extra={"nightcrew": _facts(entry)})


def configure(form: str, *, verbose: bool = False) -> None:
    """Send nightcrew's lines to standard error, as text or JSON; for nightcrew's own processes, never a library.

    `verbose` ones are also each batch, and the traceback of a run that failed.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if form == "json" else logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
    _logger.handlers[:] = [handler]
    _logger.setLevel(logging.DEBUG if verbose else logging.INFO)
    _logger.propagate = False


def _worded(kind: str) -> tuple[int, Callable[[Entry], str]]:
    return _WORDS.get(kind, (logging.DEBUG, _plain))


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = instant(datetime.fromtimestamp(record.created, UTC))
        line = {"time": at, "level": record.levelname.lower(), "message": record.getMessage()}
        return json.dumps(line | getattr(record, "nightcrew", {}), default=str)


def _facts(entry: Entry) -> Mapping[str, Any]:
    return {"event": entry.kind, "job": entry.job, "run": entry.run} | dict(entry.facts)


def _plain(entry: Entry) -> str:
    facts = " ".join(f"{key}={value}" for key, value in entry.facts.items())
    return one_line(f"[{entry.facts.get('label') or entry.job or 'nightcrew'}] {entry.kind} {facts}")


def _traceback(entry: Entry) -> str:
    """Return the one fact of many lines; they are indented, lest one of them reads as a record of its own."""
    lines = indented(str(entry.facts["traceback"]), 4)
    return "\n".join([one_line(f"[{entry.facts['label']}] traceback of run {entry.run}"), *lines])


def _outcome(entry: Entry) -> str:
    facts = entry.facts
    message = str(facts["message"])
    slot = f"slot {facts['slot']}" if facts["slot"] else "by hand"
    return one_line(
        f"[{facts['label']}] {message[:1].lower()}{message[1:].rstrip('.')}"
        f" (run {entry.run}, {slot}, {facts['trigger']}, {facts['durationMs']} ms)"
    )


def _paused(entry: Entry) -> str:
    """Tell of a pause that begins, or of a run that met one."""
    if "message" in entry.facts:
        return _outcome(entry)
    return one_line("[{label}] paused by {by}: {reason}".format_map(entry.facts))


def _cancelled(entry: Entry) -> str:
    """Tell of a run that was cancelled, or of one that ended by it."""
    if "message" in entry.facts:
        return _outcome(entry)
    return one_line("[{label}] run {run} cancelled by {by}: {reason}".format_map(entry.facts))


def _says(sentence: str) -> Callable[[Entry], str]:
    """Return the words of a fact whose figures fill a sentence."""

    def words(entry: Entry) -> str:
        return one_line(sentence.format_map({"job": entry.job, "run": entry.run, **entry.facts}))

    return words


_WORDS: Mapping[str, tuple[int, Callable[[Entry], str]]] = {
    "succeeded": (logging.INFO, _outcome),
    "nothing_to_do": (logging.INFO, _outcome),
    "partial": (logging.INFO, _outcome),
    "worked_along": (logging.INFO, _outcome),
    "ended_elsewhere": (logging.INFO, _outcome),
    "cut": (logging.INFO, _says("[{label}] cut into {ranges} ranges, for workers to share (run {run})")),
    "not_called": (logging.WARNING, _says("[{label}] no other worker could be called to run {run}: {error}")),
    "failed": (logging.ERROR, _outcome),
    "refused": (logging.ERROR, _outcome),
    "buried": (logging.ERROR, _says("[{label}] run {run} failed: {reason}")),
    "traceback": (logging.DEBUG, _traceback),
    "in_progress_elsewhere": (logging.WARNING, _outcome),
    "failsafe": (logging.WARNING, _says("[{label}] {sentence} (run {run})")),
    "drift": (logging.WARNING, _says("[{label}] {sentence} (run {run})")),
    "throttled": (logging.INFO, _says("[{label}] throttled ({level}): {gauge}: {seen} (run {run})")),
    "waited": (logging.DEBUG, _says("[{label}] was held back for {seconds} s (run {run})")),
    "contended": (logging.DEBUG, _says("[{label}] the slot that {trigger} asked for was taken, or over")),
    "eased": (logging.INFO, _says("[{label}] goes on at its pace: {gauge} lets go (run {run})")),
    "paused": (logging.INFO, _paused),
    "cancelled": (logging.WARNING, _cancelled),
    "stopped": (logging.WARNING, _says("[nightcrew] every job is stopped by {by}: {reason}")),
    "undone": (logging.WARNING, _says("[{label}] {by} undid run {run}: {rows} rows are back, {left} are not")),
    "released": (logging.INFO, _says("[nightcrew] jobs run again when they are due")),
    "acked": (logging.WARNING, _says("[{label}] {by} agreed to plan {plan}, of {rows} rows")),
    "strays": (logging.ERROR, _says("[{job}] the first batch also removed rows of {tables}; it was undone")),
    "erased": (logging.INFO, _says("[{label}] erasure {erasure} is {state}, asked for by {by}")),
    "given_up": (logging.WARNING, _says("[{label}] paused until {until}: {reason}")),
    "resumed": (logging.INFO, _says("[{label}] resumed")),
    "ticker_on": (logging.INFO, _says("[nightcrew] in-process scheduler on: {jobs} jobs, looking every {period:g} s")),
    "ticker_off": (logging.INFO, _says("[nightcrew] in-process scheduler off: {reason}")),
    "ticker_stopped": (logging.INFO, _says("[nightcrew] in-process scheduler stopped")),
    "ticker_slow_to_stop": (
        logging.WARNING,
        _says("[nightcrew] in-process scheduler still in a batch after {seconds:g} s; its lease will run out"),
    ),
    "row_lost": (
        logging.WARNING,
        _says(
            "[nightcrew] somebody deleted the rows of {jobs} in nightcrew_jobs; they are registered anew, from now on"
        ),
    ),
    "cut_off": (
        logging.WARNING,
        _says("[nightcrew] ended although {jobs} would not hand over in {seconds:.0f} s; the lease will run out"),
    ),
    "tick_failed": (logging.ERROR, _says("[nightcrew] nothing can be claimed: {error}")),
    "tick_recovered": (logging.INFO, _says("[nightcrew] claims work again after {failures} failed looks")),
    "run_lost": (logging.ERROR, _says("[nightcrew] a run broke off, and its lease will run out: {error}")),
    "job_initialised": (logging.INFO, _says("[{label}] initialised: {schedule}, next at {next_slot}")),
    "job_disabled": (logging.WARNING, _says("[{label}] disabled {why}: it is never run")),
    "kept": (logging.WARNING, _says("[{job}] {keys[0]} of {table} stayed, and it may be others: {reason}")),
    "undropped": (
        logging.WARNING,
        _says("[{job}] partition {partition} of {table} is not dropped, but emptied row by row: {reason}"),
    ),
    "undeletable": (logging.ERROR, _says("[{job}] row {key} of {table} cannot be removed: {reason}")),
    "hand_over_failed": (logging.WARNING, _says("[{job}] run {run} could not be handed over: {error}")),
    "listener_failed": (logging.ERROR, _says("[nightcrew] listener {listener} failed: {error}")),
    "secret_unset": (
        logging.ERROR,
        _says("[nightcrew] job routes are closed: CRON_SECRET is not set (at least 16 characters) in this process"),
    ),
    "unauthorized": (logging.WARNING, _says("[nightcrew] refused a call of {path} from {client}: {reason}")),
    "http_error": (logging.ERROR, _says("[nightcrew] a call of job {job} ended with an unexpected error: {error}")),
    "begun": (logging.DEBUG, _says("[{label}] begins (run {run}, {trigger})")),
    "monitor_failed": (logging.WARNING, _says("[nightcrew] {monitor} was not told of run {run}: {error}")),
    "monitor_recovered": (
        logging.INFO,
        _says("[nightcrew] {monitor} hears of runs again, and has missed {failures}"),
    ),
    "alarm_told": (logging.WARNING, _says("[nightcrew] alarm {stage}, told to {channels}: {sentence}")),
    "alarm_untold": (logging.ERROR, _says("[nightcrew] alarm {stage} could not be told: {error}")),
    "look_failed": (logging.WARNING, _says("[nightcrew] nobody could look for alarms: {error}")),
    "sighting_lost": (logging.WARNING, _says("[nightcrew] who used the previous secret is not kept: {error}")),
    "mail_failed": (logging.WARNING, _says("[{job}] mail {mail} ({sequence}/{step}) failed: {reason}")),
    "mail_maybe_sent": (logging.WARNING, _says("[{job}] mail {mail} ({sequence}/{step}) was perhaps sent: {reason}")),
    "opt_failed": (logging.ERROR, _says("[nightcrew] somebody's wish about mail of {topic} is not kept: {error}")),
    "previous_secret_used": (
        logging.WARNING,
        _says("[nightcrew] a caller still uses CRON_SECRET_PREVIOUS: {caller} on {path}"),
    ),
}
