"""Has a model forgotten? Models that unlearned some users beside models that were trained without them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import optimize, stats

FEWEST_SEEDS = 5
"""Of five models of each kind 1 exchange of labels in 126 is as telling as the true one; of three, 1 in 10."""
MOST_EXCHANGES = 5_000
MOST_SEEDS, MOST_USERS = 100, 100_000
"""More than these are not advised."""

Verdict = Literal["forgotten", "not forgotten", "over-forgotten", "undecided"]


@dataclass(frozen=True)
class Contrast:
    """A difference of two means over models and users, with what chance in either adds to its variance."""

    value: float
    of_users: float
    of_seeds: tuple[float, float]
    """Of the models on either side."""
    freedom: tuple[int, int, int]
    """Users, models of the first and of the second side, each less one."""

    @property
    def error(self) -> float:
        """Standard error."""
        return math.sqrt(self.of_users + sum(self.of_seeds))

    @property
    def degrees(self) -> float:
        """Degrees of freedom of the error, by Welch and Satterthwaite."""
        parts = zip((self.of_users, *self.of_seeds), self.freedom, strict=True)
        spread = sum(variance**2 / max(1, freedom) for variance, freedom in parts)
        return self.error**4 / spread if spread > 0 else math.inf

    def reach(self, confidence: float) -> float:
        """Half the width of a two-sided interval."""
        return float(stats.t.ppf(0.5 + confidence / 2, self.degrees)) * self.error

    def p_above(self) -> float:
        """How often a true difference of at most 0 would look so large."""
        if self.error == 0:
            return 0.0 if self.value > 0 else 1.0
        return float(stats.t.sf(self.value / self.error, self.degrees))

    def p_below(self) -> float:
        """How often a true difference of at least 0 would look so small."""
        return Contrast(-self.value, self.of_users, self.of_seeds, self.freedom).p_above()


def contrast(first: np.ndarray, second: np.ndarray, *, of_these: bool = False) -> Contrast:
    """Mean of the first less mean of the second.

    Args:
        first: (models, n_users) scores.
        second: (models, n_users) scores of the same users by other, independent models.
        of_these: the claim is about these users; otherwise it is about users like them, too.
    Returns:
        the difference. A training, not a score, is one observation: its variance is that between models. Where users are
        a sample as well, that between users is added; with one user there is none.
    Differs: chance in single scores is part of both variances and so counts twice, which errs on the safe side.
    """
    by_user = first.mean(axis=0) - second.mean(axis=0)
    n = len(by_user)
    levels = first.mean(axis=1), second.mean(axis=1)
    return Contrast(
        float(by_user.mean()),
        float(by_user.var(ddof=1)) / n if n > 1 and not of_these else 0.0,
        (float(levels[0].var(ddof=1)) / len(first), float(levels[1].var(ddof=1)) / len(second)),
        (n - 1, len(first) - 1, len(second) - 1),
    )


def exchange_test(first: np.ndarray, second: np.ndarray, rng: np.random.Generator) -> float:
    """p-value of two sets of models being of one kind: how often would labels given at random part them as well?

    Args:
        first: (models, n_users) scores.
        second: (models, n_users) scores of the same users by other, independent models.
        rng: draws relabellings where there are too many to try all.
    Returns:
        exact: at most α with probability α where both kinds are one, however users differ and hang together.
    Source: energy distance: Székely & Rizzo, InterStat 2004; permutation of its labels as there.
    """
    everybody = np.concatenate([first, second])
    m, n = len(first), len(everybody)
    distance = np.linalg.norm(everybody[:, None] - everybody[None], axis=-1)
    if math.comb(n, m) <= MOST_EXCHANGES:
        chosen = np.array(list(itertools.combinations(range(n), m)))
    else:
        drawn = rng.permuted(np.tile(np.arange(n), (MOST_EXCHANGES - 1, 1)), axis=1)[:, :m]
        chosen = np.vstack([np.arange(m), drawn])
    labels = np.zeros((len(chosen), n))
    np.put_along_axis(labels, chosen, 1.0, axis=1)
    # Mean of the distances between the two, twice, less those within either.
    weights = labels / m - (1 - labels) / (n - m)
    statistic = -np.einsum("pi,ij,pj->p", weights, distance, weights, optimize=True)
    # The first relabelling is the true one. Sums in another order may differ in the last digits.
    return float((statistic >= statistic[0] - 1e-9 * distance.max()).mean())


def unevenness(first: np.ndarray, second: np.ndarray) -> float:
    """Standard deviation between users of what two kinds of models differ by, beyond chance between models of one kind."""
    if first.shape[1] < 2:
        return 0.0
    (one, one_noise), (other, other_noise) = (
        (centred.mean(axis=0), centred.var(axis=0, ddof=1) / len(centred)) for centred in map(_centred, (first, second))
    )
    excess = ((one - other) ** 2).sum() - (one_noise + other_noise).sum()
    return math.sqrt(max(0.0, float(excess)) / (first.shape[1] - 1))


def _centred(scores: np.ndarray) -> np.ndarray:
    centred: np.ndarray = scores - scores.mean(axis=1, keepdims=True)
    return centred


@dataclass(frozen=True)
class Judgement:
    """Whether models have forgotten some users, and what that rests on."""

    verdict: Verdict
    uneven: bool
    """Not forgotten because single users stand out by more, either way, than all do on average."""
    users: int
    seeds: int
    margin: float
    """So large a share of the memory may be left, fixed beforehand."""
    alpha: float
    memory: float
    """How much higher models score these users that were trained on them than ones that were not: what is to be forgotten."""
    memory_low: float
    memory_high: float
    difference: float
    """How much higher models that unlearned them do; below 0: lower."""
    low: float
    high: float
    """Limits at 1 − α, as those of the memory: of these users, over trainings."""
    left: float | None
    """The difference as a share of the memory; None where there is no memory to speak of."""
    left_low: float | None
    left_high: float | None
    """Limits at 1 − 2α, those of two one-sided tests, over users and trainings; None: none on this side."""
    p_equivalent: float
    """Of both one-sided tests against the margin: how often would a model outside of it look so much like forgetting?"""
    p_above: float
    p_below: float
    p_exchange: float
    """How often would exchanged labels part unlearned from retrained models so well, in whatever way?"""
    spread: float
    """Between users, of what is left of the memory: a standard deviation, in the unit of the scores."""
    p_spread: float
    seeds_needed: int | None = None
    """Where undecided: so many would decide, if what was seen stays as it is; None: no number of them would."""
    users_needed: int | None = None


def judge(
    unlearned: np.ndarray,
    retrained: np.ndarray,
    original: np.ndarray,
    *,
    margin: float,
    alpha: float,
    rng: np.random.Generator,
) -> Judgement:
    """Compares models that unlearned some users with models that were trained without them.

    Args:
        unlearned: (seeds, n_users) scores of the forgotten users, higher = likelier member, one row for each training.
        retrained: (seeds, n_users) by models that were trained without these users, independent of the unlearned ones.
        original: (seeds, n_users) by the models that each unlearned one was made from, in the same order.
        margin: what may be left of the memory, original less retrained, as a share of it.
        alpha: chance of a wrong verdict: "forgotten" where more is left than the margin, or any other where the unlearned
            models are of the retrained ones' kind.
        rng: draws relabellings.
    Returns:
        "forgotten": nothing outside the margin is left, by two one-sided tests, nor do single users stand out. It must
        hold for users like these, too.
        "not forgotten" or "over-forgotten": these users score above or below, and it is not equivalent; or, not forgotten,
        single ones stand out by more than the margin.
        "undecided": none of these is established.
    Source: two one-sided tests: Schuirmann, J. Pharmacokinetics and Biopharmaceutics 15 (1987). Against a margin that is a
        share of a difference which is itself estimated: Sasabuchi's test (Hauschke et al., Statistics in Medicine 18, 1999);
        limits: Fieller, JRSS B 16 (1954).
    """

    def beyond(share: float) -> Contrast:
        """What is left beyond a share of the memory: one linear contrast, so that the memory's own error counts."""
        return contrast(unlearned - share * original, (1 - share) * retrained)

    memory = contrast(original, retrained, of_these=True)
    difference = contrast(unlearned, retrained, of_these=True)
    p_equivalent = max(beyond(margin).p_below(), beyond(-margin).p_above())
    spread, p_spread = unevenness(unlearned, retrained), 1.0
    if retrained.shape[1] > 1:
        p_spread = exchange_test(_centred(unlearned), _centred(retrained), rng)
    # Two ways to be called not forgotten share the chance of being called so wrongly.
    above, below = difference.p_above() <= alpha / 2, difference.p_below() <= alpha / 2
    uneven = p_spread <= alpha / 2 and spread > margin * max(0.0, memory.value)
    equivalent = p_equivalent <= alpha
    verdict: Verdict
    if uneven and (equivalent or spread > abs(difference.value)):
        verdict = "not forgotten"
    elif equivalent:
        verdict = "forgotten"
    elif above or below:
        verdict, uneven = "not forgotten" if above else "over-forgotten", False
    else:
        verdict = "not forgotten" if uneven else "undecided"
    left, left_low, left_high = _share_left(beyond, memory, 1 - 2 * alpha)
    seeds_needed, users_needed = (None, None)
    if verdict == "undecided":
        allowed = margin * memory.value
        seeds_needed, users_needed = _needed(beyond(0), allowed, alpha, len(unlearned), unlearned.shape[1])
    return Judgement(
        verdict=verdict,
        uneven=uneven,
        users=unlearned.shape[1],
        seeds=len(unlearned),
        margin=margin,
        alpha=alpha,
        memory=memory.value,
        memory_low=memory.value - memory.reach(1 - alpha),
        memory_high=memory.value + memory.reach(1 - alpha),
        difference=difference.value,
        low=difference.value - difference.reach(1 - alpha),
        high=difference.value + difference.reach(1 - alpha),
        left=left,
        left_low=left_low,
        left_high=left_high,
        p_equivalent=p_equivalent,
        p_above=difference.p_above(),
        p_below=difference.p_below(),
        p_exchange=exchange_test(unlearned, retrained, rng),
        spread=spread,
        p_spread=p_spread,
        seeds_needed=seeds_needed,
        users_needed=users_needed,
    )


def _share_left(
    beyond: Callable[[float], Contrast], memory: Contrast, confidence: float
) -> tuple[float | None, float | None, float | None]:
    """The likeliest share of the memory that is left, and limits between which none is refuted."""
    if memory.value <= memory.reach(confidence):
        return None, None, None
    likeliest = beyond(0).value / memory.value

    def limit(way: int) -> float | None:
        def refuted(share: float) -> float:
            found = beyond(share)
            return -way * found.value - found.reach(confidence)

        step = 0.1
        while refuted(likeliest + way * step) <= 0:
            step *= 2
            if step > 1e4:
                return None
        return float(optimize.brentq(refuted, likeliest, likeliest + way * step))

    return likeliest, limit(-1), limit(1)


def _needed(
    difference: Contrast, allowed: float, alpha: float, seeds: int, users: int
) -> tuple[int | None, int | None]:
    """How many seeds alone, or users alone, would decide if estimates and variances stay what they are."""
    by_seeds, by_users, off = sum(difference.of_seeds), difference.of_users, abs(difference.value)
    one_sided, two_sided = (float(stats.norm.ppf(1 - level)) for level in (alpha, alpha / 2))

    def decided(by_users: float, by_seeds: float) -> bool:
        return (
            one_sided * math.sqrt(by_users + by_seeds) < allowed - off  # forgotten
            or two_sided * math.sqrt(by_seeds) < off  # or standing out
        )

    some = (s for s in range(seeds + 1, MOST_SEEDS + 1) if decided(by_users, by_seeds * seeds / s))
    sizes = np.unique(np.geomspace(users + 1, MOST_USERS, 400).astype(int)).tolist() if users < MOST_USERS else []
    more = (n for n in sizes if decided(by_users * users / n, by_seeds))
    return next(some, None), next(more, None)
