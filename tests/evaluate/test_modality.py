from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linprog

from mia_core.evaluate.modality import dip, dip_test, holm


def dip_by_programming(values: np.ndarray) -> float:
    """The definition itself: for each place of the mode, the nearest convex-then-concave function, by linear programming."""
    x = np.sort(values)
    n = len(x)
    best = 1.0
    for mode in range(n):
        # Unknown: the distribution function at each value, and the distance.
        rows, limits = [], []

        def at_most(row: np.ndarray, limit: float, rows: list = rows, limits: list = limits) -> None:  # type: ignore[type-arg]
            rows.append(row)
            limits.append(limit)

        for i in range(n):
            for sign, bound in ((1, i / n), (-1, -(i + 1) / n)):
                # Just left of a value the empirical function is i/n, at it (i + 1)/n.
                row = np.zeros(n + 1)
                row[i], row[n] = sign, -1
                at_most(row, bound)
        for i in range(1, n):
            row = np.zeros(n + 1)
            row[i - 1], row[i] = 1, -1
            at_most(row, 0.0)
        for i in range(1, n - 1):
            if i == mode:
                continue
            first, second = 1 / (x[i] - x[i - 1]), 1 / (x[i + 1] - x[i])
            sign = 1 if i < mode else -1
            row = np.zeros(n + 1)
            row[i - 1], row[i], row[i + 1] = -sign * first, sign * (first + second), -sign * second
            at_most(row, 0.0)
        cost = np.zeros(n + 1)
        cost[n] = 1
        found = linprog(cost, A_ub=np.array(rows), b_ub=limits, bounds=[(0, 1)] * n + [(0, 1)])
        best = min(best, float(found.fun))
    return best


@pytest.mark.parametrize("seed", range(12))
def test_the_dip_is_the_distance_to_the_nearest_distribution_with_one_mode(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(4, 26))
    values = rng.normal(size=n) + (seed % 3) * 2 * rng.integers(0, 2, n)
    assert dip(values) == pytest.approx(dip_by_programming(values), abs=1e-7)


@pytest.mark.parametrize(
    ("waves", "statistic", "p_value"),
    [(4, 0.013172713, 1.0), (6, 0.053340664, 0.0126), (7, 0.043184398, 0.1007), (9, 0.038772579, 0.2143)],
)
def test_dip_and_p_value_are_what_diptest_computes(waves: int, statistic: float, p_value: float) -> None:
    """Version 0.12.0: constants, for it stands under the GPL. Its p-values come from a table of simulated dips."""
    ranks = (np.arange(120) + 0.5) / 120
    found = dip_test(np.sin(waves * ranks) + ranks)
    assert found.statistic == pytest.approx(statistic, abs=1e-8)
    assert found.p_value == pytest.approx(p_value, abs=0.03)


def test_the_dip_does_not_depend_on_scale_place_or_order() -> None:
    values = np.random.default_rng(0).normal(size=60)
    assert dip(values) == pytest.approx(dip(-3 * values[::-1] + 100))
    assert dip(np.arange(50.0)) == pytest.approx(1 / 100)
    assert dip(np.repeat([0.0, 1.0], 20) + np.tile(np.linspace(0, 1e-6, 20), 2)) == pytest.approx(0.25, abs=0.03)


def test_two_modes_are_found_and_one_is_not() -> None:
    rng = np.random.default_rng(1)
    two = np.concatenate([rng.normal(-3, 1, 60), rng.normal(3, 1, 60)])
    assert dip_test(two).p_value < 0.01
    for one in (rng.normal(size=120), rng.exponential(size=120), rng.random(120)):
        assert dip_test(one).p_value > 0.05
    assert dip_test(np.append(two, np.nan)).n == 120
    assert np.isnan(dip_test(np.arange(7.0)).p_value)


def test_one_mode_is_refused_no_more_often_than_the_level_says() -> None:
    rng = np.random.default_rng(2)
    for draw in (rng.normal, lambda size: rng.random(size)):
        refused = np.mean([dip_test(draw(size=60)).p_value <= 0.1 for _ in range(300)])
        # 0.1 plus three standard errors.
        assert refused <= 0.152


def test_larger_samples_are_judged_on_the_scale_of_the_simulated_ones() -> None:
    rng = np.random.default_rng(3)
    p_values = [dip_test(rng.random(1_500)).p_value for _ in range(60)]
    assert 0.3 < np.mean(p_values) < 0.7


def test_holm_holds_for_all_tests_together() -> None:
    adjusted = holm(np.array([0.03, np.nan, 0.01, 0.04, 0.9]))
    np.testing.assert_allclose(adjusted, [0.09, np.nan, 0.04, 0.09, 0.9])
