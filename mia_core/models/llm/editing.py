"""How a trained model's weights are edited so that it forgets: what the ways in `unlearning` compute."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from mia_core.models.device import resolve_precision
from mia_core.models.llm.distillation import TeacherAnswers, distillation_loss
from mia_core.models.llm.training import (
    BatchLoss,
    Checkpoint,
    fit,
    hard_loss,
    length_bucketed_batches,
    warmup_and_decay,
)
from mia_core.observe.observations import AnswerModel, AnswerOutputs, Encoded, batches_of_answers
from mia_core.seeds import derive_seed

if TYPE_CHECKING:
    from mia_core.experiment import Training
    from mia_core.models.llm.unlearning import GradientAscent, Request, TeacherStudent


def ascend(settings: GradientAscent, request: Request) -> Any:
    """Trains backwards, within bounds."""
    model = request.original()
    gained = _mean_loss(request.base, request.strangers) - _mean_loss(model, request.strangers)
    bound = _mean_loss(request.base, request.forget) - gained

    def ascent(outputs: AnswerOutputs, batch: Sequence[Encoded]) -> torch.Tensor:
        losses = hard_loss()(outputs, batch)
        if not settings.bounded:
            return -losses
        with torch.no_grad():
            allowed = _per_window(hard_loss()(request.base.answer_outputs(batch), batch), batch) - gained
            short = _per_window(losses, batch) < allowed
        return -losses * short

    def reached(model: AnswerModel) -> bool:
        return settings.bounded and _mean_loss(model, request.forget) >= bound

    _train(
        model,
        request,
        _adapted(request, settings.epochs, settings.pace),
        ascent,
        hard_loss(),
        settings.keep_weight,
        reached,
    )
    return model


def learn_from_teachers(settings: TeacherStudent, request: Request) -> Any:
    """Trains a student of both teachers, which starts as the model it was."""
    original, memorised, model = request.original(), request.original(), request.original()
    fit(
        memorised,
        request.forget,
        hard_loss(),
        _adapted(request, settings.memorised_epochs, 1.0),
        seed=derive_seed(request.seed, "memorised"),
        scratch=request.scratch / "memorised" if request.scratch else None,
    )
    original.network.eval()
    forgetting = distillation_loss(_ForgettingTeacher(original, memorised, settings.lowered), 0.0, 1.0)
    remembered = TeacherAnswers(original, 1.0)

    def keeping(outputs: AnswerOutputs, batch: Sequence[Encoded]) -> torch.Tensor:
        log_p = torch.log_softmax(outputs.asked()[0].float(), dim=-1)
        divergence = torch.nn.functional.kl_div(log_p, remembered(batch), reduction="none").sum(-1)
        return divergence + hard_loss()(outputs, batch)

    _train(model, request, _adapted(request, settings.epochs, settings.pace), forgetting, keeping, settings.keep_weight)
    return model


@dataclass(frozen=True)
class _ForgettingTeacher:
    """The original with lower logits where a model that memorised more has higher ones."""

    original: AnswerModel
    memorised: AnswerModel
    lowered: float

    @property
    def tokens_at_once(self) -> int:
        return self.original.tokens_at_once

    def encode(self, prompts: Sequence[str], answers: Sequence[str]) -> list[Encoded]:
        return self.original.encode(prompts, answers)

    def answer_outputs(self, batch: Sequence[Encoded], *, pooled: bool = False) -> AnswerOutputs:
        told, more = self.original.answer_outputs(batch), self.memorised.answer_outputs(batch).logits
        return dataclasses.replace(told, logits=told.logits - self.lowered * torch.relu(more - told.logits))


def _adapted(request: Request, epochs: int, pace: float) -> Training:
    """The target's training with other epochs and pace, and nothing that would stop or smooth it."""
    return request.training.model_copy(
        update={
            "epochs": epochs,
            "learning_rate": pace * request.training.learning_rate,
            "label_smoothing": 0.0,
            "early_stop": False,
        }
    )


def _train(
    model: Any,
    request: Request,
    training: Training,
    forgetting: BatchLoss,
    keeping: BatchLoss,
    keep_weight: float,
    reached: Callable[[AnswerModel], bool] = lambda model: False,
) -> None:
    """Steps on a batch to forget and one to keep each, until the epochs are over or the end is reached."""
    parameters = {name: p for name, p in model.network.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(parameters.values(), lr=training.learning_rate, weight_decay=training.weight_decay)
    steps = max(1, math.ceil(len(request.forget) / training.batch_size))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, warmup_and_decay(steps * training.epochs, training.warmup_share)
    )
    checkpoint = Checkpoint(request.scratch, parameters, optimizer, schedule)
    first, _, _ = checkpoint.restore()
    half = resolve_precision(training.precision, model.device) == "bfloat16"
    model.autocast = torch.bfloat16 if half else None
    for epoch in range(first, training.epochs):
        model.network.eval()
        if reached(model):
            break
        torch.manual_seed(derive_seed(request.seed, "epoch", epoch))
        model.network.train()
        kept = _batches_for_ever(request.retain, training.batch_size, derive_seed(request.seed, "kept", epoch))
        forgotten = itertools.islice(_batches_for_ever(request.forget, training.batch_size, request.seed, epoch), steps)
        for step, batch in enumerate(forgotten):
            asked = model.asked_in_training(batch)
            loss = (1 - keep_weight) * forgetting(model.answer_outputs(asked), asked).mean()
            if keep_weight and request.retain:
                asked = model.asked_in_training(next(kept))
                loss = loss + keep_weight * keeping(model.answer_outputs(asked), asked).mean()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(list(parameters.values()), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            schedule.step()
            request.on_progress((epoch + (step + 1) / steps) / training.epochs)
        checkpoint.save(epoch + 1, math.inf, 0, last=epoch + 1 == training.epochs)
    model.network.eval()
    checkpoint.clear()


def _batches_for_ever(samples: Sequence[Encoded], size: int, seed: int, first: int = 0) -> Iterator[list[Encoded]]:
    lengths = [len(sample.prompt) + len(sample.answer) for sample in samples]
    for epoch in itertools.count(first):
        for batch in length_bucketed_batches(lengths, size, seed, epoch):
            yield [samples[i] for i in batch]


@torch.no_grad()
def _mean_loss(model: AnswerModel, samples: Sequence[Encoded]) -> float:
    """Mean over windows of the mean loss per answer token, nats; 0 without windows."""
    total = 0.0
    for positions, outputs in batches_of_answers(model, samples, pooled=False):
        batch = [samples[i] for i in positions]
        total += float(_per_window(hard_loss()(outputs, batch), batch, spread=False).sum())
    return total / max(1, len(samples))


def _per_window(values: torch.Tensor, batch: Sequence[Encoded], *, spread: bool = True) -> torch.Tensor:
    """Mean of the values over each window's answer tokens: (windows,), or, spread, (tokens,)."""
    lengths = torch.tensor([len(sample.answer) for sample in batch], device=values.device)
    window = torch.arange(len(batch), device=values.device).repeat_interleave(lengths)
    means = torch.zeros(len(batch), device=values.device).index_add_(0, window, values.float()) / lengths
    return means[window] if spread else means
