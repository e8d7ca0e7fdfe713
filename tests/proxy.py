"""A line to a server that can be cut before a request arrives, or before its answer does, and that can fall silent."""

import asyncio
from contextlib import suppress


class Proxy:
    """Takes connections at a port of its own, and hands them on; a request is what a client writes at once."""

    def __init__(self, host, port):
        self._target = host, port
        self._cut = None
        self._times = 0
        self._pairs = []
        self._tasks = set()
        self.requests = 0

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._taken, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self, when, number, times=1):
        """Cut the line at a request, counted from now, and at those that follow: `before` it arrives, or `after`."""
        self._cut, self._times, self.requests = (when, number), times, 0

    def deafen(self):
        """Let nothing more through on the lines that there are, and say nothing; new ones are as good as ever."""
        for pair in self._pairs:
            pair["dead"] = True

    async def _taken(self, reader, writer):
        task = asyncio.current_task()
        self._tasks.add(task)
        pair = {"dead": False, "answer": False}
        self._pairs.append(pair)
        open_ = [writer]
        try:
            there, back = await asyncio.open_connection(*self._target)
            open_.append(back)
            ways = [asyncio.ensure_future(self._requests(reader, back, pair)),
                    asyncio.ensure_future(self._answers(there, writer, pair))]  # fmt: skip
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        except OSError:
            pass  # nobody is there
        finally:
            for one in open_:
                one.close()
                with suppress(OSError, asyncio.CancelledError):
                    await one.wait_closed()
            self._tasks.discard(task)

    async def _requests(self, reader, back, pair):
        while data := await reader.read(1 << 20):
            if pair["dead"]:
                continue
            self.requests += 1
            if self._cut is not None and self._cut[1] <= self.requests < self._cut[1] + self._times:
                if self._cut[0] == "before":
                    return
                pair["answer"] = True
            back.write(data)
            await back.drain()

    async def _answers(self, there, writer, pair):
        while data := await there.read(1 << 20):
            if pair["dead"]:
                continue
            if pair["answer"]:
                return
            writer.write(data)
            await writer.drain()
