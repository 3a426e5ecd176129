"""Naming users: whom may one name, how many of the named are wrong, and what does a flag mean for one person?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from mia_core.evaluate.intervals import binomial_interval, tpr_interval


class Resolution(NamedTuple):
    """What so many calibration users allow."""

    fewest: int | None
    """Fewest users that can be named at all; None: nobody can be."""
    sentence: str


class Ratio(NamedTuple):
    """How many times likelier members are flagged than held-out users, with limits."""

    value: float
    low: float
    high: float


class Posterior(NamedTuple):
    """Probability that a flagged user is a member, for one prior."""

    prior: float
    value: float
    low: float
    high: float
    sentence: str


class Precision(NamedTuple):
    """Share of members among the top-ranked users that hold so many of all members."""

    recall: float
    value: float
    low: float
    high: float
    flagged: int
    """Users in this top."""


def benjamini_hochberg(p: np.ndarray, q: float) -> np.ndarray:
    """Whom to name so that on average at most a share q of the named are wrong.

    Formula: name the k smallest p-values, k the largest with p_(k) <= q k / m
    Args:
        p: (m,) p-values; users without one (NaN) are not named and do not count.
        q: the false discovery rate, above 0 and at most 1.
    Returns:
        (m,) True for named users.
    Source: Benjamini & Hochberg, JRSS B 57 (1995); right for conformal p-values: Bates et al., Annals of Statistics 51
        (2023), arXiv 2104.08279, theorem 2.
    Fails: It bounds an average over many lists, not how many of this list are wrong; with few calibration users
        nobody can be named.
    """
    p = np.asarray(p, dtype=float)
    ordered = np.sort(p[~np.isnan(p)])
    # The small number keeps 3/20 from exceeding 0.05 · 3 by a rounding error.
    passing = np.flatnonzero(ordered <= q * np.arange(1, len(ordered) + 1) / max(len(ordered), 1) + 1e-12)
    named = np.zeros(p.shape, dtype=bool)
    if len(passing):
        named = p <= ordered[passing[-1]]
    return named


def smallest_namable(n_calibration: int, m_users: int, q: float) -> Resolution:
    """Fewest users that Benjamini–Hochberg can name: k of m need a smallest p-value 1/(n+1) of at most qk/m.

    Args:
        n_calibration: held-out users that each user is compared with.
        m_users: users who are judged.
        q: the false discovery rate.
    """
    fewest = max(1, math.ceil(m_users / (q * (n_calibration + 1)) - 1e-9))
    start = f"With {n_calibration:,} calibration users and a false discovery rate of {100 * q:g}%"
    if m_users == 0 or fewest > m_users:
        return Resolution(None, f"{start}, nobody can be named among {m_users:,} users.")
    if fewest == 1:
        return Resolution(1, f"{start}, single users can be named among {m_users:,}.")
    sentence = f"{start}, at least {fewest:,} of {m_users:,} users must stand out together before any can be named."
    return Resolution(fewest, sentence)


def wrong_at_most(p: np.ndarray, n_calibration: int, confidence: float) -> np.ndarray:
    """How many of the k likeliest members are held-out users, at most: for every k at once.

    Formula: V(k) <= bound for all k at once, with the given confidence, by the joint law of conformal p-values
    Args:
        p: p-values of all judged users against the same calibration users (`calibration.p_values`); NaN ones are left out.
        n_calibration: how many calibration users.
        confidence: that no entry of the answer is too small, whichever k is chosen after looking.
    Returns:
        (m,) at position k − 1: most wrong ones among the k smallest p-values.
    Source: Gazin, Blanchard & Roquain, AISTATS 2024, arXiv 2310.18108 (joint law of conformal p-values); Song, Jin & Candès
        2026, arXiv 2605.20726 (envelope, simultaneous bound); Goeman & Solari, Statistical Science 26 (2011) (any list).
    Differs: the envelope is not simulated: exact limits at thresholds that grow by a quarter from 1/(n+1) on, by Bonferroni.
        What is certain to be a member is taken from the number of held-out users, and the envelope drawn again.
    Fails: The price of holding for every length of the list is a bound that is loose for short ones.
    """
    ordered = np.sort(np.asarray(p, dtype=float))
    ordered = ordered[~np.isnan(ordered)]
    m, n = len(ordered), n_calibration
    if m == 0 or n == 0:
        return np.arange(1, m + 1)
    ranks = np.unique(np.geomspace(1, n, 1 + math.ceil(math.log(n, 1.25))).round().astype(int))
    level = np.searchsorted(ranks, ordered * (n + 1) - 1e-9)
    listed = np.arange(1, m + 1)
    wrong, held_out = listed, m
    while True:
        limits = np.append(_false_positive_limits(ranks, n, held_out, (1 - confidence) / len(ranks)), held_out)
        wrong = np.minimum(listed, limits[level])
        if m - int((listed - wrong).max()) >= held_out:
            break
        held_out = m - int((listed - wrong).max())
    # One more user on the list is at most one more wrong; a shorter list holds no more wrong ones than a longer one.
    wrong = listed - np.maximum.accumulate(listed - wrong)
    return np.minimum.accumulate(wrong[::-1])[::-1]


def _false_positive_limits(ranks: np.ndarray, n: int, held_out: int, risk: float) -> np.ndarray:
    """Most of so many held-out users above the calibration user of each rank: beta-binomial, by exchangeability."""
    counts = np.arange(held_out + 1)[:, None]
    below = np.cumsum(stats.betabinom.pmf(counts, held_out, ranks, n + 1 - ranks), axis=0)
    return np.minimum((below < 1 - risk).sum(axis=0), held_out)


def likelihood_ratio(true_positives: tuple[int, int], false_positives: tuple[int, int], confidence: float) -> Ratio:
    """TPR/FPR at one threshold, fixed beforehand, with limits.

    Formula: LR = P(flag | member) / P(flag | held-out)
    Args:
        true_positives: flagged members and all members.
        false_positives: flagged held-out users and all held-out users.
        confidence: of the limits: exact ones of both rates, by Bonferroni.
    Returns:
        infinite where no held-out user was flagged; NaN where nobody was.
    Fails: Where no held-out user was flagged it has a lower limit only.
    """
    (hits, m), (alarms, n) = true_positives, false_positives
    (tpr_low, tpr_high), (fpr_low, fpr_high) = (
        binomial_interval(*rate, (1 + confidence) / 2) for rate in (true_positives, false_positives)
    )
    value = hits * n / (alarms * m) if alarms and m else math.inf if hits else math.nan
    return Ratio(value, tpr_low / fpr_high, tpr_high / fpr_low if fpr_low else math.inf)


def posterior(prior: float, ratio: Ratio) -> Posterior:
    """Probability that a flagged user is a member, once the reader has chosen how likely that was before.

    Formula: P(member | flag) = prior · LR / (prior · LR + 1 - prior)
    Args:
        prior: probability of membership before the audit, from 0 to 1.
        ratio: of the threshold that flagged the user, see `likelihood_ratio`.
    Source: Bayes. At a TPR of 5%, an FPR of 1% and a prior of 1% it is 4.8%.
    Fails: It is as good as the prior, which no audit can give.
    """
    value, low, high = (_update(prior, factor) for factor in ratio)
    found = "no flagged user to learn from" if math.isnan(value) else f"{100 * value:.3g}%"
    sentence = (
        f"If {100 * prior:g}% of such users are members before the audit, a flagged one is a member with probability {found} "
        f"(limits {100 * low:.3g}% to {100 * high:.3g}%). The {100 * prior:g}% are the reader's choice: no audit can supply them."
    )
    return Posterior(prior, value, low, high, sentence)


def _update(prior: float, ratio: float) -> float:
    if prior in (0, 1):
        return float(prior)
    return 1.0 if ratio == math.inf else ratio * prior / (ratio * prior + 1 - prior)


def precision_at_recall(
    scores: np.ndarray,
    is_member: np.ndarray,
    resamples: int,
    confidence: float,
    rng: np.random.Generator,
    recalls: Sequence[float] = (0.1, 0.5, 0.9),
) -> list[Precision]:
    """Share of members in the smallest top of the ranking that holds a given share of all members.

    Formula: precision at r = members among the top users that hold the share r of all members, over the number of
        these
    Args:
        scores: (n,) higher = likelier member; NaN ones are left out.
        is_member: (n,) the truth.
        resamples: see `tpr_interval`.
        confidence: of each interval.
        rng: see `tpr_interval`.
        recalls: each above 0 and at most 1. Equal scores are never separated.
    Returns:
        one per recall, NaN without users of both kinds. Depends on the share of members among the audited users, here
        about half: among all customers it is lower (see `posterior`).
    Relations: the same limits as the TPR at a fixed FPR, with the two kinds of user exchanged.
    Fails: It is about these users, half of whom are members; among other people with fewer members it is lower.
    """
    scores, is_member = np.asarray(scores, dtype=float), np.asarray(is_member, dtype=bool)
    scored = ~np.isnan(scores)
    members, held_out = scores[scored & is_member], scores[scored & ~is_member]
    m, n = len(members), len(held_out)
    if m == 0 or n == 0:
        return [Precision(recall, math.nan, math.nan, math.nan, 0) for recall in recalls]
    wanted = np.array(recalls, dtype=float)
    _, low_tnr, high_tnr = tpr_interval(-held_out, -members, 1 - wanted, resamples, confidence, rng)
    thresholds = np.sort(members)[::-1][np.ceil(wanted * m - 1e-9).astype(int) - 1]
    rows = []
    for recall, threshold, low, high in zip(recalls, thresholds, low_tnr, high_tnr, strict=True):
        hits, flagged = int((members >= threshold).sum()), int((scores[scored] >= threshold).sum())
        value = hits / flagged
        limits = [recall * m / (recall * m + (1 - tnr) * n) for tnr in (low, high)]
        rows.append(Precision(recall, value, min(value, limits[0]), max(value, limits[1]), flagged))
    return rows
