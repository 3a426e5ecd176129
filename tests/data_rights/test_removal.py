"""Deleting takes with it what nothing else rests on, and nothing that something else does."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from mia_core.data import library
from mia_core.data.synthetic import generate
from mia_core.data_rights.removal import remove_audit, remove_data_set, remove_defenses, remove_forgetting
from mia_core.errors import ConfigError
from mia_core.experiment import Synthetic
from mia_core.jobs.queue import Queue
from mia_core.report.export import users_csv
from mia_core.report.results import AuditResult, read_table
from mia_core.storage.store import Store

OTHER, POINT = "cd34" + "0" * 60, "ef56" + "0" * 60
OWN_MODEL, SHARED_MODEL = "a1" + "0" * 62, "b2" + "0" * 62
SPLIT, MEASURED = "c3" + "0" * 62, "d4" + "0" * 62


@pytest.fixture
def two_audits(
    store: Store, make_result: Callable[..., AuditResult], save_audit: Callable[[AuditResult], AuditResult]
) -> tuple[AuditResult, AuditResult]:
    for key in (OWN_MODEL, SHARED_MODEL):
        store.build(key, "model", lambda folder: (folder / "weights").write_bytes(b"w") and None)
    first = save_audit(make_result(artifacts=[OWN_MODEL, SHARED_MODEL]))
    second = save_audit(make_result(key=OTHER, name="Other", artifacts=[SHARED_MODEL]))
    return first, second


def test_what_another_audit_rests_on_stays(store: Store, two_audits: tuple[AuditResult, AuditResult]) -> None:
    first, second = two_audits
    assert remove_audit(store, first.key) == 2
    assert store.find(first.key) is None
    assert store.find(OWN_MODEL) is None
    assert store.find(SHARED_MODEL) is not None
    assert store.find(second.key) is not None
    assert remove_audit(store, second.key) == 2
    assert store.find(SHARED_MODEL) is None
    assert remove_audit(store, second.key) == 0


def test_what_a_point_of_a_study_rests_on_stays(
    store: Store,
    two_audits: tuple[AuditResult, AuditResult],
    make_result: Callable[..., AuditResult],
    save_audit: Callable[..., AuditResult],
) -> None:
    save_audit(make_result(key=POINT, artifacts=[SHARED_MODEL]), "point")
    for audit in two_audits:
        remove_audit(store, audit.key)
    assert store.find(SHARED_MODEL) is not None


def test_a_data_set_goes_with_its_audits(
    store: Store, make_result: Callable[..., AuditResult], save_audit: Callable[..., AuditResult]
) -> None:
    key = library.save(store, generate(Synthetic(users=40, items=30), 0), "Films")
    config = {**make_result().config, "data": {"source": "data-set", "key": key}}
    of_it = save_audit(make_result(config=config))
    point = save_audit(make_result(key=POINT, config=config), "point")
    other = save_audit(make_result(key=OTHER))
    assert remove_data_set(store, key) == 2
    assert library.saved(store) == []
    assert store.find(of_it.key) is None
    assert store.find(point.key) is None
    assert store.find(other.key) is not None


def test_what_audits_of_it_left_that_were_never_finished_goes_with_a_data_set(
    store: Store, make_result: Callable[..., AuditResult], save_audit: Callable[..., AuditResult]
) -> None:
    data, others = generate(Synthetic(users=40, items=30), 0), generate(Synthetic(users=40, items=30), 1)
    key = library.save(store, data, "Films")
    store.build(others.key, "interactions", others.write, keep=True)
    for key_of, kind, keep in (
        (SPLIT, "split", True),
        (OWN_MODEL, "model", True),
        (SHARED_MODEL, "model", True),
        (MEASURED, "throughput", True),
    ):
        store.build(key_of, kind, lambda folder: (folder / "part").write_bytes(b"p") and None, keep=keep)
    # Cancelled after it had read the data, split them and trained its target.
    store.build(data.key, "interactions", data.write, keep=True)
    finished = make_result(key=OTHER, artifacts=[SHARED_MODEL])
    save_audit(dataclasses.replace(finished, data={**finished.data, "key": others.key}))
    assert remove_data_set(store, key) == 0
    left = {entry.key for entry in store.entries()}
    assert left == {OTHER, others.key, SHARED_MODEL, MEASURED}


def test_nothing_is_deleted_while_something_runs_or_waits(store: Store, saved: AuditResult) -> None:
    key = library.save(store, generate(Synthetic(users=40, items=30), 0), "Films")
    job = Queue(store.home).submit("audit", "Reads the same data", {})
    for remove, of in (
        (remove_audit, saved.key),
        (remove_forgetting, saved.key),
        (remove_defenses, saved.key),
        (remove_data_set, key),
    ):
        with pytest.raises(ConfigError, match=r"running or waiting in this home folder.* then delete"):
            remove(store, of)
    assert {entry.key for entry in store.entries()} == {saved.key, key}
    Queue(store.home).cancel(job.id)
    assert remove_audit(store, saved.key) == 1


def test_a_spreadsheet_does_not_run_an_id(saved: AuditResult, store: Store) -> None:
    folder = store.find(saved.key)
    assert folder is not None
    users = read_table(folder, "users").head(3).with_row_index().drop("index")
    users[0, "user"] = "=HYPERLINK(1)"
    text = users_csv(users)
    assert "'=HYPERLINK(1)" in text
    assert "\n=" not in text
