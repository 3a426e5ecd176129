"""The machines of a Ray cluster: what they work on goes there, and comes back, as plain files."""

from __future__ import annotations

import asyncio
import importlib.metadata
import logging
import os
import re
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from filelock import FileLock, Timeout

from mia_core import __version__
from mia_core.errors import ClusterError, MemberScopeError, as_plain, from_plain, what_and_where
from mia_core.storage.integrity import MANIFEST
from mia_core.storage.store import Store

if TYPE_CHECKING:
    from mia_core.experiment import Runtime

Item = TypeVar("Item")
Result = TypeVar("Result")
Parcel = dict[str, Any]
"""One artifact under way: what it is, and its files as bytes by name. No object of any class is in it."""

TRIES_AFTER_A_LOSS = 3
"""How often work is given to another machine when the one that did it is lost."""
CARRIED = frozenset({".json", ".npy", ".parquet", ".safetensors", ".txt", ".jinja", ".model", ".md"})
"""Files that an artifact consists of. Nothing that would have to be unpickled is among them."""
FILE_NAME = re.compile(r"(?!\.)[\w.-]{1,100}")
LONG_POLL_SECONDS = 0.5
ANSWERED_AT_ONCE = 4
GRACE_SECONDS = 5.0
"""Between asking a machine to stop its work and ending the process."""
ABANDONED_SECONDS = 60.0
"""A working folder that nobody holds is cleared away once it is as old."""
FOLDER, HELD = "memberscope-work-", "held"


def pack(folder: Path) -> dict[str, np.ndarray]:
    """The files of an artifact as bytes, by their names within it.

    Raises:
        ClusterError: it holds a file of a kind that no artifact has.
    """
    files = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name != MANIFEST:
            _check(name)
            files[name] = np.fromfile(path, np.uint8)
    return files


def unpack(files: dict[str, np.ndarray], folder: Path) -> None:
    """Writes packed files into a folder.

    Raises:
        ClusterError: a name leads out of the folder, or is of a kind that no artifact has; nothing is written then.
    """
    for name in files:
        _check(name)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        np.ascontiguousarray(content, np.uint8).tofile(path)


def _check(name: str) -> None:
    parts = name.split("/")
    if len(parts) > 4 or not all(FILE_NAME.fullmatch(part) for part in parts) or Path(name).suffix not in CARRIED:
        raise ClusterError(
            f"{name[:80]!r} is no name of a file that artifacts have; the machines of the cluster run other versions of this "
            "program, or are not yours: install the same one everywhere"
        )


class BranchStore(Store):
    """A store for one piece of work on another machine. What it lacks is asked of the store that the work comes from, and
    what is built goes there at once: work that is taken up after a loss finds all that was finished.

    Args:
        home: an empty folder.
        ask: passes ("find", key) or ("keep", parcel) on to the store that the work comes from.
    """

    def __init__(self, home: Path, ask: Callable[[str, Any], Any]) -> None:
        super().__init__(home)
        self._ask = ask
        self._here = Store(home)
        self._common: set[str] = set()

    def find(self, key: str) -> Path | None:
        """The folder of an artifact that is here or where the work comes from, or None."""
        found = self._here.find(key)
        if found is None:
            files = self._ask("find", key)
            if files is not None:
                found = self._here.build(key, "borrowed", partial(unpack, files))
                self._common.add(key)
        return found

    def build(
        self,
        key: str,
        kind: str,
        write: Callable[[Path], None],
        *,
        name: str = "",
        keep: bool = False,
        created: str = "",
    ) -> Path:
        """As in every store; what was written is also kept where the work comes from."""
        found = self.find(key)
        if found is None:
            found = self._here.build(key, kind, write, name=name, keep=keep, created=created)
        # Other processes of this machine may have written it.
        if key not in self._common:
            self._common.add(key)
            self._ask("keep", {"key": key, "kind": kind, "name": name, "keep": keep, "files": pack(found)})
        return found


# Where the work comes from


class Cluster:
    """Gives work to the machines of a cluster for as long as the ``with`` block lasts; then nothing of it goes on.

    Raises:
        ClusterError: Ray is not installed, the cluster cannot be reached, or no machine of it is large enough.
    """

    def __init__(self, store: Store, runtime: Runtime) -> None:
        self.store = store
        self.ray = _connected(runtime.address)
        self.options = _needed(self.ray, runtime)
        self.out: list[Any] = []
        self.lent: dict[str, Any] = {}
        self.lending = threading.Lock()
        self.over = threading.Event()

    def __enter__(self) -> Cluster:
        strategy = self.ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            self.ray.get_runtime_context().get_node_id(), soft=False
        )
        desk = self.ray.remote(_Desk).options(num_cpus=0, max_concurrency=10_000, scheduling_strategy=strategy)
        self.desk = desk.remote()
        self.clerk = threading.Thread(target=self._serve, daemon=True)
        self.clerk.start()
        return self

    def __exit__(self, *_: object) -> None:
        for force in (False, True):
            # What is done already cannot be cancelled, and a lost connection has no work left.
            with suppress(Exception):
                _, running = self.ray.wait(self.out, num_returns=len(self.out), timeout=0)
                for task in running:
                    self.ray.cancel(task, force=force)
                # Who is asked first clears away what they had been given.
                self.ray.wait(running, num_returns=len(running), timeout=GRACE_SECONDS)
        self.over.set()
        with suppress(Exception):
            self.ray.kill(self.desk)
        self.clerk.join(timeout=10)
        self.lent.clear()

    def submit(self, work: Callable[[Item, Store], Result], item: Item) -> Future[Result]:
        """Has a piece of work done somewhere; it is taken up again elsewhere when its machine is lost."""
        task = self.ray.remote(_work).options(
            max_retries=TRIES_AFTER_A_LOSS, retry_exceptions=False, name="memberscope", **self.options
        )
        reference = task.remote(work, item, self.desk, _versions())
        self.out.append(reference)
        future: Future[Result] = Future()
        reference.future().add_done_callback(partial(_settle, future))
        return future

    def _serve(self) -> None:
        """Answers what the machines ask of the store, until the work is over or the connection is."""
        with ThreadPoolExecutor(ANSWERED_AT_ONCE) as clerks, suppress(self.ray.exceptions.RayError):
            while not self.over.is_set():
                for number, question, told in self.ray.get(self.desk.letters.remote()):
                    clerks.submit(self._reply, number, question, told)

    def _reply(self, number: int, question: str, told: Any) -> None:
        try:
            answer = self._answer(question, told)
        except MemberScopeError as error:
            answer = as_plain(error)
        except Exception as error:
            # Often the machine that asked is lost; else it is told.
            fault = f"the store that work comes from could not be asked ({type(error).__name__})"
            answer = as_plain(ClusterError(fault))
        with suppress(Exception):
            self.desk.answer.remote(number, answer)

    def _answer(self, question: str, told: Any) -> Any:
        if question == "find":
            return self._lend(told)
        (reference,) = told
        parcel = self.ray.get(reference)
        files = parcel.pop("files")
        self.store.build(parcel.pop("key"), parcel.pop("kind"), partial(unpack, files), **parcel)
        return None

    def _lend(self, key: str) -> Any:
        """A reference to the files of an artifact, put among the cluster's objects once; None where there is none."""
        with self.lending:
            if key not in self.lent:
                folder = self.store.find(key)
                if folder is None:
                    return None
                self.lent[key] = self.ray.put(pack(folder))
            return [self.lent[key]]


def _settle(future: Future[Any], done: Future[Any]) -> None:
    """Turns what came back from a machine into a result, or an error of ours."""
    if future.cancelled():
        return
    error = done.exception()
    if error is not None:
        future.set_exception(
            ClusterError(
                f"the machines that worked on a part of this were lost {1 + TRIES_AFTER_A_LOSS} times, or the connection to "
                f"them was ({type(error).__name__}); often they lack memory. What was finished is kept: look after the "
                "cluster and start again, or choose backend = 'local'"
            )
        )
        return
    told = done.result()
    if told["error"]:
        future.set_exception(from_plain(told["error"]))
    else:
        future.set_result(told["result"])


def _connected(address: str) -> Any:
    """Ray, connected to the cluster."""
    if os.environ.setdefault("RAY_AUTH_MODE", "token") == "disabled":
        raise ClusterError(
            "RAY_AUTH_MODE is 'disabled': whoever reaches such a cluster can run programs on it and read these people's data; "
            "unset it, make a token with `ray get-auth-token --generate`, and start the cluster with RAY_AUTH_MODE=token"
        )
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        from ray.exceptions import RayError
    except ImportError:
        raise ClusterError(
            "backend is 'ray', and Ray is not installed here; install it with `pip install \"memberscope[ray]\"`, or choose "
            "backend = 'local'"
        ) from None
    if not ray.is_initialized():
        stopping = signal.getsignal(signal.SIGTERM)
        try:
            # What the machines write to their logs stays there.
            ray.init(address=address or "auto", log_to_driver=False, logging_level=logging.ERROR)
        except (RayError, ConnectionError, OSError, RuntimeError, ValueError) as error:
            raise ClusterError(
                f"the Ray cluster at {address or 'auto'!r} cannot be joined from here ({type(error).__name__}); this machine "
                "has to be one of its nodes (`ray start --address=HOST:6379`) and to have the cluster's token in "
                "RAY_AUTH_TOKEN or ~/.ray/auth_token. Without a cluster choose backend = 'local'"
            ) from None
        finally:
            # Ray would end the process in its own way, and a job that is stopped has its state to write.
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, stopping)
    return ray


def _needed(ray: Any, runtime: Runtime) -> dict[str, float]:
    """What one piece of work takes of a machine.

    Raises:
        ClusterError: no machine has as much, and it would wait for ever.
    """
    cores, gpus = float(max(1, runtime.threads) * runtime.processes), runtime.gpus_per_task
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if gpus is None:
        some = runtime.device != "cpu" and any(machine.get("GPU", 0) for machine in machines)
        gpus = float(runtime.processes) if some else 0.0
    if not any(machine.get("CPU", 0) >= cores and machine.get("GPU", 0) >= gpus for machine in machines):
        raise ClusterError(
            f"one task takes {cores:g} CPU cores (threads × processes) and {gpus:g} GPUs (gpus_per_task), and no machine of "
            "the cluster has as many; ask for fewer"
        )
    return {"num_cpus": cores, "num_gpus": gpus}


def device_of_tasks(runtime: Runtime) -> str:
    """cuda or cpu: what one piece of work runs on."""
    return "cuda" if _needed(_connected(runtime.address), runtime)["num_gpus"] else "cpu"


def _versions() -> dict[str, str]:
    """What has to be the same for the same numbers."""
    libraries = {name: importlib.metadata.version(name) for name in ("torch", "transformers", "numpy", "scikit-learn")}
    return {"MemberScope": __version__, **libraries}


class _Desk:
    """Between the machines and the store that the work comes from: questions one way, answers the other."""

    def __init__(self) -> None:
        self.questions: asyncio.Queue[tuple[int, str, Any]] = asyncio.Queue()
        self.waiting: dict[int, asyncio.Future[Any]] = {}
        self.number = 0

    async def ask(self, question: str, told: Any) -> Any:
        """What the store answers."""
        self.number += 1
        number = self.number
        self.waiting[number] = asyncio.get_running_loop().create_future()
        await self.questions.put((number, question, told))
        return await self.waiting[number]

    async def letters(self) -> list[tuple[int, str, Any]]:
        """Questions that came, the first of which is waited for a little."""
        found: list[tuple[int, str, Any]] = []
        with suppress(TimeoutError):
            found.append(await asyncio.wait_for(self.questions.get(), LONG_POLL_SECONDS))
        while not self.questions.empty():
            found.append(self.questions.get_nowait())
        return found

    async def answer(self, number: int, told: Any) -> None:
        """Passes an answer on."""
        future = self.waiting.pop(number)
        if not future.done():
            future.set_result(told)


# On the machines


def _work(work: Callable[[Any, Store], Any], item: Any, desk: Any, versions: dict[str, str]) -> dict[str, Any]:
    """Does a piece of work; returns its result or, as plain words, the error of ours."""
    import ray

    def ask(question: str, told: Any) -> Any:
        # A parcel goes by reference, so that it does not pass through the desk's memory.
        answer = ray.get(desk.ask.remote(question, [ray.put(told)] if question == "keep" else told))
        if isinstance(answer, dict):
            raise from_plain(answer)
        return None if answer is None else ray.get(answer[0])

    try:
        if _versions() != versions:
            here = ", ".join(f"{name} {version}" for name, version in _versions().items())
            there = ", ".join(f"{name} {version}" for name, version in versions.items())
            raise ClusterError(
                f"a machine of the cluster has {here}, and this one {there}; numbers would differ: install the same everywhere"
            )
        with _work_folder() as folder:
            return {"error": None, "result": work(item, BranchStore(folder, ask))}
    except MemberScopeError as error:
        return {"error": as_plain(error), "result": None}
    except Exception as error:
        where = what_and_where(error)
        told = f"a machine of the cluster ran into a fault of ours ({where}); what was finished is kept"
        return {"error": as_plain(ClusterError(told)), "result": None}


@contextmanager
def _work_folder() -> Iterator[Path]:
    """A private folder for one piece of work; those of processes that were killed are removed."""
    for left in Path(tempfile.gettempdir()).glob(f"{FOLDER}*"):
        with suppress(OSError, Timeout):
            if time.time() - left.stat().st_mtime > ABANDONED_SECONDS:
                with FileLock(left / HELD, timeout=0):
                    shutil.rmtree(left)
    folder = Path(tempfile.mkdtemp(prefix=FOLDER))
    try:
        with FileLock(folder / HELD):
            yield folder / "store"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
