"""A real disk that is full or read-only: clear words, earlier results intact, and work goes on once there is room."""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psutil
import pytest
import torch
from safetensors.numpy import save_file

from mia_core.errors import StoreError
from mia_core.jobs import supervisor
from mia_core.jobs.queue import Queue, compact
from mia_core.jobs.supervisor import ensure_supervisor
from mia_core.storage.store import Store
from tests.jobs.waiting import over, wait
from tests.small_disk import fill, make_read_only, small_disk

A, B = "a" * 64, "b" * 64
SIZE = 4 * 2**20
BIG = np.zeros(2**20)


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A disk of a few megabytes with a home folder."""
    with small_disk(tmp_path, SIZE) as mounted:
        monkeypatch.setenv("MIA_HOME", str(mounted / "home"))
        yield mounted


def small(folder: Path) -> None:
    (folder / "text.txt").write_text("hello")


WRITERS: dict[str, Callable[[Path], object]] = {
    "numpy": lambda folder: np.save(folder / "x.npy", BIG),
    "parquet": lambda folder: pl.DataFrame({"x": np.random.default_rng(0).random(2**20)}).write_parquet(folder / "x"),
    "safetensors": lambda folder: save_file({"x": BIG}, folder / "x.safetensors"),
    "torch": lambda folder: torch.save({"x": torch.zeros(2**20)}, folder / "x.pt"),
    "text": lambda folder: (folder / "x.txt").write_text("x" * 2**23),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_every_kind_of_file_that_finds_no_room_is_explained(disk: Path, kind: str) -> None:
    store = Store(disk / "home")
    good = store.build(A, "model", small)
    with pytest.raises(StoreError, match=r"is full; free some space or set MIA_HOME .* what is finished is kept"):
        store.build(B, "model", WRITERS[kind])
    assert not list((store.home / "building").iterdir())
    assert store.find(B) is None
    assert store.find(A) == good
    store.build(B, "model", small)


def test_a_disk_without_any_room_shows_what_is_there_and_goes_on_when_there_is_some(disk: Path) -> None:
    store, queue = Store(disk / "home"), Queue(disk / "home")
    store.build(A, "audit", small, name="Mine", keep=True)
    waiting = queue.submit("toy", "Toy", {})
    filler = fill(disk)
    for one in (store, Store(disk / "home")):
        assert [entry.name for entry in one.entries("audit")] == ["Mine"]
        assert one.find(A) is not None
        with pytest.raises(StoreError, match="is full"):
            one.build(B, "model", WRITERS["text"])
    full = Store(disk / "home")
    assert Queue(disk / "home").get(waiting.id).state == "queued"
    with pytest.raises(StoreError, match="is full"):
        queue.submit("toy", "Toy", {"much": "x" * SIZE})
    with pytest.raises(StoreError, match="is full"):
        compact(queue.path)
    filler.unlink()
    queue.submit("toy", "Another", {"seconds": 1})
    full.build(B, "audit", small, name="Later", keep=True)
    for one in (store, full, Store(disk / "home")):
        assert {entry.name for entry in one.entries("audit")} == {"Mine", "Later"}


def test_a_disk_that_cannot_be_written_shows_what_is_there(disk: Path) -> None:
    store, queue = Store(disk / "home"), Queue(disk / "home")
    store.build(A, "audit", small, name="Mine", keep=True)
    job = queue.submit("toy", "Toy", {})
    store.close()
    make_read_only(disk)
    for one in (store, Store(disk / "home")):
        assert [entry.name for entry in one.entries("audit")] == ["Mine"]
        assert one.find(A) is not None
        for act in (lambda one=one: one.build(B, "model", small), lambda one=one: one.remove(A)):
            with pytest.raises(StoreError, match="cannot be written; set MIA_HOME"):
                act()
        assert one.find(A) is not None
    again = Queue(disk / "home")
    assert [found.id for found in again.jobs()] == [job.id]
    for act in (lambda: again.submit("toy", "Another", {"seconds": 1}), lambda: ensure_supervisor(disk / "home")):
        with pytest.raises(StoreError, match="cannot be written"):
            act()


def test_an_empty_home_that_cannot_be_written_says_so(disk: Path) -> None:
    make_read_only(disk)
    for begin in (Store, lambda home: Queue(home).submit("toy", "Toy", {})):
        with pytest.raises(StoreError, match=r"cannot be written|name a folder"):
            begin(disk / "home")


@pytest.fixture
def toys(disk: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home on that disk whose supervisor is quick and runs the toy kind of job."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    for name, value in {"JOB_RUNNER": "toy_runner", "POLL_SECONDS": "0.05", "IDLE_SECONDS": "2"}.items():
        monkeypatch.setenv(f"MIA_{name}", value)
    yield disk / "home"
    for process in psutil.process_iter(["cmdline"]):
        if str(disk / "home") in (process.info["cmdline"] or []):
            process.kill()


def test_a_job_that_cannot_even_begin_says_so_and_the_next_one_runs(
    toys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = Queue(toys)
    first, second = (queue.submit("toy", "Toy", {"seconds": 0.01, "number": number}) for number in range(2))
    start, starts = supervisor._start, iter([OSError(errno.ENOSPC, "No space left on device")])

    def begin(*given: Any) -> Any:
        for error in starts:
            raise error
        return start(*given)

    monkeypatch.setattr(supervisor, "_start", begin)
    monkeypatch.setattr(supervisor, "RUNNER", "toy_runner")
    monkeypatch.setattr(supervisor, "IDLE_SECONDS", 2.0)
    supervisor.supervise(toys)
    assert (queue.get(first.id).state, queue.get(second.id).state) == ("failed", "finished")
    assert "is full; free some space" in queue.get(first.id).message


def test_a_job_that_fills_the_disk_says_so_and_goes_on_where_it_was(disk: Path, toys: Path) -> None:
    queue, filler = Queue(toys), fill(disk, leaving=2**21)
    job = queue.submit("toy", "Toy", {"seconds": 0.2, "bytes": 2**20})
    ensure_supervisor(toys)
    failed = wait(queue, job.id, over, 30)
    assert failed.state == "failed"
    assert "is full; free some space" in failed.message
    before = (toys / "done.txt").read_text().split()[::2]
    assert len(Store(toys).entries("toy")) == len(before) - 1
    filler.unlink()
    again = queue.retry(job.id)
    ensure_supervisor(toys)
    assert wait(queue, again.id, over, 30).state == "finished"
    after = (toys / "done.txt").read_text().split()[::2]
    # The stage that found no room is all that was done twice.
    assert after == ["one", "two", "three"][: len(before)] + ["one", "two", "three"][len(before) - 1 :]


def test_a_job_that_waits_while_there_is_no_room_begins_by_itself_when_there_is(disk: Path, toys: Path) -> None:
    queue = Queue(toys)
    job = queue.submit("toy", "Toy", {"seconds": 0.1})
    (toys / "logs").mkdir()
    filler = fill(disk)
    with contextlib.suppress(StoreError):
        ensure_supervisor(toys)
    time.sleep(1.5)
    assert queue.get(job.id).state == "queued"
    filler.unlink()
    assert wait(queue, job.id, over, 30).state == "finished"
