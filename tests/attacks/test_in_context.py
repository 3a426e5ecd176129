from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mia_core.attacks.catalogue import ATTACKS
from mia_core.attacks.evidence import Evidence, Known
from mia_core.attacks.in_context import Hallucination, Inquiry, Memorisation, Poisoning, Similarity
from mia_core.data.prompts import PROMPT_STYLES, Event, PromptWriter
from mia_core.observe.views import VARIANTS, Asking, Catalogue

World = Callable[..., tuple[Evidence, np.ndarray, Known]]


def per_user(evidence: Evidence, of_sample: Callable[[int], float]) -> np.ndarray:
    """Mean over each user's samples that have a value, in plain loops."""
    means = []
    for user in range(len(evidence.users)):
        values = [of_sample(i) for i in range(len(evidence.user_index)) if evidence.user_index[i] == user]
        values = [value for value in values if not math.isnan(value)]
        means.append(sum(values) / len(values) if values else math.nan)
    return np.array(means)


def with_lists(evidence: Evidence, **lists: np.ndarray) -> Evidence:
    """The evidence with some lists replaced; two underscores stand for the stroke in a name."""
    return replace(evidence, lists={**evidence.lists, **{name.replace("__", "/"): v for name, v in lists.items()}})


def test_inquiry_is_the_mean_of_what_was_asked(world: World) -> None:
    audited, member, known = world(1.0)
    answers = np.random.default_rng(0).normal(size=len(audited.user_index)) + 2 * member[audited.user_index]
    asked = replace(audited, signals={**audited.signals, "inquiry": answers})
    scores = Inquiry().score(asked, known)
    np.testing.assert_allclose(scores, per_user(asked, lambda i: float(answers[i])))
    assert roc_auc_score(member[:-1], scores[:-1]) > 0.9


def test_hallucination_is_minus_the_share_of_inventions(world: World) -> None:
    audited, _, known = world(1.0)
    lists = audited.lists["lists"]

    def inventions(i: int) -> float:
        return -sum(item == -1 for item in lists[i]) / len(lists[i])

    np.testing.assert_allclose(Hallucination().score(audited, known), per_user(audited, inventions))


def test_fewer_inventions_mean_a_likelier_member(world: World) -> None:
    audited, member, known = world(0.0)
    lists = np.abs(audited.lists["lists"])
    stranger = ~member[audited.user_index]
    lists[stranger, -2:] = -1
    scores = Hallucination().score(with_lists(audited, lists=lists), known)
    assert roc_auc_score(member[:-1], scores[:-1]) == 1


def test_similarity_is_the_mean_cosine_with_the_history(world: World) -> None:
    audited, _, known = world(1.0)
    lists = audited.lists["lists"].copy()
    lists[:4] = -1  # all windows of one user, one of the next
    audited = with_lists(audited, lists=lists)
    vectors = audited.background.item_vectors.astype(float).tolist()

    def likeness(i: int) -> float:
        history = [
            sum(column) for column in zip(*(vectors[k] for k in audited.signals["history_items"][i]), strict=True)
        ]
        cosines = []
        for item in lists[i]:
            if item >= 0:
                dot = sum(a * b for a, b in zip(vectors[item], history, strict=True))
                cosines.append(dot / math.hypot(*vectors[item]) / math.hypot(*history))
        return sum(cosines) / len(cosines) if cosines else math.nan

    scores = Similarity().score(audited, known)
    np.testing.assert_allclose(scores, per_user(audited, likeness), rtol=1e-5)
    assert np.isnan(scores[0])
    assert np.isfinite(scores[1:-1]).all()


def test_members_are_recommended_what_is_like_their_history(world: World) -> None:
    audited, member, known = world(0.0)
    lists = audited.lists["lists"].copy()
    inside = member[audited.user_index]
    lists[inside, :2] = audited.signals["history_items"][inside, :2]
    scores = Similarity().score(with_lists(audited, lists=lists), known)
    assert roc_auc_score(member[:-1], scores[:-1]) > 0.8


def test_memorisation_is_the_share_of_the_held_back_items(world: World) -> None:
    audited, _, known = world(1.0)

    def completed(i: int) -> float:
        history = audited.signals["history_items"][i].tolist()
        held_back = [*history[len(history) // 2 :], int(audited.signals["answer_item"][i])]
        return sum(item in audited.lists["lists/half"][i] for item in held_back) / len(held_back)

    np.testing.assert_allclose(Memorisation().score(audited, known), per_user(audited, completed))


@pytest.mark.parametrize("history", [1, 2, 3, 4, 5])
def test_what_stood_in_the_prompt_is_no_memory(history: int, world: World) -> None:
    audited, _, known = world(0.0)
    n = len(audited.user_index)
    items = np.tile(np.arange(history), (n, 1))
    shown = max(1, (history + 1) // 2)  # the question `half` counts the answer into its window
    parrot = np.pad(items[:, :shown], ((0, 0), (0, 10 - shown)), constant_values=-1)
    signals = {**audited.signals, "history_items": items, "answer_item": np.full(n, 59)}
    repeated = with_lists(replace(audited, signals=signals), lists__half=parrot)
    np.testing.assert_array_equal(Memorisation().score(repeated, known)[:-1], 0)
    rest = np.pad(items[:, shown:], ((0, 0), (0, 10)), constant_values=59)
    completed = with_lists(replace(audited, signals=signals), lists__half=rest)
    np.testing.assert_array_equal(Memorisation().score(completed, known)[:-1], 1)


def test_the_half_that_is_held_back_is_the_half_that_is_not_asked_with() -> None:
    """The same cut as the view `half` makes."""
    names = [f"i{k}" for k in range(8)]
    titles = {name: name for name in names}
    for history in range(1, 7):
        style = PROMPT_STYLES["next_item"]
        writer = PromptWriter(style, style.template, ", ", history + 1, titles, 0.0)
        window = [Event(name, name, None) for name in names[: history + 1]]
        asking = Asking(writer, Catalogue.of(names, [window]), 0, {}, ())
        shown = VARIANTS["half"](writer.write(["u"], [[window]]), asking, 0).windows[0][:-1]
        evidence = Evidence(
            ("u",),
            np.zeros(1, dtype=np.int64),
            {},
            signals={"history_items": np.arange(history)[None], "answer_item": np.array([history])},
            lists={"lists/half": np.array([[names.index(event.item) for event in shown]])},
        )
        nobody = Known(evidence, np.zeros(1, dtype=bool))
        assert Memorisation().score(evidence, nobody)[0] == 0


def jaccard(first: list[int], second: list[int]) -> float:
    a, b = set(first) - {-1}, set(second) - {-1}
    return len(a & b) / len(a | b) if a | b else math.nan


def test_poisoning_is_the_jaccard_similarity_of_the_two_lists(world: World) -> None:
    audited, _, known = world(1.0)
    lists, poisoned = audited.lists["lists"].copy(), audited.lists["lists/poisoned"].copy()
    lists[:4], poisoned[:4] = -1, -1
    lists[5], poisoned[6] = 3, -1
    audited = with_lists(audited, lists=lists, lists__poisoned=poisoned[:, :8])
    scores = Poisoning().score(audited, known)
    expected = per_user(audited, lambda i: jaccard(lists[i].tolist(), poisoned[i, :8].tolist()))
    np.testing.assert_allclose(scores, expected)
    assert np.isnan(scores[0])


def test_a_list_that_resists_the_poison_scores_higher(world: World) -> None:
    audited, member, known = world(0.0)
    lists, poisoned = audited.lists["lists"], audited.lists["lists/poisoned"].copy()
    inside = member[audited.user_index]
    poisoned[inside, :5] = lists[inside, :5]
    scores = Poisoning().score(with_lists(audited, lists__poisoned=poisoned), known)
    assert roc_auc_score(member[:-1], scores[:-1]) > 0.95
    same = Poisoning().score(with_lists(audited, lists__poisoned=lists), known)
    np.testing.assert_array_equal(same[:-1], 1)


@pytest.mark.parametrize("name", ["inquiry", "hallucination", "similarity", "memorisation", "poisoning"])
def test_it_says_that_membership_in_a_prompt_is_another_claim(name: str) -> None:
    said = " ".join((ATTACKS[name].__doc__ or "").split())
    assert "history sits in the prompt" in said
    assert "reported separately" in said
