"""Differentially private training (DP-SGD with Adam's steps): clipped and noised gradients of whole users or of windows."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from opacus.accountants import create_accountant
from opacus.accountants.utils import get_noise_multiplier
from opacus.grad_sample import GradSampleHooks, register_grad_sampler
from transformers.pytorch_utils import Conv1D

from mia_core.errors import ConfigError, ModelError
from mia_core.models.device import resolve_precision
from mia_core.models.llm.language_model import LanguageModel
from mia_core.models.llm.training import BatchLoss, Checkpoint, Trainable, warmup_and_decay
from mia_core.observe.observations import Encoded
from mia_core.seeds import derive_seed, generator

if TYPE_CHECKING:
    from mia_core.experiment import Training

NOISE_REFERENCE = 1.0
"""Length of gradients that noise is measured by where nothing is clipped."""
LOOSEST_EPSILON = 100.0
"""Above it nothing is promised in practice, and the tight accountant would take minutes."""
GRADIENTS_AT_ONCE = 2**26
"""Values that the gradients of several samples, or of several users, may hold together: bounds the memory."""
TOKENS_PER_PASS = {"cpu": 4_000, "cuda": 65_536}
"""More at once no longer fit a CPU's cache; a GPU is kept busy by many."""
NOT_APART = (
    "the gradients of this network cannot be told apart by sample, so that nobody's influence can be bounded; protect a "
    "language model (t5, gpt2, llama), or train without clipping and noise"
)


@dataclass(frozen=True)
class Privacy:
    """How training protects its units.

    Raises:
        ConfigError: a value is out of range, or the noise is given twice or not at all.
    """

    unit: Literal["user", "record"] = "user"
    """What is sampled, clipped and protected: everything of one user, or one window."""
    clip: float | None = 1.0
    """Longest gradient that one unit may add to a step; None: any, and then nothing is promised."""
    epsilon: float | None = 8.0
    """Budget that the noise is chosen for; None: `noise_multiplier` is given. Without a clip, the noise is as strong as a
    clip of 1 would need it for this budget."""
    noise_multiplier: float | None = None
    """Standard deviation of the noise on a sum of gradients, in clips; without a clip, in gradients of length 1."""
    delta: float = 1e-5
    """Chance that the budget does not hold; well below 1 / units."""
    units_at_once: int = 64
    """Units in a step, on average."""

    def __post_init__(self) -> None:
        if (self.epsilon is None) == (self.noise_multiplier is None):
            raise ConfigError(
                f"privacy has epsilon {self.epsilon} and noise_multiplier {self.noise_multiplier}; give one of them and "
                "leave the other None"
            )
        for field, value in (("clip", self.clip), ("epsilon", self.epsilon)):
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"privacy.{field} is {value}; it must be a finite number above 0")
        if self.noise_multiplier is not None and not 0 <= self.noise_multiplier < math.inf:
            raise ConfigError(f"privacy.noise_multiplier is {self.noise_multiplier}; it must be 0 or a number above")
        if not 0 < self.delta < 1:
            raise ConfigError(f"privacy.delta is {self.delta}; it must lie between 0 and 1, such as 1e-5")
        if self.units_at_once < 1:
            raise ConfigError(f"privacy.units_at_once is {self.units_at_once}; it must be at least 1")


@dataclass(frozen=True)
class Guarantee:
    """What training with `Privacy` promises: (epsilon, delta)-differential privacy when one unit is added or removed."""

    epsilon: float
    """inf: nothing is promised."""
    delta: float
    unit: str
    noise_multiplier: float
    sampling_rate: float
    """Chance of a unit to be in a step."""
    steps: int
    accountant: str
    """prv, rdp, or none where nothing is promised."""


def guarantee_of(privacy: Privacy, training: Training, units: int) -> Guarantee:
    """What training on so many units promises, and how much noise it takes.

    The number of units counts as public. Steps are accounted as Poisson-sampled Gaussian mechanisms, by their privacy
    loss variables (PRV): an upper bound that is 10 to 15% below that of Rényi divergences (RDP), which take over above
    an epsilon of 100.

    Source: Gopi, Lee, Wutschitz 2021, arXiv 2106.02848; Mironov, Talwar, Zhang 2019, arXiv 1908.10530; both in Opacus.
    Raises:
        ConfigError: no noise is enough for such a small epsilon, or there are no units.
    """
    if units < 1:
        raise ConfigError("there is nobody to train on; choose data with at least one window")
    expected = min(privacy.units_at_once, units)
    rate, steps = expected / units, math.ceil(training.epochs * units / expected)
    if privacy.epsilon is not None:
        epsilon, accountant = privacy.epsilon, _accountant(privacy.epsilon)
        noise = _noise_for(epsilon, privacy.delta, rate, steps, accountant)
    else:
        assert privacy.noise_multiplier is not None  # noqa: S101 - one of them is given
        noise = privacy.noise_multiplier
        epsilon, accountant = _spent(noise, privacy.delta, rate, steps)
    if privacy.clip is None or noise == 0:
        epsilon, accountant = math.inf, "none"
    return Guarantee(epsilon, privacy.delta, privacy.unit, noise, rate, steps, accountant)


def _accountant(epsilon: float) -> str:
    return "prv" if epsilon <= LOOSEST_EPSILON else "rdp"


@lru_cache(maxsize=256)
def _noise_for(epsilon: float, delta: float, rate: float, steps: int, accountant: str) -> float:
    precision = max(0.002, 0.005 * epsilon)
    try:
        with warnings.catch_warnings():
            # Noise that is far too weak is tried on the way.
            warnings.simplefilter("ignore")
            return get_noise_multiplier(
                target_epsilon=epsilon,
                target_delta=delta,
                sample_rate=rate,
                steps=steps,
                accountant=accountant,
                epsilon_tolerance=precision,
                eps_error=precision,
            )
    except ValueError as error:
        raise ConfigError(f"privacy.epsilon is {epsilon}; no noise is enough for so little; raise it") from error


@lru_cache(maxsize=256)
def _spent(noise: float, delta: float, rate: float, steps: int) -> tuple[float, str]:
    if noise == 0:
        return math.inf, "none"

    def by(name: str) -> float:
        accountant = create_accountant(name)
        accountant.history = [(noise, rate, steps)]
        return float(accountant.get_epsilon(delta=delta))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loose = by("rdp")
        name = _accountant(loose)
        return (by(name), name)


def refuse_batch_statistics(network: torch.nn.Module) -> None:
    """Lets networks pass in which a sample's gradient is its own.

    Raises:
        ModelError: a layer normalises by the whole batch or keeps statistics of it, which no clipping bounds.
    """
    for name, module in network.named_modules():
        mixes = isinstance(module, torch.nn.modules.batchnorm._BatchNorm)
        if mixes or getattr(module, "running_mean", None) is not None:
            raise ModelError(
                f"layer {name or 'network'!r} ({type(module).__name__}) mixes the samples of a batch, so that one person's "
                "influence cannot be bounded; replace it by LayerNorm or GroupNorm, or train without clipping and noise"
            )


def fit_private(
    model: Trainable,
    samples: Sequence[Encoded],
    owner: Sequence[int],
    loss: BatchLoss,
    training: Training,
    privacy: Privacy,
    *,
    seed: int,
    scratch: Path | None = None,
    on_progress: Callable[[float], None] = lambda fraction: None,
    after_epoch: Callable[[Trainable, int], None] = lambda model, epoch: None,
) -> Guarantee:
    """Trains like `fit`, on noised sums of the clipped gradients of units that every step samples anew.

    A unit's gradient is that of its mean loss per answer token, over all its windows. T5's table of relative positions,
    which has no gradient per sample, stays as it was before.

    The promise holds towards whoever knows everything but `seed`, from which the noise can be drawn again.

    Args:
        owner: (n,) the user of each sample, any number; left aside where records are protected.
        loss: per-token loss; must see each sample by itself.
        training: `batch_size`, `accumulation` and early stopping have no meaning here; `privacy.units_at_once` has.
        scratch: folder for checkpoints; a later call with the same arguments goes on after the last one.
        after_epoch: told how many epochs' worth of steps are done, 0 before the first; must draw no random numbers.
    Returns:
        What is promised about each unit.
    Raises:
        ModelError: the network mixes samples, or its gradients cannot be told apart by sample.
    Source: Abadi et al. 2016, arXiv 1607.00133, algorithm 1; by user: McMahan et al. 2018, arXiv 1710.06963.
    Differs: AdamW's step in place of plain descent; a user's whole gradient is clipped, not an update of a few steps.
    Relations: without noise and with a clip that nobody reaches, `fit` on means over units instead of over tokens.
    """
    if not isinstance(model, LanguageModel):
        raise ModelError(NOT_APART)
    refuse_batch_statistics(model.plain_network)
    units = _windows_of_units(owner if privacy.unit == "user" else range(len(samples)))
    guarantee = guarantee_of(privacy, training, len(units))
    expected = guarantee.sampling_rate * len(units)
    deviation = guarantee.noise_multiplier * (NOISE_REFERENCE if privacy.clip is None else privacy.clip)
    half = resolve_precision(training.precision, model.device) == "bfloat16"
    model.autocast = torch.bfloat16 if half else None
    with _samples_apart(model.network) as parameters:
        optimizer = torch.optim.AdamW(
            parameters.values(), lr=training.learning_rate, weight_decay=training.weight_decay
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, warmup_and_decay(guarantee.steps, training.warmup_share)
        )
        checkpoint = Checkpoint(scratch, parameters, optimizer, schedule)
        first, _, _ = checkpoint.restore()
        if first == 0:
            after_epoch(model, 0)
        model.network.train()
        for step in range(first, guarantee.steps):
            torch.manual_seed(derive_seed(seed, "step", step))
            drawn = generator(seed, "sampled", step).random(len(units)) < guarantee.sampling_rate
            group = [windows for windows, taken in zip(units, drawn, strict=True) if taken]
            total = clipped_sum(model, samples, group, loss, list(parameters.values()), privacy.clip)
            total += noise_of(total, deviation, derive_seed(seed, "noise", step))
            _set_gradients(parameters.values(), total / expected)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            schedule.step()
            on_progress((step + 1) / guarantee.steps)
            before, done = (training.epochs * steps // guarantee.steps for steps in (step, step + 1))
            if done > before:
                after_epoch(model, done)
                model.network.train()
            checkpoint.save(step + 1, math.inf, 0, last=step + 1 == guarantee.steps)
    model.network.eval()
    checkpoint.clear()
    return guarantee


def clipped_sum(
    model: Trainable,
    samples: Sequence[Encoded],
    units: Sequence[Sequence[int]],
    loss: BatchLoss,
    parameters: Sequence[torch.nn.Parameter],
    clip: float | None,
) -> torch.Tensor:
    """(d,) sum of the units' gradients, each shortened to `clip` where it is longer; zero for no units."""
    size = sum(parameter.numel() for parameter in parameters)
    total = torch.zeros(size, device=model.device)
    at_once = max(1, GRADIENTS_AT_ONCE // size)
    for start in range(0, len(units), at_once):
        own = gradients_of_units(model, samples, units[start : start + at_once], loss, parameters)
        # One that overflowed counts as none: no factor would shorten it.
        own[~own.norm(dim=1).isfinite()] = 0
        total += (own if clip is None else own.renorm_(2, 0, clip)).sum(0)
    return total


def gradients_of_units(
    model: Trainable,
    samples: Sequence[Encoded],
    units: Sequence[Sequence[int]],
    loss: BatchLoss,
    parameters: Sequence[torch.nn.Parameter],
) -> torch.Tensor:
    """(units, d) gradient of each unit's mean loss per answer token, the parameters' entries one after the other.

    To be called while the network has Opacus's hooks.

    Raises:
        ModelError: gradients by sample do not add up to the whole one, so that clipping them would bound nothing.
    """
    sizes = [parameter.numel() for parameter in parameters]
    found = torch.zeros(len(units), sum(sizes), device=model.device)
    unit_of = {i: unit for unit, windows in enumerate(units) for i in windows}
    tokens = [max(1, sum(len(samples[i].answer) for i in windows)) for windows in units]
    for positions in _passes(samples, list(unit_of), model.device.type, max(1, GRADIENTS_AT_ONCE // sum(sizes))):
        batch = [samples[i] for i in positions]
        values = loss(model.answer_outputs(batch), batch)
        share = [1 / tokens[unit_of[i]] for i in positions for _ in samples[i].answer]
        (values * torch.tensor(share, device=values.device)).sum().backward()
        rows = torch.tensor([unit_of[i] for i in positions], device=model.device)
        for part, parameter in zip(found.split(sizes, dim=1), parameters, strict=True):
            apart: Any = parameter.grad_sample  # type: ignore[attr-defined]
            if not isinstance(apart, torch.Tensor) or len(apart) != len(batch):
                raise ModelError(NOT_APART)
            part.index_add_(0, rows, apart.flatten(1).float())
            parameter.grad_sample = None  # type: ignore[attr-defined]
    whole = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters])
    for parameter in parameters:
        parameter.grad = None
    # Sums in half precision agree to a few percent; a missing part would be far more.
    if (found.sum(0) - whole).norm() > 0.1 * found.norm(dim=1).sum():
        raise ModelError(NOT_APART)
    return found


def noise_of(like: torch.Tensor, deviation: float, seed: int) -> torch.Tensor:
    """Gaussian noise of the shape of a tensor."""
    draw = torch.Generator(like.device).manual_seed(seed)
    return deviation * torch.randn(like.shape, generator=draw, device=like.device)


@contextmanager
def _samples_apart(network: torch.nn.Module) -> Iterator[dict[str, torch.nn.Parameter]]:
    """Inside, backward passes leave each trainable weight's gradient per sample; yields these weights."""
    tables = [module for name, module in network.named_modules() if name.endswith("relative_attention_bias")]
    frozen = [p for table in tables for p in table.parameters() if p.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(False)
    hooks = GradSampleHooks(network, loss_reduction="sum")
    hooked = list(hooks.iterate_submodules(network))
    try:
        with warnings.catch_warnings():
            # The lowest layers hear tokens, which have no gradient: as it should be.
            warnings.filterwarnings("ignore", "Full backward hook is firing")
            yield {name: p for name, p in network.named_parameters() if p.requires_grad}
    finally:
        hooks.cleanup()
        for module in hooked:
            for left in ("activations", "max_batch_len"):
                module.__dict__.pop(left, None)
        for parameter in frozen:
            parameter.requires_grad_(True)
        network.zero_grad(set_to_none=True)


@register_grad_sampler(Conv1D)
def _conv1d_gradients(
    layer: Conv1D, activations: list[torch.Tensor], backprops: torch.Tensor
) -> dict[torch.nn.Parameter, torch.Tensor]:
    """GPT-2's linear layer, whose weights are (in, out)."""
    heard = activations[0].to(backprops.dtype)
    found = {layer.weight: torch.einsum("n...i,n...o->nio", heard, backprops)}
    return {**found, layer.bias: torch.einsum("n...o->no", backprops)}


def _windows_of_units(owner: Sequence[int]) -> list[list[int]]:
    """For each unit the positions of its windows."""
    units: dict[int, list[int]] = {}
    for i, who in enumerate(owner):
        units.setdefault(int(who), []).append(i)
    return list(units.values())


def _passes(samples: Sequence[Encoded], positions: Sequence[int], device: str, most: int) -> Iterator[list[int]]:
    """The positions in parts of similar length: at most `most` and about so many tokens as suit the device."""
    lengths = {i: len(samples[i].prompt) + len(samples[i].answer) for i in positions}
    part: list[int] = []
    for i in sorted(positions, key=lambda i: lengths[i]):
        if part and (len(part) == most or lengths[i] * (len(part) + 1) > TOKENS_PER_PASS[device]):
            yield part
            part = []
        part.append(i)
    if part:
        yield part


def _set_gradients(parameters: Iterable[torch.nn.Parameter], flat: torch.Tensor) -> None:
    given = list(parameters)
    for parameter, part in zip(given, flat.split([p.numel() for p in given]), strict=True):
        parameter.grad = part.view_as(parameter)
