"""What a threshold on an attack's score does: whom it calls members, how often rightly, and at what price."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from mia_core.evaluate.intervals import binomial_interval
from mia_core.evaluate.metrics import best_threshold, users_needed
from mia_core.report.results import AuditResult
from mia_core.types import Role

MOST = 240
"""Thresholds that a reader can choose from."""


@dataclass(frozen=True)
class Rate:
    """A share of users with its exact limits; no value where there was nobody to count."""

    value: float | None
    low: float
    high: float
    hits: int
    n: int


@dataclass(frozen=True)
class Called:
    """What one threshold does to users whose truth is known."""

    threshold: float
    precision: Rate
    """Of those who reach it, the members."""
    recall: Rate
    """Of the members, those who reach it."""
    false_alarms: Rate
    """Of the held-out users, those who reach it."""


def with_truth(users: pl.DataFrame, result: AuditResult) -> pl.DataFrame:
    """The users whose truth measures the attacks of this audit, with a column `member`.

    Args:
        users: with a column role; the others stay.
    Returns:
        the audited users; for a target that was brought along the known ones, whose membership alone anybody knows.
    """
    roles = [role for role in Role if role.member is not None and role.known == result.brought]
    member = pl.col("role").is_in([role for role in roles if role.member]).alias("member")
    return users.filter(pl.col("role").is_in(roles)).with_columns(member)


def scores_of(judged: pl.DataFrame, score: str) -> tuple[np.ndarray, np.ndarray]:
    """(scores of the members, scores of the held-out users), each in ascending order, of those who could be scored."""
    members, held_out = (
        judged.filter(pl.col("member") == member)[score].drop_nulls().sort().to_numpy() for member in (True, False)
    )
    return members, held_out


def fixed_threshold(users: pl.DataFrame, score: str) -> float | None:
    """The threshold of the report: the one that divides the known users best, fixed without anybody who is judged."""
    known = users.filter(pl.col("role").is_in([Role.KNOWN_MEMBER, Role.KNOWN_HELD_OUT])).drop_nulls(score)
    return best_threshold(known[score].to_numpy(), (known["role"] == Role.KNOWN_MEMBER).to_numpy())


def thresholds(members: np.ndarray, held_out: np.ndarray) -> np.ndarray:
    """Scores to choose a threshold from, the strictest first: finely spaced where few users reach them."""
    values = np.unique(np.concatenate([members, held_out]))[::-1]
    if len(values) <= MOST:
        return values
    fine = np.geomspace(1, len(values), MOST // 2).astype(int) - 1
    even = np.linspace(0, len(values) - 1, MOST // 2).astype(int)
    return values[np.unique(np.concatenate([fine, even]))]


def call(members: np.ndarray, held_out: np.ndarray, threshold: float, confidence: float) -> Called:
    """Precision, recall and FPR where everybody at or above a threshold is called a member.

    Args:
        members: their scores, ascending.
        held_out: the others' scores, ascending.
        threshold: on the same scale.
        confidence: of the limits, which hold for a threshold that was fixed without these users.
    """
    hits = len(members) - int(np.searchsorted(members, threshold))
    alarms = len(held_out) - int(np.searchsorted(held_out, threshold))
    return Called(
        threshold,
        precision=rate_of(hits, hits + alarms, confidence),
        recall=rate_of(hits, len(members), confidence),
        false_alarms=rate_of(alarms, len(held_out), confidence),
    )


def threshold_at(held_out: np.ndarray, level: float) -> float:
    """The score above which at most this share of held-out users lies; scores above it, not at it, are found.

    Args:
        held_out: their scores, ascending; more than `level` times as many.
    """
    return float(held_out[len(held_out) - 1 - int(np.floor(level * len(held_out) + 1e-9))])


def smallest_level(held_out: int, levels: tuple[float, ...] = (0.05, 0.1)) -> float | None:
    """The first of these FPRs that so many held-out users can resolve; None: neither."""
    return next((level for level in levels if held_out >= users_needed(level)), None)


def rate_of(hits: int, n: int, confidence: float) -> Rate:
    """A share with its exact limits (Clopper-Pearson)."""
    return Rate(hits / n if n else None, *binomial_interval(hits, n, confidence), hits, n)
