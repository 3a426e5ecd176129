"""Many LoRA adapters over one frozen base, trained at once: the base multiplies all their samples in one go."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import PeftModel
from transformers.activations import NewGELUActivation
from transformers.pytorch_utils import Conv1D

from mia_core.models.device import resolve_precision
from mia_core.models.llm.language_model import LanguageModel
from mia_core.models.llm.loading import add_lora, save_model
from mia_core.models.llm.training import BatchLoss, Checkpoint, length_bucketed_batches, warmup_and_decay
from mia_core.observe.observations import Encoded
from mia_core.seeds import derive_seed, generator

if TYPE_CHECKING:
    from mia_core.experiment import Lora, Training

TOKENS_PER_PASS = {"cpu": 2_000, "cuda": 65_536}
"""More at once no longer fit a CPU's cache; a GPU is kept busy by many."""
FILLER = Encoded((0,), ())
"""Makes up the rows of an adapter whose batch is smaller than the others'; it has no answer and thus no loss."""


class StackedAdapters:
    """K adapters, each a vector of weights of its own, over one base.

    The base's linear layers are replaced while an instance trains; `adapter` gives single ones back.

    Args:
        seeds: one per adapter; adapter k starts as `add_lora(base, config, seeds[k])` does.
    """

    def __init__(self, base: LanguageModel, config: Lora, seeds: Sequence[int]) -> None:
        self.base = base
        self.config = config
        self.weights = []
        for seed in seeds:
            alone = add_lora(base, config, seed)
            parts = _adapter_weights(alone)
            self.shapes = {name: part.shape for name, part in parts.items()}
            flat = torch.cat([part.detach().flatten() for part in parts.values()])
            self.weights.append(torch.nn.Parameter(flat))
            alone.network.unload()
        self.layers: dict[str, _StackedLinear] = {}
        for name in self.shapes:
            module = _module_name(name)
            if module not in self.layers:
                original = base.network.get_submodule(module)
                self.layers[module] = _StackedLinear(original, config.alpha / config.rank, config.dropout)
        self.head = _AnswerHead(base.network.get_output_embeddings())
        self.last = self._last_feed_forward()

    def __len__(self) -> int:
        return len(self.weights)

    @contextmanager
    def stacked(self) -> Iterator[None]:
        """Inside, the base's network is the one of all adapters."""
        network = self.base.network
        replaced: list[tuple[str, Any]] = []
        activations = [name for name, module in network.named_modules() if isinstance(module, NewGELUActivation)]
        # The same function in one pass over memory instead of six.
        fused = {name: torch.nn.GELU(approximate="tanh") for name in activations}
        for name, module in [*self.layers.items(), *fused.items(), *self.last.items()]:
            replaced.append((name, network.get_submodule(name)))
            network.set_submodule(name, module)
        network.set_output_embeddings(self.head)
        try:
            yield
        finally:
            for name, module in reversed(replaced):
                network.set_submodule(name, module)
            network.set_output_embeddings(self.head.original)

    def token_losses(self, batches: dict[int, Sequence[Encoded]], loss: BatchLoss) -> tuple[torch.Tensor, torch.Tensor]:
        """(answer tokens,) losses of the adapters' batches, adapter after adapter, and whose each is."""
        width = max(len(batch) for batch in batches.values())
        self._use(list(batches))
        rows = [sample for batch in batches.values() for sample in [*batch, *[FILLER] * (width - len(batch))]]
        lengths = [len(sample.answer) for sample in rows]
        for last in self.last.values():
            # One position before the first answer token, too: its output is where that token is read.
            last.width = max(lengths) + 1
        with self.head.reading(lengths):
            outputs = self.base.answer_outputs(rows)
        labels = outputs.labels[outputs.mask][None]
        values = loss(replace(outputs, labels=labels, mask=torch.ones_like(labels, dtype=torch.bool)), rows)
        counts = torch.tensor([_answer_tokens([batch]) for batch in batches.values()], device=values.device)
        owner = torch.tensor(list(batches), device=values.device)
        return values, owner.repeat_interleave(counts)

    def adapter(self, k: int) -> LanguageModel:
        """The base with adapter k alone, as peft has it; `unload` its network before another is asked for."""
        alone = add_lora(self.base, self.config, 0)
        with torch.no_grad():
            for part, trained in zip(_adapter_weights(alone).values(), self._parts(self.weights[k][None]), strict=True):
                part.copy_(trained[0])
        return alone

    def save(self, k: int, folder: Path) -> None:
        """Adapter k in peft's format."""
        alone = self.adapter(k)
        alone.network.eval()
        save_model(alone, folder)
        alone.network.unload()

    def _last_feed_forward(self) -> dict[str, _LastPositions]:
        """What stands behind a decoder's last attention matters where the answer is read alone, at the right end."""
        if self.base.family.encoder_decoder or self.base.padding_side != "left":
            return {}
        name = [layer for layer in self.layers if ".mlp." in layer][-1].partition(".mlp.")[0] + ".mlp"
        return {name: _LastPositions(self.base.network.get_submodule(name))}

    def _use(self, which: Sequence[int]) -> None:
        for name, part in zip(self.shapes, self._parts(torch.stack([self.weights[k] for k in which])), strict=True):
            layer = self.layers[_module_name(name)]
            if ".lora_A." in name:
                layer.down = part
            else:
                layer.up = part

    def _parts(self, weights: torch.Tensor) -> list[torch.Tensor]:
        pieces = weights.split([shape.numel() for shape in self.shapes.values()], dim=1)
        return [piece.unflatten(1, shape) for piece, shape in zip(pieces, self.shapes.values(), strict=True)]


def fit_stacked(
    stack: StackedAdapters,
    samples: Sequence[Sequence[Encoded]],
    loss: BatchLoss,
    training: Training,
    *,
    seed: int,
    scratch: Path | None = None,
    on_progress: Callable[[float], None] = lambda fraction: None,
) -> None:
    """Trains every adapter on its own samples; each step of each is the one that it would take alone.

    Differs from `fit`: batches of like length come at the same time for all adapters, and nothing stops early.

    Args:
        samples: the encoded training samples of each adapter.
        loss: per-token loss; averaged over the tokens of an adapter's optimizer step.
        scratch: folder for checkpoints; a later call with the same arguments goes on after the last finished epoch.
    """
    network, device = stack.base.network, stack.base.device
    network.requires_grad_(False)
    own_steps = [max(1, math.ceil(len(own) / (training.batch_size * training.accumulation))) for own in samples]
    longest = max(own_steps)
    optimizer = torch.optim.AdamW(
        [{"params": [weights]} for weights in stack.weights],
        lr=training.learning_rate,
        weight_decay=training.weight_decay,
        fused=True,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, [_schedule(steps, longest, training) for steps in own_steps]
    )
    named = {str(k): weights for k, weights in enumerate(stack.weights)}
    checkpoint = Checkpoint(scratch, named, optimizer, schedule)
    first, _, _ = checkpoint.restore()
    half = resolve_precision(training.precision, device) == "bfloat16"
    stack.base.autocast = torch.bfloat16 if half else None
    lengths = [[len(sample.prompt) + len(sample.answer) for sample in own] for own in samples]
    with stack.stacked():
        for epoch in range(first, training.epochs):
            torch.manual_seed(derive_seed(seed, "epoch", epoch))
            network.train()
            plans = steps_side_by_side(lengths, training, seed, epoch)
            for step in range(longest):
                now = {
                    k: [[samples[k][i] for i in batch] for batch in plan[step]]
                    for k, plan in enumerate(plans)
                    if step < len(plan)
                }
                _step_of_each(stack, now, loss, optimizer)
                schedule.step()
                on_progress((epoch + (step + 1) / longest) / training.epochs)
            checkpoint.save(epoch + 1, math.inf, 0, last=epoch + 1 == training.epochs)
    network.eval()
    checkpoint.clear()


def steps_side_by_side(
    lengths: Sequence[Sequence[int]], training: Training, seed: int, epoch: int
) -> list[list[list[list[int]]]]:
    """For each adapter its steps of one epoch, each a list of batches of sample positions.

    Batches are drawn for each adapter as `fit` draws them, then put in an order in which all adapters have samples of
    like length at the same time, so that little is padded. Each one's order alone is still a uniformly random one.
    """
    plans = []
    for k, own in enumerate(lengths):
        batches = length_bucketed_batches(own, training.batch_size, derive_seed(seed, "adapter", k), epoch)
        plans.append([batches[i : i + training.accumulation] for i in range(0, len(batches), training.accumulation)])
    common = min(len(plan) for plan in plans)
    order = generator(seed, "steps", epoch).permutation(common)
    for plan, own in zip(plans, lengths, strict=True):
        # What an adapter has beyond the others comes last: a random choice, since the batches are in random order.
        by_length = sorted(plan[:common], key=lambda step: max(own[i] for batch in step for i in batch))
        plan[:common] = [by_length[i] for i in order]
    return plans


def _step_of_each(
    stack: StackedAdapters,
    groups: dict[int, list[list[Encoded]]],
    loss: BatchLoss,
    optimizer: torch.optim.Optimizer,
) -> None:
    """One optimizer step of every adapter in `groups`; the others stay as they are."""
    share = torch.zeros(len(stack), device=stack.base.device)
    for k, group in groups.items():
        share[k] = 1 / _answer_tokens(group)
    for number in range(max(len(group) for group in groups.values())):
        batches = {k: group[number] for k, group in groups.items() if number < len(group)}
        for together in _passes(batches, TOKENS_PER_PASS[stack.base.device.type]):
            values, owner = stack.token_losses(together, loss)
            (values * share[owner]).sum().backward()
    for k in groups:
        torch.nn.utils.clip_grad_norm_([stack.weights[k]], 1.0)
    # An adapter without a gradient is left alone, its count of steps too.
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def _passes(batches: dict[int, list[Encoded]], limit: int) -> Iterator[dict[int, Sequence[Encoded]]]:
    """The batches, as many together as make up about `limit` tokens; at least one."""
    now: dict[int, Sequence[Encoded]] = {}
    rows = longest = 0
    for k, batch in batches.items():
        length = max(len(sample.prompt) + len(sample.answer) for sample in batch)
        if now and max(longest, length) * max(rows, len(batch)) * (len(now) + 1) > limit:
            yield now
            now, rows, longest = {}, 0, 0
        now[k] = batch
        rows, longest = max(rows, len(batch)), max(longest, length)
    yield now


def _schedule(own_steps: int, longest: int, training: Training) -> Callable[[int], float]:
    factor = warmup_and_decay(own_steps * training.epochs, training.warmup_share)

    def at(step: int) -> float:
        # An adapter with fewer steps waits for the others at the end of each epoch.
        return factor(step // longest * own_steps + min(step % longest, own_steps))

    return at


def _answer_tokens(batches: Sequence[Sequence[Encoded]]) -> int:
    return sum(len(sample.answer) for batch in batches for sample in batch)


def _adapter_weights(alone: LanguageModel) -> dict[str, torch.nn.Parameter]:
    assert isinstance(alone.network, PeftModel)  # noqa: S101 - add_lora makes one
    return {name: p for name, p in alone.plain_network.named_parameters() if p.requires_grad}


def _module_name(name: str) -> str:
    return name.partition(".lora_")[0]


class _AnswerHead(torch.nn.Module):
    """The output layer at answer tokens alone: (batch, length, width) -> (1, answer tokens, vocabulary)."""

    def __init__(self, original: Any) -> None:
        super().__init__()
        self.original = original
        self.lengths: torch.Tensor | None = None

    @contextmanager
    def reading(self, lengths: Sequence[int]) -> Iterator[None]:
        """Inside, the rows have answers of these lengths."""
        self.lengths = torch.tensor(lengths)
        yield
        self.lengths = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert self.lengths is not None  # noqa: S101 - asked within `reading` alone
        mask = torch.arange(x.shape[1]) < self.lengths[:, None]
        return self.original(x[mask.to(x.device)][None])


class _LastPositions(torch.nn.Module):
    """A feed-forward block at the last `width` positions of each row alone; zero before."""

    width = 1

    def __init__(self, original: Any) -> None:
        super().__init__()
        self.original = original

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skipped = max(0, x.shape[1] - self.width)
        return torch.nn.functional.pad(self.original(x[:, skipped:]), (0, 0, skipped, 0))


class _StackedLinear(torch.nn.Module):
    """x W + b of the base for all rows, and (x A_k) B_k · scale of adapter k for its own: Hu et al., 2106.09685."""

    down: torch.Tensor
    """(groups, rank, in): A."""
    up: torch.Tensor
    """(groups, out, rank): B."""

    def __init__(self, original: Any, scale: float, dropout: float) -> None:
        super().__init__()
        self.original = original
        self.scale = scale
        self.dropout = dropout

    @property
    def weight(self) -> torch.Tensor:
        """T5 asks its layers for their precision."""
        return self.original.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # Conv1D keeps (in, out), Linear (out, in).
        weight = self.original.weight if isinstance(self.original, Conv1D) else self.original.weight.T
        bias, down, up = self.original.bias, self.down, self.up
        if torch.is_autocast_enabled(x.device.type):
            precision = torch.get_autocast_dtype(x.device.type)
            x, weight, down, up = (part.to(precision) for part in (x, weight, down, up))
            bias = None if bias is None else bias.to(precision)
        with torch.autocast(x.device.type, enabled=False):
            if self.dropout and self.training:
                heard = torch.nn.functional.dropout(x, self.dropout)
                rows = heard.reshape(len(down), -1, x.shape[-1])
                # In which order the three are multiplied, and so how the product lies in memory, is einsum's choice.
                own = torch.einsum("gni,gri,gor->gno", rows, down, up).reshape(*x.shape[:-1], -1)
                plain = x @ weight
                return (plain if bias is None else plain + bias) + self.scale * own
            return _AdaptedProduct.apply(x, weight, bias, down, up, self.scale)


class _AdaptedProduct(torch.autograd.Function):
    """The same without dropout: adapters' terms are added in place, and the frozen base takes no gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        down: torch.Tensor,
        up: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        rows = x.reshape(-1, x.shape[-1])
        grouped = rows.view(len(down), -1, x.shape[-1])
        out = rows @ weight if bias is None else torch.addmm(bias, rows, weight)
        low = torch.bmm(grouped, down.transpose(1, 2))
        out.view(len(down), -1, out.shape[-1]).baddbmm_(low, up.transpose(1, 2), alpha=scale)
        ctx.save_for_backward(grouped, weight, low, down, up)
        ctx.scale = scale
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, slope: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        grouped, weight, low, down, up = ctx.saved_tensors
        own = slope.reshape(len(down), -1, slope.shape[-1])
        low_slope = torch.bmm(own, up).mul_(ctx.scale)
        up_slope = torch.bmm(low.transpose(1, 2), own).mul_(ctx.scale).transpose(1, 2)
        down_slope = torch.bmm(low_slope.transpose(1, 2), grouped)
        x_slope = None
        if ctx.needs_input_grad[0]:
            x_slope = own.reshape(-1, slope.shape[-1]) @ weight.T
            x_slope.view(grouped.shape).baddbmm_(low_slope, down)
            x_slope = x_slope.view(*slope.shape[:-1], -1)
        return x_slope, None, None, down_slope, up_slope, None
