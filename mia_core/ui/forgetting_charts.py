"""Charts of forgetting: what is left of the memory of those who were to be forgotten."""

from __future__ import annotations

import altair as alt
import polars as pl

from mia_core.ui.charts import CALIBRATION, GOLD, PINK, QUIET

VERDICTS = ("forgotten", "not forgotten", "over-forgotten", "undecided")
COLOURS = (CALIBRATION, PINK, GOLD, QUIET)
SHAPES = ("circle", "square", "triangle-down", "diamond")
WIDEST = 3.0
"""Shares of the memory beyond which a limit is drawn at the edge."""


def memory_left(rows: pl.DataFrame, margin: float) -> alt.Chart | alt.LayerChart:
    """One row for each way to forget: the share of the memory that is left, its interval, and what counts as forgotten.

    Args:
        rows: title, verdict (of `VERDICTS`), left, low, high (null: no limit on that side).
        margin: on either side of 0 that counts as forgotten.
    """
    rows = rows.with_columns(
        pl.col("low").fill_null(-WIDEST).clip(-WIDEST, WIDEST), pl.col("high").fill_null(WIDEST).clip(-WIDEST, WIDEST)
    )
    low, high = min(-0.5, float(rows["low"].min())), max(1.2, float(rows["high"].max()))  # type: ignore[arg-type]
    scale = alt.Scale(domain=[low, high], nice=False)
    title = "Memory left"
    x = alt.X("left:Q", title=title, scale=scale, axis=alt.Axis(format="%", tickCount=6))
    y = alt.Y("title:N", title=None, sort=None, axis=alt.Axis(labelLimit=230))
    legend = alt.Legend(title=None, orient="top", columns=2, symbolOpacity=1, offset=22)
    colour = alt.Color("verdict:N", scale=alt.Scale(domain=VERDICTS, range=COLOURS), legend=legend)
    shape = alt.Shape("verdict:N", scale=alt.Scale(domain=VERDICTS, range=SHAPES), legend=legend)
    ends = alt.Chart(pl.DataFrame({"from": [-margin], "to": [margin]}))
    band = ends.mark_rect(color=CALIBRATION, opacity=0.12).encode(
        x=alt.X("from:Q", scale=scale, title=title), x2=alt.X2("to:Q")
    )
    marks = pl.DataFrame({"at": [0.0, 1.0], "label": ["never seen", "as before"]})
    rules = alt.Chart(marks).mark_rule(strokeDash=[3, 3], color=QUIET).encode(x=alt.X("at:Q", scale=scale, title=title))
    words = alt.Chart(marks).mark_text(align="left", dx=4, dy=-4, baseline="bottom", fontSize=11)
    named = words.encode(x=alt.X("at:Q", scale=scale, title=title), y=alt.YValue(0), text=alt.Text("label:N"))
    base = alt.Chart(rows)
    bars = base.mark_rule(strokeWidth=2).encode(
        x=alt.X("low:Q", scale=scale, title=title), x2=alt.X2("high:Q"), y=y, color=colour
    )
    tips = [
        alt.Tooltip("title:N"),
        alt.Tooltip("verdict:N"),
        *(alt.Tooltip(f"{name}:Q", format=".0%") for name in ("left", "low", "high")),
    ]
    dots = base.mark_point(filled=True, size=90, opacity=1).encode(x=x, y=y, color=colour, shape=shape, tooltip=tips)
    return alt.LayerChart(layer=[band, rules, named, bars, dots]).properties(height=130 + 46 * rows.height)
