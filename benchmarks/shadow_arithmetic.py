"""Seconds per shadow-model attack: array arithmetic against the plain loops that its formulas describe.

    python benchmarks/shadow_arithmetic.py [--users 10000] [--population 1000] [--shadows 8]

RMIA compares every user with every held-out user; here by one sort and a binary search. Both ways start from the same
observations, run in the same process and must give the same scores.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable

import numpy as np

from mia_core.attacks.evidence import Evidence, Known
from mia_core.attacks.lira import LiraOnline
from mia_core.attacks.shadow import Rmia
from mia_core.observe.observations import TOKEN_FIELDS, Observations

WINDOWS = 4
TOKENS = 4
SLOPE = 0.9
"""RMIA's a."""


def simulated(users: int, shadows: int, seed: int) -> tuple[Evidence, np.ndarray]:
    """(evidence on users with four windows of four tokens, who was trained on)."""
    rng = np.random.default_rng(seed)
    tokens = users * WINDOWS * TOKENS
    owner = np.repeat(np.arange(users), WINDOWS * TOKENS)
    level, member = rng.normal(-3, 0.5, tokens), rng.random(users) < 0.5
    inside = np.zeros((users, shadows), dtype=bool)
    for k in range(0, shadows - 1, 2):
        inside[:, k] = rng.random(users) < 0.5
        inside[:, k + 1] = ~inside[:, k]

    def seen(trained: np.ndarray) -> Observations:
        values = {name: np.zeros(tokens, np.float32) for name in TOKEN_FIELDS}
        noisy = level + 0.3 * trained[owner] + rng.normal(0, 0.2, tokens)
        values["log_probability"] = np.minimum(noisy, -0.01).astype(np.float32)
        return Observations(
            offsets=np.arange(0, tokens + 1, TOKENS),
            token=np.zeros(tokens, np.int32),
            hidden=np.zeros((users * WINDOWS, 1, 1), np.float32),
            **values,
        )

    views = {"target": seen(member), **{f"shadow {k}": seen(inside[:, k]) for k in range(shadows)}}
    names = tuple(str(user) for user in range(users))
    return Evidence(names, np.repeat(np.arange(users), WINDOWS), views, shadow_in=inside), member


def levels(evidence: Evidence, view: str, statistic: Callable[[float], float]) -> list[float]:
    """Each user's statistic, window by window and token by token."""
    observed = evidence.views[view]
    log_p, offsets = observed.log_probability.tolist(), observed.offsets.tolist()
    windows: list[list[float]] = [[] for _ in evidence.users]
    for i, user in enumerate(evidence.user_index.tolist()):
        tokens = log_p[offsets[i] : offsets[i + 1]]
        windows[user].append(statistic(sum(tokens) / len(tokens)))
    return [sum(values) / len(values) for values in windows]


def log_odds(log_p: float) -> float:
    """Log-odds of a probability given by its logarithm."""
    return log_p - math.log(1 - math.exp(log_p))


def sides(
    evidence: Evidence, statistic: Callable[[float], float]
) -> tuple[list[float], list[list[float]], list[list[float]]]:
    """Each user's statistic under the target, in the shadows with them, and in those without."""
    assert evidence.shadow_in is not None
    count = evidence.shadow_in.shape[1]
    columns = [levels(evidence, f"shadow {k}", statistic) for k in range(count)]
    coins = evidence.shadow_in.tolist()
    within = [[columns[k][u] for k in range(count) if row[k]] for u, row in enumerate(coins)]
    outside = [[columns[k][u] for k in range(count) if not row[k]] for u, row in enumerate(coins)]
    return levels(evidence, "target", statistic), within, outside


def lira_in_loops(audited: Evidence, known: Known) -> list[float]:
    """Difference of two Gaussian log-densities, user by user."""
    _, within, outside = sides(known.evidence, log_odds)
    spreads = [statistics.pstdev(x for user in side for x in user) for side in (within, outside)]
    scores = []
    for x, mine, others in zip(*sides(audited, log_odds), strict=True):
        densities = []
        for values, spread in zip((mine, others), spreads, strict=True):
            z = (x - sum(values) / len(values)) / spread
            densities.append(-0.5 * z * z - math.log(spread))
        scores.append(densities[0] - densities[1])
    return scores


def rmia_in_loops(audited: Evidence, known: Known) -> list[float]:
    """Every user against every held-out user."""

    def ratios(evidence: Evidence) -> list[float]:
        found = []
        for x, _, others in zip(*sides(evidence, lambda log_p: log_p), strict=True):
            mean = sum(math.exp(value) for value in others) / len(others)
            found.append(math.exp(x) / (0.5 * ((1 + SLOPE) * mean + 1 - SLOPE)))
        return found

    population = [ratio for ratio, member in zip(ratios(known.evidence), known.member, strict=True) if not member]
    scores = []
    for own in ratios(audited):
        beaten = 0
        for other in population:
            if own / other > 1:
                beaten += 1
        scores.append(beaten / len(population))
    return scores


def main() -> None:
    """Times both ways, checks that they agree, and prints their ratio."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--population", type=int, default=1_000, help="held-out users that RMIA compares with")
    parser.add_argument("--shadows", type=int, default=8)
    arguments = parser.parse_args()
    evidence, member = simulated(arguments.users + 2 * arguments.population, arguments.shadows, 0)
    audited = evidence.take(np.arange(arguments.users))
    at = np.arange(arguments.users, len(evidence.users))
    known = Known(evidence.take(at), member[at])
    pairs = [
        ("RMIA", Rmia(a=SLOPE), rmia_in_loops),
        ("LiRA", LiraOnline(), lira_in_loops),
    ]
    print(f"{arguments.users} users × {WINDOWS} windows, {arguments.shadows} shadows, {(~known.member).sum()} held out")
    for name, attack, loops in pairs:
        seconds = []
        for _ in range(3):
            started = time.perf_counter()
            scores = attack.score(audited, known)
            seconds.append(time.perf_counter() - started)
        started = time.perf_counter()
        expected = loops(audited, known)
        slow = time.perf_counter() - started
        np.testing.assert_allclose(scores, expected, rtol=1e-9, atol=1e-9)
        fast = min(seconds)
        print(f"{name}: {fast:.3f} s as arrays, {slow:.1f} s in loops, ratio {slow / fast:.0f}, same scores")


if __name__ == "__main__":
    main()
