from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]


def test_nobody_works_on_for_a_process_that_was_killed(tmp_path: Path) -> None:
    command = [sys.executable, str(Path(__file__).with_name("slow_work.py")), str(tmp_path)]
    parent = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)})
    marks = [tmp_path / f"worker {item}" for item in (1, 2)]
    end = time.monotonic() + 60
    while not all(mark.exists() and mark.read_text() for mark in marks) and time.monotonic() < end:
        time.sleep(0.05)
    workers = [psutil.Process(int(mark.read_text())) for mark in marks]
    parent.kill()
    parent.wait(5)
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert not [worker for worker in alive if worker.status() != psutil.STATUS_ZOMBIE]
