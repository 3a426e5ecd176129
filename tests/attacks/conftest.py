"""Planted evidence: worlds in which it is known who was trained on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from mia_core.attacks.evidence import Evidence, Known
from mia_core.observe.observations import Observations

WIDTH = 6
FOLDS = 2


def observations(rng: np.random.Generator, user_shift: np.ndarray, user_index: np.ndarray) -> Observations:
    """Random observations in which the log-probability of each sample is raised by its user's shift."""
    lengths = rng.integers(1, 5, len(user_index))
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    shift = np.repeat(user_shift[user_index], lengths)
    total = int(offsets[-1])
    log_probability = np.minimum(-0.01, rng.normal(-4, 0.6, total) + shift)
    entropy = np.maximum(0.1, rng.normal(3, 0.3, total) - 0.3 * shift)
    hidden = rng.normal(size=(len(user_index), 2, WIDTH)) + 0.8 * user_shift[user_index][:, None, None]
    return Observations(
        offsets=offsets,
        token=np.zeros(total, np.int32),
        log_probability=log_probability.astype(np.float32),
        entropy=entropy.astype(np.float32),
        top_probability=np.clip(rng.normal(0.4, 0.05, total) + 0.1 * shift, 0, 1).astype(np.float32),
        rank=np.zeros(total, np.int32),
        deviation=np.full(total, 1.5, np.float32),
        renyi_half=entropy.astype(np.float32),
        renyi_two=entropy.astype(np.float32),
        hidden=hidden.astype(np.float32),
    )


@pytest.fixture
def world() -> Callable[..., tuple[Evidence, np.ndarray, Known]]:
    """Makes (audited evidence, truth, known users); `strength` is how much training raised the members' answers."""

    def make(
        strength: float, *, audited: int = 120, known: int = 80, seed: int = 0
    ) -> tuple[Evidence, np.ndarray, Known]:
        rng = np.random.default_rng(seed)
        users = audited + known
        member = np.arange(users) % 2 == 0
        # The last user has no window: it cannot be scored.
        user_index = np.repeat(np.arange(users - 1), 3)
        trained, nothing = strength * member, np.zeros(users)
        inside = np.zeros((users, 4), dtype=bool)
        for k in range(0, 4, 2):
            inside[:, k] = rng.random(users) < 0.5
            inside[:, k + 1] = ~inside[:, k]
        views = {
            "target": observations(rng, trained, user_index),
            "base": observations(rng, nothing, user_index),
            "soft 0": observations(rng, nothing, user_index),
            "leaking": observations(rng, trained, user_index),
            **{f"shadow {k}": observations(rng, strength * inside[:, k], user_index) for k in range(4)},
        }
        students = [observations(rng, 0.5 * trained, user_index) for _ in range(FOLDS)]
        evidence = Evidence(tuple(f"u{i}" for i in range(users)), user_index, views, {"student": students}, inside)
        known_at, audited_at = np.arange(known), np.arange(known, users)
        fold = np.arange(known) // 2 % FOLDS
        return (
            evidence.take(audited_at),
            member[audited_at],
            Known(evidence.take(known_at).unmet(fold), member[known_at]),
        )

    return make
