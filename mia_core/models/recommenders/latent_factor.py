"""Matrix factorisation of who has what, by stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse

from mia_core.errors import ModelError
from mia_core.models.recommenders.contract import implicit, interactions, row_blocks
from mia_core.models.recommenders.sampling import Draws
from mia_core.seeds import generator

if TYPE_CHECKING:
    import torch

    from mia_core.experiment import Recommender as Settings

STALE = 0.25
"""How far one vector may move, times its learning rate, on gradients that were taken together."""


@dataclass(frozen=True)
class LatentFactor:
    """A vector for each user and each item; their product is 1 where they met and 0 where they did not.

    Ratings are not looked at.

    Formula: score(u, i) = p_u · q_i; somebody new: p = (Q_H'Q_H + lambda I)^-1 Q_H'1
    Source: the recommender of Zhang et al., CCS 2021, arXiv 2109.08045, and of its successors: squared error, learning
        rate 0.01, L2 0.01, at most 20 rounds, one untouched item drawn for each interaction.
    Differs: items are drawn anew in each round; the items of the history are left out of the lists; and the first vectors
        are small. There products start at random with a deviation of √(factors / 3), which most items are met too
        seldom to unlearn, so that lists are mostly noise.
    Fails: Vectors of people with few interactions hardly move from where they started.
    """

    user_vectors: np.ndarray
    """(n_users, factors) float32 of the users it was trained on."""
    item_vectors: np.ndarray
    """(n_items, factors) float32."""
    settings: Settings

    @classmethod
    def fit(
        cls, settings: Settings, histories: scipy.sparse.csr_array, seed: int, on_progress: Callable[[float], None]
    ) -> LatentFactor:
        """Rounds of small steps over all interactions and as many drawn untouched items as the settings say.

        Raises:
            DataError: there is no interaction at all.
            ModelError: the learning rate is too high for these data.
        """
        import torch

        histories = interactions(histories)
        draws = Draws(histories, settings.negatives)
        rng = generator(seed, "latent factor")
        n_users, n_items = histories.shape
        users, items = (torch.as_tensor(v) for v in first_vectors(n_users, n_items, settings.factors, rng))
        batch = batch_size(histories, settings)
        for epoch in range(settings.epochs):
            descend(users, items, *draws.round(rng), settings.learning_rate, settings.l2, batch)
            on_progress((epoch + 1) / settings.epochs)
        if not (users.isfinite().all() and items.isfinite().all()):
            raise ModelError(
                f"learning_rate is {settings.learning_rate:g}, at which the vectors grew beyond all bounds; choose 0.1 or less"
            )
        return cls(users.numpy(), items.numpy(), settings)

    @classmethod
    def read(cls, folder: Path, settings: Settings) -> LatentFactor:
        """What `write` left."""
        users, items = (np.load(folder / f"{name}_vectors.npy", allow_pickle=False) for name in ("user", "item"))
        return cls(users, items, settings)

    def write(self, folder: Path) -> None:
        """The vectors."""
        np.save(folder / "user_vectors.npy", self.user_vectors, allow_pickle=False)
        np.save(folder / "item_vectors.npy", self.item_vectors, allow_pickle=False)

    def scores(self, histories: scipy.sparse.csr_array) -> np.ndarray:
        """(n, n_items) products of the items with a vector for each history."""
        return self._products(self.folded_in(histories))

    def own_scores(self, rows: np.ndarray) -> np.ndarray:
        """(len(rows), n_items) products of the items with the trained vectors of these users."""
        return self._products(self.user_vectors[rows])

    def folded_in(self, histories: scipy.sparse.csr_array) -> np.ndarray:
        """(n, factors) the vector that each history would have been given, by ridge regression with the items frozen.

        (Q_HᵀQ_H + w Q_¬HᵀQ_¬H + (λ + ridge) I) p = Q_Hᵀ1 + ridge μ, with Q_H the vectors of the h items of the history, Q_¬H
        those of all others, and μ the mean trained user. w = negatives · h / (items − h) is how often one of the others is
        drawn and λ = l2 · h · (1 + negatives), so that p has the least loss that training expects of such a user, and
        `ridge` holds it near the mean, as few rounds do; alone it serves whoever has no history. Without the untouched items
        nothing would keep a product from being large everywhere.
        """
        histories = implicit(histories)
        vectors = self.item_vectors.astype(np.float64)
        n_items, factors = vectors.shape
        everything, identity = vectors.T @ vectors, np.eye(factors)
        mean = self.user_vectors.mean(axis=0, dtype=np.float64)
        found = np.empty((histories.shape[0], factors))
        for block in row_blocks(len(found), factors**2):
            rows = range(block.start, block.stop)
            left, right = np.empty((len(rows), factors, factors)), np.empty((len(rows), factors, 1))
            for i, row in enumerate(rows):
                own = vectors[histories.indices[histories.indptr[row] : histories.indptr[row + 1]]]
                wanted = own.T @ own
                often = self.settings.negatives * len(own) / max(1, n_items - len(own))
                penalty = self.settings.l2 * len(own) * (1 + self.settings.negatives)
                left[i] = wanted + often * (everything - wanted) + (penalty + self.settings.ridge) * identity
                right[i, :, 0] = own.sum(axis=0) + self.settings.ridge * mean
            found[block] = np.linalg.solve(left, right)[..., 0]
        return found

    def _products(self, users: np.ndarray) -> np.ndarray:
        # In float32 a product's last digits depend on the shape of the batch.
        products: np.ndarray = users.astype(np.float64) @ self.item_vectors.T.astype(np.float64)
        return products.astype(np.float32)


def first_vectors(n_users: int, n_items: int, factors: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of length about one half in all directions: long enough to move one another, too short to score by chance."""
    size = np.float32(0.5 / np.sqrt(factors))
    users, items = (rng.standard_normal((n, factors), dtype=np.float32) * size for n in (n_users, n_items))
    return users, items


def batch_size(histories: scipy.sparse.csr_array, settings: Settings) -> int:
    """As many interactions as can be worked on at once while the busiest user and item still move in small steps.

    The steps of one batch are added up, as if taken one after another: fair as long as no vector takes many of them.
    """
    busiest = max(np.diff(histories.indptr).max(), histories.sum(axis=0).max()) / histories.nnz
    return max(1, round(STALE / (settings.learning_rate * busiest)))


def descend(
    users: torch.Tensor,
    items: torch.Tensor,
    user_of: np.ndarray,
    item_of: np.ndarray,
    met: np.ndarray,
    learning_rate: float,
    l2: float,
    batch: int,
) -> None:
    """One round of steps against (met − u·i)² / 2 + l2 (‖u‖² + ‖i‖²) / 2, in place."""
    import torch

    for u, i, wanted in zip(*(torch.as_tensor(v).split(batch) for v in (user_of, item_of, met)), strict=True):
        user, item = users[u], items[i]
        error = (wanted - (user * item).sum(dim=1))[:, None]
        users.index_add_(0, u, error * item - l2 * user, alpha=learning_rate)
        items.index_add_(0, i, error * user - l2 * item, alpha=learning_rate)
