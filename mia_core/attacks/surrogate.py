"""An attack on ranked lists that looks at how single items of the history and of the list relate to each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mia_core.attacks.biased import ShadowWorldAttack, network_log_odds
from mia_core.attacks.black_box import mean_vector, public_background
from mia_core.attacks.evidence import Evidence
from mia_core.attacks.recommender_lists import PublishedProtocol, log_popularity, whole_history

BLOCK = 256
"""Samples whose items' vectors are laid out side by side at a time."""


@dataclass(frozen=True)
class SurrogateFeatures(ShadowWorldAttack):
    """A network on how each item of the history relates to the list, and each item of the list to the history.

    Of an item of the history: cosine with the list's mean vector and with its first item, log popularity; of an item
    of the list: cosine with the history's mean vector and with its last item, log popularity. Each is pooled by mean,
    least, largest and last.
    Formula: s(u) = log-odds of an MLP on (mean, least, largest, last) of cos and log popularity between each item of
        the history and the list, and the other way round
    Source: after Zhu et al., WWW 2023, doi 10.1145/3543507.3583447 (ME-MIA).
    Differs: built after a third party's description, not after the paper, whose text was not at hand: what the paper
    calls its features may be others. Public item vectors stand for the surrogate recommender; features are standardised
    instead of batch-normalised; networks from several seeds instead of early stopping.
    Fails: Built after a description of the paper, not the paper itself; else as `biased_mia`.
    """

    epochs: int = 100
    """Passes over the people of the auditor's world."""
    batch: int = 32
    """People per step."""
    learning_rate: float = 0.001
    weight_decay: float = 0.01
    networks: int = 5
    """Seeds that are averaged."""

    title: ClassVar[str] = "Surrogate features"
    summary: ClassVar[str] = "How the items of the history and of the list relate to each other, one by one."
    source: ClassVar[str] = "after a third party's description of Zhu et al. 2023, doi 10.1145/3543507.3583447"

    def features(self, evidence: Evidence) -> np.ndarray:
        """(n_users, 24)."""
        history, served = whole_history(evidence), evidence.lists[self.served]
        of_history = related(evidence, history, [mean_vector(evidence, served), unit_vectors(evidence, served[:, 0])])
        of_list = related(evidence, served, [mean_vector(evidence, history), unit_vectors(evidence, history[:, -1])])
        return evidence.user_mean(np.hstack([of_history, of_list]))

    def judge(self, fitted_on: np.ndarray, member: np.ndarray, judged: np.ndarray) -> np.ndarray:
        """(n_judged,) mean log-odds."""
        return network_log_odds(
            fitted_on,
            member,
            judged,
            hidden=(64, 32, 8),
            networks=self.networks,
            epochs=self.epochs,
            batch=self.batch,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
        )


@dataclass(frozen=True)
class SurrogateFeaturesPublished(PublishedProtocol, SurrogateFeatures):
    """`surrogate_features` where others than members are served popular items."""

    title: ClassVar[str] = "Surrogate features, as published"
    needs: ClassVar[frozenset[str]] = frozenset({"lists/popular", "shadow_world"})


def unit_vectors(evidence: Evidence, items: np.ndarray) -> np.ndarray:
    """(…, width) vectors of length one; zero where an item has none, or is -1."""
    vectors = public_background(evidence).item_vectors.astype(np.float64)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.where(length == 0, 1, length)
    found: np.ndarray = unit[items] * (items >= 0)[..., None]
    return found


def related(evidence: Evidence, items: np.ndarray, anchors: list[np.ndarray]) -> np.ndarray:
    """(n, 4 · (anchors + 1)) cosine of a row's items with each of its anchors, and their log popularity, pooled.

    Args:
        items: (n, length) catalogue positions, -1 where there is none.
        anchors: each (n, width).
    Returns:
        For each of these in turn its mean, least, largest and last value over the items; NaN where there is no item.
    """
    popularity = log_popularity(evidence)
    directions = np.stack(anchors, axis=2)
    length = np.linalg.norm(directions, axis=1, keepdims=True)
    directions = directions / np.where(length == 0, 1, length)
    pooled = []
    for start in range(0, len(items), BLOCK):
        part = items[start : start + BLOCK]
        cosines = unit_vectors(evidence, part) @ directions[start : start + BLOCK]
        values = np.concatenate([cosines, popularity[part][..., None]], axis=2)
        pooled.append(pool(values, part >= 0))
    return np.concatenate(pooled)


def pool(values: np.ndarray, found: np.ndarray) -> np.ndarray:
    """(n, 4 · k) mean, least, largest and last value of each of k columns, over the places where there is one.

    Args:
        values: (n, length, k).
        found: (n, length) bool.
    """
    some, mask = found.any(axis=1)[:, None], found[..., None]
    last = found.shape[1] - 1 - found[:, ::-1].argmax(axis=1)
    total = np.where(mask, values, 0).sum(axis=1)
    summaries = [
        total / np.maximum(found.sum(axis=1), 1)[:, None],
        np.where(mask, values, np.inf).min(axis=1),
        np.where(mask, values, -np.inf).max(axis=1),
        values[np.arange(len(values)), last],
    ]
    return np.where(some[..., None], np.stack(summaries, axis=2), np.nan).reshape(len(values), -1)
