"""The one process that starts jobs, stops them when asked, and notices when one has died.

It is detached from the app and holds a file lock, so there is never a second one. Jobs are processes of their own and
outlive it; the next supervisor adopts those that still live, by process number and time of creation. No rule here looks at a
date: a clock may be set, and a machine may sleep.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from mia_core.errors import StoreError
from mia_core.jobs.processes import created, end_group, living
from mia_core.jobs.queue import Job, Queue
from mia_core.limits import AT_ONCE
from mia_core.storage.disk import explained

POLL_SECONDS = float(os.environ.get("MIA_POLL_SECONDS", "0.5"))
IDLE_SECONDS = float(os.environ.get("MIA_IDLE_SECONDS", "60"))
GRACE_SECONDS = float(os.environ.get("MIA_GRACE_SECONDS", "10"))
"""Between asking a job to stop and killing it."""
RUNNER = os.environ.get("MIA_JOB_RUNNER", "mia_core.jobs.run_job")

QUIET = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONUNBUFFERED": "1",
}


def ensure_supervisor(home: Path) -> None:
    """Starts the supervisor where none is running; returns at once.

    Raises:
        ConfigError: how many jobs may run at once is no number.
        StoreError: the disk is full or cannot be written.
    """
    _ = AT_ONCE.most
    with explained(home):
        try:
            with FileLock(_lock_path(home), timeout=0):
                pass
        except Timeout:
            return
        _start([sys.executable, "-m", "mia_core.jobs.supervisor", str(home)], home / "logs" / "supervisor.log")


def supervise(home: Path) -> None:
    """Runs until nothing has been active for a while."""
    while True:
        try:
            # Whoever looks whether there is one holds the lock for a moment.
            with FileLock(_lock_path(home), timeout=1):
                _Supervisor(home).run()
        except Timeout:
            return
        # What was submitted just before the lock was released found it held, and started nobody.
        if not Queue(home).active():
            return


class _Supervisor:
    def __init__(self, home: Path) -> None:
        self.home = home
        self.queue = Queue(home)
        self.children: dict[int, subprocess.Popen[bytes]] = {}
        self.asked_at: dict[str, float] = {}
        self.claimed_at: dict[str, float] = {}

    def run(self) -> None:
        busy = time.monotonic()
        while time.monotonic() - busy < IDLE_SECONDS:
            # Without room the table cannot be written; what was to be noted is noted when there is room again.
            with contextlib.suppress(StoreError):
                if self._look_round():
                    busy = time.monotonic()
            time.sleep(POLL_SECONDS)

    def _look_round(self) -> bool:
        """Does what there is to do; returns whether there is any job."""
        active = self.queue.active()
        running = [job for job in active if job.state == "running"]
        for job in running:
            self._look_after(job)
        if not AT_ONCE.passed_by(len(running) + 1):
            self._start_next()
        return bool(active)

    def _look_after(self, job: Job) -> None:
        if job.pid is None:
            # Claimed by a supervisor that died before the process was started.
            if time.monotonic() - self.claimed_at.setdefault(job.id, time.monotonic()) > 5:
                self.queue.process_died(job)
            return
        for pid, child in list(self.children.items()):
            if child.poll() is not None:
                del self.children[pid]
        process = living(job.pid, job.process_created)
        if process is None:
            # It may have said how it ended just before it went.
            end_group(job.pid, job.process_created)
            current = self.queue.get(job.id)
            if current.state == "running" and current.pid == job.pid:
                self.queue.process_died(current)
            self.asked_at.pop(job.id, None)
        elif job.cancel_asked:
            self._stop(job, process)

    def _stop(self, job: Job, process: psutil.Process) -> None:
        asked = self.asked_at.get(job.id)
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            if asked is None:
                self.asked_at[job.id] = time.monotonic()
                os.killpg(process.pid, signal.SIGTERM)
            elif time.monotonic() - asked > GRACE_SECONDS:
                os.killpg(process.pid, signal.SIGKILL)

    def _start_next(self) -> None:
        job = self.queue.claim()
        if job is None:
            return
        self.claimed_at.pop(job.id, None)
        log = self.home / "logs" / f"{job.id}.log"
        try:
            with explained(self.home):
                child = _start([sys.executable, "-m", RUNNER, str(self.home), job.id], log)
        except StoreError as error:
            self.queue.fail(job.id, str(error))
            return
        self.children[child.pid] = child
        with contextlib.suppress(psutil.NoSuchProcess):
            self.queue.started_as(job.id, child.pid, created(child.pid))


def _start(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    """A process in a session of its own: it does not end with the one that started it."""
    log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH", "")) if part)
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env={**os.environ, **QUIET, "PYTHONPATH": path},
        )


def _lock_path(home: Path) -> Path:
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    return home / "supervisor.lock"


if __name__ == "__main__":
    supervise(Path(sys.argv[1]))
