"""Adapters that are trained together against the same adapters trained one at a time through peft."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mia_core.experiment import Base, Lora, Training
from mia_core.models.llm.language_model import LanguageModel
from mia_core.models.llm.loading import add_lora, build_offline, load_adapter, train_tokenizer
from mia_core.models.llm.stacked_adapters import StackedAdapters, fit_stacked, steps_side_by_side
from mia_core.models.llm.training import hard_loss
from mia_core.observe.observations import Encoded, observe

CPU = torch.device("cpu")
TITLES = [f"Film {i} ({1950 + i})" for i in range(40)]
PROMPTS = ["History: " + " ; ".join(TITLES[(i + j) % 40] for j in range(1 + i % 5)) + " Next:" for i in range(60)]
ANSWERS = [TITLES[(7 * i) % 40] for i in range(60)]
FAMILIES = ["t5", "gpt2", "llama"]
LORA = Lora(rank=4)
TRAINING = Training(epochs=3, learning_rate=5e-3, batch_size=4, accumulation=2, weight_decay=0.1, warmup_share=0.3)


def tiny(family: str) -> LanguageModel:
    tokenizer = train_tokenizer(TITLES, ["History: ", " Next:", " ; "], 320)
    return build_offline(Base(family=family, width=32, layers=2), tokenizer, 0, CPU)


def sets_of(model: LanguageModel) -> list[list[Encoded]]:
    """Training sets of unequal size, so that the adapters take unequal numbers of steps."""
    encoded = model.encode(PROMPTS, ANSWERS)
    return [encoded[:22], encoded[20:37], encoded[30:60]]


def alone(model: LanguageModel, samples: list[Encoded], steps: list[list[list[list[int]]]]) -> None:
    """Plain training of one adapter on given batches, as the textbook has it; `steps` epoch by epoch."""
    parameters = [p for p in model.network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=TRAINING.learning_rate, weight_decay=TRAINING.weight_decay)
    total = sum(len(epoch) for epoch in steps)
    warmup = int(0.3 * total)
    done = 0
    model.network.train()
    for epoch in steps:
        for step in epoch:
            share = (done + 1) / warmup if done < warmup else (total - done) / (total - warmup)
            optimizer.param_groups[0]["lr"] = TRAINING.learning_rate * share
            everything = [samples[i] for batch in step for i in batch]
            optimizer.zero_grad()
            hard_loss()(model.answer_outputs(everything), everything).mean().backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            done += 1
    model.network.eval()


@pytest.mark.parametrize("family", FAMILIES)
def test_each_adapter_learns_what_it_would_have_learned_alone(family: str, tmp_path: Path) -> None:
    base = tiny(family)
    samples = sets_of(base)
    stack = StackedAdapters(base, LORA, [5, 6, 7])
    fit_stacked(stack, samples, hard_loss(), TRAINING, seed=3)
    plans = [
        steps_side_by_side([[len(s.prompt) + len(s.answer) for s in own] for own in samples], TRAINING, 3, epoch)
        for epoch in range(TRAINING.epochs)
    ]
    assert len({len(plan) for plan in plans[0]}) > 1
    untouched = observe(tiny(family), PROMPTS, ANSWERS).log_probability
    np.testing.assert_allclose(observe(base, PROMPTS, ANSWERS).log_probability, untouched, atol=1e-5)
    for k, own in enumerate(samples):
        expected = add_lora(tiny(family), LORA, 5 + k)
        alone(expected, own, [plan[k] for plan in plans])
        stack.save(k, tmp_path / str(k))
        found = load_adapter(tiny(family), tmp_path / str(k))
        theirs = dict(expected.network.named_parameters())
        adapted = [name for name in theirs if "lora_" in name]
        assert {name for name, _ in found.network.named_parameters() if "lora_" in name} == set(adapted)
        for name, value in found.network.named_parameters():
            torch.testing.assert_close(value, theirs[name], atol=1e-4, rtol=1e-3, msg=name, check_device=False)
        told = observe(found, PROMPTS, ANSWERS).log_probability
        np.testing.assert_allclose(told, observe(expected, PROMPTS, ANSWERS).log_probability, atol=1e-3)
        assert abs(told - untouched).max() > 0.1


@pytest.mark.parametrize("family", FAMILIES)
def test_in_half_precision_they_learn_the_same_but_for_rounding(family: str) -> None:
    told = {}
    for precision in ("float32", "bfloat16"):
        stack = StackedAdapters(tiny(family), LORA, [5, 6, 7])
        samples = sets_of(stack.base)
        fit_stacked(stack, samples, hard_loss(), TRAINING.model_copy(update={"precision": precision}), seed=3)
        # What is learned is kept in full precision, and so is what is asked of it.
        assert {weights.dtype for weights in stack.weights} == {torch.float32}
        adapter = stack.adapter(0)
        adapter.autocast = None
        told[precision] = observe(adapter, PROMPTS[:22], ANSWERS[:22]).log_probability
    learned = abs(told["float32"] - observe(tiny(family), PROMPTS[:22], ANSWERS[:22]).log_probability).mean()
    assert 0 < abs(told["bfloat16"] - told["float32"]).mean() < 0.2 * learned


def test_one_more_adapter_takes_room_for_an_adapter_and_for_no_base() -> None:
    def held(adapters: int) -> int:
        stack = StackedAdapters(tiny("t5"), LORA, list(range(adapters)))
        own = {id(tensor): tensor for tensor in [*stack.weights, *stack.base.network.parameters()]}
        return sum(tensor.untyped_storage().nbytes() for tensor in own.values())

    one, two, three = held(1), held(2), held(3)
    alone = add_lora(tiny("t5"), LORA, 0)
    adapter = sum(value.nbytes for name, value in alone.network.named_parameters() if "lora_" in name)
    assert two - one == three - two == adapter


@pytest.mark.parametrize("limit", [1, 100_000])
def test_adapters_do_not_see_each_others_data(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mia_core.models.llm.stacked_adapters.TOKENS_PER_PASS", {"cpu": limit})
    samples = sets_of(tiny("t5"))
    # Answers of the same lengths in the same places: everybody's batches stay as they are.
    other = [samples[0], [Encoded(s.prompt, (s.answer[0] ^ 1, *s.answer[1:])) for s in samples[1]], samples[2]]
    first, second = (StackedAdapters(tiny("t5"), LORA, [5, 6, 7]) for _ in range(2))
    fit_stacked(first, samples, hard_loss(), TRAINING, seed=3)
    fit_stacked(second, other, hard_loss(), TRAINING, seed=3)
    for k in (0, 2):
        torch.testing.assert_close(first.weights[k], second.weights[k])
    assert (first.weights[1] - second.weights[1]).abs().max() > 1e-3


def test_how_many_are_passed_through_the_base_at_once_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = []
    for limit in (1, 150, 100_000):
        monkeypatch.setattr("mia_core.models.llm.stacked_adapters.TOKENS_PER_PASS", {"cpu": limit})
        stack = StackedAdapters(tiny("gpt2"), LORA, [5, 6, 7])
        fit_stacked(stack, sets_of(stack.base), hard_loss(), TRAINING, seed=3)
        trained.append(stack.weights)
    for others in trained[1:]:
        for one, other in zip(trained[0], others, strict=True):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)


def test_adapter_dropout_has_the_mean_of_none() -> None:
    plain, dropped = (StackedAdapters(tiny("t5"), Lora(rank=4, dropout=d), [5, 6]) for d in (0.0, 0.5))
    generator = torch.Generator().manual_seed(0)
    for one, other in zip(plain.weights, dropped.weights, strict=True):
        one.data.add_(0.05 * torch.randn(one.shape, generator=generator))
        other.data.copy_(one)
    name = next(iter(plain.layers))
    layers = []
    for stack in (plain, dropped):
        with stack.stacked(), torch.no_grad():
            batch = stack.base.encode(PROMPTS[:4], ANSWERS[:4])
            stack.token_losses({0: batch[:2], 1: batch[2:]}, hard_loss())
        layers.append(stack.layers[name].train())
    x = torch.randn(4, 5, 32, generator=generator)
    with torch.no_grad():
        torch.manual_seed(0)
        mean = torch.stack([layers[1](x) for _ in range(4_000)]).mean(0)
        torch.testing.assert_close(mean, layers[0](x), atol=0.05, rtol=0.05)
        torch.testing.assert_close(layers[1].eval()(x), layers[0](x))


def test_training_that_was_killed_goes_on_from_its_last_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mia_core.models.llm.training.CHECKPOINT_EVERY_SECONDS", 0.0)
    whole = StackedAdapters(tiny("t5"), LORA, [5, 6, 7])
    samples = sets_of(whole.base)
    fit_stacked(whole, samples, hard_loss(), TRAINING, seed=3)

    class Killed(Exception):
        pass

    def kill_in_the_third_epoch(fraction: float) -> None:
        if fraction > 0.7:
            raise Killed

    killed = StackedAdapters(tiny("t5"), LORA, [5, 6, 7])
    with pytest.raises(Killed):
        fit_stacked(
            killed, samples, hard_loss(), TRAINING, seed=3, scratch=tmp_path, on_progress=kill_in_the_third_epoch
        )
    resumed, told = StackedAdapters(tiny("t5"), LORA, [8, 9, 10]), list[float]()
    fit_stacked(resumed, samples, hard_loss(), TRAINING, seed=3, scratch=tmp_path, on_progress=told.append)
    assert min(told) > 2 / 3
    for one, other in zip(whole.weights, resumed.weights, strict=True):
        torch.testing.assert_close(one, other)


def test_every_adapter_meets_each_of_its_samples_once_an_epoch_and_like_lengths_at_the_same_time() -> None:
    rng = np.random.default_rng(0)
    lengths = [rng.integers(10, 90, n).tolist() for n in (640, 610, 640)]
    plans = steps_side_by_side(lengths, Training(batch_size=8), seed=0, epoch=2)
    for plan, own in zip(plans, lengths, strict=True):
        assert sorted(i for step in plan for batch in step for i in batch) == list(range(len(own)))
    common = min(map(len, plans))
    longest = np.array(
        [[max(own[i] for i in step[0]) for step in plan[:common]] for plan, own in zip(plans, lengths, strict=True)]
    )
    assert np.ptp(longest, axis=0).mean() < 8
    assert np.ptp(longest, axis=1).min() > 60
    assert plans != steps_side_by_side(lengths, Training(batch_size=8), seed=0, epoch=3)
