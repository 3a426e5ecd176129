"""Intervals over users, each chosen for right coverage where the figure lies near 0 or 1."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy import special, stats

Interval = tuple[float, float]


def binomial_interval(successes: int, trials: int, confidence: float) -> Interval:
    """Exact limits of a rate; (0, 1) without trials.

    Formula: limits p with P(X >= k | n, p) = alpha / 2 and P(X <= k | n, p) = alpha / 2
    Source: Clopper & Pearson, Biometrika 26 (1934).
    Relations: conservative for a sum of unlike coins, such as accuracy over two classes of fixed size (Hoeffding 1956).
    Fails: It is wide: never less sure than it says, often more.
    """
    if trials == 0:
        return 0.0, 1.0
    interval = stats.binomtest(successes, trials).proportion_ci(confidence, method="exact")
    return float(interval.low), float(interval.high)


def combined_interval(
    figure: Callable[[float, float], float], first: tuple[int, int], second: tuple[int, int], confidence: float
) -> Interval:
    """Limits of a figure that grows with each of two independent rates.

    Args:
        figure: the figure as a function of both rates, non-decreasing in each.
        first: successes and trials of the first rate.
        second: successes and trials of the second rate.
        confidence: of the interval.
    Source: Zou & Donner, Statistics in Medicine 27 (2008): variances recovered from each rate's limits.
    Differs: from exact limits of each rate, and for figures that are not sums.
    """
    (low_1, high_1), (low_2, high_2) = (binomial_interval(*rate, confidence) for rate in (first, second))
    rate_1, rate_2 = first[0] / first[1], second[0] / second[1]
    value = figure(rate_1, rate_2)
    below = math.hypot(value - figure(low_1, rate_2), value - figure(rate_1, low_2))
    above = math.hypot(value - figure(high_1, rate_2), value - figure(rate_1, high_2))
    return max(0.0, value - below), min(1.0, value + above)


def auc_interval(members: np.ndarray, held_out: np.ndarray, confidence: float) -> tuple[float, float, float]:
    """AUC (ties count one half) and its limits.

    Formula: AUC = P(s_member > s_held_out) + P(equal) / 2
    Args:
        members: scores of the members, at least one, none NaN.
        held_out: scores of the held-out users, at least one, none NaN.
        confidence: of the interval.
    Source: DeLong, DeLong & Clarke-Pearson, Biometrics 44 (1988), by mid-ranks (Sun & Xu 2014), on the logit scale.
    Differs: the lower limit comes no nearer to 1 (nor the upper one to 0) than a perfect separation of so many users
        allows. There the estimated variance is 0, though as much as z²/(n + z²) of the smaller group may still lie on
        the wrong side: Wilson's limit with the largest variance an AUC can have, AUC·(1 − AUC) / min(m, n) (Birnbaum &
        Klose 1957). Simulated coverage of 95% intervals: 94% to 98%, 90% at worst (one member in a thousand is unlike
        the others).
    Fails: A mean over all thresholds: a high AUC can go with nobody found at a false-alarm rate that matters to a
        named person.
    """
    m, n = len(members), len(held_out)
    ranks = stats.rankdata(np.concatenate([members, held_out]))
    wins = (ranks[:m] - stats.rankdata(members)) / n
    losses = (ranks[m:] - stats.rankdata(held_out)) / m
    auc = float(wins.mean())
    z = float(stats.norm.ppf(0.5 + confidence / 2))
    variance = wins.var(ddof=1) / m + losses.var(ddof=1) / n if min(m, n) > 1 else 0.0
    if variance == 0 or auc in (0, 1):
        return auc, *_wilson(auc, min(m, n), z)
    ceiling, _ = _wilson(1, min(m, n), z)
    half = z * math.sqrt(variance) / (auc * (1 - auc))
    low, high = special.expit(special.logit(auc) + np.array([-half, half]))
    return auc, min(float(low), ceiling), max(float(high), 1 - ceiling)


def _wilson(rate: float, trials: int, z: float) -> Interval:
    weight = z * z / trials
    half = math.sqrt(weight * rate * (1 - rate) + weight * weight / 4)
    centre = rate + weight / 2
    low, high = (centre - half) / (1 + weight), (centre + half) / (1 + weight)
    return max(0.0, min(rate, low)), min(1.0, max(rate, high))


def tpr_interval(
    members: np.ndarray,
    held_out: np.ndarray,
    levels: np.ndarray,
    resamples: int,
    confidence: float,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Largest TPR at an FPR of at most each level, and its limits.

    Formula: TPR at f = the largest P(s >= t | member) over thresholds t with at most f of the held-out users at or
        above t
    Args:
        members: m scores, none NaN.
        held_out: n scores, none NaN.
        levels: (k,) each from 0 to 1: at most floor(level·n) held-out users lie above the threshold; ties are never split.
        resamples: random thresholds and rates behind each interval.
        confidence: of each interval (pointwise).
        rng: draws them.
    Returns:
        (k,) rates, lower limits and upper limits.
    Source: TPR at a low FPR: Carlini et al., S&P 2022, arXiv 2112.03570, §III.
    Differs: the threshold is chosen anew in each resample, and that without sorting it. How many of n held-out users lie above
        the threshold whose true FPR is the level is binomial, so that threshold lies between the two scores at this
        rank; the lower limit takes the upper one, the upper limit the lower one. The members' rate there is drawn from
        its Beta distribution (Jeffreys), which, unlike resampling members, does not shrink to a point at 0 or 1.
        Simulated coverage of 95% intervals: 94% to 99%.
    Fails: With n held-out users nothing is known below about 3 / n; what they cannot resolve has no value.
    """
    m, n = len(members), len(held_out)
    descending = np.sort(held_out)[::-1]
    # passed[j]: members above the j-th highest held-out user; with all n let pass, every member is above.
    passed = np.append(m - np.searchsorted(np.sort(members), descending, side="right"), m)
    # The small number keeps 0.29 × 100 = 28.999… from being floored to 28.
    rates = passed[np.floor(levels * n + 1e-9).astype(int)] / m
    above = rng.binomial(n, np.minimum(levels, 1.0), (resamples, len(rates)))
    fewest, most = passed[np.maximum(above - 1, 0)], passed[above]
    tail = (1 - confidence) / 2
    lows = np.quantile(rng.beta(fewest + 0.5, m - fewest + 0.5), tail, axis=0)
    highs = np.quantile(rng.beta(most + 0.5, m - most + 0.5), 1 - tail, axis=0)
    lows[levels >= 1] = 1.0
    return rates, np.minimum(lows, rates), np.maximum(highs, rates)


def fpr_limit(held_out: np.ndarray, level: float, confidence: float) -> float:
    """One-sided upper limit of the true FPR at the threshold behind `tpr_interval` at this level.

    Formula: the f with P(at most k of n held-out users at or above t | f) = 1 - confidence
    Args:
        held_out: n scores, none NaN.
        level: from 0 to below 1.
        confidence: that the limit is not exceeded.
    Source: Clopper & Pearson, Biometrika 26 (1934).
    Relations: exact though the same users chose the threshold: the share of all users above the (k + 1)-th highest of n
        scores is Beta(k + 1, n − k), whose quantile this limit is. With ties k is random; simulated coverage of 95%
        limits is then 93% to 100%.
    Fails: It holds for a threshold that was fixed on other users.
    """
    n = len(held_out)
    threshold = np.sort(held_out)[n - 1 - math.floor(level * n + 1e-9)]
    alarms = int((held_out > threshold).sum())
    return float(stats.binomtest(alarms, n, alternative="less").proportion_ci(confidence, method="exact").high)


def mean_interval(values: np.ndarray, confidence: float, resamples: int, seed: int) -> tuple[float, float, float]:
    """Mean over users and its limits: exact for hits and misses, else the bootstrap; NaN values are left out.

    Formula: mean over users; limits: exact for hits and misses, else quantiles of resampled means
    Returns:
        mean, low, high; all NaN when no value is left.
    Fails: With a handful of users resampling is too sure of itself.
    """
    values = np.asarray(values, dtype=float)
    values = values[~np.isnan(values)]
    if values.size == 0:
        return math.nan, math.nan, math.nan
    mean = float(values.mean())
    if np.isin(values, (0.0, 1.0)).all():
        return (mean, *binomial_interval(int(values.sum()), values.size, confidence))
    if values.min() == values.max():
        return mean, mean, mean
    result = stats.bootstrap(
        (values,),
        np.mean,
        confidence_level=confidence,
        n_resamples=resamples,
        batch=max(1, 2_000_000 // values.size),
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return mean, float(result.confidence_interval.low), float(result.confidence_interval.high)
