"""The plan of a run, as people read it."""

from __future__ import annotations

from typing import Any

import pytest

from mia_core.audit import estimate
from mia_core.experiment import parse_experiment

SUMMARY = {"users": 1_000, "interactions": 20_000}


@pytest.mark.parametrize(
    "changes",
    [{}, {"target": {"tuning": "lora"}}, {"target": {"serving": "prompt"}}, {"distillation": {"warm_start": False}}],
)
def test_every_stage_has_a_name_of_its_own_in_words(changes: dict[str, Any]) -> None:
    experiment = parse_experiment({"attacks": {"names": ["all"]}, **changes})
    names = [stage.name for stage in estimate.plan(experiment, SUMMARY)]
    # Progress is kept by name.
    assert len(set(names)) == len(names)
    for name in names:
        assert "_" not in name, name
        assert "/" not in name, name
        assert len(name) <= 80, name


def test_whatever_an_attack_may_ask_is_put_in_words() -> None:
    experiment = parse_experiment({"attacks": {"names": ["all"]}})
    for need in estimate.needs(experiment):
        asked, _, variant = need.partition("/")
        assert asked in estimate.ASKED_WORDS, need
        assert not variant or variant in estimate.VARIANT_WORDS, need


@pytest.mark.parametrize(
    ("changes", "attack", "reason"),
    [
        ({"target": {"source": "recommender"}}, "loss", "needs a model that gives probabilities"),
        ({"base": {"family": "sasrec"}}, "recall", "needs a question in words"),
        ({}, "biased_mia", "needs a recommender that ranks items"),
        ({"target": {"serving": "prompt"}}, "gradient_norm", "asks what training left behind"),
        ({"prompt": {"style": "like_dislike"}}, "list_hit", "needs a model that answers with items"),
    ],
)
def test_an_attack_that_cannot_run_is_refused_with_the_reason(
    changes: dict[str, Any], attack: str, reason: str
) -> None:
    assert reason in estimate.refusal(parse_experiment(changes), attack)


@pytest.mark.parametrize(
    ("changes", "attack"),
    [
        ({}, "loss"),
        ({}, "shadow_free"),
        ({"base": {"family": "sasrec"}}, "loss"),
        ({"base": {"family": "sasrec"}}, "biased_mia"),
        ({"target": {"source": "recommender"}}, "biased_mia_published"),
    ],
)
def test_an_attack_that_can_run_is_not_refused(changes: dict[str, Any], attack: str) -> None:
    assert estimate.refusal(parse_experiment(changes), attack) == ""
