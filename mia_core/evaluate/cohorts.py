"""Users in groups of like users, each group with a real user in its middle."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
from sklearn_extra.cluster import CLARA, KMedoids

LARGEST_WHOLE = 5_000
"""More users are grouped by samples of them: all their distances at once would not fit."""
SAMPLE = 1_000
FARTHEST = 4.0
"""In standard deviations: nobody is so unlike the others that they would be a cohort of their own."""


class Cohorts(NamedTuple):
    """Who belongs together."""

    cohort: np.ndarray
    """(n,) from 0, the largest first."""
    exemplars: np.ndarray
    """(k,) the place of each cohort's exemplar among the rows."""


def standardised(values: np.ndarray) -> np.ndarray:
    """(n, d') columns of mean 0 and deviation 1, no further out than `FARTHEST`; constant columns are left out."""
    spread = values.std(axis=0)
    varied = values[:, spread > 1e-12]
    return np.clip((varied - varied.mean(axis=0)) / spread[spread > 1e-12], -FARTHEST, FARTHEST)


def k_medoids(points: np.ndarray, k: int, seed: int) -> Cohorts:
    """The grouping in which users lie near the exemplar of their cohort, by the sum of Euclidean distances.

    Args:
        points: (n, d) finite numbers on a common scale.
        k: cohorts; fewer come back where there are fewer different rows.
        seed: draws the samples where there are more than `LARGEST_WHOLE` rows.
    Source: Kaufman & Rousseeuw, Finding Groups in Data (1990): PAM, and CLARA for many rows; with scikit-learn-extra.
    Differs: CLARA's samples are of 1,000 rows instead of 40 + 2k.
    """
    k = min(k, len(np.unique(points, axis=0))) if len(points) <= LARGEST_WHOLE else k
    if k < 2:
        return Cohorts(np.zeros(len(points), int), np.array([_nearest_to_all(points)] if len(points) else [], int))
    if len(points) > LARGEST_WHOLE:
        model = CLARA(k, n_sampling=SAMPLE, random_state=seed % 2**31)
    else:
        model = KMedoids(k, method="pam", init="build", random_state=seed % 2**31)
    with warnings.catch_warnings():
        # It warns of empty cohorts, which are left out below.
        warnings.simplefilter("ignore")
        model.fit(points)
    used, cohort, sizes = np.unique(model.labels_, return_inverse=True, return_counts=True)
    order = np.argsort(-sizes, kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return Cohorts(place[cohort], np.asarray(model.medoid_indices_)[used][order])


def _nearest_to_all(points: np.ndarray) -> int:
    return int(np.linalg.norm(points - np.median(points, axis=0), axis=1).argmin())
