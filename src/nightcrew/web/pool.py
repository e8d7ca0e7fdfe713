"""Pool: so many threads of this process beside the event loop, for work that takes its time."""

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

_R = TypeVar("_R")


class Pool:
    """Threads of their own: the loop's default ones also resolve host names, and long work would hold those up."""

    def __init__(self, size: int, name: str) -> None:
        self._size = size
        self._name = name
        self._pools: dict[int, ThreadPoolExecutor] = {}

    def submit(self, work: Callable[[], _R]) -> "Future[_R]":
        """Begin work in the caller's context, as soon as a thread is free."""
        return self._pool().submit(copy_context().run, work)

    def _pool(self) -> ThreadPoolExecutor:
        """Return this process's threads; in the child of a fork, the parent's are none."""
        process = os.getpid()
        if process not in self._pools:
            self._pools = {process: ThreadPoolExecutor(self._size, thread_name_prefix=self._name)}
        return self._pools[process]
