"""What attacks on answer probabilities share: how tokens become a sample's score, and samples a user's."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from sklearn.metrics import roc_auc_score

from mia_core.attacks.contract import HONEST
from mia_core.attacks.evidence import Evidence, Known

if TYPE_CHECKING:
    from mia_core.observe.observations import Observations


def sample_of_token(observed: Observations) -> np.ndarray:
    """(total,) which sample each token belongs to."""
    return np.repeat(np.arange(len(observed)), np.diff(observed.offsets))


def lowest_mean(observed: Observations, values: np.ndarray, share: float, by: np.ndarray | None = None) -> np.ndarray:
    """(n,) mean of `values` over the `share` of each sample's tokens that are lowest in `by`, at least one token.

    Args:
        values: (total,) one value per token.
        by: (total,) what the tokens are ranked by; the values themselves if not given.
    """
    lengths = np.diff(observed.offsets)
    sample = sample_of_token(observed)
    ordered = values[np.lexsort((values if by is None else by, sample))].astype(np.float64)
    taken = np.maximum(1, (share * lengths).astype(np.int64))
    place = np.arange(len(ordered)) - np.repeat(observed.offsets[:-1], lengths)
    lowest = np.where(place < np.repeat(taken, lengths), ordered, 0.0)
    return np.bincount(sample, lowest, minlength=len(lengths)) / taken


def min_k_plus_plus(observed: Observations, share: float = 0.2) -> np.ndarray:
    """(n,) mean of each sample's lowest `share` of standardised token log-probabilities, at least one token.

    Source: Zhang et al. 2025, arXiv 2404.02936: (log p - mean) / deviation over the vocabulary; the mean of log p
    under p is minus the entropy.
    Differs: at least one token is taken, so that short titles have a value.
    """
    standardised = (observed.log_probability + observed.entropy) / np.maximum(observed.deviation, 1e-6)
    return lowest_mean(observed, standardised, share)


def log_likelihood(evidence: Evidence, view: str) -> np.ndarray:
    """(n_samples,) mean log-probability of each answer under one view; under several of a kind, their mean."""
    asked = [evidence.views[view]] if view in evidence.views else evidence.replicates(view)
    return np.mean([observed.sample_mean("log_probability") for observed in asked], axis=0)


def fall(evidence: Evidence, model: str, variant: str) -> np.ndarray:
    """(n_samples,) how far a variant of the question, or the mean of several, lowers a model's log-likelihood."""
    return log_likelihood(evidence, model) - log_likelihood(evidence, f"{model}/{variant}")


def loss_ratio(evidence: Evidence, above: str, below: str, floor: float = 0.01) -> np.ndarray:
    """(n_samples,) loss of each answer under one view over its loss under another.

    Both get `floor` nats added: where both views are certain of the answer the ratio is 1, not zero by zero.
    """
    return (floor - log_likelihood(evidence, above)) / (floor - log_likelihood(evidence, below))


class LogitAttack:
    """What attacks on answer probabilities share: one score per sample, averaged over the user's samples."""

    access: ClassVar[str] = "logits"
    status: ClassVar[str] = HONEST
    passes: ClassVar[str] = "1 on the target"
    needs: ClassVar[frozenset[str]] = frozenset()
    learned: ClassVar[bool] = False

    def sample_scores(self, evidence: Evidence) -> np.ndarray:
        """(n_samples,) score of each sample, higher = likelier member."""
        raise NotImplementedError

    def score(self, audited: Evidence, known: Known) -> np.ndarray:
        """(n_users,) mean score of the user's samples."""
        return audited.user_mean(self.sample_scores(audited))


class TunedAttack(LogitAttack):
    """A score with a setting that the known users choose: of several candidates the one with the highest AUC.

    Scores are given in standard deviations from the mean of the known non-members under the chosen setting, so that
    users who were judged under different choices (out of fold) can be compared.
    """

    learned: ClassVar[bool] = True

    def candidates(self, evidence: Evidence) -> np.ndarray:
        """(n_samples, n_candidates) score of each sample under each setting, higher = likelier member."""
        raise NotImplementedError

    def score(self, audited: Evidence, known: Known) -> np.ndarray:
        """(n_users,) mean score of the user's samples under the chosen setting, standardised by known non-members."""
        means = known.evidence.user_mean(self.candidates(known.evidence))
        scorable = ~np.isnan(means).any(axis=1)
        means, member = means[scorable], known.member[scorable]
        chosen = int(np.argmax([roc_auc_score(member, column) for column in means.T]))
        outside = means[~member, chosen]
        return (audited.user_mean(self.candidates(audited)[:, chosen]) - outside.mean()) / max(outside.std(), 1e-9)
