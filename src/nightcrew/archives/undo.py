"""Undo: the rows that a run took are held against the tables as they are now, and put back where nothing forbids it.

Frames are gone through from the newest to the oldest: a row leaves no later than what it refers to, so that what it
refers to comes back before it.
"""

from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol, TypeAlias

from nightcrew.archives.archive import Archive
from nightcrew.archives.frame import Copy, Frame
from nightcrew.archives.manifest import Left, Manifest
from nightcrew.archives.undone import Tally, Undo
from nightcrew.errors import DatabaseError
from nightcrew.owing import Owing

Values: TypeAlias = tuple[Any, ...]
Coming: TypeAlias = dict[tuple[str, tuple[str, ...]], set[Values]]
"""Values of columns, by table, of rows that will have been put back before."""
Alike: TypeAlias = Callable[[str, tuple[str, ...], Collection[Values], Collection[Values]], set[Values]]
Erased: TypeAlias = Callable[[Copy, Sequence[int]], set[int]]
"""Returns which rows, by their places, are of somebody who was erased, and must never come back."""

Link: TypeAlias = tuple[str, str, str, str | None]
"""A column of a table that refers to one of another, its primary key where none is named, without a foreign key."""

EXISTS, TAKEN, PARENT, SCHEMA, ERASED, REFUSED = "exists", "unique", "parent", "schema", "erased", "refused"
REASONS: Mapping[str, str] = {
    EXISTS: "a row with that key is there, and has other values",
    TAKEN: "another row has a value that only one may have",
    PARENT: "what it refers to is not there",
    SCHEMA: "the table is not what it was",
    ERASED: "it is of somebody who was erased",
    REFUSED: "the database refuses it",
}
LONGEST_LOOK = 60.0
"""Seconds that a look at what an undo would do goes on to another frame."""

_NAMED = 5  # conflicts of a table that are named
_RETRIES = 5


@dataclass(frozen=True, slots=True)
class Reference:
    """What rows refer to by a foreign key: the columns' values that are `there`, or in rows that are put back."""

    columns: tuple[str, ...]
    parent: str
    parent_columns: tuple[str, ...]
    there: set[Values]


@dataclass(frozen=True, slots=True)
class Facts:
    """What a table says to rows that are to come back into it, by their places.

    Rows that are `same` are there already as they were; `conflicts` are those that cannot come, by the reason and what
    it is about.
    """

    same: set[int] = field(default_factory=set)
    conflicts: dict[int, tuple[str, str]] = field(default_factory=dict)
    references: tuple[Reference, ...] = ()


class Tables(Protocol):
    """The application's tables, as rows are put back into them."""

    def looking(self) -> Any:
        """Open a transaction that changes nothing."""

    def restoring(self) -> Any:
        """Open one in which rows are put back."""

    def referred(self, connection: Any, tables: Iterable[str], links: Sequence[Link]) -> set[str]:
        """Return the tables that some of these refer to."""

    def facts(self, connection: Any, copy: Copy, places: Sequence[int], links: Sequence[Link], *, held: bool) -> Facts:
        """Hold rows against their table; what they refer to, by links too, is `held`, lest it go before they come."""

    def alike(
        self, connection: Any, table: str, names: Sequence[str], known: Collection[Values], asked: Collection[Values]
    ) -> set[Values]:
        """Return which values of columns the database takes for one that is known, however the two are written."""

    def put_back(self, connection: Any, copies: Sequence[Copy]) -> None:
        """Insert rows as they were; raises DatabaseError where the database would not have one."""

    def attempt(self, connection: Any, copies: Sequence[Copy]) -> str | None:
        """Insert the rows of copies, or say why the database would not have them."""

    def trial(self, connection: Any) -> AbstractContextManager[None]:
        """Take back whatever the block writes."""

    def demanding(self, connection: Any, copies: Sequence[Copy]) -> bool:
        """Tell whether the database itself would refuse each row that something stands in the way of."""


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What becomes of a frame's rows, by table: their places, and why some do not come back."""

    back: Mapping[str, Sequence[int]]
    same: Mapping[str, Sequence[int]]
    conflicts: Mapping[str, Mapping[int, tuple[str, str]]]
    facts: Mapping[str, Facts] = field(default_factory=dict)
    before: Mapping[str, int] = field(default_factory=dict)
    """How many have been put back by another undo since this one looked."""

    @property
    def left(self) -> Left:
        return {table: sorted(found) for table, found in self.conflicts.items() if found}

    @property
    def smooth(self) -> bool:
        return not any(found for rows in (self.same, self.conflicts) for found in rows.values())


@dataclass(frozen=True, slots=True)
class Returning:
    """What it takes to put rows back: where their frames are, their tables, and which columns name `blobs`.

    Rows that are `erased` never come back, and what refers to them by `links` without a foreign key does not either.
    """

    archive: Archive
    tables: Tables
    erased: Erased
    blobs: Sequence[Owing] = ()
    links: Sequence[Link] = ()

    def look(self, manifests: Sequence[Manifest], longest: float = LONGEST_LOOK) -> Undo:
        """Say what an undo would do, frame by frame, and how many rows are left where that takes long; changes nothing.

        Raises ArchiveError where a frame cannot be read, StoreError and DatabaseError where one of the two is away.
        """
        account, clock = _Account.of(manifests, self.blobs), self.archive.clock
        begun, looked = clock.monotonic(), False
        with self.tables.looking() as connection:
            referred = self.tables.referred(connection, account.tallies, self.links)
        coming = Coming()
        for manifest in manifests:
            rows = sum(manifest.open.values())
            if looked and clock.monotonic() - begun >= longest:
                account.unseen += rows
            elif rows:
                frame, looked = self.archive.read(manifest), True
                with self.tables.looking() as connection:
                    verdict = self._judged(connection, frame, _places(manifest, frame), coming, held=False)
                account.note(frame, verdict)
                _remember(coming, referred, frame, verdict)
        return account.undo(done=False)

    def carry_out(self, manifests: Sequence[Manifest], heard: Callable[[Undo], str | None]) -> Undo:
        """Put back what can be, frame by frame, each in a transaction that also says so: nothing comes back twice.

        `heard` is told how far it is, and may say why it is to stop. Whatever stops it, the next call goes on. Raises
        what `look` does.
        """
        account, hopeful = _Account.of(manifests, self.blobs), not self.links
        left = [manifest for manifest in manifests if sum(manifest.open.values())]
        for manifest in left:  # one that cannot be read would leave the run half undone
            self.archive.check(manifest)
        for manifest in left:
            frame = self.archive.read(manifest)
            if (verdict := self._patiently(manifest, frame, hopeful=hopeful)) is not None:
                account.note(frame, verdict)
                hopeful = hopeful and verdict.smooth
            if (stopped := heard(account.undo(done=True))) is not None:
                return replace(account.undo(done=True), stopped=stopped)
        return account.undo(done=True)

    def _patiently(self, manifest: Manifest, frame: Frame, *, hopeful: bool) -> _Verdict | None:
        """Put a frame back; where the database would not have a row after all, row by row."""
        singly, tried = False, 0
        while True:
            tried += 1
            try:
                return self._put_back(manifest, frame, hopeful=hopeful, singly=singly)
            except DatabaseError as error:
                if error.away or tried > _RETRIES or not (error.of_row or error.transient):
                    raise
                singly = singly or error.of_row

    def _put_back(self, manifest: Manifest, frame: Frame, *, hopeful: bool, singly: bool) -> _Verdict | None:
        with self.tables.restoring() as connection:
            held = self.archive.manifests.held(connection, manifest.id)
            if held is None:  # its time is over
                return None
            before = {table: rows - held.open.get(table, 0) for table, rows in manifest.open.items()}
            if not sum(held.open.values()):
                return replace(_all_of(_places(held, frame)), before=before)
            if hopeful and not singly and (verdict := self._unseen(connection, held, frame)) is not None:
                self.archive.manifests.restored(connection, manifest.id, {})
                return verdict
            verdict = replace(self._judged(connection, frame, _places(held, frame), {}, held=True), before=before)
            if singly:
                verdict = self._without_refused(connection, frame, verdict)
            if back := [copy.picked(verdict.back[copy.table]) for copy in frame.copies if verdict.back[copy.table]]:
                self.tables.put_back(connection, back)
            self.archive.manifests.restored(connection, manifest.id, verdict.left)
            return verdict

    def _unseen(self, connection: Any, manifest: Manifest, frame: Frame) -> _Verdict | None:
        """Put all rows of a frame back without a look at any; None, and none came, where one of them is to stay.

        Where nothing has come in a row's way, to look for that takes as long as to put the rows back.
        """
        places = _places(manifest, frame)
        if manifest.restored_at is not None or any(self.erased(copy, places[copy.table]) for copy in frame.copies):
            return None
        demanding = self.tables.demanding(connection, frame.copies)
        if not demanding or self.tables.attempt(connection, frame.copies) is not None:
            return None
        return _all_of(places)

    def _without_refused(self, connection: Any, frame: Frame, verdict: _Verdict) -> _Verdict:
        """Leave out what the database would not have, and what refers to that: not every database would refuse it."""
        with self.tables.trial(connection):
            refused = self._refused(connection, frame, verdict)
        conflicts = {table: dict(found) for table, found in verdict.conflicts.items()}
        for (table, place), reason in refused.items():
            conflicts[table][place] = (REFUSED, reason)
        back = {table: [p for p in found if (table, p) not in refused] for table, found in verdict.back.items()}
        return self._settled(connection, frame, replace(verdict, back=back, conflicts=conflicts), {})

    def _refused(self, connection: Any, frame: Frame, verdict: _Verdict) -> dict[tuple[str, int], str]:
        """Attempt each row alone, again and again while some come, for they may wait for each other."""
        waiting = [(copy, place) for copy in frame.copies for place in verdict.back[copy.table]]
        reasons: dict[tuple[str, int], str] = {}
        came = True
        while waiting and came:
            came, again = False, []
            for copy, place in waiting:
                if (reason := self.tables.attempt(connection, [copy.picked([place])])) is None:
                    reasons.pop((copy.table, place), None)
                    came = True
                else:
                    reasons[copy.table, place] = reason
                    again.append((copy, place))
            waiting = again
        return reasons

    def _judged(
        self, connection: Any, frame: Frame, places: Mapping[str, Sequence[int]], coming: Coming, *, held: bool
    ) -> _Verdict:
        """Decide about each row: first by its own table, then by what it refers to."""
        facts: dict[str, Facts] = {}
        conflicts: dict[str, dict[int, tuple[str, str]]] = {}
        back: dict[str, list[int]] = {}
        for copy in frame.copies:
            gone = dict.fromkeys(self.erased(copy, places[copy.table]), (ERASED, ""))
            alive = [place for place in places[copy.table] if place not in gone]
            facts[copy.table] = known = self.tables.facts(connection, copy, alive, self.links, held=held)
            conflicts[copy.table] = {**known.conflicts, **gone}
            back[copy.table] = [p for p in alive if p not in known.conflicts and p not in known.same]
        same = {table: sorted(found.same) for table, found in facts.items()}
        return self._settled(connection, frame, _Verdict(back, same, conflicts, facts), coming)

    def _settled(self, connection: Any, frame: Frame, verdict: _Verdict, coming: Coming) -> _Verdict:
        """Leave out what refers to what is not there and does not come back, until nothing changes any more."""
        back, alike = verdict.back, partial(self.tables.alike, connection)
        conflicts = {table: dict(found) for table, found in verdict.conflicts.items()}
        while lost := dict(_parentless(frame, verdict.facts, back, coming, alike)):
            for (table, place), about in lost.items():
                conflicts[table][place] = (PARENT, about)
            back = {table: [p for p in found if (table, p) not in lost] for table, found in back.items()}
        return replace(verdict, back=back, conflicts=conflicts)


def _all_of(places: Mapping[str, Sequence[int]]) -> _Verdict:
    return _Verdict(places, dict.fromkeys(places, ()), {table: {} for table in places})


def _places(manifest: Manifest, frame: Frame) -> Mapping[str, Sequence[int]]:
    """Return the places of rows that have not been put back."""
    if manifest.restored_at is None:
        return {copy.table: range(copy.size) for copy in frame.copies}
    return {copy.table: (manifest.left or {}).get(copy.table, ()) for copy in frame.copies}


def _parentless(
    frame: Frame, facts: Mapping[str, Facts], back: Mapping[str, Sequence[int]], coming: Coming, alike: Alike
) -> Iterator[tuple[tuple[str, int], str]]:
    """Find rows that refer to what is neither there nor comes back, however the one and the other are written."""
    copies = {copy.table: copy for copy in frame.copies}
    for table, copy in copies.items():
        rows = copy.values if back[table] and facts[table].references else []
        for reference in facts[table].references if rows else ():
            own, above = copy.of(reference.columns), (reference.parent, reference.parent_columns)
            named = {place: tuple(rows[place][column] for column in own) for place in back[table]}
            come = coming.get(above, set())
            if (parent := copies.get(reference.parent)) is not None:
                come = come | set(_values(parent, reference.parent_columns, back[reference.parent]))
            lost = {value for value in named.values() if None not in value} - reference.there - come
            lost -= alike(*above, come, lost)
            about = f"{', '.join(reference.columns)} → {reference.parent}"
            yield from (((table, place), about) for place in back[table] if named[place] in lost)


def _values(copy: Copy, names: tuple[str, ...], places: Sequence[int]) -> Iterator[Values]:
    own, rows = copy.of(names), copy.values
    return (tuple(rows[place][column] for column in own) for place in places)


def _remember(coming: Coming, referred: Container[str], frame: Frame, verdict: _Verdict) -> None:
    """Know the keys of rows that will have come back when older frames do, of tables that are referred to."""
    for copy in frame.copies:
        if copy.table in referred:
            coming.setdefault((copy.table, copy.key), set()).update(_values(copy, copy.key, verdict.back[copy.table]))


@dataclass(slots=True)
class _Account:
    """What has become of a run's rows so far."""

    manifests: Sequence[Manifest]
    blobs: Sequence[Owing]
    tallies: dict[str, Tally] = field(default_factory=dict)
    keys: dict[str, set[str]] = field(default_factory=dict)
    unseen: int = 0

    @classmethod
    def of(cls, manifests: Sequence[Manifest], blobs: Sequence[Owing]) -> "_Account":
        """Begin with what is written down of frames."""
        account = cls(manifests, blobs)
        for manifest in manifests:
            for table, rows in manifest.counts.items():
                tally = account.tallies.setdefault(table, Tally())
                tally.archived += rows
                tally.before += rows - manifest.open.get(table, 0)
        return account

    def note(self, frame: Frame, verdict: _Verdict) -> None:
        """Add what becomes of a frame's rows."""
        for copy in frame.copies:
            tally, found = self.tallies[copy.table], verdict.conflicts[copy.table]
            tally.back += len(verdict.back[copy.table])
            tally.same += len(verdict.same[copy.table])
            tally.before += verdict.before.get(copy.table, 0)
            tally.conflicts.update(reason for reason, _ in found.values())
            for place, (reason, about) in list(found.items())[: max(0, _NAMED - len(tally.named))]:
                (key,) = _values(copy, copy.key, [place])
                named = ", ".join(f"{name} {value}" for name, value in zip(copy.key, key, strict=True))
                tally.named.append(f"{named}: {REASONS[reason]}{f' ({about})' if about else ''}")
            for owing in self.blobs:
                if owing.table == copy.table and owing.column in copy.columns:
                    named_by = _values(copy, (owing.column,), verdict.back[copy.table])
                    self.keys.setdefault(owing.store, set()).update(key for (key,) in named_by if key)

    def undo(self, *, done: bool) -> Undo:
        """Return it as it stands."""
        first, tallies = self.manifests[0], dict(self.tallies)
        until = min(manifest.until for manifest in self.manifests if manifest.until is not None)
        return Undo(first.run, first.job, tallies, len(self.manifests), until, done, self.unseen, self.keys)
