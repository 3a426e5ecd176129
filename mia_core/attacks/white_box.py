"""Attacks that look inside the target: hidden vectors of every layer, gradients of the loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from sklearn.decomposition import PCA
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from mia_core.attacks.contract import HONEST
from mia_core.attacks.evidence import Evidence, Known
from mia_core.attacks.fused import penalised_regression
from mia_core.attacks.regression import fitted_logit

NORMS = ("1", "2", "max")
"""Columns of the signal `gradient`."""


@dataclass(frozen=True)
class LayerProbe:
    """Penalised logistic regression on the hidden vectors of the one layer that tells known users apart best.

    Formula: s(u) = w · PCA(mean hidden vector of layer l) + w0, l with the least cross-validated log loss on known
        users
    Source: Ibanez-Lissen et al. 2024, arXiv 2411.19876 (LUMIA: linear probes on the mean activations of each layer).
    Differs: vectors are averaged per user and reduced to principal components; the layer is chosen by cross-validated
    log loss on the known users, not as the best one on those who are audited.
    Relations: `hidden` is the probe of the last layer.
    Fails: As with `hidden`, vectors hold taste before they hold membership; the choice among many layers costs known
        users.
    """

    components: int = 16
    """Principal components of a layer's vectors."""

    title: ClassVar[str] = "Layer probe"
    summary: ClassVar[str] = "What the model's inner representation looks like, at the layer that gives most away."
    access: ClassVar[str] = "white box"
    status: ClassVar[str] = HONEST
    passes: ClassVar[str] = "1 on the target"
    source: ClassVar[str] = "Ibanez-Lissen et al. 2024, arXiv 2411.19876"
    needs: ClassVar[frozenset[str]] = frozenset()
    learned: ClassVar[bool] = True

    def chosen_layer(self, known: Known) -> int:
        """Position, in the order of `Observations.hidden`, of the layer whose probe has the least log loss."""
        vectors = _layers(known.evidence)
        complete = ~np.isnan(vectors).any(axis=(1, 2))
        member = known.member[complete]
        losses = []
        for layer in range(vectors.shape[1]):
            probe = self._probe(vectors[complete, layer], member).fit(vectors[complete, layer], member)
            # The regression has cross-validated every penalty already: minus the log loss, (folds, …, penalties).
            losses.append(-probe[-1].scores_.mean(axis=0).max())
        return int(np.argmin(losses))

    def score(self, audited: Evidence, known: Known) -> np.ndarray:
        """(n_users,) logit of the chosen layer's probe."""
        layer = self.chosen_layer(known)
        vectors = _layers(known.evidence)[:, layer]
        return fitted_logit(self._probe(vectors, known.member), vectors, known.member, _layers(audited)[:, layer])

    def _probe(self, vectors: np.ndarray, member: np.ndarray) -> Pipeline:
        complete = ~np.isnan(vectors).any(axis=1)
        components = min(self.components, int(complete.sum()), vectors.shape[1])
        regression = penalised_regression(member[complete])
        return make_pipeline(StandardScaler(), PCA(components, whiten=True, random_state=0), regression)


def _layers(evidence: Evidence) -> np.ndarray:
    """(n_users, layers, width) mean hidden vectors under the target."""
    return evidence.user_mean(evidence.views["target"].hidden)


@dataclass(frozen=True)
class GradientNorm:
    """Minus the log norm of the loss gradient at the user's answers: what was learned asks for little change.

    Formula: s(u) = -mean over windows of log |gradient of the loss on the answer w.r.t. the trained weights|
    Source: Nasr et al. 2019, arXiv 1812.00910; as a norm threshold, Wang et al. 2024, arXiv 2402.17012.
    Differs: the gradient is that of the trained weights alone (the adapter's, where there is one), and the log of its
    norm is averaged over a user's windows, so that one strange window does not outweigh the others.
    Sign: a norm is large for what is new, so the score is minus its log.
    Fails: Popular items have small gradients for everybody; it needs the weights and a backward pass for each window.
    """

    norm: Literal["1", "2", "max"] = "2"
    """Sum of the absolute values, root of the sum of squares, or the largest absolute value."""

    title: ClassVar[str] = "Gradient norm"
    summary: ClassVar[str] = "How little the model would have to change to learn the user's true next items."
    access: ClassVar[str] = "white box"
    status: ClassVar[str] = HONEST
    passes: ClassVar[str] = "1 forward and 1 backward on the target"
    source: ClassVar[str] = "Nasr et al. 2019, arXiv 1812.00910; Wang et al. 2024, arXiv 2402.17012"
    needs: ClassVar[frozenset[str]] = frozenset({"gradient"})
    learned: ClassVar[bool] = False

    def score(self, audited: Evidence, known: Known) -> np.ndarray:
        """(n_users,) minus the mean log norm."""
        norms = audited.signals["gradient"][:, NORMS.index(self.norm)].astype(np.float64)
        # A norm that underflowed to 0 is a very small one.
        return -audited.user_mean(np.log(np.maximum(norms, np.finfo(np.float64).tiny)))
