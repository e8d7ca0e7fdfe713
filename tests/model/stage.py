"""Some processes that write, read, stop, erase and save the streams of some chats, while things go wrong.

What is played is a list of moves, each a few small numbers. The account that is held is in the module `audience`.
"""

import asyncio
import random
from contextlib import aclosing, suppress

from tests.model.audience import Audience

from nightcrew.errors import StreamError, StreamRefused
from nightcrew.stream import Missed
from nightcrew.streaming import Streams, Terms

CHATS = ("first", "second")
ENDING = object()
VERBS = {
    "start", "append", "resurrect", "request_stop", "finish", "force", "active", "info", "read", "listed", "saved",
    "forget", "erase", "follow",
}  # fmt: skip


class Line:
    """A process's way to the backend, on which answers take time, are lost, or never come while it is frozen."""

    def __init__(self, backend, process):
        self._backend = backend
        self._process = process

    def __getattr__(self, name):
        verb = getattr(self._backend, name)
        return self._verb(verb, name) if name in VERBS else verb

    def _verb(self, verb, name):
        async def asked(*arguments, **named):
            process = self._process
            await process.pause()
            if process.cut("before") or process.stage.away:
                raise StreamError(f"{name}: cut before it was done")
            answer = await verb(*arguments, **named)
            process.stage.audience.told(name, arguments, answer)
            await process.pause()
            if process.cut("after") or process.stage.away:
                raise StreamError(f"{name}: cut after it was done")
            if name == "start":
                process.stage.audience.known.add(answer.info.ref)
            return answer

        return asked

    async def messages(self):
        """Yield what is heard, but for what is lost."""
        process, missed = self._process, False
        async for message in self._backend.messages():
            await process.pause(slow=False)
            if process.deaf > 0:
                process.deaf -= 1
                missed = True
                continue
            if missed:
                missed = False
                yield Missed()
            yield message


class Process:
    """One process of the application."""

    def __init__(self, stage, name, connect, clock, terms):
        self.stage = stage
        self.name = name
        self.deaf = 0
        self.refuses = 0
        self.slow = False
        self._cuts = {"before": 0, "after": 0}
        self._awake = asyncio.Event()
        self._awake.set()
        self.streams = Streams(lambda owner: Line(connect(owner, clock), self), persist=self.keep, terms=terms,
                               clock=clock)  # fmt: skip

    async def keep(self, final):
        """Save a stream, unless the database is away."""
        await self.pause()
        if self.refuses:
            self.refuses -= 1
            raise OSError("the database is away")
        try:
            self.stage.audience.kept(final)
        except AssertionError as fault:
            self.stage.faults.append(fault)

    async def pause(self, slow=True):
        """Take a moment, or as long as it is frozen."""
        if slow and self.slow:
            await asyncio.sleep(self.stage.random.choice((0, 0, 0.001, 0.02)))
        await self._awake.wait()

    def cut(self, when):
        """Whether the line is to be cut now."""
        self._cuts[when] -= 1
        return self._cuts[when] == 0

    def cut_in(self, when, number):
        """Let the line be cut at the verb that is so many from now."""
        self._cuts[when] = number

    def freeze(self):
        """Stand still, but for the timers."""
        self._awake.clear()
        self._frozen_at = asyncio.get_running_loop().time()

    def thaw(self):
        """Go on."""
        if self.frozen and asyncio.get_running_loop().time() > self._frozen_at + self.stage.lease:
            self.stage.audience.cut_off(ref for _, ref, process in self.stage.queues.values() if process is self)
        self._awake.set()

    @property
    def frozen(self):
        return not self._awake.is_set()


class Stage:
    """The processes, and what they do: one method for each move."""

    def __init__(self, connect, clock_of, place, seed, *, lease, harsh):
        self.random = random.Random(seed)
        self.lease = lease
        self.harsh = harsh
        self.away = False
        self.place = place
        self.audience = Audience(place, harsh)
        terms = Terms(lease=lease, longest=1000.0)
        self.processes = [Process(self, name, connect, clock_of(name), terms) for name in range(3)]
        self.queues = {}
        self._viewers = []
        self._tasks = set()
        self.faults = []

    async def play(self, moves):
        """Make the moves, then mend all that is broken, wait, and look at what is left."""
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # it is told of each fault that is made here
        for verb, *numbers in moves:
            await MOVES[verb % len(MOVES)](self, *numbers)
            await self.rest(0.001)
            await self.audience.look()
        await self.mend()

    async def rest(self, seconds):
        """Wait, and see that nobody who is beside found fault."""
        await asyncio.sleep(seconds)
        for fault in self.faults:
            raise fault

    def beside(self, work):
        """Do something that may take long."""

        async def quietly():
            with suppress(StreamError, StreamRefused):
                await work

        self._aside(quietly())

    def _aside(self, work):
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._over)
        return task

    def _over(self, task):
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.faults.append(task.exception())

    # ── moves ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def begin(self, a, b, c):
        conflict = ("reject", "join", "replace")[c % 3]
        request = f"request {b // 2 % 3}" if b % 3 == 0 else ""
        self.beside(self._begin(self.processes[a % 3], CHATS[b % 2], conflict, request))

    async def _begin(self, process, chat, conflict, request):
        queue = asyncio.Queue()
        parts = self._parts(queue)
        info = await process.streams.run(chat, "ada", parts, conflict=conflict, request=request)
        if parts.ag_frame is not None:  # it was not closed unread
            self.queues[info.ref.id] = queue, info.ref, process
            self.audience.begun(info.ref)

    async def _parts(self, queue):
        while (part := await queue.get()) is not ENDING:
            if isinstance(part, Exception):
                raise part
            yield part

    def _some(self, number):
        return list(self.queues.values())[-1 - number % min(3, len(self.queues))] if self.queues else None

    async def send(self, a, b, c):
        if (found := self._some(a)) is not None:
            for _ in range(1 + b % 4):
                text = f"{self.random.random()}\n" * (1, 1, 1, 3000)[c % 4] + "é"
                self.audience.sent(found[1], text)
                found[0].put_nowait(text)

    async def finish(self, a, b, c):
        if (found := self._some(a)) is not None:
            found[0].put_nowait(ENDING if b % 3 else ValueError("no such model \ud800"))

    async def stop(self, a, b, c):
        found = self._some(a)
        named = found is not None and b % 2
        chat, stream = (found[1].chat, found[1].id) if named else (CHATS[b // 2 % 2], None)
        self.beside(self.processes[c % 3].streams.stop(chat, stream, by="ada", wait=(0.1, 5.0)[c % 2]))

    async def erase(self, a, b, c):
        if a % 3 == 0:
            self.beside(self.processes[b % 3].streams.erase(CHATS[c % 2]))

    async def read(self, a, b, c):
        if (found := self._some(a)) is not None:
            viewer = self.audience.viewer(found[1], self.random, anew=c % 2 == 0)
            self._viewers.append((viewer, self._watch(viewer, self.processes[b % 3])))

    def _watch(self, viewer, process):
        return self._aside(self._view(viewer, process))

    async def _view(self, viewer, process):
        """Read to the end; whoever cannot goes on where they were, after a while."""
        while viewer.end is None:
            try:
                async with aclosing(process.streams.read(viewer.ref, viewer.place)) as reading:
                    async for one in reading:
                        if process.frozen:
                            await process.pause()
                        viewer.take(one)
            except StreamError:
                await self.rest(0.05)

    async def leave(self, a, b, c):
        """Let a viewer go, and come back by another process."""
        if self._viewers:
            at = a % len(self._viewers)
            viewer, task = self._viewers[at]
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            if viewer.end is None:
                self._viewers[at] = viewer, self._watch(viewer, self.processes[b % 3])

    async def freeze(self, a, b, c):
        process = self.processes[a % 3]
        if process.frozen:
            process.thaw()
        elif b % 2:
            process.freeze()

    async def wait(self, a, b, c):
        await self.rest(self.lease * (0.01, 0.1, 0.5, 1.2)[a % 4])

    async def reap(self, a, b, c):
        self.beside(self.processes[a % 3].streams.reap())

    async def refuse(self, a, b, c):
        self.processes[a % 3].refuses = b % 3

    async def cut(self, a, b, c):
        self.processes[a % 3].cut_in(("before", "after")[b % 2], 1 + c % 8)

    async def deafen(self, a, b, c):
        self.processes[a % 3].deaf = 1 + b % 5

    async def slow(self, a, b, c):
        self.processes[a % 3].slow = bool(b % 2)

    async def lose(self, a, b, c):
        if self.harsh and c % 3 == 0:
            await self.place.lose(CHATS[b % 2], a)

    async def part(self, a, b, c):
        if self.harsh and c % 3 == 0:
            self.away = not self.away

    # ── the end ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def mend(self):
        """Mend all, let all end, and see that everybody is told, everything is saved, and nothing is left."""
        self.away = False
        for process in self.processes:
            process.thaw()
            process.slow, process.refuses, process.deaf = False, 0, 0
            process.cut_in("before", 0)
            process.cut_in("after", 0)
        await self.rest(self.lease / 2 + 3 * self.place.second)
        listed = {info.ref for info in await self.processes[0].streams.live()}
        await self.audience.look(listed)
        for queue, *_ in self.queues.values():
            queue.put_nowait(ENDING)
        await self.until(lambda: not self._tasks, 12 * self.place.second + 3 * self.lease)
        assert not self._tasks, f"somebody was never told: {[task.get_coro() for task in self._tasks]}"
        await self.rest(self.lease / 2)
        for process in self.processes:
            await process.streams.reap()
        await self.rest(self.lease / 2)
        for chat in CHATS:
            assert await self.processes[1].streams.active(chat) is None, "a chat is busy for ever"
        assert await self.processes[2].streams.live() == []
        await self.audience.close()
        for process in self.processes:
            room = process.streams._room
            assert room is None or (room.hub._channels, room.producers._all) == ({}, {}), "a process forgets nothing"
            await process.streams.close()
        await self.place.forgotten()

    async def until(self, met, seconds):
        for _ in range(100):
            if met():
                return
            await self.rest(seconds / 100)


MOVES = (
    Stage.begin, Stage.begin, Stage.send, Stage.send, Stage.send, Stage.finish, Stage.stop, Stage.erase, Stage.read,
    Stage.read, Stage.leave, Stage.freeze, Stage.wait, Stage.wait, Stage.reap, Stage.refuse, Stage.cut, Stage.cut,
    Stage.deafen, Stage.slow, Stage.lose, Stage.part,
)  # fmt: skip
