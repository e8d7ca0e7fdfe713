"""Allowance: what the walks of one run have come to together, held against its permit."""

from collections import Counter
from collections.abc import Sequence
from threading import Lock

from nightcrew.books import Stage
from nightcrew.rails import Permit


class Allowance:
    """The rows that each walk took so far, a batch under way among them; the lease was last `renewed` at an instant."""

    def __init__(self, permit: Permit, job: str, stages: Sequence[Stage], renewed: float) -> None:
        self.permit = permit
        self.renewed = renewed
        self._job = job
        self._taken = {number: Counter(stage.total) for number, stage in enumerate(stages, 1)}
        self._lock = Lock()

    def demand(self, walk: int, so_far: Counter[str]) -> None:
        """Raise SafetyStop when the run comes to take more than it may, now that one of its walks has come so far."""
        with self._lock:
            self._taken[walk] = so_far
            self.permit.demand(sum(self._taken.values(), Counter()), self._job)
