"""Work on many things at once, where that is safe: on a platform that forks, in a process of one thread."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")

_WORK: list[tuple[Callable[[Any], Any], Sequence[Any]]] = []
"""What the processes do: they are copies of this one, so nothing is sent to them but an index."""


def spread(function: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """``[function(item) for item in items]``, by as many processes as there are processors.

    What ``function`` keeps for later items, each process keeps for itself; what it returns must be picklable.
    """
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1  # Linux has it
    count = min(processors, len(items))
    if count < 2 or threading.active_count() > 1:
        return [function(item) for item in items]
    _WORK.append((function, items))
    try:
        with multiprocessing.get_context("fork").Pool(count, _begin) as pool:
            return pool.map(_one, range(len(items)), chunksize=1)
    finally:
        _WORK.pop()


def _begin() -> None:
    """The pool ends its processes by a signal that may mean something else where they come from."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _one(index: int) -> Any:
    function, items = _WORK[-1]
    return function(items[index])
