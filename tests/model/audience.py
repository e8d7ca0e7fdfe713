"""What is promised of streams, in plain Python, held against what processes, viewers and the application were told.

Where the backend itself loses what it has, or is away for long, less is promised (`harsh`), and less is asked.
"""

from dataclasses import dataclass, field

from nightcrew.frame import events
from nightcrew.stream import Answer, Data, Ended, State


@dataclass
class Told:
    """What is known of one stream."""

    chat: str
    sent: list = field(default_factory=list)
    log: bytes = b""
    ended: set = field(default_factory=set)
    kept: list = field(default_factory=list)
    final: tuple | None = None
    erased: bool = False
    cut_off: bool = False
    begun: bool = False

    def see(self, start, data):
        """Take a part of the log: whoever sees it sees the same."""
        assert start <= len(self.log), "there is a gap in what was seen"
        assert self.log[start : start + len(data)] == data[: len(self.log) - start], "two saw different bytes"
        if start + len(data) > len(self.log):
            self.log = self.log[:start] + data
            texts = list(events(self.log))
            assert texts == [text.replace("\r", "\n") for text in self.sent[: len(texts)]], "it is not what was sent"


class Viewer:
    """One who reads along: in order, each byte once, on and on."""

    def __init__(self, audience, ref, place):
        self.ref = ref
        self.place = place
        self.end = None
        self._audience = audience

    def take(self, one):
        """Take what is read."""
        assert self.end is None, "it went on after its end"
        told = self._audience.streams[self.ref.id]
        if isinstance(one, Data) and not one.data:
            assert self._audience.harsh, "it began anew, and nothing was lost"
            self.place = 0
        elif isinstance(one, Data):
            assert one.offset == self.place, "bytes were left out, or repeated"
            told.see(one.offset, one.data)
            self.place += len(one.data)
            self._audience.delivered(self.ref, self.place)
        else:
            self.end = one
            if isinstance(one, Ended):
                told.ended.add(one.state)
                assert one.end == self.place, "it ended before its end"


class Audience:
    """All that was seen."""

    def __init__(self, place, harsh):
        self.place = place
        self.harsh = harsh
        self.streams = {}
        self.known = set()

    def begun(self, ref):
        self.streams.setdefault(ref.id, Told(ref.chat))

    def sent(self, ref, text):
        self.streams[ref.id].sent.append(text)

    def viewer(self, ref, random, *, anew):
        """Return one who reads from the beginning, or from an event's end on that somebody saw."""
        log = self.streams[ref.id].log
        ends = [at + 2 for at in range(len(log)) if log[at : at + 2] == b"\n\n"] if not anew and len(log) < 5000 else []
        return Viewer(self, ref, random.choice(ends) if ends else 0)

    def cut_off(self, refs):
        """Take it that whoever writes these was away for so long that others may have ended and saved them, too."""
        for ref in refs:
            self.streams[ref.id].cut_off = True

    def told(self, verb, arguments, answer):
        """Hear what the backend answers: what was erased, and what was begun."""
        if verb == "erase":
            for one in self.streams.values():
                one.erased |= one.chat == arguments[0]
        if verb == "start":
            self.begun(answer.info.ref)
        if verb in ("append", "finish") and self.place.at_once:
            for asked, said in zip(arguments[0], answer, strict=True) if verb == "append" else []:
                told = self.streams.get(asked.ref.id)
                assert said.answer is not Answer.WRITTEN or told is None or told.final is None, "it wrote after its end"

    def delivered(self, ref, place):
        """Whoever was shown bytes will find them in the log, unless it was away or lost some."""
        if self.place.at_once and not self.harsh and ref in self.known and not self.streams[ref.id].cut_off:
            kept = self.place.log(ref)
            assert kept is None or len(kept) >= place, "somebody read what is not kept"

    def kept(self, final):
        """Take what the application is given to save."""
        told = self.streams.setdefault(final.id, Told(final.chat))
        told.see(0, final.data)
        assert final.state is not State.LIVE
        assert list(final.events) == list(events(final.data))
        if not self.harsh and not told.cut_off:
            assert not told.kept or told.kept[0] == final, f"it was saved as another: {told.kept[0]} {final}"
        told.kept.append(final)

    async def look(self, listed=None):
        """Hold what the backend has against what was seen before."""
        kept = await self.place.all()
        live = {}
        for ref, (state, data, heard_of) in kept.items():
            told = self.streams.setdefault(ref.id, Told(ref.chat))
            told.begun = True
            told.see(0, data)
            assert data == b"" or data.endswith(b"\n\n"), "the log ends within an event"
            if state is not State.LIVE:
                assert told.final in (None, (state, data)) or self.place.lossy, "an end is for good"
                told.final = state, data
                told.ended.add(state)
            elif heard_of:
                assert live.setdefault(ref.chat, ref) == ref, "a chat has two streams"
            assert not (told.erased and told.begun and state is State.LIVE and self.place.began_before_erasure(ref)), (
                "what was erased is there again"
            )
        assert listed is None or set(live.values()) <= listed, "a live stream is not on the list"
        await self.place.check()

    async def close(self):
        """Whatever had its end is saved, and everybody was told the same end."""
        await self.look()
        requests = {}
        for ref, request in (await self.place.requests()).items():
            assert requests.setdefault((ref.chat, request), ref) == ref, "one request made two streams"
        for name, told in self.streams.items():
            if self.harsh:
                assert told.kept or told.erased or not told.begun or self.place.lossy, f"{name} was never saved"
                continue
            if told.cut_off:
                continue
            assert len(told.ended) <= 1, f"{name} ended in two ways: {told.ended}"
            assert told.kept or told.erased or not told.begun, f"{name} was never saved"
            assert not told.kept or told.ended <= {told.kept[0].state}, f"{name} was saved as what it was not"
            if told.kept and told.final is not None:
                assert (told.kept[0].state, told.kept[0].data) == told.final
