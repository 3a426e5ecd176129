"""What every classic recommender can do, and how scores become ranked lists."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np
import scipy.sparse

from mia_core.errors import DataError
from mia_core.seeds import generator

if TYPE_CHECKING:
    from mia_core.experiment import Recommender as Settings

BLOCK_CELLS = 2_000_000
"""Cells of a dense matrix that are worked on at once: bounds the memory."""
MINUS_INFINITY = 0x7F800000
"""Its bits without the sign."""


class Recommender(Protocol):
    """Scores every item of a catalogue for users; a history says what somebody touched, never how they liked it."""

    @classmethod
    def fit(
        cls, settings: Settings, histories: scipy.sparse.csr_array, seed: int, on_progress: Callable[[float], None]
    ) -> Self:
        """Trained on the histories (n_users, n_items), of which every cell that is not 0 counts as one interaction.

        Raises:
            DataError: there is no interaction at all.
        """

    @classmethod
    def read(cls, folder: Path, settings: Settings) -> Self:
        """What `write` left in the folder, served with these settings."""

    def write(self, folder: Path) -> None:
        """Keeps all that serving needs, as plain arrays."""

    def scores(self, histories: scipy.sparse.csr_array) -> np.ndarray:
        """(n, n_items) float32; everybody is served from their history alone, whether it was trained on or not.

        A row's scores depend on no other row. An empty history is served what suits the average trained user.
        """

    def own_scores(self, rows: np.ndarray) -> np.ndarray:
        """(len(rows), n_items) float32 of users it was trained on, by what it keeps of them; rows as in training."""


def implicit(histories: scipy.sparse.csr_array) -> scipy.sparse.csr_array:
    """The histories as sorted zeros and ones."""
    ones = scipy.sparse.csr_array(histories, dtype=np.float32, copy=True)
    ones.sum_duplicates()
    ones.eliminate_zeros()
    ones.data[:] = 1
    return ones


def interactions(histories: scipy.sparse.csr_array) -> scipy.sparse.csr_array:
    """The histories to train on, as sorted zeros and ones.

    Raises:
        DataError: there is no interaction at all.
    """
    ones = implicit(histories)
    if not ones.nnz:
        raise DataError(
            "the recommender has nothing to learn from: nobody in its share of the users has an interaction; use more data "
            "or another split"
        )
    return ones


def row_blocks(rows: int, columns: int) -> list[slice]:
    """Slices over the rows, each of a bounded number of cells."""
    size = max(1, BLOCK_CELLS // max(1, columns))
    return [slice(start, min(start + size, rows)) for start in range(0, rows, size)]


def recommend(
    scores: np.ndarray | Callable[[slice], np.ndarray],
    histories: scipy.sparse.csr_array,
    length: int,
    candidates: int = 0,
    seeds: Sequence[int] = (),
    *,
    shuffled: bool = False,
) -> np.ndarray:
    """(n, length) int32 ranked lists, best first, without the items of the history.

    Args:
        scores: (n, n_items), or a function that gives those rows of it, for catalogues too large to hold it whole.
        histories: (n, n_items), as the scores.
        candidates: popularity randomisation: each list is drawn at random from so many best items; 0: the best themselves.
        seeds: one for each row, for the draw and the order.
        shuffled: each list is in random order instead of best first.
    Returns:
        -1 where fewer than `length` items are left. Equal scores are in an order that is the same for everybody and
        has nothing to do with popularity.
    """
    histories = implicit(histories)
    served = np.empty((histories.shape[0], length), dtype=np.int32)
    for block in row_blocks(*histories.shape):
        values = np.array(scores(block) if callable(scores) else scores[block], dtype=np.float32)
        values[histories[block].nonzero()] = -np.inf
        ranked = best(values, candidates or length)
        if candidates or shuffled:
            ranked = np.stack(
                [_drawn(row, length, seed, shuffled) for row, seed in zip(ranked, seeds[block], strict=True)]
            )
        served[block] = ranked
    return served


def best(values: np.ndarray, count: int) -> np.ndarray:
    """(n, count) int32 columns of the largest values, best first; -1 for what is -inf or not there."""
    columns = values.shape[1]
    order = generator(0, "order of equal scores").permutation(columns)
    # A float's bits rank like the float itself, once those of the negative ones are turned round. With its place in the
    # fixed order below them no two keys are equal, so that what is best is the same whoever else is asked about.
    bits = (values[:, order] + np.float32(0)).view(np.int32).astype(np.int64)
    keys = (np.where(bits < 0, bits & 0x7FFFFFFF, ~bits) << 32) | np.arange(columns)
    kept = min(count, columns)
    if kept < columns:
        keys = np.partition(keys, kept - 1, axis=1)[:, :kept]
    keys.sort(axis=1)
    found = np.full((len(values), count), -1, dtype=np.int32)
    found[:, :kept] = np.where(keys >> 32 == MINUS_INFINITY, -1, order[keys & 0xFFFFFFFF])
    return found


def _drawn(ranked: np.ndarray, length: int, seed: int, shuffled: bool) -> np.ndarray:
    """So many of the ranked items, drawn evenly, still best first unless shuffled."""
    there = ranked[ranked >= 0]
    places = np.random.default_rng(seed).permutation(len(there))[:length]
    chosen = there[places if shuffled else np.sort(places)]
    return np.pad(chosen, (0, max(0, length - len(there))), constant_values=-1)
