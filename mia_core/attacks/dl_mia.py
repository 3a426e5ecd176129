"""Difference vectors taken apart into what two recommenders share and what is a recommender's own (DL-MIA)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mia_core.attacks.biased import shadow_world
from mia_core.attacks.evidence import Evidence, Known
from mia_core.attacks.recommender_lists import ListAttack, PublishedProtocol, difference_vectors


@dataclass(frozen=True)
class DlMia(ListAttack):
    """Difference vectors of two recommenders, coded together, so that what was learned on one holds on the other.

    A variational autoencoder codes the vectors of the auditor's recommender and of the target alike, as a direction and
    a Gaussian part. Networks on the vector and on both parts learn from the auditor's labels; then all are trained
    together, the target's users under the labels the networks guess, and every vector with a weight: the one with which
    its loss under the first code meets its loss under the present one.
    Formula: x(u) as in `biased_mia`, coded by a variational autoencoder into a direction z and a Gaussian part e;
        s(u) = mean log-odds of networks on x, z and e
    Source: Wang et al., KDD 2022, arXiv 2206.12401 (DL-MIA).
    Differs: coordinates are read as numbers, several at a time, with the squared error for reconstruction, where the
    official code takes every number for a word of a vocabulary and reads one at a time; a weight belongs to a person,
    where the code gives it to a place in a shuffled order and averages it over a batch; weights are kept in
    logarithms, start equal and take steps of their own; people are judged by the middle of their code, not by a draw;
    the softmax is applied once; the result is graded, where the published "AUC" is balanced accuracy at one threshold.
    Relations: `biased_mia` is its network on the vector alone. A user's score depends on who else is audited: it is
    trained on all of them, without labels.
    Fails: It takes hundreds of times as long as a rule on the same lists, learns from everybody it judges, and with
        one recommender for everybody has little to disentangle.
    """

    autoencoder_epochs: int = 200
    classifier_epochs: int = 20
    joint_epochs: int = 100
    """In turns of ten: networks, then weights."""
    batch: int = 32
    classifier_batch: int = 4
    """People per step of the second stage; the official code takes 1."""
    learning_rate: float = 0.001
    latent: int = 50
    """Width of either part of the code."""
    encoder: int = 50
    """Width of the LSTMs that read a vector, in either direction."""
    decoder: int = 100
    """Width of the LSTM that writes it."""
    step: int = 4
    """Coordinates read at a time; the official code reads 1, which takes four times as long."""
    direction_kl: float = 1e-4
    gaussian_kl: float = 1e-3
    invariant: float = 0.0
    """Weight of the network on the direction; what this and the next leave goes to the one on the vector itself."""
    specific: float = 0.5
    """Weight of the network on the Gaussian part. Both as published for recommenders that are not sequential."""

    title: ClassVar[str] = "DL-MIA"
    summary: ClassVar[str] = (
        "How the list differs from the history, after what is peculiar to a recommender is taken out."
    )
    passes: ClassVar[str] = "1 list, 1 list of the auditor's own recommender"
    source: ClassVar[str] = "Wang et al. 2022, arXiv 2206.12401"
    needs: ClassVar[frozenset[str]] = frozenset({"lists", "shadow_world"})
    transductive: ClassVar[bool] = True
    """A score depends on the other users who are audited."""

    def score(self, audited: Evidence, known: Known) -> np.ndarray:
        """(n_users,) log-odds; NaN where neither history nor list has an item vector."""
        # torch takes seconds to load: an attack must not cost them before it runs.
        from mia_core.models.disentangled import DisentanglingSettings, debiased_log_odds

        world = shadow_world(known)
        shadow, judged, others = (
            difference_vectors(evidence, self.served, by_rank=False)
            for evidence in (world.evidence, audited, self._others(audited, known))
        )
        complete, askable = ~np.isnan(shadow).any(axis=1), ~np.isnan(judged).any(axis=1)
        scores = np.full(len(judged), np.nan)
        if askable.any():
            target = np.concatenate([judged[askable], others[~np.isnan(others).any(axis=1)]])
            everybody = np.concatenate([shadow[complete], target])
            centre, spread = everybody.mean(axis=0), np.maximum(everybody.std(axis=0), 1e-9)
            log_odds = debiased_log_odds(
                (shadow[complete] - centre) / spread,
                world.member[complete],
                (target - centre) / spread,
                DisentanglingSettings(**vars(self)),
            )
            scores[askable] = log_odds[: askable.sum()]
        return scores

    @staticmethod
    def _others(audited: Evidence, known: Known) -> Evidence:
        """Known users beside those who are judged: unlabelled here, they steady the score of a single person."""
        judged = set(audited.users)
        return known.evidence.take(np.flatnonzero([user not in judged for user in known.evidence.users]))


@dataclass(frozen=True)
class DlMiaPublished(PublishedProtocol, DlMia):
    """`dl_mia` where others than members are served popular items, in the auditor's world as in the target's."""

    title: ClassVar[str] = "DL-MIA, as published"
    needs: ClassVar[frozenset[str]] = frozenset({"lists/popular", "shadow_world"})
