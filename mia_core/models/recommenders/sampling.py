"""What implicit recommenders learn from: every interaction, and for each some items that the user never touched."""

from __future__ import annotations

import numpy as np
import scipy.sparse


class Draws:
    """Rounds of training on the same histories, each with items drawn anew."""

    def __init__(self, histories: scipy.sparse.csr_array, negatives: int) -> None:
        """The histories as sorted zeros and ones."""
        n_users, self.n_items = histories.shape
        lengths = np.diff(histories.indptr)
        self.items = histories.indices.astype(np.int64)
        self.users = np.repeat(np.arange(n_users), lengths)
        # The t-th item of a history has item - t untouched ones before it.
        before = self.items - (np.arange(len(self.items)) - histories.indptr[self.users])
        self.untouched_before = self.users * (self.n_items + 1) + before
        self.start = histories.indptr
        # Who has touched everything has nothing to be drawn.
        self.losers = np.repeat(self.users[lengths[self.users] < self.n_items], negatives)
        self.untouched = self.n_items - lengths

    def __len__(self) -> int:
        return len(self.users) + len(self.losers)

    def round(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Users, items and whether they met, float32, in random order: all interactions, and as many even draws of
        untouched items as were asked for each."""
        rank = rng.integers(self.untouched[self.losers])
        skipped = np.searchsorted(self.untouched_before, self.losers * (self.n_items + 1) + rank, side="right")
        drawn = rank + skipped - self.start[self.losers]
        order = rng.permutation(len(self))
        met = (order < len(self.users)).astype(np.float32)
        return np.concatenate([self.users, self.losers])[order], np.concatenate([self.items, drawn])[order], met
