"""What is past its time goes, by a clock that the tests set; finished audits stay, and say what is missing."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from mia_core.__main__ import application
from mia_core.data import library
from mia_core.data.interactions import Interactions, validate
from mia_core.data_rights.retention import DAY, Rules, due, enforce, rules
from mia_core.errors import ConfigError, NotFound
from mia_core.experiment import Runtime
from mia_core.jobs.queue import Queue
from mia_core.report.lookup import lookup_user
from mia_core.report.results import AuditResult
from mia_core.storage import journal
from mia_core.storage.store import Store
from mia_core.studies.lookup import lookup_history
from mia_core.types import Silent

MODEL, TARGET = "a1" + "0" * 62, "b2" + "0" * 62


@pytest.fixture
def interactions() -> Interactions:
    return validate(pl.DataFrame({"user": ["ana", "ana", "ben"], "item": ["1", "2", "2"]}))


@pytest.fixture
def audit(
    store: Store,
    interactions: Interactions,
    make_result: Callable[..., AuditResult],
    save_audit: Callable[[AuditResult], AuditResult],
) -> AuditResult:
    """An audit of a saved data set, with its copy of the data, a target, and an intermediate model."""
    library.save(store, interactions, "Films")
    store.build(interactions.key, "interactions", interactions.write, keep=True)
    for key, keep in ((MODEL, False), (TARGET, True)):
        store.build(key, "model", lambda folder: (folder / "weights").write_bytes(b"w") and None, keep=keep)
    parts = [interactions.key, MODEL, TARGET]
    return save_audit(make_result(data={**make_result().data, "key": interactions.key}, artifacts=parts))


@pytest.fixture
def in_days(monkeypatch: pytest.MonkeyPatch) -> Callable[[Store, float], float]:
    """Lets so many days go by, and gives the date then."""
    begun = time.monotonic

    def pass_by(store: Store, days: float) -> float:
        monkeypatch.setattr(time, "monotonic", lambda: begun() + days * DAY)
        return max(entry.last_used for entry in store.entries()) + days * DAY

    return pass_by


Days = Callable[[Store, float], float]


def kinds(store: Store) -> list[str]:
    return sorted(entry.kind for entry in store.entries())


EVERYTHING = ["audit", "data-set", "interactions", "model", "model"]


def test_intermediates_go_when_nobody_used_them_for_a_while(store: Store, audit: AuditResult, in_days: Days) -> None:
    assert enforce(store, Rules(30), in_days(store, 29)).counts()["intermediates"] == 0
    assert kinds(store) == EVERYTHING
    assert [entry.key for entry in due(store, Rules(30), in_days(store, 31)).intermediates] == [MODEL]
    enforce(store, Rules(30), in_days(store, 31))
    assert kinds(store) == ["audit", "data-set", "interactions", "model"]
    assert store.find(TARGET) is not None
    assert journal.read(store.home)[0].about["intermediates"] == 1


def test_uploads_stay_unless_a_time_is_set_and_then_go_with_what_rests_on_them(
    store: Store, audit: AuditResult, in_days: Days
) -> None:
    enforce(store, Rules(None, None), in_days(store, 10_000))
    assert kinds(store) == EVERYTHING
    enforce(store, Rules(None, 90), in_days(store, 89))
    assert kinds(store) == EVERYTHING
    enforce(store, Rules(None, 90), in_days(store, 91))
    assert kinds(store) == ["audit"]
    # What was found stays; what would need the data says that they are gone.
    assert lookup_user(store, audit.key, "00123").score is not None
    with pytest.raises(NotFound, match="data of this audit are no longer"):
        lookup_history(audit.key, ["1"], store, Silent(), Runtime())


def test_what_is_in_use_is_spared_for_an_hour(store: Store, audit: AuditResult, in_days: Days) -> None:
    assert due(store, Rules(1e-6, 1e-6), in_days(store, 0.01)).counts()["data_sets"] == 0
    assert due(store, Rules(1e-6, 1e-6), in_days(store, 0.1)).counts()["data_sets"] == 2


def test_a_clock_that_is_set_takes_nothing_from_a_running_audit(store: Store, audit: AuditResult) -> None:
    assert not any(due(store, Rules(30, 90), time.time() + 400 * DAY).counts().values())


def test_uploads_that_nobody_saved_go_after_a_day_whatever_the_times_are(store: Store) -> None:
    fresh, old = (store.home / "uploads" / (letter * 32) for letter in "ab")
    for folder, hours in ((fresh, 23), (old, 25)):
        folder.mkdir(parents=True)
        (folder / "films.csv").write_text("user,item\nana,1\n")
        os.utime(folder, (time.time() - hours * 3_600,) * 2)
    enforce(store, Rules(None, None))
    assert list((store.home / "uploads").iterdir()) == [fresh]
    assert journal.read(store.home)[0].about["files"] == 1


def test_what_another_audits_data_are_needed_for_stays(
    store: Store,
    audit: AuditResult,
    make_result: Callable[..., AuditResult],
    save_audit: Callable[[AuditResult], AuditResult],
    in_days: Days,
) -> None:
    save_audit(make_result(key="cd34" + "0" * 60, artifacts=[TARGET]))
    found = due(store, Rules(None, 90), in_days(store, 91))
    assert TARGET not in {entry.key for entry in found.uploads}
    assert MODEL in {entry.key for entry in found.uploads}


def test_lists_logs_and_jobs_go_too(store: Store, audit: AuditResult, in_days: Days) -> None:
    queue = Queue(store.home)
    job = queue.submit("audit", "Old", {})
    queue.cancel(job.id)
    for name in ("lists/members.txt", "logs/old.log", "logs/new.log", "scratch/half"):
        path = store.home / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
        if "new" not in name:
            os.utime(path, (0, 0))
    now = in_days(store, 0.5)
    enforce(store, Rules(30, None), now)
    assert [job.name for job in queue.jobs()] == ["Old"]
    assert {path.name for path in store.home.glob("l*s/*.*") if path.parent.name != "locks"} == {
        "members.txt",
        "new.log",
    }
    assert not (store.home / "scratch" / "half").exists()
    enforce(store, Rules(30, 60), in_days(store, 31))
    assert queue.jobs() == []
    assert not (store.home / "lists" / "members.txt").exists()


@pytest.mark.parametrize(("set_to", "days"), [("", 30.0), ("never", None), ("7", 7.0), (" 0.5 ", 0.5)])
def test_times_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, set_to: str, days: float | None) -> None:
    monkeypatch.setenv("MIA_KEEP_INTERMEDIATES_DAYS", set_to)
    assert rules().intermediates == days
    assert rules().uploads is None


@pytest.mark.parametrize("wrong", ["0", "-3", "soon", "nan", "inf"])
def test_a_time_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    monkeypatch.setenv("MIA_KEEP_UPLOADS_DAYS", wrong)
    with pytest.raises(ConfigError, match="MIA_KEEP_UPLOADS_DAYS"):
        rules()


def test_the_command_says_what_would_go_and_deletes_it(
    store: Store, audit: AuditResult, monkeypatch: pytest.MonkeyPatch, in_days: Days
) -> None:
    monkeypatch.setenv("MIA_KEEP_UPLOADS_DAYS", "90")
    later = in_days(store, 91)
    monkeypatch.setattr("mia_core.data_rights.retention.time.time", lambda: later)

    def say(*options: str) -> Any:
        return CliRunner().invoke(application, ["retention", *options])

    assert "2 data sets" in say("--dry-run").output
    assert kinds(store) == EVERYTHING
    assert "went" in say().output
    assert kinds(store) == ["audit"]
    assert "nothing went" in say().output


def test_nothing_is_noted_where_nothing_went(store: Store, tmp_path: Path) -> None:
    enforce(store, Rules())
    assert journal.read(store.home) == []
