"""What a language model says of its own accord: ranked answers by beam search, and answers drawn at a temperature."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from transformers import LogitsProcessor, LogitsProcessorList

from mia_core.models.llm.language_model import LanguageModel
from mia_core.seeds import generator

SEQUENCES_PER_BATCH = 640


class InverseSampling(LogitsProcessor):
    """Turns the likeliest token into a drawn one: each row has uniform numbers of its own, one per step.

    So what is drawn for a prompt does not depend on the other prompts of its batch, as it would with one stream of
    random numbers for all.
    """

    def __init__(self, uniform: torch.Tensor, start: int, temperature: float) -> None:
        self.uniform = uniform
        self.start = start
        self.temperature = temperature

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores that are 0 at the drawn token and lowest elsewhere."""
        step = input_ids.shape[1] - self.start
        cumulated = torch.softmax(scores.float() / self.temperature, dim=-1).cumsum(-1)
        drawn = torch.searchsorted(cumulated, self.uniform[:, step : step + 1] * cumulated[:, -1:])
        chosen = torch.full_like(scores, -torch.inf)
        return chosen.scatter_(1, drawn.clamp(max=scores.shape[-1] - 1), 0.0)


def ranked_answers(
    model: LanguageModel,
    prompts: Sequence[str],
    length: int,
    longest: int,
    on_progress: Callable[[float], None] = lambda fraction: None,
) -> list[list[str]]:
    """`length` answers to each prompt, the likeliest first, by beam search.

    Args:
        longest: tokens of an answer at most.
    """
    answers: list[list[str]] = [[] for _ in prompts]
    done = 0
    for positions, inputs in _batches(model, prompts, length):
        produced = _generate(model, inputs, longest, num_beams=length, num_return_sequences=length)
        texts = _texts(model, inputs, produced)
        for row, i in enumerate(positions):
            answers[i] = texts[row * length : (row + 1) * length]
        done += len(positions)
        on_progress(done / len(prompts))
    return answers


def drawn_answers(
    model: LanguageModel,
    prompts: Sequence[str],
    repeats: int,
    temperature: float,
    longest: int,
    seed: int,
    on_progress: Callable[[float], None] = lambda fraction: None,
) -> list[list[str]]:
    """`repeats` answers to each prompt, drawn from the model's distribution at a temperature; seeded by the prompt."""
    answers: list[list[str]] = [[] for _ in prompts]
    done = 0
    for positions, inputs in _batches(model, prompts, repeats):
        uniform = np.concatenate([generator(seed, "draw", prompts[i]).random((repeats, longest)) for i in positions])
        repeated = {name: value.repeat_interleave(repeats, dim=0) for name, value in inputs.items()}
        start = 1 if model.family.encoder_decoder else repeated["input_ids"].shape[1]
        draw = InverseSampling(torch.tensor(uniform, dtype=torch.float32, device=model.device), start, temperature)
        produced = _generate(model, repeated, longest, logits_processor=LogitsProcessorList([draw]))
        texts = _texts(model, repeated, produced)
        for row, i in enumerate(positions):
            answers[i] = texts[row * repeats : (row + 1) * repeats]
        done += len(positions)
        on_progress(done / len(prompts))
    return answers


def _batches(
    model: LanguageModel, prompts: Sequence[str], sequences: int
) -> Iterator[tuple[list[int], dict[str, torch.Tensor]]]:
    encoded = [sample.prompt for sample in model.encode(prompts, [""] * len(prompts))]
    order = sorted(range(len(prompts)), key=lambda i: len(encoded[i]))
    size = max(1, SEQUENCES_PER_BATCH // sequences)
    for start in range(0, len(order), size):
        positions = order[start : start + size]
        tokens, mask = model.padded([encoded[i] for i in positions], "left")
        yield positions, {"input_ids": tokens, "attention_mask": mask.long()}


@torch.inference_mode()
def _generate(model: LanguageModel, inputs: dict[str, torch.Tensor], longest: int, **how: object) -> torch.Tensor:
    tokenizer = model.tokenizer
    produced: torch.Tensor = model.network.generate(
        **inputs,
        do_sample=False,
        max_new_tokens=longest,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id,
        **how,
    )
    return produced


def _texts(model: LanguageModel, inputs: dict[str, torch.Tensor], produced: torch.Tensor) -> list[str]:
    start = 1 if model.family.encoder_decoder else inputs["input_ids"].shape[1]
    texts = model.tokenizer.batch_decode(produced[:, start:], skip_special_tokens=True)
    return [text.strip() for text in texts]
