"""A job runner with one more kind of job: three resumable stages of known length."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from mia_core.errors import DataError
from mia_core.jobs import run_job
from mia_core.jobs.progress import JobProgress
from mia_core.keys import content_key
from mia_core.storage.store import Store
from mia_core.types import StagePlan


def toy(payload: dict[str, Any], store: Store, progress: JobProgress) -> str:
    stages = ["one", "two", "three"]
    progress.plan([StagePlan(stage, payload["seconds"]) for stage in stages])
    key = ""
    for stage in stages:
        progress.start(stage)
        key = content_key(stage, 1, payload)
        cached = store.find(key) is not None

        def write(folder: Path, stage: str = stage) -> None:
            with (store.home / "done.txt").open("a") as log:
                log.write(f"{stage} {os.getpid()}\n")
            if payload.get("fail") == stage:
                raise DataError("line 3, column rating: give a number")
            if payload.get("break") == stage:
                raise RuntimeError("secret-user-42")
            if payload.get("child"):
                child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
                (store.home / "child.txt").write_text(str(child.pid))
            (folder / "bulk").write_bytes(bytes(payload.get("bytes", 0)))
            try:
                for _ in range(20):
                    time.sleep(payload["seconds"] / 20)
                    progress.advance(0.5)
            except Exception:
                # So does code that takes every error for a damaged file.
                raise DataError("the file does not load") from None

        store.build(key, "toy", write)
        progress.finish(stage, cached)
    return key


run_job.KINDS["toy"] = toy
run_job.WORDS["toy"] = "toy"
if __name__ == "__main__":
    sys.exit(run_job.run_job(Path(sys.argv[1]), sys.argv[2]))
