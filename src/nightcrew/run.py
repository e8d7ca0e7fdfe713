"""The table of contents: claim, plan, sweep, settle, report — one short function."""

import traceback
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from nightcrew import backoff, guard
from nightcrew.bid import MOST_EARLY
from nightcrew.books import Pause, Sequel, Settled, altogether
from nightcrew.call import Call, call
from nightcrew.censor import Censor
from nightcrew.claim import Claim
from nightcrew.claims import Claims
from nightcrew.clock import Budget, instant
from nightcrew.database import Counted, Selection
from nightcrew.done import Done, Gone, begun, finished, removed, report_of, row_of, rows_of
from nightcrew.ending import sequel
from nightcrew.erasures import completion
from nightcrew.errors import ClaimLost, DatabaseError, JobFailed, JobPaused, NightcrewError, RunCancelled, SafetyStop
from nightcrew.fleet import Company, dissolve
from nightcrew.hold import staying
from nightcrew.job import Overlap
from nightcrew.ledger import Entry
from nightcrew.outcome import Outcome, State
from nightcrew.parting import part
from nightcrew.report import Report, one_line
from nightcrew.respite import ITSELF
from nightcrew.settler import Settle, Settler
from nightcrew.sweep import Swept, sweep
from nightcrew.taken import over
from nightcrew.walk import Broom

_GLANCE = 0.1  # seconds that a run which is handed over may count what it leaves: others feel that, too
_TEXTS = ("message", "error", "details", "traceback")


def carry_out(claim: Claim, claims: Claims, broom: Broom, budget: Budget, company: Company) -> Report:
    """Do the work of a claim, settle it, and report; whatever happens, the slot ends as a row with a reason.

    A long run may be cut into ranges, to which it calls the `company`.

    Raises DatabaseError when the database is away, so that nothing can be settled: the lease then runs out and
    another crew goes on from the last committed batch.
    """
    started = broom.clock.monotonic()
    done = _done(claim, claims, broom, budget, company)
    done = _ended(claim, claims, broom, done, partial(_settle, claim, done, broom))
    return _told(claim, broom, done, started)


def carry_out_together(
    claim: Claim, claims: Claims, broom: Broom, budget: Budget, company: Company, settler: Settler
) -> None:
    """Do the same; a run that is done is settled a moment later, with others, and what was looked at is trusted."""
    started = broom.clock.monotonic()
    quick = settler.trusts(claim, started)
    done = _done(claim, claims, broom, budget, company, quick=quick)
    claims.stride.took(claim.job, broom.clock.monotonic() - started)
    end = partial(_end, claim, claims, broom, done, started)
    if claim.job.policy is not None or done.state is not State.DONE or claim.job.overlap is Overlap.SKIP:
        end(None)
        return
    settler.settle(claim, finished(claim, done), end, None if quick else started)


def _done(claim: Claim, claims: Claims, broom: Broom, budget: Budget, company: Company, *, quick: bool = False) -> Done:
    budget = budget.under(claim.lease)
    if not claim.resumed:
        for remark in claim.remarks:
            facts = {"sentence": remark.sentence, "label": claim.job.label, **remark.facts}
            broom.ledger.tell(Entry(remark.kind, claim.job.name, claim.run, facts))
        if broom.ledger.hears("begun"):
            broom.ledger.tell(Entry("begun", claim.job.name, claim.run, begun(claim)))
    try:
        done = _work(claim, broom, budget, company, quick=quick)
        return _censored(_again(claim, done, broom), broom.ledger.censor)
    except BaseException:
        claims.release(claim)
        _hand_over(claim, broom)
        raise


def _end(claim: Claim, claims: Claims, broom: Broom, done: Done, started: float, settle: Settle | None) -> None:
    done = _ended(claim, claims, broom, done, settle or partial(_settle, claim, done, broom))
    if broom.ledger.hears(done.heard_as):
        _told(claim, broom, done, started)


def _ended(claim: Claim, claims: Claims, broom: Broom, done: Done, settle: Settle) -> Done:
    """Settle a run, and return what came of it then."""
    try:
        settled = Settled() if done.state is State.RUNNING else settle()
    except BaseException:
        _hand_over(claim, broom)
        raise
    finally:
        claims.release(claim)
    if settled is None:
        done = _lost(claim, broom)
    elif settled.pause is not None:
        done = _given_up(claim, done, settled.pause, broom)
    if done.traceback:
        facts = {"traceback": done.traceback, "label": claim.job.label}
        broom.ledger.tell(Entry("traceback", claim.job.name, claim.run, facts))
    return done


def _told(claim: Claim, broom: Broom, done: Done, started: float) -> Report:
    """Report a run that has ended, and let the listeners hear of it."""
    report = report_of(claim, done, broom.clock.now(), round(1000 * (broom.clock.monotonic() - started)))
    broom.ledger.tell(Entry(done.heard_as, claim.job.name, claim.run, report.json() | {"label": claim.job.label}))
    return report


def _settle(claim: Claim, done: Done, broom: Broom) -> Settled | None:
    again = Sequel(retry_at=done.retry_at)
    then = again if done.state.open else sequel(broom.books, claim.job, claim.moment, claim.slot)
    if done.outcome is Outcome.REFUSED:  # what a rail refuses has harmed nobody, and waits for a person
        then = replace(then, pause_after=0)
    return _close(claim, done, broom, then)


def _close(claim: Claim, done: Done, broom: Broom, then: Sequel) -> Settled | None:
    cut = claim.cut or claim.job.fan_out is not None
    return broom.books.settle(claim.job.name, claim.fence, row_of(claim, done), then, cut=cut)


def _given_up(claim: Claim, done: Done, pause: Pause, broom: Broom) -> Done:
    """Let everybody hear that a job is left alone for a while, because its runs fail."""
    facts = {"label": claim.job.label, "by": ITSELF, "reason": pause.reason, "until": instant(pause.until)}
    broom.ledger.tell(Entry("given_up", claim.job.name, claim.run, facts))
    note = f"The job is paused until {pause.until:%Y-%m-%d %H:%M}Z: {pause.reason}"
    return done._replace(note="; ".join(filter(None, (done.note, one_line(note)))))


def _censored(done: Done, censor: Censor) -> Done:
    """Take what an exception's text may have brought along out of all that is said of a run, here and in the ledger."""
    clean = censor(done.message) == done.message
    if clean and done.error is done.details is done.traceback is None:  # as it is hundreds of times a second
        return done
    said: dict[str, str] = {name: text for name in _TEXTS if (text := getattr(done, name))}
    return done._replace(**{name: censor(text) for name, text in said.items()})  # type: ignore[arg-type]


def _work(claim: Claim, broom: Broom, budget: Budget, company: Company, *, quick: bool) -> Done:
    """Do the work, and turn whatever stops it into an outcome with a reason."""
    try:
        return _do(claim, broom, budget, company, quick=quick)
    except (ClaimLost, JobPaused, RunCancelled) as why:
        return _lost(claim, broom) if isinstance(why, ClaimLost) else _halted(claim, broom, why)
    except JobFailed as error:
        trace = "".join(traceback.format_exception(error.__cause__)) if error.__cause__ else None
        return _failed(claim, broom, error, trace)
    except SafetyStop as error:
        return _refused(claim, broom, error)
    except NightcrewError as error:
        if broom.books.is_away(error):
            raise
        return _failed(claim, broom, error)
    except Exception as error:  # noqa: BLE001 - whatever a driver trips over, the slot ends with it
        wrapped = JobFailed(f"{type(error).__name__}: {error}")
        return _failed(claim, broom, wrapped, "".join(traceback.format_exception(error)))


def _do(claim: Claim, broom: Broom, budget: Budget, company: Company, *, quick: bool) -> Done:
    # A deadline is looked at after the first batch, not before: however short, every call brings the run forward.
    if (reason := budget.stopping) is not None:
        return _not_begun(claim, broom, reason)
    if (within := _within(claim, broom, budget)) is None:
        return _not_begun(claim, broom, f"window {claim.job.window} is closed")
    budget = within
    if not (claim.joined or quick):
        asked_at = broom.clock.monotonic()
        broom.books.begin(claim.job.name, claim.fence, claim.run, broom.lease)
        claim.renewed(asked_at)
    if not quick:
        guard.watch_place(claim.job, broom)
    if claim.job.policy is None:
        return _called(claim, call(claim, broom, budget, company.heartbeat.came), budget)
    if claim.cut and guard.changed(claim, broom):
        if claim.joined:
            return _not_begun(claim, broom, "they know another policy")
        dissolve(claim, broom)
    with claim.job.to_blame():
        admission = guard.admit(claim, broom)
        swept = _taken(claim, admission, broom, budget, company)
        if swept.elsewhere:
            return _elsewhere(claim, swept.counts, swept.stopped)
        guard.passed(claim, admission.permit, broom, ended=swept.stopped is None)
        return _swept(claim, admission.selection, swept, broom)


def _taken(claim: Claim, admission: guard.Admission, broom: Broom, budget: Budget, company: Company) -> Swept:
    """Sweep; or erase subject after subject, where the policy says so and there is a key to write receipts with.

    Where what leaves can still be put back, their erasures are only owed.
    """
    policy, selection, kit = claim.job.policy, admission.selection, broom.kit()
    if policy is not None and policy.erase and kit is not None and selection.table.primary_key:
        if policy.archive is None and not claim.cut:
            return part(claim, selection, admission.permit, broom, budget, kit)
        if policy.archive is not None:
            selection = completion.owed(claim.job.name, policy, selection)
    return sweep(claim, selection, admission.permit, broom, budget, company)


def _not_begun(claim: Claim, broom: Broom, reason: str) -> Done:
    """Leave a run as it is; what others have begun is not for us to settle."""
    return _elsewhere(claim, claim.counts, reason) if claim.joined else _partial(claim, _so_far(claim, broom), reason)


def _within(claim: Claim, broom: Broom, budget: Budget) -> Budget | None:
    """Let the budget end with the job's window, by the database's clock; None where it is over."""
    window = claim.job.window
    if window is None or claim.at_once:
        return budget
    now = broom.database.now()
    closes = window.closes(now, MOST_EARLY)
    return None if closes is None else budget.closing((closes - now).total_seconds(), f"window {window} has closed")


def _swept(claim: Claim, selection: Selection, swept: Swept, broom: Broom) -> Done:
    if swept.stopped is not None:
        ahead = broom.database.expected(selection, _GLANCE, swept.cursor)
        return _partial(claim, Gone.of(claim.job, swept.counts), swept.stopped, ahead)
    table, left, bad = selection.table.name, swept.left + len(swept.undeletable), swept.undeletable
    stay = "".join(f"; {sentence}" for sentence in staying(selection, broom.database))
    if swept.rows == 0 and left == 0 and not stay and swept.unseen is None:
        return Done(State.DONE, Outcome.NOTHING_TO_DO, f"Nothing to do: no row of {table} has expired.")
    along = {name: rows for name, rows in swept.counts.items() if name != table and rows}
    with_them = f", and with them {', '.join(f'{rows:,} of {name}' for name, rows in along.items())}" if along else ""
    deed = selection.action.done.capitalize()
    about = "" if swept.exact else "about "
    whole = f", {swept.dropped} of its partitions whole" if swept.dropped else ""
    done = (
        f"{deed} {about}{rows_of(swept.rows)} of {table}{whole}{with_them}"
        if swept.rows
        else f"No row of {table} could go"
    )
    held = f"; {rows_of(swept.left, 'expired ')} stayed, held by others or kept by a trigger" if swept.left else ""
    if swept.kept:
        held += f" ({', '.join((*swept.kept[:3], *['…'] * (left > 3)))})"
    if swept.unseen is not None:
        held += f"; whether more stayed is not known ({swept.unseen})"
    held += stay
    if bad:
        named = f"; {rows_of(len(bad))} cannot be removed ({bad[0].key}: {bad[0].reason})"
        trace = "\n".join(f"{row.key}: {row.reason}" for row in bad)
        return Done(State.FAILED, Outcome.FAILED, done + held + named, swept.rows, swept.counts, left, trace, trace)
    outcome = Outcome.SUCCEEDED if swept.rows else Outcome.NOTHING_TO_DO
    note = None if swept.exact else "Not all rows were counted: of large partitions the database's estimate is told."
    remaining = left if swept.unseen is None else None
    return Done(State.DONE, outcome, f"{done}{held}.", swept.rows, swept.counts, remaining, note=note)


def _called(claim: Claim, account: Call, budget: Budget) -> Done:
    name, counted = claim.job.name, account.counted
    if account.stopped and account.cancelled:
        before = f"having counted {counted}" if counted else ""
        return _cancelled(claim, account.stopped, counted, {}, before)
    if account.stopped:
        goes_on = "it goes on once it is resumed" if account.paused else "the next call goes on"
        message = one_line(f"Job {name} stopped early, having counted {counted:,} ({account.stopped}); {goes_on}.")
        outcome = Outcome.PAUSED if account.paused else Outcome.PARTIAL
        return Done(State.PARTIAL, outcome, message, counted, remaining=None)
    note = None
    if budget.left is not None and budget.left < 0:
        late = f"{-budget.left:.1f} s after it was to stop ({budget.ending})"
        note = f"The function went on for {late}: let it ask run.should_stop."
    said = None if account.said is None else one_line(account.said)
    if counted == 0:
        message = said or f"Job {name} ran and counted nothing."
        return Done(State.DONE, Outcome.NOTHING_TO_DO, message, note=note)
    return Done(State.DONE, Outcome.SUCCEEDED, said or f"Job {name} ran and counted {counted:,}.", counted, note=note)


def _so_far(claim: Claim, broom: Broom) -> Gone:
    """Return what has gone by what is written down of the run, whoever took it."""
    if claim.job.policy is None:
        return Gone(broom.books.saved(claim.run).counted)
    return Gone.of(claim.job, altogether(broom.books.progress(claim.run)))


def _partial(claim: Claim, gone: Gone, reason: str, ahead: Counted | None = None) -> Done:
    left, remaining, note = "", None, None
    if ahead is not None:
        left, remaining = f", {'' if ahead.exact else 'about '}{ahead.rows:,} left", ahead.rows
        note = None if ahead.exact else "What is left takes long to count: the database's estimate is told."
    call = "call of any trigger within its window" if claim.job.window else "call of any trigger"
    message = f"Job {claim.job.name} stopped early: {gone} so far{left} ({reason}); the next {call} goes on."
    return Done(State.PARTIAL, Outcome.PARTIAL, message, gone.number, gone.counts, remaining, note=note)


def _halted(claim: Claim, broom: Broom, why: JobPaused | RunCancelled) -> Done:
    gone = _so_far(claim, broom)
    if isinstance(why, RunCancelled):
        return _cancelled(claim, str(why), gone.number, gone.counts, f"{gone} so far" if gone.number else "")
    message = one_line(f"Job {claim.job.name} stopped early: {gone} so far ({why}); it goes on once it is resumed.")
    return Done(State.PARTIAL, Outcome.PAUSED, message, gone.number, gone.counts, None)


def _cancelled(claim: Claim, why: str, removed: int, counts: Mapping[str, int] | None, before: str) -> Done:
    message = one_line("; ".join(filter(None, (f"Job {claim.job.name} was {why}", before))))
    return Done(State.CANCELLED, Outcome.CANCELLED, message, removed, counts, None)


def _failed(claim: Claim, broom: Broom, error: NightcrewError, trace: str | None = None) -> Done:
    gone = _so_far(claim, broom)
    kept = f"; {gone}{'' if gone.counts is None else ' were removed'} before" if gone.number else ""
    message = one_line(f"Job {claim.job.name} failed: {error}{kept}")
    details = type(error.__cause__ or error).__name__
    return Done(
        State.FAILED, Outcome.FAILED, message, gone.number, gone.counts, None, trace or str(error), details, trace
    )


def _again(claim: Claim, done: Done, broom: Broom) -> Done:
    """Leave the run open of a function that has failed, unless that was its last attempt."""
    first = claim.job.backoff
    if done.outcome is not Outcome.FAILED or first is None:
        return done
    attempt, most = claim.won.failures + 1, claim.job.attempts
    if attempt >= most:
        return done._replace(message=f"{done.message}; that was attempt {attempt} of {most}")
    at = broom.database.now() + backoff.wait(first, attempt, claim.run)
    message = f"{done.message}; attempt {attempt} of {most}, tried again from {at:%Y-%m-%d %H:%M:%S}Z on"
    return done._replace(state=State.RETRYING, message=message, retry_at=at)


def _refused(claim: Claim, broom: Broom, stop: SafetyStop) -> Done:
    failed = _failed(claim, broom, stop)
    nothing = "" if failed.deleted else "; nothing was removed"
    message = failed.message.replace(" failed: ", " was refused: ", 1) + nothing
    return failed._replace(outcome=Outcome.REFUSED, message=message)


def _elsewhere(claim: Claim, counts: Mapping[str, int], stopped: str | None) -> Done:
    """Say of a run that others are still at work at; they settle it."""
    rows, why = removed(claim.job, counts), f" ({stopped})" if stopped else ""
    message = f"Job {claim.job.name} goes on in other workers{why}: {rows_of(rows)} so far."
    return Done(State.RUNNING, Outcome.IN_PROGRESS_ELSEWHERE, message, rows, counts, None, kind="worked_along")


def _lost(claim: Claim, broom: Broom) -> Done:
    """Say what became of a run that somebody else has: one that several share may be over by now."""
    row = broom.books.run(claim.run)
    if row is not None and not row.state.open:
        ended = over(broom.books, claim.job, claim.run, claim.slot)
        outcome = Outcome.CANCELLED if row.state is State.CANCELLED else ended.outcome
        kind, counts = "ended_elsewhere", row.counts
        return Done(State.RUNNING, outcome, ended.message, row.deleted, counts, None, details=ended.details, kind=kind)
    message = f"Job {claim.job.name} was taken over by another crew, which goes on with it."
    return Done(State.RUNNING, Outcome.IN_PROGRESS_ELSEWHERE, message, remaining=None)


def _hand_over(claim: Claim, broom: Broom) -> None:
    """Leave the run to whoever comes next; if even that fails, the lease runs out by itself."""
    try:
        if broom.ranges.manned(claim.run):
            return
        interrupted = _partial(claim, _so_far(claim, broom), "interrupted")
        _close(claim, interrupted, broom, Sequel())
    except DatabaseError as error:
        broom.ledger.tell(Entry("hand_over_failed", claim.job.name, claim.run, {"error": str(error)}))
