"""One training loop for pre-training, fine-tuning and distillation: length-bucketed, resumable from its last epoch."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from safetensors.torch import load_file, save_file

from mia_core.models.device import resolve_precision
from mia_core.models.llm.together import Alone, team
from mia_core.observe.observations import AnswerModel, AnswerOutputs, Encoded
from mia_core.seeds import derive_seed, generator

if TYPE_CHECKING:
    from mia_core.experiment import Training

BatchLoss = Callable[[AnswerOutputs, Sequence[Encoded]], torch.Tensor]
"""(student's outputs, the batch) -> (answer tokens,) loss per answer token."""

CHECKPOINT_EVERY_SECONDS = 15.0


class Trainable(AnswerModel, Protocol):
    """What `fit` needs of a model."""

    network: Any
    autocast: torch.dtype | None

    @property
    def plain_network(self) -> Any:
        """The network without a wrapper."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""

    def asked_in_training(self, batch: Sequence[Encoded]) -> Sequence[Encoded]:
        """What of a batch is asked in one step of training."""


def hard_loss(label_smoothing: float = 0.0) -> BatchLoss:
    """Cross-entropy with the true answer tokens."""

    def loss(outputs: AnswerOutputs, batch: Sequence[Encoded]) -> torch.Tensor:
        logits, labels = outputs.asked()
        return torch.nn.functional.cross_entropy(
            logits.float(), labels, label_smoothing=label_smoothing, reduction="none"
        )

    return loss


def length_bucketed_batches(lengths: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Every position once, in batches of similar length, in an order drawn anew each epoch."""
    rng = generator(seed, "batches", epoch)
    order = rng.permutation(len(lengths))
    pool = 16 * batch_size
    batches: list[list[int]] = []
    for start in range(0, len(order), pool):
        part = sorted(order[start : start + pool], key=lambda i: lengths[i])
        batches.extend([int(i) for i in part[j : j + batch_size]] for j in range(0, len(part), batch_size))
    return [batches[i] for i in rng.permutation(len(batches))]


def fit(
    model: Trainable,
    samples: Sequence[Encoded],
    loss: BatchLoss,
    training: Training,
    *,
    seed: int,
    validation: Sequence[Encoded] = (),
    scratch: Path | None = None,
    on_progress: Callable[[float], None] = lambda fraction: None,
    after_epoch: Callable[[Trainable, int], None] = lambda model, epoch: None,
) -> None:
    """Trains the network's trainable weights in place with AdamW and a linear warm-up and decay.

    Args:
        samples: encoded samples; every epoch sees each once.
        loss: per-token loss; averaged over the tokens of an optimizer step.
        validation: encoded samples for early stopping; used only when `training.early_stop`.
        scratch: folder for checkpoints; a later call with the same arguments goes on after the last finished epoch.
        after_epoch: told how many epochs are done, 0 before the first; must draw no random numbers.
    Raises:
        PartDone: in a process that helps another one to train.
    """
    group = team()
    step = group.prepared(_Step(model, loss), model.network)
    parameters = {name: p for name, p in model.network.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(parameters.values(), lr=training.learning_rate, weight_decay=training.weight_decay)
    steps_per_epoch = max(1, math.ceil(len(samples) / (training.batch_size * training.accumulation)))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, warmup_and_decay(steps_per_epoch * training.epochs, training.warmup_share)
    )
    checkpoint = Checkpoint(group.scratch(scratch), parameters, optimizer, schedule)
    first, best, stale = checkpoint.restore()
    half = resolve_precision(training.precision, model.device) == "bfloat16"
    model.autocast = torch.bfloat16 if half else None
    lengths = [len(sample.prompt) + len(sample.answer) for sample in samples]

    def tell(epoch: int) -> None:
        def ask() -> float:
            after_epoch(model, epoch)
            return 0.0

        group.told(step, model, ask)

    if first == 0:
        tell(0)
    for epoch in range(first, training.epochs):
        torch.manual_seed(derive_seed(seed, "epoch", epoch, *group.seed()))
        model.network.train()
        batches = length_bucketed_batches(lengths, training.batch_size, seed, epoch)
        for number, start in enumerate(range(0, len(batches), training.accumulation)):
            asked = [
                model.asked_in_training([samples[i] for i in batch])
                for batch in batches[start : start + training.accumulation]
            ]
            _optimizer_step(step, asked, group, list(parameters.values()), optimizer)
            schedule.step()
            on_progress((epoch + (number + 1) / steps_per_epoch) / training.epochs)
        tell(epoch + 1)
        if training.early_stop and validation:
            current = group.told(step, model, lambda: validation_loss(model, validation, training.batch_size))
            stale = 0 if current < best else stale + 1
            best = min(best, current)
            if stale >= training.patience:
                break
        if group.first:
            checkpoint.save(epoch + 1, best, stale, last=epoch + 1 == training.epochs)
    group.finish(step, model)
    model.network.eval()
    checkpoint.clear()


class _Step(torch.nn.Module):
    """From a batch to its loss, in one call: what several processes wrap to bring their gradients together."""

    def __init__(self, model: Trainable, loss: BatchLoss) -> None:
        super().__init__()
        self.network = model.network
        self.model, self.loss = model, loss

    def forward(self, batch: Sequence[Encoded]) -> torch.Tensor:
        return self.loss(self.model.answer_outputs(batch), batch).sum()


def _optimizer_step(
    step: torch.nn.Module,
    asked: Sequence[Sequence[Encoded]],
    group: Alone,
    parameters: Sequence[torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
) -> None:
    tokens = sum(len(sample.answer) for batch in asked for sample in batch)
    for batch in asked:
        (group.total(step, batch) / tokens).backward()
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


@torch.inference_mode()
def validation_loss(model: Trainable, samples: Sequence[Encoded], batch_size: int) -> float:
    """Mean loss per answer token, nats."""
    model.network.eval()
    total, tokens = 0.0, 0
    for start in range(0, len(samples), batch_size):
        batch = samples[start : start + batch_size]
        values = hard_loss()(model.answer_outputs(batch), batch)
        total, tokens = total + float(values.sum()), tokens + values.numel()
    return total / tokens


def warmup_and_decay(steps: int, warmup_share: float) -> Callable[[int], float]:
    warmup = max(1, int(warmup_share * steps))

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return max(0.0, (steps - step) / max(1, steps - warmup))

    return factor


class Checkpoint:
    """Weights and optimizer state after the last finished epoch, written at most every few seconds."""

    def __init__(
        self,
        folder: Path | None,
        parameters: dict[str, torch.nn.Parameter],
        optimizer: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
    ) -> None:
        self.folder = folder / "checkpoint" if folder is not None else None
        self.parameters = parameters
        self.optimizer = optimizer
        self.schedule = schedule
        self.saved_at = time.monotonic()

    def restore(self) -> tuple[int, float, int]:
        if self.folder is None or not (self.folder / "state.pt").exists():
            return 0, math.inf, 0
        state = torch.load(self.folder / "state.pt", weights_only=True)
        weights = load_file(self.folder / "weights.safetensors")
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(weights[name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        return int(state["epoch"]), float(state["best"]), int(state["stale"])

    def save(self, epoch: int, best: float, stale: int, last: bool) -> None:
        if self.folder is None or last or time.monotonic() - self.saved_at < CHECKPOINT_EVERY_SECONDS:
            return
        fresh = self.folder.with_name("checkpoint.new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        save_file(
            {name: p.detach().cpu().contiguous() for name, p in self.parameters.items()}, fresh / "weights.safetensors"
        )
        state = {
            "epoch": epoch,
            "best": best,
            "stale": stale,
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
        }
        torch.save(state, fresh / "state.pt")
        shutil.rmtree(self.folder, ignore_errors=True)
        fresh.rename(self.folder)
        self.saved_at = time.monotonic()

    def clear(self) -> None:
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
