"""Policy: what may leave, how old, what leaves with it."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from typing import Any, TypeAlias

from nightcrew.errors import PolicyError, did_you_mean, misfit
from nightcrew.owing import Owing, Trace, owings, traces

Constant: TypeAlias = str | int | float | bool | None

# Whatever a catalog may know, spaces within a name too, but for signs that mean somebody has written SQL.
_WORD = r"[^\s.\"'`;=<>\[\]\x00-\x1f]+"
_NAME = rf"{_WORD}(?: +{_WORD})*"
_TABLE = re.compile(rf"^(?:{_NAME}\.)?{_NAME}$")
_COLUMN = re.compile(rf"^{_NAME}$")
_CHILD_COLUMN = re.compile(rf"^(?:{_NAME}\.){{1,2}}{_NAME}$")
_LINK = re.compile(r"^([^=]+?)(?: *= *([^=]+))?$")


# What another look finds changed, though nobody touched the row: the clock, chance, sequences.
_FLEETING = re.compile(
    r"\b(?:current_(?:timestamp|date|time)|localtime(?:stamp)?|utc_(?:timestamp|date|time))\b|'now'|"
    r"\b(?:now|(?:clock|statement|transaction)_timestamp|timeofday|sysdate|curdate|curtime|unix_timestamp(?=\s*\(\s*\))"
    r"|random\w*|rand|uuid\w*|gen_random\w*|nextval)\s*\(",
    re.IGNORECASE,
)
_MOST_KEPT = 1_000


class Action(StrEnum):
    """What happens to a row whose time has come."""

    DELETE = "delete"
    CLEAR = "clear"
    ANONYMIZE = "anonymize"

    @property
    def done(self) -> str:
        """The word for rows that it happened to."""
        return {"delete": "deleted", "clear": "cleared", "anonymize": "anonymized"}[self]


def action(name: str) -> Action:
    """Return the action of this name; raises PolicyError for none."""
    names = [str(each) for each in Action]
    if name in names:
        return Action(name)
    raise PolicyError(f"there is no action {str(name)[:40]!r}{did_you_mean(str(name), names)}", key="action")


@dataclass(frozen=True, slots=True)
class Sql:
    """A column's new value as an SQL expression over the row: `Sql("'anon-' || id")`.

    Raises PolicyError for a text that is not one expression.
    """

    expression: str

    def __post_init__(self) -> None:
        wrong = misfit(self.expression, str, "write a text such as \"'anon-' || id\"")
        _demand(not wrong, f"sql {wrong}")
        _demand(
            _is_one_expression(self.expression),
            f"sql {self.expression!r} is not one SQL expression: check its quotes and brackets",
        )

    @property
    def fleeting(self) -> bool:
        """Whether it gives another value at another time, so that no row can be known by it."""
        return _FLEETING.search(self.expression) is not None


Value: TypeAlias = Constant | Sql


@dataclass(frozen=True, slots=True)
class Policy:
    """A retention rule over one table.

    A row may leave when `column` is earlier than the run's moment minus `older_than` (strictly); a row whose
    column is NULL never leaves. A column without a time zone is read as UTC. `where` is an SQL predicate over the
    table that must hold too, `hold` one that protects a row, from other jobs too and with all that it hangs on, and
    `unless_exists` names columns ("messages.chat_id") of other tables that keep a row as long as one of their rows
    points at it. `keep_latest` rows stay of all that have the same values in the columns `per` (of the whole table
    without them), whatever their age: the newest, by `column` and then the primary key; a row with a NULL among `per`
    never leaves. `erase` also deletes the rows of
    other tables whose foreign keys would keep a row from leaving; those that say ON DELETE SET NULL outlive it.
    `links` are columns of other tables that refer to this one's primary key without a foreign key
    ("files.user_id"), or to a column of a table that hangs on it ("files.chat_id = chats.id"): their rows leave, too.
    `allow_unindexed` lets a large table be read whole for every row that leaves, for want of an index. A run that
    would take more than `max_rows` rows of all tables, or more than `max_fraction` of one table, is refused. The
    actions `clear` and `anonymize` keep the row and give the columns in `set` their new values, constants or `Sql`;
    `clear` also sets `column` to NULL, and `anonymize` passes by a row that has all those values. `blobs` are columns
    of keys, of this table and of those that hang on it, and the stores to which these are owed once the rows have gone,
    or the columns have been set to something else. An erasure of a row also follows its `traces`, the keys named after
    it; `keep` says why rows whose columns refer to it ("invoices.user_id") stay all the same.
    With `archive`, rows that leave are copied to an archive, and can be put back for so long; what `blobs` name goes no
    earlier than `blobs_after` (by default an hour after that).

    Raises PolicyError for a rule that contradicts itself; whether its tables and columns exist is seen by a plan.
    """

    table: str
    column: str
    older_than: timedelta | None = None
    where: str | None = None
    hold: str | None = None
    unless_exists: tuple[str, ...] = ()
    unless_active_stream: str | None = None
    erase: bool = False
    action: Action = Action.DELETE
    set: Mapping[str, Value] = field(default_factory=dict)
    keep_latest: int | None = None
    per: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    allow_unindexed: bool = False
    max_rows: int | None = None
    max_fraction: float = 0.2
    blobs: tuple[Owing, ...] = ()
    traces: tuple[Trace, ...] = ()
    keep: Mapping[str, str] = field(default_factory=dict)
    archive: timedelta | None = None
    blobs_after: timedelta | None = None

    def __post_init__(self) -> None:
        self._check_kinds()
        _demand(
            _TABLE.match(self.table),
            f"table {self.table!r} is no table name: write 'table' or 'schema.table', without quotes",
        )
        _demand(_COLUMN.match(self.column), f"column {self.column!r} is no column name: write it without quotes")
        if self.older_than is not None:
            _demand(
                self.older_than >= timedelta(0),
                f"older_than is negative ({self.older_than}): it would expire the future",
            )
        for name in self.unless_exists:
            _demand(
                _CHILD_COLUMN.match(name), f"unless_exists {name!r} is no column of a table: write 'messages.chat_id'"
            )
        for name in self.links:
            _demand(
                (link := _LINK.match(name)) and all(_CHILD_COLUMN.match(column) for column in link.groups() if column),
                f"links {name!r} says no column: write 'files.user_id', or 'files.chat_id = chats.id' for one that"
                " refers to another table than the job's",
            )
        for key, predicate in (("where", self.where), ("hold", self.hold)):
            if predicate is not None:
                _demand(
                    _is_one_expression(predicate),
                    f"{key} {predicate!r} is not one SQL expression: check its quotes and brackets",
                )
        for owing in self.blobs:
            named = _TABLE.match(owing.table) and _COLUMN.match(owing.column)
            _demand(named, f"blobs {str(owing)!r} is no column of a table: write both names without quotes", "blobs")
        self._check_limits()
        self._check_windows()
        self._check_action()
        self._check_kept()
        self._check_erasure()

    def _check_kinds(self) -> None:
        """Refuse values of another kind than a field's; several names may come in any order that can be walked."""
        object.__setattr__(self, "action", action(self.action))
        object.__setattr__(self, "blobs", owings(self.blobs))
        object.__setattr__(self, "traces", traces(self.traces))
        for key in ("unless_exists", "per", "links"):
            if isinstance(given := getattr(self, key), Iterable) and not isinstance(given, str):
                object.__setattr__(self, key, tuple(given))
        for key, (kinds, remedy) in _KINDS.items():
            wrong = misfit(getattr(self, key), kinds, remedy)
            _demand(not wrong, f"{key} {wrong}", key)
        for key in ("unless_exists", "per", "links"):
            for name in getattr(self, key):
                wrong = misfit(name, str, "name a column with a text")
                _demand(not wrong, f"a name in {key} {wrong}", key)
        for name, value in self.set.items():
            wrong = misfit(name, str, "name a column with a text") or misfit(value, _VALUES, f"write {_CONSTANTS}")
            _demand(not wrong, f"set of column {name!r} {wrong}", "set")

    def _check_limits(self) -> None:
        number, share = self.max_rows, self.max_fraction
        _demand(
            number is None or (type(number) is int and number >= 1),
            f"max_rows {number!r} is no number of rows: write 1 or more",
        )
        _demand(
            type(share) is not bool and 0 < share <= 1,
            f"max_fraction {share!r} is no share of a table: write 0.2 for a fifth, or 1 for no limit",
        )

    def _check_windows(self) -> None:
        archive, after = self.archive, self.blobs_after
        _demand(archive is None or archive > timedelta(0), f"archive is {archive}: say for how long, as in '7 days'")
        _demand(
            archive is None or self.action is Action.DELETE,
            f"archive goes with action 'delete': a row that is {self.action.done} stays, and what it had is to be gone",
        )
        _demand(after is None or after >= timedelta(0), f"blobs_after is negative ({after}): write '0 seconds' or more")
        _demand(after is None or self.blobs, "blobs_after goes with blobs: say which columns name them")

    def _check_action(self) -> None:
        if self.action is Action.DELETE:
            _demand(
                not self.set, "set goes with action 'clear' or 'anonymize': a deleted row has no columns left to set"
            )
            return
        _demand(not self.links, f"links goes with action 'delete': a row that is {self.action.done} stays")
        _demand(not self.erase, f"erase goes with action 'delete': a row that is {self.action.done} stays")
        if self.action is Action.ANONYMIZE:
            _demand(self.set, "action 'anonymize' sets nothing: say which columns, as in set = { name = 'gone' }")
            _demand(
                self.marks,
                "set gives every column a value that changes by itself (the clock, chance), so that no row would ever"
                " be known as anonymized: add a constant, or an expression of the row alone",
            )

    def _check_kept(self) -> None:
        if self.keep_latest is None:
            _demand(not self.per, "per goes with keep_latest: say how many rows of each group stay")
            return
        _demand(
            type(self.keep_latest) is int and 1 <= self.keep_latest <= _MOST_KEPT,
            f"keep_latest {self.keep_latest!r} is no number of rows to keep: write 1 to {_MOST_KEPT}",
        )
        for name in self.per:
            _demand(_COLUMN.match(name), f"per {name!r} is no column name: write it without quotes")
        twice = len(set(self.per)) < len(self.per) or self.column in self.per
        _demand(not twice, "per names a column twice, or the time itself: name the columns that make a group")

    def _check_erasure(self) -> None:
        _demand(self.erase or not self.traces, "traces goes with erase = true: say that, or leave it out", "traces")
        _demand(self.erase or not self.keep, "keep goes with erase = true: say that, or leave it out", "keep")
        for name, reason in self.keep.items():
            column = isinstance(name, str) and _CHILD_COLUMN.match(name)
            _demand(column, f"keep {name!r} is no column of a table: write 'invoices.user_id' = 'why'", "keep")
            said = isinstance(reason, str) and reason.strip()
            _demand(said, f"keep {name!r} says no reason: write one, such as 'tax law, 10 years'", "keep")
            _demand(name not in self.links, f"keep {name!r} is among the links, too: its rows go or stay", "keep")

    @property
    def grace(self) -> timedelta:
        """How long what `blobs` name stays after its row has gone: longer than an undo of it can be begun."""
        undo = self.archive + _UNDOING if self.archive else timedelta(0)
        return undo if self.blobs_after is None else self.blobs_after

    @property
    def linked(self) -> tuple[tuple[str, str | None], ...]:
        """The links as pairs: the column that refers, and the one it refers to, where that is said."""
        found = (_LINK.match(name) for name in self.links)
        return tuple((link[1], link[2]) for link in found if link)

    @property
    def stores(self) -> Iterator[tuple[str, str]]:
        """The stores that it names, each with the key that does so."""
        yield from (("blobs", owing.store) for owing in self.blobs)
        yield from (("traces", trace.store) for trace in self.traces)

    @property
    def sql(self) -> Mapping[str, str]:
        """The application's own SQL in it, by key."""
        new = "; ".join(value.expression for value in self.set.values() if isinstance(value, Sql))
        given = {"where": self.where, "hold": self.hold, "set": new}
        return {key: text for key, text in given.items() if text}

    @property
    def terms(self) -> dict[str, Any]:
        """What decides which rows leave, and what becomes of them, as JSON values; `of` reads them again."""
        plain = {name: getattr(self, name) for name in ("table", "column", "where", "hold", "erase", "keep_latest")}
        spared = self.unless_active_stream
        given = {name: _sql_or_constant(value) for name, value in self.set.items()}
        spans = {name: _micros(getattr(self, name)) for name in _SPANS}
        return plain | {
            "older_than": spans.pop("older_than"),
            "unless_exists": list(self.unless_exists),
            "per": list(self.per),
            "links": list(self.links),
            "action": str(self.action),
            "set": given,
            **({"unless_active_stream": spared} if spared else {}),
            **({"blobs": [asdict(owing) for owing in self.blobs]} if self.blobs else {}),
            **({"traces": [asdict(trace) for trace in self.traces]} if self.traces else {}),
            **({"keep": dict(self.keep)} if self.keep else {}),
            **{name: micros for name, micros in spans.items() if micros is not None},
        }

    @classmethod
    def of(cls, terms: Mapping[str, Any]) -> "Policy":
        """Read a policy's terms."""
        spans = {name: None if (micros := terms.get(name)) is None else micros * _MICRO for name in _SPANS}
        given = {name: Sql(value["sql"]) if isinstance(value, dict) else value for name, value in terms["set"].items()}
        return cls(**{**terms, **spans, "set": given})

    @property
    def fingerprint(self) -> str:
        """A text that is the same for policies of the same terms."""
        return sha256(json.dumps(self.terms, sort_keys=True, default=str).encode()).hexdigest()[:16]

    @property
    def marks(self) -> tuple[str, ...]:
        """The columns of `set` that tell whether a row has its new values."""
        return tuple(name for name, value in self.set.items() if not (isinstance(value, Sql) and value.fleeting))

    def own(self, counts: Mapping[str, int]) -> int:
        """Return the rows of the policy's own table among counts, which also hold the tables that hang on it."""
        named = self.table.casefold()
        # The catalog's name leaves out a schema that is implied, and may be written in other letters.
        known = (rows for name, rows in counts.items() if name.casefold() in (named, named.rpartition(".")[2]))
        return next(known, 0)

    def cutoff(self, moment: datetime) -> datetime:
        """Return the instant before which a row has expired, seen from `moment` (aware).

        Raises PolicyError when `moment` is naive or the age reaches back before the calendar's first year.
        """
        if moment.tzinfo is None:
            raise PolicyError(f"the moment {moment.isoformat()} has no time zone: pass an aware datetime, in UTC")
        try:
            return moment.astimezone(UTC) - (self.older_than or timedelta(0))
        except OverflowError:
            raise PolicyError(f"older_than {self.older_than} reaches back before the year 1: shorten it") from None


@contextmanager
def about(key: str) -> Iterator[None]:
    """Let a PolicyError of the block say which key of the policy is to blame, unless it does."""
    try:
        yield
    except PolicyError as error:
        error.key = error.key or key
        raise


_MICRO = timedelta(microseconds=1)
_UNDOING = timedelta(hours=1)  # that an undo may take which was begun in time
_SPANS = ("older_than", "archive", "blobs_after")
_NONE = type(None)
_CONSTANTS = "a text, a number, True, False, None, or an Sql('…')"
_VALUES = (str, int, float, bool, _NONE, Sql)
_SQL = "write SQL as a text, such as \"status = 'draft'\""
_SPAN = "write a timedelta, such as timedelta(days=30)"
_KINDS: Mapping[str, tuple[type | tuple[type, ...], str]] = {
    "table": (str, "name it with a text such as 'users'"),
    "column": (str, "name it with a text such as 'deactivated_at'"),
    "older_than": ((timedelta, _NONE), _SPAN),
    "archive": ((timedelta, _NONE), _SPAN),
    "blobs_after": ((timedelta, _NONE), _SPAN),
    "where": ((str, _NONE), _SQL),
    "hold": ((str, _NONE), _SQL),
    "unless_exists": (tuple, "write a list of texts, such as ['messages.chat_id']"),
    "unless_active_stream": ((str, _NONE), "name the column of the chat's ID, such as 'id'"),
    "links": (tuple, "write a list of texts, such as ['files.user_id']"),
    "erase": (bool, "write True or False"),
    "allow_unindexed": (bool, "write True or False"),
    "max_rows": ((int, _NONE), "write a number, such as 10_000"),
    "max_fraction": ((int, float), "write a share, such as 0.2"),
    "set": (Mapping, "write a mapping, such as {'email': None}"),
    "keep": (Mapping, "write a mapping, such as {'invoices.user_id': 'tax law, 10 years'}"),
    "per": (tuple, "write a list of texts, such as ['user_id']"),
}


def _micros(span: timedelta | None) -> int | None:
    return None if span is None else span // _MICRO


def _sql_or_constant(value: Value) -> Any:
    return {"sql": value.expression} if isinstance(value, Sql) else value


def _demand(holds: object, sentence: str, key: str | None = None) -> None:
    if not holds:
        raise PolicyError(sentence, key=key)


def _is_one_expression(predicate: str) -> bool:
    """Tell whether brackets and quotes balance and nothing ends the statement; it says nothing of its meaning."""
    bare = re.sub(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|`[^`]*`", "", predicate)
    depth = 0
    for sign in bare:
        depth += (sign == "(") - (sign == ")")
        if depth < 0 or sign in "'\"`;\x00":
            return False
    return depth == 0 and bool(bare.strip() or predicate.strip()) and "--" not in bare and "/*" not in bare
