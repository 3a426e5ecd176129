"""A chart, and the same figures as a table for whoever cannot see it or wants the numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import altair as alt

# altair looks for pandas among what is loaded: half loaded by another thread, a chart of somebody else fails.
import pandas  # noqa: F401
import polars as pl
import streamlit as st

Chart = alt.Chart | alt.LayerChart | alt.HConcatChart | alt.VConcatChart | alt.FacetChart
INK = {"light": "#4d5866", "dark": "#aab4bf"}
"""Text in charts: at least 4.5 times as light, or as dark, as the page."""


def legible(chart: Chart) -> Chart:
    """The chart with text that can be read on the page's background."""
    ink = INK.get(str(st.context.theme.type), INK["light"])
    words: dict[str, Any] = {"labelColor": ink, "titleColor": ink}
    # At once: each setting by itself copies the chart.
    chart = chart.configure(
        axis=alt.AxisConfig(**words),
        legend=alt.LegendConfig(**words),
        header=alt.HeaderConfig(**words),
        text=alt.MarkConfig(color=ink),
    )
    # What stands beneath a chart belongs to it: no gap between them.
    chart["padding"] = {"bottom": 4}
    return chart


def show_chart(
    chart: Chart,
    alt_text: str,
    table: pl.DataFrame,
    key: str,
    width: Literal["stretch", "content"] = "stretch",
    *,
    selectable: bool = False,
) -> Mapping[str, Any]:
    """Draws a chart; its figures open beneath it as a table.

    Args:
        chart: of at most 2,000 marks.
        alt_text: what it shows, for those who hear the page.
        table: what it shows, in columns that a reader understands. Text from a file is shown as it is.
        key: of the chart on its page.
        width: as wide as there is room, or as the chart itself.
        selectable: whether the page is told of the marks that are clicked.
    Returns:
        what was clicked, as `st.altair_chart` tells it.
    """
    chart = legible(chart)
    clicked: Mapping[str, Any] = {}
    if width == "content":
        # Wider than a narrow screen it is moved sideways by itself, not cut.
        with st.container(key=f"wide_{key}"):
            st.altair_chart(chart, alt=alt_text, key=key, width=width)
    elif selectable:
        clicked = st.altair_chart(chart, alt=alt_text, key=key, width=width, on_select="rerun")
    else:
        st.altair_chart(chart, alt=alt_text, key=key, width=width)
    with st.popover("As a table", icon=":material/table_rows:", type="tertiary", key=f"{key}_table"):
        st.caption(alt_text)
        st.dataframe(table, hide_index=True, height=min(420, 38 + 35 * max(1, table.height)), alt=alt_text)
    return clicked


def readable(rows: pl.DataFrame, titles: dict[str, str], digits: int = 4) -> pl.DataFrame:
    """Some columns of a chart's rows under titles for readers, numbers rounded.

    Args:
        rows: of the chart.
        titles: column: what readers call it, in the order in which they are shown.
        digits: after the point.
    """
    return rows.select(
        pl.col(name).round(digits).alias(title) if rows[name].dtype.is_float() else pl.col(name).alias(title)
        for name, title in titles.items()
    )


def shares(steps: pl.DataFrame, start: str) -> pl.DataFrame:
    """Binned distributions (`charts.binned`) for readers: a row for each bin, a column of shares for each group.

    Args:
        steps: group, value, share.
        start: title of the bins' left edges.
    """
    wide = steps.pivot("group", index="value", values="share").rename({"value": start})
    return wide.with_columns(pl.all().round(4))
