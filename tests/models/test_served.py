"""Models behind a service: the calls of a model, with what is shown in place of what it says."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

from mia_core.data.prompts import SEPARATOR
from mia_core.experiment import Base
from mia_core.models.llm.distillation import TeacherAnswers
from mia_core.models.llm.loading import build_offline, train_tokenizer
from mia_core.models.llm.served import SHOWN_WIDTH, Change, ServedModel, only_top
from mia_core.models.sequence import build_sequence
from mia_core.observe.observations import observe
from mia_core.observe.output_vectors import output_vectors

CPU = torch.device("cpu")
TITLES = [f"Film {i} ({1950 + i})" for i in range(30)]
FAMILIES = ["t5", "gpt2", "llama", "xlnet", "sasrec"]


def tiny(family: str, seed: int = 0) -> Any:
    base = Base(family=family, width=32, layers=2)
    if family in ("xlnet", "sasrec"):
        return build_sequence(base, TITLES, seed, CPU)
    return build_offline(base, train_tokenizer(TITLES, ["History: ", " Next:"], 320), seed, CPU)


def questions(family: str) -> tuple[list[str], list[str]]:
    """Prompts and answers of different lengths."""
    if family in ("xlnet", "sasrec"):
        return [""] * 12, [SEPARATOR.join(TITLES[i : i + 2 + i % 5]) for i in range(12)]
    return [f"History: {' '.join(TITLES[i : i + 1 + i % 4])} Next:" for i in range(12)], [
        " ".join(TITLES[i + 5 : i + 6 + i % 3]) for i in range(12)
    ]


def as_it_is(logits: torch.Tensor) -> torch.Tensor:
    return logits


def halved(logits: torch.Tensor) -> torch.Tensor:
    return logits / 2


def shown(family: str, change: Change = halved, seed: int = 0) -> ServedModel:
    return ServedModel(tiny(family), change, seed)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_service_that_changes_nothing_shows_what_the_model_says(family: str) -> None:
    own, served = observe(tiny(family), *questions(family)), observe(shown(family, as_it_is), *questions(family))
    for name in ("log_probability", "entropy", "rank", "top_token", "token", "offsets"):
        np.testing.assert_allclose(getattr(served, name), getattr(own, name), atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_observed_is_what_is_shown(family: str) -> None:
    own, served = observe(tiny(family), *questions(family)), observe(shown(family), *questions(family))
    assert (served.entropy > own.entropy).all()
    np.testing.assert_array_equal(served.top_token, own.top_token)
    one = observe(shown(family, lambda logits: only_top(logits, 1)), *questions(family))
    # All but the best token share alike: the answer is either first, or behind it with everything else.
    assert set(np.unique(one.rank)) <= {0, 1}


@pytest.mark.parametrize("family", FAMILIES)
def test_in_place_of_hidden_vectors_there_is_what_outputs_tell(family: str) -> None:
    prompts, answers = questions(family)
    served = observe(shown(family), prompts, answers)
    assert served.hidden.shape == (12, 1, SHOWN_WIDTH)
    np.testing.assert_array_equal(observe(shown(family), prompts, answers).hidden, served.hidden)
    assert abs(observe(shown(family, seed=1), prompts, answers).hidden - served.hidden).max() > 1e-3

    def blind(logits: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(logits)

    # Where all answers look alike, nothing of the model or of the question is left.
    (same,) = np.unique(observe(shown(family, blind), prompts, answers).hidden.round(5), axis=0)
    assert np.isfinite(same).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_company_in_a_batch_does_not_matter(family: str) -> None:
    prompts, answers = questions(family)
    served = shown(family, lambda logits: only_top(logits, 5))
    together = observe(served, prompts, answers)
    alone = observe(served, prompts, answers, tokens_per_batch=1)
    np.testing.assert_allclose(alone.hidden, together.hidden, atol=1e-5)
    np.testing.assert_allclose(alone.log_probability, together.log_probability, atol=1e-4)
    single = observe(served, prompts[4:5], answers[4:5])
    np.testing.assert_allclose(single.hidden[0], together.hidden[4], atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_changes_are_made_one_after_the_other(family: str) -> None:
    twice = ServedModel(shown(family), lambda logits: only_top(logits, 4), 0)
    other = ServedModel(tiny(family), lambda logits: only_top(logits / 2, 4), 0)
    first, second = observe(twice, *questions(family)), observe(other, *questions(family))
    np.testing.assert_allclose(first.log_probability, second.log_probability, atol=1e-5)
    np.testing.assert_allclose(first.hidden, second.hidden, atol=1e-6)


def test_next_items_are_those_shown() -> None:
    histories = [SEPARATOR.join(TITLES[:4]), ""]
    own, served = tiny("sasrec").next_items(histories), shown("sasrec").next_items(histories)
    assert served.dtype == np.float32
    np.testing.assert_allclose(np.exp(served).sum(1), 1, atol=1e-5)
    np.testing.assert_array_equal(served.argsort(1), own.argsort(1))
    assert (served.max(1) < own.max(1)).all()
    few = ServedModel(shown("sasrec"), lambda logits: only_top(logits, 3), 0).next_items(histories)
    assert [len(np.unique(row.round(5))) for row in few] == [4, 4]


@pytest.mark.parametrize("family", FAMILIES)
def test_students_and_maps_learn_what_is_shown(family: str) -> None:
    prompts, answers = questions(family)
    served = shown(family, lambda logits: only_top(logits, 2))
    taught = TeacherAnswers(served, 1.0)(served.encode(prompts, answers))
    assert all(len(torch.unique(row.round(decimals=5))) <= 3 for row in taught)
    own, seen = output_vectors(tiny(family), prompts, answers)[0], output_vectors(served, prompts, answers)[0]
    assert abs(own - seen).max() > 1e-3


def test_everything_else_is_the_models_own() -> None:
    served = shown("gpt2")
    assert served.network is served.model.network
    assert served.plain_network is served.model.plain_network
    assert served.tokenizer is served.model.tokenizer
    assert served.longest == served.model.longest
    assert served.tokens_at_once == served.model.tokens_at_once
    assert served.device == CPU
    with pytest.raises(AttributeError):
        _ = served.nothing_of_the_kind
    assert copy.copy(served).model is served.model


def test_a_noisy_model_stays_behind_its_service() -> None:
    served = shown("gpt2")
    before = observe(served, *questions("gpt2"))
    noisy = served.add_embedding_noise(0.5, 1)
    assert isinstance(noisy, ServedModel)
    after = observe(noisy, *questions("gpt2"))
    assert after.hidden.shape == before.hidden.shape
    assert abs(after.log_probability - before.log_probability).max() > 1e-3
