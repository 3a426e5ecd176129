"""What a model says of whole sequences, as vectors that can be drawn on a map."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from mia_core.observe.observations import AnswerModel, batches_of_answers

POSITIONS = 20
"""Of a longer sequence the latest positions count."""


@torch.inference_mode()
def output_vectors(
    model: AnswerModel, prompts: Sequence[str], answers: Sequence[str], width: int = 50, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """(n, width) what the model says at the last position, and (n, 400) how its positions and the items belong together.

    The first is the distribution from which the last answer token is told, under a random projection that is the same
    for all samples. The second is the log-probability that each position (row) gives to each token of the answer
    (column), in squares of 20 by 20, 0 where the sequence is shorter.
    """
    encoded = model.encode(prompts, answers)
    last = np.zeros((len(encoded), width), np.float32)
    together = np.zeros((len(encoded), POSITIONS, POSITIONS), np.float32)
    projection: torch.Tensor | None = None
    for positions, outputs in batches_of_answers(model, encoded, pooled=False):
        logits, labels = outputs.asked()
        log_p = torch.log_softmax(logits.float(), dim=-1)
        if projection is None:
            draw = torch.Generator().manual_seed(seed)
            projection = (torch.randn(log_p.shape[-1], width, generator=draw) / width**0.5).to(log_p)
        lengths = [len(encoded[i].answer) for i in positions]
        ends = torch.tensor(lengths, device=log_p.device).cumsum(0) - 1
        last[positions] = (log_p[ends].exp() @ projection).cpu().numpy()
        parts = zip(positions, log_p.split(lengths), labels.split(lengths), strict=True)
        for i, said, tokens in parts:
            square = said[-POSITIONS:][:, tokens[-POSITIONS:]]
            together[i, : len(square), : len(square)] = square.cpu().numpy()
    return last, together.reshape(len(encoded), POSITIONS * POSITIONS)
