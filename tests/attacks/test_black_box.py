from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mia_core.attacks.black_box import ListConsistency, ListHit, Petal, ReferenceRecommendation, TextDistillation
from mia_core.attacks.contract import out_of_fold_scores
from mia_core.attacks.evidence import Evidence, Known
from mia_core.errors import ModelError

World = Callable[..., tuple[Evidence, np.ndarray, Known]]
Sample = Callable[[Evidence, int], float]


def per_user(evidence: Evidence, of_sample: Sample) -> np.ndarray:
    """Mean over each user's samples that have a value, in plain loops."""
    means = []
    for user in range(len(evidence.users)):
        values = [of_sample(evidence, i) for i in range(len(evidence.user_index)) if evidence.user_index[i] == user]
        values = [value for value in values if not math.isnan(value)]
        means.append(sum(values) / len(values) if values else math.nan)
    return np.array(means)


def mean_of_items(evidence: Evidence, items: np.ndarray) -> list[float] | None:
    """Mean vector of the items that have one, coordinate by coordinate."""
    vectors = [evidence.background.item_vectors[i].tolist() for i in items if i >= 0]
    vectors = [vector for vector in vectors if any(vector)]
    return [sum(column) / len(vectors) for column in zip(*vectors, strict=True)] if vectors else None


def with_lists(evidence: Evidence, **lists: np.ndarray) -> Evidence:
    """The evidence with some lists replaced; two underscores stand for the stroke in a name."""
    return replace(evidence, lists={**evidence.lists, **{name.replace("__", "/"): v for name, v in lists.items()}})


def reciprocal_rank_by_hand(evidence: Evidence, i: int) -> float:
    for place, item in enumerate(evidence.lists["lists"][i], start=1):
        if item == evidence.signals["answer_item"][i]:
            return 1 / place
    return 0.0


def test_list_hit_is_the_mean_reciprocal_rank(world: World) -> None:
    audited, _, known = world(1.0)
    np.testing.assert_allclose(ListHit().score(audited, known), per_user(audited, reciprocal_rank_by_hand))


def test_a_hit_at_the_top_counts_more_than_one_further_down(world: World) -> None:
    audited, _, known = world(0.0)
    answer = audited.signals["answer_item"]
    miss = np.full((len(answer), 3), -1)
    scores = []
    for place in range(3):
        lists = miss.copy()
        lists[:, place] = answer
        scores.append(ListHit().score(with_lists(audited, lists=lists), known)[0])
    assert scores == pytest.approx([1, 1 / 2, 1 / 3])
    assert ListHit().score(with_lists(audited, lists=miss), known)[0] == 0


def test_list_consistency_counts_pairs_that_agree(world: World) -> None:
    audited, _, known = world(1.0)
    drawn = audited.lists["temperatures"].copy()
    drawn[np.random.default_rng(0).random(drawn.shape) < 0.2] = -1
    audited = with_lists(audited, temperatures=drawn)

    def agreement(evidence: Evidence, i: int) -> float:
        choices = [int(c) for c in evidence.lists["temperatures"][i].ravel()]
        pairs = [(a, b) for k, a in enumerate(choices) for b in choices[k + 1 :]]
        return sum(a == b != -1 for a, b in pairs) / len(pairs)

    np.testing.assert_allclose(ListConsistency().score(audited, known), per_user(audited, agreement))


def test_inventions_never_agree_and_a_single_draw_says_nothing(world: World) -> None:
    audited, _, known = world(0.0)
    n = len(audited.user_index)
    for drawn, expected in [
        (np.full((n, 2, 3), -1), 0.0),
        (np.full((n, 2, 3), 7), 1.0),
        (np.full((n, 1, 1), 7), np.nan),
    ]:
        scores = ListConsistency().score(with_lists(audited, temperatures=drawn), known)
        np.testing.assert_array_equal(scores[:-1], expected)


def rho_by_hand(evidence: Evidence, i: int, epsilon: float) -> float:
    served = mean_of_items(evidence, evidence.lists["lists"][i])
    stranger = mean_of_items(evidence, evidence.lists["lists/no_history"][i])
    history = mean_of_items(evidence, evidence.signals["history_items"][i])
    if served is None or stranger is None or history is None:
        return math.nan
    return -math.log((math.dist(served, history) + epsilon) / (math.dist(served, stranger) + epsilon))


def test_reference_recommendation_is_minus_log_rho(world: World) -> None:
    audited, _, known = world(1.0)
    lists = audited.lists["lists"].copy()
    lists[:4] = -1  # all windows of one user, one of the next
    vectors = audited.background.item_vectors.copy()
    vectors[::9] = 0
    audited = replace(with_lists(audited, lists=lists), background=replace(audited.background, item_vectors=vectors))
    scores = ReferenceRecommendation(epsilon=0.02).score(audited, known)
    np.testing.assert_allclose(scores, per_user(audited, lambda e, i: rho_by_hand(e, i, 0.02)), rtol=1e-6)
    assert np.isnan(scores[0])
    assert np.isfinite(scores[1:-1]).all()


def test_a_list_like_the_history_scores_above_zero_and_a_strangers_list_below(world: World) -> None:
    audited, _, known = world(0.0)
    history, stranger = audited.signals["history_items"], audited.lists["lists/no_history"]
    personal = ReferenceRecommendation().score(with_lists(audited, lists=history), known)
    impersonal = ReferenceRecommendation().score(with_lists(audited, lists=stranger), known)
    assert (personal[:-1] > 0).all()
    assert (impersonal[:-1] < 0).all()
    assert np.isfinite([*personal[:-1], *impersonal[:-1]]).all()


def test_reference_recommendation_finds_members_whose_lists_echo_their_history(world: World) -> None:
    audited, member, known = world(0.0)
    lists, history = audited.lists["lists"].copy(), audited.signals["history_items"]
    inside = member[audited.user_index]
    lists[inside, :4] = history[inside]
    scores = ReferenceRecommendation().score(with_lists(audited, lists=lists), known)
    assert roc_auc_score(member[:-1], scores[:-1]) > 0.9


def petal_by_hand(audited: Evidence, known: Known) -> np.ndarray:
    def tokens(evidence: Evidence, view: str, i: int) -> list[tuple[float, float]]:
        observed, vectors = evidence.views[view], evidence.background.token_vectors
        found = []
        for t in range(observed.offsets[i], observed.offsets[i + 1]):
            a, b = vectors[observed.top_token[t]].tolist(), vectors[observed.token[t]].tolist()
            dot = sum(p * q for p, q in zip(a, b, strict=True))
            found.append((dot / math.hypot(*a) / math.hypot(*b), float(observed.log_probability[t])))
        return found

    fitted_on = [pair for i in range(len(known.evidence.user_index)) for pair in tokens(known.evidence, "base", i)]
    slope, intercept = np.polyfit(*zip(*fitted_on, strict=True), deg=1)

    def estimate(evidence: Evidence, i: int) -> float:
        values = [intercept + slope * similarity for similarity, _ in tokens(evidence, "target", i)]
        return sum(values) / len(values)

    return per_user(audited, estimate)


def test_petal_estimates_the_log_probability_from_greedy_tokens(world: World) -> None:
    audited, _, known = world(1.0)
    np.testing.assert_allclose(Petal().score(audited, known), petal_by_hand(audited, known), rtol=1e-5)


def test_petal_sees_no_probability_of_the_target(world: World) -> None:
    audited, _, known = world(1.0)
    target = audited.views["target"]
    blind = replace(target, log_probability=target.log_probability * np.nan, top_probability=target.entropy * np.nan,
                    entropy=target.entropy * np.nan, rank=-target.rank)  # fmt: skip
    hidden = replace(audited, views={**audited.views, "target": blind})
    for attack in (Petal(), TextDistillation()):
        np.testing.assert_array_equal(attack.score(hidden, known), attack.score(audited, known))


def test_petal_gives_a_right_guess_what_the_base_gives_its_own(world: World) -> None:
    audited, _, known = world(0.0)
    target, base = audited.views["target"], known.evidence.views["base"]
    right = replace(audited, views={"target": replace(target, top_token=target.token)})
    scores = Petal().score(right, known)[:-1]
    hits = base.top_token == base.token
    assert scores == pytest.approx(float(base.log_probability[hits].mean()), abs=0.1)
    assert (scores > Petal().score(audited, known)[:-1]).all()


def test_a_base_that_is_always_right_gives_one_estimate_for_all(world: World) -> None:
    audited, _, known = world(1.0)
    base = known.evidence.views["base"]
    sure = replace(known.evidence, views={"base": replace(base, top_token=base.token)})
    scores = Petal().score(audited, Known(sure, known.member))[:-1]
    np.testing.assert_allclose(scores, base.log_probability.mean(dtype=float), rtol=1e-6)


def test_attacks_that_need_public_counts_say_so(world: World) -> None:
    audited, _, known = world(1.0)
    with pytest.raises(ModelError, match="background"):
        ReferenceRecommendation().score(replace(audited, background=None), known)


def test_text_distillation_features_are_what_they_say(world: World) -> None:
    audited, _, _ = world(1.0)
    lists = audited.lists["lists"].copy()
    lists[:2, 0] = -1
    audited = replace(audited, lists={**audited.lists, "lists": lists})
    found = TextDistillation().features(audited)

    def share_right(view: str) -> Sample:
        def share(evidence: Evidence, i: int) -> float:
            observed = evidence.views[view]
            mine = range(observed.offsets[i], observed.offsets[i + 1])
            return sum(observed.top_token[t] == observed.token[t] for t in mine) / len(mine)

        return share

    def first_like_truth(evidence: Evidence, i: int) -> float:
        first = evidence.lists["lists"][i][0]
        vectors = evidence.background.item_vectors.astype(float)
        # Item vectors have length one.
        return float(vectors[first] @ vectors[evidence.signals["answer_item"][i]]) if first >= 0 else 0.0

    expected = [
        per_user(audited, lambda e, i: float(reciprocal_rank_by_hand(e, i) > 0)),
        per_user(audited, reciprocal_rank_by_hand),
        per_user(audited, first_like_truth),
        per_user(audited, share_right("target")) - per_user(audited, share_right("self_prompted")),
        per_user(audited, share_right("self_prompted")),
    ]
    np.testing.assert_allclose(found[:, :5], np.column_stack(expected), atol=1e-6)
    copy = audited.views["self_prompted"]
    for column, name in enumerate(("log_probability", "top_probability", "entropy"), start=5):
        np.testing.assert_allclose(found[:, column], audited.user_mean(copy.sample_mean(name)), rtol=1e-6)


def test_what_the_copy_finds_likely_too_is_no_sign_of_membership(world: World) -> None:
    """Half of the users are easy for target and copy alike; only members are easier for the target."""
    rng = np.random.default_rng(0)

    def planted(evidence: Evidence, member: np.ndarray, easy: np.ndarray) -> Evidence:
        def guesses(view: str, right: np.ndarray) -> np.ndarray:
            observed = evidence.views[view]
            owner = np.repeat(evidence.user_index, np.diff(observed.offsets))
            hit = rng.random(len(owner)) < right[owner]
            return np.where(hit, observed.token, (observed.token + 1) % 40).astype(np.int32)

        shares = {"self_prompted": 0.1 + 0.6 * easy, "target": 0.1 + 0.6 * easy + 0.25 * member}
        views = {v: replace(evidence.views[v], top_token=guesses(v, share)) for v, share in shares.items()}
        return replace(evidence, views={**evidence.views, **views})

    audited, member, known = world(0.0)
    audited = planted(audited, member, rng.random(len(member)) < 0.5)
    known = Known(planted(known.evidence, known.member, rng.random(len(known.member)) < 0.5), known.member)
    with_copy = roc_auc_score(member[:-1], TextDistillation().score(audited, known)[:-1])
    target = audited.views["target"]
    alone = audited.user_mean(replace(target, rank=target.top_token == target.token).sample_mean("rank"))
    assert with_copy > roc_auc_score(member[:-1], alone[:-1]) + 0.05
    assert roc_auc_score(known.member, out_of_fold_scores(TextDistillation(), known)) > 0.75


def test_ten_thousand_users_take_well_under_a_second(world: World) -> None:
    audited, _, known = world(1.0, audited=400)
    many = audited.take(np.arange(399))
    copies = np.tile(np.arange(len(many.user_index)), 30)
    rng = np.random.default_rng(0)
    many = replace(
        many,
        users=tuple(map(str, range(399 * 30))),
        user_index=np.repeat(np.arange(399 * 30), 3),
        views={name: many.views[name].take(copies) for name in ("target", "base", "self_prompted")},
        cross_fitted={},
        shadow_in=None,
        signals={name: values[copies] for name, values in many.signals.items()},
        lists={name: rng.permutation(items[copies]) for name, items in many.lists.items()},
    )
    for attack in (Petal(), ListHit(), ListConsistency(), ReferenceRecommendation()):
        start = time.perf_counter()
        attack.score(many, known)
        assert time.perf_counter() - start < 1, attack.title
