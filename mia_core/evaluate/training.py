"""What training does to the loss on members and on held-out users, as it goes on."""

from __future__ import annotations

import numpy as np

from mia_core.evaluate.intervals import auc_interval


def leak_at(epoch: int, log_probability: np.ndarray, member: np.ndarray, confidence: float) -> dict[str, float | None]:
    """The mean loss of members and of held-out users after an epoch, and how far the loss tells them apart.

    Args:
        log_probability: (n,) mean over each user's answer, nats.
        member: (n,) bool.
    Returns:
        epoch, members and held_out (nats per token), auc with low and high, n_members, n_held_out; null where there is
        nobody on one side.
    """
    inside, outside = log_probability[member].astype(float), log_probability[~member].astype(float)
    row: dict[str, float | None] = {
        "epoch": epoch,
        "members": -float(inside.mean()) if len(inside) else None,
        "held_out": -float(outside.mean()) if len(outside) else None,
    }
    auc, low, high = auc_interval(inside, outside, confidence) if len(inside) and len(outside) else (None,) * 3
    return {**row, "auc": auc, "low": low, "high": high, "n_members": len(inside), "n_held_out": len(outside)}
