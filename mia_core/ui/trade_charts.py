"""Charts of defences: what each lets leak against what it leaves of the recommendations."""

from __future__ import annotations

from typing import Literal

import altair as alt
import polars as pl

from mia_core.ui.charts import CALIBRATION, GOLD, PINK, QUIET

KINDS = ("no defence", "private training", "other training", "serving")
COLOURS = (QUIET, CALIBRATION, PINK, GOLD)
SHAPES = ("diamond", "circle", "square", "triangle-up")
ADAPTIVE, OLD = "knows the defence", "built before it"


def picture(rows: pl.DataFrame, leak: str, quality: str) -> alt.Chart | alt.LayerChart:
    """One point for each defence: quality to the right, leakage upwards, both with their intervals.

    Args:
        rows: title, kind (of `KINDS`), leak, leak_low, leak_high, quality, quality_low, quality_high, named (on which
            side its title is written, left or right; else empty).
        leak: what leakage is, in words.
        quality: what quality is, in words.
    """
    x = _axis("quality", quality, "x")
    colour = alt.Color("kind:N", scale=alt.Scale(domain=KINDS, range=COLOURS), legend=_legend())
    shape = alt.Shape("kind:N", scale=alt.Scale(domain=KINDS, range=SHAPES), legend=_legend())
    base = alt.Chart(rows)
    across = base.mark_rule(strokeWidth=1, opacity=0.22).encode(
        x=_axis("quality_low", quality, "x"), x2=alt.X2("quality_high:Q"), y=_axis("leak", leak, "y"), color=colour
    )
    upwards = base.mark_rule(strokeWidth=1, opacity=0.22).encode(
        x=x, y=_axis("leak_low", leak, "y"), y2=alt.Y2("leak_high:Q"), color=colour
    )
    tips = [
        alt.Tooltip("title:N", title="defence"),
        *(alt.Tooltip(f"leak{end}:Q", title=f"leakage{word}", format=".1%") for end, word in ENDS),
        *(alt.Tooltip(f"quality{end}:Q", title=f"quality{word}", format=".3f") for end, word in ENDS),
    ]
    size = alt.condition(f"datum.kind == '{KINDS[0]}'", alt.value(230), alt.value(80))
    dots = base.mark_point(filled=True, opacity=1, stroke="white", strokeWidth=0.6).encode(
        x=x, y=_axis("leak", leak, "y"), color=colour, shape=shape, size=size, tooltip=tips
    )
    labels = [
        base.transform_filter(f"datum.named == '{side}'")
        .mark_text(align=align, dx=dx, dy=-8, fontSize=12)
        .encode(x=x, y=_axis("leak", leak, "y"), text=alt.Text("title:N"))
        for side, align, dx in SIDES
    ]
    return alt.LayerChart(layer=[across, upwards, dots, *labels]).properties(height=460)


SIDES: tuple[tuple[str, Literal["left", "right"], int], ...] = (("left", "right", -9), ("right", "left", 9))
ENDS = (("", ""), ("_low", ", lower limit"), ("_high", ", upper limit"))


def attackers(rows: pl.DataFrame, leak: str) -> alt.Chart | alt.LayerChart:
    """For each defence what leaks to the attacker who knows it, and to the attack of before.

    Args:
        rows: title, attacker (`ADAPTIVE` or `OLD`), value, low, high, in the order in which they are shown.
        leak: what leakage is, in words.
    """
    order = rows["title"].unique(maintain_order=True).to_list()
    domain = [ADAPTIVE, OLD]
    colour = alt.Color("attacker:N", scale=alt.Scale(domain=domain, range=[PINK, QUIET]), legend=_legend(1))
    shape = alt.Shape("attacker:N", scale=alt.Scale(domain=domain, range=["circle", "square"]), legend=_legend(1))
    y = alt.Y("title:N", title=None, sort=order, axis=alt.Axis(labelLimit=230))
    offset = alt.YOffset("attacker:N", sort=domain)
    base = alt.Chart(rows)
    bars = base.mark_rule(strokeWidth=2).encode(
        y=y, yOffset=offset, x=_axis("low", leak, "x", format="%"), x2=alt.X2("high:Q"), color=colour
    )
    tips = [
        alt.Tooltip("title:N"),
        alt.Tooltip("attacker:N"),
        *(alt.Tooltip(f"{name}:Q", format=".1%") for name in ("value", "low", "high")),
    ]
    dots = base.mark_point(filled=True, size=60, opacity=1).encode(
        y=y, yOffset=offset, x=_axis("value", leak, "x", format="%"), color=colour, shape=shape, tooltip=tips
    )
    return alt.LayerChart(layer=[bars, dots]).properties(height=110 + 34 * len(order))


def promises(rows: pl.DataFrame) -> alt.Chart | alt.LayerChart:
    """What private training promises beside what the audit proves.

    Args:
        rows: title, promised, proven.
    """
    y = alt.Y("title:N", title=None, sort=None, axis=alt.Axis(labelLimit=230, labelOverlap=False))
    base = alt.Chart(rows)
    allowed = base.mark_bar(height=14, opacity=0.25, color=CALIBRATION).encode(x=alt.X("promised:Q", title="ε"), y=y)
    proven = base.mark_tick(thickness=3, height=20, color=CALIBRATION).encode(
        x=alt.X("proven:Q"),
        y=y,
        tooltip=[
            alt.Tooltip("title:N"),
            alt.Tooltip("promised:Q", format=".2f"),
            alt.Tooltip("proven:Q", format=".2f"),
        ],
    )
    return alt.LayerChart(layer=[allowed, proven]).properties(height=60 + 34 * rows.height)


def _axis(name: str, title: str, which: str, format: str | None = None) -> alt.X | alt.Y:
    percent = format or ("%" if which == "y" else ".2f")
    kind = alt.X if which == "x" else alt.Y
    axis: alt.X | alt.Y = kind(
        f"{name}:Q", title=title, scale=alt.Scale(zero=False, nice=True), axis=alt.Axis(tickCount=6, format=percent)
    )
    return axis


def _legend(columns: int = 2) -> alt.Legend:
    return alt.Legend(title=None, orient="top", columns=columns, labelLimit=260, symbolOpacity=1)
