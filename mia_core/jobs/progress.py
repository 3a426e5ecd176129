"""Progress of a job, written to the job table a few times a second at most."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

from mia_core.errors import StoreError
from mia_core.jobs.queue import Queue
from mia_core.types import StagePlan

WRITE_SECONDS = 0.5


class JobProgress:
    """A `Progress` that other processes can see.

    The time left blends the plan with the pace so far: the further the work is, the more the pace counts.
    """

    def __init__(self, queue: Queue, job_id: str) -> None:
        self.queue = queue
        self.job_id = job_id
        self.stages: list[dict[str, Any]] = []
        self.current = ""
        self.within = 0.0
        self.written = 0.0
        self.furthest = 0.0
        self.stage_started = time.monotonic()
        # A job that goes on after a crash has told some already.
        self.figures = {name: list(rows) for name, rows in queue.get(job_id).figures.items()}

    def plan(self, stages: Sequence[StagePlan]) -> None:
        """All stages, waiting."""
        self.stages = [{"name": stage.name, "seconds": stage.seconds, "state": "waiting"} for stage in stages]
        self._write(now=True)

    def start(self, stage: str) -> None:
        """A stage begins; one that was not planned is put where it stands."""
        self.current, self.within = stage, 0.0
        self.stage_started = time.monotonic()
        row = self._row(stage)
        if row is None:
            row = {"name": stage, "seconds": 1.0}
            self.stages.append(row)
        row["state"] = "running"
        self._write(now=True)

    def advance(self, fraction: float) -> None:
        """The running stage is so far."""
        self.within = min(1.0, max(0.0, fraction))
        self._write()

    def finish(self, stage: str, cached: bool) -> None:
        """A stage is done."""
        row = self._row(stage)
        if row is not None:
            row["state"] = "cached" if cached else "done"
            if not cached:
                row["took"] = time.monotonic() - self.stage_started
        self.within = 0.0
        self._write(now=True)

    def tell(self, figure: str, row: Mapping[str, float | str | None]) -> None:
        """Puts a row among the first figures; the first of its values says which row it is."""
        name = next(iter(row))
        rows = [earlier for earlier in self.figures.get(figure, []) if earlier[name] != row[name]]
        self.figures[figure] = [*rows, dict(row)]
        with contextlib.suppress(StoreError):
            self.queue.tell(self.job_id, self.figures)

    def _row(self, stage: str) -> dict[str, Any] | None:
        return next((row for row in self.stages if row["name"] == stage), None)

    def _write(self, now: bool = False) -> None:
        if not now and time.monotonic() - self.written < WRITE_SECONDS:
            return
        self.written = time.monotonic()
        planned = sum(row["seconds"] for row in self.stages) or 1.0
        finished = [row for row in self.stages if row["state"] in ("done", "cached")]
        current = self._row(self.current)
        under_way = self.within * current["seconds"] if current is not None and current["state"] == "running" else 0.0
        done = sum(row["seconds"] for row in finished) + under_way
        measured = [row for row in finished if "took" in row]
        expected = sum(row["seconds"] for row in measured) + under_way
        taken = sum(row["took"] for row in measured)
        if under_way:
            taken += time.monotonic() - self.stage_started
        trust = min(1.0, 3 * expected / planned)
        pace = trust * (taken / expected if expected else 1.0) + (1 - trust)
        shown = [{name: row[name] for name in ("name", "seconds", "state")} for row in self.stages]
        # Stages that were not planned make the whole longer; nobody is told that less is done than was.
        self.furthest = max(self.furthest, min(1.0, done / planned))
        # The work is worth more than the news of it: without room for these it goes on as long as it can.
        with contextlib.suppress(StoreError):
            self.queue.report(self.job_id, self.current, shown, self.furthest, pace * (planned - done))
