"""How much the windows of one user, and the seeds of one experiment, have in common."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np


class Spread(NamedTuple):
    """A figure over repeated runs with different seeds."""

    mean: float
    standard_deviation: float
    """Between seeds; NaN for a single one."""
    lowest: float
    highest: float
    seeds: int


def intraclass_correlation(values: np.ndarray, user_index: np.ndarray) -> float:
    """Share of the variance between windows that lies between users.

    Formula: rho = (MS_between - MS_within) / (MS_between + (m - 1) MS_within), m windows per user
    Args:
        values: (n,) score of each window, of held-out users; NaN ones are left out.
        user_index: (n,) its user, an integer.
    Returns:
        at most 1; slightly negative where windows of one user differ as much as those of different users. NaN with
        fewer than two users, without a second window of any user, or without any variance.
    Source: Shrout & Fleiss, Psychological Bulletin 86 (1979), ICC(1,1); users with unequally many windows: Donner & Koval,
        Biometrics 36 (1980).
    Fails: It is estimated on held-out users, and rough where most have one or two windows.
    """
    values, user_index = np.asarray(values, dtype=float), np.asarray(user_index)
    scored = ~np.isnan(values)
    values = values[scored]
    users, place, windows = np.unique(user_index[scored], return_inverse=True, return_counts=True)
    k, n = len(users), len(values)
    if k < 2 or n == k:
        return math.nan
    means = np.bincount(place, values) / windows
    between = float((windows * (means - values.mean()) ** 2).sum()) / (k - 1)
    within = float(((values - means[place]) ** 2).sum()) / (n - k)
    typical = (n - (windows**2).sum() / n) / (k - 1)
    total = between + (typical - 1) * within
    return (between - within) / total if total > 0 else math.nan


def effective_windows(windows: np.ndarray | float, correlation: float) -> np.ndarray:
    """Independent windows that say as much as so many correlated ones.

    Formula: m_eff = m / (1 + (m - 1) rho)
    Args:
        windows: of each user.
        correlation: within a user, see `intraclass_correlation`; a negative estimate counts as 0.
    Returns:
        at most `windows`, and at most 1/correlation.
    Source: Kish, Survey Sampling (1965): the design effect.
    Fails: As good as rho, which is itself an estimate.
    """
    windows = np.asarray(windows, dtype=float)
    return windows / (1 + (windows - 1) * max(correlation, 0.0))


def between_seed_spread(values: np.ndarray) -> Spread:
    """Mean and spread of one figure over runs with different seeds; NaN values are left out.

    Relations: says how much the outcome depends on the split and the training, which an interval over the users of a single run
        does not contain.
    """
    values = np.asarray(values, dtype=float)
    values = values[~np.isnan(values)]
    if values.size == 0:
        return Spread(math.nan, math.nan, math.nan, math.nan, 0)
    deviation = float(values.std(ddof=1)) if values.size > 1 else math.nan
    return Spread(float(values.mean()), deviation, float(values.min()), float(values.max()), values.size)
