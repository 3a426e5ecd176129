"""Whether a distribution has one mode or several."""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import numpy as np
import polars as pl

from mia_core.seeds import generator
from mia_core.types import Role

FEWEST = 8
LARGEST_SIMULATED = 400
"""Above this size the dip times the square root of n hardly changes its distribution."""
SIMULATIONS = 1_000


class Dip(NamedTuple):
    """Outcome of a test for one mode."""

    statistic: float
    """Largest distance to the nearest distribution with one mode, from 1/(2n) to 1/4; NaN with fewer than 8 values."""
    p_value: float
    """How often values with a single mode lie as far away; NaN with fewer than 8 values."""
    n: int


def dip_test(values: np.ndarray) -> Dip:
    """Tests whether values come from a distribution with a single mode; NaN values are left out.

    Formula: dip = sup |F_n - nearest unimodal F|; p from uniform samples of the same size
    Source: Hartigan & Hartigan, The Dip Test of Unimodality, Annals of Statistics 13 (1985).
    Differs: the p-value is simulated, 1,000 times, from the uniform distribution (the least favourable with one mode, so the test
        is conservative) of the same size, or of size 400 on the scale of the square root of n.
    Fails: It says that there is more than one mode, not how many nor why.
    """
    values = np.asarray(values, dtype=float)
    values = values[~np.isnan(values)]
    n = len(values)
    if n < FEWEST:
        return Dip(math.nan, math.nan, n)
    statistic = dip(values)
    size = min(n, LARGEST_SIMULATED)
    simulated = _uniform_dips(size) * math.sqrt(size / n)
    reached = int((simulated >= statistic * (1 - 1e-12)).sum())
    return Dip(statistic, (1 + reached) / (1 + SIMULATIONS), n)


def dip(values: np.ndarray) -> float:
    """Largest distance between the empirical distribution and the nearest one with a single mode and without steps.

    Relations: a modal interval shrinks around the mode; left of it the nearest distribution follows the greatest convex
        minorant, right of it the least concave majorant of the empirical one.
    Args:
        values: (n,) at least one, none NaN.
    """
    x, counts = np.unique(np.asarray(values, dtype=float), return_counts=True)
    upto = np.cumsum(counts) / counts.sum()
    below = upto - counts / counts.sum()
    # A distribution without steps misses every step by half of it.
    largest = float(counts.max() / counts.sum())
    low, high = 0, len(x) - 1
    while low < high:
        minorant = _hull(x, below, low, high, convex=True)
        majorant = _hull(x, upto, low, high, convex=False)
        knots = np.union1d(minorant, majorant)
        under = np.interp(x[knots], x[minorant], below[minorant])
        over = np.interp(x[knots], x[majorant], upto[majorant])
        widest = int(np.argmax(over - under))
        if over[widest] - under[widest] <= largest:
            break
        knot = knots[widest]
        # The modal interval goes from a knot of the minorant to one of the majorant, both next to the widest place.
        left, right = minorant[minorant <= knot][-1], majorant[majorant >= knot][0]
        before, after = np.arange(low, left + 1), np.arange(right, high + 1)
        rise = upto[before] - np.interp(x[before], x[minorant], below[minorant])
        fall = np.interp(x[after], x[majorant], upto[majorant]) - below[after]
        largest = max(largest, float(rise.max()), float(fall.max()))
        if (left, right) == (low, high):
            break
        low, high = int(left), int(right)
    return largest / 2


def _hull(x: np.ndarray, height: np.ndarray, low: int, high: int, *, convex: bool) -> np.ndarray:
    """Knots of the greatest convex minorant, or the least concave majorant, of points low to high."""
    knots: list[int] = []
    for k in range(low, high + 1):
        while len(knots) > 1:
            a, b = knots[-2:]
            turn = _turn(x, height, a, b, k)
            if (turn > 0) if convex else (turn < 0):
                break
            knots.pop()
        knots.append(k)
    return np.array(knots)


def _turn(x: np.ndarray, height: np.ndarray, a: int, b: int, c: int) -> float:
    """Positive where the way from a over b to c bends upward."""
    return float((height[c] - height[b]) * (x[b] - x[a]) - (height[b] - height[a]) * (x[c] - x[b]))


@cache
def _uniform_dips(n: int) -> np.ndarray:
    rng = generator(0, "uniform dips", n)
    return np.array([dip(rng.random(n)) for _ in range(SIMULATIONS)])


def holm(p_values: np.ndarray) -> np.ndarray:
    """(n,) p-values that hold for all tests together; NaN ones stay out.

    Source: Holm, Scandinavian Journal of Statistics 6 (1979).
    """
    p_values = np.asarray(p_values, dtype=float)
    tested = np.flatnonzero(~np.isnan(p_values))
    order = tested[np.argsort(p_values[tested], kind="stable")]
    adjusted = p_values.copy()
    factors = len(order) - np.arange(len(order))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(factors * p_values[order]))
    return adjusted


def modes_of_features(features: pl.DataFrame) -> pl.DataFrame:
    """model, feature, group, dip, p_value (Holm's, over all tests of the table), n: the dip test of each distribution over users.

    Members and held-out users apart, because together they have two modes wherever an attack works.

    Args:
        features: user, role, model, feature, value.
    """
    groups = {
        "members": [str(role) for role in Role if role.member],
        "held-out users": [str(role) for role in Role if role.member is False],
    }
    rows = [
        (
            model,
            feature,
            group,
            *dip_test(part.filter(pl.col("role").is_in(roles))["value"].fill_null(math.nan).to_numpy()),
        )
        for (model, feature), part in features.group_by(["model", "feature"], maintain_order=True)
        for group, roles in groups.items()
    ]
    kinds = {"model": pl.String, "feature": pl.String, "group": pl.String}
    figures = {"dip": pl.Float64, "p_value": pl.Float64, "n": pl.Int64}
    table = pl.DataFrame(rows, schema={**kinds, **figures}, orient="row")
    return table.with_columns(pl.Series("p_value", holm(table["p_value"].to_numpy()))).fill_nan(None)
