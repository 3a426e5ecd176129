"""Networks that attacks train on the known users."""

from __future__ import annotations

import numpy as np
import torch


class UpsamplingNetwork(torch.nn.Module):
    """Lifts a few scalars to a common width by an MLP, beside a linear path for the hidden part."""

    def __init__(self, scalars: int, hidden: int, width: int) -> None:
        super().__init__()
        self.lift = torch.nn.Sequential(
            torch.nn.Linear(scalars, width), torch.nn.Tanh(), torch.nn.Linear(width, width), torch.nn.Tanh()
        )
        self.head = torch.nn.Linear(width + hidden, 1)

    def forward(self, scalars: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        """(n,) membership logits."""
        logits: torch.Tensor = self.head(torch.cat([self.lift(scalars), hidden], dim=1)).squeeze(1)
        return logits


def train_upsampling(
    scalars: np.ndarray,
    hidden: np.ndarray,
    member: np.ndarray,
    *,
    width: int,
    epochs: int,
    weight_decay: float,
    seed: int,
) -> UpsamplingNetwork:
    """The lifting MLP, trained together with a logistic output on the known users.

    Args:
        scalars: (n, s) standardised.
        hidden: (n, h) standardised; h may be 0.
        member: (n,) bool.
    """
    generator_state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    network = UpsamplingNetwork(scalars.shape[1], hidden.shape[1], width)
    torch.random.set_rng_state(generator_state)
    inputs = torch.as_tensor(scalars, dtype=torch.float32), torch.as_tensor(hidden, dtype=torch.float32)
    labels = torch.as_tensor(member, dtype=torch.float32)
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3, weight_decay=weight_decay)
    for _ in range(epochs):
        optimizer.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(network(*inputs), labels).backward()
        optimizer.step()
    return network.eval()


@torch.inference_mode()
def lifted(network: UpsamplingNetwork, scalars: np.ndarray) -> np.ndarray:
    """(n, width) the scalars as the trained MLP lifts them."""
    return network.lift(torch.as_tensor(scalars, dtype=torch.float32)).numpy().astype(np.float64)
