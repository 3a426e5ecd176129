"""Charts of interaction data."""

from __future__ import annotations

import altair as alt
import numpy as np
import polars as pl

from mia_core.ui.charts import MEMBER


def popularity(curve: pl.DataFrame, unit: str) -> alt.Chart:
    """How many users have each item, by rank, both axes logarithmic.

    Args:
        curve: rank, users.
    """
    return (
        alt.Chart(curve)
        .mark_line(color=MEMBER, strokeWidth=2.2, point={"size": 14, "filled": True, "color": MEMBER})
        .encode(
            x=alt.X("rank:Q", title="Rank of the item (1 = had by most)", scale=alt.Scale(type="log"), axis=_POWERS),
            y=alt.Y("users:Q", title=f"{unit.capitalize()}s who have it", scale=alt.Scale(type="log"), axis=_POWERS),
            tooltip=[alt.Tooltip("rank:Q", format=","), alt.Tooltip("users:Q", title=f"{unit}s", format=",")],
        )
        .properties(height=280)
    )


def months(counted: pl.DataFrame) -> alt.Chart:
    """Interactions by month.

    Args:
        counted: month, interactions.
    """
    return (
        alt.Chart(counted)
        .mark_area(color=MEMBER, opacity=0.25, line={"color": MEMBER}, interpolate="step-after")
        .encode(
            x=alt.X("month:T", title=None),
            y=alt.Y("interactions:Q", title="Interactions in the month", axis=alt.Axis(tickCount=4, format="~s")),
            tooltip=[alt.Tooltip("month:T", format="%B %Y"), alt.Tooltip("interactions:Q", format=",")],
        )
        .properties(height=280)
    )


def counted(values: np.ndarray, name: str, count_name: str) -> pl.DataFrame:
    """How many of some whole numbers there are of each."""
    return pl.Series(name, values).value_counts(sort=False, name=count_name).sort(name)


_POWERS = alt.Axis(values=[10.0**power for power in range(9)], format="~s")
