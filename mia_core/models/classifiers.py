"""Classifiers that attacks train on the known users."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import torch


class UpsamplingNetworks(torch.nn.Module):
    """Several MLPs from different seeds, each lifting a few scalars to a common width, trained side by side."""

    def __init__(self, networks: int, scalars: int, hidden: int, width: int, seed: int) -> None:
        super().__init__()
        self.draw = torch.Generator().manual_seed(seed)
        self.first = _drawn(self.draw, networks, scalars, width)
        self.second = _drawn(self.draw, networks, width, width)
        self.head = _drawn(self.draw, networks, width + hidden, 1)

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


class Perceptrons(torch.nn.Module):
    """Several MLPs from different seeds, with ReLUs between their layers and an output for each answer."""

    def __init__(self, networks: int, widths: Sequence[int], seed: int) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        weights, biases = zip(*(_drawn(draw, networks, *ends) for ends in pairwise(widths)), strict=True)
        self.weights = torch.nn.ParameterList(weights).double()
        self.biases = torch.nn.ParameterList(biases).double()

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """(networks, n, 2) logits of held-out and member, from (networks, n, width), or (n, width) for all alike."""
        for k, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            rows = (torch.relu(rows) if k else rows) @ weight + bias
        return rows


def train_perceptrons(
    rows: np.ndarray,
    member: np.ndarray,
    *,
    hidden: Sequence[int],
    networks: int,
    epochs: int,
    batch: int,
    learning_rate: float,
    momentum: float | None = None,
    weight_decay: float = 0.0,
    seed: int = 0,
) -> Perceptrons:
    """MLPs trained side by side, each with its own order of the rows.

    Args:
        rows: (n, width) standardised.
        member: (n,) bool.
        hidden: widths of the hidden layers.
        momentum: of plain gradient descent; None: AdamW.
    """
    ensemble = Perceptrons(networks, (rows.shape[1], *hidden, 2), seed)
    inputs, labels = torch.as_tensor(rows, dtype=torch.float64), torch.as_tensor(member, dtype=torch.int64)
    optimizer: torch.optim.Optimizer = torch.optim.AdamW(
        ensemble.parameters(), lr=learning_rate, weight_decay=weight_decay
    )
    if momentum is not None:
        optimizer = torch.optim.SGD(
            ensemble.parameters(), lr=learning_rate, momentum=momentum, weight_decay=weight_decay
        )
    draw = torch.Generator().manual_seed(seed)
    with _one_thread():
        for _ in range(epochs):
            order = torch.rand(networks, len(labels), generator=draw).argsort(dim=1)
            for chosen in order.split(batch, dim=1):
                logits = ensemble(inputs[chosen])
                loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[chosen].flatten())
                optimizer.zero_grad()
                (loss * networks).backward()
                optimizer.step()
    return ensemble.eval()


def train_stopped_perceptrons(
    rows: np.ndarray,
    member: np.ndarray,
    *,
    hidden: Sequence[int],
    networks: int,
    epochs: int,
    patience: int,
    batch: int,
    learning_rate: float,
    seed: int = 0,
) -> Perceptrons:
    """MLPs trained side by side with Adam; each keeps the weights that suited one part of the rows best.

    That part does not train it, where there are several: one for each network, with its share of members.

    Args:
        rows: (n, width) standardised.
        member: (n,) bool.
        hidden: widths of the hidden layers.
        patience: epochs without a better loss of any network, after which all stop.
    """
    draw = torch.Generator().manual_seed(seed)
    labels = torch.as_tensor(member, dtype=torch.int64)
    # Ranked by label and by lot, neighbours go to different parts.
    parts = min(networks, len(labels))
    part = torch.empty_like(labels)
    part[(labels + torch.rand(len(labels), generator=draw)).argsort()] = torch.arange(len(labels)) % parts
    stops = part == torch.arange(networks)[:, None] % parts
    trains = ~stops if parts > 1 else stops
    ensemble = Perceptrons(networks, (rows.shape[1], *hidden, 2), seed)
    inputs = torch.as_tensor(rows, dtype=torch.float64)
    optimizer = torch.optim.Adam(ensemble.parameters(), lr=learning_rate)
    best, stale = torch.full((networks,), torch.inf, dtype=torch.float64), 0
    kept = [weight.detach().clone() for weight in ensemble.parameters()]
    with _one_thread():
        for _ in range(epochs):
            lot = torch.rand(networks, len(labels), generator=draw).masked_fill(~trains, torch.inf)
            order = lot.argsort(dim=1)[:, : int(trains.sum(1).min())]
            for chosen in order.split(batch, dim=1):
                loss = _losses(ensemble(inputs[chosen]), labels[chosen]).mean()
                optimizer.zero_grad()
                (loss * networks).backward()
                optimizer.step()
            with torch.no_grad():
                losses = _losses(ensemble(inputs), labels.expand(networks, -1))
                better = (now := (losses * stops).sum(1) / stops.sum(1)) < best
                best = torch.where(better, now, best)
                for weight, good in zip(ensemble.parameters(), kept, strict=True):
                    good[better] = weight[better]
            stale = 0 if bool(better.any()) else stale + 1
            if stale >= patience:
                break
    with torch.no_grad():
        for weight, good in zip(ensemble.parameters(), kept, strict=True):
            weight.copy_(good)
    return ensemble.eval()


def _losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(networks, n) cross-entropy of each row."""
    return torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none")


@torch.inference_mode()
def perceptron_log_odds(ensemble: Perceptrons, rows: np.ndarray) -> np.ndarray:
    """(n,) log-odds of membership, averaged over the networks."""
    outside, within = ensemble(torch.as_tensor(rows, dtype=torch.float64)).unbind(dim=-1)
    log_odds: np.ndarray = (within - outside).mean(dim=0).numpy()
    return log_odds


def _drawn(draw: torch.Generator, networks: int, inputs: int, outputs: int) -> torch.nn.ParameterList:
    # torch.nn.Linear's default: uniform within one over the root of the inputs.
    bound = max(1, inputs) ** -0.5
    drawn = [torch.empty(networks, rows, outputs).uniform_(-bound, bound, generator=draw) for rows in (inputs, 1)]
    return torch.nn.ParameterList(drawn)


@contextmanager
def _one_thread() -> Iterator[None]:
    """So little work is slower when it is shared out."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
