"""What private training promises, held against what an audit of it proves."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mia_core.experiment import Runtime, parse_experiment
from mia_core.pipeline import run_audit
from mia_core.report.results import AuditResult
from mia_core.report.wording import claim_sentences
from mia_core.storage.store import Store

HERE = Runtime(device="cpu", threads=1)


def audit(store: Store, epsilon: float, seed: int = 0, tuning: str = "full", **settings: Any) -> AuditResult:
    private = {"epsilon": epsilon, "clip": 5.0, "units_at_once": 16, **settings}
    document = {
        "seed": seed,
        "data": {"synthetic": {"users": 320, "items": 60, "mean_history": 16}},
        "split": {"public_share": 0.15, "known_share": 0.15},
        "prompt": {"history": 3, "windows": 3},
        "base": {"width": 32, "layers": 2, "vocabulary": 400, "pretraining": {"epochs": 2, "learning_rate": 5e-3}},
        "target": {"tuning": tuning, "training": {"epochs": 12, "learning_rate": 1e-2}},
        "attacks": {"names": ["target_minus_base"], "lead": "target_minus_base"},
        "defense": {"names": ["dp_sgd_user"], "settings": {"dp_sgd_user": private}},
        "evaluation": {"placebo": False, "ranked_users": 0, "resamples": 100},
    }
    return run_audit(parse_experiment(document), store, runtime=HERE)


def proven(result: AuditResult) -> float:
    bound = result.leading_bound
    assert bound is not None
    return bound.epsilon


def test_noise_that_is_switched_off_while_the_accountant_goes_on_is_noticed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silence(like: torch.Tensor, deviation: float, seed: int) -> torch.Tensor:
        return torch.zeros_like(like)

    monkeypatch.setattr("mia_core.models.llm.private_training.noise_of", silence)
    result = audit(store, 1.0)
    assert result.promise is not None
    assert result.promise.epsilon == pytest.approx(1.0, abs=0.02)
    assert proven(result) > 1.0
    assert result.promise_broken
    assert any("That is refuted" in sentence for sentence in claim_sentences(result))


@pytest.mark.slow
def test_with_its_noise_the_same_training_keeps_its_promise(store: Store) -> None:
    result = audit(store, 1.0)
    assert not result.promise_broken
    assert any("does not contradict it" in sentence for sentence in claim_sentences(result))


@pytest.mark.slow
@pytest.mark.parametrize("epsilon", [1.0, 2.0, 4.0, 8.0])
def test_nothing_above_the_promise_is_ever_proven_in_twenty_runs(epsilon: float, store: Store) -> None:
    for seed in range(5):
        result = audit(store, epsilon, seed, ("full", "lora")[seed % 2])
        assert not result.promise_broken, (epsilon, seed, proven(result))
