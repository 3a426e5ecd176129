"""How long and how much memory, on this machine."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mia_core.audit import estimate
from mia_core.experiment import Runtime, parse_experiment
from mia_core.planning.capacity import FRESH, forecast, measured_rates, memory, past_audits, throughput_key
from mia_core.planning.throughput import measure
from mia_core.report.results import SHIPPED, AuditResult, StageTime
from mia_core.storage.store import Store

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
    def told(document: dict[str, Any]) -> tuple[float, str]:
        experiment = parse_experiment(document)
        found = forecast(store, experiment, SUMMARY, past_audits(store))
        return found.seconds / sum(stage.seconds for stage in estimate.plan(experiment, SUMMARY)), found.basis

    alike, other = dict[str, Any](), {"base": {"width": 256}}
    assert told(alike)[0] == pytest.approx(1.0)
    assert "not measured yet" in told(alike)[1]
    for factor, key in ((2.0, "1" * 64), (3.0, "2" * 64), (90.0, "3" * 64)):
        save_audit(timed(make_result(), factor, key))
    assert told(alike)[0] == pytest.approx(3.0)
    assert "3 audits of this shape take" in told(alike)[1]
    # Of another shape they tell the machine's pace at least.
    assert told(other)[0] == pytest.approx(3.0)
    assert "so much did 3 audits take" in told(other)[1]
    # One that came with the program tells nothing of this machine.
    store.alter("3" * 64, lambda folder: (folder / SHIPPED).touch())
    assert told(alike)[0] == pytest.approx(2.5)
    # Settings that nobody knows any more say nothing.
    old = make_result(key="5" * 64)
    save_audit(dataclasses.replace(old, config={**old.config, "forgotten": 1}))
    assert "2 audits of this shape take" in told(alike)[1]


TINY: dict[str, Any] = {
    "data": {"synthetic": {"users": 60, "items": 40, "mean_history": 12}},
    "prompt": {"history": 3, "windows": 2},
    "base": {"width": 16, "layers": 2, "vocabulary": 300},
    "attacks": {"names": ["loss", "list_hit", "gradient_norm"], "lead": "loss"},
}


@pytest.mark.parametrize(
    "changes", [{}, {"base": {"family": "sasrec", "width": 16, "layers": 2}}, {"target": {"source": "recommender"}}]
)
def test_what_a_machine_was_measured_to_do_replaces_the_guess(
    store: Store, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    monkeypatch.setattr("mia_core.planning.throughput.LONG_ENOUGH", 0.05)
    document = TINY | changes if not changes else {"data": TINY["data"], **changes}
    experiment, runtime = parse_experiment(document), Runtime(device="cpu", threads=1)
    assert measured_rates(store, experiment, runtime) is None
    key = measure(experiment, store, runtime)
    rates, guessed = measured_rates(store, experiment, runtime), estimate.Rates.guessed(experiment)
    assert rates is not None
    assert [entry.key for entry in store.entries()] == [key], "of what was measured nothing else is kept"
    learned = ["rating"] if experiment.kind == "recommender" else ["train", "distil", "observe", "answer_bytes"]
    learned += ["write", "gradient"] if not changes else []
    for name in learned:
        assert 0 < getattr(rates, name) != getattr(guessed, name), name
    summary = {"users": 60, "items": 40, "interactions": 720}
    found = forecast(store, experiment, summary, [], runtime)
    assert found.measured
    assert found.stages == estimate.plan(experiment, summary, rates)
    assert found.money(36.0) == pytest.approx(found.seconds / 100)
    # It is made once; another shape, and another machine, are measured for themselves.
    assert measure(experiment, store, runtime) == key
    larger = experiment.model_copy(update={"prompt": experiment.prompt.model_copy(update={"windows": 1, "history": 5})})
    assert measured_rates(store, larger, runtime) is None
    monkeypatch.setattr("mia_core.planning.capacity.device_kind", lambda: "another machine")
    assert measured_rates(store, experiment, runtime) is None


def test_an_old_measurement_is_made_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mia_core.planning.throughput.LONG_ENOUGH", 0.05)
    experiment, runtime = parse_experiment({"data": TINY["data"], "target": {"source": "recommender"}}), Runtime()
    old = (datetime.now(UTC) - FRESH).isoformat()
    store.build(throughput_key(experiment, runtime), "throughput", lambda folder: None, created=old)
    assert measured_rates(store, experiment, runtime) is None
    measure(experiment, store, runtime)
    assert measured_rates(store, experiment, runtime) is not None


def test_a_placebo_without_a_core_of_its_own_is_waited_for() -> None:
    experiment = parse_experiment({})
    beside = estimate.Rates.guessed(experiment)
    seconds = {
        wait: sum(s.seconds for s in estimate.plan(experiment, SUMMARY, dataclasses.replace(beside, beside=wait)))
        for wait in (None, 1.0, 3.0)
    }
    alone = parse_experiment({"evaluation": {"placebo": False}})
    plain = sum(stage.seconds for stage in estimate.plan(alone, SUMMARY, beside))
    assert seconds[1.0] == pytest.approx(plain, rel=0.2)
    assert 1.5 * plain < seconds[None] < 2 * plain
    assert seconds[3.0] > seconds[None]


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
