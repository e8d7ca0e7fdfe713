"""NC3xx and NC402 to NC406: whether the database is the right one, and lets rows leave without harm."""

from collections.abc import Iterator
from datetime import timedelta

from nightcrew.checks.check import Check, Finding, Patient, Unable, problem, sweeping, warning
from nightcrew.duration import span
from nightcrew.errors import ConfigurationError, PolicyError
from nightcrew.plan import Plan
from nightcrew.policy import Action

_LONG = timedelta(minutes=5)  # an open transaction keeps what left since from being cleaned up
_SKEW = timedelta(seconds=1)


def _plans(patient: Patient) -> Iterator[tuple[str, Plan]]:
    """Yield the plan of every job that has one; those that have none are another check's."""
    for job, _ in sweeping(patient):
        try:
            yield job, patient.plan(job)
        except (PolicyError, ConfigurationError):
            continue


def _fits(patient: Patient) -> Iterator[Finding]:
    """NC404: a policy that the database does not allow."""
    for job, _ in sweeping(patient):
        try:
            patient.plan(job)
        except (PolicyError, ConfigurationError) as error:
            says, _, remedy = str(error).partition(": say ")
            cause = "the tables are others than the policy takes them for, or rows hang on those that are to leave"
            told = says if repr(job) in says else f"job {job!r}: {says}"
            yield problem(told, cause, f"say {remedy}" if remedy else f"nightcrew plan {job}")


def _finds_rows(patient: Patient) -> Iterator[Finding]:
    """NC301: no index by which the rows of a job are found."""
    for job, plan in _plans(patient):
        for step in plan.steps:
            if step.form and step.create_index:
                says = f"job {job!r} finds its rows of {step.table} by reading all of it"
                yield warning(says, "no index begins with its column", step.create_index)


def _finds_children(patient: Patient) -> Iterator[Finding]:
    """NC302: no index by which what hangs on a row is found."""
    seen: set[str] = set()
    for job, plan in _plans(patient):
        for statement, sentence in _of_children(plan):
            if statement not in seen:
                seen.add(statement)
                yield warning(f"job {job!r}: {sentence}", "a foreign key makes no index by itself", statement)


def _of_children(plan: Plan) -> Iterator[tuple[str, str]]:
    own = {step.create_index for step in plan.steps if step.form}
    for sentence in plan.warnings:
        says, found, rest = sentence.partition(": CREATE INDEX")
        statement = f"CREATE INDEX{rest}".partition(" (or say")[0]
        if found and statement not in own:
            yield statement, says


def _unwise(patient: Patient) -> Iterator[Finding]:
    """NC305: what else a plan warns of."""
    for job, plan in _plans(patient):
        for sentence in plan.warnings:
            if "CREATE INDEX" not in sentence:
                says, found, rest = sentence.partition(": ANALYZE ")
                remedy = f"ANALYZE {rest}" if found else f"nightcrew plan {job}"
                yield warning(f"job {job!r}: {says}", "seen as its plan was drawn up", remedy)


def _valid(patient: Patient) -> Iterator[Finding]:
    """NC303: indexes that are kept, and used by nobody."""
    for table, state in patient.condition.tables.items():
        for index, statement in state.broken.items():
            says = f"index {index} of {table} is invalid, so that no statement uses it"
            yield problem(says, "CREATE INDEX CONCURRENTLY was broken off", statement)


def _calm(patient: Patient) -> Iterator[Finding]:
    """NC306: what makes deletes costly: a transaction that has been open for long."""
    condition = patient.condition
    if condition.open_for is None:
        raise Unable(f"{condition.place}, is not told for how long others have been at it (docs/doctor.md#nc306)")
    if condition.open_for > _LONG:
        says = f"somebody's transaction has been open for {span(condition.open_for)}"
        cause = "until it ends, the database keeps every row that leaves"
        yield warning(says, cause, "end it, or let its program commit; and set idle_in_transaction_session_timeout")


def _advice(patient: Patient) -> Iterator[Finding]:
    """NC310: how the database is set up."""
    for says, remedy in patient.condition.advice:
        yield warning(f"{patient.condition.place}: {says}", "that is the default of a new file", remedy)


def _writable(patient: Patient) -> Iterator[Finding]:
    """NC402: the right database, which may be written."""
    condition = patient.condition
    if condition.read_only:
        says = f"{condition.place} cannot be written: {condition.read_only}"
        yield problem(says, "DATABASE_URL names a replica, or a copy", "set DATABASE_URL to the primary")


def _empty(patient: Patient) -> Iterator[Finding]:
    for job, policy in sweeping(patient):
        try:
            if patient.reach(job).some:
                continue
        except (PolicyError, ConfigurationError):
            continue
        says = f"table {policy.table} of job {job!r} has no row at all in {patient.condition.place}"
        cause = "the application uses another database, or has not begun to"
        yield warning(says, cause, "compare DATABASE_URL with that of the application")


def _place(patient: Patient) -> Iterator[Finding]:
    yield from _writable(patient)
    yield from _empty(patient)


def _hidden(patient: Patient) -> Iterator[Finding]:
    """NC405: rows that the database does not show to this role."""
    for job, policy in sweeping(patient):
        state = patient.condition.tables.get(policy.table)
        if state is not None and state.hides:
            says = f"row-level security hides rows of {policy.table} from job {job!r}"
            remedy = f"ALTER ROLE … BYPASSRLS; or: CREATE POLICY nightcrew ON {policy.table} TO … USING (true);"
            yield problem(says, f"{patient.condition.place}, is no owner of it and bypasses nothing", remedy)


def _allowed(patient: Patient) -> Iterator[Finding]:
    """NC406: rights that are missing."""
    for job, policy in sweeping(patient):
        state = patient.condition.tables.get(policy.table)
        wanted = {"SELECT", "DELETE" if policy.action is Action.DELETE else "UPDATE"}
        denied = sorted(wanted.intersection(state.denied)) if state is not None else []
        if denied:
            says = f"job {job!r} may not {' and '.join(denied)} in {policy.table}"
            remedy = f"GRANT {', '.join(denied)} ON {policy.table} TO …;"
            yield problem(says, f"{patient.condition.place}, was not granted that (docs/privileges.md)", remedy)


def _clocks(patient: Patient) -> Iterator[Finding]:
    """NC501: clocks that differ."""
    apart = patient.now - patient.database_now
    if abs(apart) > _SKEW:
        which = "behind" if apart < timedelta(0) else "ahead of"
        says = f"the clock of this machine is {span(abs(apart))} {which} that of the database"
        cause = "one of the two keeps no time; nightcrew goes by the database's, your application perhaps by its own"
        yield warning(says, cause, "timedatectl set-ntp true  # on whichever machine is wrong")


CHECKS = (
    Check("NC301", "the rows of each job are found by an index", _finds_rows),
    Check("NC302", "what hangs on them is found by an index", _finds_children),
    Check("NC303", "no index is invalid", _valid),
    Check("NC305", "no plan warns of anything else", _unwise),
    Check("NC306", "no transaction is open for long", _calm),
    Check("NC310", "the database is set up for many readers and a writer", _advice),
    Check("NC402", "this is the right database, and can be written", _place),
    Check("NC404", "each policy fits its tables", _fits),
    Check("NC405", "no row is hidden from this role", _hidden),
    Check("NC406", "this role may do what the jobs do", _allowed),
    Check("NC501", "the clocks agree", _clocks),
)
