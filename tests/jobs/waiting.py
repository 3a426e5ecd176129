"""Waiting for a job."""

from __future__ import annotations

import time
from collections.abc import Callable

from mia_core.jobs.queue import Job, Queue


def wait(queue: Queue, job_id: str, until: Callable[[Job], bool], seconds: float = 20) -> Job:
    """The job as soon as it is as wanted; it is an error where that takes longer."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        job = queue.get(job_id)
        if until(job):
            return job
        time.sleep(0.03)
    raise AssertionError(f"still {queue.get(job_id)}")


def over(job: Job) -> bool:
    """Whether a job has ended, however it did."""
    return job.state not in ("queued", "running")
