from __future__ import annotations

import time

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mia_core.attacks import interaction_level
from mia_core.attacks.interaction_level import Interactions, interaction_scores, mean_places, rank_share

USERS, ITEMS, EACH = 60, 120, 12


def planted(strength: float, seed: int = 0) -> tuple[Interactions, np.ndarray, Interactions, np.ndarray]:
    """(members' interactions, which were trained on, held-out people's, popularity).

    Half of each member's interactions were kept from training; these are with more popular items. Everybody's scores
    follow popularity, taste and what an item is like; training raises the score of what was trained on.
    """
    rng = np.random.default_rng(seed)
    popularity = 1 / (3 + rng.permutation(ITEMS))
    quality = rng.normal(0, 0.5, ITEMS)

    def people() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        scores = np.log(popularity) + quality + rng.normal(0, 0.7, (USERS, ITEMS))
        chance = np.log(popularity) + rng.gumbel(size=(USERS, ITEMS))
        # The more popular of a person's items come first.
        items = np.argsort(-chance, axis=1)[:, :EACH]
        items = np.take_along_axis(items, np.argsort(-popularity[items], axis=1), axis=1)
        return scores, np.repeat(np.arange(USERS), EACH), items.ravel()

    scores, user, item = people()
    trained = np.tile(np.arange(EACH) >= EACH // 2, USERS)
    scores[user[trained], item[trained]] += strength
    return Interactions(scores, user, item), trained, Interactions(*people()), popularity


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_trained_interactions_are_found_where_they_were_raised_and_not_where_they_were_not(seed: int) -> None:
    judged, trained, held_out, popularity = planted(2.0, seed)
    assert roc_auc_score(trained, interaction_scores(judged, held_out, popularity)) > 0.85
    judged, trained, held_out, popularity = planted(0.0, seed)
    assert 0.4 < roc_auc_score(trained, interaction_scores(judged, held_out, popularity)) < 0.6


def test_a_rank_alone_mistakes_popular_items_for_trained_ones() -> None:
    judged, trained, held_out, popularity = planted(0.0)
    assert roc_auc_score(trained, rank_share(judged.scores, judged.user, judged.item)) < 0.3
    judged, trained, held_out, popularity = planted(2.0)
    calibrated = roc_auc_score(trained, interaction_scores(judged, held_out, popularity))
    assert calibrated > roc_auc_score(trained, rank_share(judged.scores, judged.user, judged.item)) + 0.1


def test_held_out_people_score_nought_on_average_whatever_their_items() -> None:
    _, _, held_out, popularity = planted(2.0)
    scores = interaction_scores(held_out, held_out, popularity)
    assert abs(scores.mean()) < 0.02
    popular = popularity[held_out.item] > np.median(popularity[held_out.item])
    assert abs(scores[popular].mean() - scores[~popular].mean()) < 0.05


def test_a_place_is_the_share_of_other_items_below(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 4, (7, 9)).astype(np.float32)
    user, item = rng.integers(0, 7, 30), rng.integers(0, 9, 30)

    def place(u: int, i: int) -> float:
        others = [scores[u, j] for j in range(9) if j != i]
        return sum(1.0 if s < scores[u, i] else 0.5 if s == scores[u, i] else 0.0 for s in others) / 8

    for cells in (10, 8_000_000):
        monkeypatch.setattr(interaction_level, "BLOCK_CELLS", cells)
        found = rank_share(scores, user, item)
        np.testing.assert_allclose(found, [place(u, i) for u, i in zip(user, item, strict=True)])
        expected = [np.mean([place(u, i) for u in range(7)]) for i in range(9)]
        np.testing.assert_allclose(mean_places(scores), expected)


def test_how_a_recommender_scales_its_scores_does_not_matter() -> None:
    judged, _, held_out, popularity = planted(1.0)
    stretched = [Interactions(np.exp(3 * part.scores), part.user, part.item) for part in (judged, held_out)]
    np.testing.assert_allclose(
        interaction_scores(stretched[0], stretched[1], popularity), interaction_scores(judged, held_out, popularity)
    )


def test_an_interaction_is_judged_alike_in_any_company() -> None:
    judged, _, held_out, popularity = planted(1.0)
    scores = interaction_scores(judged, held_out, popularity)
    alone = Interactions(judged.scores[[5]], np.zeros(1, dtype=int), judged.item[judged.user == 5][:1])
    assert interaction_scores(alone, held_out, popularity)[0] == pytest.approx(scores[judged.user == 5][0])


def test_a_hundred_thousand_interactions_take_seconds() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(300, 2_000)).astype(np.float32)
    many = Interactions(scores, rng.integers(0, 300, 100_000), rng.integers(0, 2_000, 100_000))
    start = time.process_time()
    interaction_scores(many, many, rng.random(2_000))
    assert time.process_time() - start < 10
