import math

import numpy as np
import pytest
from scipy import stats

from mia_core.evaluate.dependence import between_seed_spread, effective_windows, intraclass_correlation


def planted(users: int, windows: np.ndarray, correlation: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    index = np.repeat(np.arange(users), windows)
    own, shared = rng.normal(size=len(index)), rng.normal(size=users)[index]
    return math.sqrt(1 - correlation) * own + math.sqrt(correlation) * shared, index


@pytest.mark.parametrize("correlation", [0.0, 0.1, 0.6])
def test_planted_correlation_is_found_with_unequal_numbers_of_windows(correlation: float) -> None:
    rng = np.random.default_rng(0)
    found = [intraclass_correlation(*planted(300, rng.integers(1, 12, 300), correlation, seed)) for seed in range(20)]
    assert np.mean(found) == pytest.approx(correlation, abs=0.02)


def test_equal_numbers_of_windows_agree_with_the_f_ratio() -> None:
    """With k windows each, F = (1 + (k − 1)ρ)/(1 − ρ)."""
    values, index = planted(25, np.full(25, 6), 0.3, 1)
    ratio = stats.f_oneway(*values.reshape(25, 6)).statistic
    rho = intraclass_correlation(values, index)
    assert (1 + 5 * rho) / (1 - rho) == pytest.approx(ratio)


def test_order_scale_and_names_do_not_matter() -> None:
    values, index = planted(30, np.full(30, 4), 0.4, 2)
    order = np.random.default_rng(3).permutation(len(values))
    assert intraclass_correlation(values, index) == pytest.approx(
        intraclass_correlation(5 - 3 * values[order], 100 - 7 * index[order])
    )


def test_the_extremes() -> None:
    users = np.repeat(np.arange(4), 3)
    assert intraclass_correlation(users * 1.0, users) == 1
    assert intraclass_correlation(np.tile([1.0, 2, 3], 4), users) == pytest.approx(-0.5)


def test_too_little_data_is_no_figure() -> None:
    assert math.isnan(intraclass_correlation(np.array([1.0, 2]), np.array([0, 0])))
    assert math.isnan(intraclass_correlation(np.array([1.0, 2]), np.array([0, 1])))
    assert math.isnan(intraclass_correlation(np.array([]), np.array([], int)))
    assert math.isnan(intraclass_correlation(np.ones(6), np.array([0, 0, 0, 1, 1, 1])))


def test_missing_scores_are_left_out() -> None:
    values, index = planted(30, np.full(30, 4), 0.4, 4)
    gaps = values.copy()
    gaps[::5] = math.nan
    kept = ~np.isnan(gaps)
    assert intraclass_correlation(gaps, index) == intraclass_correlation(values[kept], index[kept])


def test_effective_windows_explain_how_much_a_mean_varies() -> None:
    values, _ = planted(20_000, np.full(20_000, 10), 0.3, 5)
    variance = values.reshape(-1, 10).mean(axis=1).var()
    assert effective_windows(10, 0.3) == pytest.approx(1 / variance, rel=0.05)
    assert effective_windows(np.array([1, 8, 1000]), 0.0).tolist() == [1, 8, 1000]
    assert effective_windows(1e9, 0.1) == pytest.approx(10)
    assert effective_windows(7, -0.2) == 7


def test_spread_over_seeds() -> None:
    assert between_seed_spread(np.array([0.6, 0.8, math.nan, 0.7])) == pytest.approx((0.7, 0.1, 0.6, 0.8, 3))
    single = between_seed_spread(np.array([0.6]))
    assert (single.mean, single.seeds) == (0.6, 1)
    assert math.isnan(single.standard_deviation)
    assert between_seed_spread(np.array([])).seeds == 0
