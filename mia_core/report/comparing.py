"""Audits side by side: what differs in their settings, and by how much they differ in what they found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mia_core.evaluate.comparison import Difference, delong_difference, tpr_difference
from mia_core.evaluate.intervals import mean_interval
from mia_core.evaluate.metrics import smallest_fpr as smallest_fpr
from mia_core.report.results import AuditResult, read_table
from mia_core.seeds import generator
from mia_core.types import Role

LEVELS = (0.01, 0.05, 0.1)
"""False-positive rates at which members are counted: the smallest that both audits resolve."""
FEWEST_PAIRED = 20
"""Members, and held-out users, that two audits must share to be compared user by user."""
RESAMPLES = 300
AUDITED = (Role.AUDITED_MEMBER, Role.AUDITED_HELD_OUT)
LEFT_OUT = ("name", "data")
"""Of a config: what changes no number, and what is compared by the data's own key."""


@dataclass(frozen=True)
class Finding:
    """How much more one audit shows than another."""

    figure: str
    """auc, tpr or hit rate."""
    level: float | None
    """Of a TPR: the false-positive rate."""
    value: float
    low: float
    high: float
    n: int
    """Users, paired."""

    @property
    def told_apart(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class AuditComparison:
    """A second audit beside a first one, by one attack."""

    attack: str
    findings: list[Finding]
    pairs: pl.DataFrame
    """user, role, first, second: the share of held-out users whom each user surpasses in either audit, 0 to 1."""
    reason: str = ""
    """Why nothing is paired; empty where users are."""


def common_attacks(results: Sequence[AuditResult]) -> list[str]:
    """Attacks that ran in all of the audits; the first one's lead comes first."""
    ran = [{attack.name for attack in result.attacks if not attack.skipped} for result in results]
    lead = results[0].lead
    return sorted(set.intersection(*ran), key=lambda name: (name != lead, name))


def compare_audits(
    first: AuditResult, first_folder: Path, second: AuditResult, second_folder: Path, attack: str
) -> AuditComparison:
    """What the second audit shows more than the first one, on the users whom both audited in the same role.

    Args:
        attack: one that ran in both.
    """
    users = _paired(first_folder, second_folder, attack)
    member = (users["role"] == Role.AUDITED_MEMBER).to_numpy()
    before, after = users["first"].to_numpy(), users["second"].to_numpy()
    pairs = users.with_columns(
        pl.Series("first", _surpassed(before, member)), pl.Series("second", _surpassed(after, member))
    )
    if min(member.sum(), (~member).sum()) < FEWEST_PAIRED:
        reason = (
            f"only {int(member.sum())} members and {int((~member).sum())} held-out users stand in the same role in both audits; "
            f"{FEWEST_PAIRED} of each are needed. Audits of the same data with the same seed and shares have the same split."
        )
        return AuditComparison(attack, [], pairs, reason)
    confidence = float(first.config["evaluation"]["confidence"])
    rng = generator(int(first.config["seed"]), "compared audits", second.key)
    findings = [_finding("auc", None, delong_difference(after, before, member, confidence))]
    level = _level(first, second, attack)
    if level is not None:
        found = tpr_difference(after, before, member, level, confidence, RESAMPLES, rng)
        findings.append(_finding("tpr", level, found))
    quality = _quality(first, first_folder, second_folder, confidence)
    return AuditComparison(attack, findings + ([quality] if quality else []), pairs)


def differing_settings(results: Sequence[AuditResult]) -> pl.DataFrame:
    """setting, and one column per audit, numbered from 1: every setting that is not the same in all of them."""
    flat = [_flat({k: v for k, v in result.config.items() if k not in LEFT_OUT}) for result in results]
    for one, result in zip(flat, results, strict=True):
        one["data"] = result.data.get("key", "")[:12]
    names = list(dict.fromkeys(name for one in flat for name in one))
    rows = [
        {"setting": name, **{str(i + 1): _shown(one.get(name)) for i, one in enumerate(flat)}}
        for name in names
        if len({_shown(one.get(name)) for one in flat}) > 1
    ]
    schema = dict.fromkeys(("setting", *(str(i + 1) for i in range(len(results)))), pl.String)
    return pl.DataFrame(rows, schema=schema)


def _paired(first: Path, second: Path, attack: str) -> pl.DataFrame:
    column = f"score.{attack}"
    tables = [
        read_table(folder, "users", ("user", "role", column))
        .filter(pl.col("role").is_in(AUDITED))
        .rename({column: name})
        for folder, name in ((first, "first"), (second, "second"))
    ]
    joined = tables[0].join(tables[1], on=["user", "role"], how="inner", maintain_order="left")
    return joined.with_columns(pl.col("first", "second").fill_null(math.nan))


def _surpassed(scores: np.ndarray, member: np.ndarray) -> np.ndarray:
    """(n,) share of the held-out users with a lower score, ties counting half; NaN where there is no score."""
    held_out = np.sort(scores[~member & ~np.isnan(scores)])
    below = np.searchsorted(held_out, scores, "left") + np.searchsorted(held_out, scores, "right")
    share = below / max(1, 2 * len(held_out))
    return np.where(np.isnan(scores), np.nan, share)


def _level(first: AuditResult, second: AuditResult, attack: str) -> float | None:
    for level in LEVELS:
        metrics = [result.metric(attack, f"tpr_at_fpr_{level:g}") for result in (first, second)]
        if all(metric is not None and metric.value is not None for metric in metrics):
            return level
    return None


def _quality(first: AuditResult, first_folder: Path, second_folder: Path, confidence: float) -> Finding | None:
    """How much more often the second target ranks the true next item among the first ten."""
    if not all((folder / "ranked.parquet").is_file() for folder in (first_folder, second_folder)):
        return None
    hits = [
        read_table(folder, "ranked", ("user", "recommender", "hit"))
        .filter(pl.col("recommender") == "target")
        .select("user", pl.col("hit").cast(pl.Float64).alias(name))
        for folder, name in ((first_folder, "first"), (second_folder, "second"))
    ]
    both = hits[0].join(hits[1], on="user", maintain_order="left").drop_nulls()
    if both.height < FEWEST_PAIRED:
        return None
    difference = (both["second"] - both["first"]).to_numpy()
    resamples = int(first.config["evaluation"]["resamples"])
    value, low, high = mean_interval(difference, confidence, resamples, int(first.config["seed"]))
    return Finding("hit rate", None, value, low, high, both.height)


def _finding(figure: str, level: float | None, found: Difference) -> Finding:
    return Finding(figure, level, found.value, found.low, found.high, found.n)


def _flat(config: dict[str, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, dict) and value:
            found |= _flat(value, f"{before}{name}.")
        else:
            found[f"{before}{name}"] = value
    return found


def _shown(value: Any) -> str:
    if value is None or value in ("", [], {}):
        return "–"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


FIGURES = {"auc": "AUC", "tpr": "Members found", "hit rate": "HR@10"}


def title_of(finding: Finding) -> str:
    """What is compared, short enough for a chart."""
    level = "" if finding.level is None else f" at {100 * finding.level:g}% false alarms"
    return FIGURES[finding.figure] + level


def explain_finding(finding: Finding, number: int) -> str:
    """One difference between audit `number` and the first, in a plain sentence."""
    points = finding.figure != "auc"
    size, low, high = (
        f"{100 * abs(x):.0f}" if points else f"{abs(x):.3f}" for x in (finding.value, finding.low, finding.high)
    )
    if not finding.told_apart:
        limits = (
            f"{100 * finding.low:+.0f} to {100 * finding.high:+.0f} points"
            if points
            else f"{finding.low:+.3f} to {finding.high:+.3f}"
        )
        return f"Audits 1 and {number} cannot be told apart by {title_of(finding)} (difference {limits})."
    direction = "more" if finding.value > 0 else "less"
    nearer, farther = sorted((low, high), key=float)
    unit = " points" if points else ""
    shows = {
        "auc": f"Audit {number} leaks {direction} than audit 1: its AUC is {'higher' if finding.value > 0 else 'lower'} by",
        "tpr": f"{title_of(finding)}: in audit {number} {direction} than in audit 1, by",
        "hit rate": f"The recommender of audit {number} recommends {'better' if finding.value > 0 else 'worse'}: HR@10 by",
    }[finding.figure]
    return f"{shows} {size}{unit} ({nearer} to {farther}, {finding.n:,} users)."
