"""Reference models that learn from the target's answers: two-phase, symmetric and soft-only knowledge distillation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from mia_core.errors import ModelError
from mia_core.models.llm.language_model import LanguageModel
from mia_core.models.llm.training import BatchLoss
from mia_core.observe.observations import AnswerModel, AnswerOutputs, Encoded

if TYPE_CHECKING:
    from mia_core.experiment import Distillation, Training


REMEMBERED_BYTES = 200 * 2**20
"""What a teacher's remembered answers may take."""


class TeacherAnswers:
    """What the teacher says of each sample: asked once, remembered for later epochs as far as memory is granted."""

    def __init__(self, teacher: AnswerModel, temperature: float) -> None:
        self.teacher = teacher
        self.temperature = temperature
        self.remembered: dict[Encoded, torch.Tensor] = {}
        self.free = REMEMBERED_BYTES

    def __call__(self, batch: Sequence[Encoded]) -> torch.Tensor:
        """(answer tokens of the batch, vocabulary) probabilities at the temperature."""
        new = [sample for sample in batch if sample not in self.remembered]
        asked = dict(zip(new, self._ask(new), strict=True)) if new else {}
        for sample, answer in asked.items():
            if answer.nbytes <= self.free:
                self.remembered[sample] = answer
                self.free -= answer.nbytes
        return torch.cat([asked[sample] if sample in asked else self.remembered[sample] for sample in batch])

    @torch.no_grad()
    def _ask(self, samples: Sequence[Encoded]) -> list[torch.Tensor]:
        taught = self.teacher.answer_outputs(samples)
        soft = torch.softmax(taught.asked()[0].float() / self.temperature, dim=-1)
        return [part.clone() for part in soft.split([len(sample.answer) for sample in samples])]


def distillation_loss(teacher: AnswerModel, hard_weight: float, temperature: float) -> BatchLoss:
    """hard_weight · cross-entropy(answer) + (1 − hard_weight) · T² · KL(teacher_T || student_T), per answer token.

    Source: Hinton, Vinyals, Dean, arXiv 1503.02531 (temperature and T²); Li et al., arXiv 2511.14763 (the mixture).
    """

    answers = TeacherAnswers(teacher, temperature)

    def loss(outputs: AnswerOutputs, batch: Sequence[Encoded]) -> torch.Tensor:
        logits, labels = outputs.asked()
        student = logits.float()
        total = torch.zeros(len(labels), device=student.device)
        if hard_weight > 0:
            total = total + hard_weight * torch.nn.functional.cross_entropy(student, labels, reduction="none")
        if hard_weight < 1:
            soft, student = _shared_vocabulary(answers(batch), student)
            log_student = torch.log_softmax(student / temperature, dim=-1)
            divergence = torch.nn.functional.kl_div(log_student, soft, reduction="none").sum(-1)
            total = total + (1 - hard_weight) * temperature**2 * divergence
        return total

    return loss


def check_same_tokens(teacher: LanguageModel, student: LanguageModel) -> None:
    """Refuses a student that answers in other tokens than its teacher.

    Raises:
        ModelError: the vocabularies differ.
    """
    if teacher.tokenizer.get_vocab() != student.tokenizer.get_vocab():
        raise ModelError(
            "distillation.student: its tokenizer is not the target's, so their answers cannot be compared token by "
            "token; use an offline student (it takes the target's tokenizer) or a model with the same vocabulary"
        )


@dataclass(frozen=True)
class Phase:
    """One phase of a distillation."""

    on: frozenset[str]
    """held_out, members, or both."""
    hard_weight: float
    training: Training


def phases(config: Distillation) -> list[Phase]:
    """The phases of the labelled student, in order.

    Source: Li, Huang, Yin, Sang, arXiv 2511.14763: first held-out users, (1-a)·soft + a·hard, then members,
    a·soft + (1-a)·hard.
    Differs: the hard part's label is the task's answer; secondary sources disagree about what it was.
    """
    if config.variant == "symmetric":
        return [Phase(frozenset({"held_out", "members"}), config.alpha, config.phase_one)]
    return [
        Phase(frozenset({"held_out"}), config.alpha, config.phase_one),
        Phase(frozenset({"members"}), 1 - config.alpha, config.phase_two),
    ]


@torch.inference_mode()
def agreement(
    teacher: AnswerModel, student: AnswerModel, samples: Sequence[Encoded], batch_size: int = 64
) -> tuple[float, float]:
    """(mean KL(teacher || student) per answer token in nats, share of answer tokens with the same likeliest token)."""
    divergence, same, tokens = 0.0, 0, 0
    for start in range(0, len(samples), batch_size):
        batch = samples[start : start + batch_size]
        taught, learnt = teacher.answer_outputs(batch), student.answer_outputs(batch)
        p = torch.softmax(taught.asked()[0].float(), dim=-1)
        p, logits = _shared_vocabulary(p, learnt.asked()[0].float())
        log_q = torch.log_softmax(logits, dim=-1)
        divergence += float(torch.nn.functional.kl_div(log_q, p, reduction="sum"))
        same += int((p.argmax(-1) == log_q.argmax(-1)).sum())
        tokens += len(p)
    return divergence / tokens, same / tokens


def _shared_vocabulary(soft: torch.Tensor, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Cuts rows that only pad a vocabulary to a round size; `check_same_tokens` has seen that the tokens agree."""
    width = min(soft.shape[-1], logits.shape[-1])
    return soft[:, :width], logits[:, :width]
