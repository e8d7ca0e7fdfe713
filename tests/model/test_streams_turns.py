"""A stream that is finished, stopped, replaced and erased at once: in every order of what these ask of the backend."""

import asyncio
import random
from contextlib import suppress
from functools import partial
from itertools import combinations

import pytest
from tests.virtual import LoopClock, played

from nightcrew.errors import StreamClosed
from nightcrew.stream import Data, Ended, Gone, State
from nightcrew.streaming import Streams, Terms
from nightcrew.streams.memory import Memory, Vault

_VERBS = {"start", "append", "request_stop", "finish", "force", "info", "read", "saved", "erase"}


class Gate:
    """Whoever asks the backend for something waits for their turn before that, and before they hear the answer."""

    def __init__(self, choose):
        self._choose = choose
        self._waiting = []
        self.open = True

    async def turn(self):
        """Wait for it."""
        if not self.open:
            ready = asyncio.get_running_loop().create_future()
            self._waiting.append(ready)
            await ready

    async def play(self, tasks):
        """Give turns, one at a time, until all are done."""
        while True:
            for _ in range(12):
                await asyncio.sleep(0)
            self._waiting = [one for one in self._waiting if not one.done()]
            if self._waiting:
                self._waiting.pop(self._choose(len(self._waiting))).set_result(None)
            elif all(task.done() for task in tasks):
                return
            else:
                await asyncio.sleep(0.01)


class Line:
    """A process's way to the backend, through the gate."""

    def __init__(self, backend, gate):
        self._backend = backend
        self._gate = gate

    def __getattr__(self, name):
        verb = getattr(self._backend, name)
        if name not in _VERBS:
            return verb

        async def in_turn(*arguments, **named):
            await self._gate.turn()
            answer = await verb(*arguments, **named)
            await self._gate.turn()
            return answer

        return in_turn


async def scene(loop, choose, acts):
    """Play some acts at once, and look at how it ended."""
    vault, gate, saved = Vault(LoopClock(loop, 0)), Gate(choose), []

    async def keep(final):
        saved.append(final)

    def process(name):
        clock = LoopClock(loop, name)
        return Streams(lambda owner: Line(Memory(owner, vault), gate), persist=keep, terms=Terms(), clock=clock)

    a, b, c = (process(name) for name in "abc")
    told = []

    async def view(streams, ref):
        told.extend([one async for one in streams.read(ref) if not isinstance(one, Data)])

    finished = asyncio.Event()

    async def parts():
        yield "so far"
        await finished.wait()
        yield "the last word"

    info = await a.run("chat", "ada", parts())
    viewers = [asyncio.create_task(view(one, info.ref)) for one in (a, b)]
    await asyncio.sleep(0.1)
    gate.open = False

    async def replace():
        with suppress(StreamClosed):
            await c.run("chat", "ada", words(), conflict="replace")

    do = {
        "finish": lambda: asyncio.sleep(0, finished.set()),
        "stop": lambda: b.stop("chat", info.ref.id, by="ada"),
        "replace": replace,
        "erase": lambda: c.erase("chat"),
        "force": lambda: b.stop("chat", info.ref.id, by="ada", wait=0.0),
        "reap": b.reap,
    }
    tasks = [asyncio.create_task(as_coroutine(do[act])) for act in acts]
    await gate.play(tasks)
    gate.open = True
    finished.set()
    await asyncio.sleep(60)
    await asyncio.gather(*viewers, *tasks)
    await a.reap()

    ends = {one.state for one in told if isinstance(one, Ended)}
    states = {final.state for final in saved if final.id == info.ref.id}
    kept = vault.streams.get(info.ref)
    assert len(told) == 2
    assert len(states) <= 1, f"it was saved in two states: {states}"
    assert len({final.data for final in saved if final.id == info.ref.id}) <= 1, "it was saved with two texts"
    if "erase" in acts:
        assert kept is None
        assert ends <= states or not states
        assert len(ends) <= 1
        return
    assert not any(isinstance(one, Gone) for one in told)
    assert ends == states == {kept.state}, f"told {ends}, saved {states}, kept {kept.state}"
    assert kept.saved
    assert saved[0].data == bytes(kept.log) or saved[0].id != info.ref.id
    assert (kept.state is State.STOPPED) <= ("stop" in acts or "force" in acts)
    assert (kept.state is State.REPLACED) <= ("replace" in acts)
    for one in (a, b, c):
        await one.close()


async def words():
    yield "another"


async def as_coroutine(act):
    return await act()


def along(path, taken, among):
    """Go along a path, and by the first way where it ends; note what was taken, and of how many."""
    pick = path[len(taken)] if len(taken) < len(path) else 0
    taken.append((pick, among))
    return pick


def orders(acts, most):
    """Play the acts in every order; where there are more than that, in as many more by chance. Return how many."""
    count, path = 0, []
    while count < most:
        taken = []
        played(scene, partial(along, path, taken), acts)
        count += 1
        while taken and taken[-1][0] + 1 == taken[-1][1]:
            taken.pop()
        if not taken:
            return count, "all"
        path = [pick for pick, _ in taken]
        path[-1] += 1
    for seed in range(most):
        chance = random.Random(seed)
        played(scene, chance.randrange, acts)
        count += 1
    return count, "some"


ACTS = ("finish", "stop", "replace", "erase", "force", "reap")


@pytest.mark.parametrize("acts", [*combinations(ACTS, 2), ACTS[:3], ACTS[:4], ACTS[:5]], ids="+".join)
def test_at_every_interleaving_a_stream_has_one_end_and_is_saved_with_that(acts, figure, campaign):
    number, which = orders(acts, 10_000 if campaign else 100)
    figure(f"streams, {' + '.join(acts)}", f"{number} orders, {which}")
