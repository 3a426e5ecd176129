"""How strongly each sample would still change the weights: norms of its own loss gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from mia_core.models.llm.layers import layer_stacks
from mia_core.models.llm.training import Trainable, hard_loss
from mia_core.observe.observations import Encoded


def gradient_norms(
    model: Trainable, samples: Sequence[Encoded], on_progress: Callable[[float], None] = lambda fraction: None
) -> np.ndarray:
    """(n, 3) 1-norm, 2-norm and largest absolute value of the gradient of each sample's mean answer loss.

    Taken by the LoRA weights where there are any, else by the weights of the last layer.

    Source: Nasr, Shokri, Houmansadr 2019, arXiv 1812.00910; as in MIMIR, Duan et al. 2024, arXiv 2402.07841.
    Differs: one norm over all weights together instead of a mean over tensors.
    """
    model.network.eval()
    weights = _weights(model)
    for weight in weights:
        weight.requires_grad_(True)
    norms = np.empty((len(samples), 3))
    for i, sample in enumerate(samples):
        loss = hard_loss()(model.answer_outputs([sample]), [sample]).mean()
        parts = torch.autograd.grad(loss, weights, allow_unused=True)
        flat = torch.cat([part.float().reshape(-1) for part in parts if part is not None])
        norms[i] = [float(flat.abs().sum()), float(flat.norm()), float(flat.abs().max())]
        if i % 50 == 0:
            on_progress(i / len(samples))
    return norms


def _weights(model: Trainable) -> list[torch.nn.Parameter]:
    named = dict(model.network.named_parameters())
    adapters = [weight for name, weight in named.items() if "lora_" in name]
    if adapters:
        return adapters
    for weight in named.values():
        weight.requires_grad_(False)
    return list(layer_stacks(model.plain_network)[-1][-1].parameters())
