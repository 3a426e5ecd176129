"""Classifiers that attacks train on the known users."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from sklearn.base import ClassifierMixin


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


class TokenNetwork(torch.nn.Module):
    """A GRU over the tokens of a window, averaged over them, then a logistic output."""

    def __init__(self, features: int, width: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.recurrent = torch.nn.GRU(features, width, batch_first=True)
        self.dropout = torch.nn.Dropout(dropout)
        self.head = torch.nn.Linear(features + width, 1)

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(n,) membership logits, from (n, longest, features) and (n, longest) that is 1 where there is a token."""
        states, _ = self.recurrent(tokens)
        # The statistics are pooled beside the states, so that plain means are within reach from the first step.
        pooled = (torch.cat([tokens, states], dim=-1) * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        logits: torch.Tensor = self.head(self.dropout(pooled)).squeeze(-1)
        return logits


def train_token_networks(
    tokens: np.ndarray,
    offsets: np.ndarray,
    member: np.ndarray,
    weight: np.ndarray,
    *,
    networks: int,
    width: int,
    steps: int,
    batch: int,
    weight_decay: float,
    seed: int = 0,
) -> list[TokenNetwork]:
    """Networks from several seeds; the steps are counted in batches, so the time does not grow with the windows.

    Args:
        tokens: (total, features) standardised; window i owns rows offsets[i]:offsets[i + 1].
        member: (n,) bool, of each window's user.
        weight: (n,) weight of each window.
    """
    labels, weights = (torch.as_tensor(values, dtype=torch.float32) for values in (member, weight))
    trained = []
    with _one_thread(), torch.random.fork_rng(devices=[]):
        for k in range(networks):
            torch.manual_seed(seed + k)
            network = TokenNetwork(tokens.shape[1], width)
            optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2, weight_decay=weight_decay)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
            for _ in range(steps):
                drawn = torch.randint(len(labels), (min(batch, len(labels)),))
                logits = network(*_padded(tokens, offsets, drawn.numpy(), torch.float32))
                loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels[drawn], weights[drawn])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
            trained.append(network.eval())
    return trained


@torch.inference_mode()
def token_logits(
    networks: Sequence[TokenNetwork], tokens: np.ndarray, offsets: np.ndarray, batch: int = 4_096
) -> np.ndarray:
    """(n,) logit of each window, averaged over the networks; the same whichever windows share its batch."""
    logits = np.zeros(len(offsets) - 1)
    with _one_thread():
        for network in networks:
            # In float32 a product's last digits depend on the shape of the batch.
            exact = copy.deepcopy(network).double()
            for start in range(0, len(logits), batch):
                positions = np.arange(start, min(start + batch, len(logits)))
                logits[positions] += exact(*_padded(tokens, offsets, positions, torch.float64)).numpy()
    return logits / len(networks)


def _padded(
    tokens: np.ndarray, offsets: np.ndarray, positions: np.ndarray, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens of some windows (n, longest, features), 0 where padded, and their mask."""
    lengths = np.diff(offsets)[positions]
    place = np.arange(lengths.max())
    mask = place < lengths[:, None]
    rows = np.where(mask, offsets[:-1][positions][:, None] + place, 0)
    values = tokens[rows] * mask[..., None]
    return torch.as_tensor(values, dtype=dtype), torch.as_tensor(mask, dtype=dtype)


def fitted_logit(classifier: ClassifierMixin, known: np.ndarray, member: np.ndarray, audited: np.ndarray) -> np.ndarray:
    """(n_audited,) logit of a scikit-learn classifier fitted on the known rows; NaN where a row lacks a feature."""
    complete = ~np.isnan(known).any(axis=1)
    askable = ~np.isnan(audited).any(axis=1)
    logits = np.full(len(audited), np.nan)
    if askable.any():
        logits[askable] = classifier.fit(known[complete], member[complete]).decision_function(audited[askable])
    return logits


@contextmanager
def _one_thread() -> Iterator[None]:
    """So little work is slower when it is shared out."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
