"""Whom the attacks find: the same members, or others?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from mia_core.report.results import AuditResult
from mia_core.report.thresholds import scores_of, smallest_level, threshold_at, with_truth

MOST = 12
"""Attacks that are compared; the lead is always among them."""


@dataclass(frozen=True)
class Overlap:
    """Which members the attacks find, all at the same share of false alarms."""

    level: float
    """That share."""
    members: int
    """Members that every one of them could score."""
    together: int
    """Of these, those whom at least one of them finds."""
    attacks: pl.DataFrame
    """attack, title, found (members), alone (members that no other of them finds)."""
    pairs: pl.DataFrame
    """first, second (titles), shared (members whom both find), jaccard (of those whom either finds; null: nobody)."""


def compared_attacks(result: AuditResult) -> list[str]:
    """The strongest honest attacks by AUC, the strongest first, and the lead."""
    found = []
    for attack in result.attacks:
        auc = result.metric(attack.name, "auc")
        if attack.status == "honest" and not attack.skipped and auc is not None and auc.value is not None:
            found.append((auc.value, attack.name))
    names = [name for _, name in sorted(found, key=lambda one: -one[0])]
    kept = names[:MOST]
    if result.lead in names and result.lead not in kept:
        kept[-1] = result.lead
    return kept


def overlap(users: pl.DataFrame, result: AuditResult, attacks: list[str]) -> Overlap | None:
    """Whom each attack finds, and whom it shares with each other one.

    Args:
        users: role and score.ATTACK of these attacks.
        attacks: at least two, else None comes back, as where the held-out users resolve no share of false alarms.
    """
    columns = [f"score.{name}" for name in attacks]
    judged = with_truth(users, result).drop_nulls(columns)
    held_out = judged.height - int(judged["member"].sum())
    level = smallest_level(held_out)
    if len(attacks) < 2 or level is None or held_out == judged.height:
        return None
    member_rows = judged.filter(pl.col("member")).select(columns)
    # (attacks, members): whom each finds.
    finds = np.array(
        [member_rows[column].to_numpy() > threshold_at(scores_of(judged, column)[1], level) for column in columns]
    )
    by_how_many = finds.sum(axis=0)
    titles = [result.attack(name).title for name in attacks]
    summary = pl.DataFrame(
        {
            "attack": attacks,
            "title": titles,
            "found": finds.sum(axis=1),
            "alone": (finds & (by_how_many == 1)).sum(axis=1),
        }
    )
    counts = finds.astype(int)
    shared = counts @ counts.T
    either = shared.diagonal()[:, None] + shared.diagonal()[None, :] - shared
    pairs = [
        {
            "first": titles[i],
            "second": titles[j],
            "shared": int(shared[i, j]),
            "jaccard": shared[i, j] / either[i, j] if either[i, j] else None,
        }
        for i in range(len(attacks))
        for j in range(len(attacks))
    ]
    schema = {"first": pl.String, "second": pl.String, "shared": pl.Int64, "jaccard": pl.Float64}
    return Overlap(level, finds.shape[1], int((by_how_many > 0).sum()), summary, pl.DataFrame(pairs, schema=schema))
