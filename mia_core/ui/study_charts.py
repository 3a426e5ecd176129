"""Charts of a study: one setting as a line or as dots, two as a heat map."""

from __future__ import annotations

import altair as alt
import polars as pl

from mia_core.ui.charts import CALIBRATION, GOLD, MEMBER, PINK, QUIET, SKY

COLOURS = (MEMBER, GOLD, CALIBRATION, PINK, SKY, QUIET)
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")


def over_numbers(rows: pl.DataFrame, title: str, figure: str) -> alt.Chart | alt.LayerChart:
    """A line with its interval band for each attack.

    Args:
        rows: x (number), series, value, low, high (null where there is no interval).
        title: of the varied setting.
        figure: what `value` is, in words.
    """
    colour, shape = _colour(rows), _shape(rows)
    x = alt.X("x:Q", title=title, scale=alt.Scale(zero=False, nice=False), axis=alt.Axis(tickCount=6))
    base = alt.Chart(rows)
    band = base.mark_area(opacity=0.14).encode(x=x, y=_y("low", ""), y2=alt.Y2("high:Q"), color=colour)
    line = base.mark_line(strokeWidth=2).encode(x=x, y=_y("value", figure), color=colour)
    dots = base.mark_point(filled=True, size=60, opacity=1).encode(
        x=x, y=_y("value", figure), color=colour, shape=shape, tooltip=_tips(title)
    )
    return alt.LayerChart(layer=[band, line, dots]).properties(height=300)


def over_words(rows: pl.DataFrame, title: str, figure: str) -> alt.Chart | alt.LayerChart:
    """A dot with its interval for each attack and value, in the order of the study. Arguments: see `over_numbers`."""
    series = rows["series"].unique(maintain_order=True).to_list()
    order = rows["x"].unique(maintain_order=True).to_list()
    x = alt.X("x:N", title=title, sort=order, axis=alt.Axis(labelAngle=0 if len(order) < 5 else -35, labelLimit=130))
    offset = alt.XOffset("series:N", sort=series)
    colour, shape = _colour(rows), _shape(rows)
    base = alt.Chart(rows)
    bars = base.mark_rule(strokeWidth=2).encode(x=x, xOffset=offset, y=_y("low", ""), y2=alt.Y2("high:Q"), color=colour)
    dots = base.mark_point(filled=True, size=70, opacity=1).encode(
        x=x, xOffset=offset, y=_y("value", figure), color=colour, shape=shape, tooltip=_tips(title)
    )
    return alt.LayerChart(layer=[bars, dots]).properties(height=300)


def crossed(rows: pl.DataFrame, across: str, down: str, figure: str) -> alt.Chart | alt.LayerChart:
    """A heat map of one figure over two settings, each number written in its cell.

    Args:
        rows: x, y, value, low, high.
    """
    orders = {name: rows[name].unique(maintain_order=True).to_list() for name in ("x", "y")}
    x = alt.X("x:O", title=across, sort=orders["x"], axis=alt.Axis(labelAngle=0, labelLimit=130))
    y = alt.Y("y:O", title=down, sort=orders["y"])
    tips = [alt.Tooltip("x:N", title=across), alt.Tooltip("y:N", title=down), *_numbers()]
    middle = float(rows["value"].mean() or 0.0)  # type: ignore[arg-type]
    base = alt.Chart(rows)
    scale = alt.Scale(scheme="blues", zero=False)
    cells = base.mark_rect().encode(
        x=x, y=y, color=alt.Color("value:Q", title=figure, scale=scale, legend=None), tooltip=tips
    )
    dark = alt.condition(alt.datum.value > middle, alt.value("white"), alt.value("#1b2733"))
    numbers = base.mark_text(fontSize=13).encode(x=x, y=y, text=alt.Text("value:Q", format=".3f"), color=dark)
    return alt.LayerChart(layer=[cells, numbers]).properties(height=max(180, 56 * len(orders["y"])))


def _y(name: str, title: str) -> alt.Y:
    return alt.Y(f"{name}:Q", title=title, scale=alt.Scale(zero=False, nice=True), axis=alt.Axis(tickCount=6))


def _numbers() -> list[alt.Tooltip]:
    return [alt.Tooltip(f"{name}:Q", format=".3f") for name in ("value", "low", "high")]


def _tips(title: str) -> list[alt.Tooltip]:
    return [alt.Tooltip("series:N", title="attack"), alt.Tooltip("x:N", title=title), *_numbers()]


def _legend(rows: pl.DataFrame) -> alt.Legend | None:
    return alt.Legend(title=None, orient="top", columns=2, labelLimit=260) if rows["series"].n_unique() > 1 else None


def _colour(rows: pl.DataFrame) -> alt.Color:
    series = rows["series"].unique(maintain_order=True).to_list()
    colours = [QUIET] if len(series) == 1 and not series[0] else [COLOURS[i % len(COLOURS)] for i in range(len(series))]
    return alt.Color("series:N", scale=alt.Scale(domain=series, range=colours), legend=_legend(rows))


def _shape(rows: pl.DataFrame) -> alt.Shape:
    series = rows["series"].unique(maintain_order=True).to_list()
    shapes = [SHAPES[i % len(SHAPES)] for i in range(len(series))]
    return alt.Shape("series:N", scale=alt.Scale(domain=series, range=shapes), legend=_legend(rows))
