import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from mia_core.evaluate.intervals import (
    auc_interval,
    binomial_interval,
    combined_interval,
    fpr_limit,
    mean_interval,
    tpr_interval,
)


def covered(low: float, truth: float, high: float) -> bool:
    return low <= truth <= high


@pytest.mark.parametrize("decimals", [0, 1, 8])
def test_auc_equals_sklearn_and_counting_pairs(decimals: int) -> None:
    rng = np.random.default_rng(decimals)
    members, held_out = rng.normal(0.7, 1, 37).round(decimals), rng.normal(0, 1, 53).round(decimals)
    pairs = [(x > y) + 0.5 * (x == y) for x in members for y in held_out]
    truth = np.r_[np.ones(37), np.zeros(53)]
    auc, low, high = auc_interval(members, held_out, 0.95)
    assert auc == pytest.approx(np.mean(pairs))
    assert auc == pytest.approx(roc_auc_score(truth, np.r_[members, held_out]))
    assert low < auc < high


def test_perfect_separation_still_leaves_room_that_shrinks_with_more_users() -> None:
    lows = []
    for n in (10, 100, 1000):
        auc, low, high = auc_interval(np.ones(n), np.zeros(n), 0.95)
        assert (auc, high) == (1, 1)
        lows.append(low)
    assert 0.6 < lows[0] < lows[1] < lows[2] < 1
    assert auc_interval(np.zeros(10), np.ones(10), 0.95) == pytest.approx((0, 0, 1 - lows[0]))


def test_one_user_of_each_kind_says_next_to_nothing() -> None:
    _, low, high = auc_interval(np.array([1.0]), np.array([0.0]), 0.95)
    assert low < 0.5
    assert high == 1


@pytest.mark.parametrize("members_apart", [0.0, 0.5, 0.95, 0.999])
@pytest.mark.parametrize(("m", "n"), [(30, 30), (160, 160), (30, 300)])
def test_auc_interval_covers_the_truth(members_apart: float, m: int, n: int) -> None:
    """A share of the members lies above everybody, the others are like held-out users."""
    rng = np.random.default_rng(5)
    truth = members_apart + (1 - members_apart) / 2
    runs = 400
    hits = 0
    for _ in range(runs):
        members = rng.normal(size=m) + 20 * (rng.random(m) < members_apart)
        _, low, high = auc_interval(members, rng.normal(size=n), 0.95)
        hits += covered(low, truth, high)
    assert hits / runs >= 0.9


def test_auc_interval_covers_rare_members_below_everybody_that_no_sample_may_show() -> None:
    rng = np.random.default_rng(6)
    share_below = 2 / 100
    hits = 0
    for _ in range(400):
        members = 10 - 20 * (rng.random(100) < share_below) + rng.normal(size=100)
        _, low, high = auc_interval(members, rng.normal(size=100), 0.95)
        hits += covered(low, 1 - share_below, high)
    assert hits / 400 >= 0.92


def test_binomial_interval_has_its_textbook_values() -> None:
    assert binomial_interval(0, 10, 0.95) == pytest.approx((0, 0.3085), abs=1e-4)
    assert binomial_interval(5, 10, 0.95) == pytest.approx((0.1871, 0.8129), abs=1e-4)
    assert binomial_interval(0, 0, 0.95) == (0, 1)


@pytest.mark.parametrize(("tpr", "tnr"), [(0.6, 0.9), (0.98, 0.99), (0.5, 0.5)])
def test_combined_interval_covers_the_truth(tpr: float, tnr: float) -> None:
    def mean(first: float, second: float) -> float:
        return (first + second) / 2

    rng = np.random.default_rng(7)
    hits = 0
    for _ in range(200):
        first, second = int(rng.binomial(80, tpr)), int(rng.binomial(40, tnr))
        low, high = combined_interval(mean, (first, 80), (second, 40), 0.95)
        hits += covered(low, mean(tpr, tnr), high)
    assert hits / 200 >= 0.92


def tpr_coverage(runs: int, n: int, level: float, shift: float) -> float:
    rng = np.random.default_rng(8)
    truth = float(stats.norm.sf(stats.norm.isf(level) - shift))
    hits = 0
    for _ in range(runs):
        members, held_out = rng.normal(shift, 1, n), rng.normal(size=n)
        rate, low, high = tpr_interval(members, held_out, np.array([level]), 500, 0.95, rng)
        assert low[0] <= rate[0] <= high[0]
        hits += covered(low[0], truth, high[0])
    return hits / runs


@pytest.mark.parametrize("shift", [0.0, 2.5])
@pytest.mark.parametrize(("n", "level"), [(59, 0.05), (300, 0.1)])
def test_tpr_interval_covers_the_truth(n: int, level: float, shift: float) -> None:
    assert tpr_coverage(300, n, level, shift) >= 0.93


@pytest.mark.slow
@pytest.mark.parametrize("shift", [0.0, 1.0, 2.5, 5.0])
@pytest.mark.parametrize(("n", "level"), [(29, 0.1), (59, 0.05), (163, 0.05), (299, 0.01), (500, 0.01), (3000, 0.001)])
def test_tpr_interval_covers_the_truth_everywhere(n: int, level: float, shift: float) -> None:
    assert tpr_coverage(1500, n, level, shift) >= 0.93


def test_mean_interval_covers_skewed_values_and_ignores_missing_ones() -> None:
    rng = np.random.default_rng(9)
    hits = 0
    for run in range(200):
        values = np.append(rng.beta(1, 4, 80), math.nan)
        mean, low, high = mean_interval(values, 0.95, 400, run)
        assert mean == pytest.approx(np.nanmean(values))
        hits += covered(low, 0.2, high)
    assert hits / 200 >= 0.9


def test_a_mean_without_a_single_hit_is_not_certain_to_be_zero() -> None:
    mean, low, high = mean_interval(np.zeros(60), 0.95, 400, 0)
    assert (mean, low) == (0, 0)
    assert 0.04 < high < 0.08
    assert all(math.isnan(figure) for figure in mean_interval(np.array([math.nan]), 0.95, 400, 0))


def test_mean_interval_is_reproducible() -> None:
    values = np.random.default_rng(1).random(50)
    assert mean_interval(values, 0.95, 300, 4) == mean_interval(values, 0.95, 300, 4)


@pytest.mark.parametrize("n", [59, 299, 2_000])
@pytest.mark.parametrize("level", [0.0, 0.01, 0.05, 0.1])
def test_so_few_false_alarms_would_be_seen_once_in_twenty_at_the_limit_of_their_rate(n: int, level: float) -> None:
    limit = fpr_limit(np.random.default_rng(n).normal(size=n), level, 0.95)
    assert stats.binom.cdf(math.floor(n * level + 1e-9), n, limit) == pytest.approx(0.05)
    assert limit > level


def test_the_limit_of_the_false_alarms_holds_for_strangers_though_the_same_users_chose_the_threshold() -> None:
    rng = np.random.default_rng(3)
    runs, held = 600, 0
    for _ in range(runs):
        held_out = rng.normal(size=299)
        threshold = np.sort(held_out)[-3]
        held += stats.norm.sf(threshold) <= fpr_limit(held_out, 0.01, 0.95)
    assert 0.92 < held / runs < 0.975
