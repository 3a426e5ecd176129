"""What a model writes: ranked answers, drawn answers, and that a prompt's answers are its own."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from mia_core.experiment import Base, Lora, Training
from mia_core.models.llm.generation import drawn_answers, ranked_answers
from mia_core.models.llm.gradients import gradient_norms
from mia_core.models.llm.language_model import LanguageModel
from mia_core.models.llm.loading import add_lora, build_offline, train_tokenizer
from mia_core.models.llm.training import fit, hard_loss
from mia_core.observe.observations import observe

TITLES = ["Heat", "Alien", "Se7en", "Amélie"] * 6
PROMPTS = ["After Heat:", "After Alien and Se7en:", "After Amélie and Heat and Alien:"]


@pytest.fixture(scope="module", params=["t5", "gpt2", "llama"])
def model(request: pytest.FixtureRequest) -> LanguageModel:
    """A model that answers the first prompt with Alien three times out of four, else with Se7en."""
    tokenizer = train_tokenizer(TITLES, ["After ", " and ", ":"], 300)
    made = build_offline(Base(family=request.param, width=32, layers=2), tokenizer, 0, torch.device("cpu"))
    prompts = [PROMPTS[0]] * 4 + [PROMPTS[1], PROMPTS[2]] * 2
    answers = ["Alien", "Alien", "Alien", "Se7en"] + ["Heat", "Amélie"] * 2
    encoded = made.encode(prompts, answers)
    fit(made, encoded * 4, hard_loss(), Training(epochs=60, learning_rate=5e-3, batch_size=8), seed=0)
    return made


def test_ranked_answers_come_likeliest_first(model: LanguageModel) -> None:
    ranked = ranked_answers(model, PROMPTS, 3, 8)
    assert ranked[0][:2] == ["Alien", "Se7en"]
    assert [row[0] for row in ranked[1:]] == ["Heat", "Amélie"]


def test_drawn_answers_follow_the_models_own_distribution(model: LanguageModel) -> None:
    (drawn,) = drawn_answers(model, PROMPTS[:1], 400, 1.0, 8, seed=0)
    likely = {
        title: float(np.exp(observe(model, PROMPTS[:1], [title]).sample_sum("log_probability")[0]))
        for title in ("Alien", "Se7en")
    }
    counts = Counter(drawn)
    for title, probability in likely.items():
        assert counts[title] / 400 == pytest.approx(probability, abs=4 * (probability * (1 - probability) / 400) ** 0.5)
    (cold,) = drawn_answers(model, PROMPTS[:1], 50, 0.1, 8, seed=0)
    assert set(cold) == {"Alien"}


def test_answers_do_not_depend_on_company(model: LanguageModel) -> None:
    together = drawn_answers(model, PROMPTS, 5, 1.3, 8, seed=1)
    assert [drawn_answers(model, [prompt], 5, 1.3, 8, seed=1)[0] for prompt in PROMPTS] == together
    assert drawn_answers(model, PROMPTS, 5, 1.3, 8, seed=2) != together
    ranked = ranked_answers(model, PROMPTS, 3, 8)
    assert [ranked_answers(model, [prompt], 3, 8)[0] for prompt in PROMPTS] == ranked


def test_gradients_are_small_where_the_model_has_learned_the_answer(model: LanguageModel) -> None:
    right, wrong = (
        gradient_norms(model, model.encode(PROMPTS[1:], a)) for a in (["Heat", "Amélie"], ["Se7en", "Heat"])
    )
    assert (right[:, 1] < wrong[:, 1]).all()
    # By definition: the 1-norm is the largest, the maximum the smallest.
    assert (wrong[:, 0] >= wrong[:, 1]).all()
    assert (wrong[:, 1] >= wrong[:, 2]).all()


def test_gradient_norms_equal_a_plain_backward_pass() -> None:
    tokenizer = train_tokenizer(TITLES, ["After "], 300)
    made = build_offline(Base(width=32, layers=2), tokenizer, 0, torch.device("cpu"))
    tuned = add_lora(made, Lora(rank=4), 0)
    samples = tuned.encode(PROMPTS, ["Heat", "Alien", "Se7en"])
    norms = gradient_norms(tuned, samples)
    for i, sample in enumerate(samples):
        tuned.network.zero_grad()
        hard_loss()(tuned.answer_outputs([sample]), [sample]).mean().backward()
        flat = torch.cat([p.grad.reshape(-1) for n, p in tuned.network.named_parameters() if "lora_" in n])
        assert norms[i, 1] == pytest.approx(float(flat.square().sum().sqrt()), rel=1e-4)


def test_noise_on_embeddings_is_the_same_in_every_batch(model: LanguageModel) -> None:
    copy = build_offline(Base(family=model.family.name, width=32, layers=2), model.tokenizer, 0, torch.device("cpu"))
    copy.network.load_state_dict(model.network.state_dict())
    plain = observe(model, PROMPTS, TITLES[:3]).log_probability
    copy.add_embedding_noise(0.5, 7)
    together = observe(copy, PROMPTS, TITLES[:3]).log_probability
    alone = observe(copy, PROMPTS, TITLES[:3], tokens_per_batch=1).log_probability
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert np.abs(together - plain).mean() > 0.01
