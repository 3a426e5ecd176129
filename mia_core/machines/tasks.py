"""Independent pieces of work, side by side: in processes of this machine, or on the machines of a cluster."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from mia_core.storage.store import Store

if TYPE_CHECKING:
    from mia_core.experiment import Runtime

Item = TypeVar("Item")
Result = TypeVar("Result")
Work = Callable[[Item, Store], Result]
"""A function of a module's own level, for it is sent to other processes; what it builds lies in the store afterwards."""
Submit = Callable[[Callable[[Item, Store], Result], Item], Callable[[], Result]]
"""Begins a piece of work elsewhere; what is returned waits for its result."""


def spare_cores() -> int:
    """Cores beside the one that this process works on."""
    return max(0, len(os.sched_getaffinity(0)) - 1)


def map_tasks(
    work: Callable[[Item, Store], Result], items: Sequence[Item], store: Store, runtime: Runtime, workers: int = 1
) -> Iterator[Result]:
    """The work's result for each item, in order.

    Args:
        store: where the work finds what is finished, and puts what it makes, wherever it runs.
        workers: how many processes of this machine work at once; a cluster takes as many as it has room for.
    """
    if runtime.backend == "local" and (workers <= 1 or len(items) <= 1):
        for item in items:
            yield work(item, store)
        return
    with side_by_side(store, runtime, min(workers, len(items))) as submit:
        for result in [submit(work, item) for item in items]:
            yield result()


@contextmanager
def in_background(
    work: Callable[[Item, Store], Result], item: Item, store: Store, runtime: Runtime
) -> Iterator[Callable[[], Result]]:
    """Starts the work elsewhere; what is yielded waits for its result.

    Where there is no spare core the work is done when its result is asked for.
    """
    if runtime.backend == "local" and not spare_cores():
        yield lambda: work(item, store)
        return
    with side_by_side(store, runtime, 1) as submit:
        result = submit(work, item)

        def awaited() -> Result:
            try:
                return result()
            except BrokenProcessPool:
                # Its process was killed; what it had finished is in the store.
                return work(item, store)

        yield awaited


@contextmanager
def side_by_side(store: Store, runtime: Runtime, workers: int = 1) -> Iterator[Submit]:
    """Takes work for as long as the block lasts; an error in it ends all that still runs.

    Raises:
        ClusterError: the runtime names a cluster that cannot be used.
    """
    if runtime.backend == "ray":
        from mia_core.machines.cluster import Cluster

        with Cluster(store, runtime) as cluster:
            yield lambda work, item: _awaiting(cluster.submit(work, item))
        return
    with _pool(workers, store.home) as pool, _ended_early():
        yield lambda work, item: _awaiting(pool.submit(_with_store, work, item))


def for_tasks(runtime: Runtime) -> Runtime:
    """The runtime of one piece of work: it sends nothing further."""
    if runtime.backend == "local":
        return runtime
    from mia_core.machines.cluster import device_of_tasks

    threads = max(1, runtime.threads)
    return runtime.model_copy(update={"backend": "local", "device": device_of_tasks(runtime), "threads": threads})


def _awaiting(future: Future[Result]) -> Callable[[], Result]:
    return lambda: _awaited(future)


def _awaited(future: Future[Result]) -> Result:
    """The result of work elsewhere; meanwhile an interrupt is heard, whichever thread it reaches."""
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


def _pool(workers: int, home: Path) -> ProcessPoolExecutor:
    # A forked process would share torch's and SQLite's state.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(home,))


_homes: list[Path] = []
"""Of a process of the pool: the home folder of the store it works for."""


def _begin(home: Path) -> None:
    # An interrupt is the parent's to hear.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _homes.append(home)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Whoever waits for the work may be killed: nobody is told then, and nothing of it may live on."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _with_store(work: Callable[[Item, Store], Result], item: Item) -> Result:
    return work(item, Store(_homes[0]))
