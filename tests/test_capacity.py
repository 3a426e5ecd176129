"""How long and how much memory, on this machine."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from mia_core import estimate
from mia_core.capacity import memory, pace
from mia_core.experiment import parse_experiment
from mia_core.report.results import AuditResult, StageTime
from mia_core.store import Store
from mia_core.types import StagePlan

SUMMARY = {"users": 600, "items": 300, "interactions": 18_000}


def timed(result: AuditResult, factor: float, key: str) -> AuditResult:
    """The same audit, run by a machine that takes so many times as long as planned."""
    planned = estimate.plan(parse_experiment(result.config), result.data)
    stages = [StageTime(stage.name, factor * stage.seconds, False) for stage in planned]
    # Half of one machine's time for nothing: it came from the store.
    stages[0] = dataclasses.replace(stages[0], seconds=1_000.0, cached=True)
    return dataclasses.replace(result, key=key, stages=stages)


def test_the_pace_is_what_finished_audits_took_of_what_was_planned(
    store: Store, make_result: Callable[..., AuditResult], save_audit: Callable[..., AuditResult]
) -> None:
    assert (pace(store).factor, pace(store).audits) == (1.0, 0)
    for factor, key in ((2.0, "1" * 64), (3.0, "2" * 64), (90.0, "3" * 64)):
        save_audit(timed(make_result(), factor, key))
    found = pace(store)
    assert found.factor == pytest.approx(3.0)
    assert found.audits == 3
    assert found.of([StagePlan("a", 10.0), StagePlan("b", 5.0)]) == pytest.approx(45.0)
    assert pace(store, {"3" * 64}).factor == pytest.approx(2.5)
    # Settings that nobody knows any more say nothing.
    save_audit(timed(make_result(), 9.0, "4" * 64).renamed("old"))
    old = make_result(key="5" * 64)
    save_audit(dataclasses.replace(old, config={**old.config, "forgotten": 1}))
    assert pace(store).audits == 4


def needed(document: dict[str, object], summary: dict[str, int] = SUMMARY) -> float:
    found = memory(parse_experiment(document), summary).needed
    assert found is not None
    return found


def test_memory_grows_with_what_fills_it() -> None:
    plain = needed({})
    assert 0.5e9 < plain < 4e9
    assert needed({"base": {"width": 1_024, "layers": 8}}) > plain
    assert needed({"evaluation": {"placebo": False}}) < plain
    assert needed({}, {"users": 60_000, "items": 300, "interactions": 18_000_000}) > 4 * plain
    assert needed({"base": {"width": 512}, "target": {"tuning": "lora"}}) < needed({"base": {"width": 512}})
    assert needed({"base": {"family": "sasrec"}}, {**SUMMARY, "items": 500_000}) > needed(
        {"base": {"family": "sasrec"}}
    )
    assert needed({"target": {"source": "recommender"}}) > 0


def test_of_a_model_that_is_not_here_the_memory_is_not_known(tmp_path: Path) -> None:
    hub = {"base": {"source": "hub", "hub_id": "google-t5/t5-small"}}
    assert memory(parse_experiment(hub), SUMMARY).needed is None
    assert memory(parse_experiment(hub), SUMMARY).enough
    (tmp_path / "model.safetensors").write_bytes(b"0" * 40_000_000)
    local = {"base": {"source": "local", "path": str(tmp_path)}}
    (tmp_path / "more.safetensors").write_bytes(b"0" * 1_000)
    assert needed(local) > 40_000_000 * 4
