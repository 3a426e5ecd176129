"""Attacks on ranked lists that learn in a world of the auditor's own: a recommender whose members are known.

Nothing is learned from known users of the target: labels come from the auditor's own recommender alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from sklearn.cluster import KMeans
from sklearn.naive_bayes import GaussianNB
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from mia_core.attacks.evidence import Evidence, Known
from mia_core.attacks.recommender_lists import ListAttack, OwnVectorProtocol, PublishedProtocol, difference_vectors
from mia_core.errors import ModelError


def shadow_world(known: Known) -> Known:
    """People whose membership in a recommender of the auditor's own is known.

    Raises:
        ModelError: the evidence was gathered without it.
    """
    if known.evidence.shadow_world is None:
        raise ModelError("this attack learns from a recommender of the auditor's own; gather the evidence with one")
    return known.evidence.shadow_world


@dataclass(frozen=True)
class ShadowWorldAttack(ListAttack, ABC):
    """A classifier of people's features, trained where the auditor knows who was trained on."""

    by_rank: ClassVar[bool] = True
    """Whether items further down a list weigh less."""
    passes: ClassVar[str] = "1 list, 1 list of the auditor's own recommender"
    needs: ClassVar[frozenset[str]] = frozenset({"lists", "shadow_world"})

    def score(self, audited: Evidence, known: Known) -> np.ndarray:
        """(n_users,) what the classifier says for membership; NaN where a user lacks a feature."""
        world = shadow_world(known)
        fitted_on, judged = self.features(world.evidence), self.features(audited)
        complete, askable = ~np.isnan(fitted_on).any(axis=1), ~np.isnan(judged).any(axis=1)
        scores = np.full(len(judged), np.nan)
        if askable.any():
            scores[askable] = self.judge(fitted_on[complete], world.member[complete], judged[askable])
        return scores

    def features(self, evidence: Evidence) -> np.ndarray:
        """(n_users, width) difference of history and list."""
        return difference_vectors(evidence, self.served, by_rank=self.by_rank)

    @abstractmethod
    def judge(self, fitted_on: np.ndarray, member: np.ndarray, judged: np.ndarray) -> np.ndarray:
        """(n_judged,) higher = likelier member, from rows of people in the auditor's world.

        Args:
            fitted_on: (n, width).
            member: (n,) bool.
            judged: (n_judged, width).
        """


def network_log_odds(fitted_on: np.ndarray, member: np.ndarray, judged: np.ndarray, **settings: Any) -> np.ndarray:
    """(n_judged,) mean log-odds of networks that are trained on the rows, standardised there.

    Args:
        settings: of `train_perceptrons`.
    """
    # torch takes seconds to load: an attack must not cost them before it runs.
    from mia_core.models.classifiers import perceptron_log_odds, train_perceptrons

    scaler = StandardScaler().fit(fitted_on)
    networks = train_perceptrons(scaler.transform(fitted_on), member, **settings)
    return perceptron_log_odds(networks, scaler.transform(judged))


@dataclass(frozen=True)
class BiasedMia(ShadowWorldAttack):
    """A small network on the difference between a person's history and their list, trained on a recommender of our own.

    x = mean item vector of the history minus that of the list, whose items weigh less with their place. The bet is that
    a recommender recommends closer to histories that it was trained on.
    Formula: x(u) = mean v(history) - sum_j w_j v(list_j), w_j falling with the place; s(u) = log-odds of an MLP on x,
        trained on a recommender of the auditor's
    Source: Zhang et al., CCS 2021, arXiv 2109.08045; called Biased-MIA by Wang et al. 2022.
    Differs: the softmax is applied once, where the official code applies it again in the loss; a step takes several
    users, not one; vectors are standardised; the log-odds of networks from several seeds are averaged; the result is a
    graded score for a ROC curve, where the published "AUC" is balanced accuracy at one threshold; item vectors come
    from public users of their own.
    Fails: With one recommender for everybody the difference hardly depends on training; another kind of recommender
        than the auditor's moves it more than membership does.
    """

    epochs: int = 20
    """Passes over the people of the auditor's world."""
    batch: int = 4
    """People per step; the official code takes 1."""
    learning_rate: float = 0.01
    momentum: float = 0.9
    """The official code takes 0.9, later code 0.7."""
    networks: int = 5
    """Seeds that are averaged."""

    title: ClassVar[str] = "Biased-MIA"
    summary: ClassVar[str] = (
        "How the list differs from the history, judged by a network trained on a recommender of our own."
    )
    source: ClassVar[str] = "Zhang et al. 2021, arXiv 2109.08045"

    def judge(self, fitted_on: np.ndarray, member: np.ndarray, judged: np.ndarray) -> np.ndarray:
        """(n_judged,) mean log-odds."""
        return network_log_odds(
            fitted_on,
            member,
            judged,
            hidden=(32, 8),
            networks=self.networks,
            epochs=self.epochs,
            batch=self.batch,
            learning_rate=self.learning_rate,
            momentum=self.momentum,
        )


@dataclass(frozen=True)
class BiasedMiaClustering(ShadowWorldAttack):
    """Two clusters of difference vectors, of which one holds more members.

    The score is how much further the person is from the other cluster's centre than from this one's.
    Formula: s(u) = |x(u) - centre of the other cluster| - |x(u) - centre of the members' cluster|, from 2-means of
        the auditor's world
    Source: Zhang et al., CCS 2021, arXiv 2109.08045 (clustering in the official code).
    Differs: clusters are found in the auditor's own world, which also says whose is whose; the official code clusters
    the target's users themselves and takes the second cluster for the members'. Graded by distance.
    Fails: Two clusters of tastes are found as readily as two of membership.
    """

    starts: int = 10
    """Random starts, of which the tightest clusters count."""

    by_rank: ClassVar[bool] = False
    title: ClassVar[str] = "Biased-MIA, clustering"
    summary: ClassVar[str] = "Which of two clusters the difference between list and history belongs to."
    source: ClassVar[str] = "Zhang et al. 2021, arXiv 2109.08045"

    def judge(self, fitted_on: np.ndarray, member: np.ndarray, judged: np.ndarray) -> np.ndarray:
        """(n_judged,) difference of two distances."""
        clusters = KMeans(2, n_init=self.starts, random_state=0).fit(fitted_on)
        second_is_theirs = member[clusters.labels_ == 1].mean() >= member[clusters.labels_ == 0].mean()
        to_first, to_second = np.linalg.norm(judged[:, None] - clusters.cluster_centers_, axis=2).T
        difference: np.ndarray = to_first - to_second
        return difference if second_is_theirs else -difference


@dataclass(frozen=True)
class BiasedMiaNaiveBayes(ShadowWorldAttack):
    """Gaussian naive Bayes on the difference between history and list.

    Formula: s(u) = sum_j log N(x_j; mean, var | member) - log N(x_j; mean, var | other)
    Source: Hu, Donghua University: membership inference on latent factor models with several classifiers.
    Relations: `biased_mia` with another classifier.
    Fails: Coordinates of item vectors depend on one another, so that its certainty is too large; else as
        `biased_mia`.
    """

    smoothing: float = 0.01
    """Added to every variance, as a share of the largest."""

    title: ClassVar[str] = "Biased-MIA, naive Bayes"
    summary: ClassVar[str] = "How the list differs from the history, judged coordinate by coordinate."
    source: ClassVar[str] = "after Hu, Donghua University (latent factor model)"

    def judge(self, fitted_on: np.ndarray, member: np.ndarray, judged: np.ndarray) -> np.ndarray:
        """(n_judged,) log-odds."""
        outside, within = (
            GaussianNB(var_smoothing=self.smoothing).fit(fitted_on, member).predict_joint_log_proba(judged).T
        )
        log_odds: np.ndarray = within - outside
        return log_odds


@dataclass(frozen=True)
class BiasedMiaTree(ShadowWorldAttack):
    """A decision tree on the difference between history and list.

    Formula: s(u) = share of members in the leaf of x(u)
    Source: Hu, Donghua University: membership inference on latent factor models with several classifiers.
    Relations: `biased_mia` with another classifier; it gives no more different scores than it has leaves.
    Fails: A handful of leaves gives a handful of scores: ties everywhere; else as `biased_mia`.
    """

    depth: int = 5
    """Questions asked of a person, at most."""
    leaf: int = 5
    """People of the auditor's world who end in the same leaf, at least."""

    title: ClassVar[str] = "Biased-MIA, decision tree"
    summary: ClassVar[str] = "How the list differs from the history, judged by a few yes-or-no questions."
    source: ClassVar[str] = "after Hu, Donghua University (latent factor model)"

    def judge(self, fitted_on: np.ndarray, member: np.ndarray, judged: np.ndarray) -> np.ndarray:
        """(n_judged,) share of members in the person's leaf."""
        tree = DecisionTreeClassifier(max_depth=self.depth, min_samples_leaf=self.leaf, random_state=0)
        share: np.ndarray = tree.fit(fitted_on, member).predict_proba(judged)[:, 1]
        return share


@dataclass(frozen=True)
class BiasedMiaPublished(PublishedProtocol, BiasedMia):
    """`biased_mia` where others than members are served popular items, in the auditor's world as in the target's."""

    title: ClassVar[str] = "Biased-MIA, as published"
    needs: ClassVar[frozenset[str]] = frozenset({"lists/popular", "shadow_world"})


@dataclass(frozen=True)
class BiasedMiaOwnVectors(OwnVectorProtocol, BiasedMia):
    """`biased_mia` where members are served by their own trained vector, in the auditor's world as in the target's."""

    title: ClassVar[str] = "Biased-MIA, own vectors"
    needs: ClassVar[frozenset[str]] = frozenset({"lists/own_factors", "shadow_world"})


@dataclass(frozen=True)
class BiasedMiaClusteringPublished(PublishedProtocol, BiasedMiaClustering):
    """`biased_mia_clustering` where others than members are served popular items."""

    title: ClassVar[str] = "Biased-MIA, clustering, as published"
    needs: ClassVar[frozenset[str]] = frozenset({"lists/popular", "shadow_world"})


@dataclass(frozen=True)
class BiasedMiaNaiveBayesPublished(PublishedProtocol, BiasedMiaNaiveBayes):
    """`biased_mia_naive_bayes` where others than members are served popular items."""

    title: ClassVar[str] = "Biased-MIA, naive Bayes, as published"
    needs: ClassVar[frozenset[str]] = frozenset({"lists/popular", "shadow_world"})


@dataclass(frozen=True)
class BiasedMiaTreePublished(PublishedProtocol, BiasedMiaTree):
    """`biased_mia_tree` where others than members are served popular items."""

    title: ClassVar[str] = "Biased-MIA, decision tree, as published"
    needs: ClassVar[frozenset[str]] = frozenset({"lists/popular", "shadow_world"})
