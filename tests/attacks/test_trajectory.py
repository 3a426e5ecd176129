from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mia_core.attacks.evidence import Evidence, Known
from mia_core.attacks.trajectory import LossTrajectory
from mia_core.errors import ModelError

World = Callable[..., tuple[Evidence, np.ndarray, Known]]


def test_features_are_the_target_and_its_lead_over_each_epoch(world: World) -> None:
    audited, _, _ = world(1.0)
    features = LossTrajectory().features(audited)
    assert features.shape == (len(audited.users), 4)
    for user in (0, 17, 80):
        leads = []
        for name in ("trajectory 0", "trajectory 1", "trajectory 2"):
            differences = []
            for i in np.flatnonzero(audited.user_index == user):
                target, epoch = audited.views["target"], audited.views[name]
                mine = slice(target.offsets[i], target.offsets[i + 1])
                differences.append(float(np.mean(target.log_probability[mine] - epoch.log_probability[mine])))
            leads.append(sum(differences) / len(differences))
        np.testing.assert_allclose(features[user, 1:], leads, atol=1e-5)


def test_epochs_remove_what_makes_answers_hard_for_everybody(world: World) -> None:
    """Answers differ in difficulty, under the target and every epoch alike, by far more than training taught."""
    audited, member, known = world(0.8)

    def harder(evidence: Evidence, seed: int) -> Evidence:
        lengths = np.diff(evidence.views["target"].offsets)
        burden = np.repeat(np.random.default_rng(seed).normal(0, 6, len(lengths)), lengths).astype(np.float32)
        views = {
            name: replace(view, log_probability=view.log_probability + burden)
            for name, view in evidence.views.items()
            if name == "target" or name.startswith("trajectory")
        }
        return replace(evidence, views=views, cross_fitted={})

    audited, known = harder(audited, 1), Known(harder(known.evidence, 2), known.member)
    scores = LossTrajectory().score(audited, known)
    assert roc_auc_score(member[:-1], scores[:-1]) > 0.9
    loss = audited.user_mean(audited.views["target"].sample_mean("log_probability"))
    assert roc_auc_score(member[:-1], loss[:-1]) < 0.7


def test_without_any_epoch_it_says_what_is_missing(world: World) -> None:
    audited, _, known = world(1.0)
    bare = replace(audited, views={"target": audited.views["target"]})
    with pytest.raises(ModelError, match="after each epoch"):
        LossTrajectory().score(bare, known)
