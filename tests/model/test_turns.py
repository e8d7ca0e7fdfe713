"""Whatever nodes, people and time do, and in whatever order: the statements keep what docs/protocol.md promises."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from tests.conftest import fresh
from tests.model.timepiece import Timepiece
from tests.model.turns import Hindsight, Turns
from tests.model.witness import effects

from nightcrew import claims
from nightcrew.databases.connect import Link
from nightcrew.databases.migrations import Migrations

FEW, MANY, TURNS = 8, 400, 40  # games: `make test`, `make campaign`; and turns of each


class Table:
    """A database whose clock is the test's, to play at."""

    def __init__(self, url: str) -> None:
        self.clock = Timepiece()
        self.link = Link(url, self.clock)
        self.clock.rule(self.link)
        Migrations(self.link, self.clock).apply()
        with self.link.transaction() as connection:
            connection.execute(sa.schema.CreateTable(effects))

    def order(self, turns: "Order", books: type[Hindsight] = Hindsight) -> None:
        """Play one game in which turns come in this order, and then all comes to an end."""
        game = Turns(self.link, self.clock, books)
        game.begin({})
        game.nothing_is_lost_or_doubled()
        try:
            for turn, arguments in turns:
                getattr(game, turn)(**arguments)
                game.nothing_is_lost_or_doubled()
        finally:
            game.teardown()

    def play(self, games: int, *, chance: bool) -> None:
        """Play so many games; those of chance are others every time, and what one shows is made as short as it can."""
        rules = settings(
            max_examples=games,
            stateful_step_count=TURNS,
            deadline=None,
            database=None,
            derandomize=not chance,
            phases=[Phase.generate, Phase.shrink] if chance else [Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        run_state_machine_as_test(lambda: Turns(self.link, self.clock), settings=rules)


@pytest.fixture(autouse=True)
def few_losses(monkeypatch, caplog):
    """Let a run be buried sooner than it is usually; and log nothing of thousands of pauses."""
    monkeypatch.setattr(claims, "LOSSES", 2)
    caplog.set_level("CRITICAL", "nightcrew")


def test_in_whatever_order_turns_come_nothing_is_lost_or_doubled(database_url, campaign, figure):
    table = Table(database_url)
    games = MANY if campaign else FEW
    table.play(games, chance=campaign)
    figure(f"turns on {table.link.engine.dialect.name}", f"{games} games of {TURNS} turns")
    table.link.close()


class SameFence(Hindsight):
    """A take-over keeps the fence of the run that it takes."""

    def _reopen(self, connection, standing, run, bidder):
        return super()._reopen(connection, standing._replace(fence=standing.fence - 1), run, bidder)


class Forgetful(Hindsight):
    """Nobody remembers which slot was claimed last."""

    def standings(self, names=None):
        now, standings = super().standings(names)
        return now, {name: standing._replace(mark=None) for name, standing in standings.items()}


class Silent(Hindsight):
    """A claim says nothing of the slots before its own."""

    def claim(self, bids, bidder, early=0.0):
        return super().claim([bid._replace(lapsed=()) for bid in bids], bidder, early)


Order: TypeAlias = Sequence[tuple[str, dict[str, object]]]


def order(text: str) -> Order:
    """Read turns: "passes 600, ticks 0" has node 0 tick after ten minutes, and "ticks 0 ago 1" a turn too late."""
    return [_turn(*words.split()) for words in text.split(", ")]


def _turn(name: str, *words: str) -> tuple[str, dict[str, object]]:
    values = [int(word) if word.isdigit() else word for word in words]
    if len(values) % 2:  # the first is what the turn is about
        values.insert(0, _ABOUT[name])
    return name, dict(zip(values[::2], values[1::2], strict=True))


_ABOUT = {"passes": "seconds", "is_put_back": "seconds", "is_paused": "minutes", "works": "which"}
_ABOUT |= {"ticks": "number", "is_deployed_anew": "number", "leaves_off": "which"}


@dataclass(frozen=True, slots=True)
class Mutant:
    """The protocol with one rule left out, as an order of turns shows: part of some statement reads otherwise, say."""

    shown_by: Order
    statement: str = ""
    part: str = ""
    otherwise: str = ""
    books: type[Hindsight] = Hindsight


_CLAIM, _HOLD = r"\s*UPDATE nightcrew_jobs AS j", "SELECT nightcrew_jobs.fence"
_TAKE_OVER = r"UPDATE nightcrew_jobs SET attempt=\(nightcrew_jobs.attempt \+ CASE"
_HAND_OVER = r"UPDATE nightcrew_jobs SET owner=\?"
_RESUME = r"UPDATE nightcrew_jobs SET (mark=\?, )?paused_at=\?"
_RESCHEDULE = "UPDATE nightcrew_jobs SET schedule="
_UNPAUSED = r"\(nightcrew_jobs.paused_at IS NULL OR nightcrew_jobs.paused_until <= nightcrew_now\(0\)\)"
TAKEN_OVER = order("ticks 0, works, works, passes 61, ticks 1, works 1, works 1, works 0")
MUTANTS = {
    "no fence": Mutant(TAKEN_OVER, _HOLD, r"nightcrew_jobs.fence = \?", "(nightcrew_jobs.fence = ? OR 1)"),
    "same fence": Mutant(TAKEN_OVER, _TAKE_OVER, r"fence \+ \?", "fence + 0 * ?", SameFence),
    "no lease": Mutant(
        order("ticks 0, works, passes 61, renews, ticks 1 ago 1"),
        _TAKE_OVER,
        r"nightcrew_jobs.lease_until < nightcrew_now\(0\)",
        "1",
    ),
    "lost before it began": Mutant(
        order("ticks 0, passes 61, ticks 1"), _TAKE_OVER, r"nightcrew_jobs.begun = \?", "(1 OR ?)"
    ),
    "a loss taken back": Mutant(
        order("ticks 0, works, passes 61, ticks 1, leaves_off 1 state partial"),
        _HAND_OVER,
        r"owner=\?",
        "attempt=max(0, attempt - 1), owner=?",
    ),
    "no mark": Mutant(
        order("ticks 0, goes_through_with_it, is_pruned, ticks 1"), _CLAIM, r"due.slot > j.mark", "1", Forgetful
    ),
    "no missed": Mutant(order("passes 1800, ticks 0"), books=Silent),
    "no limit": Mutant(
        order("is_put_back 700, ticks 0 ago 1"), _CLAIM, r"due.slot <= nightcrew_now\(\?\)", "? IS NOT NULL"
    ),
    "claims what is paused": Mutant(
        order("is_paused, ticks 0 ago 1"), _CLAIM, r"\(j.paused_at IS NULL OR [^)]*\(0\)\)", "1"
    ),
    "works through a pause": Mutant(order("ticks 0, works, is_paused, works"), _HOLD, _UNPAUSED, "1"),
    "goes on with what is cancelled": Mutant(
        order("ticks 0, works, is_cancelled, works"), _HOLD, r"nightcrew_jobs.cancelled_run (IS NULL)", r"1 OR ? \1"
    ),
    "ends another pause": Mutant(
        order("is_paused 1, passes 61, is_paused 20, ticks 0 ago 1"),
        _RESUME,
        r"nightcrew_jobs.paused_until (= \?|IS NULL)",
        r"(paused_until \1 OR 1)",
    ),
    "late epoch": Mutant(
        order("passes 3600, is_deployed_anew 1 version new, passes 605, ticks 1 ago 1"),
        _RESCHEDULE,
        r"epoch_at=\?",
        "epoch_at=COALESCE(nightcrew_now(0), ?)",
    ),
    "a schedule unseen": Mutant(
        order(
            "passes 7200, ticks 0, goes_through_with_it, passes 605, is_put_back 700, is_put_back 700,"
            " is_deployed_anew 1 version new, ticks 1, passes 1505, ticks 0 ago 5"
        ),
        _RESCHEDULE,
        r"fence \+ \?",
        "fence + 0 * ?",
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_with_any_one_rule_left_out_some_order_shows_it(name, tmp_path):
    mutant, rewritten = MUTANTS[name], []

    def otherwise(_connection, _cursor, statement, parameters, _context, _many):
        if mutant.part and re.match(mutant.statement, statement):
            statement, times = re.subn(mutant.part, mutant.otherwise, statement)
            rewritten.append(times)
        return statement, parameters

    with fresh("sqlite", tmp_path) as url:
        table = Table(url)
        table.order(mutant.shown_by)
        sa.event.listen(table.link.engine, "before_cursor_execute", otherwise, retval=True)
        with pytest.raises(AssertionError):
            table.order(mutant.shown_by, mutant.books)
        assert set(rewritten) == ({1} if mutant.part else set()), "the statement reads otherwise by now"
        table.link.close()


def test_a_version_that_kept_to_its_own_schedule_would_lose_slots_of_the_one_in_force(tmp_path, monkeypatch):
    turns = order("passes 3600, is_deployed_anew 1 version new, ticks 1, passes 1205, ticks 0")
    with fresh("sqlite", tmp_path) as url:
        table = Table(url)
        table.order(turns)
        monkeypatch.setattr(claims, "in_force", lambda job, standing: job)
        with pytest.raises(AssertionError):
            table.order(turns)
        table.link.close()
