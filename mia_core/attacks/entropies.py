"""Attacks that look at how much the target hesitates at the answer's tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mia_core.attacks.evidence import Evidence
from mia_core.attacks.logit_attack import LogitAttack, lowest_mean
from mia_core.errors import ConfigError

RENYI = "Li et al. 2024, arXiv 2411.02902"
NEARLY_CERTAIN = float(np.float32(1 - 1e-7))
"""Largest p of which log(1 − p) is taken; the observations sum p·log(1 − p) up to the same bound."""


@dataclass(frozen=True)
class Entropy(LogitAttack):
    """Minus the mean entropy of the target's next-token distribution at the answer's tokens.

    Formula: s(u) = mean over windows and tokens of sum_v p_v log p_v
    Source: Shokri et al. 2017, arXiv 1610.05820 (prediction uncertainty).
    Fails: It never looks at the true answer: what everybody is answered alike, such as popular items, scores high.
    """

    title: ClassVar[str] = "Entropy"
    summary: ClassVar[str] = "How little the model hesitates between answers."
    source: ClassVar[str] = "Shokri et al. 2017, arXiv 1610.05820"

    def sample_scores(self, evidence: Evidence) -> np.ndarray:
        """(n_samples,) minus the mean entropy, nats."""
        return -evidence.views["target"].sample_mean("entropy")


@dataclass(frozen=True)
class ModifiedEntropy(LogitAttack):
    """Minus the mean modified entropy, which is zero for certainty in the true token and infinite in a wrong one.

    Formula: s(u) = mean over tokens of (1 - p_y) log p_y + sum over v != y of p_v log(1 - p_v), y the true token
    Source: Song, Mittal 2021, arXiv 2003.10595: -(1 - p_y) log p_y - sum over the other tokens of p log(1 - p).
    Fails: A single token of which the model is sure and wrong sinks the whole user.
    """

    title: ClassVar[str] = "Modified entropy"
    summary: ClassVar[str] = "How little the model hesitates, where being sure of a wrong answer counts as hesitating."
    source: ClassVar[str] = "Song, Mittal 2021, arXiv 2003.10595"

    def sample_scores(self, evidence: Evidence) -> np.ndarray:
        """(n_samples,) minus the mean modified entropy, nats."""
        target = evidence.views["target"]
        log_p = target.log_probability.astype(np.float64)
        p = np.exp(log_p)
        own = p * np.log1p(-np.minimum(p, NEARLY_CERTAIN))
        # The sum over the vocabulary is in single precision: without the true token it may come out above zero.
        others = np.minimum(0, target.log_complement - own)
        return lowest_mean(target, (1 - p) * log_p + others, share=1)


@dataclass(frozen=True)
class MaxRenyi(LogitAttack):
    """Minus the mean Rényi entropy at the tokens where the target hesitates most, whatever the true token is.

    Formula: H_a(p) = log(sum_v p_v^a) / (1 - a); s(u) = -mean of the highest k% of H_a, at least one token; a = 1/2,
        k = 10
    Source: Li et al. 2024, arXiv 2411.02902 (MaxRényi-K%).
    Differs: order and share are fixed here; the paper reports the best of many and finds no fixed winner.
    Fails: It never looks at the true answer, and no order or share is the best one everywhere.
    """

    order: float = 0.5
    """Order of the entropy: 0.5, 1, 2 or infinity; lower orders mind unlikely tokens more."""
    share: float = 0.1
    """Share of an answer's tokens that count, at least one."""

    title: ClassVar[str] = "MaxRényi-K%"
    summary: ClassVar[str] = "How little the model hesitates where it hesitates most."
    source: ClassVar[str] = RENYI

    def __post_init__(self) -> None:
        if self.order not in (0.5, 1, 2, np.inf):
            raise ConfigError(f"max_renyi.order is {self.order}; it must be 0.5, 1, 2 or infinity")

    def sample_scores(self, evidence: Evidence) -> np.ndarray:
        """(n_samples,) minus the mean of the highest entropies, nats."""
        target = evidence.views["target"]
        if self.order == np.inf:
            return lowest_mean(target, np.log(target.top_probability), self.share)
        entropy = {0.5: target.renyi_half, 1: target.entropy, 2: target.renyi_two}[self.order]
        return lowest_mean(target, -entropy, self.share)


@dataclass(frozen=True)
class ModRenyi(LogitAttack):
    """Minus the mean modified Rényi entropy, which takes the true token into account.

    Formula: a = |order - 1|; s(u) = mean over tokens of [(1 - p_y)(p_y^a - 1) + sum over v != y of p_v((1 - p_v)^a -
        1)] / a
    Source: Li et al. 2024, arXiv 2411.02902 (ModRényi): with a = |order - 1|, minus 1/a times
    (1 - p_y) (p_y^a - 1) plus the sum over the other tokens of p ((1 - p)^a - 1).
    Relations: tends to `modified_entropy` as the order tends to 1.
    Fails: It needs the whole distribution, and for long titles it follows `modified_entropy` so closely that it adds
        nothing.
    """

    order: float = 0.5
    """Order of the entropy: 0.5 or 2."""

    title: ClassVar[str] = "ModRényi"
    summary: ClassVar[str] = "How little the model hesitates on the way to the true answer, with bounded penalties."
    source: ClassVar[str] = RENYI

    def __post_init__(self) -> None:
        if self.order not in (0.5, 2):
            raise ConfigError(f"mod_renyi.order is {self.order}; it must be 0.5 or 2 (1 is modified_entropy)")

    def sample_scores(self, evidence: Evidence) -> np.ndarray:
        """(n_samples,) minus the mean modified entropy."""
        target = evidence.views["target"]
        a = abs(self.order - 1)
        p = np.exp(target.log_probability.astype(np.float64))
        # Sum over the vocabulary of p (1 - p)^a; for order 2 that is one minus the sum of squares.
        everywhere = target.root_complement if self.order == 0.5 else -np.expm1(-target.renyi_two)
        others = (everywhere - p * (1 - p) ** a) - (1 - p)
        return lowest_mean(target, ((1 - p) * (p**a - 1) + others) / a, share=1)
