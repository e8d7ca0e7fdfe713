"""Bill: which columns of keys are owed to the stores when rows leave, held against the tables they are in."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from nightcrew.closure import Closure
from nightcrew.database import Catalog, Path, Table
from nightcrew.errors import PolicyError, nearest
from nightcrew.owing import Owing
from nightcrew.policy import Action, Policy

_NO_TEXT = ("json", "jsonb", "bytea", "blob", "longblob", "mediumblob", "tinyblob", "binary", "varbinary")


def drawn(policy: Policy, table: Table, closure: Closure, catalog: Catalog) -> tuple[Owing, ...]:
    """Return what a policy owes, by the names that the catalog has for its tables.

    Raises PolicyError for a column that is not there or holds no keys, and for one of which nothing would ever be owed.
    """
    return tuple(dict.fromkeys(_checked(owing, policy, table, closure, catalog) for owing in policy.blobs))


def _checked(owing: Owing, policy: Policy, table: Table, closure: Closure, catalog: Catalog) -> Owing:
    holder = catalog.table(owing.table)
    if owing.column not in holder.columns:
        near = nearest(owing.column, holder.columns)
        raise PolicyError(f"blobs {str(owing)!r}: table {holder.name!r} has no column {owing.column!r}{near}")
    kind = holder.columns[owing.column].kind
    if kind.partition("(")[0].strip().lower() in _NO_TEXT or kind.endswith("[]"):
        raise PolicyError(
            f"blobs {str(owing)!r} is of type {kind}, which is no single key: keep one key a row, in a table of its own"
        )
    if policy.action is not Action.DELETE:
        cleared = (policy.column,) if policy.action is Action.CLEAR else ()
        if holder.name != table.name or owing.column not in (*policy.set, *cleared):
            raise PolicyError(
                f"blobs {str(owing)!r} is no column that the action {str(policy.action)!r} sets, so that its blob stays"
                " in use: set it, or leave it out of blobs"
            )
    elif not _leaves(owing.column, holder.name, table.name, closure):
        raise PolicyError(
            f"blobs {str(owing)!r}: no row of {holder.name!r} leaves with rows of {table.name!r}: declare a foreign"
            f" key, or add it to links, as in links = ['{holder.name}.{table.name}_id']"
        )
    return replace(owing, table=holder.name)


def _leaves(column: str, holder: str, root: str, closure: Closure) -> bool:
    def ends(paths: Sequence[Path]) -> Iterator[Path]:
        return (path for path in paths if path[-1].table == holder)

    goes = holder == root or any(ends(closure.drains + closure.cascades))
    return goes or any(column in path[-1].columns for path in ends(closure.loosened))


def doubts(blobs: Iterable[Owing], catalog: Catalog) -> Iterator[str]:
    """Warn of a column in which nobody finds a key quickly: each is looked for there before its blob goes."""
    for owing in blobs:
        if not catalog.table(owing.table).leads(owing.column):
            yield (
                f"no index begins with {owing}, so whoever looks whether a row still has some keys, before their blobs"
                f" go, reads all of {owing.table}: {catalog.create_index(owing.table, (owing.column,))}"
            )


def notes(blobs: Iterable[Owing]) -> Mapping[str, str]:
    """Say by table what is owed of it, for the steps of a plan."""
    found: dict[str, list[str]] = {}
    for owing in blobs:
        found.setdefault(owing.table, []).append(f"what {owing.column} names, to {owing.store}")
    return {table: "; ".join(said) for table, said in found.items()}
