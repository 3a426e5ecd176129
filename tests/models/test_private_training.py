"""Training that bounds what a model owes to one person: gradients by unit, clipping, noise, and what is promised for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dp_accounting
import pytest
import torch
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant
from opacus.grad_sample import GradSampleHooks

from mia_core.errors import ConfigError, ModelError
from mia_core.experiment import Base, Lora, Training
from mia_core.models.llm import private_training
from mia_core.models.llm.language_model import LanguageModel
from mia_core.models.llm.loading import add_lora, build_offline, load_adapter, save_model, train_tokenizer
from mia_core.models.llm.private_training import (
    Guarantee,
    Privacy,
    clipped_sum,
    fit_private,
    gradients_of_units,
    guarantee_of,
    refuse_batch_statistics,
)
from mia_core.models.llm.training import BatchLoss, hard_loss, validation_loss
from mia_core.models.sequence import build_sequence
from mia_core.observe.observations import AnswerOutputs, Encoded, observe

CPU = torch.device("cpu")
TITLES = [f"Film {i} ({1950 + i})" for i in range(40)]
PROMPTS = [f"History: {' ; '.join(TITLES[i : i + 1 + i % 3])} Next:" for i in range(30)]
ANSWERS = [TITLES[i + 3] + " again" * (i % 2) for i in range(30)]
OWNER = [0, 1, 1, 2, 2, 2, 3, 1, 4, 4] + [5 + i % 7 for i in range(20)]
USERS = len(set(OWNER))
UNITS = [[0], [1, 2, 7], [3, 4, 5], [6], [8, 9]]
QUICK = Training(epochs=2, learning_rate=5e-3)
CLIPPED = Privacy(epsilon=None, noise_multiplier=0.0)
NOISED = Privacy(epsilon=None, noise_multiplier=1.5, units_at_once=4)


def tiny(family: str = "t5", *, lora: bool = True, seed: int = 0) -> LanguageModel:
    tokenizer = train_tokenizer(TITLES, ["History: ", " Next:", " ; "], 320)
    model = build_offline(Base(family=family, width=32, layers=2), tokenizer, seed, CPU)
    if not lora:
        return model
    adapted = add_lora(model, Lora(rank=4), seed)
    torch.manual_seed(seed)
    for name, weight in adapted.network.named_parameters():
        if "lora_B" in name:
            # An adapter as it comes has no gradient in its other half.
            torch.nn.init.normal_(weight, std=0.1)
    return adapted


def encoded(model: LanguageModel) -> list[Encoded]:
    return model.encode(PROMPTS, ANSWERS)


def one_user_at_a_time(
    model: LanguageModel, units: Sequence[Sequence[int]], names: Sequence[str]
) -> list[dict[str, torch.Tensor]]:
    """The slow way: a backward pass for every sample alone."""
    samples, found = encoded(model), []
    weights = dict(model.network.named_parameters())
    for windows in units:
        model.network.zero_grad()
        tokens = sum(len(samples[i].answer) for i in windows)
        for i in windows:
            (hard_loss()(model.answer_outputs([samples[i]]), [samples[i]]).sum() / tokens).backward()
        found.append({name: weights[name].grad.clone() for name in names})
    model.network.zero_grad()
    return found


def summed(
    model: LanguageModel, units: Sequence[Sequence[int]], clip: float | None, loss: BatchLoss | None = None
) -> torch.Tensor:
    with private_training._samples_apart(model.network) as weights:
        model.network.train()
        return clipped_sum(model, encoded(model), units, loss or hard_loss(), list(weights.values()), clip)


def trained(privacy: Privacy, model: LanguageModel | None = None, **more: Any) -> tuple[LanguageModel, Guarantee]:
    model = model or tiny()
    settings: dict[str, Any] = {"seed": 1, **more}
    guarantee = fit_private(
        model, encoded(model), OWNER, hard_loss(), settings.pop("training", QUICK), privacy, **settings
    )
    return model, guarantee


def weights_of(model: LanguageModel) -> torch.Tensor:
    return torch.cat([weight.detach().flatten() for weight in model.network.parameters()])


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """The gradients that Adam is given, step after step."""
    given: list[torch.Tensor] = []
    original = private_training._set_gradients

    def noted(parameters: Any, flat: torch.Tensor) -> None:
        given.append(flat.clone())
        original(parameters, flat)

    monkeypatch.setattr(private_training, "_set_gradients", noted)
    return given


@pytest.fixture
def groups(monkeypatch: pytest.MonkeyPatch) -> list[list[list[int]]]:
    """The units of every step, each with its windows."""
    drawn: list[list[list[int]]] = []
    original = private_training.clipped_sum

    def noted(model: Any, samples: Any, units: list[list[int]], *rest: Any) -> torch.Tensor:
        drawn.append(units)
        return original(model, samples, units, *rest)

    monkeypatch.setattr(private_training, "clipped_sum", noted)
    return drawn


@pytest.mark.parametrize("lora", [True, False], ids=["lora", "full"])
@pytest.mark.parametrize("family", ["t5", "gpt2", "llama"])
def test_gradients_by_user_are_those_of_one_sample_at_a_time(family: str, lora: bool) -> None:
    model = tiny(family, lora=lora)
    with private_training._samples_apart(model.network) as weights:
        model.network.train()
        fast = gradients_of_units(model, encoded(model), UNITS, hard_loss(), list(weights.values()))
    slow = one_user_at_a_time(model, UNITS, list(weights))
    sizes = [weight.numel() for weight in weights.values()]
    for found, expected in zip(fast, slow, strict=True):
        for name, part in zip(weights, found.split(sizes), strict=True):
            error = (part - expected[name].flatten()).norm() / expected[name].norm()
            assert error < 1e-4, name
    everything = {name for name, weight in model.network.named_parameters() if weight.requires_grad}
    # The one table whose positions are shared by all samples is left as it was; tied weights are one weight.
    assert all("relative_attention_bias" in name for name in everything - set(weights))


def test_gradients_by_user_in_half_precision_are_near() -> None:
    model = tiny(lora=False)
    exact = summed(model, UNITS, None)
    model.autocast = torch.bfloat16
    assert (summed(model, UNITS, None) - exact).norm() < 0.05 * exact.norm()


def test_how_many_are_computed_at_once_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny()
    at_once = summed(model, UNITS, 0.5)
    monkeypatch.setattr(private_training, "GRADIENTS_AT_ONCE", 2 * sum(w.numel() for w in _trainable(model)))
    torch.testing.assert_close(summed(model, UNITS, 0.5), at_once, atol=1e-5, rtol=1e-4)


def test_memory_is_bounded_and_every_pass_holds_few_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    original = LanguageModel.answer_outputs

    def noted(model: LanguageModel, batch: Sequence[Encoded], *, pooled: bool = False) -> AnswerOutputs:
        asked.append(len(batch))
        return original(model, batch, pooled=pooled)

    monkeypatch.setattr(LanguageModel, "answer_outputs", noted)
    model = tiny()
    monkeypatch.setattr(private_training, "GRADIENTS_AT_ONCE", 2 * sum(w.numel() for w in _trainable(model)))
    summed(model, [list(range(30))], 1.0)
    assert sum(asked) == 30
    assert max(asked) == 2
    monkeypatch.setattr(private_training, "TOKENS_PER_PASS", {"cpu": 1})
    asked.clear()
    summed(model, [list(range(30))], 1.0)
    assert asked == [1] * 30


def test_a_user_gone_wild_moves_the_sum_by_two_clips_at_most() -> None:
    model = tiny()
    wild = encoded(model)[6]

    def shouting(outputs: AnswerOutputs, batch: Sequence[Encoded]) -> torch.Tensor:
        loud = [-1e4 if sample == wild else 1.0 for sample in batch for _ in sample.answer]
        return hard_loss()(outputs, batch) * torch.tensor(loud)

    clip = 0.01
    moved = summed(model, UNITS, clip) - summed(model, UNITS, clip, shouting)
    assert clip < moved.norm() <= 2 * clip * 1.0001
    assert summed(model, [UNITS[3]], clip, shouting).norm() <= clip * 1.0001
    unbounded = summed(model, UNITS, None) - summed(model, UNITS, None, shouting)
    assert unbounded.norm() > 1_000


def test_a_gradient_that_overflows_counts_as_none() -> None:
    model = tiny()
    wild = encoded(model)[6]

    def overflowing(outputs: AnswerOutputs, batch: Sequence[Encoded]) -> torch.Tensor:
        loud = [math.inf if sample == wild else 1.0 for sample in batch for _ in sample.answer]
        return hard_loss()(outputs, batch) * torch.tensor(loud)

    others = [windows for windows in UNITS if windows != [6]]
    torch.testing.assert_close(summed(model, UNITS, 1.0, overflowing), summed(model, others, 1.0), atol=1e-5, rtol=1e-4)


def test_without_noise_and_with_a_clip_out_of_reach_a_step_is_the_mean_over_users(steps: list[torch.Tensor]) -> None:
    model = tiny()
    names = [name for name, weight in model.network.named_parameters() if weight.requires_grad]
    alone = one_user_at_a_time(model, [[i for i, who in enumerate(OWNER) if who == user] for user in set(OWNER)], names)
    mean = torch.cat([torch.stack([own[name] for own in alone]).mean(0).flatten() for name in names])
    trained(Privacy(clip=1e6, epsilon=None, noise_multiplier=0.0), model)
    torch.testing.assert_close(steps[0], mean, atol=1e-6, rtol=1e-3)


@pytest.mark.parametrize(("clip", "length"), [(0.5, 0.5), (None, 1.0)], ids=["clipped", "noise only"])
def test_the_noise_has_the_size_that_was_asked_for(
    clip: float | None, length: float, steps: list[torch.Tensor]
) -> None:
    for noise in (0.0, 1.5):
        trained(Privacy(clip=clip, epsilon=None, noise_multiplier=noise), training=Training(epochs=1))
    still, noised = steps
    added = noised - still
    assert added.std() == pytest.approx(1.5 * length / USERS, rel=0.05)
    assert abs(added.mean()) < 4 * added.std() / math.sqrt(len(added))


def test_every_step_has_noise_of_its_own(steps: list[torch.Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_training, "clipped_sum", lambda *rest: torch.zeros(1_000))
    monkeypatch.setattr(private_training, "_set_gradients", lambda parameters, flat: steps.append(flat))
    trained(NOISED)
    assert len(steps) == math.ceil(2 * USERS / 4)
    assert torch.corrcoef(torch.stack(steps)).fill_diagonal_(0).abs().max() < 0.15


def test_a_step_is_divided_by_the_expected_number_of_units_whoever_was_drawn(
    steps: list[torch.Tensor], groups: list[list[list[int]]]
) -> None:
    trained(Privacy(clip=1e-3, epsilon=None, noise_multiplier=0.0, units_at_once=2))
    alone = [float(step.norm()) for group, step in zip(groups, steps, strict=True) if len(group) == 1]
    assert alone
    # Everybody's gradient is longer than such a clip.
    assert alone == pytest.approx([1e-3 / 2] * len(alone), rel=1e-3)
    assert max(float(step.norm()) for step in steps) > 1.1e-3 / 2


def test_a_users_windows_come_together_and_records_alone(groups: list[list[list[int]]]) -> None:
    own = {tuple(i for i, who in enumerate(OWNER) if who == user) for user in OWNER}
    trained(NOISED)
    assert {tuple(windows) for group in groups for windows in group} <= own
    groups.clear()
    _, guarantee = trained(Privacy("record", epsilon=None, noise_multiplier=1.5, units_at_once=4))
    assert all(len(windows) == 1 for group in groups for windows in group)
    assert len(groups) == guarantee.steps == 15
    assert guarantee.unit == "record"


def test_units_are_drawn_by_themselves_and_a_step_may_have_none(groups: list[list[list[int]]]) -> None:
    rare = Privacy(epsilon=None, noise_multiplier=1.5, units_at_once=1)
    model, guarantee = trained(rare, training=Training(epochs=4, learning_rate=1e-3))
    sizes = [len(group) for group in groups]
    assert guarantee.sampling_rate == pytest.approx(1 / USERS)
    assert len(sizes) == 4 * USERS
    assert 0 in sizes
    assert max(sizes) > 1
    assert sum(sizes) / len(sizes) == pytest.approx(1, abs=0.5)
    assert weights_of(model).isfinite().all()


def test_a_step_without_anybody_is_noise_alone() -> None:
    nobody = summed(tiny(), [], 1.0)
    assert nobody.numel() == sum(weight.numel() for weight in _trainable(tiny()))
    assert not nobody.any()


def test_the_same_seed_gives_the_same_weights() -> None:
    (one, _), (again, _), (other, _) = trained(NOISED), trained(NOISED), trained(NOISED, seed=2)
    assert torch.equal(weights_of(one), weights_of(again))
    assert not torch.equal(weights_of(one), weights_of(other))


def test_noise_that_was_left_out_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    noised, _ = trained(NOISED)
    monkeypatch.setattr(private_training, "noise_of", lambda like, deviation, seed: torch.zeros_like(like))
    still, _ = trained(NOISED)
    assert (weights_of(noised) - weights_of(still)).norm() > 0.1


def test_training_that_was_killed_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mia_core.models.llm.training.CHECKPOINT_EVERY_SECONDS", 0.0)
    whole, _ = trained(NOISED)

    class Killed(Exception):
        pass

    def kill_after_half(fraction: float) -> None:
        if fraction > 0.6:
            raise Killed

    killed = tiny()
    with pytest.raises(Killed):
        trained(NOISED, killed, scratch=tmp_path, on_progress=kill_after_half)
    assert not left_behind(killed)
    fractions: list[float] = []
    resumed, _ = trained(NOISED, scratch=tmp_path, on_progress=fractions.append)
    assert 0.5 < min(fractions) < 1
    torch.testing.assert_close(weights_of(resumed), weights_of(whole))


def left_behind(model: LanguageModel) -> list[str]:
    """Whatever is at a network that a fresh one of the same kind has not."""
    found = []
    for module in model.network.modules():
        if module._forward_hooks or module._backward_hooks:
            found.append("hooks")
        found += [name for name in ("activations", "max_batch_len", "ft_compute_sample_grad") if hasattr(module, name)]
    for weight in model.network.parameters():
        if weight.grad is not None:
            found.append("grad")
        found += [name for name in ("grad_sample", "_forward_counter", "_current_grad_sample") if hasattr(weight, name)]
    return found


@pytest.mark.parametrize("lora", [True, False], ids=["lora", "full"])
def test_the_network_is_plain_again_afterwards(lora: bool, tmp_path: Path) -> None:
    model, fresh = tiny(lora=lora), tiny(lora=lora)
    trained(NOISED, model)
    assert not left_behind(model)
    assert not model.network.training
    assert [w.requires_grad for w in model.network.parameters()] == [
        w.requires_grad for w in fresh.network.parameters()
    ]
    assert type(model.network) is type(fresh.network)
    if lora:
        save_model(model, tmp_path)
        again = load_adapter(tiny(lora=False), tmp_path)
        first, second = observe(model, PROMPTS, ANSWERS), observe(again, PROMPTS, ANSWERS)
        torch.testing.assert_close(torch.tensor(first.log_probability), torch.tensor(second.log_probability))


def test_what_has_no_gradient_per_sample_stays_as_it_was() -> None:
    model = tiny(lora=False)
    before = {name: weight.clone() for name, weight in model.network.named_parameters()}
    trained(NOISED, model)
    stayed = {name for name, weight in model.network.named_parameters() if torch.equal(weight, before[name])}
    assert stayed
    assert all("relative_attention_bias" in name for name in stayed)


def test_a_model_learns_within_a_budget_of_eight() -> None:
    model = tiny(lora=False)
    model = add_lora(model, Lora(rank=2), 0)
    prompts = [PROMPTS[i % 30] for i in range(400)]
    samples = model.encode(prompts, [TITLES[i % 4] for i in range(400)])
    owner = [i // 2 for i in range(400)]
    before = validation_loss(model, samples, 64)
    training = Training(epochs=8, learning_rate=1e-2)
    guarantee = fit_private(model, samples, owner, hard_loss(), training, Privacy(epsilon=8.0), seed=1)
    assert guarantee.epsilon == 8
    assert guarantee.noise_multiplier > 0.5
    assert validation_loss(model, samples, 64) < before - 0.5


@pytest.mark.parametrize(
    ("users", "at_once", "epochs", "noise"),
    [(600, 60, 6, 1.0), (1_000, 64, 6, 0.7), (200, 60, 6, 2.0), (60, 60, 10, 3.0), (6_000, 60, 20, 1.0)],
)
def test_the_promise_agrees_with_another_accountant(users: int, at_once: int, epochs: int, noise: float) -> None:
    found = guarantee_of(
        Privacy(epsilon=None, noise_multiplier=noise, units_at_once=at_once), Training(epochs=epochs), users
    )
    step = dp_accounting.PoissonSampledDpEvent(at_once / users, dp_accounting.GaussianDpEvent(noise))
    steps = dp_accounting.SelfComposedDpEvent(step, epochs * users // at_once)
    tight = PLDAccountant(value_discretization_interval=1e-3).compose(steps).get_epsilon(1e-5)
    loose = RdpAccountant().compose(steps).get_epsilon(1e-5)
    assert found.accountant == "prv"
    assert found.epsilon == pytest.approx(tight, rel=0.02)
    assert found.epsilon < loose


def test_hardly_any_noise_is_accounted_loosely_and_never_as_less_than_it_costs() -> None:
    found = guarantee_of(Privacy(epsilon=None, noise_multiplier=0.2), Training(epochs=6), 200)
    step = dp_accounting.PoissonSampledDpEvent(0.32, dp_accounting.GaussianDpEvent(0.2))
    steps = dp_accounting.SelfComposedDpEvent(step, found.steps)
    tight = PLDAccountant(value_discretization_interval=1e-2).compose(steps).get_epsilon(1e-5)
    assert found.accountant == "rdp"
    assert tight < found.epsilon < 2 * tight


def test_a_smaller_budget_takes_more_noise_and_keeps_what_it_promises() -> None:
    training = Training(epochs=6)
    found = {epsilon: guarantee_of(Privacy(epsilon=epsilon), training, 640) for epsilon in (0.5, 2.0, 8.0, 200.0)}
    noise = [guarantee.noise_multiplier for guarantee in found.values()]
    assert noise == sorted(noise, reverse=True)
    for epsilon, guarantee in found.items():
        asked = Privacy(epsilon=None, noise_multiplier=guarantee.noise_multiplier)
        spent = guarantee_of(asked, training, 640).epsilon
        assert guarantee.epsilon == epsilon
        assert 0.95 * epsilon < spent < 1.02 * epsilon
        assert (guarantee.sampling_rate, guarantee.steps) == (0.1, 60)


@pytest.mark.parametrize(
    "privacy",
    [CLIPPED, Privacy(clip=None), Privacy(clip=None, epsilon=None, noise_multiplier=2.0)],
    ids=["clipping alone", "noise for a budget, unclipped", "noise alone"],
)
def test_nothing_is_promised_for_clipping_or_noise_alone(privacy: Privacy) -> None:
    found = guarantee_of(privacy, Training(epochs=6), 100)
    assert found.epsilon == math.inf
    assert found.accountant == "none"
    assert trained(privacy)[1].epsilon == math.inf


def test_clipping_alone_still_learns() -> None:
    model = tiny()
    before = validation_loss(model, encoded(model), 8)
    trained(CLIPPED, model, training=Training(epochs=25, learning_rate=1e-2))
    assert validation_loss(model, encoded(model), 8) < before - 0.3


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"clip": 0.0}, r"privacy\.clip is 0"),
        ({"epsilon": -1.0}, r"privacy\.epsilon is -1"),
        ({"epsilon": math.inf}, r"privacy\.epsilon is inf"),
        ({"epsilon": None, "noise_multiplier": -0.1}, r"privacy\.noise_multiplier"),
        ({"epsilon": None}, "give one of them"),
        ({"noise_multiplier": 1.0}, "give one of them"),
        ({"delta": 0.0}, r"privacy\.delta"),
        ({"units_at_once": 0}, r"privacy\.units_at_once"),
    ],
)
def test_a_setting_out_of_range_is_explained(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Privacy(**values)


def test_nobody_to_train_on_is_explained() -> None:
    with pytest.raises(ConfigError, match="nobody to train on"):
        guarantee_of(Privacy(), QUICK, 0)


def test_a_layer_that_mixes_samples_is_named() -> None:
    for mixing in (torch.nn.BatchNorm1d(4), torch.nn.InstanceNorm1d(4, track_running_stats=True)):
        network = torch.nn.Sequential(torch.nn.Linear(4, 4), mixing)
        with pytest.raises(ModelError, match=r"layer '1' \(\w+Norm1d\).*LayerNorm"):
            refuse_batch_statistics(network)
    refuse_batch_statistics(tiny().network)
    refuse_batch_statistics(torch.nn.Sequential(torch.nn.LayerNorm(4), torch.nn.InstanceNorm1d(4)))


def test_a_target_that_mixes_samples_is_not_trained() -> None:
    model = tiny()
    model.plain_network.mixing = torch.nn.BatchNorm1d(4)
    with pytest.raises(ModelError, match="mixing"):
        trained(NOISED, model)


def test_gradients_that_do_not_add_up_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    right = GradSampleHooks.GRAD_SAMPLERS[torch.nn.Linear]

    def half(*inputs: Any) -> dict[torch.nn.Parameter, torch.Tensor]:
        return {weight: gradient / 2 for weight, gradient in right(*inputs).items()}

    monkeypatch.setitem(GradSampleHooks.GRAD_SAMPLERS, torch.nn.Linear, half)
    with pytest.raises(ModelError, match="cannot be told apart"):
        trained(NOISED)


def test_a_recommender_over_items_is_refused() -> None:
    model = build_sequence(Base(family="sasrec", width=16, layers=2), ["a", "b", "c"], 0, CPU)
    samples = model.encode(["a", "b"], ["b", "c"])
    with pytest.raises(ModelError, match="cannot be told apart"):
        fit_private(model, samples, [0, 1], hard_loss(), QUICK, NOISED, seed=0)


def _trainable(model: LanguageModel) -> list[torch.nn.Parameter]:
    return [weight for weight in model.network.parameters() if weight.requires_grad]
