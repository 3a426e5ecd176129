"""Likelihood-ratio attacks: is a user treated as by shadow models with them, or as by those without."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.special import log_ndtr
from scipy.stats import t as student_t

from mia_core.attacks.evidence import Evidence, Known
from mia_core.attacks.shadow import (
    ShadowAttack,
    Shadowed,
    audited_and_known,
    chosen_mean,
    log_odds,
    require_shadows,
)

LEAST_VARIANCE = 1e-6


def gaussian(x: np.ndarray, mean: np.ndarray, variance: np.ndarray | float) -> np.ndarray:
    """(n,) log-density."""
    return -0.5 * (np.log(2 * np.pi * variance) + (x - mean) ** 2 / variance)


@dataclass(frozen=True)
class _Lira(ShadowAttack):
    def variance(self, judged: Shadowed, reference: Shadowed, inside: bool, gap: float) -> np.ndarray | float:
        """Variance of the statistic among shadows of one kind, of everybody or (n_users,)."""
        raise NotImplementedError

    def score(self, audited: Evidence, known: Known) -> np.ndarray:
        """(n_users,) log-likelihood ratio of inside to outside, nats."""
        judged, reference = audited_and_known(audited, known, log_odds)
        gap = reference.gap
        within, outside = (
            gaussian(
                judged.target,
                chosen_mean(*judged.side(inside, gap)),
                np.maximum(self.variance(judged, reference, inside, gap), LEAST_VARIANCE),
            )
            for inside in (True, False)
        )
        return within - outside


@dataclass(frozen=True)
class LiraOnline(_Lira):
    """Log-density of the user's log-odds among shadows with the user, minus that among shadows without.

    Formula: phi = log(p / (1 - p)); s(u) = log N(phi_target; mean_in, var_in) - log N(phi_target; mean_out, var_out)
    Source: Carlini et al. 2022, arXiv 2112.03570, online attack; below 64 shadows one variance for everybody, the
    spread of all shadows' statistics of one kind.
    Differs: log-odds of an answer's geometric-mean token probability, averaged over the user's windows; the common
    variances come from known users.
    Fails: With a handful of shadows each user has two or three of each kind: the means are noisy and low false-alarm
        rates out of reach.
    """

    individual_from: int = 64
    """From so many shadows on, each user has variances of their own."""

    title: ClassVar[str] = "LiRA"
    summary: ClassVar[str] = "Whether the model treats the user like shadow models with, or without, the user do."
    source: ClassVar[str] = "Carlini et al. 2022, arXiv 2112.03570"

    def variance(self, judged: Shadowed, reference: Shadowed, inside: bool, gap: float) -> np.ndarray | float:
        """Of all known users' shadows together, or of each user's."""
        values, chosen = reference.side(inside, gap)
        together = float(np.nanvar(values[chosen]))
        if reference.inside.shape[1] < self.individual_from:
            return together
        values, chosen = judged.side(inside, gap)
        own = chosen_mean((values - chosen_mean(values, chosen)[:, None]) ** 2, chosen)
        return np.where(chosen.sum(axis=1) > 1, own, together)


@dataclass(frozen=True)
class LiraOffline(LiraOnline):
    """How far the user's log-odds lie above those in shadows without the user: minus the log of a one-sided p-value.

    Formula: phi = log(p / (1 - p)); s(u) = -log P[N(mean_out, var_out) > phi_target]
    Source: Carlini et al. 2022, arXiv 2112.03570, offline attack.
    Differs: the released code takes the density among shadows without the user, which also flags users whom the
    target predicts unusually badly; here it is the upper tail. Its logarithm keeps apart what rounds to a
    probability of 1.
    Fails: It asks only how unusual the user is for models without them; what moves all users alike, such as longer
        training, looks like membership.
    """

    title: ClassVar[str] = "LiRA, offline"
    summary: ClassVar[str] = "How unusual the user would be for a model that was not trained on them."

    def score(self, audited: Evidence, known: Known) -> np.ndarray:
        """(n_users,) −log P(a shadow without the user is as high), nats."""
        judged, reference = audited_and_known(audited, known, log_odds)
        gap = reference.gap
        variance = np.maximum(self.variance(judged, reference, False, gap), LEAST_VARIANCE)
        return -log_ndtr(-(judged.target - chosen_mean(*judged.side(False, gap))) / np.sqrt(variance))


@dataclass(frozen=True)
class LiraFixedVariance(_Lira):
    """LiRA whose two variances are those of one user's statistic from shadow to shadow, pooled over known users.

    Formula: s(u) = log N(phi_target; mean_in(u), v_in) - log N(phi_target; mean_out(u), v_out), v pooled over known
        users
    Source: Carlini et al. 2022, arXiv 2112.03570, fixed variance.
    Differs: differences between users are taken out first; the released code leaves them in, and gives the inside
    deviation to both sides.
    Fails: One variance for everybody accuses users whom models disagree about more than usual.
    """

    title: ClassVar[str] = "LiRA, fixed variance"
    summary: ClassVar[str] = "As LiRA, with one variance with the user and one without, shared by everybody."
    source: ClassVar[str] = "Carlini et al. 2022, arXiv 2112.03570"

    def variance(self, judged: Shadowed, reference: Shadowed, inside: bool, gap: float) -> np.ndarray | float:
        """Pooled over known users, each around their own mean."""
        return float(np.nanmean(reference.deviations(inside, gap) ** 2))


@dataclass(frozen=True)
class SequenceLira(ShadowAttack):
    """LiRA on the vector of a user's windows: they differ one by one, and they rise and fall together.

    Each side is a Gaussian with its own mean per window and covariance a·I + b·11ᵀ, pooled over known users.
    Formula: s(u) = log N(f; mean_in, aI + b11') - log N(f; mean_out, aI + b11'), f the log-odds of the user's windows
    Source: Rossi et al. 2025, arXiv 2506.05126 (multivariate Gaussian over tokens with structured covariance).
    Differs: the user's windows take the place of a text's tokens.
    Relations: `lira_fixed_variance` for users with one window.
    Fails: Means per window from few shadows are noisier still than means per user; users with one window gain
        nothing.
    """

    title: ClassVar[str] = "LiRA over windows"
    summary: ClassVar[str] = "As LiRA, window by window, knowing that a user's windows are alike."
    source: ClassVar[str] = "Rossi et al. 2025, arXiv 2506.05126"

    def score(self, audited: Evidence, known: Known) -> np.ndarray:
        """(n_users,) log-likelihood ratio of inside to outside, nats."""
        require_shadows(known)
        judged, reference = (Shadowed.of_windows(evidence, log_odds) for evidence in (audited, known.evidence))
        gap = reference.gap
        densities = []
        for inside in (True, False):
            alone, shared = covariance(known.evidence, reference.deviations(inside, gap))
            deviation = judged.target - chosen_mean(*judged.side(inside, gap))
            densities.append(structured_gaussian(audited, deviation, alone, shared))
        return densities[0] - densities[1]


def _within_and_between(evidence: Evidence, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each user: number m of windows, squares around the user's mean, m times the squared mean; NaN if m = 0."""
    count = np.bincount(evidence.user_index, minlength=len(evidence.users)).astype(np.float64)
    count[count == 0] = np.nan
    count = count.reshape(-1, *[1] * (values.ndim - 1))
    between = count * evidence.user_mean(values) ** 2
    return count, np.maximum(count * evidence.user_mean(values**2) - between, 0), between


def covariance(evidence: Evidence, deviations: np.ndarray) -> tuple[float, float]:
    """(a, b) of the covariance a·I + b·11ᵀ of a user's windows, by moments; b at least 0.

    Args:
        deviations: (n_samples, K), NaN where a shadow does not count.
    """
    count, within, between = _within_and_between(evidence, deviations)
    count = np.where(np.isnan(within), np.nan, count)
    if np.nanmax(count) < 2:
        return max(float(np.nanmean(between)), LEAST_VARIANCE), 0.0
    alone = max(float(np.nansum(within) / np.nansum(count - 1)), LEAST_VARIANCE)
    return alone, max(0.0, float(np.nansum(between - alone) / np.nansum(count)))


def structured_gaussian(evidence: Evidence, deviations: np.ndarray, alone: float, shared: float) -> np.ndarray:
    """(n_users,) log-density of each user's deviations (n_samples,) under the covariance alone·I + shared·11ᵀ.

    The mean direction has variance alone + m·shared, every other one has `alone`: no matrix is inverted.
    """
    count, within, between = _within_and_between(evidence, deviations)
    along = alone + count * shared
    determinant = (count - 1) * np.log(alone) + np.log(along)
    return -0.5 * (count * np.log(2 * np.pi) + determinant + within / alone + between / along)


@dataclass(frozen=True)
class Bavaria(ShadowAttack):
    """Log-density of the user's log-odds with the user minus without, where both variances are uncertain.

    A normal-inverse-gamma prior, made from known users' shadows, meets the user's own few shadows: the predictive
    densities are Student's t.
    Formula: s(u) = log t(phi_target; posterior in) - log t(phi_target; posterior out), Student's t under a
        normal-inverse-gamma prior
    Source: Brännvall 2026, arXiv 2603.11799 (BaVarIA-t).
    Differs: the prior's mean and its weight are the known users' mean and the ratio of their variance from shadow to
    shadow to that between users; the weight of the prior's variance is fixed.
    Relations: `lira_fixed_variance` as the prior's weight grows, but for the uncertainty of the means.
    Fails: The prior comes from known users: audited users of another kind are shrunk towards the wrong mean.
    """

    prior_shadows: float = 4.0
    """How many shadow models the prior on the variances counts for."""

    title: ClassVar[str] = "BaVarIA"
    summary: ClassVar[str] = "As LiRA, allowing for how little a few shadow models can tell."
    source: ClassVar[str] = "Brännvall 2026, arXiv 2603.11799"

    def score(self, audited: Evidence, known: Known) -> np.ndarray:
        """(n_users,) log-likelihood ratio of inside to outside, nats."""
        judged, reference = audited_and_known(audited, known, log_odds)
        gap = reference.gap
        densities = []
        for inside in (True, False):
            variance = max(float(np.nanmean(reference.deviations(inside, gap) ** 2)), LEAST_VARIANCE)
            values, chosen = reference.side(inside, gap)
            means = chosen_mean(values, chosen)
            # The spread of the users' means holds what a mean of few shadows is off by.
            between = np.nanvar(means) - variance * np.mean(1 / chosen.sum(axis=1))
            weight = variance / max(float(between), LEAST_VARIANCE)
            own = judged.side(inside, gap)
            prior = (float(np.nanmean(means)), weight, self.prior_shadows, variance)
            densities.append(predictive(judged.target, *own, *prior))
        return densities[0] - densities[1]


def predictive(
    x: np.ndarray,
    values: np.ndarray,
    chosen: np.ndarray,
    mean: float,
    mean_weight: float,
    degrees: float,
    variance: float,
) -> np.ndarray:
    """(n,) log-density of x after each row's chosen values, under a normal-inverse-gamma prior.

    Prior: variance s² ~ scaled inverse chi-squared(degrees, variance), mean ~ N(mean, s² / mean_weight).
    """
    count = chosen.sum(axis=1)
    own = chosen_mean(values, chosen)
    squares = (chosen * (values - own[:, None]) ** 2).sum(axis=1)
    weight = mean_weight + count
    centre = (mean_weight * mean + count * own) / weight
    freedom = degrees + count
    scale = (degrees * variance + squares + mean_weight * count / weight * (own - mean) ** 2) / freedom
    return student_t.logpdf(x, freedom, centre, np.sqrt(scale * (1 + 1 / weight)))
