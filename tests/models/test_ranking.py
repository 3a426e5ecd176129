"""Figures of recommendation, beside those of scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
import scipy.sparse
from sklearn.metrics import ndcg_score, top_k_accuracy_score

from mia_core.data.interactions import validate
from mia_core.data.prompts import Event, events_by_user, prompt_writer
from mia_core.experiment import Prompt
from mia_core.models.ranking import (
    RankingTask,
    hits_and_gains,
    liking_aucs,
    liking_task,
    recommender_scores,
)
from mia_core.models.recommenders import recommend


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


class Knowing:
    """A recommender that has the next item of every history right: the one after its last."""

    def scores(self, histories: scipy.sparse.csr_array) -> np.ndarray:
        last = np.array([row.indices.max() for row in histories])
        return -np.abs(np.arange(histories.shape[1])[None] - (last[:, None] + 1)).astype(np.float32)


def test_a_list_that_is_drawn_or_shuffled_is_measured_as_it_is_served() -> None:
    items = [f"{i:03d}" for i in range(100)]
    position = {item: i for i, item in enumerate(items)}
    windows = [[Event(items[k], items[k], None) for k in (start, start + 1)] for start in range(60)]
    rng = np.random.default_rng(0)
    candidates = [(w[-1].item, *rng.choice(items[70:], 20, replace=False)) for w in windows]
    task = RankingTask(tuple(map(str, range(60))), tuple(windows), tuple(candidates))

    def quality(length: int = 20, **drawn: Any) -> float:
        def served(scores: np.ndarray, histories: scipy.sparse.csr_array) -> np.ndarray:
            return recommend(scores, histories, length, seeds=range(60), **drawn)

        asked = served if drawn else None
        return float(hits_and_gains(recommender_scores(Knowing(), task, position, asked))[0].mean())  # type: ignore[arg-type]

    assert quality() == 1
    assert quality(99, shuffled=True) < 0.7
    assert quality(candidates=99) < 0.5


def test_liked_items_are_told_from_disliked_ones_outside_of_the_window() -> None:
    frame = pl.DataFrame(
        {
            "user": ["a"] * 6 + ["b"] * 3 + ["p"] * 2,
            "item": [*"123456", *"123", *"12"],
            "rating": [5.0, 1.0, 5.0, 1.0, 5.0, 5.0, 5.0, 5.0, 5.0, 4.0, 2.0],
            "timestamp": [*range(6), *range(3), 0, 1],
        }
    )
    data = validate(frame)
    writer = prompt_writer(data, Prompt(history=1), ["p"])
    task, liked = liking_task(["a", "b"], events_by_user(data, writer), writer)
    # Of a, whose last two are shown, two were liked and two were not; b liked everything.
    assert task.users == ("a",)
    assert (set(task.candidates[0][: liked[0]]), set(task.candidates[0][liked[0] :])) == ({"1", "3"}, {"2", "4"})
    assert liking_aucs([np.array([3.0, 1.0, 2.0, 1.0])], [2]).tolist() == [(1 + 1 + 0 + 0.5) / 4]
