"""Work on all cores of this machine, where it is worth starting processes for."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_job: tuple[Callable[[Any], Any], Sequence[Any]] | None = None
"""What forked processes find: function and items are inherited, so that only results are sent."""


def mapped(function: Callable[[Item], Result], items: Sequence[Item], *, worth_it: bool) -> list[Result]:
    """The function of each item, in their order: the same whether in this process or in several.

    Args:
        function: of what this process holds; its results can be sent.
        items: what to apply it to.
        worth_it: seconds of work, not a fraction of one. What is itself one of such items forks no further.
    """
    global _job
    workers = min(_cores(), len(items))
    if not worth_it or workers < 2 or _job is not None or "fork" not in multiprocessing.get_all_start_methods():
        return [function(item) for item in items]
    _job = function, items
    try:
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("fork")) as pool:
            return list(pool.map(_one, range(len(items))))
    finally:
        _job = None


def _one(index: int) -> Any:
    assert _job is not None
    function, items = _job
    return function(items[index])


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
