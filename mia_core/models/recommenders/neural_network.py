"""The network of the neural recommender: what it computes, how it is trained, and how it takes in a new history."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import binary_cross_entropy_with_logits, embedding, softplus

from mia_core.models.recommenders.contract import implicit, interactions, row_blocks
from mia_core.models.recommenders.sampling import Draws
from mia_core.seeds import derive_seed, generator

if TYPE_CHECKING:
    from mia_core.experiment import Recommender as Settings

WEIGHTS = "network.safetensors"
LARGEST_BATCH = 4_096
FEWEST_STEPS = 50
"""Of a round: the batches of little data are smaller."""
FOLD_STEPS = 120
FOLD_RATE = 0.05
NEAR, FAR = 16, 32
"""Items of the history, and of the rest, that one step of folding in looks at."""

Side = tuple[torch.Tensor, ...]
"""Of users or items: what is multiplied, and the first layer's share."""


class Network(torch.nn.Module):
    """Half of a vector is multiplied, the other half goes through two layers; the outputs of both are added up."""

    def __init__(self, n_users: int, n_items: int, factors: int) -> None:
        super().__init__()
        self.multiplied, wide = (factors + 1) // 2, max(1, factors // 2)
        narrow = max(1, wide // 2)
        self.users = torch.nn.Parameter(torch.randn(n_users, self.multiplied + wide) / 10)
        self.items = torch.nn.Parameter(torch.randn(n_items, self.multiplied + wide) / 10)
        self.of_user = torch.nn.Linear(wide, wide)
        self.of_item = torch.nn.Linear(wide, wide, bias=False)
        self.second = torch.nn.Linear(wide, narrow)
        self.of_product = torch.nn.Linear(self.multiplied, 1, bias=False)
        self.of_layers = torch.nn.Linear(narrow, 1)

    def user_side(self, vectors: torch.Tensor) -> Side:
        """What the network makes of users, whatever they are paired with."""
        return vectors[..., : self.multiplied], self.of_user(vectors[..., self.multiplied :])

    def item_side(self, vectors: torch.Tensor) -> Side:
        """The same of items."""
        return vectors[..., : self.multiplied], self.of_item(vectors[..., self.multiplied :])

    def forward(self, user: Side, item: Side) -> torch.Tensor:
        """Logits that they meet; what broadcasts can be paired."""
        hidden = torch.relu(self.second(torch.relu(user[1] + item[1])))
        logits: torch.Tensor = (self.of_product(user[0] * item[0]) + self.of_layers(hidden)).squeeze(-1)
        return logits

    def folded_in(self, histories: scipy.sparse.csr_array, settings: Settings) -> torch.Tensor:
        """(n, width) a vector for each history, fitted with this network and its items frozen.

        All start at the mean trained user, where an empty history stays. Each step looks at some items of every history
        and at some others of the catalogue, in an order that depends on no other history.
        """
        histories = implicit(histories)
        found = self.users.mean(dim=0).repeat(histories.shape[0], 1)
        for block in row_blocks(len(found), (NEAR + FAR) * found.shape[1]):
            found[block] = self._fitted(histories[block], found[block], settings)
        return found

    @torch.no_grad()
    def logits(self, vectors: torch.Tensor) -> np.ndarray:
        """(n, n_items) float32: each vector of a user with every item."""
        items = self.item_side(self.items)
        found = np.empty((len(vectors), len(self.items)), dtype=np.float32)
        for block in row_blocks(len(vectors), self.items.numel()):
            users = self.user_side(vectors[block, None])
            found[block] = self(users, items).float().numpy()
        return found

    def own_logits(self, rows: np.ndarray) -> np.ndarray:
        """(len(rows), n_items) float32: the trained vectors of these users with every item."""
        return self.logits(self.users[torch.as_tensor(np.ascontiguousarray(rows))])

    def write(self, folder: Path) -> None:
        """Keeps the weights, the vectors among them."""
        weights = {name: value.float() for name, value in self.state_dict().items()}
        save_file(weights, folder / WEIGHTS)

    def _fitted(self, histories: scipy.sparse.csr_array, start: torch.Tensor, settings: Settings) -> torch.Tensor:
        vectors = start.clone().requires_grad_()
        lengths = np.diff(histories.indptr)
        busy = torch.as_tensor(lengths > 0)
        order = generator(0, "others").permutation(histories.shape[1])
        of_items = self.item_side(self.items)
        optimizer = torch.optim.Adam([vectors], FOLD_RATE)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, FOLD_STEPS)
        for step in range(FOLD_STEPS):
            near = _spread(histories, lengths, step)
            far = np.take(order, np.arange(step * FAR, (step + 1) * FAR), mode="wrap")
            untouched = torch.as_tensor(1.0 - histories[:, far].toarray())
            users = tuple(side[:, None] for side in self.user_side(vectors))
            met = softplus(-self(users, tuple(side[near] for side in of_items))).mean(dim=1)
            missed = softplus(self(users, tuple(side[far] for side in of_items))) * untouched
            missed = missed.sum(dim=1) / untouched.sum(dim=1).clamp(min=1)
            penalty = settings.l2 * vectors.square().sum(dim=1) / 2
            loss = met + penalty + settings.negatives * (missed + penalty)
            optimizer.zero_grad()
            loss[busy].sum().backward()
            optimizer.step()
            schedule.step()
        return vectors.detach()


def train_network(
    settings: Settings, histories: scipy.sparse.csr_array, seed: int, on_progress: Callable[[float], None]
) -> Network:
    """Adam on the cross-entropy of all interactions and as many drawn untouched items as the settings say."""
    histories = interactions(histories)
    draws = Draws(histories, settings.negatives)
    rng = generator(seed, "neural")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "neural, first vectors"))
        network = Network(histories.shape[0], histories.shape[1], settings.factors)
    optimizer = torch.optim.Adam(network.parameters(), settings.learning_rate, fused=True)
    batch = min(LARGEST_BATCH, -(-len(draws) // FEWEST_STEPS))
    for epoch in range(settings.epochs):
        for u, i, met in zip(*(torch.as_tensor(v).split(batch) for v in draws.round(rng)), strict=True):
            users, items = embedding(u, network.users), embedding(i, network.items)
            logits = network(network.user_side(users), network.item_side(items))
            squares = (users.square().sum() + items.square().sum()) / len(u)
            loss = binary_cross_entropy_with_logits(logits, met) + settings.l2 * squares / 2
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        on_progress((epoch + 1) / settings.epochs)
    return network


def read_network(folder: Path, factors: int) -> Network:
    """What `Network.write` left."""
    weights = load_file(folder / WEIGHTS)
    with torch.device("meta"):
        network = Network(len(weights["users"]), len(weights["items"]), factors)
    network.load_state_dict(weights, assign=True)
    return network


def _spread(histories: scipy.sparse.csr_array, lengths: np.ndarray, step: int) -> np.ndarray:
    """(n, NEAR) items of each history, its whole length swept evenly over the steps; any item for an empty one."""
    golden = (5**0.5 - 1) / 2
    share = np.arange(step * NEAR, (step + 1) * NEAR) * golden % 1
    places = histories.indptr[:-1, None] + (share * lengths[:, None]).astype(np.int64)
    padded = np.append(histories.indices, 0)
    found: np.ndarray = padded[places].astype(np.int64)
    return found
