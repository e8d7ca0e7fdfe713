"""Stride: how much of what is due a process takes at a time, by how long each job took it of late."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from nightcrew.books import Bid
from nightcrew.clock import Clock
from nightcrew.job import Job

_SOON = 0.5  # seconds within which work is to begin that is taken; what cannot is left to whoever has a hand free
_FIRST = 0.125  # seconds that a function is taken to need before any has been called; a sweep has a hand to itself
_WEIGHT = 0.2  # of the last run in what is expected of one that nobody knows


class Stride:
    """Knows how long each job of a process took."""

    def __init__(self, clock: Clock) -> None:
        self._took: dict[str, float] = {}
        self._usual = _FIRST
        self._turns: defaultdict[str, float] = defaultdict(lambda: clock.jitter(1.0))

    def took(self, job: Job, seconds: float) -> None:
        """Hear how long a job took; the last times count most."""
        self._took[job.name] = (self._took.get(job.name, seconds) + seconds) / 2
        if job.policy is None:
            self._usual += _WEIGHT * (seconds - self._usual)

    def share(self, hands: int | None) -> "Share":
        """Return what so many hands can begin with soon; None of them bounds nothing."""
        return Share(self, hands)

    def in_turn(self, bids: Sequence[Bid]) -> list[Bid]:
        """Return the oldest slots first; of those of one moment each process has another, not to be in others' way."""
        return sorted(bids, key=lambda bid: (bid.slot, self._turns[bid.job]))

    def expected(self, job: Job) -> float:
        """Return for how many seconds a job keeps one hand from what else is to begin soon."""
        return min(_SOON, self._took.get(job.name, self._usual if job.policy is None else _SOON))


class Share:
    """What one look may take: something for each hand, and more as long as all of it begins soon; others are `left`."""

    def __init__(self, stride: Stride, hands: int | None) -> None:
        self._stride = stride
        self._hands = hands
        self._number = 0
        self._seconds = 0.0
        self.left: list[str] = []

    def takes(self, job: Job) -> bool:
        """Tell whether a job is among it, which counts from then on."""
        seconds = self._seconds + self._stride.expected(job)
        if self._hands is not None and self._number >= self._hands and seconds > _SOON * self._hands:
            self.left.append(job.name)
            return False
        self._number, self._seconds = self._number + 1, seconds
        return True

    def first(self, bids: Sequence[Bid], jobs: Mapping[str, Job], *, start: bool) -> dict[str, Bid]:
        """Return as many of the bids as it takes, by job; at the `start` all for jobs that run on it, or none would."""
        in_turn = ((jobs[bid.job], bid) for bid in self._stride.in_turn(bids))
        return {job.name: bid for job, bid in in_turn if (start and job.on_start) or self.takes(job)}
