"""What the fused attacks look at: features left out, alone, lifted or as they are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mia_core.attacks.catalogue import configured
from mia_core.attacks.evidence import Evidence, Known
from mia_core.attacks.fused import Features
from mia_core.errors import DataError

FEATURES = Features(
    scalars=np.arange(8.0).reshape(2, 4), hidden=np.ones((2, 5)), kinds=("loss", "confidence", "entropy", "loss")
)


@pytest.mark.parametrize(
    ("without", "only", "scalars", "hidden"),
    [
        ("", "", [0, 1, 2, 3], 5),
        ("loss", "", [1, 2], 5),
        ("hidden", "", [0, 1, 2, 3], 0),
        ("", "loss", [0, 3], 0),
        ("", "entropy", [2], 0),
        ("", "hidden", [], 5),
    ],
)
def test_one_feature_is_left_out_or_alone(without: str, only: str, scalars: list[int], hidden: int) -> None:
    chosen = FEATURES.chosen(without, only)
    np.testing.assert_array_equal(chosen.scalars, FEATURES.scalars[:, scalars])
    assert chosen.hidden.shape == (2, hidden)
    assert list(chosen.kinds) == [FEATURES.kinds[i] for i in scalars]


def test_nothing_left_is_said_and_a_missing_feature_is_noticed() -> None:
    with pytest.raises(DataError, match="nothing to look at"):
        FEATURES.chosen("loss", "loss")
    with pytest.raises(DataError):
        Features(FEATURES.scalars, np.zeros((2, 0)), FEATURES.kinds).chosen("", "hidden")
    assert Features(np.zeros((2, 0)), np.array([[1.0], [np.nan]])).complete.tolist() == [True, False]
    with pytest.raises(ValueError, match=r"fused_target\.only"):
        configured("fused_target", {"only": "weight"})


@pytest.mark.parametrize("settings", [{"upsampling": False}, {"only": "hidden"}, {"only": "loss"}, {"without": "loss"}])
@pytest.mark.parametrize("name", ["fused_target", "distillation", "distillation_published"])
def test_every_part_of_the_features_finds_planted_members(
    name: str, settings: dict[str, str | bool], world: Callable[..., tuple[Evidence, np.ndarray, Known]]
) -> None:
    audited, member, known = world(2.0)
    scores = configured(name, settings).score(audited, known)
    scored = ~np.isnan(scores)
    assert roc_auc_score(member[scored], scores[scored]) > 0.7
