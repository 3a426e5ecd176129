"""People who have this also have that: cosine similarity of items."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse

from mia_core.models.recommenders.contract import best, implicit, interactions, row_blocks

if TYPE_CHECKING:
    from mia_core.experiment import Recommender as Settings


@dataclass(frozen=True)
class ItemBased:
    """Each item's most similar items; an item is scored by its similarity to all of a history, added up.

    Formula: score(u, i) = sum over j in the history of cos(i, j), the k nearest neighbours of j
    Source: Sarwar et al., WWW 2001 (item-based collaborative filtering), on zeros and ones.
    Fails: Items that hardly anybody has get neighbours by chance.
    """

    similarity: scipy.sparse.csr_array
    """(n_items, n_items): row i holds the cosines of item i with its nearest neighbours, itself left out."""
    histories: scipy.sparse.csr_array
    """(n_users, n_items) of the users it was trained on: all it keeps of one person."""

    @classmethod
    def fit(
        cls, settings: Settings, histories: scipy.sparse.csr_array, seed: int, on_progress: Callable[[float], None]
    ) -> ItemBased:
        """The cosines of all pairs of items, block by block, of which each item keeps its nearest."""
        histories = interactions(histories)
        n_items = histories.shape[1]
        lengths = np.sqrt(np.maximum(histories.sum(axis=0), 1)).astype(np.float32)
        by_item = scipy.sparse.csr_array(histories.T)
        kept = min(settings.neighbours, max(0, n_items - 1))
        columns, cosines = np.empty((n_items, kept), np.int32), np.zeros((n_items, kept), np.float32)
        for block in row_blocks(n_items, n_items):
            together = (by_item[block] @ histories).toarray() / lengths / lengths[block, None]
            rows = np.arange(len(together))
            together[rows, rows + block.start] = 0
            nearest = best(np.where(together > 0, together, -np.inf), kept)
            columns[block], cosines[block] = nearest, together[rows[:, None], nearest] * (nearest >= 0)
            on_progress(block.stop / n_items)
        there = columns >= 0
        starts = np.concatenate([[0], np.cumsum(there.sum(axis=1))])
        return cls(
            scipy.sparse.csr_array((cosines[there], columns[there], starts), shape=(n_items, n_items)), histories
        )

    @classmethod
    def read(cls, folder: Path, settings: Settings) -> ItemBased:
        """What `write` left."""
        return cls(*(_read(folder, name) for name in ("similarity", "histories")))

    def write(self, folder: Path) -> None:
        """The similarities and the histories."""
        for name in ("similarity", "histories"):
            matrix = getattr(self, name)
            for part in ("data", "indices", "indptr"):
                np.save(folder / f"{name}_{part}.npy", getattr(matrix, part), allow_pickle=False)
            # The last items of the catalogue may be nobody's: the indices alone would lose them.
            np.save(folder / f"{name}_shape.npy", matrix.shape, allow_pickle=False)

    def scores(self, histories: scipy.sparse.csr_array) -> np.ndarray:
        """(n, n_items) similarity to the history, added up; for an empty one how many trained users have the item."""
        histories = implicit(histories)
        found: np.ndarray = (histories @ self.similarity).toarray()
        found[np.diff(histories.indptr) == 0] = self.histories.sum(axis=0)
        return found

    def own_scores(self, rows: np.ndarray) -> np.ndarray:
        """(len(rows), n_items) from the histories it was trained on."""
        return self.scores(self.histories[rows])


def _read(folder: Path, name: str) -> scipy.sparse.csr_array:
    names = ("data", "indices", "indptr", "shape")
    data, indices, indptr, shape = (np.load(folder / f"{name}_{part}.npy", allow_pickle=False) for part in names)
    return scipy.sparse.csr_array((data, indices, indptr), shape=tuple(shape))
