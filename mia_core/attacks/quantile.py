"""Attacks that compare a user with known held-out users: with all of them, or with those who are like the user."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from sklearn.linear_model import GammaRegressor, RidgeCV
from sklearn.preprocessing import StandardScaler

from mia_core.attacks.contract import HONEST
from mia_core.attacks.evidence import Evidence, Known

if TYPE_CHECKING:
    from mia_core.observe.observations import Observations

RIDGE_PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


def log_likelihood(observed: Observations) -> np.ndarray:
    """(n,) logarithm of the geometric mean of each answer's token probabilities."""
    return observed.sample_mean("log_probability")


def share_below(scores: np.ndarray, population: np.ndarray) -> np.ndarray:
    """(n,) share of the population strictly below each score, by one sort and a binary search; NaN where NaN."""
    ordered = np.sort(population)
    return np.where(np.isnan(scores), np.nan, np.searchsorted(ordered, scores, side="left") / len(ordered))


@dataclass(frozen=True)
class AttackP:
    """Share of known held-out users whose answers the target finds less likely than this user's.

    Formula: s(u) = share of known held-out users with mean log p below the user's
    Source: Ye et al. 2022, arXiv 2111.09679 (Attack P: one threshold from the population).
    Relations: a monotone map of `loss`, so the ROC is the same but for ties; one minus the score is a p-value.
    Fails: It has the ranking of `loss` and all its faults; few known held-out users make ties.
    """

    title: ClassVar[str] = "Attack P"
    summary: ClassVar[str] = "How many people who were not trained on are less well predicted than this user."
    access: ClassVar[str] = "logits"
    status: ClassVar[str] = HONEST
    passes: ClassVar[str] = "1 on the target"
    source: ClassVar[str] = "Ye et al. 2022, arXiv 2111.09679"
    needs: ClassVar[frozenset[str]] = frozenset()
    learned: ClassVar[bool] = True

    def score(self, audited: Evidence, known: Known) -> np.ndarray:
        """(n_users,) share, 0 to 1."""
        population = _mean_log_likelihood(known.evidence)[~known.member]
        return share_below(_mean_log_likelihood(audited), population[~np.isnan(population)])


@dataclass(frozen=True)
class Qmia:
    """How far the target's likelihood of a user lies above what it is for held-out users who are like them.

    A Gaussian whose mean and log variance are linear in the user's covariates (length of the history, popularity of
    its items, length of the titles, and the likelihood under the base where there is one) is fitted on the known
    held-out users; the score is (s − μ(u)) / σ(u).
    Formula: s(u) = (LL(u) - m(c_u)) / exp(v(c_u) / 2), m and v linear in the covariates c_u, fitted on known held-out
        users
    Source: Bertran et al., NeurIPS 2023, arXiv 2307.03694 (Gaussian head).
    Differs: penalised linear regressions instead of a network, so that it is stable with fifty users; covariates of
    the user instead of the input itself.
    Relations: `loss` if no covariate matters.
    Fails: Beyond the covariates of the users it was fitted on it extrapolates; with few known users it is little more
        than `loss`.
    """

    variance_penalty: float = 0.1
    """Penalty on the log variance's slopes; their covariates have deviation 1."""

    title: ClassVar[str] = "Quantile regression"
    summary: ClassVar[str] = "How well the user is predicted, next to untrained people with similar histories."
    access: ClassVar[str] = "logits"
    status: ClassVar[str] = HONEST
    passes: ClassVar[str] = "1 on the target, 1 on the base where there is one"
    source: ClassVar[str] = "Bertran et al. 2023, arXiv 2307.03694"
    needs: ClassVar[frozenset[str]] = frozenset({"base?"})
    learned: ClassVar[bool] = True

    def score(self, audited: Evidence, known: Known) -> np.ndarray:
        """(n_users,) standardised residual."""
        covariates, level = _covariates(known.evidence), _mean_log_likelihood(known.evidence)
        fitted_on = ~known.member & ~np.isnan(level)
        scale = StandardScaler().fit(covariates[fitted_on])
        standard, level = scale.transform(covariates[fitted_on]), level[fitted_on]
        mean = RidgeCV(RIDGE_PENALTIES).fit(standard, level)
        squared = np.maximum(np.square(level - mean.predict(standard)), 1e-9)
        # Squared Gaussian residuals are gamma variables, which gives the likelihood of a log-linear variance.
        unit = squared.mean()
        variance = GammaRegressor(alpha=self.variance_penalty, solver="newton-cholesky").fit(standard, squared / unit)
        scores = _mean_log_likelihood(audited)
        scorable = ~np.isnan(scores)
        if scorable.any():
            judged = scale.transform(_covariates(audited)[scorable])
            # Beyond the users it was fitted on, an exponential must not run away.
            deviation = np.sqrt(unit * variance.predict(np.clip(judged, standard.min(axis=0), standard.max(axis=0))))
            scores[scorable] = (scores[scorable] - mean.predict(judged)) / deviation
        return scores


def _mean_log_likelihood(evidence: Evidence, view: str = "target") -> np.ndarray:
    return evidence.user_mean(log_likelihood(evidence.views[view]))


def _covariates(evidence: Evidence) -> np.ndarray:
    columns = evidence.user_mean(evidence.signals["covariates"])
    if "base" in evidence.views:
        columns = np.column_stack([columns, _mean_log_likelihood(evidence, "base")])
    return columns
