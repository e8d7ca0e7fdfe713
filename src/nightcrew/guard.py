"""Guard: what a run has to pass before its first batch; it asks the databases, and the rails decide."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from nightcrew import plan as plans
from nightcrew import rails
from nightcrew.claim import Claim
from nightcrew.consent import Filed, Here, Known
from nightcrew.database import Form, Selection
from nightcrew.errors import ConfigurationError, DatabaseError, SafetyStop, UsageError
from nightcrew.forecast import Forecast, foresee
from nightcrew.hold import streaming
from nightcrew.job import Job
from nightcrew.ledger import Entry
from nightcrew.outcome import State
from nightcrew.plan import Plan
from nightcrew.policy import Policy
from nightcrew.rails import Permit
from nightcrew.throttle import Throttle
from nightcrew.walk import Broom
from nightcrew.weight import SIZES

_ADMITTED = "admitted"
_RUNS = 10  # of the past say what is usual
_LOOKED_AT = 100  # runs among which those are looked for


@dataclass(frozen=True, slots=True)
class Admission:
    """What a run may take, and of which rows."""

    permit: Permit
    selection: Selection


def watch_place(job: Job, broom: Broom) -> None:
    """See to it that the database is where its jobs ran before, and that the time is what it seems to be.

    Raises SafetyStop where it is not, for any job: one in a copy would do its work twice.
    """
    here = broom.consents.here()
    for why in objections_to(here, broom.clock.now()):
        raise _refusal(f"{why[:1].lower()}{why[1:]}", f"if that is right, agree with 'nightcrew ack {job.name}'")
    late = here.clock_at is None or here.now - here.clock_at > rails.SKEW / 10
    if late or not {*here.marks} >= {*here.identity.own}:
        broom.consents.settle(here.identity.own or here.marks, here.now)


def objections_to(here: Here, own: datetime) -> list[str]:
    """Say what is wrong with where and when we are."""
    return [why for why in (rails.misplaced(here), rails.untimely(here, own)) if why]


def admit(claim: Claim, broom: Broom) -> Admission:
    """Find out what a run may take; a run that is gone on with may take what it might before.

    Raises SafetyStop when that is more than anybody has agreed to, and PolicyError as a plan does.
    """
    policy = claim.job.policy
    assert policy is not None  # noqa: S101 - functions take no rows of ours
    written = broom.books.noted(claim.run, _ADMITTED)
    if written is not None and written["fingerprint"] == policy.fingerprint:
        permit = Permit.of(written)
        selection = plans.compile(policy, permit.moment, broom.database, broom.holds())
        return Admission(permit, replace(selection, run=claim.run, living=streaming(policy, broom.living)))
    shown = _shown(claim, broom)
    # Whichever of the two clocks is behind: what one of them still takes for alive is not dead.
    moment = shown.moment if shown else min(claim.moment, broom.clock.now())
    selection = plans.compile(policy, moment, broom.database, broom.holds())
    selection = replace(selection, living=streaming(policy, broom.living))
    permit = _permit(claim, policy, selection, (moment, shown), broom)
    broom.ledger.write(Entry(_ADMITTED, claim.job.name, claim.run, permit.json()))
    return Admission(permit, replace(selection, run=claim.run))


def changed(claim: Claim, broom: Broom) -> bool:
    """Tell whether a run was begun by another policy than its job has here."""
    written, policy = broom.books.noted(claim.run, _ADMITTED), claim.job.policy
    return written is None or policy is None or written["fingerprint"] != policy.fingerprint


def draw_up(job: Job, broom: Broom, *, ready: bool, keep: bool) -> Plan:
    """Draw up a job's plan, with what a run would be refused for; where `ready`, nightcrew's own tables are there.

    One to `keep` gets an ID, under which it can be run.
    """
    now = min(broom.database.now(), broom.clock.now())
    drawn = plans.draw_up(job, now, broom.database, broom.holds(), streaming(job.policy, broom.living))
    if not ready:
        return drawn
    refusals = tuple(objections_to(broom.consents.here(), broom.clock.now()))
    if job.policy is not None:
        refusals += tuple(objections(job, now, drawn.reach, broom))
    drawn = replace(drawn, refusals=refusals, forecast=_forecast(job, drawn, broom))
    if not keep or job.policy is None:
        return drawn
    drawn = replace(drawn, id=f"{job.name}.plan-{broom.clock.token()[:8]}")
    broom.consents.file(_filed(drawn, job.policy))
    return drawn


def _forecast(job: Job, drawn: Plan, broom: Broom) -> Forecast | None:
    forms = [Form(step.form) for step in drawn.steps if step.form]
    if not forms:
        return None
    throttle = Throttle.of(job.pace, SIZES[forms[0]], broom.lease, broom.database.most_duty)
    dropped = sum(step.rows for step in drawn.steps if step.how == "drop")
    return foresee(job, drawn.taken, dropped, throttle, broom.books)


def agree(job: Job, by: str, broom: Broom) -> Plan:
    """Agree to what a run of a job would be refused for now: to this database and its clock, and to what it takes."""
    here = broom.consents.here()
    broom.consents.settle(here.identity.own or here.marks, here.now)
    drawn = draw_up(job, broom, ready=True, keep=False)
    if job.policy is None:
        return drawn
    drawn = replace(drawn, id=f"{job.name}.plan-{broom.clock.token()[:8]}")
    last = broom.books.runs(job.name, [State.FAILED], 1)
    strays = broom.books.noted(last[0].id, "strays") if last else None
    known = dict.fromkeys(strays["tables"] if strays else ())
    filed = _filed(drawn, job.policy)
    broom.consents.file(replace(filed, counts={**known, **filed.counts}, acked_at=here.now, acked_by=by))
    return drawn


def demand(plan: str, job: Job, broom: Broom) -> None:
    """Raise UsageError for the ID of a plan that was not kept, or is another job's."""
    kept = broom.consents.plan(plan)
    if kept is None or kept.job != job.name:
        whose = f", which is one of job {kept.job!r}" if kept else ""
        raise UsageError(f"job {job.name!r} has no plan {plan[:120]!r}{whose}: draw one up with 'nightcrew plan'")


def _filed(drawn: Plan, policy: Policy) -> Filed:
    shown = replace(drawn, steps=tuple(replace(step, sample=()) for step in drawn.steps)).json()
    return Filed(str(drawn.id), drawn.job, policy.fingerprint, drawn.moment, drawn.reach, shown=shown)


def passed(claim: Claim, permit: Permit, broom: Broom, *, ended: bool) -> None:
    """Remember the policy that a run has taken rows by, and that what was agreed to has been done."""
    policy = claim.job.policy
    if policy is not None and permit.canary:
        broom.consents.know(claim.job.name, Known(policy.fingerprint, policy.terms))
    if ended and permit.plan is not None:
        broom.consents.spend(permit.plan, claim.run)


def objections(job: Job, moment: datetime, counts: Mapping[str, int], broom: Broom) -> Iterator[str]:
    """Say what a run that takes so many rows would be refused for, unless somebody agrees to it."""
    policy = job.policy
    assert policy is not None  # noqa: S101
    known = broom.consents.known(job.name)
    changed = known is not None and known.fingerprint != policy.fingerprint
    if known and changed and (why := rails.widened(counts, _before(known, moment, broom))):
        yield why
    runs = [row.counts for row in broom.books.runs(job.name, [State.DONE], _LOOKED_AT) if row.deleted][:_RUNS]
    heavy = rails.to_weigh(counts, runs) if policy.max_fraction < 1 else {}
    sizes = {table: broom.database.size(table, int(rows / policy.max_fraction) + 1) for table, rows in heavy.items()}
    if why := rails.breaker(counts, sizes, policy.max_fraction, policy.max_rows):
        yield why


def _permit(
    claim: Claim, policy: Policy, selection: Selection, asked: tuple[datetime, Filed | None], broom: Broom
) -> Permit:
    name, fingerprint, (moment, shown) = claim.job.name, policy.fingerprint, asked
    known = broom.consents.known(name)
    new = known is None or known.fingerprint != fingerprint
    free = Permit(fingerprint, moment, {}, canary=new)
    agreed = shown or broom.consents.agreed(name, fingerprint)
    unlimited = policy.max_fraction >= 1 and policy.max_rows is None
    if agreed is None and unlimited and (known is None or not new):
        return free
    counts = broom.database.survey(selection).reach
    if agreed is not None:
        if why := rails.outgrown(agreed, counts):
            raise _outgrown(name, agreed, why, by_id=shown is not None)
        shown_of = {table: None if table in selection.partly else rows for table, rows in agreed.counts.items()}
        most = {table: None if rows is None else rails.grown(rows) for table, rows in shown_of.items()}
        return replace(free, most=most, plan=agreed.id)
    for why in objections(claim.job, moment, counts, broom):
        remedy = f"look with 'nightcrew plan {name}', and agree with 'nightcrew ack {name}'"
        raise _refusal(why, remedy)
    most = {} if unlimited else {table: max(rails.LEAST, rails.grown(rows)) for table, rows in counts.items()}
    most |= dict.fromkeys(selection.partly & set(most))
    return replace(free, most=most, total=policy.max_rows)


def _shown(claim: Claim, broom: Broom) -> Filed | None:
    """Return the plan that the run is to carry out; raises SafetyStop for one that holds no more."""
    if claim.plan is None:
        return None
    plan = broom.consents.plan(claim.plan)
    assert claim.job.policy is not None  # noqa: S101
    if plan is None:
        raise _refusal(
            f"plan {claim.plan} is not there any more", f"draw up another: 'nightcrew plan {claim.job.name}'"
        )
    if why := rails.lapsed(plan, claim.job.policy.fingerprint, claim.moment):
        raise _refusal(f"plan {plan.id} no longer holds: {why}", f"draw up another: 'nightcrew plan {claim.job.name}'")
    return plan


def _before(known: Known, moment: datetime, broom: Broom) -> Mapping[str, int]:
    """Count what the policy before it was changed would take now; what does not fit the database takes nothing."""
    try:
        before = plans.compile(Policy.of(known.terms), moment, broom.database, broom.holds())
        return broom.database.survey(before).reach
    except (ConfigurationError, KeyError, TypeError):
        return {}
    except DatabaseError as error:
        if error.of_statement:
            return {}
        raise


def _outgrown(job: str, plan: Filed, why: str, *, by_id: bool) -> SafetyStop:
    if by_id:
        return _refusal(f"plan {plan.id} no longer holds: {why}", f"draw up another: 'nightcrew plan {job}'")
    return _refusal(f"it outgrew what {plan.acked_by} agreed to: {why}", f"agree anew with 'nightcrew ack {job}'")


def _refusal(why: str, remedy: str) -> SafetyStop:
    return SafetyStop(f"{why}; {remedy}")
