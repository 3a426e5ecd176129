"""Networks that attacks train on the known users."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


class UpsamplingNetworks(torch.nn.Module):
    """Several MLPs from different seeds, each lifting a few scalars to a common width, trained side by side."""

    def __init__(self, networks: int, scalars: int, hidden: int, width: int, seed: int) -> None:
        super().__init__()
        self.draw = torch.Generator().manual_seed(seed)
        self.first = self._weights(networks, scalars, width)
        self.second = self._weights(networks, width, width)
        self.head = self._weights(networks, width + hidden, 1)

    def _weights(self, networks: int, inputs: int, outputs: int) -> torch.nn.ParameterList:
        # torch.nn.Linear's default: uniform within one over the root of the inputs.
        bound = max(1, inputs) ** -0.5
        drawn = [
            torch.empty(networks, rows, outputs).uniform_(-bound, bound, generator=self.draw) for rows in (inputs, 1)
        ]
        return torch.nn.ParameterList(drawn)

    def lift(self, scalars: torch.Tensor) -> torch.Tensor:
        """(networks, n, width) from (n, scalars)."""
        lifted = torch.tanh(scalars @ self.first[0] + self.first[1])
        return torch.tanh(lifted @ self.second[0] + self.second[1])

    def forward(self, scalars: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        """(networks, n) membership logits."""
        lifted = self.lift(scalars)
        joined = torch.cat([lifted, hidden.expand(len(lifted), *hidden.shape)], dim=-1)
        logits: torch.Tensor = (joined @ self.head[0] + self.head[1]).squeeze(-1)
        return logits


def train_upsampling(
    scalars: np.ndarray,
    hidden: np.ndarray,
    member: np.ndarray,
    *,
    networks: int,
    width: int,
    epochs: int,
    weight_decay: float,
    seed: int = 0,
) -> UpsamplingNetworks:
    """The lifting MLPs, trained together with a logistic output on the known users.

    Args:
        scalars: (n, s) standardised.
        hidden: (n, h) standardised; h may be 0.
        member: (n,) bool.
    """
    ensemble = UpsamplingNetworks(networks, scalars.shape[1], hidden.shape[1], width, seed)
    inputs = torch.as_tensor(scalars, dtype=torch.float32), torch.as_tensor(hidden, dtype=torch.float32)
    labels = torch.as_tensor(member, dtype=torch.float32).expand(networks, -1)
    optimizer = torch.optim.AdamW(ensemble.parameters(), lr=5e-3, weight_decay=weight_decay)
    with _one_thread():
        for _ in range(epochs):
            optimizer.zero_grad()
            loss = torch.nn.functional.binary_cross_entropy_with_logits(ensemble(*inputs), labels)
            (loss * networks).backward()
            optimizer.step()
    return ensemble.eval()


@torch.inference_mode()
def lifted(ensemble: UpsamplingNetworks, scalars: np.ndarray) -> np.ndarray:
    """(networks, n, width) the scalars as the trained MLPs lift them."""
    return ensemble.lift(torch.as_tensor(scalars, dtype=torch.float32)).numpy().astype(np.float64)


@contextmanager
def _one_thread() -> Iterator[None]:
    """So little work is slower when it is shared out."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
