from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import shutil
import sqlite3
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from mia_core.errors import StoreError
from mia_core.keys import file_key
from mia_core.storage import integrity
from mia_core.storage import store as store_module
from mia_core.storage.index import open_index
from mia_core.storage.store import Store

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
    Store(tmp_path).build(A, "audit", hello, keep=True)
    for key in (B, C):
        Store(tmp_path).build(key, "model", hello)
        time.sleep(0.01)
    store = Store(tmp_path, budget_bytes=12)
    store.build("d" * 64, "model", hello)
    assert {entry.key[0] for entry in store.entries()} == {"a", "c", "d"}


def test_work_that_takes_long_keeps_what_it_has_made_and_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    since_start, hours = time.monotonic, 0
    monkeypatch.setattr(time, "monotonic", lambda: since_start() + hours * 3_600)
    Store(tmp_path).build(A, "model", hello)
    mine, others = (Store(tmp_path, budget_bytes=1) for _ in range(2))
    mine.find(A)
    hours = 5
    mine.build(B, "model", hello)
    # Somebody else is told of it, and leaves it alone, too.
    others.build(C, "model", hello)
    assert {entry.key for entry in mine.entries()} == {A, B, C}
    hours = 10
    others.build("d" * 64, "model", hello)
    assert {entry.key for entry in mine.entries()} == {C, "d" * 64}


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


@pytest.mark.parametrize("version", [0, 3, "x"])
def test_a_store_of_another_version_is_refused_untouched(store: Store, version: object) -> None:
    (store.home / "schema.json").write_text(json.dumps({"version": version}))
    with pytest.raises(StoreError, match="MIA_HOME"):
        Store(store.home)


def in_another_process(store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The same store as a process opens it that has read nothing yet."""
    monkeypatch.setattr(integrity, "_verified", {})
    monkeypatch.setattr(integrity, "_read", {})
    return Store(store.home)


def several(folder: Path) -> None:
    hello(folder)
    (folder / "weights").mkdir()
    (folder / "weights" / "part.bin").write_bytes(bytes(range(256)) * 400)


def flip(path: Path) -> None:
    """Turns one bit over, as a disk does: neither time nor size tell."""
    times = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def swap(path: Path) -> None:
    """Another file of the same length in its place."""
    path.with_name("other").write_bytes(b"x" * path.stat().st_size)
    path.with_name("other").replace(path)


@pytest.mark.parametrize("harm", [flip, cut, swap, Path.unlink])
@pytest.mark.parametrize("name", ["text.txt", "weights/part.bin", "artifact.json"])
def test_what_was_damaged_is_made_again_and_the_rest_is_kept(
    store: Store, monkeypatch: pytest.MonkeyPatch, harm: Callable[[Path], None], name: str
) -> None:
    good = store.build(A, "model", several)
    other = store.build(B, "model", several)
    kept = (other / "text.txt").stat().st_ino
    harm(good / name)
    later = in_another_process(store, monkeypatch)
    assert later.find(A) is None
    assert [loss.key for loss in later.losses()] == [A]
    assert [entry.key for entry in later.entries("model")] == [B]
    later.build(A, "model", several)
    assert later.losses() == []
    assert {checked.state for checked in later.check()} == {"sound"}
    assert (other / "text.txt").stat().st_ino == kept


def test_a_file_that_changes_while_a_process_uses_it_is_noticed(store: Store) -> None:
    folder = store.build(A, "model", several)
    assert store.find(A) == folder
    flip(folder / "weights" / "part.bin")
    assert store.find(A) is None


def test_a_folder_under_the_key_of_another_is_damaged(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    one = store.build(A, "model", several)
    other = store.build(B, "model", hello)
    shutil.rmtree(other)
    shutil.copytree(one, other)
    later = in_another_process(store, monkeypatch)
    assert later.find(A) == one
    assert later.find(B) is None


def test_a_file_that_belongs_to_no_artifact_is_taken_out_of_it(store: Store) -> None:
    folder = store.build(A, "audit", hello)
    (folder / "map.parquet").write_bytes(b"planted")
    (folder / "sub").mkdir()
    (folder / "sub" / "link").symlink_to("/etc/passwd")
    assert store.find(A) == folder
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == ["artifact.json", "text.txt"]
    assert Path("/etc/passwd").exists()


def test_what_was_verified_is_not_read_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.build(A, "model", several)
    later = in_another_process(store, monkeypatch)
    hashed = []
    monkeypatch.setattr(integrity, "file_key", lambda path: hashed.append(path.name) or file_key(path))
    for _ in range(3):
        assert later.find(A) is not None
    assert sorted(hashed) == ["part.bin", "text.txt"]


def test_an_artifact_of_an_earlier_version_is_read_and_said_to_be_unverifiable(store: Store) -> None:
    folder = store.build(A, "audit", hello, name="Old", keep=True)
    old = json.loads((folder / "artifact.json").read_text())
    del old["files"], old["manifest"]
    (folder / "artifact.json").write_text(json.dumps(old))
    (store.home / "schema.json").write_text(json.dumps({"version": 1}))
    later = Store(store.home)
    assert later.find(A) == folder
    assert [entry.name for entry in later.entries("audit")] == ["Old"]
    assert [checked.state for checked in later.check()] == ["not verifiable"]
    # A program that knows of no hashes is kept away from now on.
    assert json.loads((store.home / "schema.json").read_text()) == {"version": 2}


def test_a_manifest_without_its_hashes_does_not_pass_for_an_old_one(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = store.build(A, "audit", hello)
    text = (folder / "artifact.json").read_text()
    (folder / "artifact.json").write_text(text.replace('"files"', '"gilas"'))
    assert in_another_process(store, monkeypatch).find(A) is None


def test_check_reads_everything_anew_and_repairs_when_told_to(store: Store) -> None:
    good, bad = store.build(A, "model", several), store.build(B, "audit", several, name="Mine")
    flip(bad / "weights" / "part.bin")
    (store.home / "artifacts" / "zz").mkdir()
    (store.home / "artifacts" / "zz" / "left here").mkdir()
    (store.home / "artifacts" / "zz" / "link").symlink_to(good)
    found = {checked.key: checked for checked in store.check()}
    assert found[A].state == "sound"
    assert (found[B].state, found[B].kind) == ("damaged", "audit")
    assert "weights/part.bin" in found[B].fault
    assert found["left here"].state == found["link"].state == "damaged"
    assert bad.is_dir()
    list(store.check(repair=True))
    assert [checked.key for checked in store.check()] == [A]
    assert [(loss.name, loss.kind) for loss in store.losses()] == [("Mine", "audit")]
    assert good.is_dir()


def test_an_artifact_is_altered_whole_or_not_at_all(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = store.build(A, "placebo", several, name="P", keep=True, created="2026-01-01T00:00:00+00:00")
    store.alter(A, lambda fresh: (fresh / "text.txt").write_text("other") and None, kind="audit", name="Mine")
    later = in_another_process(store, monkeypatch)
    (entry,) = later.entries("audit")
    assert (entry.name, entry.keep, entry.created) == ("Mine", True, "2026-01-01T00:00:00+00:00")
    assert (folder / "text.txt").read_text() == "other"

    def fail(fresh: Path) -> None:
        (fresh / "text.txt").write_text("half")
        raise ValueError("stopped")

    with pytest.raises(ValueError, match="stopped"):
        later.alter(A, fail)
    assert (later.find(A) or folder).joinpath("text.txt").read_text() == "other"
    assert not list((store.home / "building").iterdir())


def test_what_a_killed_process_left_is_cleared_and_what_a_living_one_builds_is_not(store: Store) -> None:
    done = store.build(A, "model", hello)
    building = store.home / "building"
    for name in (f"{B}-new-1", f"{C}-removed-1"):
        (building / name).mkdir()
        hello(building / name)
    store.scratch(A).joinpath("checkpoint").write_text("of a finished build")
    store.scratch(B).joinpath("checkpoint").write_text("epoch 3")
    # Killed between the two renames of an alteration.
    done.rename(building / f"{A}-before-1")
    with FileLock(store.home / "locks" / C):
        Store(store.home)
    assert [path.name for path in building.iterdir()] == [f"{C}-removed-1"]
    Store(store.home)
    assert not list(building.iterdir())
    assert Store(store.home).find(A) == done
    assert [path.name for path in (store.home / "scratch").iterdir()] == [B]


def test_an_artifact_that_a_crash_kept_out_of_the_index_is_listed(store: Store) -> None:
    store.build(A, "audit", hello, name="Mine", keep=True)
    store.build(B, "audit", hello, name="Other", keep=True)
    index = open_index(store.home / "index")
    index.delete(A)
    shutil.rmtree(store.home / "artifacts" / "bb")
    assert [entry.name for entry in Store(store.home).entries()] == ["Mine"]


def test_an_index_that_says_something_else_is_mended(store: Store) -> None:
    store.build(A, "audit", hello, name="Mine", keep=True)
    index = open_index(store.home / "index")
    index.set(A, {**index.get(A), "kind": "audiu"})
    assert store.entries("audit") == []
    list(store.check(repair=True))
    assert [entry.name for entry in store.entries("audit")] == ["Mine"]
    index.set(A, {"kind": "audit"})
    assert [entry.name for entry in store.entries("audit")] == ["Mine"]


@pytest.mark.parametrize("hours", [-30, 30])
def test_a_clock_that_is_set_evicts_nothing_that_is_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    Store(tmp_path).build(A, "model", hello)
    store = Store(tmp_path, budget_bytes=1)
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + hours * 3_600)
    store.build(B, "model", hello)
    assert {entry.key for entry in store.entries()} == {A, B}
    # Used long ago by the machine's own time, whatever the date says.
    since_start = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: since_start() + 2 * store_module.RECENT_SECONDS)
    Store(tmp_path, budget_bytes=1).build(C, "model", hello)
    assert {entry.key for entry in store.entries()} == {C}


def test_a_newer_version_of_the_program_is_named_and_its_store_left_alone(store: Store) -> None:
    (store.home / "schema.json").write_text(json.dumps({"version": 3}))
    before = sorted((path.as_posix(), path.stat().st_mtime_ns) for path in store.home.rglob("*.json"))
    with pytest.raises(StoreError, match="a newer version of the program wrote it"):
        Store(store.home)
    assert sorted((path.as_posix(), path.stat().st_mtime_ns) for path in store.home.rglob("*.json")) == before


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(28, "No space left on device"), "disk .* is full"),
        (OSError(122, "Disk quota exceeded"), "disk .* is full"),
        (sqlite3.OperationalError("database or disk is full"), "disk .* is full"),
        (RuntimeError("parquet: No space left on device (os error 28)"), "disk .* is full"),
        (OSError(30, "Read-only file system"), "cannot be written"),
        (sqlite3.OperationalError("attempt to write a readonly database"), "cannot be written"),
    ],
)
def test_a_disk_that_takes_nothing_more_is_explained(store: Store, error: Exception, told: str) -> None:
    def fail(folder: Path) -> None:
        hello(folder)
        raise error

    with pytest.raises(StoreError, match=told):
        store.build(A, "model", fail)
    assert not list((store.home / "building").iterdir())


def test_a_file_of_somebody_elses_that_may_not_be_read_is_no_fault_of_the_disk(store: Store) -> None:
    def fail(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", "/somewhere/weights.bin")

    with pytest.raises(PermissionError):
        store.build(A, "model", fail)
