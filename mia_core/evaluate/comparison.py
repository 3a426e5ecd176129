"""Attacks beside one another: is the best of them better than chance, and by how much does one beat another?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from scipy import stats

from mia_core.evaluate.intervals import auc_interval

BATCH = 256
"""Permutations held in memory at once."""


class Difference(NamedTuple):
    """How much larger one attack's AUC is than another's, on the same users."""

    value: float
    low: float
    high: float
    n: int


def max_statistic(
    scores_by_attack: Mapping[str, np.ndarray],
    is_member: np.ndarray,
    permutations: int,
    rng: np.random.Generator,
    two_sided: bool = False,
) -> dict[str, float]:
    """Adjusted p-value of each attack: how often would the best of all of them do as well by chance?

    Formula: adjusted p of an attack = P(max over attacks of the standardised AUC under permuted membership >= its
        own)
    Args:
        scores_by_attack: (n,) scores of each attack on the same users, higher = likelier member; NaN ones count neither way.
        is_member: (n,) the truth.
        permutations: of the users' membership; no p-value is below 1/(permutations + 1).
        rng: draws them.
        two_sided: an AUC below 0.5 counts as much as one above.
    Returns:
        one p-value per attack. The chance that any attack without signal falls below α is at most α, however the
        attacks depend on one another. NaN for an attack whose scores are all equal or missing.
    Source: Westfall & Young, Resampling-Based Multiple Testing (1993), single-step maxT.
    Fails: It guards against choosing the best of many; a weak attack among many strong ones has little power.
    """
    is_member = np.asarray(is_member, dtype=bool)
    columns = [_centred_ranks(np.asarray(scores, dtype=float)) for scores in scores_by_attack.values()]
    ranks = np.column_stack([np.zeros((len(is_member), 0)), *columns])
    informative = (ranks != 0).any(axis=0)
    if is_member.all() or not is_member.any() or not informative.any():
        return dict.fromkeys(scores_by_attack, math.nan)
    ranks = ranks[:, informative] / np.sqrt((ranks[:, informative] ** 2).sum(axis=0))

    def statistic(labels: np.ndarray) -> np.ndarray:
        sums = labels.astype(float) @ ranks
        return np.abs(sums) if two_sided else sums

    best = []
    for start in range(0, permutations, BATCH):
        labels = np.tile(is_member, (min(BATCH, permutations - start), 1))
        best.append(statistic(rng.permuted(labels, axis=1)).max(axis=1))
    # Equal statistics may differ in the last digits, for they are sums in another order.
    as_good = np.concatenate(best)[:, None] >= statistic(is_member) - 1e-9
    adjusted = np.full(len(scores_by_attack), math.nan)
    adjusted[informative] = (1 + as_good.sum(axis=0)) / (permutations + 1)
    return dict(zip(scores_by_attack, adjusted.tolist(), strict=True))


def _centred_ranks(scores: np.ndarray) -> np.ndarray:
    ranks = np.zeros(len(scores))
    scored = ~np.isnan(scores)
    ranks[scored] = stats.rankdata(scores[scored]) - (scored.sum() + 1) / 2
    return ranks


def delong_difference(
    scores: np.ndarray, other_scores: np.ndarray, is_member: np.ndarray, confidence: float
) -> Difference:
    """How much larger the AUC of one attack is than that of another, with limits.

    Formula: AUC_1 - AUC_2, limits from those of each and the correlation of their placements
    Args:
        scores: (n,) of the first attack; users whom either attack could not score are left out.
        other_scores: (n,) of the second one, on the same users.
        is_member: (n,) the truth.
        confidence: of the interval.
    Returns:
        the difference and its limits; NaN without users of both kinds.
    Source: correlation of the two AUCs: DeLong, DeLong & Clarke-Pearson, Biometrics 44 (1988). Limits from those of each
        AUC: Zou, Psychological Methods 12 (2007).
    Differs: DeLong's own limits shrink to a point where both attacks separate the users perfectly; these do not.
    Fails: Two attacks near 1 have too little spread for it.
    """
    members, held_out = _scored_by_both(scores, other_scores, is_member)
    n = len(members) + len(held_out)
    if len(members) == 0 or len(held_out) == 0:
        return Difference(math.nan, math.nan, math.nan, n)
    (first, low_1, high_1), (second, low_2, high_2) = (
        auc_interval(members[:, k], held_out[:, k], confidence) for k in (0, 1)
    )
    shared = _correlation(members, held_out)
    value = first - second

    def reach(one: float, other: float) -> float:
        return math.sqrt(max(one**2 - 2 * shared * one * other + other**2, 0.0))

    below, above = reach(first - low_1, high_2 - second), reach(high_1 - first, second - low_2)
    return Difference(value, value - below, value + above, n)


def _scored_by_both(
    scores: np.ndarray, other_scores: np.ndarray, is_member: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(n, 2) scores of the members and of the held-out users whom both could score."""
    both = np.column_stack([scores, other_scores]).astype(float)
    is_member = np.asarray(is_member, dtype=bool)
    scored = ~np.isnan(both).any(axis=1)
    return both[scored & is_member], both[scored & ~is_member]


def _correlation(members: np.ndarray, held_out: np.ndarray) -> float:
    """Of two AUCs on the same users; 0 where either has no variance."""
    m, n = len(members), len(held_out)
    ranks = stats.rankdata(np.concatenate([members, held_out]), axis=0)
    wins = ranks[:m] - stats.rankdata(members, axis=0)
    losses = ranks[m:] - stats.rankdata(held_out, axis=0)
    if min(m, n) < 2:
        return 0.0
    covariance = np.cov(wins.T) / (m * n * n) + np.cov(losses.T) / (n * m * m)
    variances = np.diag(covariance)
    return float(covariance[0, 1] / math.sqrt(variances.prod())) if variances.min() > 0 else 0.0


def tpr_difference(
    scores: np.ndarray,
    other_scores: np.ndarray,
    is_member: np.ndarray,
    level: float,
    confidence: float,
    resamples: int,
    rng: np.random.Generator,
) -> Difference:
    """How much larger a share of the members the first finds than the second, each at its own threshold for one FPR.

    Formula: TPR_1 at f - TPR_2 at f, resampling users, the same ones for both
    Args:
        scores: (n,) of the first; users whom either could not score are left out.
        other_scores: (n,) of the second, on the same users.
        is_member: (n,) the truth.
        level: the share f of held-out users that may be flagged wrongly.
        confidence: of the interval.
        resamples: of the users; each then counts a Poisson number of times, 1 on average.
        rng: draws them.
    Returns:
        the difference and its limits; NaN without users of both kinds.
    Source: Poisson bootstrap: Chamandy et al., Google technical report (2012).
    Fails: Where so few held-out users may be flagged that one of them decides, the limits are wide, and rightly so.
    """
    members, held_out = _scored_by_both(scores, other_scores, is_member)
    n = len(members) + len(held_out)
    if len(members) == 0 or len(held_out) == 0:
        return Difference(math.nan, math.nan, math.nan, n)
    # Sorted once: a resample only changes how often each user counts.
    order = [(np.argsort(-members[:, k]), np.argsort(-held_out[:, k])) for k in (0, 1)]

    def rate(k: int, of_members: np.ndarray, of_held_out: np.ndarray) -> float:
        by_member, by_held_out = order[k]
        alarms = np.cumsum(of_held_out[by_held_out])
        stop = int(np.searchsorted(alarms, math.floor(level * alarms[-1] + 1e-9), side="right"))
        threshold = held_out[by_held_out[min(stop, len(held_out) - 1)], k]
        passed = int(np.searchsorted(-members[by_member, k], -threshold, side="left"))
        weights = of_members[by_member]
        return float(weights[:passed].sum() / max(1, weights.sum()))

    once = np.ones(len(members), np.int64), np.ones(len(held_out), np.int64)
    value = rate(0, *once) - rate(1, *once)
    drawn = []
    for _ in range(resamples):
        counts = rng.poisson(1.0, len(members)), rng.poisson(1.0, len(held_out))
        drawn.append(rate(0, *counts) - rate(1, *counts))
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Difference(value, float(min(low, value)), float(max(high, value)), n)
