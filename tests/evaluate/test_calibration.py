import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mia_core.evaluate.calibration import conservative_p_value, p_values, share_below


def judged(scores: list[float], calibration: list[float], index: list[int] | None = None, seed: int = 0) -> np.ndarray:
    places = None if index is None else np.array(index)
    return p_values(np.array(scores), np.array(calibration), places, np.random.default_rng(seed))


def test_the_smallest_p_value_is_one_in_n_plus_one() -> None:
    assert judged([9.0, -9.0], list(range(9))).tolist() == [0.1, 1.0]


def test_higher_scores_have_lower_p_values() -> None:
    values = judged([1.5, 5.5, 8.5], list(range(9)))
    assert values[0] > values[1] > values[2]


def test_a_calibration_user_is_judged_against_the_others() -> None:
    calibration = [0.0, 1.0, 2.0, 3.0]
    assert judged(calibration, calibration, [0, 1, 2, 3]).tolist() == [1.0, 0.75, 0.5, 0.25]


def test_users_without_a_score_get_none_and_do_not_count() -> None:
    values = judged([math.nan, 3.0], [1.0, math.nan, 2.0], [1, -1])
    assert math.isnan(values[0])
    assert values[1] == pytest.approx(1 / 3)


def test_nobody_to_compare_with_is_no_p_value() -> None:
    assert np.isnan(judged([1.0], [])).all()
    assert np.isnan(judged([1.0], [1.0], [0])).all()
    assert math.isnan(conservative_p_value(1.0, np.array([math.nan])))
    assert math.isnan(share_below(1.0, np.array([])))


@pytest.mark.parametrize("decimals", [0, 6])
def test_p_values_of_held_out_users_are_uniform(decimals: int) -> None:
    """One new held-out user per simulated world, so that the p-values are independent; many ties when rounded."""
    rng = np.random.default_rng(3)
    n = 40
    worlds = rng.normal(size=(1500, n + 1)).round(decimals)
    values = np.array([p_values(world[:1], world[1:], None, rng)[0] for world in worlds])
    counts = np.bincount((values * (n + 1)).round().astype(int) - 1, minlength=n + 1)
    assert stats.chisquare(counts).pvalue > 0.001
    assert stats.kstest(values - rng.random(1500) / (n + 1), "uniform").pvalue > 0.001


def test_ties_are_broken_at_random_by_the_given_generator() -> None:
    tied = judged([1.0] * 4000, [1.0] * 9)
    assert set(tied.round(6)) == {round(k / 10, 6) for k in range(1, 11)}
    assert tied.mean() == pytest.approx(0.55, abs=0.02)
    assert (tied == judged([1.0] * 4000, [1.0] * 9)).all()


@given(st.integers(0, 5), st.lists(st.integers(0, 5), min_size=1, max_size=30), st.integers(0, 99))
def test_a_single_lookup_is_never_more_daring(score: int, calibration: list[int], seed: int) -> None:
    careful = conservative_p_value(score, np.array(calibration))
    assert careful >= judged([score], calibration, seed=seed)[0] - 1e-12
    ranks_above = sum(other >= score for other in calibration)
    assert careful * (len(calibration) + 1) == pytest.approx(1 + ranks_above)


def test_share_below_counts_strictly_lower_scores() -> None:
    assert share_below(2.0, np.array([1.0, 2.0, 3.0, 0.0, math.nan])) == 0.5
