"""Where the streams of a model are kept, seen from behind, and how each place may lose what it has."""

import asyncio

import redis.asyncio as redis

from nightcrew.stream import Ref, State
from nightcrew.streams.memory import Memory, Vault
from nightcrew.streams.redis import Redis

_DAY = 86_400.0
_LINGER = 0.5


class InMemory:
    """Streams in a vault."""

    at_once = True
    second = 1.0
    lossy = False

    def __init__(self, clock):
        self.vault = Vault(clock)
        self._clock = clock
        self._erased = {}

    def connect(self, owner, clock):
        return Memory(owner, self.vault)

    def log(self, ref):
        one = self.vault.streams.get(ref)
        return None if one is None else bytes(one.log)

    async def all(self):
        self.vault.sweep()
        now = self.vault.now()
        return {ref: (one.state, bytes(one.log), one.leased > now) for ref, one in self.vault.streams.items()}

    async def requests(self):
        return {ref: one.opening.request for ref, one in self.vault.streams.items() if one.opening.request}

    def began_before_erasure(self, ref):
        began = self.vault.streams[ref].started - self._clock.now().timestamp() + self.vault.now()
        erased = self.vault.tombs.get(ref.chat)
        return erased is not None and began < erased - 3600.0 - 0.001

    async def check(self):
        for ref, one in self.vault.streams.items():
            assert one.until < self.vault.now() + 8 * _DAY
            named = self.vault.active.get(ref.chat)
            assert one.state is not State.LIVE or named == ref, "a live stream is not the chat's"

    async def lose(self, chat, how):
        """Lose the log of a chat's stream, its facts too, or all that there is."""
        self.lossy = True
        streams = [ref for ref in self.vault.streams if ref.chat == chat or how % 3 == 2]
        for ref in streams:
            if how % 3 == 0:
                del self.vault.streams[ref].log[:]
                continue
            del self.vault.streams[ref]
            if self.vault.active.get(ref.chat) == ref:
                del self.vault.active[ref.chat]
        if how % 3 == 2:
            self.vault.requests.clear()

    async def forgotten(self):
        await asyncio.sleep(3600 if not self.lossy else 8 * _DAY)
        self.vault.sweep()
        assert (self.vault.streams, self.vault.active, self.vault.requests, self.vault.tombs) == ({}, {}, {}, {})
        assert self.vault.nodes == []


class InRedis:
    """Streams in a Redis, whose keys begin with a prefix of their own."""

    at_once = False
    second = 1.0
    lossy = False

    def __init__(self, url, prefix):
        self._url = url
        self._prefix = prefix
        self._client = redis.Redis.from_url(url)
        self._tombs = {}

    def connect(self, owner, clock):
        return Redis(self._url, owner, prefix=self._prefix, linger=_LINGER)

    async def _keys(self):
        return sorted([key.decode() async for key in self._client.scan_iter(f"{self._prefix}:*", count=1000)])

    async def _facts(self):
        """Return what is kept of each stream, as far as it is not gone by then."""
        found = {}
        for key in await self._keys():
            chat, _, name = key.rpartition(":m:")
            if chat and (facts := await self._client.hgetall(key)):
                named = Ref(chat.partition("{")[2][:-1], name)
                found[named] = chat, {word.decode(): text.decode("utf-8", "replace") for word, text in facts.items()}
        return found

    async def all(self):
        found = {}
        seconds, micros = await self._client.time()
        for ref, (chat, facts) in (await self._facts()).items():
            data = await self._client.get(f"{chat}:l:{ref.id}") or b""
            heard_of = int(facts["lease"]) > seconds * 1000 + micros // 1000
            tomb = await self._client.get(f"{chat}:tomb")
            if not await self._client.exists(f"{chat}:m:{ref.id}"):
                continue  # it was erased, or had its time, while it was looked at
            if tomb is not None:
                self._tombs[ref] = int(facts["t0"]) < int(tomb)
            if facts["st"] == "live" or self.lossy or len(data) == int(facts["end"]):
                found[ref] = State(facts["st"]), data, heard_of
        return found

    async def requests(self):
        return {ref: facts["req"] for ref, (_, facts) in (await self._facts()).items() if facts["req"]}

    def began_before_erasure(self, ref):
        return not self.lossy and self._tombs.get(ref, False)

    async def check(self):
        for key in await self._keys():
            assert await self._client.pttl(key) != -1, f"{key} is kept for ever"

    async def lose(self, chat, how):
        """Lose a key, or all keys of a chat, or all that there are, or the scripts."""
        kinds = (":m:", ":l:", ":act", ":all", ":live", f"{{{chat}}}", self._prefix)
        if how % 8 == 7:
            await self._client.script_flush()
            return
        self.lossy = True
        kind = kinds[how % 8]
        gone = [key for key in await self._keys() if kind in key and (chat in key or kind in (":live", self._prefix))]
        if gone:
            await self._client.delete(*gone)

    async def forgotten(self):
        await asyncio.sleep(2 * _LINGER + 0.2)
        left = [key for key in await self._keys() if ":r:" not in key and not key.endswith(":tomb")]
        assert self.lossy or left == [], f"what is left for too long: {left}"
        await self.check()
        if keys := await self._keys():
            await self._client.delete(*keys)
        await self._client.aclose()
