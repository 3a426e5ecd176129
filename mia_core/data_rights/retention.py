"""What is kept for a set time, and goes then. Finished audits stay: their figures, and who was judged how.

Intermediates (models but the target, observations, scores, answers to lookups, half-made work, ended jobs and their logs) go when
nobody has used them for a while: they can be made again. Uploads (saved data sets, lists that were handed in, the copies of the
data that audits keep, and the models and splits that rest on these) go at a set age, however often they are used; files that were
uploaded and never saved as a data set go after a day in any case. An audit whose data went says so when it is asked for more than
its figures.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mia_core.data import library
from mia_core.errors import ConfigError
from mia_core.jobs.queue import Queue
from mia_core.report.forgetting import read_forgetting
from mia_core.report.results import AUDITS, RESULTS, read_result
from mia_core.storage import journal
from mia_core.storage.store import RECENT_SECONDS, Entry, Store

INTERMEDIATES, UPLOADS = "MIA_KEEP_INTERMEDIATES_DAYS", "MIA_KEEP_UPLOADS_DAYS"
DEFAULT_DAYS = 30.0
"""Of intermediates. Uploads stay until somebody deletes them, unless a time is set: they may be the only copy."""
DAY = 86_400.0
"""In seconds; an upload that nobody saved as a data set is kept for one."""


@dataclass(frozen=True)
class Rules:
    """Days that things are kept; None: until somebody deletes them."""

    intermediates: float | None = DEFAULT_DAYS
    """Since they were last used."""
    uploads: float | None = None
    """Since they were saved."""


@dataclass(frozen=True)
class Due:
    """What is past its time."""

    uploads: list[Entry]
    """Data, and what rests on them."""
    intermediates: list[Entry]
    files: list[Path]
    jobs: list[str]

    def counts(self) -> dict[str, int]:
        """How much of each kind."""
        return {
            "data_sets": sum(entry.kind in library.DATA for entry in self.uploads),
            "resting_on_them": sum(entry.kind not in library.DATA for entry in self.uploads),
            "intermediates": len(self.intermediates),
            "files": len(self.files),
            "jobs": len(self.jobs),
        }


def rules() -> Rules:
    """The times that the environment sets: a number of days, or ``never``.

    Raises:
        ConfigError: one of them is neither.
    """
    return Rules(_days(INTERMEDIATES, DEFAULT_DAYS), _days(UPLOADS, None))


def due(store: Store, kept: Rules, now: float | None = None) -> Due:
    """What is past its time; no artifact that was used within the last hour, since something may be reading it.

    Args:
        now: seconds since 1970; by default the clock of this machine.
    """
    now = time.time() if now is None else now
    everything = store.entries()
    idle = [entry for entry in everything if entry.kind not in RESULTS and not store.in_use(entry.key)]
    uploads: list[Entry] = []
    if kept.uploads is not None:
        past = {entry.key for entry in everything if now - _created(entry) > kept.uploads * DAY}
        gone, needed = _resting_on(store, {e.key for e in everything if e.kind in library.DATA and e.key in past})
        # What no result lists, such as the split of an audit that failed, goes at the same age.
        uploads = [e for e in idle if e.key in gone or (e.keep and e.key in past and e.key not in needed)]
    chosen = {entry.key for entry in uploads}
    intermediates: list[Entry] = []
    files, jobs = _of_before(now - DAY, (store.home / "uploads").glob("*")), []
    if kept.intermediates is not None:
        limit = now - kept.intermediates * DAY
        intermediates = [e for e in idle if not e.keep and e.last_used < limit and e.key not in chosen]
        working = [path for folder in ("scratch", "building", "logs") for path in (store.home / folder).glob("*")]
        files += _of_before(min(limit, now - RECENT_SECONDS), working)
        jobs = [job.id for job in Queue(store.home).jobs(limit=-1) if job.ended and _seconds(job.ended) < limit]
    if kept.uploads is not None:
        files += _of_before(now - kept.uploads * DAY, (store.home / "lists").glob("*"))
    return Due(uploads, intermediates, sorted(files), jobs)


def enforce(store: Store, kept: Rules, now: float | None = None) -> Due:
    """Deletes what is past its time, and notes it in the log where there was something."""
    found = due(store, kept, now)
    if not any(found.counts().values()):
        return found
    for entry in (*found.uploads, *found.intermediates):
        store.remove(entry.key)
    for path in found.files:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    if found.jobs:
        Queue(store.home).remove_where(lambda job: job.id in found.jobs)
    journal.note(store.home, "kept for its time and deleted", **found.counts())
    return found


def _resting_on(store: Store, data: set[str]) -> tuple[set[str], set[str]]:
    """(data, their copies, and everything that only results of these data rest on; what results of other data rest on)."""
    gone, needed = set(data), set[str]()
    found = [(read_result(entry.path), entry) for entry in store.entries(*AUDITS)]
    rests = [(result.config["data"].get("key"), result.data["key"], result.artifacts) for result, _ in found]
    checks = [read_forgetting(entry.path) for entry in store.entries("forgetting")]
    rests += [(check.config["experiment"]["data"].get("key"), check.data["key"], check.artifacts) for check in checks]
    results = {entry.key for entry in store.entries(*RESULTS)}
    for named, copy, artifacts in rests:
        past = {named, copy, library.key_of(copy)} & data
        (gone if past else needed).update(set(artifacts) - results)
    return gone - needed, needed


def _of_before(moment: float, paths: Iterable[Path]) -> list[Path]:
    """The files and folders that nobody has written to since."""
    found = []
    for path in paths:
        # Somebody may take it away meanwhile.
        with suppress(FileNotFoundError):
            found += [path] if path.stat().st_mtime < moment else []
    return found


def _created(entry: Entry) -> float:
    return _seconds(entry.created)


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def _days(name: str, default: float | None) -> float | None:
    text = os.environ.get(name, "").strip().lower()
    if not text:
        return default
    if text == "never":
        return None
    try:
        days = float(text)
    except ValueError:
        days = -1.0
    if not 0 < days < 100_000:
        raise ConfigError(f"{name} is {text[:40]!r}; give a number of days, more than 0, or 'never'")
    return days
