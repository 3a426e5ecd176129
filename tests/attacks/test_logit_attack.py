from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from mia_core.attacks.evidence import Evidence, Known
from mia_core.attacks.likelihood import DcPdd
from mia_core.attacks.logit_attack import loss_ratio, min_k_plus_plus

World = Callable[..., tuple[Evidence, np.ndarray, Known]]


def test_min_k_plus_plus_takes_at_least_one_token_and_the_lowest(world: World) -> None:
    audited, _, _ = world(1.0)
    observed = audited.views["target"]
    for share in (0.2, 0.5, 1.0):
        found = min_k_plus_plus(observed, share)
        for i in range(len(observed)):
            mine = slice(observed.offsets[i], observed.offsets[i + 1])
            z = sorted((observed.log_probability[mine] + observed.entropy[mine]) / observed.deviation[mine])
            lowest = z[: max(1, int(share * len(z)))]
            assert found[i] == pytest.approx(sum(lowest) / len(lowest), rel=1e-5)


def test_a_loss_ratio_of_certain_answers_is_one(world: World) -> None:
    audited, _, _ = world(1.0)
    target = audited.views["target"]
    certain = replace(target, log_probability=np.zeros_like(target.log_probability))
    evidence = replace(audited, views={"target": certain, "base": certain})
    np.testing.assert_array_equal(loss_ratio(evidence, "target", "base"), 1)


def test_tuned_scores_of_known_non_members_are_standardised(world: World) -> None:
    _, _, known = world(1.0)
    scores = DcPdd().score(known.evidence, known)
    assert scores[~known.member].mean() == pytest.approx(0, abs=1e-9)
    assert scores[~known.member].std() == pytest.approx(1)
