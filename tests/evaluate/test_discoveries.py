import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import precision_recall_curve

from mia_core.evaluate.calibration import p_values
from mia_core.evaluate.discoveries import (
    benjamini_hochberg,
    likelihood_ratio,
    posterior,
    precision_at_recall,
    smallest_namable,
    wrong_at_most,
)


def judged(n_calibration: int, held_out: int, members: int, shift: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """p-values of users who are not among the calibration users, and who of them is a member."""
    rng = np.random.default_rng(seed)
    truth = np.arange(held_out + members) >= held_out
    scores = rng.normal(size=held_out + members) + shift * truth
    return p_values(scores, rng.normal(size=n_calibration), None, rng), truth


@given(st.lists(st.integers(1, 21), min_size=1, max_size=60), st.sampled_from([0.01, 0.05, 0.1, 0.2, 0.5]))
def test_benjamini_hochberg_equals_scipy(ranks: list[int], q: float) -> None:
    p = np.array(ranks) / 21
    adjusted = stats.false_discovery_control(p, method="bh")
    assert (benjamini_hochberg(p, q) == (adjusted <= q + 1e-9)).all()


def test_users_without_a_p_value_are_not_named_and_do_not_count() -> None:
    p = np.array([0.01, 0.5, 0.02])
    gaps = np.append(p, [math.nan] * 50)
    assert benjamini_hochberg(gaps, 0.05)[:3].tolist() == [True, False, True]
    assert not benjamini_hochberg(gaps, 0.05)[3:].any()
    assert not benjamini_hochberg(np.full(4, math.nan), 0.05).any()
    assert benjamini_hochberg(np.array([]), 0.05).shape == (0,)


@pytest.mark.parametrize(("n", "fewest"), [(19_999, 1), (1_999, 10), (399, 50), (398, 51), (80, 247), (19, 1000)])
def test_fewest_users_that_can_be_named_among_a_thousand(n: int, fewest: int) -> None:
    found = smallest_namable(n, 1000, 0.05)
    assert found.fewest == fewest
    assert "1,000" in found.sentence

    def named_together(k: int) -> bool:
        return bool(benjamini_hochberg(np.r_[np.full(k, 1 / (n + 1)), np.ones(1000 - k)], 0.05).any())

    assert named_together(fewest)
    assert fewest == 1 or not named_together(fewest - 1)


def test_nobody_can_be_named_with_too_few_calibration_users() -> None:
    found = smallest_namable(18, 1000, 0.05)
    assert found.fewest is None
    assert "nobody can be named" in found.sentence
    assert smallest_namable(100, 0, 0.05).fewest is None


def wrong_ones(p: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Held-out users among the k smallest p-values, held-out users first where they are equal."""
    return np.cumsum(~truth[np.lexsort((truth, p))])


@pytest.mark.parametrize(("n", "held_out", "members"), [(60, 50, 0), (60, 50, 50), (400, 300, 100)])
def test_no_list_holds_more_wrong_ones_than_stated(n: int, held_out: int, members: int) -> None:
    broken = 0
    for seed in range(300):
        p, truth = judged(n, held_out, members, 2.0, seed)
        broken += bool((wrong_ones(p, truth) > wrong_at_most(p, n, 0.9)).any())
    assert broken / 300 <= 0.1 + 0.03


def test_the_statement_is_worth_something() -> None:
    """Half of 1,000 users are members far above the others: of the 500 likeliest few can be wrong."""
    p, truth = judged(1000, 500, 500, 6.0, 0)
    wrong = wrong_at_most(p, 1000, 0.95)
    assert wrong_ones(p, truth)[499] <= 5
    assert wrong[499] <= 15
    assert wrong[99] <= 15
    assert 400 <= wrong[-1] <= 515
    weak, _ = judged(1000, 500, 500, 1.0, 0)
    assert (wrong_at_most(weak, 1000, 0.95) >= wrong).all()


def test_with_hardly_any_calibration_users_everybody_may_be_wrong() -> None:
    p, _ = judged(5, 20, 20, 6.0, 0)
    assert wrong_at_most(p, 5, 0.95).tolist() == list(range(1, 41))
    assert wrong_at_most(p, 0, 0.95).tolist() == list(range(1, 41))
    assert wrong_at_most(np.array([math.nan]), 5, 0.95).shape == (0,)


@given(st.integers(1, 300), st.integers(0, 10_000), st.sampled_from([0.8, 0.95]))
def test_wrong_ones_never_fall_and_rise_by_at_most_one(n: int, seed: int, confidence: float) -> None:
    p, _ = judged(n, 30, 30, 3.0, seed)
    wrong = wrong_at_most(np.append(p, math.nan), n, confidence)
    assert len(wrong) == 60
    assert set(np.diff(wrong, prepend=0)) <= {0, 1}
    assert (wrong <= wrong_at_most(p, n, 0.99)).all()


def test_bayes_reminder() -> None:
    """TPR 5% at FPR 1%, prior 1%: 4.8%."""
    ratio = likelihood_ratio((50, 1000), (10, 1000), 0.95)
    assert ratio.value == pytest.approx(5)
    found = posterior(0.01, ratio)
    assert found.value == pytest.approx(0.0481, abs=1e-4)
    assert found.low < found.value < found.high
    assert "reader's choice" in found.sentence
    assert "4.81%" in found.sentence
    assert posterior(0.0, ratio).value == 0
    assert posterior(1.0, ratio).value == 1


def test_a_flag_that_no_held_out_user_received_is_not_certain() -> None:
    ratio = likelihood_ratio((50, 100), (0, 100), 0.95)
    assert ratio.value == ratio.high == math.inf
    found = posterior(0.5, ratio)
    assert (found.value, found.high) == (1, 1)
    assert 0.8 < found.low < 0.97


def test_without_a_flagged_user_the_prior_teaches_nothing() -> None:
    found = posterior(0.3, likelihood_ratio((0, 100), (0, 100), 0.95))
    assert math.isnan(found.value)
    assert (found.low, found.high) == (0, 1)
    assert math.isnan(likelihood_ratio((0, 0), (0, 0), 0.95).value)


@pytest.mark.parametrize(("tpr", "fpr"), [(0.05, 0.01), (0.6, 0.1), (0.3, 0.3)])
def test_likelihood_ratio_covers_the_truth(tpr: float, fpr: float) -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(300):
        _, low, high = likelihood_ratio((int(rng.binomial(160, tpr)), 160), (int(rng.binomial(160, fpr)), 160), 0.95)
        hits += low <= tpr / fpr <= high
    assert hits / 300 >= 0.94


@given(
    st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=2, max_size=40).filter(
        lambda rows: len({truth for _, truth in rows}) == 2
    )
)
def test_precision_at_recall_is_the_first_point_of_the_curve_that_reaches_it(rows: list[tuple[int, bool]]) -> None:
    scores, truth = np.array([row[0] for row in rows], float), np.array([row[1] for row in rows])
    precision, recall, _ = precision_recall_curve(truth, scores)
    for found in precision_at_recall(scores, truth, 200, 0.95, np.random.default_rng(0)):
        reached = [p for p, r in zip(precision[:-1], recall[:-1], strict=True) if r >= found.recall - 1e-9]
        assert found.value == pytest.approx(reached[-1])
        assert found.low <= found.value <= found.high


@pytest.mark.parametrize("shift", [0.0, 2.5])
def test_precision_at_recall_covers_the_truth(shift: float) -> None:
    rng = np.random.default_rng(2)
    runs, m, n = 200, 150, 250
    hits = np.zeros(3)
    for _ in range(runs):
        scores = np.r_[rng.normal(shift, 1, m), rng.normal(size=n)]
        for k, found in enumerate(precision_at_recall(scores, np.arange(m + n) < m, 400, 0.95, rng)):
            fpr = stats.norm.sf(shift + stats.norm.isf(found.recall))
            hits[k] += found.low <= found.recall * m / (found.recall * m + fpr * n) <= found.high
    assert (hits / runs >= 0.91).all()


def test_precision_ignores_missing_scores_and_needs_users_of_both_kinds() -> None:
    rng = np.random.default_rng(3)
    scores, truth = rng.normal(size=60), np.arange(60) < 30
    gaps, more = np.append(scores, math.nan), np.append(truth, True)
    first = precision_at_recall(scores, truth, 200, 0.95, np.random.default_rng(0))
    assert precision_at_recall(gaps, more, 200, 0.95, np.random.default_rng(0)) == first
    assert math.isnan(precision_at_recall(scores, np.ones(60, bool), 200, 0.95, rng)[0].value)
