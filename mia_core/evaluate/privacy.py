"""How private was the training, at best? Lower bounds on epsilon for the inclusion of one user.

A training is (ε, δ)-private for users if with and without any one of them every outcome has probabilities P ≤ exp(ε)·Q + δ.
An attack that succeeds too often refutes small ε. A low bound says that this attack found little, never that ε is small.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import optimize, special, stats

from mia_core.evaluate.intervals import binomial_interval

LEVELS = (0.0, 0.01, 0.05, 0.2)
"""False positive rates at which thresholds are tried."""
SHARES = (0.02, 0.1, 0.4)
"""Shares of all users who are guessed, half of them members, half of them held out."""
LARGEST = 50.0
"""No bound is searched for above this epsilon."""


class EpsilonBound(NamedTuple):
    """With this confidence, epsilon is at least so large."""

    epsilon: float
    """0: the attack refutes nothing."""
    delta: float
    confidence: float
    n: int
    """Users it rests on."""
    sentence: str


def epsilon_clopper_pearson(
    scores: np.ndarray,
    is_member: np.ndarray,
    delta: float,
    confidence: float,
    rng: np.random.Generator,
    threshold: float | None = None,
) -> EpsilonBound:
    """Lower bound from exact limits of TPR and FPR: ε ≥ log((TPR − δ)/FPR).

    Formula: epsilon >= log((TPR_low - delta) / FPR_high), exact limits, Bonferroni over thresholds
    Args:
        scores: (n,) higher = likelier member; NaN ones are left out.
        is_member: (n,) the truth.
        delta: of the privacy definition.
        confidence: of the bound.
        rng: orders equal scores at random.
        threshold: fixed on other users; users at or above it are called members. None: the score of the held-out user at
            the rank of each of `LEVELS`, with a Bonferroni correction for trying several.
    Source: Jagielski, Ullman & Oprea 2020, arXiv 2006.07709; Nasr et al. 2021, arXiv 2101.04535.
    Differs: users of one training run stand for runs, as if their scores were independent given who was a member.
        `epsilon_one_run` needs no such assumption. The limit of the FPR above a held-out user of fixed rank is exact
        too: the tail beyond an order statistic has a Beta distribution.
    Fails: A low bound is no evidence of safety: another attack may do better, and few users cap it.
    """
    scores, is_member = np.asarray(scores, dtype=float), np.asarray(is_member, dtype=bool)
    scored = ~np.isnan(scores)
    ranks = np.full(len(scores), math.nan)
    ranks[scored] = _random_ranks(scores[scored], rng)
    members, held_out = ranks[scored & is_member], np.sort(ranks[scored & ~is_member])[::-1]
    m, n = len(members), len(held_out)
    if m == 0 or n == 0:
        return _bound(0.0, delta, confidence, m + n, "there were no users of both kinds")
    if threshold is None:
        alarms = sorted({min(math.floor(level * n + 1e-9), n - 1) for level in LEVELS})
        counts = [(int((members > held_out[alarm]).sum()), alarm) for alarm in alarms]
    else:
        above = scores[scored] >= threshold
        counts = [(int((above & is_member[scored]).sum()), int((above & ~is_member[scored]).sum()))]
    # Both limits of one threshold share its risk, each one-sided.
    two_sided = 1 - (1 - confidence) / len(counts)
    found = []
    for hits, alarm in counts:
        tpr, fpr = binomial_interval(hits, m, two_sided)[0], binomial_interval(alarm, n, two_sided)[1]
        found.append((math.log((tpr - delta) / fpr) if tpr > delta else 0.0, hits, alarm))
    epsilon, hits, alarm = max(found)
    return _bound(
        epsilon,
        delta,
        confidence,
        m + n,
        f"{hits:,} of {m:,} members and {alarm:,} of {n:,} held-out users were flagged",
    )


def epsilon_one_run(
    scores: np.ndarray,
    is_member: np.ndarray,
    delta: float,
    confidence: float,
    rng: np.random.Generator,
    candidates: Sequence[tuple[int, int]] | None = None,
) -> EpsilonBound:
    """Lower bound from guesses about the users of one training run, each included by its own fair coin.

    Formula: epsilon = the smallest with P(Binomial(r, e^epsilon / (1 + e^epsilon)) >= v) + a term in delta >= 1 -
        confidence, v of r guesses right
    Args:
        scores: (n,) higher = likelier member; NaN ones are never guessed.
        is_member: (n,) the truth.
        delta: of the privacy definition.
        confidence: of the bound.
        rng: orders equal scores at random.
        candidates: how many users to guess as members (the highest) and as held-out (the lowest), chosen without looking at
            `is_member`; several are corrected for by Bonferroni. None: `SHARES` of the users, half of them at each end.
    Source: Steinke, Nasr & Jagielski, NeurIPS 2023, arXiv 2305.08846, theorem 5.2.
    Fails: A low bound is no evidence of safety; it needs fair, independent coins.
    """
    return _best_of_guesses(scores, is_member, delta, confidence, rng, candidates, epsilon_of_guesses)


def epsilon_f_dp(
    scores: np.ndarray,
    is_member: np.ndarray,
    delta: float,
    confidence: float,
    rng: np.random.Generator,
    candidates: Sequence[tuple[int, int]] | None = None,
) -> EpsilonBound:
    """As `epsilon_one_run`, if the training is Gaussian-private: tighter, but only then.

    Formula: mu = the smallest for which v right guesses of r are not too surprising; epsilon(delta) of the Gaussian
        mechanism with that mu
    Args:
        scores: as in `epsilon_one_run`; so are all others.
        delta: above 0: no Gaussian mechanism is private with δ = 0.
    Source: Mahloujifar, Melis & Chaudhuri, ICML 2025, arXiv 2410.22235; epsilon of a Gaussian mechanism: Balle & Wang, ICML
        2018, arXiv 1805.06530.
    Relations: the bound holds for trainings whose trade-off curve is that of a Gaussian mechanism, such as (nearly) DP-SGD.
    Fails: It holds only if the training is Gaussian-private; else it may be too high.
    """

    def bound(correct: int, guesses: int, users: int, delta: float, confidence: float) -> float:
        return gaussian_epsilon(mu_of_guesses(correct, guesses, users, confidence), delta)

    return _best_of_guesses(scores, is_member, delta, confidence, rng, candidates, bound)


def epsilon_of_guesses(correct: int, guesses: int, users: int, delta: float, confidence: float) -> float:
    """Smallest ε under which so many correct guesses about users of one run are not too surprising.

    Args:
        correct: right guesses.
        guesses: right and wrong ones.
        users: with a coin of their own, guessed or not.
        delta: of the privacy definition.
        confidence: of the bound.
    Source: see `epsilon_one_run`.
    """
    risk = 1 - confidence
    fewer = np.arange(1, correct + 1)

    def surprise(epsilon: float) -> float:
        right = special.expit(epsilon)
        tail = stats.binom.sf(correct - 1, guesses, right)
        # P[correct − i ≤ W < correct], for i = 1, 2, …
        shifted = np.cumsum(stats.binom.pmf(correct - fewer, guesses, right))
        return float(tail + 2 * users * delta * np.max(shifted / fewer, initial=0.0)) - risk

    if guesses == 0 or surprise(0.0) >= 0:
        return 0.0
    return float(optimize.brentq(surprise, 0.0, LARGEST))


def mu_of_guesses(correct: int, guesses: int, users: int, confidence: float) -> float:
    """Smallest μ of a Gaussian mechanism under which so many correct guesses are not too surprising.

    Source: see `epsilon_f_dp`.
    """
    if guesses == 0 or correct == 0:
        return 0.0
    low, high = np.zeros(1), np.full(1, LARGEST)
    for _ in range(3):
        grid = np.linspace(low[0], high[0], 65)
        possible = _explains(grid, correct, guesses, users, 1 - confidence)
        first = int(possible.argmax()) if possible.any() else len(grid) - 1
        low, high = grid[[max(first - 1, 0)]], grid[[first]]
    return float(low[0])


def _explains(mu: np.ndarray, correct: int, guesses: int, users: int, risk: float) -> np.ndarray:
    """Whether each μ allows so many correct guesses with probability `risk`.

    `right` and `wrong` are the smallest possible shares of users who are guessed rightly (wrongly) while at least i guesses
    are right. To change one user's coin turns a right guess into a wrong one, and no chance may shrink by more than μ allows.
    """
    right = np.full(len(mu), risk * correct / users)
    wrong = np.full(len(mu), risk * (guesses - correct) / users)
    for i in range(correct - 1, -1, -1):
        before = wrong
        wrong = np.maximum(before, special.ndtr(special.ndtri(right) - mu))
        right = right + i / (guesses - i) * (wrong - before)
    return right + wrong <= guesses / users


def gaussian_epsilon(mu: float, delta: float) -> float:
    """ε at this δ of a Gaussian mechanism whose noise is 1/μ of its sensitivity."""
    if mu <= 0 or delta <= 0:
        return 0.0 if mu <= 0 else math.inf

    def excess(epsilon: float) -> float:
        return float(
            special.ndtr(mu / 2 - epsilon / mu) - math.exp(epsilon + special.log_ndtr(-mu / 2 - epsilon / mu)) - delta
        )

    if excess(0.0) <= 0:
        return 0.0
    most = mu * mu / 2 + mu * float(-special.ndtri(min(delta, 0.5)))
    return float(optimize.brentq(excess, 0.0, most + 1))


def _best_of_guesses(
    scores: np.ndarray,
    is_member: np.ndarray,
    delta: float,
    confidence: float,
    rng: np.random.Generator,
    candidates: Sequence[tuple[int, int]] | None,
    bound: Callable[[int, int, int, float, float], float],
) -> EpsilonBound:
    scores, is_member = np.asarray(scores, dtype=float), np.asarray(is_member, dtype=bool)
    users = len(scores)
    scored = np.flatnonzero(~np.isnan(scores))
    descending = is_member[scored[np.argsort(-_random_ranks(scores[scored], rng))]]
    if candidates is None:
        halves = sorted({math.ceil(share * len(scored) / 2) for share in SHARES})
        candidates = [(half, half) for half in halves if 2 * half <= len(scored)]
    if not candidates or sum(max(candidates, key=sum)) > len(scored):
        return _bound(0.0, delta, confidence, len(scored), "there were fewer scored users than guesses")
    each = 1 - (1 - confidence) / len(candidates)
    found = []
    for highest, lowest in candidates:
        correct = int(descending[:highest].sum()) + lowest - int(descending[len(scored) - lowest :].sum())
        found.append((bound(correct, highest + lowest, users, delta, each), correct, highest + lowest))
    epsilon, correct, guesses = max(found)
    return _bound(epsilon, delta, confidence, users, f"{correct:,} of {guesses:,} guesses were right")


def _random_ranks(scores: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Ranks from 0, lowest first, equal scores in random order: never in the file's, which may depend on membership."""
    order = np.lexsort((rng.random(len(scores)), scores))
    ranks = np.empty(len(scores))
    ranks[order] = np.arange(len(scores))
    return ranks


def _bound(epsilon: float, delta: float, confidence: float, n: int, why: str) -> EpsilonBound:
    if epsilon > 0:
        most = f"epsilon for the inclusion of one user is at least {epsilon:.2f} (delta = {delta:g})"
        sentence = f"With {100 * confidence:g}% confidence, {most}: {why}. A low bound is no evidence of safety."
    else:
        sentence = f"No epsilon above 0 follows: {why}. That is no evidence of safety."
    return EpsilonBound(max(epsilon, 0.0), delta, confidence, n, sentence)
