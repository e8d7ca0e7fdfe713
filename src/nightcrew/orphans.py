"""Blobs that no row knows are found, and where that was asked for, owed to their store; and rows whose blob is missing.

Counted first and removed after: a wrong database, or a column that nobody declared, would make orphans of all blobs.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from nightcrew.call import Call
from nightcrew.comparison import Comparison, Stage, Stand, Survey, sentences
from nightcrew.errors import DatabaseError, JobFailed, PolicyError, SafetyStop, StoreError
from nightcrew.job import Job
from nightcrew.rails import FEW, grown
from nightcrew.report import one_line
from nightcrew.shelf import Orphans, Shelf

_ATTEMPTS = 3


def job(store: str, shelf: Shelf, function: Callable[[Call], None]) -> Job:
    """Return the job that looks for a store's orphans, on the shelf's schedule."""
    name = f"sweep-orphans-{store.lower().replace('_', '-')}"
    return Job(name, shelf.schedule, function=function, label=f"Orphans of {store}", attempts=_ATTEMPTS)


def sweep(run: Call, comparison: Comparison) -> None:
    """Compare a store with its columns, from where the run stands on, and remove its orphans if it is to.

    Raises SafetyStop where they are too many, or nobody can tell which they are, and JobFailed where the store or a
    column cannot be read: then nothing is removed.
    """
    stand = comparison.begin() if run.cursor is None else Stand.of(run.cursor)
    removes = comparison.shelf.orphans is Orphans.REMOVE
    try:
        while stand.stage is not Stage.DONE:
            if stand.stage is not Stage.REMOVAL:
                stand = comparison.further(stand)
            elif not removes or not stand.survey.orphans:
                stand = replace(stand, stage=Stage.DONE)
            else:
                if why := too_many(stand.survey, comparison.shelf):
                    raise SafetyStop(f"{why}; look with 'nightcrew orphans {comparison.name}'")
                stand = _remove(run, comparison, stand)
            run.progress(stand.survey.blobs + stand.survey.keys + stand.removed)
            run.checkpoint(stand.json())
            if run.should_stop:  # looked at after a page, so that every call comes forward
                return
    except (PolicyError, StoreError, DatabaseError) as error:
        if isinstance(error, DatabaseError) and error.away:
            raise
        more = "nothing more" if stand.removed else "nothing"
        why = f"store {comparison.name!r} cannot be compared with its columns, so that {more} is removed: {error}"
        raise JobFailed(why) from error
    _report(run, comparison, stand)


def too_many(survey: Survey, shelf: Shelf) -> str | None:
    """Say why so many orphans are not removed unasked, or None."""
    if shelf.max_fraction >= 1 or not survey.orphans:
        return None
    name, blobs, number = survey.store, survey.blobs, survey.orphans
    remedy = f"see that its columns are declared, and set max_fraction under [blobs.{name}] if all is right"
    if not survey.keys:
        return f"no row has a key of store {name!r}, so that all its blobs would go; {remedy}"
    if number <= max(FEW, shelf.max_fraction * blobs):
        return None
    return (
        f"{number:,} of the {blobs:,} blobs of store {name!r} are orphans ({100 * number / blobs:.0f} %), and more than"
        f" {100 * shelf.max_fraction:g} % are not removed unasked; {remedy}"
    )


def _remove(run: Call, comparison: Comparison, stand: Stand) -> Stand:
    """Owe the orphans of a page to the store; each is looked at once more when the debt is settled."""
    _, after, orphans = comparison.look(stand.survey, stand.after)
    removed = stand.removed + len(orphans)
    if removed > grown(stand.survey.orphans):
        raise SafetyStop(
            f"store {comparison.name!r} has more orphans than there were when the run counted them: more than"
            f" {stand.survey.orphans:,}; look with 'nightcrew orphans {comparison.name}'"
        )
    comparison.debts.incur(comparison.name, orphans)
    run.count(len(orphans))
    return replace(stand, after=after, removed=removed, stage=Stage.REMOVAL if after is not None else Stage.DONE)


def _report(run: Call, comparison: Comparison, stand: Stand) -> None:
    facts = {name: value for name, value in stand.survey.json().items() if name not in ("store", "place")}
    run.enter("orphans", store=comparison.name, removed=stand.removed, **facts)
    run.say(told(stand, comparison.shelf.older_than, comparison.shelf.orphans))


def told(stand: Stand, older_than: timedelta, orphans: Orphans | None) -> str:
    """Say what came of it in one sentence."""
    if stand.removed:
        done = f"{stand.removed:,} are owed to the store and leave with the next run of drain-outbox"
    else:
        done = f"nothing was removed (orphans = '{orphans}')" if stand.survey.orphans else ""
    text = "; ".join(filter(None, (*sentences(stand.survey, older_than), done)))
    return one_line(f"{text[:1].upper()}{text[1:]}.")
