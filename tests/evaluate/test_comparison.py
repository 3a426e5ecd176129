import itertools
import math
import time

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from mia_core.evaluate.comparison import delong_difference, max_statistic
from mia_core.evaluate.intervals import auc_interval


def coins(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(n) < 0.5


def test_a_real_attack_stands_out_among_forty_and_chance_does_not() -> None:
    rng = np.random.default_rng(1)
    truth = coins(300)
    attacks = {f"noise {k}": rng.normal(size=300) for k in range(39)} | {"real": rng.normal(size=300) + 0.8 * truth}
    adjusted = max_statistic(attacks, truth, 2000, rng)
    assert list(adjusted) == list(attacks)
    assert adjusted.pop("real") < 0.001
    assert min(adjusted.values()) > 0.02


def test_every_relabelling_of_a_few_users_gives_the_same_p_value() -> None:
    """The oracle walks through all 70 ways to call four of eight users members."""
    scores = {"first": np.array([3.0, 1, 4, 1, 5, 9, 2, 6]), "second": np.array([2.0, 7, 1, 8, 2, 8, 1, 8])}
    truth = np.array([1, 0, 1, 0, 1, 1, 0, 0], bool)

    def best(labels: np.ndarray) -> float:
        return max(standardised(values, labels) for values in scores.values())

    def standardised(values: np.ndarray, labels: np.ndarray) -> float:
        """(AUC − 1/2), in units of its standard deviation over all relabellings."""
        everyone = [auc(values, np.isin(np.arange(8), chosen)) for chosen in itertools.combinations(range(8), 4)]
        return (auc(values, labels) - 0.5) / np.std(everyone)

    def auc(values: np.ndarray, labels: np.ndarray) -> float:
        return float(np.mean([(a > b) + 0.5 * (a == b) for a in values[labels] for b in values[~labels]]))

    best_by_chance = [best(np.isin(np.arange(8), chosen)) for chosen in itertools.combinations(range(8), 4)]
    found = max_statistic(scores, truth, 20_000, np.random.default_rng(2))
    for name, values in scores.items():
        exact = np.mean([value >= standardised(values, truth) - 1e-9 for value in best_by_chance])
        assert found[name] == pytest.approx(exact, abs=0.015)


def test_the_best_of_ten_attacks_without_signal_is_called_real_as_rarely_as_promised() -> None:
    """Ten attacks that resemble one another; with 99 permutations the p-value is exactly uniform."""
    smallest = []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        shared = rng.normal(size=60)
        attacks = {str(k): shared + rng.normal(size=60) for k in range(10)}
        smallest.append(min(max_statistic(attacks, coins(60, seed + 1), 99, rng).values()))
    assert 0.02 <= np.mean(np.array(smallest) <= 0.05) <= 0.09
    assert stats.kstest(smallest, "uniform").pvalue > 0.001


def test_a_wrong_sign_counts_only_where_both_sides_do() -> None:
    rng = np.random.default_rng(3)
    truth = coins(200)
    attack = {"wrong sign": rng.normal(size=200) - 2 * truth}
    assert max_statistic(attack, truth, 500, rng)["wrong sign"] > 0.9
    assert max_statistic(attack, truth, 500, rng, two_sided=True)["wrong sign"] < 0.01


def test_attacks_that_tell_nobody_apart_have_no_p_value_and_harm_no_other() -> None:
    rng = np.random.default_rng(4)
    truth = coins(100)
    real = rng.normal(size=100) + 2 * truth
    gaps = np.where(rng.random(100) < 0.3, math.nan, real)
    found = max_statistic(
        {"flat": np.ones(100), "empty": np.full(100, math.nan), "real": real, "gaps": gaps}, truth, 500, rng
    )
    assert math.isnan(found["flat"])
    assert math.isnan(found["empty"])
    assert found["real"] < 0.01
    assert found["gaps"] < 0.01
    assert max_statistic({}, truth, 10, rng) == {}
    assert math.isnan(max_statistic({"real": real}, np.ones(100, bool), 10, rng)["real"])


def test_forty_attacks_on_five_thousand_users_take_seconds() -> None:
    rng = np.random.default_rng(5)
    attacks = {str(k): rng.normal(size=5000) for k in range(40)}
    start = time.perf_counter()
    max_statistic(attacks, coins(5000), 2000, rng)
    assert time.perf_counter() - start < 5


def slow_delong(first: np.ndarray, second: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Difference of AUCs and its standard error, by loops over all pairs."""
    members, held_out = np.flatnonzero(truth), np.flatnonzero(~truth)
    wins = {(u, v): [(s[u] > s[v]) + 0.5 * (s[u] == s[v]) for s in (first, second)] for u in members for v in held_out}
    by_member = [np.mean([wins[u, v][0] - wins[u, v][1] for v in held_out]) for u in members]
    by_held_out = [np.mean([wins[u, v][0] - wins[u, v][1] for u in members]) for v in held_out]
    variance = np.var(by_member, ddof=1) / len(members) + np.var(by_held_out, ddof=1) / len(held_out)
    return float(np.mean(by_member)), math.sqrt(variance)


@pytest.mark.parametrize("decimals", [0, 6])
@pytest.mark.parametrize("shared", [0.0, 0.9])
def test_difference_equals_delong_by_loops(shared: float, decimals: int) -> None:
    rng = np.random.default_rng(6)
    truth = coins(160)
    common = rng.normal(size=160)
    first, second = (
        (shared * common + math.sqrt(1 - shared**2) * rng.normal(size=160) + shift * truth).round(decimals)
        for shift in (0.8, 0.5)
    )
    value, error = slow_delong(first, second, truth)
    found = delong_difference(first, second, truth, 0.95)
    assert found.value == pytest.approx(value)
    assert found.value == pytest.approx(roc_auc_score(truth, first) - roc_auc_score(truth, second))
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.05)
    reverse = delong_difference(second, first, truth, 0.95)
    assert (reverse.low, reverse.high) == pytest.approx((-found.high, -found.low))


def test_an_attack_does_not_differ_from_itself() -> None:
    scores = np.random.default_rng(7).normal(size=100)
    assert delong_difference(scores, scores**3, coins(100), 0.95)[:3] == pytest.approx((0, 0, 0), abs=1e-3)


def test_two_perfect_attacks_are_not_certainly_equal() -> None:
    truth = coins(60)
    found = delong_difference(truth + 0.0, 10.0 * truth, truth, 0.95)
    assert found.value == 0
    assert found.low < -0.02
    assert found.high > 0.02


def test_next_to_a_perfect_attack_there_is_more_room_below_than_above() -> None:
    rng = np.random.default_rng(3)
    member = np.arange(60) < 30
    nearly_perfect, chance = rng.normal(size=60) + 4 * member, rng.normal(size=60)
    found = delong_difference(nearly_perfect, chance, member, 0.95)
    alone = auc_interval(nearly_perfect[member], nearly_perfect[~member], 0.95)
    assert alone[0] - alone[1] > 3 * (alone[2] - alone[0])
    assert found.value - found.low > found.high - found.value


def test_only_users_whom_both_attacks_scored_count() -> None:
    rng = np.random.default_rng(8)
    truth, first, second = coins(90), rng.normal(size=90), rng.normal(size=90)
    first[:10], second[5:20] = math.nan, math.nan
    assert delong_difference(first, second, truth, 0.95) == delong_difference(first[20:], second[20:], truth[20:], 0.95)
    assert delong_difference(first, second, truth, 0.95).n == 70
    assert math.isnan(delong_difference(first, second, np.ones(90, bool), 0.95).value)


@pytest.mark.parametrize(("shift_1", "shift_2"), [(0.0, 0.0), (1.0, 0.5), (3.0, 2.5)])
def test_difference_covers_the_truth(shift_1: float, shift_2: float) -> None:
    truth_1, truth_2 = (stats.norm.cdf(shift / math.sqrt(2)) for shift in (shift_1, shift_2))
    hits = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        truth = np.arange(120) < 60
        common = rng.normal(size=120)
        first, second = (0.8 * common + 0.6 * rng.normal(size=120) + shift * truth for shift in (shift_1, shift_2))
        _, low, high, _ = delong_difference(first, second, truth, 0.95)
        hits += low <= truth_1 - truth_2 <= high
    assert hits / 300 >= 0.92
