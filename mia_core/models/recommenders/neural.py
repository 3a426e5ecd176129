"""Neural collaborative filtering: a product of two vectors and a network over them, added up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse

if TYPE_CHECKING:
    import torch

    from mia_core.experiment import Recommender as Settings
    from mia_core.models.recommenders.neural_network import Network


class Neural:
    """Learns to tell a user's items from untouched ones. Ratings are not looked at.

    Formula: score(u, i) = w · (p_u * q_i) + MLP([p'_u, q'_i])
    Source: He et al., WWW 2017, arXiv 1708.05031 (NeuMF: generalised matrix factorisation beside a multilayer perceptron).
    Differs: a user or item has `factors` numbers in all, half of them for either part; both parts are trained at once.
    Fails: With little data the network adds noise to the product.
    """

    def __init__(self, network: Network, settings: Settings) -> None:
        # In float32 a product's last digits depend on the shape of the batch.
        self.network = network.double().requires_grad_(False)
        self.settings = settings

    @classmethod
    def fit(
        cls, settings: Settings, histories: scipy.sparse.csr_array, seed: int, on_progress: Callable[[float], None]
    ) -> Neural:
        """A trained network."""
        from mia_core.models.recommenders.neural_network import train_network

        return cls(train_network(settings, histories, seed, on_progress), settings)

    @classmethod
    def read(cls, folder: Path, settings: Settings) -> Neural:
        """What `write` left."""
        from mia_core.models.recommenders.neural_network import read_network

        return cls(read_network(folder, settings.factors), settings)

    def write(self, folder: Path) -> None:
        """The weights, the vectors among them."""
        self.network.write(folder)

    def scores(self, histories: scipy.sparse.csr_array) -> np.ndarray:
        """(n, n_items) logits for a vector of each history."""
        return self.network.logits(self.folded_in(histories))

    def own_scores(self, rows: np.ndarray) -> np.ndarray:
        """(len(rows), n_items) logits for the trained vectors of these users."""
        return self.network.own_logits(rows)

    def folded_in(self, histories: scipy.sparse.csr_array) -> torch.Tensor:
        """(n, width) a vector for each history, fitted with the network and the items frozen."""
        return self.network.folded_in(histories, self.settings)
