"""Change: the new values of rows that stay, held against the table they are in."""

import re
from collections.abc import Iterator

from nightcrew.database import Table
from nightcrew.errors import PolicyError
from nightcrew.policy import Action, Policy, Sql, Value

_QUOTED = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|`[^`]*`")
_SUB_SELECT = re.compile(r"\b(?:select|table|values|with)\b", re.IGNORECASE)


def check(policy: Policy, table: Table) -> None:
    """Refuse values that the table cannot take, or by which a changed row would be changed again.

    Raises PolicyError naming the column and the remedy.
    """
    if policy.action is Action.CLEAR and not table.columns[policy.column].nullable:
        raise PolicyError(f"column {policy.column!r} of table {table.name!r} is NOT NULL: it cannot be cleared")
    if policy.column in policy.set:
        kept = "sets it to NULL" if policy.action is Action.CLEAR else "leaves it as it is: it says which rows are due"
        raise PolicyError(f"set gives column {policy.column!r} a value, and the action {str(policy.action)!r} {kept}")
    for name, value in policy.set.items():
        _check_value(name, value, table)
        if isinstance(value, Sql) and _SUB_SELECT.search(_QUOTED.sub("", value.expression)):
            raise PolicyError(
                f"set gives column {name!r} what a sub-select finds: an expression reads its own row only"
            )
    for key in table.unique:
        if all(_constant(policy, name) for name in key):
            columns = ", ".join(key)
            raise PolicyError(
                f"set gives {columns} the same value in every row, and table {table.name!r} allows it in one: use an"
                f" expression of the row, such as {{ sql = \"'gone-' || {(table.primary_key or ('id',))[0]}\" }}"
            )


def doubts(policy: Policy, table: Table) -> Iterator[str]:
    """Warn of values that may collide: a part of what must be unique gets one value for all."""
    for key in table.unique:
        if shared := [name for name in key if _constant(policy, name)]:
            yield (
                f"set gives {', '.join(shared)} the same value in every row, and rows of {table.name} must differ in"
                f" {', '.join(key)}: two that become alike stop the job"
            )


def _check_value(name: str, value: Value, table: Table) -> None:
    if name in table.primary_key:
        raise PolicyError(
            f"set gives column {name!r} a value, and rows of table {table.name!r} are known by it: leave it as it is"
        )
    empty = value.expression.strip().upper() == "NULL" if isinstance(value, Sql) else value is None
    if empty and not table.columns[name].nullable:
        raise PolicyError(f"column {name!r} of table {table.name!r} is NOT NULL: give it another value than NULL")


def _constant(policy: Policy, name: str) -> bool:
    value = policy.set.get(name)
    return value is not None and not isinstance(value, Sql)
