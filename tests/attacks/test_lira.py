from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm

from mia_core.attacks.evidence import Evidence, Known
from mia_core.attacks.lira import (
    Bavaria,
    LiraFixedVariance,
    LiraOffline,
    LiraOnline,
    SequenceLira,
    covariance,
    predictive,
    structured_gaussian,
)
from mia_core.attacks.shadow import log_odds
from tests.attacks.conftest import observations
from tests.attacks.shadows_in_loops import SHADOWS, keeping, level, odds, scorable, split, windows

World = Callable[..., tuple[Evidence, np.ndarray, Known]]


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


@pytest.fixture
def three_users() -> Evidence:
    """One window each; log-odds under the target and under two shadows without the user, then two with."""
    values = {
        "target": [-1.2, 0.4, -2.5],
        "shadow 0": [-2.1, -0.9, -2.4],
        "shadow 1": [-1.6, -0.2, -3.3],
        "shadow 2": [-1.0, 0.2, -1.9],
        "shadow 3": [-0.3, 0.9, -2.2],
    }
    rng = np.random.default_rng(0)
    asked = np.arange(4), np.zeros(3, np.int32)
    plain = observations(rng, np.zeros(3), np.arange(3), asked)
    views = {name: replace(plain, log_probability=-np.log1p(np.exp(-np.array(row)))) for name, row in values.items()}
    inside = np.tile([False, False, True, True], (3, 1))
    return Evidence(("a", "b", "c"), np.arange(3), views, shadow_in=inside)


@pytest.mark.parametrize(
    ("individual_from", "online", "offline"),
    [
        (64, [-0.006989219, 0.344207296, -0.113602207], [0.740508696, 0.827048867, 0.635802618]),
        (SHADOWS, [1.808833886, 3.591836735, -3.098918576], [0.995338812, 0.996679057, 0.781649985]),
    ],
)
def test_lira_is_what_sacroml_computes(
    individual_from: int, online: list[float], offline: list[float], three_users: Evidence
) -> None:
    """Its LIRAAttack with and without fix_variance, version 2.0.1: constants, for it brings XGBoost and NCCL along."""
    known = Known(three_users, np.array([True, False, True]))
    assert LiraOnline(individual_from).score(three_users, known) == pytest.approx(online, abs=1e-8)
    # It gives the share of models without the user that lie lower.
    lower = 1 - np.exp(-LiraOffline(individual_from).score(three_users, known))
    assert lower == pytest.approx(offline, abs=1e-8)


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
