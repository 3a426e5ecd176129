"""The same list for everybody: what most people have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse

from mia_core.models.recommenders.contract import interactions

if TYPE_CHECKING:
    from mia_core.experiment import Recommender as Settings


@dataclass(frozen=True)
class Popularity:
    """How many of the trained users have each item.

    Formula: score(u, i) = trained users who have i
    Source: the usual control of recommender studies, with no paper to cite.
    Fails: It knows no tastes at all: a control.
    """

    counts: np.ndarray
    """(n_items,) float32."""

    @classmethod
    def fit(
        cls, settings: Settings, histories: scipy.sparse.csr_array, seed: int, on_progress: Callable[[float], None]
    ) -> Popularity:
        """Counts."""
        on_progress(1.0)
        return cls(interactions(histories).sum(axis=0).astype(np.float32))

    @classmethod
    def read(cls, folder: Path, settings: Settings) -> Popularity:
        """What `write` left."""
        return cls(np.load(folder / "counts.npy", allow_pickle=False))

    def write(self, folder: Path) -> None:
        """The counts."""
        np.save(folder / "counts.npy", self.counts, allow_pickle=False)

    def scores(self, histories: scipy.sparse.csr_array) -> np.ndarray:
        """(n, n_items) the counts, whoever asks."""
        return np.tile(self.counts, (histories.shape[0], 1))

    def own_scores(self, rows: np.ndarray) -> np.ndarray:
        """(len(rows), n_items) the counts: nothing is kept of one person."""
        return np.tile(self.counts, (len(rows), 1))
