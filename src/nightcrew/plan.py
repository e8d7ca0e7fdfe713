"""Job at a moment → Plan: ordered Steps with counts; a dry run ends here.

The form of a batch follows from what could happen to a row between being found and being deleted (the races are
measured: tests/contract/test_races.py shows each form surviving what the next cheaper one loses):

- other rows decide about it (`unless_exists`, `keep_latest`, a sub-select) or hang on it (a foreign key):
  `Form.LOCKED`;
- its own values do, and other traffic changes them (`where`, `hold`, a time that is set and cleared again, and so
  may be NULL) or it is to be changed itself: `Form.CONTENDED`;
- only its time does, which never changes, or nobody else writes while it is deleted: `Form.RANGE`, the cheapest.
"""

import re
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from nightcrew import bill, change
from nightcrew.censor import shown
from nightcrew.clock import instant
from nightcrew.closure import Closure
from nightcrew.database import (
    Absence,
    Catalog,
    Database,
    ForeignKey,
    Form,
    Latest,
    Partition,
    Path,
    Selection,
    Survey,
    Table,
)
from nightcrew.errors import PolicyError, nearest
from nightcrew.forecast import Forecast
from nightcrew.hold import Hold, Living, heeding, shields, staying
from nightcrew.job import Job
from nightcrew.policy import Action, Policy, about

# A function may read other tables, too: what is not plainly about the row itself takes the careful form.
_SUB_SELECT = re.compile(r"\b(?:select|table|values|with)\b|\w\s*\(", re.IGNORECASE)
_NAMED = 3  # partitions in a plan, and rows by their keys
_PATIENCE = 5.0  # seconds that looking for those may take
_QUOTED = re.compile(r"'(?:[^']|'')*'|\"((?:[^\"]|\"\")*)\"")


@dataclass(frozen=True, slots=True)
class Step:
    """What happens to one table: `how` is the action, or what the database does ("cascade", "set null", "set default").

    "drop" takes whole partitions of the table first. Of "set null" and "set default", rows are counted that stay: their
    columns, which `note` names, refer to nothing afterwards. The rows are found by `index`; where one is wanting,
    `create_index` is the statement that makes it. The `sample` are the primary keys of a few, the oldest first. What is
    `owed` for them, and to which stores, is said in words.
    """

    table: str
    how: str
    rows: int
    oldest: str | None = None
    newest: str | None = None
    index: str | None = None
    form: str | None = None
    note: str | None = None
    owed: str | None = None
    create_index: str | None = None
    sample: tuple[Mapping[str, Any], ...] = ()

    def json(self) -> dict[str, Any]:
        """Return the step as JSON values."""
        said = {name: getattr(self, name) for name in Step.__slots__ if name not in ("create_index", "sample")}
        return said | {"createIndex": self.create_index, "sample": list(map(dict, self.sample))}

    @property
    def leaves(self) -> bool:
        """Whether the rows go."""
        return self.how in (Action.DELETE, "cascade")


@dataclass(frozen=True, slots=True)
class Plan:
    """What a job would do at a moment, in order, and what is unwise about it.

    Under its `id` it can be run, where it was kept. What is not `exact` is what the planner expects, for counting took
    too long. `refusals` say why a run would be refused that nobody agrees to, and the `forecast` what the runs so far
    tell of it, where nightcrew's own tables are there. `held` says which rows stay for what hangs on them.
    """

    job: str
    moment: datetime
    steps: tuple[Step, ...]
    warnings: tuple[str, ...] = ()
    id: str | None = None
    exact: bool = True
    refusals: tuple[str, ...] = ()
    forecast: Forecast | None = None
    held: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """How many rows of the job's own table would leave, or be changed."""
        return sum(step.rows for step in self.steps if step.form is not None)

    @property
    def reach(self) -> dict[str, int]:
        """How many rows of each table would be removed or changed in all; those of partitions are among the table's."""
        reach: dict[str, int] = {}
        for step in (step for step in self.steps if step.how != "drop"):
            reach[step.table] = reach.get(step.table, 0) + step.rows
        return reach

    @property
    def taken(self) -> dict[str, int]:
        """How many rows of each table a run would count as taken: all but those that only lose what they refer to."""
        return {step.table: step.rows for step in self.steps if step.form is not None or step.leaves}

    def json(self) -> dict[str, Any]:
        """Return the plan as JSON values; instants are ISO-8601 in UTC."""
        return {
            "id": self.id,
            "job": self.job,
            "moment": instant(self.moment),
            "rows": self.rows,
            "exact": self.exact,
            "steps": [step.json() for step in self.steps],
            "warnings": list(self.warnings),
            "refusals": list(self.refusals),
            "held": list(self.held),
            "forecast": self.forecast and self.forecast.json(),
        }


def draw_up(job: Job, moment: datetime, database: Database, holds: Sequence[Hold] = (), living: Living = None) -> Plan:
    """Count what `job` would remove at `moment`, changing nothing; `holds` are those of all jobs.

    Raises PolicyError for a policy that does not fit the database.
    """
    if job.policy is None:
        return Plan(job.name, moment, (), ("the job is a function of its own: what it would do cannot be counted",))
    selection, warnings, catalog = _chart(job.policy, moment, database, holds)
    selection = replace(selection, living=living)
    survey = database.survey(selection)
    name, column = selection.table.name, selection.column
    first = Step(
        table=name,
        how=str(selection.action),
        rows=survey.rows,
        oldest=survey.oldest,
        newest=survey.newest,
        index=survey.index,
        form=str(selection.form),
        create_index=None if selection.table.leads(column) else catalog.create_index(name, (column,)),
        sample=_sample(selection, database) if survey.rows and survey.exact else (),
    )
    drained = _along(selection.drains, Step("", "delete", 0, note=f"before {name}"), survey, catalog)
    cascaded = _along(selection.cascades, Step("", "cascade", 0, note=f"with {name}"), survey, catalog)
    loosened = [_loosened(key, rows, catalog) for key, rows in survey.loosened.items()]
    forgotten = (*_half_counted(selection), *(_outliving(survey.loosened, job.policy.keep) if job.policy.erase else ()))
    whole = _whole(name, database.partitions(selection)) if selection.alone else ()
    owed = bill.notes(selection.blobs)
    steps = tuple(replace(step, owed=owed.get(step.table)) for step in (*whole, *drained, first, *cascaded, *loosened))
    held = staying(selection, database)
    return Plan(job.name, moment, steps, (*warnings, *forgotten), exact=survey.exact, held=held)


def _sample(selection: Selection, database: Database) -> tuple[Mapping[str, Any], ...]:
    """Return the keys of the oldest rows by their columns' names, as JSON values."""
    names = selection.table.primary_key
    keys = database.oldest(selection, _NAMED, _PATIENCE)
    return tuple({name: shown(value) for name, value in zip(names, key, strict=True)} for key in keys)


def _whole(table: str, partitions: Sequence[Partition]) -> tuple[Step, ...]:
    """Return the step that drops partitions; its rows are among those of the table."""
    if not partitions:
        return ()
    number = "1 partition" if len(partitions) == 1 else f"{len(partitions)} partitions"
    names = ", ".join(partition.name for partition in partitions[:_NAMED]) + ", …" * (len(partitions) > _NAMED)
    rows = sum(partition.rows for partition in partitions)
    return (Step(table, "drop", rows, note=f"{number} ({names}), about so many of the rows of {table}"),)


def compile(  # noqa: A001 - what it does
    policy: Policy, moment: datetime, database: Database, holds: Sequence[Hold] = ()
) -> Selection:
    """Return what a run at `moment` may take, from the live catalog; nothing is counted. `holds` are those of all jobs.

    Raises PolicyError for a policy that does not fit the database, or that a foreign key stands in the way of.
    """
    return _chart(policy, moment, database, holds)[0]


def _chart(
    policy: Policy, moment: datetime, database: Database, holds: Sequence[Hold]
) -> tuple[Selection, tuple[str, ...], Catalog]:
    named = (*policy.unless_exists, *policy.keep, *(column for link in policy.linked for column in link if column))
    held = [*(hold.table for hold in holds), *(owing.table for owing in policy.blobs)]
    catalog = database.catalog(dict.fromkeys((policy.table, *(name.rpartition(".")[0] for name in named), *held)))
    with about("table"):
        table = catalog.table(policy.table)
    _check_columns(policy, table)
    policy = heeding(policy, holds, catalog)
    with about("unless_exists"):
        found = (absence for name in policy.unless_exists for absence in _absences(name, table, catalog))
        absences = tuple(dict.fromkeys(found))
    closure = Closure(policy, absences, catalog)
    _check_holds(holds, {table.name, *(path[-1].table for path in closure.drains + closure.cascades)}, catalog)
    with about("blobs"):
        blobs = bill.drawn(policy, table, closure, catalog)
    form = _form(policy, table, catalog)
    if form is not Form.RANGE and not table.primary_key:
        raise PolicyError(
            f"table {table.name!r} has no primary key, by which rows that others may change are found again: add one"
        )
    selection = Selection(
        table=table,
        column=policy.column,
        cut=policy.cutoff(moment),
        form=form,
        where=policy.where,
        hold=policy.hold,
        absences=absences,
        latest=Latest(policy.keep_latest, policy.per) if policy.keep_latest else None,
        action=policy.action,
        set=policy.set,
        marks=policy.marks if policy.action is Action.ANONYMIZE else (),
        drains=closure.drains,
        cascades=closure.cascades,
        loosened=closure.loosened,
        keys=closure.keys,
        knots=closure.knots,
        alone=_alone(policy, table, catalog),
        shields=shields(holds, closure.drains + closure.cascades, closure.knots, catalog),
        blobs=blobs,
        grace=policy.grace,
        archived=policy.archive is not None,
    )
    unwise = (*_slow(policy, table, catalog), *change.doubts(policy, table), *_soft(absences, table, catalog))
    return selection, (*unwise, *closure.warnings, *bill.doubts(blobs, catalog)), catalog


def _check_columns(policy: Policy, table: Table) -> None:
    for key, names in {"column": (policy.column,), "set": policy.set, "per": policy.per}.items():
        for name in names:
            if name not in table.columns:
                near = nearest(name, table.columns)
                raise PolicyError(f"table {table.name!r} has no column {name!r}{near}", key=key)
    for key, expression in policy.sql.items():
        with about(key):
            _check_quoted(expression, table)
    if policy.keep_latest and not table.primary_key:
        raise PolicyError(
            f"keep_latest tells rows of one time apart by a primary key: add one to table {table.name!r}",
            key="keep_latest",
        )
    with about("set" if policy.set else "action"):
        change.check(policy, table)


def _check_holds(holds: Iterable[Hold], tables: Container[str], catalog: Catalog) -> None:
    """Refuse a hold that cannot be read, of whichever job: nobody knows what it protects."""
    for hold in holds:
        if hold.table in catalog.refusals or (table := catalog.table(hold.table)).name not in tables:
            continue
        try:
            _check_quoted(hold.predicate, table)
        except PolicyError as error:
            raise PolicyError(f"the hold of job {hold.job!r} cannot be read: {error}") from None


def _check_quoted(predicate: str, table: Table) -> None:
    """Refuse a double-quoted name that is none: some databases would take it for a text, and compare with that."""
    if re.search(r"\bselect\b", predicate, re.IGNORECASE):
        return  # it may name what another table has
    for found in _QUOTED.finditer(predicate):
        name = None if found[1] is None else found[1].replace('""', '"')
        if name is not None and name not in table.columns and name not in table.name.split("."):
            raise PolicyError(
                f"SQL {predicate!r}: table {table.name!r} has no column {name!r}{nearest(name, table.columns)}"
                " (a text stands in single quotes)"
            )


def _form(policy: Policy, table: Table, catalog: Catalog) -> Form:
    predicates = [predicate for predicate in (policy.where, policy.hold) if predicate is not None]
    if policy.unless_exists or policy.keep_latest or any(_SUB_SELECT.search(predicate) for predicate in predicates):
        return Form.LOCKED
    if policy.action is Action.DELETE and (policy.links or catalog.children(table.name)):
        return Form.LOCKED
    if policy.action is not Action.DELETE:
        return Form.CONTENDED
    contended = predicates or table.columns[policy.column].nullable or (policy.blobs and not catalog.answering)
    return Form.CONTENDED if contended and not catalog.one_writer else Form.RANGE


def _alone(policy: Policy, table: Table, catalog: Catalog) -> bool:
    """Tell whether no row of one time could fare otherwise than the others of it, so that they may go unseen."""
    judged = policy.where, policy.hold, policy.keep_latest, policy.unless_exists, policy.links, policy.blobs
    others = policy.archive, policy.unless_active_stream
    return policy.action is Action.DELETE and not any((*judged, *others)) and not catalog.children(table.name)


def _absences(name: str, table: Table, catalog: Catalog) -> Iterable[Absence]:
    """Resolve “messages.chat_id”: by the foreign keys it belongs to, else by the primary key it must mean."""
    child_name, _, column = name.rpartition(".")
    child = catalog.table(child_name)
    if column not in child.columns:
        raise PolicyError(
            f"unless_exists {name!r}: table {child.name!r} has no column {column!r}{nearest(column, child.columns)}"
        )
    keys = [key for key in catalog.children(table.name) if key.table == child.name and column in key.columns]
    if keys:
        return [Absence(child.name, key.columns, key.parent_columns) for key in keys]
    if len(table.primary_key) != 1:
        raise PolicyError(
            f"unless_exists {name!r}: it is no foreign key to table {table.name!r}, whose primary key has"
            f" {len(table.primary_key)} columns, so what it refers to is not known: declare the foreign key"
        )
    return [Absence(child.name, (column,), table.primary_key)]


def _slow(policy: Policy, table: Table, catalog: Catalog) -> Iterator[str]:
    if not table.leads(policy.column):
        yield (
            f"no index begins with {table.name}.{policy.column}, so a sweep reads all of {table.name}:"
            f" {catalog.create_index(table.name, (policy.column,))}"
        )
    places = len(policy.per)
    if places and not any(
        {*index[:places]} == {*policy.per} and index[places : places + 1] == (policy.column,) for index in table.indexes
    ):
        group = (*policy.per, policy.column)
        yield (
            f"no index leads through {', '.join(group)} of {table.name}, so that for every row that is looked at its"
            f" group is searched for newer ones: {catalog.create_index(table.name, group)}"
        )


def _along(paths: Iterable[Path], step: Step, survey: Survey, catalog: Catalog) -> list[Step]:
    """Return a step like this one for each table that the paths end at."""
    keys: dict[str, dict[ForeignKey, None]] = defaultdict(dict)
    for path in paths:
        keys[path[-1].table][path[-1]] = None
    return [replace(step, table=table, rows=survey.counts[table], **_found(by, catalog)) for table, by in keys.items()]


def _found(keys: Iterable[ForeignKey], catalog: Catalog) -> dict[str, Any]:
    """Say by which indexes the rows that refer to others by these keys are found, and which are wanting."""
    known = sorted({key.index for key in keys if key.index is not None})
    wanting = [catalog.create_index(key.table, key.columns) for key in keys if not key.indexed]
    return {"index": ", ".join(known) or None, "create_index": " ".join(wanting) or None}


def _loosened(key: ForeignKey, rows: int, catalog: Catalog) -> Step:
    note = f"{', '.join(key.columns)} of rows that refer to {key.parent}"
    return Step(key.table, key.on_delete.lower(), rows, note=note, **_found((key,), catalog))


def _half_counted(selection: Selection) -> Iterator[str]:
    """Warn of trees, which are followed when they leave, and not before."""
    if selection.partly:
        yield (
            f"more rows of {', '.join(sorted(selection.partly))} may go than are counted here: those that hang on other"
            " rows of their own table are found as they leave"
        )


def _outliving(loosened: Mapping[ForeignKey, int], kept: Container[str]) -> Iterator[str]:
    """Warn of rows that an erasure leaves behind, as the database's own rule says: they may still tell of a person."""
    for key, rows in loosened.items():
        if rows and not any(f"{key.table}.{column}" in kept for column in key.columns):
            columns = ", ".join(key.columns)
            yield (
                f"{rows} rows of {key.table} outlive what they refer to by {columns} (ON DELETE {key.on_delete}): where"
                " they hold personal data, give that foreign key ON DELETE CASCADE, or name it in links, by which they"
                " go too, or anonymize them first by a job of their own; else say in keep why they stay"
            )


def _soft(absences: Iterable[Absence], table: Table, catalog: Catalog) -> Iterator[str]:
    """Warn of what unless_exists cannot see in time, or only slowly."""
    known = {(key.table, key.columns) for key in catalog.children(table.name)}
    for absence in absences:
        declared = (absence.table, absence.columns) in known
        column = f"{absence.table}.{', '.join(absence.columns)}"
        if not declared:
            yield (
                f"{column} is no foreign key to {table.name}, so a row that is inserted there in the very moment of"
                " a delete cannot be waited for: declare it one"
            )
        if not catalog.table(absence.table).leads(absence.columns[0]):
            yield (
                f"no index begins with {column}, so every row of {table.name} that is looked at reads all of"
                f" {absence.table}: {catalog.create_index(absence.table, absence.columns)}"
            )
