from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from mia_core.attacks.biased import (
    BiasedMia,
    BiasedMiaClustering,
    BiasedMiaNaiveBayes,
    BiasedMiaTree,
)
from mia_core.attacks.catalogue import ATTACKS, GROUPS
from mia_core.attacks.contract import CONFOUNDED, HONEST
from mia_core.attacks.evidence import Evidence, Known
from mia_core.attacks.recommender_lists import (
    ListPopularity,
    ListPopularityPublished,
    ShadowFree,
    ShadowFreePublished,
    difference_vectors,
)
from mia_core.attacks.surrogate import SurrogateFeatures, pool
from mia_core.errors import ModelError
from mia_core.models.classifiers import perceptron_log_odds, train_perceptrons

World = Callable[..., tuple[Evidence, np.ndarray, Known]]
PUBLISHED_NAMES = [name for name in GROUPS["recommenders"].attacks if name.endswith("_published")]


def with_lists(evidence: Evidence, lists: np.ndarray, name: str = "lists") -> Evidence:
    return replace(evidence, lists={**evidence.lists, name: lists})


def weighted_mean(evidence: Evidence, items: list[int], weights: list[float]) -> list[float]:
    """Weighted mean vector of the items that have one, coordinate by coordinate; empty where there is none."""
    vectors = evidence.background.item_vectors.tolist()
    pairs = [(vectors[i], w) for i, w in zip(items, weights, strict=True) if i >= 0 and any(vectors[i])]
    if not pairs:
        return []
    total = sum(w for _, w in pairs)
    return [sum(v[c] * w for v, w in pairs) / total for c in range(len(pairs[0][0]))]


def history_of(evidence: Evidence, user: int) -> list[int]:
    return [*evidence.signals["history_items"][user].tolist(), int(evidence.signals["answer_item"][user])]


def difference(evidence: Evidence, user: int, by_rank: bool) -> list[float]:
    history, served = history_of(evidence, user), evidence.lists["lists"][user].tolist()
    falling = [float(len(served) - place) if by_rank else 1.0 for place in range(len(served))]
    h, r = weighted_mean(evidence, history, [1.0] * len(history)), weighted_mean(evidence, served, falling)
    return [a - b for a, b in zip(h, r, strict=True)]


def with_gaps(evidence: Evidence) -> Evidence:
    """Some items have no vector, some places of lists hold no item of the catalogue."""
    vectors, lists = evidence.background.item_vectors.copy(), evidence.lists["lists"].copy()
    vectors[::7] = 0
    lists[::3, 4] = -1
    return replace(with_lists(evidence, lists), background=replace(evidence.background, item_vectors=vectors))


@pytest.mark.parametrize("by_rank", [True, False])
def test_the_difference_of_history_and_list_is_that_of_their_mean_vectors(shop_world: World, by_rank: bool) -> None:
    audited, _, _ = shop_world(1.0)
    audited = with_gaps(audited)
    found = difference_vectors(audited, "lists", by_rank=by_rank)
    for user in range(0, 119, 9):
        np.testing.assert_allclose(found[user], difference(audited, user, by_rank), atol=1e-6)


def test_who_has_no_vector_is_not_scored_and_disturbs_nobody(shop_world: World) -> None:
    audited, _, known = shop_world(2.0)
    lists = audited.lists["lists"].copy()
    lists[3] = -1
    for attack in (BiasedMiaNaiveBayes(), ShadowFree(), SurrogateFeatures(epochs=1), ListPopularity()):
        found, before = attack.score(with_lists(audited, lists), known), attack.score(audited, known)
        assert np.isnan(found[3])
        np.testing.assert_allclose(np.delete(found, 3), np.delete(before, 3), atol=1e-9)


def test_shadow_free_is_the_difference_of_two_inverse_distances(shop_world: World) -> None:
    audited, _, known = shop_world(1.0)
    audited = with_gaps(audited)
    share = audited.background.item_share.tolist()
    popular = sorted(range(len(share)), key=lambda item: -share[item])[:20]
    b = weighted_mean(audited, popular, [1.0] * 20)
    found = ShadowFree(popular=20, epsilon=0.05).score(audited, known)
    for user in range(0, 119, 9):
        served = audited.lists["lists"][user].tolist()
        r = weighted_mean(audited, served, [1.0] * len(served))
        h = weighted_mean(audited, history_of(audited, user), [1.0] * len(history_of(audited, user)))
        assert found[user] == pytest.approx(1 / (math.dist(h, r) + 0.05) - 1 / (math.dist(r, b) + 0.05), rel=1e-5)


def test_a_list_of_popular_items_has_a_finite_score_below_every_personal_one(shop_world: World) -> None:
    audited, _, known = shop_world(2.0)
    lists = audited.lists["lists"].copy()
    lists[0] = np.argsort(-audited.background.item_share)[: lists.shape[1]]
    scores = ShadowFree().score(with_lists(audited, lists), known)
    assert np.isfinite(scores[0])
    assert scores[0] < np.min(scores[1:-1])


def test_the_popularity_rule_is_the_mean_log_share_of_what_is_listed(shop_world: World) -> None:
    audited, _, known = shop_world(1.0)
    audited = with_gaps(audited)
    share = audited.background.item_share.copy()
    share[audited.lists["lists"][0, 0]] = 0
    audited = replace(audited, background=replace(audited.background, item_share=share))
    head = set(sorted(range(len(share)), key=lambda item: (-share[item], item))[:10])
    mean_log, of_head = ListPopularity().score(audited, known), ListPopularity(head=10).score(audited, known)
    least = min(s for s in share if s > 0)
    for user in range(0, 119, 9):
        items = [i for i in audited.lists["lists"][user] if i >= 0]
        assert mean_log[user] == pytest.approx(-sum(math.log(share[i] or least / 2) for i in items) / len(items))
        assert of_head[user] == pytest.approx(-sum(i in head for i in items) / len(items))


def test_one_line_settles_the_published_protocol_and_finds_nothing_with_one_recommender_for_all(
    shop_world: World,
) -> None:
    # Nothing was trained: lists of members and others come from the same recommender, unless the protocol says otherwise.
    audited, member, known = shop_world(0.0, audited=360, known=160)
    for honest, published in ((ListPopularity(), ListPopularityPublished()), (ShadowFree(), ShadowFreePublished())):
        assert 0.4 < roc_auc_score(member[:-1], honest.score(audited, known)[:-1]) < 0.6
        assert roc_auc_score(member[:-1], published.score(audited, known)[:-1]) > 0.99


@pytest.mark.parametrize("name", PUBLISHED_NAMES)
def test_a_published_form_is_the_honest_attack_on_other_lists(name: str, shop_world: World) -> None:
    published, honest = ATTACKS[name], ATTACKS[name.removesuffix("_published")]
    assert issubclass(published, honest)
    assert (honest.status, published.status) == (HONEST, CONFOUNDED)
    assert published.title == f"{honest.title}, as published"
    assert published.needs == honest.needs - {"lists"} | {"lists/popular"}
    assert dataclasses.fields(published) == dataclasses.fields(honest)  # type: ignore[arg-type]
    if not name.startswith("dl_mia"):

        def swapped(evidence: Evidence) -> Evidence:
            world = evidence.shadow_world
            other = world and Known(with_lists(world.evidence, world.evidence.lists["lists/popular"]), world.member)
            return replace(with_lists(evidence, evidence.lists["lists/popular"]), shadow_world=other)

        audited, _, known = shop_world(2.0)
        expected = honest().score(swapped(audited), Known(swapped(known.evidence), known.member))
        np.testing.assert_array_equal(published().score(audited, known), expected)


def test_attacks_that_learn_in_a_world_of_their_own_say_so_where_there_is_none(shop_world: World) -> None:
    audited, _, known = shop_world(2.0)
    with pytest.raises(ModelError, match="recommender of the auditor's own"):
        BiasedMia().score(audited, Known(replace(known.evidence, shadow_world=None), known.member))


def test_labels_come_from_the_auditors_world(shop_world: World) -> None:
    audited, member, known = shop_world(2.0)
    world = known.evidence.shadow_world
    assert world is not None
    turned = Known(replace(known.evidence, shadow_world=Known(world.evidence, ~world.member)), known.member)
    for attack in (BiasedMia(), BiasedMiaNaiveBayes(), BiasedMiaClustering(), BiasedMiaTree(), SurrogateFeatures()):
        right, wrong = attack.score(audited, known)[:-1], attack.score(audited, turned)[:-1]
        assert roc_auc_score(member[:-1], right) > 0.8
        assert roc_auc_score(member[:-1], wrong) < 0.2


def test_items_further_down_weigh_less_but_for_the_clusters(shop_world: World) -> None:
    audited, _, known = shop_world(1.0)
    upside_down = with_lists(audited, np.ascontiguousarray(audited.lists["lists"][:, ::-1]))
    for attack, ranked in ((BiasedMiaNaiveBayes(), True), (BiasedMiaClustering(), False)):
        same = np.allclose(attack.score(audited, known)[:-1], attack.score(upside_down, known)[:-1])
        assert same != ranked


def vectors_of(known: Known, by_rank: bool = True) -> tuple[np.ndarray, np.ndarray]:
    world = known.evidence.shadow_world
    assert world is not None
    return difference_vectors(world.evidence, "lists", by_rank=by_rank), world.member


def test_naive_bayes_adds_up_the_log_densities_of_the_coordinates(shop_world: World) -> None:
    audited, _, known = shop_world(1.0)
    rows, member = vectors_of(known)
    judged = difference_vectors(audited, "lists")
    added = 0.01 * rows.var(axis=0).max()
    expected = np.log(member.mean() / (~member).mean()) * np.ones(len(judged))
    for sign, side in ((1, rows[member]), (-1, rows[~member])):
        for c in range(rows.shape[1]):
            spread = math.sqrt(side[:, c].var() + added)
            expected += sign * norm.logpdf(judged[:, c], side[:, c].mean(), spread)
    np.testing.assert_allclose(BiasedMiaNaiveBayes(smoothing=0.01).score(audited, known), expected, rtol=1e-6)


def test_the_tree_answers_with_few_different_shares_of_members(shop_world: World) -> None:
    audited, _, known = shop_world(2.0)
    scores = BiasedMiaTree(depth=2, leaf=20).score(audited, known)[:-1]
    assert 2 <= len(np.unique(scores)) <= 4
    assert scores.min() >= 0
    assert scores.max() <= 1


def test_the_cluster_score_is_nought_halfway_between_the_two_centres() -> None:
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.normal(0, 0.1, (50, 3)), rng.normal(4, 0.1, (50, 3))])
    member = np.arange(100) >= 45
    judged = np.array([[0.0] * 3, [1.0] * 3, [2.0] * 3, [3.0] * 3, [4.0] * 3])
    scores = BiasedMiaClustering().judge(rows, member, judged)
    np.testing.assert_allclose(scores / math.sqrt(3), [-4, -2, 0, 2, 4], atol=0.2)
    np.testing.assert_allclose(BiasedMiaClustering().judge(rows, ~member, judged), -scores, atol=1e-9)


def test_without_a_hidden_layer_the_networks_find_the_logistic_regression() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(300, 4))
    member = rows @ [1.0, -0.5, 0.3, 0.0] + rng.normal(size=300) > 0
    judged = rng.normal(size=(50, 4))
    expected = LogisticRegression(C=np.inf).fit(rows, member).decision_function(judged)
    for way in ({"momentum": 0.5}, {}):
        networks = train_perceptrons(
            rows, member, hidden=(), networks=2, epochs=400, batch=300, learning_rate=0.1, **way
        )
        np.testing.assert_allclose(perceptron_log_odds(networks, judged), expected, atol=0.05)


def test_networks_learn_what_no_line_can_separate() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(400, 2))
    member = rows[:, 0] * rows[:, 1] > 0
    networks = train_perceptrons(rows, member, hidden=(32, 8), networks=3, epochs=60, batch=16, learning_rate=0.01)
    judged = rng.normal(size=(500, 2))
    assert roc_auc_score(judged[:, 0] * judged[:, 1] > 0, perceptron_log_odds(networks, judged)) > 0.95


def test_pooling_skips_places_without_an_item() -> None:
    rng = np.random.default_rng(0)
    values, found = rng.normal(size=(12, 5, 2)), rng.random((12, 5)) < 0.5
    found[0] = False
    pooled = pool(values, found)
    assert np.isnan(pooled[0]).all()
    for row in np.flatnonzero(found.any(axis=1)):
        expected: list[float] = []
        for column in range(2):
            kept = [values[row, place, column] for place in range(5) if found[row, place]]
            expected += [sum(kept) / len(kept), min(kept), max(kept), kept[-1]]
        np.testing.assert_allclose(pooled[row], expected)


def test_surrogate_features_are_cosines_and_popularity_item_by_item(shop_world: World) -> None:
    audited, _, _ = shop_world(1.0)
    audited = with_gaps(audited)
    vectors, share = audited.background.item_vectors.astype(float), audited.background.item_share
    found = SurrogateFeatures().features(audited)

    def cosine(a: np.ndarray, b: np.ndarray) -> float:
        return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b))) if a.any() and b.any() else 0.0

    for user in range(0, 119, 17):
        history = [i for i in history_of(audited, user) if i >= 0]
        served = [i for i in audited.lists["lists"][user].tolist() if i >= 0]
        expected: list[float] = []
        for items, others, one in ((history, served, served[0]), (served, history, history[-1])):
            middle = np.array(weighted_mean(audited, others, [1.0] * len(others)))
            relations = [
                [cosine(vectors[i], middle) for i in items],
                [cosine(vectors[i], vectors[one]) for i in items],
                [math.log(share[i]) for i in items],
            ]
            for values in relations:
                expected += [sum(values) / len(values), min(values), max(values), values[-1]]
        np.testing.assert_allclose(found[user], expected, atol=1e-6)


def test_ten_thousand_people_take_less_than_a_few_seconds(shop_world: World) -> None:
    audited, _, known = shop_world(1.0, audited=400)
    copies = np.tile(np.arange(399), 25)
    many = replace(
        audited,
        users=tuple(map(str, range(len(copies)))),
        user_index=np.arange(len(copies)),
        signals={name: values[copies] for name, values in audited.signals.items()},
        lists={name: values[copies] for name, values in audited.lists.items()},
    )
    for attack in (ShadowFree(), ListPopularity(), BiasedMiaNaiveBayes(), BiasedMiaClustering(), SurrogateFeatures(1)):
        start = time.process_time()
        attack.score(many, known)
        assert time.process_time() - start < 3, attack.title
