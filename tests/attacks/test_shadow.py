from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import logit
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score

from mia_core.attacks.catalogue import ATTACKS
from mia_core.attacks.evidence import Evidence, Known
from mia_core.attacks.fused import scalars
from mia_core.attacks.shadow import BaseShadows, Rmia, ShadowClassifier
from mia_core.errors import ModelError
from tests.attacks.shadows_in_loops import SHADOWS, level, odds, scorable, split

World = Callable[..., tuple[Evidence, np.ndarray, Known]]
ALL = [
    "shadow_classifier",
    "shadow_classifier_mlp",
    "shadow_classifier_forest",
    "lira_online",
    "lira_offline",
    "lira_fixed_variance",
    "sequence_lira",
    "attack_r",
    "rmia",
    "base_shadows",
    "bavaria",
]


@pytest.mark.parametrize("gamma", [1.0, 1.5])
@pytest.mark.parametrize("a", [0.3, 1.0])
def test_rmia_is_the_double_loop(a: float, gamma: float, small: tuple[Evidence, Known]) -> None:
    audited, known = small

    def ratio(evidence: Evidence, user: int) -> float:
        probabilities = [math.exp(x) for x in split(evidence, user, lambda log_p: log_p)[1]]
        mean = sum(probabilities) / len(probabilities)
        return math.exp(level(evidence, "target", user, lambda log_p: log_p)) / (0.5 * ((1 + a) * mean + 1 - a))

    population = [ratio(known.evidence, z) for z in scorable(known.evidence) if not known.member[z]]
    expected = []
    for user in scorable(audited):
        own = ratio(audited, user)
        expected.append(sum(own / other > gamma for other in population) / len(population))
    found = Rmia(a=a, gamma=gamma).score(audited, known)[scorable(audited)]
    np.testing.assert_array_equal(found, expected)


def test_rmia_fits_what_training_does_to_small_probabilities(world: World) -> None:
    """With a fixed at .3, as for images, easy users drown what was learned about hard ones."""
    aucs: dict[str, list[float]] = {"fitted": [], "fixed": []}
    for seed in range(3):
        audited, member, known = world(0.4, seed=seed, audited=200, known=200)

        def harder(evidence: Evidence, seed: int = seed) -> Evidence:
            shift = np.random.default_rng(seed).normal(0, 0.8, len(evidence.users))[evidence.user_index]
            views = {
                name: replace(view, log_probability=view.log_probability + np.repeat(shift, np.diff(view.offsets)))
                for name, view in evidence.views.items()
            }
            return replace(evidence, views=views)

        audited, known = harder(audited), Known(harder(known.evidence), known.member)
        for name, attack in (("fitted", Rmia()), ("fixed", Rmia(a=0.3))):
            aucs[name].append(roc_auc_score(member[:-1], attack.score(audited, known)[:-1]))
    assert np.mean(aucs["fitted"]) > np.mean(aucs["fixed"]) + 0.1


@pytest.mark.parametrize("offline", [False, True])
def test_base_compares_with_the_mean_likelihood_of_shadows(offline: bool, small: tuple[Evidence, Known]) -> None:
    audited, known = small
    found = BaseShadows(offline=offline).score(audited, known)
    for user in scorable(audited):
        within, outside = split(audited, user, lambda log_p: log_p)
        used = outside if offline else within + outside
        mean = sum(math.exp(x) for x in used) / len(used)
        own = level(audited, "target", user, lambda log_p: log_p)
        assert found[user] == pytest.approx(own - math.log(mean), rel=1e-9)


def test_offline_base_orders_users_as_rmia_with_a_of_one_does(world: World) -> None:
    audited, _, known = world(1.0)
    base = BaseShadows(offline=True).score(audited, known)[:-1]
    rmia = Rmia(a=1.0).score(audited, known)[:-1]
    assert (np.diff(rmia[np.argsort(base)]) >= 0).all()


def test_attack_r_counts_shadows_that_predict_the_user_worse(small: tuple[Evidence, Known]) -> None:
    audited, known = small
    found = ATTACKS["attack_r"]().score(audited, known)
    for user in scorable(audited):
        outside = split(audited, user, odds)[1]
        own = level(audited, "target", user, odds)
        assert found[user] == sum(own > other for other in outside) / len(outside)


@pytest.mark.parametrize("attack", ALL)
@pytest.mark.parametrize("coins", ["never inside", "always inside", "unknown"])
def test_users_whom_the_coins_left_on_one_side_are_scored(attack: str, coins: str, world: World) -> None:
    audited, member, known = world(2.0)
    assert audited.shadow_in is not None
    # Shadows of the kind that everybody is given: those with or without every audited user.
    always = coins == "always inside"
    chosen = np.argsort(audited.shadow_in != always, axis=1, kind="stable")[:, :2]
    views = dict(audited.views)
    for k in range(SHADOWS):
        pick = chosen[audited.user_index, k % 2]
        views[f"shadow {k}"] = type(views["target"]).mixed(audited.replicates("shadow"), pick)
    inside = None if coins == "unknown" else np.full_like(audited.shadow_in, always)
    scores = ATTACKS[attack]().score(replace(audited, views=views, shadow_in=inside), known)[:-1]
    assert np.isfinite(scores).all()
    assert roc_auc_score(member[:-1], scores) > 0.75


@pytest.mark.parametrize("attack", ALL)
@pytest.mark.parametrize("shadows", [2, 3])
def test_few_or_odd_numbers_of_shadows_do(attack: str, shadows: int, world: World) -> None:
    audited, member, known = world(2.0)

    def fewer(evidence: Evidence) -> Evidence:
        assert evidence.shadow_in is not None
        views = {name: view for name, view in evidence.views.items() if name not in {"shadow 2", "shadow 3"}}
        if shadows == 3:
            views["shadow 2"] = evidence.views["shadow 2"]
        return replace(evidence, views=views, shadow_in=evidence.shadow_in[:, :shadows])

    scores = ATTACKS[attack]().score(fewer(audited), Known(fewer(known.evidence), known.member))[:-1]
    assert np.isfinite(scores).all()
    # One shadow without the user, better or worse than the target, is a coin of its own for Attack R.
    assert roc_auc_score(member[:-1], scores) > 0.65


@pytest.mark.parametrize("attack", ALL)
def test_certainty_stays_finite(attack: str, world: World) -> None:
    audited, _, known = world(1.0)
    certain = {
        name: replace(view, log_probability=np.zeros_like(view.log_probability))
        for name, view in audited.views.items()
        if name == "target" or name.startswith("shadow")
    }
    scores = ATTACKS[attack]().score(replace(audited, views={**audited.views, **certain}), known)
    assert np.isfinite(scores[:-1]).all()


@pytest.mark.parametrize("attack", ALL)
def test_without_shadows_it_says_what_to_do(attack: str, world: World) -> None:
    audited, _, known = world(1.0)
    without = Known(replace(known.evidence, shadow_in=None), known.member)
    with pytest.raises(ModelError, match=r"attacks\.shadows"):
        ATTACKS[attack]().score(audited, without)


def test_the_shadow_classifier_is_the_black_box_attack_of_the_adversarial_robustness_toolbox(
    small: tuple[Evidence, Known],
) -> None:
    """Its logistic attack, with users inside shadow models as members and the same three figures of each."""
    from art.attacks.inference.membership_inference import MembershipInferenceBlackBox
    from art.estimators.classification import BlackBoxClassifier

    audited, known = small
    assert known.evidence.shadow_in is not None
    figures = np.stack([scalars(known.evidence, f"shadow {k}") for k in range(SHADOWS)], axis=1)
    scorable_in = known.evidence.shadow_in & ~np.isnan(figures).any(axis=2)
    scorable_out = ~known.evidence.shadow_in & ~np.isnan(figures).any(axis=2)
    model = BlackBoxClassifier(lambda x: x, input_shape=(3,), nb_classes=3)
    oracle = MembershipInferenceBlackBox(model, attack_model_type="lr")
    oracle.fit(pred=figures[scorable_in], test_pred=figures[scorable_out])
    users = scorable(audited)
    judged = scalars(audited, "target")[users]
    expected = oracle.infer(None, pred=judged, probabilities=True)[:, 0]
    found = ShadowClassifier().score(audited, known)[users]
    np.testing.assert_allclose(found, logit(expected), atol=1e-3)


def test_the_classifiers_agree_on_a_plain_world(world: World) -> None:
    audited, _, known = world(1.0)
    ranks = [rankdata(ATTACKS[name]().score(audited, known)[:-1]) for name in ALL[:3]]
    assert np.corrcoef(ranks).min() > 0.8
