from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mia_core.attacks.evidence import Evidence, Known
from mia_core.attacks.fused import Hidden
from mia_core.attacks.white_box import GradientNorm, LayerProbe

World = Callable[..., tuple[Evidence, np.ndarray, Known]]


def with_layers(evidence: Evidence, hidden: np.ndarray) -> Evidence:
    return replace(
        evidence, views={"target": replace(evidence.views["target"], hidden=hidden.astype(np.float32))}, cross_fitted={}
    )


def layered(evidence: Evidence, member: np.ndarray, telling: int, seed: int) -> Evidence:
    """Four layers of noise, one of which is shifted for members."""
    hidden = np.random.default_rng(seed).normal(size=(len(evidence.user_index), 4, 12))
    hidden[:, telling, 3] += 2 * member[evidence.user_index]
    return with_layers(evidence, hidden)


@pytest.mark.parametrize("telling", [0, 2, 3])
def test_the_layer_that_tells_members_apart_is_chosen(telling: int, world: World) -> None:
    audited, member, known = world(0.0)
    known = replace(known, evidence=layered(known.evidence, known.member, telling, seed=1))
    attack = LayerProbe()
    assert attack.chosen_layer(known) == telling
    scores = attack.score(layered(audited, member, telling, seed=2), known)
    assert roc_auc_score(member[:-1], scores[:-1]) > 0.85


def test_audited_users_have_no_say_in_the_layer(world: World) -> None:
    audited, member, known = world(0.0)
    known = replace(known, evidence=layered(known.evidence, known.member, 2, seed=1))
    misleading = layered(audited, member, 0, seed=2)
    scores = LayerProbe().score(misleading, known)
    assert abs(roc_auc_score(member[:-1], scores[:-1]) - 0.5) < 0.15


def test_with_one_layer_it_is_the_probe_of_hidden_vectors(world: World) -> None:
    audited, _, known = world(1.0)

    def last(evidence: Evidence) -> Evidence:
        return with_layers(evidence, evidence.views["target"].hidden[:, -1:])

    one = Known(last(known.evidence), known.member)
    np.testing.assert_allclose(LayerProbe().score(last(audited), one), Hidden().score(audited, known), atol=1e-6)


@pytest.mark.parametrize(("norm", "column"), [("1", 0), ("2", 1), ("max", 2)])
def test_the_chosen_norm_is_averaged_in_logarithms_and_turned_round(norm: str, column: int, world: World) -> None:
    audited, _, known = world(1.0)
    scores = GradientNorm(norm=norm).score(audited, known)  # type: ignore[arg-type]
    for user in range(len(audited.users) - 1):
        product = 1.0
        windows = np.flatnonzero(audited.user_index == user)
        for i in windows:
            product *= float(audited.signals["gradient"][i, column])
        assert np.exp(-scores[user]) == pytest.approx(product ** (1 / len(windows)))


def test_a_gradient_of_zero_is_the_strongest_evidence_and_no_infinity(world: World) -> None:
    audited, _, known = world(0.0)
    norms = audited.signals["gradient"].copy()
    norms[audited.user_index == 7] = 0
    scores = GradientNorm().score(replace(audited, signals={"gradient": norms}), known)
    assert np.nanargmax(scores) == 7
    assert np.isfinite(scores[7])
