"""The batched pass against the slow, obvious one: one sample at a time, one formula at a time."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from mia_core.errors import DataError
from mia_core.experiment import Base
from mia_core.models.llm.language_model import LanguageModel
from mia_core.models.llm.loading import build_offline, train_tokenizer
from mia_core.observe.observations import (
    TOKEN_FIELDS,
    Encoded,
    Observations,
    observe,
    observe_in_shards,
    token_statistics,
    write_shards,
)
from mia_core.observe.output_vectors import output_vectors

TITLES = ["Toy Story (1995)", "Alien (1979)", "Amélie (2001)", "七人の侍 (1954)", "Heat (1995)", "Se7en (1995)"] * 4
PROMPTS = [
    "History: Toy Story (1995) ; Alien (1979) Next:",
    "History: Heat (1995) Next:",
    "History: Heat (1995) ; Se7en (1995) ; Amélie (2001) ; Alien (1979) Next:",
    "x",
]
ANSWERS = ["Heat (1995)", "七人の侍 (1954)", "A title nobody ever met: 🎬", "No"]


def tiny(family: str) -> LanguageModel:
    tokenizer = train_tokenizer(TITLES, ["History: ", " Next:", " ; "], 320)
    return build_offline(Base(family=family, width=32, layers=2), tokenizer, 0, torch.device("cpu"))


def one_at_a_time(model: LanguageModel, sample: Encoded) -> tuple[dict[str, list[float]], np.ndarray]:
    """Every value of one unpadded sample, in float64, straight from its definition."""
    network = model.plain_network
    with torch.no_grad():
        if model.family.encoder_decoder:
            start = [network.config.decoder_start_token_id]
            outputs = network(
                input_ids=torch.tensor([sample.prompt]),
                decoder_input_ids=torch.tensor([start + list(sample.answer[:-1])]),
                output_hidden_states=True,
            )
            logits = outputs.logits[0]
            layers = [h[0].mean(0) for h in (*outputs.encoder_hidden_states[1:], *outputs.decoder_hidden_states[1:])]
        else:
            outputs = network(input_ids=torch.tensor([sample.prompt + sample.answer]), output_hidden_states=True)
            first = len(sample.prompt) - 1
            logits = outputs.logits[0, first : first + len(sample.answer)]
            layers = [h[0, first : first + len(sample.answer)].mean(0) for h in outputs.hidden_states[1:]]
    values: dict[str, list[float]] = {name: [] for name in TOKEN_FIELDS}
    for row, token in zip(logits.double(), sample.answer, strict=True):
        p = torch.softmax(row, 0)
        log_p = p.log()
        entropy = -float((p * log_p).sum())
        values["log_probability"].append(float(log_p[token]))
        values["entropy"].append(entropy)
        values["top_probability"].append(float(p.max()))
        values["rank"].append(int((p > p[token]).sum()))
        values["deviation"].append(math.sqrt(float((p * (log_p + entropy) ** 2).sum())))
        values["renyi_half"].append(2 * math.log(float(p.sqrt().sum())))
        values["renyi_two"].append(-math.log(float((p**2).sum())))
        values["log_complement"].append(float((p * (1 - p).log()).sum()))
        values["root_complement"].append(float((p * (1 - p).sqrt()).sum()))
        values["top_token"].append(int(p.argmax()))
        best = sorted(p.tolist(), reverse=True)[:10]
        values["margin"].append(math.log(best[0] / best[1]))
        values["top_ten"].append(sum(best))
    return values, torch.stack(layers).numpy()


@pytest.mark.parametrize("padding_side", ["left", "right"])
@pytest.mark.parametrize("family", ["t5", "gpt2", "llama"])
def test_batched_pass_equals_one_sample_at_a_time(family: str, padding_side: str) -> None:
    model = tiny(family)
    model.padding_side = padding_side
    found = observe(model, PROMPTS, ANSWERS)
    for i, sample in enumerate(model.encode(PROMPTS, ANSWERS)):
        values, hidden = one_at_a_time(model, sample)
        mine = slice(found.offsets[i], found.offsets[i + 1])
        assert tuple(found.token[mine]) == sample.answer
        for name in TOKEN_FIELDS:
            np.testing.assert_allclose(getattr(found, name)[mine], values[name], atol=1e-5, rtol=1e-5, err_msg=name)
        np.testing.assert_allclose(found.hidden[i], hidden, atol=1e-5)


def test_batch_size_and_company_do_not_matter() -> None:
    model = tiny("t5")
    together = observe(model, PROMPTS, ANSWERS)
    alone = observe(model, PROMPTS, ANSWERS, tokens_per_batch=1)
    backwards = observe(model, PROMPTS[::-1], ANSWERS[::-1]).take(np.arange(len(PROMPTS))[::-1])
    for other in (alone, backwards):
        np.testing.assert_allclose(together.log_probability, other.log_probability, atol=1e-5)
        np.testing.assert_allclose(together.hidden, other.hidden, atol=1e-5)


def test_statistics_do_not_depend_on_how_many_tokens_they_are_computed_of_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = tiny("gpt2")
    together = observe(model, PROMPTS, ANSWERS)
    monkeypatch.setattr("mia_core.observe.observations.STATISTICS_AT_ONCE", 1)
    apart = observe(model, PROMPTS, ANSWERS)
    for name in TOKEN_FIELDS:
        np.testing.assert_array_equal(getattr(together, name), getattr(apart, name))


def test_few_tokens_have_a_mass_and_a_margin() -> None:
    statistics = token_statistics(torch.log(torch.tensor([[0.2, 0.5, 0.3]])), torch.tensor([0]))
    assert statistics["top_ten"].item() == pytest.approx(1)
    assert statistics["margin"].item() == pytest.approx(math.log(0.5 / 0.3))


def test_no_samples_give_no_observations() -> None:
    assert len(observe(tiny("gpt2"), [], [])) == 0


@pytest.mark.parametrize("family", ["t5", "gpt2"])
def test_output_vectors_of_a_language_model(family: str) -> None:
    model = tiny(family)
    last, together = output_vectors(model, PROMPTS, ANSWERS, width=6, seed=1)
    assert last.shape == (4, 6)
    squares, found = together.reshape(4, 20, 20), observe(model, PROMPTS, ANSWERS)
    for i in range(4):
        mine = found.log_probability[found.offsets[i] : found.offsets[i + 1]][-20:]
        np.testing.assert_allclose(np.diag(squares[i])[: len(mine)], mine, atol=1e-4)
        assert not np.diag(squares[i])[len(mine) :].any()
    assert len(output_vectors(model, [], [])[0]) == 0


def test_mixed_takes_each_sample_from_its_model(tmp_path: Path) -> None:
    models = [observe(tiny(family), PROMPTS, ANSWERS) for family in ("gpt2", "llama")]
    mixed = Observations.mixed(models, np.array([0, 1, 1, 0]))
    for i, choice in enumerate([0, 1, 1, 0]):
        assert mixed.sample_mean("entropy")[i] == pytest.approx(models[choice].sample_mean("entropy")[i])
        np.testing.assert_array_equal(mixed.hidden[i], models[choice].hidden[i])
    mixed.write(tmp_path)
    np.testing.assert_array_equal(Observations.read(tmp_path).log_probability, mixed.log_probability)


@pytest.mark.parametrize("largest_read", [0, 2**28])
def test_shards_are_written_as_one_and_read_in_memory_or_from_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, largest_read: int
) -> None:
    monkeypatch.setattr("mia_core.observe.observations.LARGEST_READ", largest_read)
    model, told = tiny("t5"), []
    shards = list(observe_in_shards(model, PROMPTS, ANSWERS, samples_of_a_shard=3, on_progress=told.append))
    assert [len(shard) for shard in shards] == [3, 1]
    assert told[-1] == 1.0
    assert told == sorted(told)
    write_shards(shards, tmp_path)
    found, together = Observations.read(tmp_path), observe(model, PROMPTS, ANSWERS)
    np.testing.assert_array_equal(found.offsets, together.offsets)
    np.testing.assert_array_equal(found.token, together.token)
    for name in (*TOKEN_FIELDS, "hidden"):
        np.testing.assert_allclose(getattr(found, name), getattr(together, name), atol=1e-5, err_msg=name)
        # What an attack changes of its own copy is not changed for others.
        getattr(found, name)[:] = 0
    assert Observations.read(tmp_path).entropy.any()


def test_a_single_shard_has_the_bytes_that_numpy_gives_its_arrays(tmp_path: Path) -> None:
    found = observe(tiny("gpt2"), PROMPTS, ANSWERS)
    found.write(tmp_path)
    for name in ("offsets", "token", "hidden", *TOKEN_FIELDS):
        np.save(tmp_path / "plain.npy", getattr(found, name))
        assert (tmp_path / f"{name}.npy").read_bytes() == (tmp_path / "plain.npy").read_bytes(), name


def test_a_prompt_that_is_too_long_loses_its_oldest_part() -> None:
    model = tiny("gpt2")
    model.network.config.max_position_embeddings = 24
    (sample,) = model.encode(["Heat (1995) ; " * 30 + "Alien (1979) Next:"], ["Heat (1995)"])
    assert len(sample.prompt) + len(sample.answer) == 24
    assert model.tokenizer.decode(sample.prompt).endswith("Alien (1979) Next:")


def test_an_answer_without_tokens_is_refused() -> None:
    class Silent:
        def encode(self, prompts: list[str], answers: list[str]) -> list[Encoded]:
            return [Encoded((1,), ())]

    with pytest.raises(DataError, match="sample 0"):
        observe(Silent(), ["a"], [""])  # type: ignore[arg-type]
