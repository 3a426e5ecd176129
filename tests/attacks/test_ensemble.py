from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mia_core.attacks.catalogue import ATTACKS
from mia_core.attacks.contract import out_of_fold_scores
from mia_core.attacks.ensemble import Ensemble
from mia_core.attacks.evidence import Evidence, Known

World = Callable[..., tuple[Evidence, np.ndarray, Known]]


def only(evidence: Evidence, *views: str) -> Evidence:
    return replace(evidence, views={name: evidence.views[name] for name in views}, cross_fitted={})


def test_it_has_at_most_eight_features_and_all_point_to_members(world: World) -> None:
    audited, member, _ = world(2.0)
    features = Ensemble().features(audited)
    assert len(features) == 8
    for name, values in features.items():
        assert roc_auc_score(member[:-1], values[:-1]) > 0.6, name


@pytest.mark.parametrize(
    ("feature", "attack"),
    [
        ("loss", "loss"),
        ("entropy", "entropy"),
        ("confidence", "confidence"),
        ("target minus base", "target_minus_base"),
    ],
)
def test_features_are_the_scores_of_the_attacks_they_are_named_after(feature: str, attack: str, world: World) -> None:
    audited, _, known = world(1.0)
    np.testing.assert_allclose(Ensemble().features(audited)[feature], ATTACKS[attack]().score(audited, known))


def test_references_that_come_in_numbers_are_averaged(world: World) -> None:
    audited, _, _ = world(1.0)
    features = Ensemble().features(audited)
    swapped = [audited.views[f"target/answer_swapped {k}"].sample_mean("log_probability") for k in range(3)]
    mean = audited.user_mean(sum(swapped) / 3)
    np.testing.assert_allclose(features["neighbourhood"], features["loss"] - mean)


def test_history_ablation_is_zero_where_fine_tuning_changed_nothing(world: World) -> None:
    audited, _, _ = world(1.0)
    views = {**audited.views, "target": audited.views["base"], "target/no_history": audited.views["base/no_history"]}
    features = Ensemble().features(replace(audited, views=views))
    np.testing.assert_allclose(features["history ablation"][:-1], 0, atol=1e-12)


def test_it_makes_do_with_the_views_that_are_there(world: World) -> None:
    audited, member, known = world(2.0)
    audited = only(audited, "target", "base")
    known = Known(only(known.evidence, "target", "base"), known.member)
    assert len(Ensemble().features(audited)) == 5
    scores = Ensemble().score(audited, known)
    assert roc_auc_score(member[:-1], scores[:-1]) > 0.9


def test_the_best_single_feature_is_the_one_that_was_planted(world: World) -> None:
    _, _, known = world(0.0)
    quiet = only(known.evidence, "target", "base", "target/no_history", "base/no_history")
    base = quiet.views["base"]
    target = replace(
        base, entropy=(base.entropy - 0.5 * np.repeat(known.member[quiet.user_index], np.diff(base.offsets)))
    )
    planted = replace(quiet, views={**quiet.views, "target": target, "target/no_history": base})
    name, auc = Ensemble().best_single_feature(Known(planted, known.member))
    assert name == "entropy"
    assert auc > 0.95


def test_the_best_of_eight_is_not_flattered_by_being_chosen(world: World) -> None:
    honest, flattered = [], []
    for seed in range(12):
        _, _, known = world(0.0, audited=10, known=60, seed=seed)
        name, auc = Ensemble().best_single_feature(known)
        honest.append(auc)
        flattered.append(roc_auc_score(known.member, Ensemble().features(known.evidence)[name]))
    assert np.mean(flattered) > 0.55
    assert abs(np.mean(honest) - 0.5) < 0.05


def test_several_weak_features_together_are_stronger_than_the_best_alone(world: World) -> None:
    _, _, known = world(0.35, known=400, audited=10)
    _, alone = Ensemble().best_single_feature(known)
    assert roc_auc_score(known.member, out_of_fold_scores(Ensemble(), known)) > alone
