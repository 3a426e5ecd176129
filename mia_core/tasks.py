"""Independent pieces of work, run side by side in processes of their own."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from typing import TypeVar

from mia_core.types import Silent

Item = TypeVar("Item")
Result = TypeVar("Result")


def spare_cores() -> int:
    """Cores beside the one that this process works on."""
    return max(0, len(os.sched_getaffinity(0)) - 1)


def map_tasks(function: Callable[[Item], Result], items: Sequence[Item], workers: int) -> Iterator[Result]:
    """The function's result for each item, in order; up to `workers` are worked on at once.

    Args:
        function: of a module's own level, as its items it is sent to other processes.
    """
    if workers <= 1 or len(items) <= 1:
        yield from map(function, items)
        return
    with _pool(min(workers, len(items))) as pool, _ended_early():
        for future in [pool.submit(function, item) for item in items]:
            yield _awaited(future)


@contextmanager
def in_background(function: Callable[[Item], Result], item: Item) -> Iterator[Callable[[], Result]]:
    """Starts the work in a process of its own; what is yielded waits for its result.

    Where there is no spare core the work is done when its result is asked for.
    """
    if not spare_cores():
        yield lambda: function(item)
        return
    with _pool(1) as pool:
        future: Future[Result] = pool.submit(function, item)
        with _ended_early():
            yield lambda: _awaited(future)


def _awaited(future: Future[Result]) -> Result:
    """The result of work in another process; meanwhile an interrupt is heard, whichever thread it reaches."""
    while not future.done():
        wait([future], timeout=0.5)
    return future.result()


@contextmanager
def _ended_early() -> Iterator[None]:
    """Ends what still runs where nobody waits for it any more."""
    try:
        yield
    except BaseException:
        for process in multiprocessing.active_children():
            process.terminate()
        raise


def _pool(workers: int) -> ProcessPoolExecutor:
    # A forked process would share torch's and SQLite's state.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_leave_interrupts_to_parent)


def _leave_interrupts_to_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class WhileWanted(Silent):
    """A Progress for work in the background: it ends the process when nobody waits for it any more."""

    def advance(self, fraction: float) -> None:
        parent = multiprocessing.parent_process()
        if parent is not None and not parent.is_alive():
            os._exit(1)
