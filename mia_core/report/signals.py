"""What each model shows of every user: the features of an audit, and how the target's differ from others'."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from mia_core import parquet

OVER_BASE, OVER_REFERENCE = "target − base", "target − reference"
"""Names of differences: the target's value minus the base's, or minus the mean over the soft references."""
REFERENCE = "soft "
"""How the names of the references begin that learned from no label."""
DIFFERENT_AXES = "hidden"
"""A feature of which differences mean nothing: each model's first component points in a direction of its own."""


def shown_models(folder: Path) -> list[str]:
    """The models whose features an audit kept, and the differences that can be made of them.

    Args:
        folder: of the audit.
    """
    rows = parquet.scan(folder / "features.parquet").select(pl.col("model").unique(maintain_order=True))
    models = rows.collect()["model"].to_list()
    pairs = {OVER_BASE: "base" in models, OVER_REFERENCE: any(name.startswith(REFERENCE) for name in models)}
    return [*models, *(name for name, there in pairs.items() if there and "target" in models)]


def signal(folder: Path, model: str, feature: str) -> pl.DataFrame:
    """user, role, value of one feature under one model, or of a difference between models; nulls are left out.

    Args:
        folder: of the audit.
        model: one of `shown_models`.
        feature: loss, confidence, entropy or hidden.
    """
    rows = parquet.scan(folder / "features.parquet").filter(pl.col("feature") == feature).drop_nulls("value")
    if model not in (OVER_BASE, OVER_REFERENCE):
        return rows.filter(pl.col("model") == model).select("user", "role", "value").collect()
    other = pl.col("model") == "base" if model == OVER_BASE else pl.col("model").str.starts_with(REFERENCE)
    taken_off = rows.filter(other).group_by("user").agg(off=pl.col("value").mean())
    target = rows.filter(pl.col("model") == "target").join(taken_off, on="user")
    return target.select("user", "role", value=pl.col("value") - pl.col("off")).collect()
