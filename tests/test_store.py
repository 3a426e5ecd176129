from __future__ import annotations

import json
import multiprocessing
import pickle
import shutil
import sqlite3
import stat
import time
from pathlib import Path

import pytest

from mia_core import store as store_module
from mia_core.errors import StoreError
from mia_core.store import Store

A, B, C = (letter * 64 for letter in "abc")


def hello(folder: Path) -> None:
    (folder / "text.txt").write_text("hello")


def test_an_artifact_is_built_once_and_found_again(store: Store) -> None:
    built = []

    def write(folder: Path) -> None:
        built.append(folder)
        hello(folder)

    assert store.find(A) is None
    first = store.build(A, "model", write, name="M")
    assert store.build(A, "model", write) == first == store.find(A)
    assert len(built) == 1
    assert (first / "text.txt").read_text() == "hello"
    (entry,) = Store(store.home).entries("model")
    assert (entry.key, entry.name, entry.keep, entry.bytes) == (A, "M", False, 5)


def test_a_build_that_fails_leaves_nothing_but_its_scratch(store: Store) -> None:
    def fail(folder: Path) -> None:
        hello(folder)
        (store.scratch(A) / "checkpoint").write_text("epoch 3")
        raise ValueError("stopped")

    with pytest.raises(ValueError, match="stopped"):
        store.build(A, "model", fail)
    assert store.find(A) is None
    assert not list((store.home / "building").iterdir())
    assert (store.scratch(A) / "checkpoint").read_text() == "epoch 3"
    store.build(A, "model", hello)
    assert not list(store.scratch(A).iterdir())


def _build_slowly(home: str, marks: str) -> None:
    def write(folder: Path) -> None:
        time.sleep(0.4)
        with open(marks, "a") as stream:
            stream.write("built\n")
        hello(folder)

    Store(Path(home)).build(A, "model", write)


def test_two_processes_build_a_key_once(store: Store, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_build_slowly, args=(str(store.home), str(marks))) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert marks.read_text() == "built\n"
    assert store.find(A) is not None


class Evil:
    """Unpickling this creates a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (self.path, "w")


def test_a_pickled_row_is_never_opened(store: Store, tmp_path: Path) -> None:
    store.build(A, "model", hello)
    store.close()
    planted = tmp_path / "owned"
    with sqlite3.connect(store.home / "index" / "cache.db") as database:
        row = sqlite3.Binary(pickle.dumps(Evil(str(planted))))
        database.execute("UPDATE Cache SET mode = 4, value = ?, filename = NULL", (row,))
    again = Store(store.home)
    assert not planted.exists()
    assert [entry.key for entry in again.entries()] == [A]


def test_a_lost_or_broken_index_is_rebuilt_from_the_artifacts(store: Store) -> None:
    store.build(A, "audit", hello, name="Mine", keep=True)
    store.close()
    (store.home / "index" / "cache.db").write_bytes(b"not a database" * 100)
    assert [(e.key, e.name, e.keep) for e in Store(store.home).entries()] == [(A, "Mine", True)]
    shutil.rmtree(store.home / "index")
    assert [(e.key, e.name, e.keep) for e in Store(store.home).entries()] == [(A, "Mine", True)]


def test_the_least_recently_used_intermediate_goes_first_and_audits_never(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "RECENT_SECONDS", 0.0)
    store = Store(tmp_path, budget_bytes=12)
    store.build(A, "audit", hello, keep=True)
    for key in (B, C):
        store.build(key, "model", hello)
        time.sleep(0.01)
    store.build("d" * 64, "model", hello)
    assert {entry.key[0] for entry in store.entries()} == {"a", "c", "d"}


def test_what_was_just_used_is_not_evicted(tmp_path: Path) -> None:
    store = Store(tmp_path, budget_bytes=1)
    for key in (A, B):
        store.build(key, "model", hello)
    assert len(store.entries()) == 2


def test_the_folder_is_private(store: Store) -> None:
    assert stat.S_IMODE(store.home.stat().st_mode) == 0o700


@pytest.mark.parametrize("key", ["", "../../etc/passwd", "A" * 64, "a" * 63, "a" * 65])
def test_no_key_leads_out_of_the_store(store: Store, key: str) -> None:
    assert store.find(key) is None
    for act in (store.remove, store.scratch):
        with pytest.raises(StoreError, match="not a content key"):
            act(key)


@pytest.mark.parametrize("version", [0, 2, "x"])
def test_a_store_of_another_version_is_refused_untouched(store: Store, version: object) -> None:
    (store.home / "schema.json").write_text(json.dumps({"version": version}))
    with pytest.raises(StoreError, match="MIA_HOME"):
        Store(store.home)


def test_a_full_disk_is_explained(store: Store) -> None:
    def full(folder: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(StoreError, match=r"disk .* is full"):
        store.build(A, "model", full)
