"""Attacks that compare the target with shadow models, which were trained on random halves of the users.

Coins put users into shadows and are independent of membership. The known users' coins say how much being inside
changes a user's statistic; their membership is used by `rmia` alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

import numpy as np
from scipy.special import logsumexp
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


@dataclass(frozen=True)
class ShadowAttack:
    access: ClassVar[str] = "logits"
    status: ClassVar[str] = HONEST
    passes: ClassVar[str] = "1 on the target, 1 on each shadow"
    needs: ClassVar[frozenset[str]] = frozenset({"shadows"})
    learned: ClassVar[bool] = False


@dataclass(frozen=True)
class ShadowClassifier(ShadowAttack):
    """A classifier that separates users inside from users outside shadow models, applied to the target.

    Formula: s(u) = log-odds that a classifier gives (loss, confidence, entropy)_target, trained on the same features
        of shadow models with labels in / out
    Source: Shokri et al. 2017, arXiv 1610.05820.
    Differs: shadows are trained on random halves of the users by coins that are independent of membership; features
    are loss, confidence and entropy averaged per user, not the output vector. It learns from the known users' coins
    only, so that an audited user's score does not depend on who else is audited.
    Fails: Shadows have to be trained like the target: another recipe, or few shadows, and inside looks like outside.
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
class AttackR(ShadowAttack):
    """Share of shadow models without the user that predict the user worse than the target does.

    Formula: s(u) = share of shadows without the user with log-odds below the target's
    Source: Ye et al. 2022, arXiv 2111.09679 (Attack R: reference models).
    Relations: `lira_offline` with the empirical distribution instead of a Gaussian; few shadows give few levels.
    Fails: With K shadows there are about K / 2 + 1 different scores: ties everywhere, and no low false-alarm rate.
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
class Rmia(ShadowAttack):
    """Share of known held-out users over whom the user has a likelihood ratio above γ.

    A user's ratio is p / p̄, p̄ = ½[(1 + a)·mean p without the user + (1 − a)], on geometric-mean probabilities.
    Formula: L(u) = p_target / ([(1 + a) mean p_out + 1 - a] / 2); s(u) = share of known held-out users z with L(u) /
        L(z) > gamma
    Source: Zarifzadeh et al., ICML 2024, arXiv 2312.03262.
    Differs: averaged over the user's windows; a is fitted where the paper tunes it on a paired model, because the
    values for images (0.3) let 1 − a drown the small probabilities of titles.
    Fails: It compares with the known held-out users: few of them give few levels, others than the audited a wrong
        scale.
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
class BaseShadows(ShadowAttack):
    """Log-likelihood under the target minus the logarithm of the mean likelihood under the shadows.

    Formula: s(u) = log p_target - log(mean over shadows of p_k), p the geometric mean of token probabilities
    Source: Lassila et al. 2025, arXiv 2505.24089 (BASE).
    Differs: geometric-mean token probabilities, averaged over the user's windows, without a temperature.
    Relations: the offline form orders users as `rmia` with a = 1 does.
    Fails: Half of the shadows met the user: the more of them learned the user by heart, the smaller the difference.
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
