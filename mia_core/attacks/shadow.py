"""Attacks that compare the target with shadow models, which were trained on random halves of the users.

Coins put users into shadows and are independent of membership. The known users' coins say how much being inside
changes a user's statistic; their membership is used by `rmia` alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

import numpy as np
from scipy.special import log_ndtr, logsumexp
from scipy.stats import t as student_t
from sklearn.base import ClassifierMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mia_core.attacks.contract import HONEST
from mia_core.attacks.evidence import Evidence, Known
from mia_core.attacks.fused import scalars
from mia_core.attacks.quantile import log_likelihood, share_below
from mia_core.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable

    from mia_core.observe.observations import Observations

LEAST_VARIANCE = 1e-6

Statistic: TypeAlias = "Callable[[Observations], np.ndarray]"


def log_odds(observed: Observations) -> np.ndarray:
    """(n,) log(p / (1 − p)) of the geometric mean p of each answer's token probabilities, p at most 1 − 10⁻⁶."""
    log_p = np.minimum(log_likelihood(observed), np.log1p(-1e-6))
    return log_p - np.log(-np.expm1(log_p))


def chosen_mean(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """(n,) mean of each row's chosen values."""
    return (values * chosen).sum(axis=1) / chosen.sum(axis=1)


@dataclass(frozen=True)
class Shadowed:
    """One statistic of n users (or windows) under the target and under K shadow models."""

    target: np.ndarray
    """(n,)."""
    shadows: np.ndarray
    """(n, K)."""
    inside: np.ndarray
    """(n, K) bool: whether the shadow was trained on the user."""

    @staticmethod
    def of_users(evidence: Evidence, statistic: Statistic) -> Shadowed:
        """The statistic averaged over each user's windows."""
        shadows = [evidence.user_mean(statistic(view)) for view in evidence.replicates("shadow")]
        target = evidence.user_mean(statistic(evidence.views["target"]))
        return Shadowed(target, np.column_stack(shadows), _coins(evidence, len(shadows)))

    @staticmethod
    def of_windows(evidence: Evidence, statistic: Statistic) -> Shadowed:
        """The statistic of each window, with the coins of its user."""
        shadows = [statistic(view) for view in evidence.replicates("shadow")]
        coins = _coins(evidence, len(shadows))[evidence.user_index]
        return Shadowed(statistic(evidence.views["target"]), np.column_stack(shadows), coins)

    @property
    def gap(self) -> float:
        """How much higher the statistic is inside than outside, on average."""
        return float(np.nanmean(self.shadows[self.inside]) - np.nanmean(self.shadows[~self.inside]))

    def side(self, inside: bool, gap: float) -> tuple[np.ndarray, np.ndarray]:
        """((n, K) values, (n, K) which of them count) of the shadows in which a user is inside, or outside.

        A user whom the coins left without any shadow of this kind is given those of the other kind, moved by the
        known users' gap.
        """
        chosen = self.inside == inside
        moved = self.shadows + (gap if inside else -gap)
        return np.where(chosen, self.shadows, moved), chosen | ~chosen.any(axis=1, keepdims=True)

    def deviations(self, inside: bool, gap: float) -> np.ndarray:
        """(n, K) deviations from each row's own mean on one side, scaled to be unbiased; NaN where there is none.

        Where nobody has two shadows of this kind, both kinds are taken together, one moved by the gap.
        """
        values, chosen = self.side(inside, gap)
        if chosen.sum(axis=1).max() < 2:
            chosen = np.ones_like(chosen)
        count = chosen.sum(axis=1, keepdims=True)
        scale = np.sqrt(count / np.where(count > 1, count - 1, np.nan))
        return np.where(chosen, (values - chosen_mean(values, chosen)[:, None]) * scale, np.nan)


def _coins(evidence: Evidence, shadows: int) -> np.ndarray:
    # Somebody who is looked up later has no coins: every shadow counts as one that never met them.
    return np.zeros((len(evidence.users), shadows), bool) if evidence.shadow_in is None else evidence.shadow_in


def require_shadows(known: Known) -> np.ndarray:
    """(n_users, K) the known users' coins: it is they who say what being inside a shadow does."""
    if known.evidence.shadow_in is None:
        raise ModelError("this attack needs shadow models; raise attacks.shadows to 2 or more")
    return known.evidence.shadow_in


def audited_and_known(audited: Evidence, known: Known, statistic: Statistic) -> tuple[Shadowed, Shadowed]:
    """The statistic of audited users, and of the known users who serve as reference."""
    require_shadows(known)
    return Shadowed.of_users(audited, statistic), Shadowed.of_users(known.evidence, statistic)


def gaussian(x: np.ndarray, mean: np.ndarray, variance: np.ndarray | float) -> np.ndarray:
    """(n,) log-density."""
    return -0.5 * (np.log(2 * np.pi * variance) + (x - mean) ** 2 / variance)


@dataclass(frozen=True)
class _Shadow:
    access: ClassVar[str] = "logits"
    status: ClassVar[str] = HONEST
    passes: ClassVar[str] = "1 on the target, 1 on each shadow"
    needs: ClassVar[frozenset[str]] = frozenset({"shadows"})
    learned: ClassVar[bool] = False


@dataclass(frozen=True)
class ShadowClassifier(_Shadow):
    """A classifier that separates users inside from users outside shadow models, applied to the target.

    Source: Shokri et al. 2017, arXiv 1610.05820.
    Differs: shadows are trained on random halves of the users by coins that are independent of membership; features
    are loss, confidence and entropy averaged per user, not the output vector. It learns from the known users' coins
    only, so that an audited user's score does not depend on who else is audited.
    """

    classifier: Literal["logistic", "mlp", "forest"] = "logistic"
    """Logistic regression, a network with one hidden layer, or a random forest."""
    penalty: float = 1.0
    """Inverse strength of the logistic regression's penalty, strength of the network's."""

    title: ClassVar[str] = "Shadow-model classifier"
    summary: ClassVar[str] = "What membership looks like in models trained on random halves of the users."
    source: ClassVar[str] = "Shokri et al. 2017, arXiv 1610.05820"

    def score(self, audited: Evidence, known: Known) -> np.ndarray:
        """(n_users,) log-odds of being inside; the forest's probability."""
        inside = require_shadows(known)
        rows = np.vstack([scalars(known.evidence, f"shadow {k}") for k in range(inside.shape[1])])
        labels = inside.T.reshape(-1)
        scorable = ~np.isnan(rows).any(axis=1)
        model = make_pipeline(StandardScaler(), self._untrained()).fit(rows[scorable], labels[scorable])
        judged = scalars(audited, "target")
        scores = np.full(len(judged), np.nan)
        askable = ~np.isnan(judged).any(axis=1)
        if askable.any():
            if self.classifier == "logistic":
                scores[askable] = model.decision_function(judged[askable])
            elif self.classifier == "mlp":
                outside, within = model.predict_log_proba(judged[askable]).T
                scores[askable] = within - outside
            else:
                scores[askable] = model.predict_proba(judged[askable])[:, 1]
        return scores

    def _untrained(self) -> ClassifierMixin:
        if self.classifier == "logistic":
            return LogisticRegression(C=self.penalty, max_iter=1_000)
        if self.classifier == "mlp":
            return MLPClassifier((16,), solver="lbfgs", alpha=self.penalty, max_iter=1_000, random_state=0)
        return RandomForestClassifier(100, min_samples_leaf=10, random_state=0)


@dataclass(frozen=True)
class ShadowClassifierMlp(ShadowClassifier):
    """A network with one hidden layer that separates users inside from users outside shadow models.

    Source: Shokri et al. 2017, arXiv 1610.05820.
    Relations: `shadow_classifier` with another classifier.
    """

    classifier: Literal["logistic", "mlp", "forest"] = "mlp"

    title: ClassVar[str] = "Shadow-model classifier, network"
    summary: ClassVar[str] = "What membership looks like in models trained on random halves, learned by a network."


@dataclass(frozen=True)
class ShadowClassifierForest(ShadowClassifier):
    """A random forest that separates users inside from users outside shadow models.

    Source: Shokri et al. 2017, arXiv 1610.05820.
    Relations: `shadow_classifier` with another classifier.
    """

    classifier: Literal["logistic", "mlp", "forest"] = "forest"

    title: ClassVar[str] = "Shadow-model classifier, forest"
    summary: ClassVar[str] = "What membership looks like in models trained on random halves, learned by many trees."


@dataclass(frozen=True)
class _Lira(_Shadow):
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

    Source: Carlini et al. 2022, arXiv 2112.03570, online attack; below 64 shadows one variance for everybody, the
    spread of all shadows' statistics of one kind.
    Differs: log-odds of an answer's geometric-mean token probability, averaged over the user's windows; the common
    variances come from known users.
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

    Source: Carlini et al. 2022, arXiv 2112.03570, offline attack.
    Differs: the released code takes the density among shadows without the user, which also flags users whom the
    target predicts unusually badly; here it is the upper tail. Its logarithm keeps apart what rounds to a
    probability of 1.
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

    Source: Carlini et al. 2022, arXiv 2112.03570, fixed variance.
    Differs: differences between users are taken out first; the released code leaves them in, and gives the inside
    deviation to both sides.
    """

    title: ClassVar[str] = "LiRA, fixed variance"
    summary: ClassVar[str] = "As LiRA, with one variance with the user and one without, shared by everybody."
    source: ClassVar[str] = "Carlini et al. 2022, arXiv 2112.03570"

    def variance(self, judged: Shadowed, reference: Shadowed, inside: bool, gap: float) -> np.ndarray | float:
        """Pooled over known users, each around their own mean."""
        return float(np.nanmean(reference.deviations(inside, gap) ** 2))


@dataclass(frozen=True)
class SequenceLira(_Shadow):
    """LiRA on the vector of a user's windows: they differ one by one, and they rise and fall together.

    Each side is a Gaussian with its own mean per window and covariance a·I + b·11ᵀ, pooled over known users.
    Source: Rossi et al. 2025, arXiv 2506.05126 (multivariate Gaussian over tokens with structured covariance).
    Differs: the user's windows take the place of a text's tokens.
    Relations: `lira_fixed_variance` for users with one window.
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
class AttackR(_Shadow):
    """Share of shadow models without the user that predict the user worse than the target does.

    Source: Ye et al. 2022, arXiv 2111.09679 (Attack R: reference models).
    Relations: `lira_offline` with the empirical distribution instead of a Gaussian; few shadows give few levels.
    """

    title: ClassVar[str] = "Attack R"
    summary: ClassVar[str] = "How many models that never met the user predict them worse."
    source: ClassVar[str] = "Ye et al. 2022, arXiv 2111.09679"

    def score(self, audited: Evidence, known: Known) -> np.ndarray:
        """(n_users,) share, 0 to 1."""
        judged, reference = audited_and_known(audited, known, log_odds)
        values, chosen = judged.side(False, reference.gap)
        share = chosen_mean(judged.target[:, None] > values, chosen)
        return np.where(np.isnan(judged.target), np.nan, share)


@dataclass(frozen=True)
class Rmia(_Shadow):
    """Share of known held-out users over whom the user has a likelihood ratio above γ.

    A user's ratio is p / p̄, p̄ = ½[(1 + a)·mean p without the user + (1 − a)], on geometric-mean probabilities.
    Source: Zarifzadeh et al., ICML 2024, arXiv 2312.03262.
    Differs: averaged over the user's windows; a is fitted where the paper tunes it on a paired model, because the
    values for images (0.3) let 1 − a drown the small probabilities of titles.
    """

    a: float | None = None
    """Probabilities inside are modelled as a·(outside) + 1 − a; None: the a that fits the known users' shadows."""
    gamma: float = 1.0
    """A user must be likelier than a held-out user by this factor."""

    title: ClassVar[str] = "RMIA"
    summary: ClassVar[str] = "How many untrained people gained less from training than this user did."
    source: ClassVar[str] = "Zarifzadeh et al. 2024, arXiv 2312.03262"
    learned: ClassVar[bool] = True

    def score(self, audited: Evidence, known: Known) -> np.ndarray:
        """(n_users,) share, 0 to 1."""
        judged, reference = audited_and_known(audited, known, log_likelihood)
        gap = reference.gap
        a = self._slope(reference, gap) if self.a is None else self.a
        population = _ratio(reference, gap, a)[~known.member]
        return share_below(_ratio(judged, gap, a) / self.gamma, population[~np.isnan(population)])

    @staticmethod
    def _slope(reference: Shadowed, gap: float) -> float:
        """Least squares of 1 − p inside on 1 − p outside, the model's line through p = 1."""
        within, outside = (1 - _mean_probability(reference, inside, gap) for inside in (True, False))
        return float(np.clip(np.nansum(within * outside) / np.nansum(outside**2), 0, 1))


def _mean_probability(shadowed: Shadowed, inside: bool, gap: float) -> np.ndarray:
    values, chosen = shadowed.side(inside, gap)
    return chosen_mean(np.exp(np.minimum(values, 0)), chosen)


def _ratio(shadowed: Shadowed, gap: float, a: float) -> np.ndarray:
    return np.exp(shadowed.target) / (0.5 * ((1 + a) * _mean_probability(shadowed, False, gap) + 1 - a))


@dataclass(frozen=True)
class BaseShadows(_Shadow):
    """Log-likelihood under the target minus the logarithm of the mean likelihood under the shadows.

    Source: Lassila et al. 2025, arXiv 2505.24089 (BASE).
    Differs: geometric-mean token probabilities, averaged over the user's windows, without a temperature.
    Relations: the offline form orders users as `rmia` with a = 1 does.
    """

    offline: bool = False
    """Whether only shadows without the user count."""

    title: ClassVar[str] = "BASE"
    summary: ClassVar[str] = "How much likelier the model finds the user's next items than shadow models do."
    source: ClassVar[str] = "Lassila et al. 2025, arXiv 2505.24089"

    def score(self, audited: Evidence, known: Known) -> np.ndarray:
        """(n_users,) nats per token."""
        judged, reference = audited_and_known(audited, known, log_likelihood)
        values, chosen = judged.shadows, np.ones_like(judged.inside)
        if self.offline:
            values, chosen = judged.side(False, reference.gap)
        return judged.target - logsumexp(values, b=chosen, axis=1) + np.log(chosen.sum(axis=1))


@dataclass(frozen=True)
class Bavaria(_Shadow):
    """Log-density of the user's log-odds with the user minus without, where both variances are uncertain.

    A normal-inverse-gamma prior, made from known users' shadows, meets the user's own few shadows: the predictive
    densities are Student's t.
    Source: Brännvall 2026, arXiv 2603.11799 (BaVarIA-t).
    Differs: the prior's mean and its weight are the known users' mean and the ratio of their variance from shadow to
    shadow to that between users; the weight of the prior's variance is fixed.
    Relations: `lira_fixed_variance` as the prior's weight grows, but for the uncertainty of the means.
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
