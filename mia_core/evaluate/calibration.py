"""From scores to p-values: how rare is a score this high among users whose data were not used?"""

from __future__ import annotations

import math

import numpy as np


def p_values(
    scores: np.ndarray,
    calibration_scores: np.ndarray,
    calibration_index: np.ndarray | None,
    rng: np.random.Generator,
) -> np.ndarray:
    """Conformal p-value of each user: (1 + calibration users with a higher score) / (calibration users + 1).

    Args:
        scores: (k,) higher = likelier member; NaN = could not be scored.
        calibration_scores: (n,) scores of held-out users, scored the same way; NaN ones are left out.
        calibration_index: (k,) each user's own place among the calibration users, -1 for users who are not among them.
            A calibration user is judged against the others, itself left out. None: no user is among them.
        rng: breaks ties at random, so that p-values of held-out users are uniform even where many scores are equal.
    Returns:
        (k,) in [1/(n+1), 1]; NaN for users without a score, or with nobody to be compared with.
    Source: Bates, Candès, Lei, Romano & Sesia, Annals of Statistics 51 (2023), arXiv 2104.08279, eq. 3.
    Differs: ties at random instead of all counted as higher.
    """
    scores = np.asarray(scores, dtype=float)
    calibration_scores = np.asarray(calibration_scores, dtype=float)
    ordered = np.sort(calibration_scores[~np.isnan(calibration_scores)])
    n = np.full(scores.shape, len(ordered))
    reached = np.searchsorted(ordered, scores, side="right")
    higher = n - reached
    tied = reached - np.searchsorted(ordered, scores, side="left")
    if calibration_index is not None:
        own = np.full(scores.shape, math.nan)
        inside = np.asarray(calibration_index) >= 0
        own[inside] = calibration_scores[np.asarray(calibration_index)[inside]]
        n, higher, tied = n - ~np.isnan(own), higher - (own > scores), tied - (own == scores)
    before = rng.integers(0, tied + 1)
    return np.where(np.isnan(scores) | (n == 0), math.nan, (1 + higher + before) / (n + 1))


def conservative_p_value(score: float, calibration_scores: np.ndarray) -> float:
    """Conformal p-value of one user who is not among the calibration users; equal scores count as higher.

    Returns:
        at least 1/(n+1); NaN without a score, or with nobody to be compared with.
    Relations: no chance is involved, so looking up the same history twice gives the same answer; never
        below what `p_values` gives.
    """
    comparable = np.asarray(calibration_scores, dtype=float)
    comparable = comparable[~np.isnan(comparable)]
    if math.isnan(score) or comparable.size == 0:
        return math.nan
    return float((1 + np.count_nonzero(comparable >= score)) / (comparable.size + 1))


def share_below(score: float, calibration_scores: np.ndarray) -> float:
    """Share of calibration users with a lower score; NaN without a score, or with nobody to be compared with."""
    comparable = np.asarray(calibration_scores, dtype=float)
    comparable = comparable[~np.isnan(comparable)]
    if math.isnan(score) or comparable.size == 0:
        return math.nan
    return float(np.mean(comparable < score))
