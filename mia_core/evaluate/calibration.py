"""From scores to p-values: how rare is a score this high among users whose data were not used?"""

from __future__ import annotations

import math

import numpy as np

FEWEST = 20
"""A stratum with fewer users is joined with others: no p-value in it could fall below 5%."""


def p_values(
    scores: np.ndarray,
    calibration_scores: np.ndarray,
    calibration_index: np.ndarray | None,
    rng: np.random.Generator,
) -> np.ndarray:
    """Conformal p-value of each user: (1 + calibration users with a higher score) / (calibration users + 1).

    Formula: p(u) = (1 + calibration users with s >= s(u)) / (calibration users + 1)
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
    Fails: It holds if the person, were they not a member, were like the calibration users. It is no probability of
        membership, and with n of them no p is below 1 / (n + 1).
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


def mondrian_p_values(
    scores: np.ndarray,
    calibration_scores: np.ndarray,
    stratum: np.ndarray,
    calibration_stratum: np.ndarray,
    calibration_index: np.ndarray | None,
    rng: np.random.Generator,
) -> np.ndarray:
    """Conformal p-value of each user against the calibration users of the same stratum only.

    Formula: p(u) = (1 + calibration users of u's stratum with s >= s(u)) / (calibration users of the stratum + 1)
    Args:
        scores: as in `p_values`.
        calibration_scores: as in `p_values`.
        stratum: (k,) each user's stratum (see `strata`).
        calibration_stratum: (n,) strata of the calibration users.
        calibration_index: as in `p_values`.
        rng: breaks ties.
    Returns:
        (k,) uniform within each stratum for held-out users. Users of a stratum with fewer than `FEWEST` scored
        calibration users are compared with all of them: their p-values are right on average over strata only.
    Source: Vovk, Lindsay, Nouretdinov & Gammerman, "Mondrian confidence machine" (2003); Vovk, Gammerman & Shafer,
        Algorithmic Learning in a Random World (2005), §4.5.
    Relations: equals `p_values` where there is one stratum.
    Fails: A stratum holds few users, so that no p there is small.
    """
    scores, calibration_scores = np.asarray(scores, dtype=float), np.asarray(calibration_scores, dtype=float)
    stratum, calibration_stratum = np.asarray(stratum), np.asarray(calibration_stratum)
    index = np.full(scores.shape, -1) if calibration_index is None else np.asarray(calibration_index)
    scored = ~np.isnan(calibration_scores)
    result = np.full(scores.shape, math.nan)
    for name in np.unique(stratum):
        judged, inside = stratum == name, calibration_stratum == name
        if np.count_nonzero(inside & scored) < FEWEST:
            inside = np.ones_like(inside)
        place = np.where(inside, np.cumsum(inside) - 1, -1)
        own = np.where(index[judged] >= 0, place[index[judged]], -1) if len(place) else None
        result[judged] = p_values(scores[judged], calibration_scores[inside], own, rng)
    return result


def strata(
    history_length: np.ndarray,
    popularity: np.ndarray,
    bins: int = 3,
    fewest: int = FEWEST,
    calibrating: np.ndarray | None = None,
) -> np.ndarray:
    """Stratum of each user: quantile groups of history length and, within each, of popularity.

    Args:
        history_length: (n,) items in the user's history.
        popularity: (n,) mean popularity of these items.
        bins: most groups along either one.
        fewest: a group with fewer users is joined with its neighbour. Equal users are never separated.
        calibrating: (n,) which users are counted for that, such as the calibration users among all judged ones. None: all.
    Returns:
        (n,) integers from 0 without gaps, short histories first, unpopular tastes first within them.
    """
    history_length, popularity = np.asarray(history_length, dtype=float), np.asarray(popularity, dtype=float)
    counted = np.ones(history_length.shape, bool) if calibrating is None else np.asarray(calibrating, bool)
    by_length = _quantile_groups(history_length, bins, fewest, counted)
    by_popularity = np.zeros_like(by_length)
    for group in np.unique(by_length):
        inside = by_length == group
        by_popularity[inside] = _quantile_groups(popularity[inside], bins, fewest, counted[inside])
    return np.unique(by_length * bins + by_popularity, return_inverse=True)[1]


def _quantile_groups(values: np.ndarray, bins: int, fewest: int, counted: np.ndarray) -> np.ndarray:
    if len(values) == 0:
        return np.zeros(0, dtype=int)
    cuts = np.unique(np.quantile(values, np.arange(1, bins) / bins))
    while len(cuts):
        sizes = np.bincount(np.searchsorted(cuts, values[counted]), minlength=len(cuts) + 1)
        smallest = int(sizes.argmin())
        if sizes[smallest] >= fewest:
            break
        cuts = np.delete(cuts, max(smallest - 1, 0))
    return np.searchsorted(cuts, values)


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
