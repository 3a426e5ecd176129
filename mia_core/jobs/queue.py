"""The job table: SQLite in write-ahead mode, shared by the app, the command line, the supervisor and the jobs."""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mia_core.errors import NotFound

ACTIVE = ("queued", "running")
MOST_ATTEMPTS = 3

TABLE = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL, payload TEXT NOT NULL, state TEXT NOT NULL,
    stage TEXT NOT NULL DEFAULT '', stages TEXT NOT NULL DEFAULT '[]', fraction REAL NOT NULL DEFAULT 0,
    seconds_left REAL, message TEXT NOT NULL DEFAULT '', created TEXT NOT NULL, started TEXT, ended TEXT,
    result_key TEXT NOT NULL DEFAULT '', pid INTEGER, process_created REAL, heartbeat REAL,
    attempts INTEGER NOT NULL DEFAULT 0, cancel_asked INTEGER NOT NULL DEFAULT 0, figures TEXT NOT NULL DEFAULT '{}'
)
"""
LATER = {"figures": "TEXT NOT NULL DEFAULT '{}'"}
"""Columns that tables of earlier versions lack."""


@dataclass(frozen=True)
class Job:
    """One piece of background work."""

    id: str
    kind: str
    """audit, study or lookup."""
    name: str
    state: str
    """queued, running, finished, failed, cancelled."""
    stage: str
    stages: list[dict[str, Any]]
    """name, seconds (expected), state (waiting, running, done, cached)."""
    fraction: float
    seconds_left: float | None
    message: str
    """Why it failed, for people."""
    created: str
    started: str | None
    ended: str | None
    payload: dict[str, Any]
    result_key: str
    pid: int | None
    process_created: float | None
    """When the process was created: tells it from another process with the same number."""
    attempts: int
    cancel_asked: bool
    figures: dict[str, list[dict[str, Any]]]
    """First figures while it runs: rows of `training` and of `scores`."""


class Queue:
    """The jobs of one home folder."""

    def __init__(self, home: Path) -> None:
        self.path = Path(home) / "jobs.sqlite"
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._connection() as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(TABLE)
            there = {row["name"] for row in connection.execute("PRAGMA table_info(jobs)")}
            for name, kind in LATER.items():
                if name not in there:
                    connection.execute(f"ALTER TABLE jobs ADD COLUMN {name} {kind}")
        self.path.chmod(0o600)

    def submit(self, kind: str, name: str, payload: Mapping[str, Any]) -> Job:
        """Queues a job. The same work that is already waiting or running is not queued twice."""
        text = json.dumps(payload, ensure_ascii=False, sort_keys=True)
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            same = connection.execute(
                "SELECT id FROM jobs WHERE kind = ? AND payload = ? AND state IN ('queued', 'running') AND cancel_asked = 0",
                (kind, text),
            ).fetchone()
            job_id = same["id"] if same else uuid.uuid4().hex[:16]
            if not same:
                connection.execute(
                    "INSERT INTO jobs (id, kind, name, payload, state, created) VALUES (?, ?, ?, ?, 'queued', ?)",
                    (job_id, kind, name, text, _now()),
                )
        return self.get(job_id)

    def finished(self, kind: str, payload: Mapping[str, Any]) -> Job | None:
        """The newest finished job that did just this work, if there is one."""
        text = json.dumps(payload, ensure_ascii=False, sort_keys=True)
        clause = "WHERE kind = ? AND payload = ? AND state = 'finished' ORDER BY created DESC, rowid DESC LIMIT 1"
        return next(iter(self._select(clause, kind, text)), None)

    def get(self, job_id: str) -> Job:
        """One job.

        Raises:
            NotFound: there is none of that id.
        """
        with self._connection() as connection:
            row = connection.execute("SELECT * FROM jobs WHERE id = ?", (job_id,)).fetchone()
        if row is None:
            raise NotFound(f"there is no job {job_id[:40]!r}; past audits are listed on the Audit page")
        return _job(row)

    def jobs(self, limit: int = 50) -> list[Job]:
        """The newest jobs first."""
        return self._select("ORDER BY created DESC, rowid DESC LIMIT ?", limit)

    def active(self) -> list[Job]:
        """Jobs that wait or run, the oldest first."""
        return self._select("WHERE state IN ('queued', 'running') ORDER BY created, rowid")

    def cancel(self, job_id: str) -> None:
        """A waiting job is cancelled at once; a running one is asked to stop (the supervisor sees to it)."""
        with self._connection() as connection:
            connection.execute("UPDATE jobs SET cancel_asked = 1 WHERE id = ? AND state = 'running'", (job_id,))
            connection.execute(
                "UPDATE jobs SET state = 'cancelled', ended = ? WHERE id = ? AND state = 'queued'", (_now(), job_id)
            )
        self._forget_history(job_id)

    def retry(self, job_id: str) -> Job:
        """Queues the same work again."""
        job = self.get(job_id)
        return self.submit(job.kind, job.name, job.payload)

    def remove(self, job_id: str) -> None:
        """Deletes a job that is not active from the list; results stay in the store."""
        with self._connection() as connection:
            connection.execute("DELETE FROM jobs WHERE id = ? AND state NOT IN ('queued', 'running')", (job_id,))

    # What the supervisor and the job's own process say

    def claim(self) -> Job | None:
        """The oldest waiting job, now marked as running; no two callers get the same."""
        with self._connection() as connection:
            row = connection.execute(
                "UPDATE jobs SET state = 'running', attempts = attempts + 1, started = COALESCE(started, ?), heartbeat = ?, "
                "pid = NULL, process_created = NULL "
                "WHERE id = (SELECT id FROM jobs WHERE state = 'queued' ORDER BY created, rowid LIMIT 1) RETURNING id",
                (_now(), time.time()),
            ).fetchone()
        return self.get(row["id"]) if row else None

    def started_as(self, job_id: str, pid: int, process_created: float) -> None:
        """Records the process that does the work."""
        self._update(job_id, pid=pid, process_created=process_created, heartbeat=time.time())

    def beat(self, job_id: str) -> None:
        """The process is alive."""
        self._update(job_id, heartbeat=time.time())

    def report(
        self, job_id: str, stage: str, stages: list[dict[str, Any]], fraction: float, seconds_left: float | None
    ) -> None:
        """Progress."""
        self._update(
            job_id,
            stage=stage,
            stages=json.dumps(stages),
            fraction=fraction,
            seconds_left=seconds_left,
            heartbeat=time.time(),
        )

    def tell(self, job_id: str, figures: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        """First figures."""
        self._update(job_id, figures=json.dumps(figures, ensure_ascii=False))

    def finish(self, job_id: str, result_key: str) -> None:
        """The work is done."""
        self._end(job_id, state="finished", result_key=result_key, fraction=1.0, seconds_left=0.0)

    def fail(self, job_id: str, message: str) -> None:
        """The work cannot be done; `message` says why and what to do."""
        self._end(job_id, state="failed", message=message)

    def cancelled(self, job_id: str) -> None:
        """The work was stopped as asked."""
        self._end(job_id, state="cancelled")

    def process_died(self, job: Job) -> None:
        """Its process is gone: stopped as asked, back into the queue, or, after several attempts, failed."""
        if job.cancel_asked:
            self.cancelled(job.id)
        elif job.attempts >= MOST_ATTEMPTS:
            self.fail(
                job.id,
                f"The process of this audit died {job.attempts} times, often for lack of memory. Choose fewer windows, a "
                "smaller model or a smaller batch size; what was finished is kept.",
            )
        else:
            self._update(job.id, state="queued", pid=None, process_created=None)

    def _end(self, job_id: str, **values: Any) -> None:
        with self._connection() as connection:
            columns = ", ".join(f"{name} = ?" for name in values)
            connection.execute(
                f"UPDATE jobs SET {columns}, ended = ? WHERE id = ? AND state IN ('queued', 'running')",  # noqa: S608
                (*values.values(), _now(), job_id),
            )
        self._forget_history(job_id)

    def _forget_history(self, job_id: str) -> None:
        """A pasted history is personal data: it goes from the table when its job has ended."""
        job = self.get(job_id)
        if job.state not in ACTIVE and "history" in job.payload:
            kept = {name: value for name, value in job.payload.items() if name != "history"}
            self._update(job_id, payload=json.dumps(kept, ensure_ascii=False, sort_keys=True))

    def _update(self, job_id: str, **values: Any) -> None:
        columns = ", ".join(f"{name} = ?" for name in values)
        with self._connection() as connection:
            connection.execute(f"UPDATE jobs SET {columns} WHERE id = ?", (*values.values(), job_id))  # noqa: S608

    def _select(self, clause: str, *values: Any) -> list[Job]:
        with self._connection() as connection:
            return [_job(row) for row in connection.execute(f"SELECT * FROM jobs {clause}", values)]  # noqa: S608

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(self.path, timeout=20, isolation_level=None)
        connection.row_factory = sqlite3.Row
        try:
            yield connection
            if connection.in_transaction:
                connection.commit()
        finally:
            connection.close()


def _job(row: sqlite3.Row) -> Job:
    values = {name: row[name] for name in row.keys() if name != "heartbeat"}  # noqa: SIM118 - a Row iterates its values
    values["payload"] = json.loads(values["payload"])
    values["stages"] = json.loads(values["stages"])
    values["figures"] = json.loads(values["figures"])
    values["cancel_asked"] = bool(values["cancel_asked"])
    return Job(**values)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
