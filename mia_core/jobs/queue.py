"""The job table: SQLite in write-ahead mode, shared by the app, the command line, the supervisor and the jobs."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

from mia_core.errors import NotFound, StoreError
from mia_core.limits import check_jobs, check_kept
from mia_core.storage.disk import can_write, explained
from mia_core.storage.store import Store

MOST_ATTEMPTS = 3

TABLE = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL, payload TEXT NOT NULL, state TEXT NOT NULL,
    stage TEXT NOT NULL DEFAULT '', stages TEXT NOT NULL DEFAULT '[]', fraction REAL NOT NULL DEFAULT 0,
    seconds_left REAL, message TEXT NOT NULL DEFAULT '', created TEXT NOT NULL, started TEXT, ended TEXT,
    result_key TEXT NOT NULL DEFAULT '', pid INTEGER, process_created REAL,
    attempts INTEGER NOT NULL DEFAULT 0, cancel_asked INTEGER NOT NULL DEFAULT 0, figures TEXT NOT NULL DEFAULT '{}'
)
"""
LATER = {"figures": "TEXT NOT NULL DEFAULT '{}'"}
"""Columns that tables of earlier versions lack."""


class Damaged(StoreError):
    """The job table could not be read; there is a new, empty one now."""


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
    """When the process was created (see `processes.created`): tells it from another process with the same number."""
    attempts: int
    cancel_asked: bool
    figures: dict[str, list[dict[str, Any]]]
    """First figures while it runs: rows of `training` and of `scores`."""

    @property
    def active(self) -> bool:
        """Whether it waits or runs."""
        return self.state in ("queued", "running")


class Queue:
    """The jobs of one home folder."""

    def __init__(self, home: Path) -> None:
        self.path = Path(home) / "jobs.sqlite"
        with explained(self.path.parent):
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if can_write(self.path.parent):
            try:
                self._prepare()
            except Damaged:
                self._prepare()
            except StoreError:
                # Without room for more, what is there is shown all the same.
                if not self.path.is_file():
                    raise

    def _prepare(self) -> None:
        with self._connection() as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(TABLE)
            there = {row["name"] for row in connection.execute("PRAGMA table_info(jobs)")}
            for name, kind in LATER.items():
                if name not in there:
                    connection.execute(f"ALTER TABLE jobs ADD COLUMN {name} {kind}")
            if self.path.stat().st_mode & 0o777 != 0o600:
                self.path.chmod(0o600)

    def submit(self, kind: str, name: str, payload: Mapping[str, Any]) -> Job:
        """Queues a job. The same work that is already waiting or running is not queued twice.

        Raises:
            LimitReached: too many of this home wait or run already, or what it keeps takes too much room.
        """
        with closing(Store(self.path.parent)) as store:
            check_kept(store.size)
        text = json.dumps(payload, ensure_ascii=False, sort_keys=True)
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            same = connection.execute(
                "SELECT id FROM jobs WHERE kind = ? AND payload = ? AND state IN ('queued', 'running') AND cancel_asked = 0",
                (kind, text),
            ).fetchone()
            job_id = same["id"] if same else uuid.uuid4().hex[:16]
            if not same:
                count = "SELECT COUNT(*) FROM jobs WHERE state IN ('queued', 'running')"
                check_jobs(connection.execute(count).fetchone()[0])
                connection.execute(
                    "INSERT INTO jobs (id, kind, name, payload, state, created) VALUES (?, ?, ?, ?, 'queued', ?)",
                    (job_id, kind, name, text, _now()),
                )
        return self.get(job_id)

    def finished(self, kind: str, payload: Mapping[str, Any]) -> Job | None:
        """The newest finished job that did just this work, if there is one."""
        text = json.dumps(payload, ensure_ascii=False, sort_keys=True)
        clause = "WHERE kind = ? AND payload = ? AND state = 'finished' ORDER BY rowid DESC LIMIT 1"
        return next(iter(self._select(clause, kind, text)), None)

    def get(self, job_id: str) -> Job:
        """One job.

        Raises:
            NotFound: there is none of that id.
        """
        found = self._select("WHERE id = ?", job_id)
        if not found:
            raise NotFound(f"there is no job {job_id[:40]!r}; past audits are listed on the Audit page")
        return found[0]

    def jobs(self, limit: int = 50) -> list[Job]:
        """The newest jobs first."""
        return self._select("ORDER BY rowid DESC LIMIT ?", limit)

    def active(self) -> list[Job]:
        """Jobs that wait or run, the oldest first."""
        return self._select("WHERE state IN ('queued', 'running') ORDER BY rowid")

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

    def remove_where(self, unwanted: Callable[[Job], bool]) -> int:
        """Deletes ended jobs so that nothing of them is left in the file, either; returns how many."""
        gone = [job.id for job in self._select("WHERE state NOT IN ('queued', 'running')") if unwanted(job)]
        with self._connection() as connection:
            connection.executemany("DELETE FROM jobs WHERE id = ?", [(job_id,) for job_id in gone])
        compact(self.path)
        return len(gone)

    def follow(self, keys: Mapping[str, str]) -> None:
        """What came of finished jobs lies under new keys."""
        with self._connection() as connection:
            connection.executemany(
                "UPDATE jobs SET result_key = ? WHERE result_key = ?", [(new, old) for old, new in keys.items()]
            )

    # What the supervisor and the job's own process say

    def claim(self) -> Job | None:
        """The oldest waiting job, now marked as running; no two callers get the same."""
        with self._connection() as connection:
            row = connection.execute(
                "UPDATE jobs SET state = 'running', attempts = attempts + 1, started = COALESCE(started, ?), "
                "pid = NULL, process_created = NULL "
                "WHERE id = (SELECT id FROM jobs WHERE state = 'queued' ORDER BY rowid LIMIT 1) RETURNING id",
                (_now(),),
            ).fetchone()
        return self.get(row["id"]) if row else None

    def started_as(self, job_id: str, pid: int, process_created: float) -> bool:
        """Records the process that does the work; returns whether it is this one, or else another does it already."""
        with self._connection() as connection:
            taken = connection.execute(
                "UPDATE jobs SET pid = ?, process_created = ? "
                "WHERE id = ? AND state = 'running' AND (pid IS NULL OR pid = ?)",
                (pid, process_created, job_id, pid),
            )
            return taken.rowcount == 1

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
        if not job.active and "history" in job.payload:
            kept = {name: value for name, value in job.payload.items() if name != "history"}
            self._update(job_id, payload=json.dumps(kept, ensure_ascii=False, sort_keys=True))

    def _update(self, job_id: str, **values: Any) -> None:
        columns = ", ".join(f"{name} = ?" for name in values)
        with self._connection() as connection:
            connection.execute(f"UPDATE jobs SET {columns} WHERE id = ?", (*values.values(), job_id))  # noqa: S608

    def _select(self, clause: str, *values: Any) -> list[Job]:
        query = f"SELECT * FROM jobs {clause}"  # noqa: S608
        try:
            with self._connection() as connection:
                return [_job(row) for row in connection.execute(query, values)]
        except StoreError as error:
            if isinstance(error, Damaged):
                raise
        # SQLite needs some room to read beside others. What was written last may be missing here, and is seen later.
        with closing(self._as_it_lies()) as connection:
            connection.row_factory = sqlite3.Row
            return [_job(row) for row in connection.execute(query, values)]

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        with explained(self.path.parent):
            connection = self._opened()
            connection.row_factory = sqlite3.Row
            try:
                yield connection
                if connection.in_transaction:
                    connection.commit()
            except sqlite3.DatabaseError as error:
                if error.sqlite_errorcode not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                    raise
                connection.close()
                self._begin_anew()
                raise Damaged(
                    "the list of jobs was damaged on the disk, and a new one was begun. Nothing that was finished is lost; "
                    "launch again what was waiting or running: it goes on from its last finished stage"
                ) from None
            finally:
                connection.close()

    def _opened(self) -> sqlite3.Connection:
        if can_write(self.path.parent):
            return sqlite3.connect(self.path, timeout=20, isolation_level=None)
        return self._as_it_lies()

    def _as_it_lies(self) -> sqlite3.Connection:
        """The table for reading alone, without so much as a lock: for a disk that takes nothing more."""
        if self.path.is_file():
            return sqlite3.connect(f"{self.path.as_uri()}?mode=ro&immutable=1", uri=True, isolation_level=None)
        empty = sqlite3.connect(":memory:", isolation_level=None)
        empty.execute(TABLE)
        return empty

    def _begin_anew(self) -> None:
        """Deletes a job table that SQLite cannot read; whoever comes second finds the new one whole."""
        with FileLock(self.path.with_suffix(".lock"), mode=0o600):
            try:
                connection = sqlite3.connect(self.path, timeout=20)
                whole = connection.execute("PRAGMA quick_check(1)").fetchone() == ("ok",)
                connection.close()
            except sqlite3.DatabaseError:
                whole = False
            if not whole:
                for path in self.path.parent.glob(f"{self.path.name}*"):
                    path.unlink(missing_ok=True)


def compact(path: Path) -> None:
    """Takes deleted rows out of the file of a database, where they stay to be read otherwise.

    Raises:
        StoreError: the disk is full, or cannot be written.
    """
    with (
        explained(path.parent),
        closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=20, isolation_level=None)
        ) as connection,
    ):
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _job(row: sqlite3.Row) -> Job:
    # A table of a later version may have columns of which this one knows nothing.
    values = {field.name: row[field.name] for field in dataclasses.fields(Job)}
    values["payload"] = json.loads(values["payload"])
    values["stages"] = json.loads(values["stages"])
    values["figures"] = json.loads(values["figures"])
    values["cancel_asked"] = bool(values["cancel_asked"])
    return Job(**values)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
