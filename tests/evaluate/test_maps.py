from __future__ import annotations

import numpy as np
from sklearn.metrics import silhouette_score

from mia_core.evaluate.maps import MOST, two_dimensional


def clusters(each: int, distance: float, width: int = 80) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    second = np.arange(2 * each) % 2 == 1
    return rng.normal(size=(2 * each, width)) + distance * second[:, None], second


def test_two_groups_stay_apart_and_one_stays_one() -> None:
    vectors, second = clusters(60, 3.0)
    assert silhouette_score(two_dimensional(vectors, 0), second) > 0.5
    vectors, second = clusters(60, 0.0)
    assert silhouette_score(two_dimensional(vectors, 0), second) < 0.1


def test_the_same_seed_draws_the_same_map() -> None:
    vectors, _ = clusters(40, 1.0)
    np.testing.assert_array_equal(two_dimensional(vectors, 5), two_dimensional(vectors, 5))


def test_of_many_rows_some_are_drawn_by_the_seed(monkeypatch: object) -> None:
    assert MOST == 2_000
    monkeypatch.setattr("mia_core.evaluate.maps.MOST", 50)  # type: ignore[attr-defined]
    vectors, _ = clusters(40, 1.0)
    one, other = (np.isfinite(two_dimensional(vectors, seed)).all(axis=1) for seed in (0, 1))
    assert one.sum() == other.sum() == 50
    assert (one != other).any()


def test_odd_rows_and_few_rows_have_a_map_or_none() -> None:
    vectors, _ = clusters(10, 1.0)
    vectors[3, 2] = np.nan
    places = two_dimensional(vectors, 0)
    assert np.isnan(places[3]).all()
    assert np.isfinite(np.delete(places, 3, axis=0)).all()
    assert np.isnan(two_dimensional(vectors[:3], 0)).all()
    assert two_dimensional(np.zeros((0, 5)), 0).shape == (0, 2)
    assert np.isfinite(two_dimensional(np.ones((12, 6)), 0)).all()
    assert np.isfinite(two_dimensional(vectors[4:, :1], 0)).all()
