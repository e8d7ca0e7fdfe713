"""What hangs on a table's rows, and in what order it leaves.

A table that must be emptied before its parents draws in every table on the way down to it.
"""

import re
from collections.abc import Iterable, Iterator, Mapping

from nightcrew.database import LINK, Absence, Catalog, Column, ForeignKey, Path, Table
from nightcrew.errors import PolicyError, nearest
from nightcrew.policy import Action, Policy, about

_NUMBER = re.compile(r"(?i)(tiny|small|medium|big)?int(eger|[248])?\b|numeric|decimal|number|real|double|float")
_LOOSENING = ("SET NULL", "SET DEFAULT")
_MOST_PATHS = 500  # ways down from a table; more than this is a web no batch could follow


class Closure:
    """The paths down from a table: `drains` are emptied by our statements, `cascades` by the database's own rule.

    The rows at the ends of `loosened` paths stay, and refer to nothing (or to a default) afterwards. `keys` are all
    foreign keys by which rows go along; where some lead round, `knots` are the tables in the order they are emptied.

    Raises PolicyError for a foreign key that stands in the way.
    """

    def __init__(self, policy: Policy, absences: tuple[Absence, ...], catalog: Catalog) -> None:
        self._policy = policy
        self._root = catalog.table(policy.table).name
        self._absent = {(absence.table, absence.columns) for absence in absences}
        self._catalog = catalog
        self._kept = dict(self._named_kept())
        with about("links"):
            self._links = tuple(self._linked())
        self._warnings: dict[str, None] = {}
        self._loosened: dict[Path, None] = {}
        self._keys: dict[ForeignKey, None] = {}
        deletes = policy.action is Action.DELETE
        paths = list(self._down(self._root, ())) if deletes else []
        drained = _drained(paths)
        depth = {path[-1].table: len(path) for path in sorted(paths, key=len)}  # the longest wins
        self.drains = tuple(
            sorted((path for path in paths if path[-1].table in drained), key=lambda path: -depth[path[-1].table])
        )
        self.cascades = tuple(path for path in paths if path[-1].table not in drained)
        self.loosened = tuple(self._loosened)
        self.keys = tuple(self._keys)
        self.knots = knots(self.keys)
        self._check_links()
        self._check_own_rows()
        self._check_figures()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is unwise about it, once each."""
        return tuple(self._warnings)

    def _down(self, table: str, path: Path) -> Iterator[Path]:
        """Follow every foreign key by which a row's removal removes others, each way once."""
        for key in (*self._catalog.children(table), *(link for link in self._links if link.parent == table)):
            if table == self._root and (key.table, key.columns) in self._absent:
                continue  # a row that has any of these stays
            if key.on_delete in _LOOSENING and self._is_linked(key):
                continue  # the link takes its rows before
            if not key.indexed:
                self._judge_unindexed(key)
            if key.on_delete in _LOOSENING:
                self._loosened[*path, key] = None
                continue
            self._check_rule(key, path)
            self._keys[key] = None
            if key.table in (self._root, *(step.table for step in path)):
                continue  # the way round is followed row by row
            yield (*path, key)
            for count, deeper in enumerate(self._down(key.table, (*path, key))):
                if count > _MOST_PATHS:
                    raise PolicyError(f"more than {_MOST_PATHS} foreign keys lead down from {table!r}: too many")
                yield deeper

    def _check_rule(self, key: ForeignKey, path: Path) -> None:
        """Refuse a key that would stop the delete, unless erasing what it holds was asked for."""
        if key.kind != "table":
            raise PolicyError(
                f"rows of table {key.parent!r} cannot leave while {key.table!r}, which is a {key.kind} and not a plain"
                f" table, refers to them by {', '.join(key.columns)}: give that key ON DELETE SET NULL, or drop it"
            )
        for column in key.columns:
            if (reason := self._kept.get((key.table, column))) is not None:
                raise PolicyError(
                    f"keep says that rows of table {key.table!r} stay ({reason}), and {column} refers to"
                    f" {key.parent!r} by ON DELETE {key.on_delete}, so that they cannot: give that key ON DELETE SET"
                    " NULL, or keep what they refer to by unless_exists",
                    key="keep",
                )
        if key.on_delete in ("CASCADE", LINK) or self._policy.erase:
            return
        column = f"{key.table}.{key.columns[0]}"
        keep = f", or unless_exists = [{column!r}] to keep rows that have any" if not path else ""
        raise PolicyError(
            f"rows of table {key.parent!r} cannot leave while rows of table {key.table!r} refer to them by"
            f" {', '.join(key.columns)} (ON DELETE {key.on_delete}): say erase = true to delete those too{keep}"
        )

    def _linked(self) -> Iterator[ForeignKey]:
        """Make a key of every link that is none yet; raises PolicyError for a column that is not there."""
        for child, parent in self._policy.linked:
            table, columns = self._column(child)
            above, referred = self._column(parent) if parent else (self._catalog.table(self._root), ())
            referred = referred or above.primary_key
            if len(referred) != 1:
                raise PolicyError(
                    f"links {child!r}: what it refers to is not known, for the primary key of table {above.name!r} has"
                    f" {len(referred)} columns: declare a foreign key, or write '{child} = {above.name}.COLUMN'"
                )
            _check_kinds(child, table.columns[columns[0]], above.columns[referred[0]], above.name)
            declared = {(key.table, key.columns): key.on_delete for key in self._catalog.children(above.name)}
            if declared.get((table.name, columns), LINK) in (LINK, *_LOOSENING):
                yield ForeignKey(table.name, columns, above.name, referred, LINK, table.leading(columns[0]))

    def _is_linked(self, key: ForeignKey) -> bool:
        same = ((link.table, link.columns, link.parent) for link in self._links)
        return (key.table, key.columns, key.parent) in same

    def _named_kept(self) -> Iterator[tuple[tuple[str, str], str]]:
        """Return why the rows stay that refer to what leaves by these columns."""
        with about("keep"):
            for name, reason in self._policy.keep.items():
                table, columns = self._column(name)
                yield (table.name, columns[0]), reason

    def _column(self, name: str) -> tuple[Table, tuple[str, ...]]:
        named, _, column = name.rpartition(".")
        table = self._catalog.table(named)
        if column not in table.columns:
            raise PolicyError(f"table {table.name!r} has no column {column!r}{nearest(column, table.columns)}")
        return table, (column,)

    def _check_links(self) -> None:
        """Warn of what links cannot do; refuse those that no row of ours leads to."""
        for link in self._links:
            column = f"{link.table}.{link.columns[0]}"
            if link not in self._keys and (link.table, link.columns) not in self._absent:
                raise PolicyError(
                    f"links {column!r} refers to table {link.parent!r}, of which nothing leaves with rows of"
                    f" {self._root!r}: drop the link",
                    key="links",
                )
            known = self._catalog.children(link.parent)
            if (link.table, link.columns) not in {(key.table, key.columns) for key in known}:
                self._warn(
                    f"{column} is no foreign key to {link.parent}, so a row that is inserted there in the very moment"
                    " of a delete stays behind: declare it one"
                )

    def _check_own_rows(self) -> None:
        """A table that refers to itself, be it by way of others, takes rows of its own along, whatever their age."""
        name, policy = self._root, self._policy
        knot = next((knot for knot in self.knots if name in knot), ())
        into = [key for key in self.keys if key.table == name and key.parent in knot]
        if not into:
            return
        column = ", ".join(into[0].columns)
        if policy.hold is not None or policy.unless_exists or policy.keep_latest:
            keep = f"say unless_exists = ['{name}.{column}'], or " if into[0].parent == name else ""
            raise PolicyError(
                f"rows of table {name!r} hang on others of it by {column}, so that rows which hold, unless_exists or"
                f" keep_latest would keep could leave with others: {keep}give that key ON DELETE SET NULL"
            )
        self._warn(f"rows of {name} that hang by {column} on a row that leaves go with it, whatever their age")

    def _check_figures(self) -> None:
        """Warn of large tables that a batch looks into and of which the planner knows nothing."""
        for table in dict.fromkeys((self._root, *(key.table for key in self.keys))):
            if statement := self._catalog.unanalysed.get(table):
                self._warn(
                    f"{table} was never analysed, so the planner guesses what its indexes find, and may read all of it"
                    f" for each batch: {statement}"
                )

    def _judge_unindexed(self, key: ForeignKey) -> None:
        """Warn of a key by which a table is read whole for each row that leaves; of a large table, refuse it."""
        sentence = (
            f"no index begins with {key.table}.{', '.join(key.columns)}, so every row that leaves {key.parent} reads"
            f" all of {key.table}: {self._catalog.create_index(key.table, key.columns)}"
        )
        if key.table in self._catalog.large and not self._policy.allow_unindexed:
            raise PolicyError(f"{sentence} (or say allow_unindexed = true, and be slow)")
        self._warn(sentence)

    def _warn(self, sentence: str) -> None:
        self._warnings[sentence] = None


def _drained(paths: Iterable[Path]) -> set[str]:
    """Name the tables that our own statements must empty: the blocked ones, and all above them."""
    paths = list(paths)
    drained = {path[-1].table for path in paths if path[-1].on_delete != "CASCADE" or not path[-1].indexed}
    while True:
        above = {key.table for path in paths if path[-1].table in drained for key in path}
        if above <= drained:
            return drained
        drained |= above


def knots(keys: Iterable[ForeignKey]) -> tuple[tuple[str, ...], ...]:
    """Put tables in an order in which each comes before those it refers to; those that lead to each other, together.

    Return none where no key leads round.
    """
    below: dict[str, dict[str, None]] = {}
    for key in keys:
        below.setdefault(key.parent, {})[key.table] = None
        below.setdefault(key.table, {})
    reached = {table: _reached(table, below) for table in below}
    if not any(table in there for table, there in reached.items()):
        return ()
    left, found = list(below), list[tuple[str, ...]]()
    while left:
        # Who reaches fewest reaches none that is left but itself, and those that reach it, too.
        lowest = min(left, key=lambda table: (len(reached[table]), table not in reached[table]))
        both_ways = {table for table in reached[lowest] if lowest in reached[table]}
        knot = tuple(table for table in left if table == lowest or table in both_ways)
        found.append(knot)
        left = [table for table in left if table not in knot]
    return tuple(found)


def _reached(table: str, below: Mapping[str, Iterable[str]]) -> set[str]:
    """Name the tables that are come to from one."""
    reached: set[str] = set()
    ahead = list(below[table])
    while ahead:
        if (other := ahead.pop()) not in reached:
            reached.add(other)
            ahead += below[other]
    return reached


def _check_kinds(link: str, child: Column, parent: Column, table: str) -> None:
    """Refuse to compare a number with a text: there are databases to which '4abc' is 4, and so another's."""
    if child.kind and parent.kind and bool(_NUMBER.match(child.kind)) != bool(_NUMBER.match(parent.kind)):
        raise PolicyError(
            f"links {link!r}: it is of type {child.kind}, and {parent.name} of table {table!r} of type {parent.kind}:"
            " give both one type, for a number may equal several texts"
        )
