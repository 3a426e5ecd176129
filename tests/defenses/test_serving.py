"""Defences in serving: what is shown of tiny models, and in which order a recommender's lists are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from art.defences.postprocessor import ReverseSigmoid

from mia_core.defenses.catalogue import configured
from mia_core.errors import ConfigError
from mia_core.experiment import Base, Recommender
from mia_core.models.llm.served import ServedModel, only_top, reverse_sigmoid, rounded
from mia_core.models.recommenders import recommend
from mia_core.models.sequence import build_sequence
from mia_core.models.sequence_families import FIRST_ITEM
from mia_core.observe.observations import Encoded

SHOWN = {
    "temperature": {"temperature": 3.0},
    "rounding": {"digits": 1},
    "top_k": {"k": 3},
    "output_noise": {"beta": 0.5, "gamma": 0.2},
}
VOCABULARY = 50


def change(name: str, **settings: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    """What a defence does to logits over the vocabulary."""
    items = [f"i{k:02d}" for k in range(VOCABULARY - FIRST_ITEM)]
    model = build_sequence(Base(family="sasrec", width=32, layers=2), items, 0, torch.device("cpu"))
    served = configured(name, settings or SHOWN[name]).served(model, 0)
    assert isinstance(served, ServedModel)
    return served.change


def logits(rows: int = 40, spread: float = 3.0) -> torch.Tensor:
    return spread * torch.randn(rows, VOCABULARY, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", SHOWN)
@pytest.mark.parametrize("spread", [0.0, 1.0, 5.0, 100.0])
def test_shown_probabilities_are_finite_and_the_best_answer_stays_among_the_best(name: str, spread: float) -> None:
    own = logits(spread=spread)
    shown = torch.log_softmax(change(name)(own), dim=-1)
    if not (name == "temperature" and spread == 100.0):
        assert torch.isfinite(shown).all()
    torch.testing.assert_close(shown.exp().sum(-1), torch.ones(40))
    at_best = shown.gather(-1, own.argmax(-1, keepdim=True))[:, 0]
    torch.testing.assert_close(at_best, shown.amax(-1))


@pytest.mark.parametrize("name", SHOWN)
def test_what_is_shown_at_a_position_depends_on_that_position_alone(name: str) -> None:
    own, shown_as = logits(), change(name)
    together = shown_as(own.reshape(4, 10, VOCABULARY)).reshape(40, VOCABULARY)
    torch.testing.assert_close(shown_as(own[[7]]), together[[7]])


@pytest.mark.parametrize("name", ["temperature", "rounding", "top_k"])
def test_the_order_of_the_answers_is_kept_but_for_ties(name: str) -> None:
    own = logits()
    order = own.argsort(-1, descending=True)
    in_order = torch.log_softmax(change(name)(own), dim=-1).gather(-1, order)
    assert (in_order[:, 1:] <= in_order[:, :-1] + 1e-6).all()


def test_a_temperature_flattens_without_a_change_of_order() -> None:
    own = logits()
    flat, sharp = change("temperature", temperature=4.0)(own), change("temperature", temperature=0.25)(own)
    best = [torch.softmax(shown, -1).amax(-1) for shown in (flat, own, sharp)]
    assert (best[0] < best[1]).all()
    assert (best[1] < best[2]).all()
    assert torch.equal(flat.argsort(-1), own.argsort(-1))


# Rounding


def test_rounding_destroys_fine_differences() -> None:
    p = torch.tensor([[0.52, 0.31, 0.13, 0.04], [0.48, 0.29, 0.09, 0.14]])
    q = torch.tensor([[0.46, 0.34, 0.14, 0.06], [0.54, 0.26, 0.12, 0.08]])
    torch.testing.assert_close(rounded(p.log(), 1)[1], rounded(q.log(), 1)[1])
    assert not torch.allclose(rounded(p.log(), 2), rounded(q.log(), 2))


def test_what_is_rounded_to_nothing_shares_what_is_left() -> None:
    shown = torch.softmax(rounded(torch.tensor([0.94, 0.03, 0.02, 0.01]).log(), 1), -1)
    # 0.9 is shown and 0.1 is left for three.
    torch.testing.assert_close(shown, torch.tensor([0.9, 0.1 / 3, 0.1 / 3, 0.1 / 3]))


def test_no_hidden_token_looks_likelier_than_a_shown_one() -> None:
    # Rounded up together they are more than 1; rounded down together, much is left over for a single token.
    for p in ([0.27, 0.26, 0.26, 0.17, 0.04], [0.24, 0.24, 0.24, 0.24, 0.04]):
        shown = rounded(torch.tensor(p).log(), 1)
        assert torch.isfinite(shown).all()
        assert shown[-1] < shown[:-1].min()


def test_where_all_probabilities_are_small_nothing_is_told() -> None:
    torch.testing.assert_close(
        torch.softmax(rounded(logits(spread=0.1), 1), -1), torch.full((40, VOCABULARY), 1 / VOCABULARY)
    )


# Top answers


def test_only_the_top_answers_are_told_apart() -> None:
    own = logits()
    p, shown = torch.softmax(own, -1), torch.softmax(change("top_k", k=3)(own), -1)
    for row in range(len(own)):
        best = p[row].topk(3).indices.tolist()
        others = [i for i in range(VOCABULARY) if i not in best]
        torch.testing.assert_close(shown[row, best], p[row, best])
        torch.testing.assert_close(shown[row, others], torch.full((VOCABULARY - 3,), float(p[row, others].mean())))


def test_showing_everything_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"top_k.k is 50; the model tells 50 probabilities, so none is hidden"):
        change("top_k", k=VOCABULARY)
    assert change("top_k", k=VOCABULARY - 1) is not None
    torch.testing.assert_close(only_top(logits(), VOCABULARY), torch.log_softmax(logits(), -1))


# Output noise


@pytest.mark.parametrize(("beta", "gamma"), [(0.3, 0.1), (1.0, 0.2), (0.7, 0.9)])
@pytest.mark.parametrize("answers", [2, 5, 50])
def test_bent_probabilities_are_those_of_the_reverse_sigmoid(beta: float, gamma: float, answers: int) -> None:
    p = torch.softmax(logits()[:, :answers].double(), -1)
    expected = ReverseSigmoid(beta=2 * beta / answers, gamma=gamma)(p.numpy())
    shown = torch.softmax(reverse_sigmoid(p.log(), beta, gamma), -1).numpy()
    np.testing.assert_allclose(shown, expected, atol=1e-7)


@pytest.mark.parametrize("beta", [0.1, 0.5, 1.0])
def test_bending_turns_the_order_of_unlikely_answers_and_keeps_the_best(beta: float) -> None:
    own = torch.cat([logits(spread=spread) for spread in (0.01, 0.3, 3.0, 10.0, 60.0)])
    shown = reverse_sigmoid(own, beta, 0.2)
    assert torch.equal(shown.argmax(-1), own.argmax(-1))
    unlikely = torch.tensor([[12.0, 0.0, -4.0]])
    assert reverse_sigmoid(unlikely, beta, 0.2)[0].argsort().tolist() == [1, 2, 0]


# Lists


def histories(rows: int, items: int) -> scipy.sparse.csr_array:
    dense = np.zeros((rows, items), np.float32)
    dense[:, :3] = 1
    return scipy.sparse.csr_array(dense)


def served(settings: Recommender, seeds: list[int], rows: int = 1, items: int = 30) -> np.ndarray:
    scores = np.tile(np.arange(items, 0, -1, dtype=np.float32), (rows, 1))
    return recommend(
        scores, histories(rows, items), settings.length, settings.candidates, seeds, shuffled=settings.shuffled
    )


def test_a_shuffled_list_holds_the_same_items_in_an_order_of_its_own() -> None:
    plain = Recommender(length=10)
    shuffled = configured("list_shuffle", {}).lists(plain)
    seeds = list(range(300))
    lists = served(shuffled, seeds, rows=300)
    best = served(plain, [], rows=300)
    assert best[0].tolist() == list(range(3, 13))
    np.testing.assert_array_equal(np.sort(lists, axis=1), best)
    # Each item comes first about as often.
    assert np.bincount(lists[:, 0], minlength=13)[3:].min() > 12
    np.testing.assert_array_equal(served(shuffled, [7]), lists[[7]])


def test_a_randomised_list_is_drawn_from_the_candidates_and_stays_in_order_unless_shuffled() -> None:
    randomised = configured("popularity_randomisation", {"candidates": 20}).lists(Recommender(length=10))
    lists = served(randomised, list(range(300)), rows=300)
    assert set(np.unique(lists)) == set(range(3, 23))
    assert (np.diff(lists, axis=1) > 0).all()
    both = served(configured("list_shuffle", {}).lists(randomised), list(range(300)), rows=300)
    assert set(np.unique(both)) == set(range(3, 23))
    assert not (np.diff(both, axis=1) > 0).all(axis=1).any()


def test_a_list_longer_than_the_catalogue_is_shuffled_and_filled_up() -> None:
    (shuffled,) = served(Recommender(length=10, shuffled=True), [0], items=8)
    assert sorted(shuffled[:5]) == [3, 4, 5, 6, 7]
    assert shuffled[5:].tolist() == [-1] * 5


def test_an_answer_of_one_position_needs_no_batch() -> None:
    shown = configured("rounding", {}).served(
        build_sequence(Base(family="sasrec", width=32, layers=2), ["a", "b", "c"], 0, torch.device("cpu")), 0
    )
    assert shown.answer_outputs([Encoded((FIRST_ITEM,), (FIRST_ITEM + 1,))]).logits.shape == (1, 1, 3 + FIRST_ITEM)
