"""The attack that sums up a whole sequence of outputs and lets a small network judge it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from mia_core.attacks.contract import HONEST
from mia_core.attacks.evidence import Evidence, Known

if TYPE_CHECKING:
    from mia_core.observe.observations import Observations

LAYERS = (64, 32, 8)
LARGEST = 5.0
"""Features are cut off so many deviations from their mean."""


@dataclass(frozen=True)
class SequenceMlp:
    """Log-odds of small networks that read what the target says at every position of a sequence.

    Formula: s(u) = mean log-odds of MLPs 64-32-8-2 on (log p, rank, entropy, top mass, margin) of the true items,
        pooled by mean, least, largest and last
    Source: Zhao and Xu, project proposal (no paper): an MLP 64-32-8-2 on the output of an overfitted Transformers4Rec
    model, with known labels; AUC 0.90 claimed on YooChoose.
    Differs: features of the outputs instead of the raw scores, which are as wide as the catalogue and would name the
    items; people, or sessions, that the networks stop on, learn from and judge are never the same; nothing here asks
    for an overfitted target. Each of several networks stops by another part of the known users, and their log-odds are
    averaged.
    Relations: like `TokenSequence` without a base, and with the order of the tokens pooled away.
    Fails: The published figure rests on a target trained until it knew its data by heart; on one that stopped in time
        there is far less.
    """

    networks: int = 5
    """Networks; each stops by one of so many parts of the known users."""
    learning_rate: float = 1e-3
    """Of Adam."""
    batch: int = 64
    """Users in a batch."""
    epochs: int = 200
    """At most; a network keeps the weights that suited the users it stops by best."""
    patience: int = 15
    """Epochs without a better loss, in any of the networks, that end the training."""

    title: ClassVar[str] = "Sequence network"
    summary: ClassVar[str] = "How sure and how right the target is along the whole sequence, judged by a small network."
    access: ClassVar[str] = "logits"
    status: ClassVar[str] = HONEST
    passes: ClassVar[str] = "1 on the target"
    source: ClassVar[str] = "Zhao and Xu, project proposal"
    needs: ClassVar[frozenset[str]] = frozenset()
    learned: ClassVar[bool] = True

    def score(self, audited: Evidence, known: Known) -> np.ndarray:
        """(n_users,) log-odds; NaN for a user without a sequence."""
        # torch takes seconds to load: an attack must not cost them before it runs.
        from mia_core.models.classifiers import perceptron_log_odds, train_stopped_perceptrons

        fitted_on, judged = (e.user_mean(sequence_features(e.views["target"])) for e in (known.evidence, audited))
        whole = ~np.isnan(fitted_on).any(axis=1)
        fitted_on, member = fitted_on[whole], known.member[whole]
        centre, spread = fitted_on.mean(axis=0), np.maximum(fitted_on.std(axis=0), 1e-6)

        def standard(features: np.ndarray) -> np.ndarray:
            return np.clip((features - centre) / spread, -LARGEST, LARGEST)

        ensemble = train_stopped_perceptrons(
            standard(fitted_on),
            member,
            hidden=LAYERS,
            networks=self.networks,
            epochs=self.epochs,
            patience=self.patience,
            batch=self.batch,
            learning_rate=self.learning_rate,
        )
        scores = np.full(len(judged), np.nan)
        askable = ~np.isnan(judged).any(axis=1)
        scores[askable] = perceptron_log_odds(ensemble, standard(judged[askable]))
        return scores


def sequence_features(observed: Observations) -> np.ndarray:
    """(n, 24) of each sequence the mean, lowest, highest and last of six values per position.

    Log-probability of the true item, logarithm of its rank, entropy, probability of the likeliest item and of the ten
    likeliest, and how far the likeliest is ahead of the second.
    """
    values = np.stack(
        [
            observed.log_probability,
            np.log1p(observed.rank),
            observed.entropy,
            observed.top_probability,
            observed.top_ten,
            observed.margin,
        ],
        axis=1,
        dtype=np.float64,
    )
    if not len(observed):
        return np.zeros((0, 4 * values.shape[1]))
    start, lengths = observed.offsets[:-1], np.diff(observed.offsets)
    pooled = [
        np.add.reduceat(values, start) / lengths[:, None],
        np.minimum.reduceat(values, start),
        np.maximum.reduceat(values, start),
        values[start + lengths - 1],
    ]
    return np.hstack(pooled)
