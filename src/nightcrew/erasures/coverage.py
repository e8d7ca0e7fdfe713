"""Coverage: whether every column that may refer to what is erased is followed, or kept for a reason; for CI."""

import re
from collections.abc import Iterator, Mapping

from nightcrew.database import Selection, Table
from nightcrew.policy import Policy

_WORD = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")


def gaps(policy: Policy, selection: Selection, tables: Mapping[str, Table]) -> Iterator[str]:
    """Name each column that refers to a table whose rows are erased, or seems to, and of which nothing is said."""
    said = {name.casefold() for name in (*policy.keep, *(child for child, _ in policy.linked))}
    yield from _outliving(selection, said)
    leaving = dict.fromkeys((selection.table.name, *(key.table for key in selection.keys)))
    paths = selection.drains + selection.cascades + selection.loosened
    known = {(key.table, name) for path in paths for key in path for name in key.columns}
    known |= {(absence.table, name) for absence in selection.absences for name in absence.columns}
    for table in tables.values():
        for column in table.columns:
            if (table.name, column) in known or f"{table.name}.{column}".casefold() in said:
                continue
            if (parent := next((name for name in leaving if refers(column, name)), None)) is not None:
                where = f"{table.name}.{column}"
                link = f"{where}'" if parent == selection.table.name else f"{where} = {parent}.COLUMN'"
                yield (
                    f"{where} seems to refer to {parent}, whose rows are erased, and is neither followed nor kept: say"
                    f" links = ['{link}], or keep = {{ '{where}' = 'why' }}"
                )


def _outliving(selection: Selection, said: set[str]) -> Iterator[str]:
    """Name foreign keys whose rows stay by the database's own rule, though nobody said why."""
    for key in dict.fromkeys(path[-1] for path in selection.loosened):
        names = [f"{key.table}.{column}" for column in key.columns]
        if not any(name.casefold() in said for name in names):
            yield (
                f"rows of {key.table} outlive what they refer to by {', '.join(key.columns)} (ON DELETE"
                f" {key.on_delete}), and nobody says why: say links = ['{names[0]}'] to erase them, or keep ="
                f" {{ '{names[0]}' = 'why' }}"
            )


def refers(column: str, table: str) -> bool:
    """Tell whether a column is called as those are that refer to a table: user_id, ownerUserId, users_uuid.

    >>> refers("author_user_id", "users"), refers("user_identity", "users"), refers("id", "users")
    (True, False, False)
    """
    words = [word.casefold() for word in _WORD.findall(column)]
    parent = [word.casefold() for word in _WORD.findall(table.rpartition(".")[2])]
    if not parent or len(words) < 2:
        return column.casefold() in {f"{''.join(names)}id" for names in _names(parent)}
    return words[-1] in _ENDS and any(words[:-1][-len(names) :] == names for names in _names(parent))


_ENDS = ("id", "uuid", "guid", "key", "pk", "fk", "ref")


def _names(words: list[str]) -> list[list[str]]:
    """Return a table's name as its rows are called: users, user; categories, category."""
    last = words[-1]
    singular = f"{last[:-3]}y" if last.endswith("ies") else last.removesuffix("s")
    return [words, [*words[:-1], singular], [*words[:-1], last.removesuffix("es")]]
