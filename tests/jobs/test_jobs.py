"""Background jobs with real processes and real kills."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from mia_core.errors import NotFound, StoreError
from mia_core.jobs import supervisor
from mia_core.jobs.processes import created, living
from mia_core.jobs.progress import JobProgress
from mia_core.jobs.queue import TABLE, Job, Queue
from mia_core.jobs.run_job import read_lookup, run_lookup_job
from mia_core.jobs.supervisor import ensure_supervisor
from mia_core.report.results import Flag, LookupResult
from mia_core.storage.store import Store
from mia_core.types import StagePlan
from tests.jobs.waiting import wait

ROOT = Path(__file__).parents[2]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home whose supervisor is quick and runs the toy kind of job."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    for name, value in {
        "MIA_JOB_RUNNER": "toy_runner",
        "MIA_POLL_SECONDS": "0.05",
        "MIA_IDLE_SECONDS": "3",
        "MIA_GRACE_SECONDS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    folder = tmp_path / "home"
    yield folder
    for process in processes(folder):
        process.kill()


def processes(home: Path) -> list[psutil.Process]:
    return [p for p in psutil.process_iter(["cmdline"]) if str(home) in (p.info["cmdline"] or [])]


def supervisors(home: Path) -> list[psutil.Process]:
    return [p for p in processes(home) if "mia_core.jobs.supervisor" in p.cmdline()]


def launch(home: Path, **payload: Any) -> tuple[Queue, Job]:
    queue = Queue(home)
    job = queue.submit("toy", "Toy", {"seconds": 0.2, **payload})
    ensure_supervisor(home)
    return queue, job


def stages_built(home: Path) -> list[str]:
    return [line.split()[0] for line in (home / "done.txt").read_text().splitlines()]


def over(job: Job) -> bool:
    return job.state not in ("queued", "running")


def test_a_job_runs_to_its_result_with_progress(home: Path) -> None:
    queue, job = launch(home, seconds=0.5)
    seen = wait(queue, job.id, lambda j: j.stage == "two")
    assert seen.seconds_left is not None
    assert 0 < seen.fraction < 1
    assert [stage["state"] for stage in seen.stages] == ["done", "running", "waiting"]
    done = wait(queue, job.id, over)
    assert (done.state, done.fraction) == ("finished", 1.0)
    assert len(done.result_key) == 64


def test_a_job_that_was_killed_goes_on_at_its_last_finished_stage(home: Path) -> None:
    queue, job = launch(home, seconds=0.6)
    running = wait(queue, job.id, lambda j: j.stage == "two" and j.pid is not None)
    assert running.pid is not None
    os.kill(running.pid, signal.SIGKILL)
    assert wait(queue, job.id, over).state == "finished"
    assert stages_built(home) == ["one", "two", "two", "three"]
    assert queue.get(job.id).attempts == 2


def test_a_killed_supervisor_loses_nothing_and_the_next_one_adopts_the_job(home: Path) -> None:
    queue, job = launch(home, seconds=0.8)
    running = wait(queue, job.id, lambda j: j.stage == "one" and j.pid is not None)
    (old,) = supervisors(home)
    old.kill()
    old.wait(5)
    ensure_supervisor(home)
    assert wait(queue, job.id, over).state == "finished"
    assert queue.get(job.id).pid == running.pid
    assert stages_built(home) == ["one", "two", "three"]


def test_supervisor_and_job_killed_together_are_made_good(home: Path) -> None:
    queue, job = launch(home, seconds=0.6)
    running = wait(queue, job.id, lambda j: j.stage == "two" and j.pid is not None)
    for process in [*supervisors(home), psutil.Process(running.pid)]:
        process.kill()
        process.wait(5)
    ensure_supervisor(home)
    assert wait(queue, job.id, over).state == "finished"
    assert stages_built(home).count("one") == 1


def test_a_job_outlives_the_program_that_launched_it(home: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from mia_core.jobs.queue import Queue;"
        "from mia_core.jobs.supervisor import ensure_supervisor; h = Path(sys.argv[1]);"
        "print(Queue(h).submit('toy', 'Toy', {'seconds': 0.4}).id); ensure_supervisor(h); sys.stdout.flush();"
        "import os; os.kill(os.getpid(), 9)"
    )
    launched = subprocess.run(
        [sys.executable, "-c", code, str(home)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert launched.returncode == -signal.SIGKILL
    assert wait(Queue(home), launched.stdout.strip(), over).state == "finished"


def test_there_is_never_a_second_supervisor(home: Path) -> None:
    queue, job = launch(home, seconds=0.4)
    for _ in range(5):
        ensure_supervisor(home)
    wait(queue, job.id, over)
    assert len(supervisors(home)) == 1


def test_a_job_that_comes_while_the_supervisor_is_about_to_go_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue, rounds = Queue(tmp_path), []

    def leaves(self: supervisor._Supervisor) -> None:
        rounds.append(len(self.queue.active()))
        if len(rounds) == 1:
            queue.submit("toy", "Toy", {})
            ensure_supervisor(tmp_path)
        elif (job := queue.claim()) is not None:
            queue.finish(job.id, "k")

    started: list[object] = []
    monkeypatch.setattr(supervisor, "_start", lambda *command: started.append(command))
    monkeypatch.setattr(supervisor._Supervisor, "run", leaves)
    supervisor.supervise(tmp_path)
    assert rounds == [0, 1]
    assert not started
    assert [job.state for job in queue.jobs()] == ["finished"]


def test_cancel_stops_the_process(home: Path) -> None:
    queue, job = launch(home, seconds=20)
    running = wait(queue, job.id, lambda j: j.stage == "one" and j.pid is not None)
    assert running.pid is not None
    queue.cancel(job.id)
    assert wait(queue, job.id, over).state == "cancelled"
    end = time.monotonic() + 5
    while living(running.pid, running.process_created) and time.monotonic() < end:
        time.sleep(0.05)
    assert living(running.pid, running.process_created) is None


def test_another_process_with_the_same_number_is_never_taken_for_the_job() -> None:
    assert living(os.getpid(), created(os.getpid())) is not None
    assert living(os.getpid(), created(os.getpid()) - 100) is None


@pytest.mark.parametrize("hours", [-50, 50])
def test_a_clock_that_is_set_neither_ends_a_job_nor_starts_it_twice(
    home: Path, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    """The date of every process jumps, as when a clock is set; what runs is adopted by the next supervisor as before."""
    queue, job = launch(home, seconds=0.8)
    running = wait(queue, job.id, lambda j: j.stage == "one" and j.pid is not None)
    (old,) = supervisors(home)
    old.kill()
    old.wait(5)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(clock_set_by(hours, home)), str(Path(__file__).parent)]))
    ensure_supervisor(home)
    ended = wait(queue, job.id, over)
    assert (ended.state, ended.attempts, ended.pid) == ("finished", 1, running.pid)
    assert stages_built(home) == ["one", "two", "three"]


def clock_set_by(hours: int, home: Path) -> Path:
    """A folder that, on the path of a Python process, sets the date that it sees."""
    folder = home / "other clock"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        f"import time, psutil\nnow, boot = time.time, psutil.boot_time\ntime.time = lambda: now() + {hours * 3_600}\n"
        f"psutil.boot_time = lambda: boot() + {hours * 3_600}\n"
        f"psutil.Process.create_time = lambda self: self._proc.create_time() + {hours * 3_600}\n"
    )
    return folder


def test_jobs_are_done_in_the_order_in_which_they_came_whatever_the_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = Queue(tmp_path)
    first = queue.submit("toy", "First", {"n": 1})
    monkeypatch.setattr("mia_core.jobs.queue._now", lambda: "2001-01-01T00:00:00+00:00")
    second = queue.submit("toy", "Second", {"n": 2})
    assert [job.id for job in queue.active()] == [first.id, second.id]
    assert [job.id for job in queue.jobs()] == [second.id, first.id]
    claimed = queue.claim()
    assert claimed is not None
    assert claimed.id == first.id


def test_a_machine_that_slept_is_not_told_to_be_hours_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("mia_core.jobs.progress.time.monotonic", lambda: clock[0])
    now = time.time
    queue = Queue(tmp_path)
    progress = JobProgress(queue, queue.submit("toy", "Toy", {}).id)
    progress.plan([StagePlan("a", 10), StagePlan("b", 10)])
    progress.start("a")
    # Asleep for hours: the date goes on, the time of the machine does not.
    monkeypatch.setattr(time, "time", lambda: now() + 8 * 3_600)
    clock[0] = 10.0
    progress.finish("a", cached=False)
    assert queue.get(progress.job_id).seconds_left == pytest.approx(10.0)


def test_a_job_that_another_process_does_already_is_left_to_it(tmp_path: Path) -> None:
    queue = Queue(tmp_path)
    job = queue.submit("toy", "Toy", {})
    queue.claim()
    assert queue.started_as(job.id, 100, 1.0)
    assert queue.started_as(job.id, 100, 1.0)
    assert not queue.started_as(job.id, 101, 2.0)
    assert queue.get(job.id).pid == 100
    # Killed, and claimed again: it is anybody's.
    queue.process_died(queue.get(job.id))
    queue.claim()
    assert queue.started_as(job.id, 101, 2.0)
    queue.finish(job.id, "k")
    assert not queue.started_as(job.id, 102, 3.0)


def test_what_a_dead_job_had_started_is_ended_with_it(home: Path) -> None:
    queue, job = launch(home, seconds=20, child=True)
    running = wait(queue, job.id, lambda j: j.stage == "one" and (home / "child.txt").exists())
    assert running.pid is not None
    child = psutil.Process(int((home / "child.txt").read_text()))
    queue.cancel(job.id)
    os.kill(running.pid, signal.SIGKILL)
    assert wait(queue, job.id, over).state == "cancelled"
    end = time.monotonic() + 5
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE and time.monotonic() < end:
        time.sleep(0.05)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("harm", ["cut", "overwritten", "foreign"])
def test_a_damaged_job_table_is_begun_anew_and_said(tmp_path: Path, harm: str) -> None:
    queue = Queue(tmp_path)
    for number in range(50):
        queue.submit("toy", "Toy", {"number": number, "much": "x" * 1_000})
    content = queue.path.read_bytes()
    for path in tmp_path.glob("jobs.sqlite-*"):
        path.unlink()
    queue.path.write_bytes(
        {"cut": content[:5_000], "overwritten": content[:4_096] + bytes(len(content) - 4_096), "foreign": b"x" * 9_000}[
            harm
        ]
    )
    try:
        again = Queue(tmp_path)
        again.jobs(1_000)
    except StoreError as error:
        assert "a new one was begun" in str(error)  # noqa: PT017 - a table that cannot be opened at all is replaced in silence
    again = Queue(tmp_path)
    assert again.jobs() == []
    job = again.submit("toy", "Toy", {})
    assert again.get(job.id).state == "queued"


def test_a_waiting_job_is_cancelled_at_once_and_one_runs_at_a_time(home: Path) -> None:
    queue, first = launch(home, seconds=1.0)
    second = queue.submit("toy", "Later", {"seconds": 0.1})
    wait(queue, first.id, lambda j: j.state == "running")
    assert queue.get(second.id).state == "queued"
    queue.cancel(second.id)
    assert queue.get(second.id).state == "cancelled"


def test_an_explained_error_is_shown_as_it_is(home: Path) -> None:
    queue, job = launch(home, fail="two")
    failed = wait(queue, job.id, over)
    assert (failed.state, failed.message) == ("failed", "line 3, column rating: give a number")
    again = queue.retry(job.id)
    assert again.id != job.id
    wait(queue, again.id, over)
    assert stages_built(home).count("one") == 1


def test_an_unexpected_error_is_calm_and_its_log_holds_no_data(home: Path) -> None:
    queue, job = launch(home, **{"break": "one"})
    failed = wait(queue, job.id, over)
    assert failed.state == "failed"
    assert f"{job.id}.log" in failed.message
    log = (home / "logs" / f"{job.id}.log").read_text()
    assert "RuntimeError" in log
    assert "toy_runner.py" in log
    assert "secret-user-42" not in log + failed.message


def test_a_job_that_keeps_dying_fails_with_a_way_out(tmp_path: Path) -> None:
    queue = Queue(tmp_path)
    job = queue.submit("toy", "Toy", {})
    for _ in range(3):
        claimed = queue.claim()
        assert claimed is not None
        queue.process_died(claimed)
    failed = queue.get(job.id)
    assert failed.state == "failed"
    assert "smaller" in failed.message


def test_the_same_work_is_not_queued_twice(tmp_path: Path) -> None:
    queue = Queue(tmp_path)
    first = queue.submit("toy", "Toy", {"a": 1})
    assert queue.submit("toy", "Toy", {"a": 1}).id == first.id
    assert queue.submit("toy", "Toy", {"a": 2}).id != first.id
    claimed = queue.claim()
    assert claimed is not None
    assert claimed.id == first.id
    queue.finish(first.id, "k")
    assert queue.submit("toy", "Toy", {"a": 1}).id != first.id


def test_a_pasted_history_is_forgotten_when_its_job_has_ended(tmp_path: Path) -> None:
    queue = Queue(tmp_path)
    for end in (lambda i: queue.finish(i, "k"), lambda i: queue.fail(i, "no"), queue.cancel):
        job = queue.submit("lookup", "Lookup", {"audit": "x", "history": ["A private film"]})
        end(job.id)
        assert "history" not in queue.get(job.id).payload
    assert b"A private film" not in b"".join(p.read_bytes() for p in tmp_path.glob("jobs.sqlite"))


def test_an_unknown_job_is_explained(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no job 'nope'"):
        Queue(tmp_path).get("nope")


def test_the_time_left_follows_the_pace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("mia_core.jobs.progress.time.monotonic", lambda: clock[0])
    queue = Queue(tmp_path)
    job = queue.submit("toy", "Toy", {})
    progress = JobProgress(queue, job.id)
    progress.plan([StagePlan("a", 10), StagePlan("b", 10)])
    progress.start("a")
    clock[0] = 30.0
    progress.finish("a", cached=False)
    slow = queue.get(job.id)
    assert slow.fraction == pytest.approx(0.5)
    assert slow.seconds_left == pytest.approx(30.0)


def test_the_result_of_a_lookup_is_read_as_it_was_found(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    flag = Flag(0.5, True, 9, 10, 1, 11, "offsets")
    found = LookupResult("pasted history", "", "loss", 2, 9, ["Unheard of"], 1.5, 0.1, 20, 0.9, [1.0], [0.0], flag=flag)
    monkeypatch.setattr("mia_core.studies.lookup.lookup_history", lambda *given: found)
    queue = Queue(store.home)
    progress = JobProgress(queue, queue.submit("lookup", "Lookup", {}).id)
    key = run_lookup_job({"audit": "a" * 64, "history": ["Heat (1995)"]}, store, progress)
    assert read_lookup(store, key) == found


def test_first_figures_are_seen_while_a_job_runs_and_told_again_once_only(tmp_path: Path) -> None:
    queue = Queue(tmp_path)
    job = queue.submit("audit", "Audit", {})
    first = JobProgress(queue, job.id)
    first.tell("training", {"epoch": 0, "members": 3.0})
    first.tell("training", {"epoch": 1, "members": 2.0})
    # After a crash the epoch that was under way is run again.
    again = JobProgress(queue, job.id)
    again.tell("training", {"epoch": 1, "members": 2.5})
    assert queue.get(job.id).figures == {"training": [{"epoch": 0, "members": 3.0}, {"epoch": 1, "members": 2.5}]}


def test_a_job_table_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    old = TABLE.replace(", figures TEXT NOT NULL DEFAULT '{}'", "")
    assert old != TABLE
    with sqlite3.connect(tmp_path / "jobs.sqlite") as connection:
        connection.execute(old)
    job = Queue(tmp_path).submit("audit", "Audit", {})
    assert Queue(tmp_path).get(job.id).figures == {}
