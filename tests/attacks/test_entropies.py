from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mia_core.attacks.contract import Attack
from mia_core.attacks.entropies import MaxRenyi, ModifiedEntropy, ModRenyi
from mia_core.attacks.evidence import Evidence, Known
from mia_core.errors import ConfigError
from mia_core.observe.observations import Observations, token_statistics


def asked(logits: np.ndarray, token: list[int]) -> tuple[Evidence, Known]:
    """One user whose one answer a model with these logits was asked about, and nobody known."""
    statistics = token_statistics(torch.tensor(logits), torch.tensor(token))
    target = Observations(
        offsets=np.array([0, len(token)]),
        token=np.array(token, np.int32),
        hidden=np.zeros((1, 1, 1), np.float32),
        **{name: value.numpy() for name, value in statistics.items()},
    )
    evidence = Evidence(("u",), np.array([0]), {"target": target})
    return evidence, Known(evidence, np.array([True]))


def softmax(logits: np.ndarray) -> list[list[float]]:
    rows = [[math.exp(value) for value in row] for row in logits.astype(np.float64)]
    return [[value / sum(row) for value in row] for row in rows]


def test_modified_entropies_of_whole_distributions() -> None:
    rng = np.random.default_rng(0)
    for spread in (0.1, 1.0, 5.0):
        logits, token = rng.normal(0, spread, (6, 9)).astype(np.float32), rng.integers(0, 9, 6).tolist()
        evidence, known = asked(logits, token)
        for attack, gain in (
            # What certainty of q gains over certainty of everything: log q, or (q^a - 1) / a.
            (ModifiedEntropy(), math.log),
            (ModRenyi(order=0.5), lambda q: 2 * (math.sqrt(q) - 1)),
            (ModRenyi(order=2), lambda q: q - 1),
        ):
            expected = 0.0
            for row, true in zip(softmax(logits), token, strict=True):
                for j, p in enumerate(row):
                    expected += (1 - p) * gain(p) if j == true else p * gain(1 - p)
            assert attack.score(evidence, known)[0] == pytest.approx(expected / len(token), rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("attack", [ModifiedEntropy(), ModRenyi(order=0.5), ModRenyi(order=2)], ids=repr)
def test_modified_entropies_tell_certainty_of_the_right_token_from_certainty_of_a_wrong_one(attack: Attack) -> None:
    certain, torn = np.array([[30.0, 0, 0, 0]], np.float32), np.zeros((1, 4), np.float32)
    right, unsure, wrong = (attack.score(*asked(x, [y]))[0] for x, y in ((certain, 0), (torn, 0), (certain, 2)))
    assert right == pytest.approx(0, abs=1e-4)
    assert right > unsure > wrong
    assert np.isfinite(wrong)


@pytest.mark.parametrize("order", [0.5, 1, 2, np.inf])
def test_max_renyi_is_the_highest_entropy_of_its_order(order: float) -> None:
    rng = np.random.default_rng(1)
    logits, token = rng.normal(0, 2, (20, 7)).astype(np.float32), [0] * 20

    def entropy(row: list[float]) -> float:
        if order == 1:
            return -sum(p * math.log(p) for p in row)
        if order == np.inf:
            return -math.log(max(row))
        return math.log(sum(p**order for p in row)) / (1 - order)

    highest = sorted(map(entropy, softmax(logits)))[-2:]
    score = MaxRenyi(order=order, share=0.1).score(*asked(logits, token))[0]
    assert score == pytest.approx(-sum(highest) / 2, rel=1e-4)


def test_entropies_of_an_even_choice_are_the_log_of_the_choices() -> None:
    logits = np.zeros((3, 8), np.float32)
    for order in (0.5, 1, 2, np.inf):
        assert MaxRenyi(order=order).score(*asked(logits, [1, 2, 3]))[0] == pytest.approx(-math.log(8), rel=1e-5)


def test_orders_that_were_not_observed_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"max_renyi\.order is 3"):
        MaxRenyi(order=3)
    with pytest.raises(ConfigError, match=r"mod_renyi\.order is 1"):
        ModRenyi(order=1)
