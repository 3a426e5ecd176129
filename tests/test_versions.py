"""Two versions of the program on one store: neither takes what the other computed for its own."""

from __future__ import annotations

import pytest

from mia_core import pipeline
from mia_core.audit import stages
from mia_core.audit.stages import Run
from mia_core.experiment import Runtime, parse_experiment
from mia_core.pipeline import audit_key, start
from mia_core.storage.store import Store
from mia_core.types import Silent


def opened(store: Store) -> Run:
    data = {"synthetic": {"users": 60, "items": 30, "mean_history": 12}}
    experiment = parse_experiment({"name": "T", "data": data, "prompt": {"history": 3}})
    return start(experiment, store, Silent(), Runtime(device="cpu"))


def test_a_version_whose_stages_compute_otherwise_finds_nothing_of_the_other(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = opened(store)
    _ = one.split
    folder = store.find(one.split_key)
    assert folder is not None
    before = (folder / "manifest.json").stat().st_ino
    audit = audit_key(one.experiment, one.interactions)
    monkeypatch.setattr(stages, "VERSION", stages.VERSION + 1)
    monkeypatch.setattr(pipeline, "VERSION", stages.VERSION)
    other = opened(store)
    _ = other.split
    assert other.split_key != one.split_key
    assert audit_key(other.experiment, other.interactions) != audit
    # Both are there: going back to the earlier version finds its own again.
    assert {entry.key for entry in store.entries("split")} == {one.split_key, other.split_key}
    assert (folder / "manifest.json").stat().st_ino == before
