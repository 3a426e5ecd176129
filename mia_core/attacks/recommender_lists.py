"""What a recommender's ranked list gives away about the history that it was served to, with no attack model.

Attacks of this kind were published under a protocol in which members are served by the trained recommender and
everybody else is served popular items. What they find there is which recommender answered. Each attack therefore comes
twice: with one recommender that serves everybody from their history, and `_published`, under that protocol.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mia_core.attacks.black_box import ReferenceRecommendation, defined_mean, mean_vector, public_background
from mia_core.attacks.contract import CONFOUNDED, HONEST
from mia_core.attacks.evidence import Evidence, Known


def whole_history(evidence: Evidence) -> np.ndarray:
    """(n, longest) catalogue positions of everything in each sample's window, -1 where it is shorter."""
    return np.column_stack([evidence.signals["history_items"], evidence.signals["answer_item"]])


def history_vectors(evidence: Evidence) -> np.ndarray:
    """(n_users, width) mean vector of each user's history; NaN where no item of it has one."""
    return evidence.user_mean(mean_vector(evidence, whole_history(evidence)))


def list_vectors(evidence: Evidence, served: str, *, by_rank: bool = False) -> np.ndarray:
    """(n_users, width) mean vector of what each user is served; NaN where no item of it has one.

    Args:
        by_rank: whether an item's weight falls from the list's length to 1 with its place; else all weigh alike.
    """
    lists = evidence.lists[served]
    weights = np.arange(lists.shape[1], 0, -1.0) if by_rank else None
    return evidence.user_mean(mean_vector(evidence, lists, weights))


def difference_vectors(evidence: Evidence, served: str, *, by_rank: bool = True) -> np.ndarray:
    """(n_users, width) mean vector of the history minus mean vector of the list; NaN where either has none.

    Source: Zhang et al., CCS 2021, arXiv 2109.08045.
    """
    return history_vectors(evidence) - list_vectors(evidence, served, by_rank=by_rank)


def log_popularity(evidence: Evidence) -> np.ndarray:
    """(n_items,) logarithm of the share of public users who have each item; nobody counts as half of the fewest."""
    share = public_background(evidence).item_share
    popularity: np.ndarray = np.log(np.maximum(share, share[share > 0].min(initial=1.0) / 2))
    return popularity


def most_popular(popularity: np.ndarray, count: int) -> np.ndarray:
    """(count,) catalogue positions of the most popular items, in a fixed order."""
    return np.argsort(-popularity, kind="stable")[:count]


@dataclass(frozen=True)
class ListAttack:
    """What attacks on ranked lists have in common."""

    served: ClassVar[str] = "lists"
    """Which lists it reads."""
    access: ClassVar[str] = "labels only"
    status: ClassVar[str] = HONEST
    passes: ClassVar[str] = "1 list"
    needs: ClassVar[frozenset[str]] = frozenset({"lists"})
    learned: ClassVar[bool] = False


class PublishedProtocol:
    """Members are served by the trained recommender, everybody else is served what is popular.

    Put before an attack's own class. Its figures say how well two recommenders can be told apart by their lists, and
    are no evidence of training on anybody.
    Fails: As evidence of training it always does: two ways of serving are told apart, and the rule of one line
        (`list_popularity`) tells them as well.
    """

    served: ClassVar[str] = "lists/popular"
    status: ClassVar[str] = CONFOUNDED


class OwnVectorProtocol:
    """Members are served by the vector that was trained for them, everybody else by one that their history is folded into.

    Put before an attack's own class. A system whose new users are served so shows this, but what is told apart is how
    somebody is served: beside the same attack with one way of serving it says how much of that was needed.
    Fails: It compares people who are served in two ways: part of what it finds is the way of serving, not training.
    """

    served: ClassVar[str] = "lists/own_factors"
    status: ClassVar[str] = CONFOUNDED


@dataclass(frozen=True)
class ShadowFree(ListAttack):
    """How much nearer the list is to the person's history than to what is popular, by inverse distances.

    S1 - S2 with S1 = 1 / |h - r|, S2 = 1 / |r - b|; h, r and b are mean item vectors of the history, of the list and of
    the most popular items. The paper calls a positive difference a member.
    Formula: s(u) = 1 / (|h - r| + e) - 1 / (|r - b| + e), means of the item vectors of history h, list r and most
        popular items b
    Source: Chi et al., IJCAI 2024, arXiv 2405.07018.
    Differs: graded instead of cut at 0; the constant that keeps both finite is added for everybody to both distances,
    where the official script adds one to the second distance of non-members alone.
    Relations: `reference_recommendation` compares with the list served without a history.
    Fails: It tells people whose list follows their taste from people who are served what is popular: with one
        recommender for everybody that is taste, not training.
    """

    popular: int = 0
    """So many most popular items stand for a list that is not personal; 0: as many as are served (published: 100 each)."""
    epsilon: float = 0.001
    """Added to both distances."""

    title: ClassVar[str] = "Shadow-free"
    summary: ClassVar[str] = "Whether the list lies closer to the person's history than to the most popular items."
    source: ClassVar[str] = "Chi et al. 2024, arXiv 2405.07018"

    def score(self, audited: Evidence, known: Known) -> np.ndarray:
        """(n_users,) S1 - S2."""
        baseline = most_popular(log_popularity(audited), self.popular or audited.lists[self.served].shape[1])
        served = list_vectors(audited, self.served)
        to_history = np.linalg.norm(history_vectors(audited) - served, axis=1)
        to_popular = np.linalg.norm(served - mean_vector(audited, baseline[None]), axis=1)
        return 1 / (to_history + self.epsilon) - 1 / (to_popular + self.epsilon)


@dataclass(frozen=True)
class ShadowFreePublished(PublishedProtocol, ShadowFree):
    """`shadow_free` where others than members are served popular items: the second distance then knows them by that."""

    title: ClassVar[str] = "Shadow-free, as published"
    needs: ClassVar[frozenset[str]] = frozenset({"lists/popular"})


@dataclass(frozen=True)
class ShadowFreeOwnVectors(OwnVectorProtocol, ShadowFree):
    """`shadow_free` where members are served by their own trained vector."""

    title: ClassVar[str] = "Shadow-free, own vectors"
    needs: ClassVar[frozenset[str]] = frozenset({"lists/own_factors"})


@dataclass(frozen=True)
class ListPopularity(ListAttack):
    """Minus the mean log popularity of the list: how far it is from what everybody likes.

    A rule of one line that attack models on lists have to beat. Under the published protocol nothing beats it: there
    the lists of non-members are popular by construction.
    Formula: s(u) = -mean over the list of log(share of public users who have the item)
    Source: our own control; lists of the DL-MIA authors' repository (Wang et al. 2022, arXiv 2206.12401) give it away.
    Fails: It asks nothing about training: unusual tastes get unusual lists. That is why it stands beside the attacks
        that should beat it.
    """

    head: int = 0
    """Minus the share of the list among so many most popular items, instead; 0: mean log popularity."""

    title: ClassVar[str] = "Popularity of the list"
    summary: ClassVar[str] = "How unpopular the recommended items are: a rule of one line, and no attack model."
    source: ClassVar[str] = "control; after the data of Wang et al. 2022, arXiv 2206.12401"

    def score(self, audited: Evidence, known: Known) -> np.ndarray:
        """(n_users,) minus mean log share of the public users who have the items, or minus a share from 0 to 1."""
        lists, popularity = audited.lists[self.served], log_popularity(audited)
        if self.head:
            head = most_popular(popularity, self.head)
            popularity = np.isin(np.arange(len(popularity)), head).astype(np.float64)
        found = lists >= 0
        counts = np.where(found.any(axis=1), found.sum(axis=1), np.nan)
        return defined_mean(audited, -(popularity[lists] * found).sum(axis=1) / counts)


@dataclass(frozen=True)
class ListPopularityPublished(PublishedProtocol, ListPopularity):
    """`list_popularity` where others than members are served popular items: it says who was."""

    title: ClassVar[str] = "Popularity of the list, as published"
    needs: ClassVar[frozenset[str]] = frozenset({"lists/popular"})


@dataclass(frozen=True)
class ListPopularityOwnVectors(OwnVectorProtocol, ListPopularity):
    """`list_popularity` where members are served by their own trained vector."""

    title: ClassVar[str] = "Popularity of the list, own vectors"
    needs: ClassVar[frozenset[str]] = frozenset({"lists/own_factors"})


@dataclass(frozen=True)
class ReferenceRecommendationPublished(PublishedProtocol, ReferenceRecommendation):
    """`reference_recommendation` where others than members are served popular items, whatever their history."""

    title: ClassVar[str] = "Reference recommendation, as published"
    needs: ClassVar[frozenset[str]] = frozenset({"lists/popular", "lists/no_history"})
