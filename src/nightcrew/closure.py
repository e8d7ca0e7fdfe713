"""What hangs on a table's rows, and in what order it leaves.

A table that must be emptied before its parents draws in every table on the way down to it.
"""

from collections.abc import Iterable, Iterator

from nightcrew.database import Absence, Catalog, ForeignKey, Path
from nightcrew.errors import PolicyError
from nightcrew.policy import Action, Policy

_MOST_PATHS = 500  # ways down from a table; more than this is a web no batch could follow


class Closure:
    """The paths down from a table: `drains` are emptied by our statements, `cascades` by the database's own rule.

    The rows at the ends of `loosened` paths stay, and refer to nothing (or to a default) afterwards.

    Raises PolicyError for a foreign key that stands in the way, or that leads round in a circle.
    """

    def __init__(self, policy: Policy, absences: tuple[Absence, ...], catalog: Catalog) -> None:
        self._policy = policy
        self._root = catalog.table(policy.table).name
        self._absent = {(absence.table, absence.columns) for absence in absences}
        self._catalog = catalog
        self._warnings: dict[str, None] = {}
        self._loosened: list[Path] = []
        deletes = policy.action is Action.DELETE
        paths = list(self._down(self._root, ())) if deletes else []
        drained = _drained(paths)
        depth = {path[-1].table: len(path) for path in sorted(paths, key=len)}  # the longest wins
        self.drains = tuple(
            sorted((path for path in paths if path[-1].table in drained), key=lambda path: -depth[path[-1].table])
        )
        self.cascades = tuple(path for path in paths if path[-1].table not in drained)
        self.loosened = tuple(self._loosened)
        if deletes:
            self._check_own_tree()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is unwise about it, once each."""
        return tuple(self._warnings)

    def _down(self, table: str, path: Path) -> Iterator[Path]:
        """Follow every foreign key by which a row's removal removes others, each way once."""
        for key in self._catalog.children(table):
            if not path and (key.table, key.columns) in self._absent:
                continue  # a row that has any of these stays
            if not key.indexed:
                self._judge_unindexed(key)
            if key.on_delete in ("SET NULL", "SET DEFAULT"):
                self._loosened.append((*path, key))
                continue
            self._check_rule(key, path)
            if key.table == table:
                continue  # the rule, being CASCADE, follows its own tree
            if key.table in (self._root, *(step.table for step in path)):
                round_trip = " → ".join((self._root, *(step.table for step in path), key.table))
                raise PolicyError(
                    f"foreign keys lead round in a circle ({round_trip}), which is not supported yet: break it with"
                    " ON DELETE SET NULL"
                )
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
        own = key.table == key.parent
        if key.on_delete == "CASCADE" or (self._policy.erase and not own):
            return
        column = f"{key.table}.{key.columns[0]}"
        keep = f"unless_exists = [{column!r}] to keep rows that have any" if not path else ""
        remedies = [] if own else ["erase = true to delete those too"]
        remedies += [keep] if keep else []
        say = f"say {', or '.join(remedies)}" if remedies else "give the foreign key ON DELETE CASCADE or SET NULL"
        raise PolicyError(
            f"rows of table {key.parent!r} cannot leave while rows of table {key.table!r} refer to them by"
            f" {', '.join(key.columns)} (ON DELETE {key.on_delete}): {say}"
        )

    def _check_own_tree(self) -> None:
        """A table that refers to itself takes whole trees along, which nothing else then looks at."""
        name = self._root
        own = [key for key in self._catalog.children(name) if key.table == name and key.on_delete == "CASCADE"]
        own = [key for key in own if (key.table, key.columns) not in self._absent]
        if not own:
            return
        column = own[0].columns[0]
        policy = self._policy
        if policy.hold is not None or policy.unless_exists or policy.keep_latest or self.drains:
            kept = "hold, unless_exists or keep_latest would keep"
            reason = kept if not self.drains else "other tables still refer to"
            raise PolicyError(
                f"table {name!r} refers to itself by {column} (ON DELETE CASCADE), so that rows which {reason} could"
                f" leave with others: say unless_exists = ['{name}.{column}'], or give that key ON DELETE SET NULL"
            )
        self._warn(f"rows of {name} that refer by {column} to a row that leaves go with it, whatever their age")

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


def ends(paths: Iterable[Path]) -> list[str]:
    """Name the tables at the ends of paths, each once."""
    return list(dict.fromkeys(path[-1].table for path in paths))
