"""The versioned steps that make nightcrew's own tables."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import CreateIndex, CreateTable, ExecutableDDLElement

from nightcrew.databases.tables import (
    METADATA,
    acts,
    alarms,
    enrolments,
    entries,
    erasures,
    frames,
    jobs,
    mails,
    owed,
    place,
    plans,
    policies,
    ranges,
    runs,
    sightings,
    suppressions,
)


class AddColumn(ExecutableDDLElement):
    """ALTER TABLE … ADD COLUMN."""

    def __init__(self, column: sa.Column[Any]) -> None:
        self.element = column


@compiles(AddColumn)
def _add_column(add: AddColumn, compiler: Any, **_options: Any) -> str:
    table = compiler.preparer.format_table(add.element.table)
    return f"ALTER TABLE {table} ADD COLUMN {compiler.get_column_specification(add.element)}"


class KeepPlain(ExecutableDDLElement):
    """ALTER TABLE … SET STORAGE EXTERNAL: PostgreSQL shall not press long texts of a column, which takes longer."""

    only = "postgresql"

    def __init__(self, column: sa.Column[Any]) -> None:
        self.element = column


@compiles(KeepPlain)
def _keep_plain(keep: KeepPlain, compiler: Any, **_options: Any) -> str:
    table, column = compiler.preparer.format_table(keep.element.table), compiler.preparer.format_column(keep.element)
    return f"ALTER TABLE {table} ALTER COLUMN {column} SET STORAGE EXTERNAL"


Statement: TypeAlias = CreateTable | CreateIndex | AddColumn | KeepPlain | sa.Insert


def _made(*tables: sa.Table) -> list[Statement]:
    """Return what makes tables, without the columns that a later step brings."""
    made: list[Statement] = []
    for table in tables:
        create = CreateTable(table, if_not_exists=True)
        create.columns = [column for column in create.columns if "since" not in column.element.info]
        made.append(create)
        made.extend(CreateIndex(index) for index in sorted(table.indexes, key=lambda index: str(index.name)))
    return made


def _first_tables() -> list[Statement]:
    return _made(jobs, runs, entries)


def _of_consent() -> list[Statement]:
    return [*_made(place, policies, plans), sa.insert(place).values(id=1)]


def _columns_since(version: int) -> list[Statement]:
    """Return what adds the columns that say of themselves that they came with a step."""
    columns = (column for table in METADATA.sorted_tables for column in table.columns)
    return [AddColumn(column) for column in columns if column.info.get("since") == version]


def _of_ranges() -> list[Statement]:
    return _made(ranges)


def _of_debts() -> list[Statement]:
    return [*_made(owed), KeepPlain(owed.c.key)]


def _of_erasures() -> list[Statement]:
    return _made(erasures)


def _of_frames() -> list[Statement]:
    return _made(frames)


def _of_mail() -> list[Statement]:
    return _made(enrolments, mails, suppressions)


def _of_acts() -> list[Statement]:
    return [*_columns_since(14), *_made(acts)]


def _of_alarms() -> list[Statement]:
    return _made(alarms, sightings)


MIGRATIONS: Sequence[tuple[int, str, Callable[[], Sequence[Statement]]]] = (
    (1, "jobs, runs and ledger entries", _first_tables),
    (2, "which database this is, the policies it has run, and what was agreed to", _of_consent),
    (3, "how far a function's run is", partial(_columns_since, 3)),
    (4, "how often a run has failed, and when it is tried again", partial(_columns_since, 4)),
    (5, "the ranges of a run that many workers share", _of_ranges),
    (6, "which run was cancelled, by whom and why", partial(_columns_since, 6)),
    (7, "the first of the slots that a row stands for", partial(_columns_since, 7)),
    (8, "which schedule would take the place of another", partial(_columns_since, 8)),
    (9, "what is owed to stores outside the database", _of_debts),
    (10, "who was erased, as keyed hashes, and the receipts", _of_erasures),
    (11, "whether whoever holds a run has begun its work", partial(_columns_since, 11)),
    (12, "which rows are archived, and where", _of_frames),
    (13, "which mails people are due, and to whom none is sent", _of_mail),
    (14, "what people did, and the plans they were shown", _of_acts),
    (15, "which alarms stand, and what was told of them", _of_alarms),
)
"""Version, what it brings, and its statements. A released step is never edited: a change is a new step."""

VERSION = MIGRATIONS[-1][0]
