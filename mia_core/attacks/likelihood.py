"""Attacks that look at the target's own answer probabilities, nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from mia_core.attacks.contract import HONEST
from mia_core.attacks.evidence import Evidence, Known

if TYPE_CHECKING:
    from mia_core.observe.observations import Observations


def min_k_plus_plus(observed: Observations, share: float = 0.2) -> np.ndarray:
    """(n,) mean of each sample's lowest `share` of standardised token log-probabilities, at least one token.

    Source: Zhang et al. 2025, arXiv 2404.02936: (log p - mean) / deviation over the vocabulary; the mean of log p
    under p is minus the entropy.
    Differs: at least one token is taken, so that short titles have a value.
    """
    standardised = (observed.log_probability + observed.entropy) / np.maximum(observed.deviation, 1e-6)
    lengths = np.diff(observed.offsets)
    sample = np.repeat(np.arange(len(lengths)), lengths)
    ordered = standardised[np.lexsort((standardised, sample))].astype(np.float64)
    taken = np.maximum(1, (share * lengths).astype(np.int64))
    place = np.arange(len(ordered)) - np.repeat(observed.offsets[:-1], lengths)
    lowest = np.where(place < np.repeat(taken, lengths), ordered, 0.0)
    return np.bincount(sample, lowest, minlength=len(lengths)) / taken


@dataclass(frozen=True)
class Loss:
    """Mean log-probability of the user's answers under the target.

    Source: Yeom et al. 2018, arXiv 1709.01604 (loss threshold).
    Differs: averaged over a user's windows instead of one record.
    """

    title: ClassVar[str] = "Loss"
    summary: ClassVar[str] = "How likely the model finds the user's true next items."
    access: ClassVar[str] = "logits"
    status: ClassVar[str] = HONEST
    passes: ClassVar[str] = "1 on the target"
    source: ClassVar[str] = "Yeom et al. 2018, arXiv 1709.01604"
    needs: ClassVar[frozenset[str]] = frozenset()
    learned: ClassVar[bool] = False

    def score(self, audited: Evidence, known: Known) -> np.ndarray:
        """(n_users,) mean log-probability, nats per token."""
        return audited.user_mean(audited.views["target"].sample_mean("log_probability"))


@dataclass(frozen=True)
class Confidence:
    """Mean top probability of the target at the answer's tokens, whatever the true token is.

    Source: Salem et al. 2019, arXiv 1806.01246 (maximum posterior).
    """

    title: ClassVar[str] = "Confidence"
    summary: ClassVar[str] = "How sure the model is of its own first choice, right or wrong."
    access: ClassVar[str] = "logits"
    status: ClassVar[str] = HONEST
    passes: ClassVar[str] = "1 on the target"
    source: ClassVar[str] = "Salem et al. 2019, arXiv 1806.01246"
    needs: ClassVar[frozenset[str]] = frozenset()
    learned: ClassVar[bool] = False

    def score(self, audited: Evidence, known: Known) -> np.ndarray:
        """(n_users,) mean top probability."""
        return audited.user_mean(audited.views["target"].sample_mean("top_probability"))


@dataclass(frozen=True)
class Entropy:
    """Minus the mean entropy of the target's next-token distribution at the answer's tokens.

    Source: Shokri et al. 2017, arXiv 1610.05820 (prediction uncertainty).
    """

    title: ClassVar[str] = "Entropy"
    summary: ClassVar[str] = "How little the model hesitates between answers."
    access: ClassVar[str] = "logits"
    status: ClassVar[str] = HONEST
    passes: ClassVar[str] = "1 on the target"
    source: ClassVar[str] = "Shokri et al. 2017, arXiv 1610.05820"
    needs: ClassVar[frozenset[str]] = frozenset()
    learned: ClassVar[bool] = False

    def score(self, audited: Evidence, known: Known) -> np.ndarray:
        """(n_users,) minus the mean entropy, nats."""
        return -audited.user_mean(audited.views["target"].sample_mean("entropy"))


@dataclass(frozen=True)
class TargetMinusBase:
    """Mean log-likelihood difference between the target and the same model before fine-tuning.

    Source: Kandpal et al., EMNLP 2024, arXiv 2310.09266 (user inference, base model as reference).
    """

    title: ClassVar[str] = "Target minus base"
    summary: ClassVar[str] = "How much likelier fine-tuning made the user's true next items."
    access: ClassVar[str] = "logits"
    status: ClassVar[str] = HONEST
    passes: ClassVar[str] = "1 on the target, 1 on the base"
    source: ClassVar[str] = "Kandpal et al. 2024, arXiv 2310.09266"
    needs: ClassVar[frozenset[str]] = frozenset({"base"})
    learned: ClassVar[bool] = False

    def score(self, audited: Evidence, known: Known) -> np.ndarray:
        """(n_users,) mean log-probability difference, nats per token."""
        target, base = audited.views["target"], audited.views["base"]
        return audited.user_mean(target.sample_mean("log_probability") - base.sample_mean("log_probability"))
