"""One job in a process of its own: `python -m mia_core.jobs.run_job HOME JOB_ID`."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from mia_core.errors import Cancelled, MemberScopeError, NotFound, Stopped, StoreError
from mia_core.experiment import Runtime, parse_experiment
from mia_core.jobs.places import place
from mia_core.jobs.processes import created
from mia_core.jobs.progress import JobProgress
from mia_core.jobs.queue import Queue
from mia_core.keys import content_key
from mia_core.report.results import Flag, LookupResult, WithoutResult, WithoutRow
from mia_core.storage import journal
from mia_core.storage.disk import explained
from mia_core.storage.store import Store


def run_audit_job(payload: dict[str, Any], store: Store, progress: JobProgress) -> str:
    """A whole audit; returns its key."""
    # torch takes seconds to import, which a queued job should not cost anybody but itself.
    from mia_core.pipeline import run_audit

    experiment = parse_experiment(payload["experiment"])
    return run_audit(experiment, store, progress, Runtime.model_validate(payload.get("runtime", {}))).key


def run_measure_job(payload: dict[str, Any], store: Store, progress: JobProgress) -> str:
    """What this machine does in a second of the work of an audit; returns the key of what was measured."""
    from mia_core.planning.throughput import measure

    runtime = Runtime.model_validate(payload.get("runtime", {}))
    return measure(parse_experiment(payload["experiment"]), store, runtime, progress)


def run_study_job(payload: dict[str, Any], store: Store, progress: JobProgress) -> str:
    """All audits of a study; returns its key."""
    from mia_core.studies.study import parse_study, run_study

    study = parse_study(payload["study"])
    return run_study(study, store, progress, Runtime.model_validate(payload.get("runtime", {}))).key


def run_defend_job(payload: dict[str, Any], store: Store, progress: JobProgress) -> str:
    """Defences tried on an audit; returns the key of what was found."""
    from mia_core.studies.defending import parse_defending, run_defending

    defending = parse_defending(payload["defending"])
    return run_defending(defending, store, progress, Runtime.model_validate(payload.get("runtime", {}))).key


def run_forget_job(payload: dict[str, Any], store: Store, progress: JobProgress) -> str:
    """A check whether a model has forgotten; returns its key."""
    from mia_core.studies.forgetting import parse_forgetting, run_forgetting

    forgetting = parse_forgetting(payload["forgetting"])
    return run_forgetting(forgetting, store, progress, Runtime.model_validate(payload.get("runtime", {}))).key


def run_lookup_job(payload: dict[str, Any], store: Store, progress: JobProgress) -> str:
    """The score of one pasted history; returns the key of its result."""
    from mia_core.studies.lookup import lookup_history

    runtime = Runtime.model_validate(payload.get("runtime", {}))
    key = content_key("lookup", 2, {"history": payload["history"]}, [payload["audit"]])
    return _keep_answer(
        store, key, "lookup", lambda: lookup_history(payload["audit"], payload["history"], store, progress, runtime)
    )


def read_lookup(store: Store, key: str) -> LookupResult:
    """The result of a lookup job."""
    document = _kept_answer(store, key, "lookup")
    if document.get("flag"):
        document["flag"] = Flag(**document["flag"])
    return LookupResult(**document)


def run_without_job(payload: dict[str, Any], store: Store, progress: JobProgress) -> str:
    """A person's score without each of their interactions; returns the key of its result."""
    from mia_core.studies.without import score_without_each

    runtime = Runtime.model_validate(payload.get("runtime", {}))
    key = content_key("without", 1, {"user": payload["user"]}, [payload["audit"]])
    return _keep_answer(
        store, key, "without", lambda: score_without_each(payload["audit"], payload["user"], store, progress, runtime)
    )


def read_without(store: Store, key: str) -> WithoutResult:
    """The result of a job that scored a person without each interaction."""
    document = _kept_answer(store, key, "without")
    return WithoutResult(**{**document, "rows": [WithoutRow(**row) for row in document["rows"]]})


def _keep_answer(store: Store, key: str, kind: str, answer: Callable[[], LookupResult | WithoutResult]) -> str:
    def write(folder: Path) -> None:
        text = json.dumps(dataclasses.asdict(answer()), ensure_ascii=False)
        (folder / f"{kind}.json").write_text(text, encoding="utf-8")

    store.build(key, kind, write)
    return key


def _kept_answer(store: Store, key: str, kind: str) -> dict[str, Any]:
    folder = store.find(key)
    if folder is None:
        raise NotFound("this answer is no longer in the store; ask again")
    document: dict[str, Any] = json.loads((folder / f"{kind}.json").read_text(encoding="utf-8"))
    return document


KINDS: dict[str, Callable[[dict[str, Any], Store, JobProgress], str]] = {
    "audit": run_audit_job,
    "study": run_study_job,
    "defend": run_defend_job,
    "forget": run_forget_job,
    "lookup": run_lookup_job,
    "without": run_without_job,
    "measure": run_measure_job,
}
WORDS = {
    "audit": "audit",
    "study": "study",
    "defend": "comparison of defences",
    "forget": "check of forgetting",
    "lookup": "lookup of a history",
    "without": "lookup without single interactions",
    "measure": "measurement of this machine",
}
"""What pages and the log call the work of each kind of job."""


def run_job(home: Path, job_id: str) -> int:
    """Does the work of a job and records how it ended; returns the exit code."""
    queue = Queue(home)
    job = queue.get(job_id)
    if not queue.started_as(job_id, os.getpid(), created(os.getpid())):
        # Started by a supervisor that died before it noted so, and started again by the next.
        return 0
    with contextlib.suppress(OSError):
        # Whoever looks at pages meanwhile comes first.
        os.nice(15)
    signal.signal(signal.SIGTERM, _stop)
    try:
        with explained(home), place(home):
            store = Store(home)
            with journal.work(home, WORDS[job.kind], job=job_id, **_subject(home, job.payload)) as finished:
                key = KINDS[job.kind](job.payload, store, JobProgress(queue, job_id))
                finished(key=key)
            queue.finish(job_id, key)
    except Stopped:
        _noted(lambda: queue.cancelled(job_id))
        return Cancelled.exit_code
    except MemberScopeError as error:
        told = str(error)
        _noted(lambda: queue.fail(job_id, told))
        return error.exit_code
    except Exception as error:
        _log(error)
        told = (
            f"Something went wrong inside MemberScope ({type(error).__name__}). What was finished is kept. Where it "
            f"happened is in the log {job_id}.log in the store's logs folder; no data of anybody is in it."
        )
        _noted(lambda: queue.fail(job_id, told))
        return 1
    return 0


def _subject(home: Path, payload: dict[str, Any]) -> dict[str, str]:
    """What a job asks, and about whom, as the log may say it."""
    asked = {"audit": str(payload["audit"])} if "audit" in payload else {}
    return asked | ({"person": journal.person(home, str(payload["user"]))} if "user" in payload else {})


def _noted(end: Callable[[], None]) -> None:
    """Notes how a job ended; without room for that the supervisor puts it into the queue again once there is some."""
    with contextlib.suppress(StoreError):
        end()


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stopped


def _log(error: BaseException) -> None:
    """Where an unexpected error happened, without its message: that may hold somebody's data."""
    print(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {type(error).__name__}", file=sys.stderr)  # noqa: T201
    for at in traceback.extract_tb(error.__traceback__):
        print(f"  {at.filename}:{at.lineno} in {at.name}", file=sys.stderr)  # noqa: T201


if __name__ == "__main__":
    journal.by_way_of("job")
    sys.exit(run_job(Path(sys.argv[1]), sys.argv[2]))
