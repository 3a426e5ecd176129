from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm, rankdata
from sklearn.metrics import roc_auc_score

from mia_core.attacks.catalogue import ATTACKS
from mia_core.attacks.evidence import Evidence, Known
from mia_core.attacks.shadow import (
    BaseShadows,
    Bavaria,
    LiraFixedVariance,
    LiraOffline,
    LiraOnline,
    Rmia,
    SequenceLira,
    covariance,
    log_odds,
    predictive,
    structured_gaussian,
)
from mia_core.errors import ModelError

World = Callable[..., tuple[Evidence, np.ndarray, Known]]
SHADOWS = 4
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


def keeping(evidence: Evidence, samples: np.ndarray) -> Evidence:
    """The evidence with some windows only."""
    return Evidence(
        evidence.users,
        evidence.user_index[samples],
        {name: evidence.views[name].take(samples) for name in ["target", *(f"shadow {k}" for k in range(SHADOWS))]},
        shadow_in=evidence.shadow_in,
    )


def uneven(evidence: Evidence) -> Evidence:
    """The evidence with one, two or three windows per user."""
    place = np.arange(len(evidence.user_index)) % 3
    return keeping(evidence, np.flatnonzero(place <= evidence.user_index % 3))


def windows(evidence: Evidence, view: str, user: int) -> list[float]:
    """Mean log-probability of each of a user's windows, token by token."""
    observed = evidence.views[view]
    found = []
    for i in range(len(evidence.user_index)):
        if evidence.user_index[i] == user:
            tokens = [float(p) for p in observed.log_probability[observed.offsets[i] : observed.offsets[i + 1]]]
            found.append(sum(tokens) / len(tokens))
    return found


def odds(log_p: float) -> float:
    p = math.exp(log_p)
    return math.log(p / (1 - p))


def level(evidence: Evidence, view: str, user: int, of: Callable[[float], float]) -> float:
    found = windows(evidence, view, user)
    return sum(of(value) for value in found) / len(found) if found else math.nan


def split(evidence: Evidence, user: int, of: Callable[[float], float]) -> tuple[list[float], list[float]]:
    """A user's statistic in each shadow with them, and in each without."""
    assert evidence.shadow_in is not None
    within: list[float] = []
    outside: list[float] = []
    for k in range(SHADOWS):
        (within if evidence.shadow_in[user, k] else outside).append(level(evidence, f"shadow {k}", user, of))
    return within, outside


def scorable(evidence: Evidence) -> list[int]:
    return sorted(set(evidence.user_index.tolist()))


@pytest.fixture
def small(world: World) -> tuple[Evidence, Known]:
    audited, _, known = world(1.0, audited=30, known=24)
    return uneven(audited), Known(uneven(known.evidence), known.member)


def lira_by_hand(audited: Evidence, deviations: tuple[float, float] | None) -> list[float]:
    """LiRA in loops; without given deviations each user has their own."""
    scores = []
    for user in scorable(audited):
        x = level(audited, "target", user, odds)
        within, outside = split(audited, user, odds)
        given = deviations or (np.std(within), np.std(outside))
        scores.append(norm.logpdf(x, np.mean(within), given[0]) - norm.logpdf(x, np.mean(outside), given[1]))
    return scores


def test_lira_below_64_shadows_has_one_spread_for_everybody(small: tuple[Evidence, Known]) -> None:
    audited, known = small
    both = [split(known.evidence, user, odds) for user in scorable(known.evidence)]
    spread = np.std([x for pair in both for x in pair[0]]), np.std([x for pair in both for x in pair[1]])
    found = LiraOnline().score(audited, known)[scorable(audited)]
    np.testing.assert_allclose(found, lira_by_hand(audited, spread), rtol=1e-9)


def test_lira_with_many_shadows_has_a_variance_per_user(small: tuple[Evidence, Known]) -> None:
    audited, known = small
    found = LiraOnline(individual_from=SHADOWS).score(audited, known)[scorable(audited)]
    np.testing.assert_allclose(found, lira_by_hand(audited, None), rtol=1e-6)


def test_lira_fixed_variance_pools_within_users_and_keeps_the_sides_apart(small: tuple[Evidence, Known]) -> None:
    audited, known = small
    both = [split(known.evidence, user, odds) for user in scorable(known.evidence)]
    pooled = [math.sqrt(np.mean([np.var(pair[side], ddof=1) for pair in both])) for side in (0, 1)]
    assert abs(pooled[0] / pooled[1] - 1) > 0.01
    found = LiraFixedVariance().score(audited, known)[scorable(audited)]
    np.testing.assert_allclose(found, lira_by_hand(audited, (pooled[0], pooled[1])), rtol=1e-9)


def test_offline_lira_is_a_one_sided_tail(small: tuple[Evidence, Known]) -> None:
    audited, known = small
    spread = np.std([x for user in scorable(known.evidence) for x in split(known.evidence, user, odds)[1]])
    expected = [
        -norm.logsf(level(audited, "target", user, odds), np.mean(split(audited, user, odds)[1]), spread)
        for user in scorable(audited)
    ]
    found = LiraOffline().score(audited, known)[scorable(audited)]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_offline_lira_does_not_flag_users_predicted_unusually_badly(world: World) -> None:
    audited, _, known = world(0.0)
    target = audited.views["target"]
    worse = replace(target, log_probability=target.log_probability - 20)
    unusual = replace(audited, views={**audited.views, "target": worse})
    attack = LiraOffline()
    assert (attack.score(unusual, known)[:-1] < np.nanmin(attack.score(audited, known))).all()


def test_offline_lira_tells_apart_what_rounds_to_certainty(world: World) -> None:
    audited, _, known = world(0.0)
    target = audited.views["target"]
    scores = []
    for log_probability in (-0.4, -0.2, -0.1):
        surer = replace(target, log_probability=np.full_like(target.log_probability, log_probability))
        scores.append(LiraOffline().score(replace(audited, views={**audited.views, "target": surer}), known)[0])
    assert scores[0] < scores[1] < scores[2] < math.inf


def test_structured_gaussian_is_the_multivariate_normal(small: tuple[Evidence, Known]) -> None:
    audited, _ = small
    deviations = np.random.default_rng(0).normal(size=len(audited.user_index))
    found = structured_gaussian(audited, deviations, 0.7, 0.4)
    for user in scorable(audited):
        mine = deviations[audited.user_index == user]
        matrix = 0.7 * np.eye(len(mine)) + 0.4 * np.ones((len(mine), len(mine)))
        assert found[user] == pytest.approx(multivariate_normal.logpdf(mine, np.zeros(len(mine)), matrix))


def test_the_covariance_of_windows_is_recovered() -> None:
    rng = np.random.default_rng(0)
    user_index = np.repeat(np.arange(30_000), np.arange(30_000) % 4)
    evidence = Evidence(tuple(map(str, range(30_000))), user_index, {})
    shared, alone = rng.normal(0, 0.6, (30_000, 2)), rng.normal(0, 0.9, (len(user_index), 2))
    assert covariance(evidence, shared[user_index] + alone) == pytest.approx((0.81, 0.36), rel=0.06)
    assert covariance(evidence, alone)[1] < 0.03


def test_sequence_lira_is_a_ratio_of_multivariate_normals(small: tuple[Evidence, Known]) -> None:
    audited, known = small
    assert audited.shadow_in is not None
    assert known.evidence.shadow_in is not None
    shadows = np.column_stack([log_odds(known.evidence.views[f"shadow {k}"]) for k in range(SHADOWS)])
    fitted = []
    for side in (True, False):
        chosen = (known.evidence.shadow_in == side)[known.evidence.user_index]
        # Everybody is inside two of the four shadows: half their difference, times the root of two, is unbiased.
        pairs = shadows[chosen].reshape(-1, 2)
        deviations = np.column_stack([pairs[:, 0] - pairs[:, 1], pairs[:, 1] - pairs[:, 0]]) / math.sqrt(2)
        fitted.append(covariance(known.evidence, deviations))
    found = SequenceLira().score(audited, known)
    for user in scorable(audited):
        x = np.array([odds(p) for p in windows(audited, "target", user)])
        densities = []
        for side, (alone, shared) in zip((True, False), fitted, strict=True):
            columns = np.flatnonzero(audited.shadow_in[user] == side)
            mean = np.mean([[odds(p) for p in windows(audited, f"shadow {k}", user)] for k in columns], axis=0)
            matrix = alone * np.eye(len(x)) + shared * np.ones((len(x), len(x)))
            densities.append(multivariate_normal.logpdf(x, mean, matrix))
        assert found[user] == pytest.approx(densities[0] - densities[1], rel=1e-6)


def test_sequence_lira_of_single_windows_is_lira_with_fixed_variance(world: World) -> None:
    audited, _, known = world(1.0)

    def first(evidence: Evidence) -> Evidence:
        return keeping(evidence, np.arange(0, len(evidence.user_index), 3))

    one, reference = first(audited), Known(first(known.evidence), known.member)
    np.testing.assert_allclose(SequenceLira().score(one, reference), LiraFixedVariance().score(one, reference))


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


def test_predictive_density_is_the_integral_over_means_and_variances() -> None:
    values = np.array([[0.3, 9.0, 1.1, 0.4], [-2.0, -1.0, 9.0, 9.0]])
    chosen = np.array([[True, False, True, True], [True, True, False, False]])
    x = np.array([0.9, 0.5])
    mean, weight, degrees, variance = 0.2, 0.6, 4.0, 0.5
    found = predictive(x, values, chosen, mean, weight, degrees, variance)
    grid = np.linspace(-12, 12, 20_001)

    def evidence_of(data: np.ndarray) -> float:
        """The likelihood of data, integrated over the log variance; the mean's integral is a Gaussian's."""
        prior = -degrees / 2 * (grid + variance * np.exp(-grid))
        size = len(data)
        correlation = np.eye(size) + np.ones((size, size)) / weight
        quadratic = (data - mean) @ np.linalg.solve(correlation, data - mean)
        return float(
            np.trapz(
                np.exp(prior - size / 2 * (grid + math.log(2 * math.pi)) - quadratic * np.exp(-grid) / 2)
                / math.sqrt(np.linalg.det(correlation)),
                grid,
            )
        )

    for i in range(2):
        before = values[i][chosen[i]]
        expected = evidence_of(np.append(before, x[i])) / evidence_of(before)
        assert found[i] == pytest.approx(math.log(expected), rel=1e-6)


def test_bavaria_is_calmer_than_lira_with_two_shadows_of_a_kind(world: World) -> None:
    audited, _, known = world(1.0)
    lira = LiraOnline(individual_from=SHADOWS).score(audited, known)[:-1]
    calm = Bavaria().score(audited, known)[:-1]
    assert np.abs(calm).max() < 0.05 * np.abs(lira).max()


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


def test_the_classifiers_agree_on_a_plain_world(world: World) -> None:
    audited, _, known = world(1.0)
    ranks = [rankdata(ATTACKS[name]().score(audited, known)[:-1]) for name in ALL[:3]]
    assert np.corrcoef(ranks).min() > 0.8
