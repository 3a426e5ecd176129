"""Attacks that ask a recommender about a person in its own words.

They were made for recommenders that are served with people's histories in the prompt: there, being a member means that
one's history stands in that prompt. Against a target that was trained on histories they look for the same traces of
memory in its weights. The two kinds of membership are different claims and are reported separately.

Source: He et al. 2025, arXiv 2508.18665.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mia_core.attacks.black_box import cosine, defined_mean, mean_vector
from mia_core.attacks.contract import HONEST
from mia_core.attacks.evidence import Evidence, Known

PAPER = "He et al. 2025, arXiv 2508.18665"


@dataclass(frozen=True)
class Inquiry:
    """How much likelier "Yes" is when the target is asked whether it has seen this history, than for an invented one.

    Membership here may also mean that the history sits in the prompt the target serves from; that is reported
    separately from membership in the weights.
    Formula: s(u) = logit P(Yes | have you seen this history) - logit P(Yes | an invented history)
    Source: He et al. 2025, arXiv 2508.18665 (inquiry).
    Differs: log-odds of Yes against No from one pass, not the rate of Yes over repeated answers.
    Fails: Models that are small or were never taught to answer questions say Yes or No by the wording; what stands in
        the prompt is not what was trained on.
    """

    title: ClassVar[str] = "Inquiry"
    summary: ClassVar[str] = (
        "Whether the model says that it has seen the history, more than it says so of an invented one."
    )
    access: ClassVar[str] = "logits"
    status: ClassVar[str] = HONEST
    passes: ClassVar[str] = "2 questions to the target"
    source: ClassVar[str] = PAPER
    needs: ClassVar[frozenset[str]] = frozenset({"inquiry"})
    learned: ClassVar[bool] = False

    def score(self, audited: Evidence, known: Known) -> np.ndarray:
        """(n_users,) mean difference of log-odds."""
        return audited.user_mean(audited.signals["inquiry"])


@dataclass(frozen=True)
class Hallucination:
    """Minus the share of recommended items that are not in the catalogue: fewer inventions, likelier a member.

    Membership here may also mean that the history sits in the prompt the target serves from; that is reported
    separately from membership in the weights.
    Formula: s(u) = -share of listed items that are not in the catalogue
    Source: He et al. 2025, arXiv 2508.18665, first version (hallucination; later versions leave it out).
    Fails: A well-trained model invents nothing for anybody; later versions of the paper leave it out.
    """

    title: ClassVar[str] = "Hallucination"
    summary: ClassVar[str] = "How few of the recommended items the model made up."
    access: ClassVar[str] = "labels only"
    status: ClassVar[str] = HONEST
    passes: ClassVar[str] = "1 list"
    source: ClassVar[str] = f"{PAPER} (version 1)"
    needs: ClassVar[frozenset[str]] = frozenset({"lists"})
    learned: ClassVar[bool] = False

    def score(self, audited: Evidence, known: Known) -> np.ndarray:
        """(n_users,) minus the share of inventions, -1 to 0."""
        return -audited.user_mean((audited.lists["lists"] < 0).mean(axis=1))


@dataclass(frozen=True)
class Similarity:
    """Mean cosine of the recommended items' vectors with the mean vector of the history.

    Membership here may also mean that the history sits in the prompt the target serves from; that is reported
    separately from membership in the weights.
    Formula: s(u) = mean over windows of the mean cosine of v(listed item) with the mean vector of the history
    Source: He et al. 2025, arXiv 2508.18665 (similarity).
    Differs: items are compared by co-occurrence among public users, not by the meaning of their titles.
    Relations: the numerator of `reference_recommendation`, without its comparison with a stranger's list.
    Fails: Any recommender recommends what is like the history; it tells who has a narrow taste.
    """

    title: ClassVar[str] = "Similarity to the history"
    summary: ClassVar[str] = "How much the recommended items are like those of the history."
    access: ClassVar[str] = "labels only"
    status: ClassVar[str] = HONEST
    passes: ClassVar[str] = "1 list"
    source: ClassVar[str] = PAPER
    needs: ClassVar[frozenset[str]] = frozenset({"lists"})
    learned: ClassVar[bool] = False

    def score(self, audited: Evidence, known: Known) -> np.ndarray:
        """(n_users,) mean cosine; NaN where nothing recommended has a vector."""
        history = mean_vector(audited, audited.signals["history_items"])
        served = mean_vector(audited, audited.lists["lists"])
        # Item vectors have length one: the mean of cosines is the cosine times the length of the mean.
        return defined_mean(audited, cosine(served, history) * np.linalg.norm(served, axis=1))


@dataclass(frozen=True)
class Memorisation:
    """Share of the held-back second half of a window that the target recommends after its first half.

    Membership here may also mean that the history sits in the prompt the target serves from; that is reported
    separately from membership in the weights.
    Formula: s(u) = mean over windows of the share of the second half that is listed after the first half
    Source: He et al. 2025, arXiv 2508.18665 (memorisation).
    Differs: a list instead of a continuation in words; what stood in the prompt does not count.
    Fails: Predictable histories are completed for strangers as well; lists are short, so that most users score 0.
    """

    title: ClassVar[str] = "Memorisation"
    summary: ClassVar[str] = "How much of the rest of a history the model completes from its first half."
    access: ClassVar[str] = "labels only"
    status: ClassVar[str] = HONEST
    passes: ClassVar[str] = "1 list after half the history"
    source: ClassVar[str] = PAPER
    needs: ClassVar[frozenset[str]] = frozenset({"lists/half"})
    learned: ClassVar[bool] = False

    def score(self, audited: Evidence, known: Known) -> np.ndarray:
        """(n_users,) share, 0 to 1."""
        window = np.column_stack([audited.signals["history_items"], audited.signals["answer_item"]])
        # The question `half` shows this many items.
        held_back = window[:, max(1, window.shape[1] // 2) :]
        found = (held_back[:, :, None] == audited.lists["lists/half"][:, None, :]).any(axis=2)
        return audited.user_mean(found.mean(axis=1))


@dataclass(frozen=True)
class Poisoning:
    """How much of its list the target keeps when half of the history is replaced by strangers' items.

    What it learned about a member resists the poison; a list made up from the prompt alone follows it. The score is
    the Jaccard similarity of the two lists' catalogue items.
    Membership here may also mean that the history sits in the prompt the target serves from; that is reported
    separately from membership in the weights.
    Formula: s(u) = mean over windows of |A and B| / |A or B|, A the list after the history, B after the poisoned one
    Source: He et al. 2025, arXiv 2508.18665 (poisoning).
    Differs: overlap with the clean list alone; the paper subtracts the similarity to a list made for the poison.
    Fails: A model that recommends the same popular items to everybody keeps its list whatever the history.
    """

    title: ClassVar[str] = "Poisoning"
    summary: ClassVar[str] = "How much of the list survives when half of the history is replaced."
    access: ClassVar[str] = "labels only"
    status: ClassVar[str] = HONEST
    passes: ClassVar[str] = "1 list, 1 list after a poisoned history"
    source: ClassVar[str] = PAPER
    needs: ClassVar[frozenset[str]] = frozenset({"lists", "lists/poisoned"})
    learned: ClassVar[bool] = False

    def score(self, audited: Evidence, known: Known) -> np.ndarray:
        """(n_users,) mean Jaccard similarity, 0 to 1; NaN where neither list holds an item of the catalogue."""
        clean, poisoned = _distinct(audited.lists["lists"]), _distinct(audited.lists["lists/poisoned"])
        kept = (clean[:, :, None] == poisoned[:, None, :]) & (clean >= 0)[:, :, None]
        shared = kept.sum(axis=(1, 2)).astype(np.float64)
        union = (clean >= 0).sum(axis=1) + (poisoned >= 0).sum(axis=1) - shared
        union[union == 0] = np.nan
        return defined_mean(audited, shared / union)


def _distinct(lists: np.ndarray) -> np.ndarray:
    """The lists in the order of the catalogue, with -1 in place of every repetition."""
    ordered = np.sort(lists, axis=1)
    again = np.zeros(ordered.shape, dtype=bool)
    again[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    return np.where(again, -1, ordered)
