from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from mia_core.evaluate.cohorts import FARTHEST, k_medoids, standardised


def cost(points: np.ndarray, exemplars: list[int] | np.ndarray) -> float:
    """Sum of every row's distance to the nearest exemplar, one row at a time."""
    return sum(min(float(np.linalg.norm(row - points[m])) for m in exemplars) for row in points)


@pytest.mark.parametrize("seed", range(8))
def test_no_other_choice_of_exemplars_is_much_better(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(12, 3)) + 3 * rng.integers(0, 3, (12, 1))
    best = min(cost(points, list(chosen)) for chosen in combinations(range(12), 3))
    found = k_medoids(points, 3, seed)
    assert cost(points, found.exemplars) == pytest.approx(best, rel=0.05)
    for i, row in enumerate(points):
        distances = [np.linalg.norm(row - points[m]) for m in found.exemplars]
        assert found.cohort[i] == int(np.argmin(distances))


@pytest.mark.parametrize("n", [60, 6_000])
def test_planted_groups_are_found_however_many_users_there_are(n: int) -> None:
    rng = np.random.default_rng(1)
    truth = rng.choice(3, n, p=[0.5, 0.3, 0.2])
    points = rng.normal(scale=0.5, size=(n, 4)) + 5 * np.eye(3, 4)[truth]
    found = k_medoids(points, 3, seed=0)
    # The largest cohort comes first, and so does the largest planted group.
    assert (found.cohort == truth).mean() > 0.99
    assert [truth[m] for m in found.exemplars] == [0, 1, 2]


@pytest.mark.parametrize("n", [50, 5_500])
def test_the_same_seed_gives_the_same_cohorts(n: int) -> None:
    points = np.random.default_rng(2).normal(size=(n, 3))
    first, again = (k_medoids(points, 2, seed=7) for _ in range(2))
    assert (first.cohort == again.cohort).all()
    assert (first.exemplars == again.exemplars).all()


def test_users_who_are_all_alike_are_one_cohort() -> None:
    found = k_medoids(np.ones((9, 2)), 4, seed=0)
    assert set(found.cohort) == {0}
    assert len(found.exemplars) == 1
    assert len(k_medoids(np.zeros((0, 2)), 3, seed=0).cohort) == 0


def test_signals_on_any_scale_count_alike_and_nobody_is_infinitely_far() -> None:
    rng = np.random.default_rng(3)
    values = np.column_stack([rng.normal(size=200), 1_000 * rng.normal(size=200), np.full(200, 7.0)])
    values[0, 1] = 1e9
    points = standardised(values)
    assert points.shape == (200, 2)
    assert np.abs(points).max() <= FARTHEST
    assert points[0, 1] == FARTHEST
