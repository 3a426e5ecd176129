"""What shadow models say of users, window by window and token by token."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from mia_core.attacks.evidence import Evidence

SHADOWS = 4


def keeping(evidence: Evidence, samples: np.ndarray) -> Evidence:
    """The evidence with some windows only."""
    return Evidence(
        evidence.users,
        evidence.user_index[samples],
        {name: evidence.views[name].take(samples) for name in ["target", *(f"shadow {k}" for k in range(SHADOWS))]},
        shadow_in=evidence.shadow_in,
    )


def uneven(evidence: Evidence) -> Evidence:
    """The evidence with one, two or three windows per user."""
    place = np.arange(len(evidence.user_index)) % 3
    return keeping(evidence, np.flatnonzero(place <= evidence.user_index % 3))


def windows(evidence: Evidence, view: str, user: int) -> list[float]:
    """Mean log-probability of each of a user's windows, token by token."""
    observed = evidence.views[view]
    found = []
    for i in range(len(evidence.user_index)):
        if evidence.user_index[i] == user:
            tokens = [float(p) for p in observed.log_probability[observed.offsets[i] : observed.offsets[i + 1]]]
            found.append(sum(tokens) / len(tokens))
    return found


def odds(log_p: float) -> float:
    p = math.exp(log_p)
    return math.log(p / (1 - p))


def level(evidence: Evidence, view: str, user: int, of: Callable[[float], float]) -> float:
    found = windows(evidence, view, user)
    return sum(of(value) for value in found) / len(found) if found else math.nan


def split(evidence: Evidence, user: int, of: Callable[[float], float]) -> tuple[list[float], list[float]]:
    """A user's statistic in each shadow with them, and in each without."""
    assert evidence.shadow_in is not None
    within: list[float] = []
    outside: list[float] = []
    for k in range(SHADOWS):
        (within if evidence.shadow_in[user, k] else outside).append(level(evidence, f"shadow {k}", user, of))
    return within, outside


def scorable(evidence: Evidence) -> list[int]:
    return sorted(set(evidence.user_index.tolist()))
