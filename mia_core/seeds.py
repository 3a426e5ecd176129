"""One seed in the config, an independent stream for every purpose."""

from __future__ import annotations

import hashlib

import numpy as np


def derive_seed(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for one named purpose; different purposes give unrelated streams.

    Args:
        seed: the experiment's seed, at least 0.
        purpose: words and numbers that name the use, such as ``("shadow", 3)``.
    """
    text = "\x1f".join([str(seed), *(str(part) for part in purpose)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """A NumPy generator for one named purpose."""
    return np.random.default_rng(derive_seed(seed, *purpose))
