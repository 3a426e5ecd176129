"""Was this one interaction used: a person and an item instead of a person.

Nothing here is an attack on a person; the functions work on the scores that a recommender gives to every item.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

BLOCK_CELLS = 8_000_000
"""Cells of a dense matrix that are worked on at once: bounds the memory."""


@dataclass(frozen=True)
class Interactions:
    """Who has which item, and how high a recommender scores all items for them."""

    scores: np.ndarray
    """(n_users, n_items)."""
    user: np.ndarray
    """(n,) row of each interaction's user."""
    item: np.ndarray
    """(n,) column of its item."""


def rank_share(scores: np.ndarray, user: np.ndarray, item: np.ndarray) -> np.ndarray:
    """(n,) share of the other items that are scored below an item for its user; equal scores count half.

    Args:
        scores: (n_users, n_items), of two items at least.
        user: (n,) rows.
        item: (n,) columns.
    """
    shares = np.empty(len(user))
    block = max(1, BLOCK_CELLS // scores.shape[1])
    for start in range(0, len(user), block):
        part = slice(start, start + block)
        rows, own = scores[user[part]], scores[user[part], item[part]][:, None]
        # The item is level with itself, which is no comparison.
        shares[part] = (rows < own).sum(axis=1) + ((rows == own).sum(axis=1) - 1) / 2
    return shares / (scores.shape[1] - 1)


def interaction_scores(judged: Interactions, held_out: Interactions, popularity: np.ndarray) -> np.ndarray:
    """(n_judged,) how much higher an item stands with its user than such items stand with people left out of training.

    An item's place is the share of the other items below it. What is expected of it is a line through the places of the
    held-out users' own items, by popularity and by the item's mean place with all (other) held-out users. The higher the
    difference, the likelier the interaction was trained on. The interactions of one user depend on each other: they are
    no independent observations.

    Args:
        judged: of the people in question; they may be held-out users again.
        held_out: of people whom the recommender was certainly not trained on, each with all the interactions they are
            served from, as the judged ones are.
        popularity: (n_items,) share of public users who have each item.
    Source: our own, for the unit of RecPS and RecLiRA (RecSys 2025, arXiv 2507.18365).
    Differs: one recommender and held-out people instead of shadow models trained with and without the interaction.
    """
    log_popularity = np.log(np.maximum(popularity, popularity[popularity > 0].min(initial=1.0) / 2))
    everywhere = mean_places(held_out.scores)
    places = rank_share(held_out.scores, held_out.user, held_out.item)
    others = len(held_out.scores) - 1
    # What is expected of a held-out user's item is learned from the others.
    without = (everywhere[held_out.item] * (others + 1) - places) / max(1, others)
    weights, *_ = np.linalg.lstsq(_columns(log_popularity[held_out.item], without), places, rcond=None)
    expected = _columns(log_popularity[judged.item], everywhere[judged.item]) @ weights
    difference: np.ndarray = rank_share(judged.scores, judged.user, judged.item) - expected
    return difference


def mean_places(scores: np.ndarray) -> np.ndarray:
    """(n_items,) mean over users of the share of other items that are scored below each item; equal ones count half."""
    total = np.zeros(scores.shape[1])
    block = max(1, BLOCK_CELLS // scores.shape[1])
    for start in range(0, len(scores), block):
        # Ranks from 1, the mean of them where scores are equal.
        total += (rankdata(scores[start : start + block], axis=1) - 1).sum(axis=0)
    return total / (len(scores) * (scores.shape[1] - 1))


def _columns(popularity: np.ndarray, place: np.ndarray) -> np.ndarray:
    return np.column_stack([np.ones(len(place)), popularity, place])
