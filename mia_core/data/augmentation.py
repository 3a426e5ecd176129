"""Copies of sessions in which one item is swapped for a similar one, and which items are similar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse

from mia_core.seeds import derive_seed

NEAREST = 10
"""A swapped item is drawn from so many nearest neighbours."""
CELLS = 10_000_000
"""Similarities that are held in memory at once."""


@dataclass(frozen=True)
class ItemSimilarity:
    """How alike items are: the cosine between the sets of people who have them."""

    together: scipy.sparse.csr_array
    """(n_items, n_people) 1 where a person, or a session, has the item."""

    @staticmethod
    def of(sequences: Sequence[Sequence[int] | np.ndarray], n_items: int) -> ItemSimilarity:
        """From sequences of item positions."""
        items = np.concatenate([np.zeros(0, np.int64), *(np.asarray(sequence, np.int64) for sequence in sequences)])
        people = np.repeat(np.arange(len(sequences)), [len(sequence) for sequence in sequences])
        shape = (n_items, max(1, len(sequences)))
        together = scipy.sparse.csr_array((np.ones(len(items)), (items, people)), shape=shape)
        together.data[:] = 1
        return ItemSimilarity(together)

    @cached_property
    def counts(self) -> np.ndarray:
        """(n_items,) people who have each item."""
        return np.asarray(self.together.sum(axis=1)).ravel()

    @cached_property
    def normal(self) -> scipy.sparse.csr_array:
        """(n_items, n_people) rows of length one; zero for items that nobody has."""
        length = np.sqrt(np.maximum(self.counts, 1))
        return scipy.sparse.csr_array(self.together / length[:, None])

    @cached_property
    def _transposed(self) -> scipy.sparse.csr_array:
        return scipy.sparse.csr_array(self.normal.T)

    @cached_property
    def _popular(self) -> np.ndarray:
        """Items by popularity, in the order of the catalogue where that is equal."""
        return np.lexsort((np.arange(len(self.counts)), -self.counts))

    def nearest(self, items: Sequence[int] | np.ndarray | None = None, count: int = NEAREST) -> np.ndarray:
        """(n, count) the items most alike to each of `items` (None: to every item), the most alike first.

        Popularity decides between equal ones, and where nobody has both; -1 where there are no more items.
        """
        wanted = np.arange(len(self.counts)) if items is None else np.asarray(items, dtype=np.int64)
        found = np.full((len(wanted), count), -1, dtype=np.int64)
        step = max(1, CELLS // max(1, len(self.counts)))
        for start in range(0, len(wanted), step):
            part = slice(start, start + step)
            found[part] = self._alike(wanted[part], count)
        return found

    def _alike(self, wanted: np.ndarray, count: int) -> np.ndarray:
        likeness = scipy.sparse.coo_array(self.normal[wanted] @ self._transposed)
        other = likeness.col != wanted[likeness.row]
        row, item, value = likeness.row[other], likeness.col[other], likeness.data[other]
        rank = np.empty(len(self.counts), dtype=np.int64)
        rank[self._popular] = np.arange(len(rank))
        order = np.lexsort((rank[item], -value, row))
        row, item = row[order], item[order]
        place = np.arange(len(row)) - np.searchsorted(row, row)
        near = place < count
        found = np.full((len(wanted), count), -1, dtype=np.int64)
        found[row[near], place[near]] = item[near]
        self._fill(found, wanted)
        return found

    def _fill(self, found: np.ndarray, wanted: np.ndarray) -> None:
        """Puts the most popular other items where too few are alike."""
        short = np.flatnonzero(found[:, -1] < 0)
        popular = self._popular[: 2 * found.shape[1] + 1]
        taken = (popular[None, :, None] == found[short][:, None, :]).any(axis=2) | (popular == wanted[short][:, None])
        free = np.argsort(taken, axis=1, kind="stable")
        n_free = (~taken).sum(axis=1)
        n_found = (found[short] >= 0).sum(axis=1)
        for j in range(found.shape[1]):
            into = (j >= n_found) & (j - n_found < n_free)
            found[short[into], j] = popular[free[into, (j - n_found)[into]]]


@dataclass(frozen=True)
class Copies:
    """Changed copies of sequences."""

    sequences: list[np.ndarray]
    parent: np.ndarray
    """(n,) which sequence each is a copy of: a copy has its parent's role, whatever that is, and no other."""


def augmented(
    sequences: Sequence[Sequence[int] | np.ndarray], nearest: np.ndarray, copies: int | np.ndarray, seed: int
) -> Copies:
    """Copies of sequences of item positions, each with one item, drawn at random, swapped for a similar one.

    What a copy is depends on its sequence and the seed, not on which other sequences there are. An item whose neighbours are
    all in the sequence already stays.

    Args:
        sequences: at least one item each.
        nearest: (n_items, count) the neighbours to draw from, -1 for none; see `ItemSimilarity.nearest`.
        copies: of every sequence, or (n,) of each.
    Source: the sequence attack of Zhao and Xu.
    Differs: copies never serve as non-members, who would be told by being unlike real sequences.
    """
    lengths = np.array([len(sequence) for sequence in sequences], dtype=np.int64)
    each = np.broadcast_to(np.asarray(copies, dtype=np.int64), lengths.shape)
    parent = np.repeat(np.arange(len(lengths)), each)
    if not len(parent):
        return Copies([], parent)
    items = np.concatenate([np.asarray(sequence, dtype=np.int64) for sequence in sequences])
    ends = np.cumsum(lengths)
    place = np.arange(len(items)) - np.repeat(ends - lengths, lengths)
    number = np.arange(len(parent)) - np.repeat(np.cumsum(each) - each, each)
    with np.errstate(over="ignore"):
        key = _scrambled(np.uint64(derive_seed(seed, "augmentation")) + place.astype(np.uint64))
        told = np.add.reduceat(_scrambled(key ^ items.astype(np.uint64)), ends - lengths)
        first = _scrambled(told[parent] + _scrambled(number.astype(np.uint64)))
        second = _scrambled(first)
    swapped = (first % lengths[parent].astype(np.uint64)).astype(np.int64)
    near = nearest[items[(ends - lengths)[parent] + swapped]]
    # A neighbour that the sequence holds already would make another sequence than one with one item swapped.
    holds = np.repeat(np.arange(len(lengths)), lengths) * len(nearest) + items
    fit = (near >= 0) & ~np.isin(parent[:, None] * len(nearest) + near, holds)
    n_fit = fit.sum(axis=1)
    drawn = (second % np.maximum(n_fit, 1).astype(np.uint64)).astype(np.int64)
    choice = np.argsort(~fit, axis=1, kind="stable")[np.arange(len(parent)), drawn]
    made = [np.array(sequences[p], dtype=np.int64) for p in parent]
    for i in np.flatnonzero(n_fit):
        made[i][swapped[i]] = near[i, choice[i]]
    return Copies(made, parent)


def _scrambled(values: np.ndarray) -> np.ndarray:
    """64 bits that look random, from 64 bits.

    Source: the output function of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
    """
    values = (values + np.uint64(0x9E3779B97F4A7C15)).astype(np.uint64)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
