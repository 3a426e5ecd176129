"""Promises of the statistics, kept over many simulated audits in which the truth is known."""

import numpy as np
import pytest
from scipy import special, stats

from mia_core.evaluate.calibration import mondrian_p_values, p_values, strata
from mia_core.evaluate.comparison import delong_difference, max_statistic
from mia_core.evaluate.discoveries import benjamini_hochberg, wrong_at_most
from mia_core.evaluate.gates import blind_gate, null_gate, placebo_gate
from mia_core.evaluate.intervals import auc_interval, tpr_interval
from mia_core.evaluate.privacy import epsilon_clopper_pearson, epsilon_f_dp, epsilon_one_run, gaussian_epsilon

pytestmark = pytest.mark.slow

WORLDS = 1000
"""Null worlds: nobody's data were used, and whom the coins call a member means nothing."""
PLANTED = 200
"""Worlds of 5,000 users whose epsilon is known."""


def at_most(rate: float, runs: int) -> int:
    """So many failures of so many runs are surpassed once in a thousand times if the rate is as promised."""
    return int(stats.binom.isf(0.001, runs, rate))


def worlds(n: int, count: int = WORLDS):
    """Scores, coins and a generator of each null world."""
    for seed in range(count):
        rng = np.random.default_rng(seed)
        yield rng.normal(size=n), rng.random(n) < 0.5, rng


def test_p_values_are_uniform_whether_or_not_a_user_calibrates() -> None:
    chosen, own = [], []
    for scores, coins, rng in worlds(120):
        calibration = scores[~coins]
        chosen.append(p_values(scores[coins][:1], calibration, None, rng)[0] - rng.random() / (len(calibration) + 1))
        own.append(p_values(calibration[:1], calibration, np.array([0]), rng)[0] - rng.random() / len(calibration))
    assert stats.kstest(chosen, "uniform").pvalue > 0.001
    assert stats.kstest(own, "uniform").pvalue > 0.001


def test_p_values_within_strata_are_uniform_where_scores_depend_on_the_stratum() -> None:
    found = []
    for scores, coins, rng in worlds(300):
        length, popularity = rng.random(300), rng.random(300)
        stratum = strata(length, popularity, calibrating=~coins)
        judged = np.flatnonzero(coins & (stratum == 0))[:1]
        shifted = scores + 3 * length + popularity
        p = mondrian_p_values(shifted[judged], shifted[~coins], stratum[judged], stratum[~coins], None, rng)[0]
        found.append(p - rng.random() / (1 + np.count_nonzero(stratum[~coins] == 0)))
    assert stats.kstest(found, "uniform").pvalue > 0.001


@pytest.mark.parametrize("n", [60, 320])
def test_auc_intervals_cover_one_half(n: int) -> None:
    covered = 0
    for scores, coins, _ in worlds(n):
        _, low, high = auc_interval(scores[coins], scores[~coins], 0.95)
        covered += low <= 0.5 <= high
    assert 0.93 <= covered / WORLDS <= 0.975


def test_tpr_intervals_cover_the_false_positive_rate_itself() -> None:
    covered = 0
    for scores, coins, rng in worlds(320):
        _, low, high = tpr_interval(scores[coins], scores[~coins], np.array([0.05]), 300, 0.95, rng)
        covered += low[0] <= 0.05 <= high[0]
    assert covered / WORLDS >= 0.93


def test_differences_of_two_related_attacks_cover_zero() -> None:
    covered = 0
    for scores, coins, rng in worlds(200):
        found = delong_difference(scores, scores + rng.normal(size=200), coins, 0.95)
        covered += found.low <= 0 <= found.high
    assert 0.93 <= covered / WORLDS <= 0.975


def test_the_best_of_forty_attacks_is_called_better_than_chance_in_one_world_of_twenty() -> None:
    rejected = 0
    for scores, coins, rng in worlds(120):
        attacks = {str(k): scores + rng.normal(size=120) for k in range(40)}
        rejected += min(max_statistic(attacks, coins, 199, rng).values()) <= 0.05
    assert rejected <= at_most(0.05, WORLDS)
    assert rejected >= 0.03 * WORLDS


@pytest.mark.parametrize("members", [0, 100])
def test_benjamini_hochberg_keeps_its_rate(members: int) -> None:
    """Scores of 200 (or 300) judged users against 400 calibration users."""
    shares = []
    for seed in range(WORLDS):
        rng = np.random.default_rng(seed)
        truth = np.arange(200 + members) >= 200
        scores = rng.normal(size=len(truth)) + 3 * truth
        named = benjamini_hochberg(p_values(scores, rng.normal(size=400), None, rng), 0.1)
        shares.append(np.mean(~truth[named]) if named.any() else 0.0)
    assert np.mean(shares) <= 0.1 + 3 * np.std(shares) / np.sqrt(WORLDS)
    assert members == 0 or np.mean(shares) > 0.04


@pytest.mark.parametrize(("n", "held_out", "members"), [(80, 100, 0), (80, 60, 60), (1000, 500, 500)])
def test_lists_hold_no_more_wrong_ones_than_stated(n: int, held_out: int, members: int) -> None:
    broken = 0
    for seed in range(WORLDS // 2):
        rng = np.random.default_rng(seed)
        truth = np.arange(held_out + members) >= held_out
        p = p_values(rng.normal(size=len(truth)) + 2 * truth, rng.normal(size=n), None, rng)
        wrong = np.cumsum(~truth[np.lexsort((truth, p))])
        broken += bool((wrong > wrong_at_most(p, n, 0.95)).any())
    assert broken <= at_most(0.05, WORLDS // 2)


@pytest.mark.parametrize("bound", [epsilon_clopper_pearson, epsilon_one_run, epsilon_f_dp])
def test_epsilon_is_positive_in_at_most_one_null_world_of_twenty(bound) -> None:
    positive = sum(bound(scores, coins, 1e-5, 0.95, rng).epsilon > 0 for scores, coins, rng in worlds(320))
    assert positive <= at_most(0.05, WORLDS)


@pytest.mark.parametrize("bound", [epsilon_clopper_pearson, epsilon_one_run])
@pytest.mark.parametrize("epsilon", [0.5, 1.0, 2.0, 4.0])
def test_randomised_response_is_bounded_below_its_epsilon_and_above_half_of_it(epsilon: float, bound) -> None:
    """Each user's score is membership, told truthfully with chance σ(ε): (ε, 0)-private, and no attack does better."""
    found = []
    for _, coins, rng in worlds(5000, PLANTED):
        scores = np.where(rng.random(5000) < special.expit(epsilon), coins, ~coins).astype(float)
        found.append(bound(scores, coins, 0.0, 0.95, rng).epsilon)
    assert sum(value > epsilon for value in found) <= at_most(0.05, PLANTED)
    assert np.median(found) > epsilon / 2


@pytest.mark.parametrize("mu", [0.5, 1.0, 2.0])
def test_a_gaussian_mechanism_is_bounded_below_its_epsilon_and_above_half_of_it(mu: float) -> None:
    found = []
    for scores, coins, rng in worlds(5000, PLANTED):
        found.append(epsilon_f_dp(scores + mu * coins, coins, 1e-5, 0.95, rng).epsilon)
    epsilon = gaussian_epsilon(mu, 1e-5)
    assert sum(value > epsilon for value in found) <= at_most(0.05, PLANTED)
    assert np.median(found) > epsilon / 2


@pytest.mark.parametrize("bound", [epsilon_clopper_pearson, epsilon_one_run])
@pytest.mark.parametrize(("mu", "delta"), [(1.0, 1e-5), (2.0, 1e-5), (1.0, 1e-2)])
def test_the_other_bounds_stay_below_the_epsilon_of_a_gaussian_mechanism(mu: float, delta: float, bound) -> None:
    """They know nothing of its shape, so that half of it is out of their reach."""
    found = []
    for scores, coins, rng in worlds(5000, PLANTED):
        found.append(bound(scores + mu * coins, coins, delta, 0.95, rng).epsilon)
    assert sum(value > gaussian_epsilon(mu, delta) for value in found) <= at_most(0.05, PLANTED)


def test_the_gates_refuse_at_most_one_sound_audit_of_a_hundred() -> None:
    audits, refused = 200, np.zeros(3)
    for scores, coins, rng in worlds(240, audits):
        length, popularity = rng.geometric(0.05, 240), rng.random(240)
        covariates = np.column_stack([np.log(length), popularity, rng.exponential(3, 240)])
        items = [{f"item {k}" for k in rng.choice(300, 12)} for _ in range(240)]
        attacks = {str(k): scores + rng.normal(size=240) for k in range(10)}
        held_out = scores[~coins]
        own = p_values(held_out, held_out, np.arange(len(held_out)), rng)
        refused += [
            not blind_gate(covariates, items, coins, rng).passed,
            not placebo_gate(attacks, coins, scores + 3 * coins, rng).passed,
            not null_gate(own, length[~coins], popularity[~coins], rng).passed,
        ]
    assert (refused <= at_most(0.004, audits)).all()
    assert refused.sum() <= at_most(0.01, audits)
