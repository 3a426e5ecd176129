"""Seconds and memory of every attack that is arithmetic on cached observations, at 10,000 users.

    python benchmarks/battery_arithmetic.py [--users 10000] [--windows 4]

The observations are random: only their size matters. Attacks that are fitted on known users' labels or train a
classifier are left out; their cost is that of the fit.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np

from mia_core.attacks.catalogue import ATTACKS
from mia_core.attacks.evidence import Background, Evidence, Known
from mia_core.observe.observations import TOKEN_FIELDS, WHOLE_NUMBERS, Observations

TRAINED = {"shadow_classifier", "shadow_classifier_mlp", "shadow_classifier_forest"}
WIDTH = 16
SHADOWS = 8
REPLICATES = 3
VOCABULARY = 4_000
ITEMS = 2_000
HISTORY = 8
LONGEST_LIST = 10
TOKENS = 8
"""Mean tokens of an answer."""
ONCE = (
    "target",
    "base",
    "soft 0",
    "self_prompted",
    "target/no_history",
    "base/no_history",
    "target/lowercase",
    "target/after_held_out",
)
REPLICATED = (
    "target/answer_swapped",
    "base/answer_swapped",
    "target/history_swapped",
    "self_prompted/history_swapped",
    "target/template",
)


def simulated(users: int, windows: int) -> Evidence:
    """Every view, signal and list that an attack can ask for."""
    rng = np.random.default_rng(0)
    n = users * windows
    offsets = np.concatenate([[0], np.cumsum(rng.integers(TOKENS // 2, TOKENS * 3 // 2 + 1, n))])
    total = int(offsets[-1])
    token = rng.integers(0, VOCABULARY, total).astype(np.int32)

    def seen() -> Observations:
        values = {name: rng.random(total, dtype=np.float32) for name in TOKEN_FIELDS if name not in WHOLE_NUMBERS}
        values["log_probability"] *= -6
        values["log_complement"] *= -1
        right = rng.random(total, dtype=np.float32) < 0.3
        return Observations(
            offsets=offsets,
            token=token,
            rank=np.where(right, 0, rng.integers(1, VOCABULARY, total, dtype=np.int32)),
            top_token=np.where(right, token, rng.integers(0, VOCABULARY, total, dtype=np.int32)),
            hidden=rng.random((n, 1, WIDTH), dtype=np.float32),
            **values,
        )

    names = [*ONCE, *(f"{name} {k}" for name in REPLICATED for k in range(REPLICATES))]
    names += [f"shadow {k}" for k in range(SHADOWS)]
    inside = np.zeros((users, SHADOWS), dtype=bool)
    inside[:, ::2] = rng.random((users, SHADOWS // 2)) < 0.5
    inside[:, 1::2] = ~inside[:, ::2]
    answer, history = rng.integers(0, ITEMS, n), rng.integers(0, ITEMS, (n, HISTORY))
    ranked = dict.fromkeys(("lists", "lists/no_history", "lists/half", "lists/poisoned"), (n, LONGEST_LIST))
    vectors = rng.normal(size=(ITEMS, 32)).astype(np.float32)
    return Evidence(
        users=tuple(str(user) for user in range(users)),
        user_index=np.repeat(np.arange(users), windows),
        views={name: seen() for name in names},
        shadow_in=inside,
        signals={
            "zlib_bytes": rng.integers(15, 40, n).astype(float),
            "answer_item": answer,
            "history_items": history,
            "covariates": rng.normal(size=(n, 4)),
            "inquiry": rng.normal(size=n),
            "gradient": rng.random((n, 3)),
        },
        lists={
            name: rng.integers(-1, ITEMS, shape).astype(np.int32)
            for name, shape in {**ranked, "temperatures": (n, 4, 5)}.items()
        },
        background=Background(
            token_share=rng.dirichlet(np.ones(VOCABULARY)),
            item_share=rng.dirichlet(np.ones(ITEMS)) * 5,
            item_vectors=vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
            token_vectors=rng.normal(size=(VOCABULARY, WIDTH)).astype(np.float32),
        ),
    )


def gibibytes() -> float:
    """The most memory that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    """Times each attack once and prints them, the slowest first."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--windows", type=int, default=4)
    arguments = parser.parse_args()
    evidence = simulated(arguments.users, arguments.windows)
    known_at = np.arange(arguments.users // 5)
    known = Known(evidence.take(known_at), known_at % 2 == 0)
    held = gibibytes()
    seconds = {}
    for name, attack in ATTACKS.items():
        if attack.learned or name in TRAINED:
            continue
        started = time.perf_counter()
        scores = attack().score(evidence, known)
        seconds[name] = time.perf_counter() - started
        assert scores.shape == (arguments.users,)
        assert np.isfinite(scores).mean() > 0.9, name
    for name in sorted(seconds, key=lambda name: -seconds[name]):
        print(f"{name}: {seconds[name]:.3f} s")
    print(
        f"{len(seconds)} attacks on {arguments.users} users x {arguments.windows} windows, "
        f"{len(evidence.views)} views: {sum(seconds.values()):.1f} s in all; "
        f"peak memory {gibibytes():.2f} GiB, of which {held:.2f} GiB before the first attack"
    )


if __name__ == "__main__":
    main()
