"""Figures of recommendation, beside those of scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import ndcg_score, top_k_accuracy_score

from mia_core.models.ranking import hits_and_gains


def test_hits_and_gains_are_those_of_scikit_learn() -> None:
    """The true item stands first in each row, as high as any other, or not."""
    scores = np.random.default_rng(0).normal(size=(60, 30))
    scores[:, 0] += 1
    true_item = np.zeros((60, 30))
    true_item[:, 0] = 1
    hits, gains = hits_and_gains(list(scores))
    assert hits.mean() == pytest.approx(top_k_accuracy_score(np.zeros(60), scores, k=10, labels=np.arange(30)))
    assert gains.mean() == pytest.approx(ndcg_score(true_item, scores, k=10, ignore_ties=True))
    assert 0.2 < hits.mean() < 0.9


def test_a_recommender_that_finds_everything_equally_good_earns_nothing_by_the_order_of_candidates() -> None:
    hits, gains = hits_and_gains([np.zeros(30)])
    assert (hits.tolist(), gains.tolist()) == ([0], [0])
    assert hits_and_gains([np.zeros(5)])[0].tolist() == [1]
