"""A small audit that is killed at a random moment and begun again: is the report the same, and is nothing left behind?"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import psutil
from filelock import FileLock, Timeout

from mia_core.experiment import parse_experiment
from mia_core.jobs.processes import living
from mia_core.jobs.queue import Job, Queue
from mia_core.jobs.supervisor import ensure_supervisor
from mia_core.storage.store import Store
from tests.jobs.waiting import over, wait
from tests.machines.two_machines import at_work, wait_for

ROOT = Path(__file__).parents[2]
Victim = Literal["server", "supervisor", "job", "worker", "machine"]
VICTIMS: tuple[Victim, ...] = ("server", "supervisor", "job", "worker", "machine")
"""Who is killed. A worker is a process that the job gives work to on its own machine, `machine` one on a machine of a cluster."""
PATIENCE = 600.0
"""Seconds until a run that does not end counts as hanging."""
SMALL: dict[str, Any] = {
    "name": "Chaos",
    "data": {"synthetic": {"users": 60, "items": 30, "mean_history": 10}},
    "prompt": {"history": 3, "windows": 1},
    "base": {"width": 16, "layers": 2, "vocabulary": 300, "pretraining": {"epochs": 2}},
    "target": {"training": {"epochs": 3}},
    "attacks": {"names": ["loss", "target_minus_base"], "lead": "loss"},
    "evaluation": {"resamples": 100, "ranked_users": 0, "placebo": False, "map_users": 0},
}
TIMES = ("created", "stages")
"""What of a result says when it was computed, and how long that took."""


@dataclass(frozen=True)
class Undisturbed:
    """A run that nobody killed."""

    report: dict[str, bytes]
    before: float
    """Seconds from its launch to its first stage."""
    working: float
    """Seconds from there to its end."""


@dataclass
class Outcome:
    """One run that was disturbed."""

    seed: int
    victim: Victim
    stage: str = ""
    """What was under way when it was killed; empty: nothing yet, or nothing any more."""
    was_over: bool = False
    finished_before: int = 0
    """Artifacts that were finished before the kill."""
    took: float = 0.0
    faults: list[str] = field(default_factory=list)


def disturbed(folder: Path, seed: int, victim: Victim, calm: Undisturbed, address: str = "") -> Outcome:
    """Runs the audit in a home of its own, kills the victim, begins again what was killed, and looks at what came of it.

    Half of the kills fall anywhere within the time that an undisturbed run takes, the others anywhere within its stages.
    With an address, the work is done on the machines of that cluster.
    """
    chance = random.Random(f"{seed} {victim}")
    outcome = Outcome(seed, victim)
    begun = time.monotonic()
    with at_home(folder) as home:
        queue = Queue(home)
        job = queue.submit("audit", "Chaos", payload(victim, address))
        server = _serve(home) if victim == "server" else None
        if server is None:
            ensure_supervisor(home)
        if chance.random() < 0.5:
            time.sleep(chance.uniform(0, calm.before + calm.working))
        else:
            wait(queue, job.id, begun_or_over, PATIENCE)
            time.sleep(chance.uniform(0, calm.working))
        before = {path.parent.name: path.stat().st_ino for path in home.glob("artifacts/*/*/artifact.json")}
        now = queue.get(job.id)
        _kill(home, victim, server, now, address)
        outcome.stage, outcome.was_over = now.stage, over(now)
        outcome.finished_before = len(before)
        if victim == "server":
            server = _serve(home)
        else:
            ensure_supervisor(home)
        ended = wait(queue, job.id, over, PATIENCE)
        if address:
            wait_for(lambda: not at_work(address), 30)
        if server is not None:
            server.kill()
            server.wait(30)
        outcome.faults = _faults(home, ended, before, calm.report)
    outcome.took = time.monotonic() - begun
    return outcome


def begun_or_over(job: Job) -> bool:
    """Whether a job has come to its first stage."""
    return bool(job.stage) or over(job)


def undisturbed(folder: Path, victim: Victim = "job", address: str = "") -> Undisturbed:
    """Runs the audit and lets it be."""
    begun = time.monotonic()
    with at_home(folder) as home:
        queue = Queue(home)
        job = queue.submit("audit", "Chaos", payload(victim, address))
        ensure_supervisor(home)
        wait(queue, job.id, begun_or_over, PATIENCE)
        at_work = time.monotonic()
        ended = wait(queue, job.id, over, PATIENCE)
        assert ended.state == "finished", ended.message
        return Undisturbed(report(home, ended.result_key), at_work - begun, time.monotonic() - at_work)


def payload(victim: Victim, address: str = "") -> dict[str, Any]:
    """What the job is given; for workers to be there, the audit's placebo runs beside it, in a process of its own."""
    document = {**SMALL, "evaluation": {**SMALL["evaluation"], "placebo": victim in ("worker", "machine")}}
    experiment = parse_experiment(document).model_dump(mode="json")
    where = {"backend": "ray", "address": address} if address else {}
    return {"experiment": experiment, "runtime": {"device": "cpu", "threads": 1, **where}}


def report(home: Path, key: str) -> dict[str, bytes]:
    """Every file of a finished audit, byte for byte; of the result itself, all but its times."""
    store = Store(home)
    folder = store.find(key)
    store.close()
    if folder is None:
        return {}
    files = {
        path.name: path.read_bytes() for path in folder.iterdir() if path.name not in ("artifact.json", "result.json")
    }
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    names = [stage["name"] for stage in result["stages"]]
    timeless = {name: value for name, value in result.items() if name not in TIMES}
    return {**files, "result.json": json.dumps({**timeless, "stages": names}).encode()}


@contextlib.contextmanager
def at_home(folder: Path) -> Iterator[Path]:
    """An empty home whose processes are quick to notice and to go; whatever still lives in it at the end is ended."""
    home = folder / "home"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True, mode=0o700)
    settings = {"MIA_HOME": str(home), "MIA_POLL_SECONDS": "0.1", "MIA_IDLE_SECONDS": "1", "OMP_NUM_THREADS": "1"}
    try:
        with patch.dict(os.environ, settings):
            yield home
    finally:
        for process in of(home):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        shutil.rmtree(home, ignore_errors=True)


def of(home: Path) -> list[psutil.Process]:
    """Every process that was started for a home, by the environment it was given; not this one, and no dead ones."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            dead = process.status() == psutil.STATUS_ZOMBIE
            if not dead and process.pid != os.getpid() and process.environ().get("MIA_HOME") == str(home):
                found.append(process)
    return found


def _kill(home: Path, victim: Victim, server: subprocess.Popen[bytes] | None, job: Job, address: str) -> None:
    doomed: list[psutil.Process] = []
    if server is not None:
        doomed = [psutil.Process(server.pid)]
    elif victim == "supervisor":
        doomed = [process for process in of(home) if "mia_core.jobs.supervisor" in process.cmdline()]
    elif victim == "machine":
        doomed = at_work(address)
    elif job.pid is not None and (process := living(job.pid, job.process_created)) is not None:
        doomed = process.children() if victim == "worker" else [process]
    for process in doomed:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
    if server is not None:
        server.wait(30)


def _faults(home: Path, ended: Job, before: dict[str, int], expected: dict[str, bytes]) -> list[str]:
    """What is not as it should be after a run that went on."""
    said = [] if ended.state == "finished" else [f"the job is {ended.state}: {ended.message}"]
    found = report(home, ended.result_key)
    differing = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
    said += [f"{name} is another than that of an undisturbed run" for name in differing]
    for key, inode in before.items():
        path = home / "artifacts" / key[:2] / key / "artifact.json"
        if not path.is_file() or path.stat().st_ino != inode:
            said.append(f"{key[:12]} was finished before and computed again")
    end = time.monotonic() + 30
    while of(home) and time.monotonic() < end:
        time.sleep(0.1)
    said += [f"left alive: {' '.join(process.cmdline())[-120:]}" for process in of(home)]
    for lock in [*home.glob("locks/*"), *home.glob("places/*"), home / "supervisor.lock"]:
        try:
            FileLock(lock, timeout=0).acquire().lock.release()
        except Timeout:
            said.append(f"the lock {lock.name[:12]} is still held")
    for name in ("building", "scratch", "damaged"):
        left = list((home / name).iterdir()) if (home / name).is_dir() else []
        said += [f"{len(left)} left in {name}"] if left else []
    jobs = Queue(home).jobs()
    if [job.id for job in jobs] != [ended.id]:
        said.append(f"{len(jobs)} jobs instead of one")
    return said


def _serve(home: Path) -> subprocess.Popen[bytes]:
    """The app, as it starts on a machine; what was left behind it takes up by itself."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", "app.py", f"--server.port={port}", "--server.headless=true"]
    with (home / "server.log").open("ab") as log:
        return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env=os.environ.copy())
