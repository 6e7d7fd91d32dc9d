"""Work of one process on several processors: parts that torch computes side by side, each as it would alone.

Threads do: torch lets go of Python's lock while it computes. What is computed does not depend on how many there are, as
long as the parts do not.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def processors() -> int:
    """How many this process may use: OMP_NUM_THREADS where it is set, as it is for processes that work side by side."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdecimal() and int(given) > 0:
        return int(given)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def side_by_side(work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """`work` done on each item, results in their order; what one raises is raised, after the others are done.

    With torch's threads on top it is no more threads than processors; an accelerator's work is only begun here.
    """
    todo, threads = list(items), processors() // torch.get_num_threads()
    if min(len(todo), threads) < 2 or torch.cuda.is_available():
        return [work(item) for item in todo]
    learning = torch.is_grad_enabled()  # known to each thread apart

    def one(item: Item) -> Result:
        with torch.set_grad_enabled(learning):
            return work(item)

    return list(_pool(threads).map(one, todo))


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "side-by-side")
