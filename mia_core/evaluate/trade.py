"""What a change of the target buys and costs: the same figures before and after it, on the same users, over several seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Interval = tuple[float, float, float]
"""(value, low, high); NaN where there is none."""


@dataclass(frozen=True)
class Outcome:
    """One target under one seed: what its attack said of the audited users, and how well it recommends."""

    scores: np.ndarray
    """(n,) of the audited users, higher = likelier member; NaN: could not be scored."""
    member: np.ndarray
    """(n,) bool, the truth."""
    recommended: np.ndarray
    """(m,) a figure of recommendation quality for each ranked user; NaN where a user has none."""


def leakage(
    before: Sequence[Outcome],
    after: Sequence[Outcome],
    level: float,
    *,
    resamples: int,
    confidence: float,
    rng: np.random.Generator,
) -> dict[str, tuple[Interval, Interval]]:
    """How much membership shows after a change, and how much more that is than before.

    Args:
        before: the unchanged target under each seed.
        after: the changed one under the same seeds, on the same users in the same order.
        level: the share of held-out users that may be flagged wrongly.
        resamples: of the bootstrap: seeds first, then users within each, the same ones before and after.
        confidence: of the limits.
        rng: draws the resamples.
    Returns:
        (figure after, figure after minus before) of auc, tpr (detections at `level`), and exposed: detections among the
        tenth of the members that stood out most before.
    """
    drawn: dict[str, list[np.ndarray]] = {"auc": [], "tpr": [], "exposed": []}
    for old, new in zip(before, after, strict=True):
        scored = ~(np.isnan(old.scores) | np.isnan(new.scores))
        members, held_out = np.flatnonzero(scored & old.member), np.flatnonzero(scored & ~old.member)
        # The first row is the users themselves.
        rows_m = np.vstack([members, rng.choice(members, (resamples, len(members)))])
        rows_h = np.vstack([held_out, rng.choice(held_out, (resamples, len(held_out)))])
        exposed = np.zeros(len(old.scores), dtype=bool)
        exposed[members[np.argsort(-old.scores[members], kind="stable")[: max(1, len(members) // 10)]]] = True
        found = [_figures(one.scores, rows_m, rows_h, exposed, level) for one in (old, new)]
        for name in drawn:
            drawn[name].append(np.stack([figures[name] for figures in found]))
    return {name: _over_seeds(np.stack(values), confidence, rng) for name, values in drawn.items()}


def usefulness(
    before: Sequence[Outcome],
    after: Sequence[Outcome],
    *,
    resamples: int,
    confidence: float,
    rng: np.random.Generator,
) -> tuple[Interval, Interval]:
    """(mean figure of quality after a change, after minus before), resampled as in `leakage`; NaN where nobody has one."""
    drawn = []
    for old, new in zip(before, after, strict=True):
        ranked = np.flatnonzero(~(np.isnan(old.recommended) | np.isnan(new.recommended)))
        if not len(ranked):
            nothing = (math.nan, math.nan, math.nan)
            return nothing, nothing
        rows = np.vstack([ranked, rng.choice(ranked, (resamples, len(ranked)))])
        drawn.append(np.stack([old.recommended[rows].mean(axis=1), new.recommended[rows].mean(axis=1)]))
    return _over_seeds(np.stack(drawn), confidence, rng)


def detections(scores: np.ndarray, member: np.ndarray, level: float) -> np.ndarray:
    """(n,) bool: who is flagged where at most a share `level` of the held-out users may be; ties are never split."""
    scored = ~np.isnan(scores)
    threshold = _threshold(scores[scored & ~member][None], level)[0, 0]
    flagged: np.ndarray = scored & (np.nan_to_num(scores, nan=-np.inf) > threshold)
    return flagged


def _figures(
    scores: np.ndarray, rows_m: np.ndarray, rows_h: np.ndarray, exposed: np.ndarray, level: float
) -> dict[str, np.ndarray]:
    """(resamples + 1,) each."""
    members, held_out = scores[rows_m], np.sort(scores[rows_h], axis=1)
    flagged = members > _threshold(held_out, level)
    inside = exposed[rows_m]
    with np.errstate(invalid="ignore"):
        return {
            "auc": np.array([_auc(mine, others) for mine, others in zip(members, held_out, strict=True)]),
            "tpr": flagged.mean(axis=1),
            "exposed": (flagged & inside).sum(axis=1) / inside.sum(axis=1),
        }


def _threshold(held_out: np.ndarray, level: float) -> np.ndarray:
    """(rows, 1) the score that a flagged user must surpass."""
    allowed = min(held_out.shape[1] - 1, math.floor(level * held_out.shape[1] + 1e-9))
    return np.sort(held_out, axis=1)[:, -1 - allowed][:, None]


def _auc(members: np.ndarray, held_out: np.ndarray) -> float:
    below = np.searchsorted(held_out, members, "left") + np.searchsorted(held_out, members, "right")
    return float(below.mean() / (2 * len(held_out)))


def _over_seeds(values: np.ndarray, confidence: float, rng: np.random.Generator) -> tuple[Interval, Interval]:
    """((seeds, 2, 1 + resamples) before and after) -> (after, after minus before), each a mean over seeds with limits."""
    seeds, _, columns = values.shape
    chosen = rng.integers(seeds, size=(columns - 1, seeds))
    # For each resample other seeds, and of each of these its own resample of users.
    resampled = values[:, :, 1:][chosen, :, np.arange(columns - 1)[:, None]].mean(axis=1)
    after, difference = resampled[:, 1], resampled[:, 1] - resampled[:, 0]
    point = values[:, :, 0].mean(axis=0)
    tail = (1 - confidence) / 2
    limits = [np.nanquantile(column, [tail, 1 - tail]) for column in (after, difference)]
    told = (point[1], point[1] - point[0])
    first, second = ((float(value), float(low), float(high)) for value, (low, high) in zip(told, limits, strict=True))
    return first, second
