"""What hangs on rows where foreign keys lead round: followed row by row, generation by generation, and emptied so.

A statement cannot say how far down a tree goes. The rows of each generation are found and locked by one statement for
each foreign key, so that none of them is given to another parent before it leaves.
"""

from collections import Counter, defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field

import sqlalchemy as sa

from nightcrew.database import ForeignKey, Key
from nightcrew.databases.bunch import Bunch, beneath
from nightcrew.databases.partings import note, note_below
from nightcrew.databases.target import Target
from nightcrew.errors import DatabaseError

_MOST_GENERATIONS = 300


@dataclass(slots=True)
class Web:
    """Rows that hang on some rows, the first of the `generations`, each row in the first that leads to it.

    It grows until it has more than `most` rows, or meets one `above` them; rows that are `spared` are not followed, for
    whoever asks for that loosens them. `whole` says that it is complete, `crossed` that one of its rows was met again,
    `round` that one above was.
    """

    generations: list[dict[str, Bunch]]
    rows: int
    most: int
    above: Collection[tuple[str, Key]]
    spared: Collection[tuple[str, Key]]
    whole: bool = False
    crossed: bool = False
    round: bool = False
    seen: dict[str, set[Key]] = field(default_factory=lambda: defaultdict(set))

    @property
    def counts(self) -> Counter[str]:
        """All rows by table."""
        return Counter({name: len(keys) for name, keys in self.seen.items()})


def explore(
    connection: sa.Connection,
    target: Target,
    tops: Bunch,
    most: int,
    above: Collection[tuple[str, Key]] = (),
    spared: Collection[tuple[str, Key]] = (),
) -> Web:
    """Follow what hangs on some rows.

    Raises DatabaseError for a tree of so many generations that no batch could find its leaves.
    """
    web = Web([{tops.table.name: tops}], len(tops.keys), most, above, spared)
    web.seen[tops.table.name] |= {tuple(key) for key in tops.keys}
    while not (web.whole or web.round) and web.rows <= most:
        if len(web.generations) > _MOST_GENERATIONS:
            raise DatabaseError(
                f"more than {_MOST_GENERATIONS} generations of rows hang on a row of table"
                f" {target.selection.table.name!r}: delete them from their leaves on, by a job that says unless_exists",
                of_row=True,
            )
        following: dict[str, Bunch] = {}
        for bunch in web.generations[-1].values():
            for key in target.selection.keys:
                if key.parent == bunch.table.name:
                    _follow(connection, target, web, following, bunch, key)
        web.whole = not following
        web.generations += [following] if following else []
    return web


def _follow(
    connection: sa.Connection,
    target: Target,
    web: Web,
    following: dict[str, Bunch],
    bunch: Bunch,
    key: ForeignKey,
) -> None:
    """Add to the following generation what refers to a bunch by a key, as far as it is new."""
    seen = web.seen[key.table]
    found = beneath(connection, target, bunch, key, max(0, web.most - web.rows) + 1 + len(seen) + len(web.spared))
    met = dict.fromkeys(tuple(child) for child in found.keys)
    new = [child for child in met if child not in seen and (key.table, child) not in web.spared]
    web.crossed |= len(new) < len(found.keys)
    web.round |= any((key.table, child) in web.above for child in new)
    if new:
        known = following[key.table].keys if key.table in following else ()
        following[key.table] = found.of([*known, *new])
        seen |= set(new)
        web.rows += len(new)


def empty(connection: sa.Connection, target: Target, web: Web, *, tops: bool) -> Counter[str]:
    """Delete the rows of a whole web, the lowest first, its tops only where that is said; return the rows by table."""
    for bunch in (bunch for generation in web.generations for bunch in generation.values()):
        note_below(connection, target, bunch)
        note(connection, target, bunch)  # the tops, too, for they may go with what hangs on them
    for knot in target.selection.knots:
        for key in _loosening(target, web, knot):
            for generation in web.generations:
                if key.table in generation:
                    generation[key.table].loosened(connection, key)
        for number, generation in reversed(list(enumerate(web.generations))):
            for name in knot:
                if name in generation and (number or tops):
                    generation[name].removed(connection)
    return web.counts


def _loosening(target: Target, web: Web, knot: Collection[str]) -> dict[ForeignKey, None]:
    """Return the keys of a knot that its rows have to let go of.

    PostgreSQL looks at all keys of a row that is changed a second time, by ON DELETE SET NULL too, in the middle of the
    delete that takes its other parents: where some key is loosened, those are as well.
    """
    keys = dict.fromkeys(key for key in target.selection.keys if _ties(target, web, key))
    keys |= dict.fromkeys(path[-1] for path in target.selection.loosened) if keys else {}
    return {key: None for key in keys if key.table in knot and key.parent in knot}


def _ties(target: Target, web: Web, key: ForeignKey) -> bool:
    """Tell whether rows that go together must first let go of each other: of rules, or of the depth they lead to."""
    return key.on_delete != "CASCADE" or (web.crossed and web.rows > target.dialect.deepest_cascade)
