"""The figures of an attack, each with an interval over users, or with the reason why there is none."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
import polars as pl

from mia_core.evaluate.discoveries import precision_at_recall
from mia_core.evaluate.intervals import auc_interval, binomial_interval, combined_interval, fpr_limit, tpr_interval
from mia_core.seeds import generator
from mia_core.types import Metric

FPR_LEVELS = (0.001, 0.01, 0.05, 0.1)
RECALLS = (0.1, 0.5, 0.9)
THRESHOLD_METRICS = ("accuracy", "balanced_accuracy", "precision", "recall", "f1")


class Resampling(Protocol):
    """How intervals are made; `experiment.Evaluation` is one."""

    @property
    def resamples(self) -> int: ...

    @property
    def confidence(self) -> float: ...


class Figure(NamedTuple):
    """A value with its limits, and how many users it rests on; or why there is none. Fields as in `Metric`."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    reason: str = ""
    fpr_limit: float | None = None


def attack_metrics(
    attack: str,
    scores: np.ndarray,
    is_member: np.ndarray,
    threshold: float | None,
    evaluation: Resampling,
    seed: int,
) -> list[Metric]:
    """Every figure of one attack on users whose membership is known only here.

    Args:
        attack: its name.
        scores: (n,) one per user, higher = likelier member; NaN = could not be scored, left out of every figure.
        is_member: (n,) the truth.
        threshold: fixed on other users (see `best_threshold`); users at or above it are called members. None: the
            figures that need one have no value.
        evaluation: resamples and confidence of the intervals.
        seed: of the experiment.
    Returns:
        auc, accuracy, balanced_accuracy, precision, recall, f1, tpr_at_fpr_0.001, …_0.01, …_0.05, …_0.1,
        precision_at_recall_0.1, …_0.5, …_0.9, in this order. Each TPR has the upper limit of its FPR beside it.
    """
    members, held_out = _groups(scores, is_member)
    absent = _absent(members, held_out)
    names = ["auc", *THRESHOLD_METRICS, *(f"tpr_at_fpr_{level:g}" for level in FPR_LEVELS)]
    names += [f"precision_at_recall_{recall:g}" for recall in RECALLS]
    if absent:
        nothing = Figure(None, None, None, len(members) + len(held_out), absent)
        return [Metric(attack, name, *nothing) for name in names]
    auc = Figure(*auc_interval(members, held_out, evaluation.confidence), len(members) + len(held_out))
    at_threshold = _figures_at_threshold(members, held_out, threshold, evaluation.confidence)
    at_levels = [_tpr_at_fpr(members, held_out, level, evaluation, seed) for level in FPR_LEVELS]
    rng = generator(seed, "precision")
    at_recalls = [
        Figure(row.value, row.low, row.high, row.flagged)
        for row in precision_at_recall(scores, is_member, evaluation.resamples, evaluation.confidence, rng, RECALLS)
    ]
    figures = [auc, *at_threshold, *at_levels, *at_recalls]
    return [Metric(attack, name, *figure) for name, figure in zip(names, figures, strict=True)]


def users_needed(level: float) -> int:
    """Held-out users, none of them a false positive, that bound the FPR by `level` with 95% confidence."""
    return math.ceil(math.log(0.05) / math.log(1 - level))


def smallest_fpr(held_out: int) -> float:
    """The smallest FPR that so many held-out users can resolve; the inverse of `users_needed`."""
    return 1 - 0.05 ** (1 / held_out) if held_out else 1.0


def best_threshold(scores: np.ndarray, is_member: np.ndarray) -> float | None:
    """The threshold with the best balanced accuracy, midway between two scores; None without users of both kinds.

    Formula: t* = the t that maximises (P(s >= t | known member) + P(s < t | known held-out)) / 2
    Args:
        scores: (n,) of users whose membership the auditor knows; NaN ones are left out.
        is_member: (n,) their membership.
    Returns:
        the highest of the best thresholds: users at or above it are called members.
    Fails: Few known users make it rough, and balanced accuracy minds false alarms as little as misses.
    """
    members, held_out = _groups(scores, is_member)
    if _absent(members, held_out):
        return None
    values = np.unique(np.concatenate([members, held_out]))[::-1]
    upper, lower = values[:-1], values[1:]
    with np.errstate(over="ignore", invalid="ignore"):
        middle = upper / 2 + lower / 2
    # Between neighbouring (or infinite) numbers there is no middle: the upper one then divides them just as well.
    middle = np.where((middle > lower) & (middle <= upper), middle, upper)
    candidates = np.concatenate([[np.nextafter(values[0], np.inf)], middle, values[-1:]])
    hits = len(members) - np.searchsorted(np.sort(members), candidates)
    alarms = len(held_out) - np.searchsorted(np.sort(held_out), candidates)
    return float(candidates[np.argmax(hits * len(held_out) - alarms * len(members))])


def roc_table(
    scores: np.ndarray, is_member: np.ndarray, resamples: int, confidence: float, seed: int, points: int = 200
) -> pl.DataFrame:
    """The ROC curve, thinned, with a pointwise interval on the TPR; empty without users of both kinds.

    Args:
        scores: (n,) one per user; NaN ones are left out.
        is_member: (n,) the truth.
        resamples: bootstrap resamples.
        confidence: of the interval at each point.
        seed: of the experiment.
        points: the most rows.
    Returns:
        fpr, tpr, low, high, false_positives. Each row holds the highest TPR with so many false positives (the upper
        corner of its step), from none to all; the low end is kept whole, the rest at even steps. Tied users are never
        split, so counts that fall inside a tie have no row.
    """
    schema = {"fpr": pl.Float64, "tpr": pl.Float64, "low": pl.Float64, "high": pl.Float64, "false_positives": pl.Int64}
    members, held_out = _groups(scores, is_member)
    if _absent(members, held_out):
        return pl.DataFrame(schema=schema)
    _, tied = np.unique(-held_out, return_counts=True)
    possible = np.concatenate([[0], np.cumsum(tied)])
    counts = possible[_thin(len(possible), points)]
    rng = generator(seed, "roc")
    # Half a user more: the threshold lies between the last user above it and the next.
    levels = np.minimum((counts + 0.5) / len(held_out), 1)
    tpr, low, high = tpr_interval(members, held_out, levels, resamples, confidence, rng)
    columns = {"fpr": counts / len(held_out), "tpr": tpr, "low": low, "high": high, "false_positives": counts}
    return pl.DataFrame(columns, schema=schema)


def _thin(size: int, points: int) -> np.ndarray:
    if size <= points:
        return np.arange(size)
    first = np.arange(points // 4)
    curved = np.geomspace(points // 4, size - 1, points // 4).round().astype(int)
    even = np.linspace(0, size - 1, points - len(first) - len(curved)).round().astype(int)
    return np.unique(np.concatenate([first, curved, even]))


def _groups(scores: np.ndarray, is_member: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scores, is_member = np.asarray(scores, dtype=float), np.asarray(is_member, dtype=bool)
    scored = ~np.isnan(scores)
    return scores[scored & is_member], scores[scored & ~is_member]


def _absent(members: np.ndarray, held_out: np.ndarray) -> str:
    missing = [name for name, group in (("member", members), ("held-out user", held_out)) if len(group) == 0]
    return f"no {' and no '.join(missing)} could be scored" if missing else ""


def _figures_at_threshold(
    members: np.ndarray, held_out: np.ndarray, threshold: float | None, confidence: float
) -> list[Figure]:
    m, n = len(members), len(held_out)
    if threshold is None:
        reason = "no threshold was fixed: that needs known members and known held-out users with scores"
        return [Figure(None, None, None, m + n, reason)] * len(THRESHOLD_METRICS)
    hits, right = int((members >= threshold).sum()), int((held_out < threshold).sum())
    flagged = hits + n - right
    recall, specificity = (hits, m), (right, n)

    def balanced_accuracy(tpr: float, tnr: float) -> float:
        return (tpr + tnr) / 2

    def f1(tpr: float, tnr: float) -> float:
        return 2 * tpr * m / (m + tpr * m + (1 - tnr) * n)

    def rate(successes: int, trials: int) -> Figure:
        return Figure(successes / trials, *binomial_interval(successes, trials, confidence), trials)

    def combined(figure: Callable[[float, float], float]) -> Figure:
        return Figure(figure(hits / m, right / n), *combined_interval(figure, recall, specificity, confidence), m + n)

    return [
        rate(hits + right, m + n),
        combined(balanced_accuracy),
        rate(hits, flagged) if flagged else Figure(None, None, None, 0, "no user reached the threshold"),
        rate(hits, m),
        combined(f1),
    ]


def _tpr_at_fpr(members: np.ndarray, held_out: np.ndarray, level: float, evaluation: Resampling, seed: int) -> Figure:
    n = len(held_out)
    needed = users_needed(level)
    if n < needed:
        reason = f"an FPR of {100 * level:g}% needs {needed:,} held-out users to be resolved; {n:,} could be scored"
        return Figure(None, None, None, len(members) + n, reason)
    rng = generator(seed, "tpr", f"{level:g}")
    tpr, low, high = tpr_interval(
        members, held_out, np.array([level]), evaluation.resamples, evaluation.confidence, rng
    )
    limit = fpr_limit(held_out, level, evaluation.confidence)
    return Figure(float(tpr[0]), float(low[0]), float(high[0]), len(members) + n, fpr_limit=limit)
