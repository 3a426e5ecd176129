"""Charts of where and when the leak is: by group of users, by epoch, and whether the attacks find the same members."""

from __future__ import annotations

import altair as alt
import polars as pl

from mia_core.types import USER, Unit
from mia_core.ui.charts import HELD_OUT, HELD_OUT_LABEL, LEGEND, MEMBER, MEMBER_LABEL, QUIET

_INTERVAL = [alt.Tooltip(f"{name}:Q", format=".3f") for name in ("auc", "low", "high")]


def leak_by_group(rows: pl.DataFrame, title: str) -> alt.LayerChart:
    """The lead's AUC within each group of users with its interval, chance marked; groups in the order of the rows.

    Args:
        rows: group, auc, low, high, members, held_out; a group without an AUC has no dot.
        title: what the groups are.
    """
    lowest = rows.filter(pl.col("auc").is_not_null())["low"].min()
    scale = alt.Scale(domain=[min(0.4, float(lowest or 0.4)), 1.0], nice=False, zero=False)  # type: ignore[arg-type]
    y = alt.Y("auc:Q", title="AUC (0.5 = chance)", scale=scale, axis=alt.Axis(tickCount=5))
    # Names stand straight where the chart is wide enough for all of them in a row, and are turned where it is not.
    longest = int(rows["group"].str.len_chars().max() or 0)  # type: ignore[arg-type]
    straight = f"width > {rows.height * (8 * longest + 12)}"
    axis = alt.Axis(
        labelAngle=alt.ExprRef(f"{straight} ? 0 : -40"),
        labelAlign=alt.ExprRef(f"{straight} ? 'center' : 'right'"),
        labelBaseline=alt.ExprRef(f"{straight} ? 'top' : 'middle'"),
        labelLimit=160,
        labelOverlap=False,
    )
    x = alt.X("group:N", title=title, sort=None, axis=axis)
    base = alt.Chart(rows).transform_filter("isValid(datum.auc)")
    tips = [
        alt.Tooltip("group:N"),
        *_INTERVAL,
        alt.Tooltip("members:Q", format=","),
        alt.Tooltip("held_out:Q", format=","),
    ]
    bars = base.mark_rule(color=MEMBER, strokeWidth=2).encode(
        x=x, y=alt.Y("low:Q", title="", scale=scale), y2=alt.Y2("high:Q"), tooltip=tips
    )
    dots = base.mark_point(color=MEMBER, filled=True, size=90, opacity=1).encode(x=x, y=y, tooltip=tips)
    # Every group has its place, with a dot or without.
    places = alt.Chart(rows).mark_point(opacity=0).encode(x=x, y=alt.datum(0.5))
    chance = alt.Chart(pl.DataFrame({"auc": [0.5]})).mark_rule(color=QUIET, strokeDash=[3, 4]).encode(y=y)
    return alt.LayerChart(layer=[places, chance, bars, dots]).properties(height=250)


def overlap(pairs: pl.DataFrame) -> alt.LayerChart:
    """How far any two attacks find the same members, as a table of shaded cells with their figures.

    Args:
        pairs: first, second, shared, jaccard.
    """
    x = alt.X(
        "second:N",
        title=None,
        sort=None,
        axis=alt.Axis(orient="top", labelAngle=-40, labelLimit=150, labelOverlap=False),
    )
    y = alt.Y("first:N", title=None, sort=None, axis=alt.Axis(labelLimit=220))
    tips = [
        alt.Tooltip("first:N"),
        alt.Tooltip("second:N"),
        alt.Tooltip("shared:Q", title="found by both"),
        alt.Tooltip("jaccard:Q", format=".0%", title="of those found by either"),
    ]
    colour = alt.Color("jaccard:Q", scale=alt.Scale(scheme="viridis", domain=[0, 1]), legend=None)
    cells = alt.Chart(pairs).mark_rect(stroke="white", strokeWidth=1).encode(x=x, y=y, color=colour, tooltip=tips)
    ink = alt.condition("datum.jaccard > 0.45", alt.value("#10151c"), alt.value("white"))
    text = (
        alt.Chart(pairs)
        .mark_text(fontSize=11)
        .encode(x=x, y=y, text=alt.Text("jaccard:Q", format=".0%"), color=ink, tooltip=tips)
    )
    return alt.LayerChart(layer=[cells, text]).properties(height=alt.Step(26), width=alt.Step(52))


def losses_by_epoch(rows: pl.DataFrame, unit: Unit = USER) -> alt.LayerChart:
    """Mean loss of members and of held-out users after every epoch.

    Args:
        rows: epoch, members, held_out (nats per token).
    """
    names = {"members": MEMBER_LABEL, "held_out": unit.say(HELD_OUT_LABEL)}
    long = rows.select("epoch", *names).unpivot(list(names), index="epoch", variable_name="group", value_name="loss")
    long = long.with_columns(pl.col("group").replace_strict(names)).drop_nulls("loss")
    groups = list(names.values())
    x = alt.X("epoch:Q", title="Epochs of training", axis=alt.Axis(format="d", tickMinStep=1))
    y = alt.Y("loss:Q", title="Loss (nats per token)", scale=alt.Scale(zero=False))
    colour = alt.Color("group:N", scale=alt.Scale(domain=groups, range=[MEMBER, HELD_OUT]), legend=LEGEND)
    dash = alt.StrokeDash("group:N", scale=alt.Scale(domain=groups, range=[[1, 0], [6, 4]]), legend=None)
    base = alt.Chart(long)
    tips = [alt.Tooltip("group:N"), alt.Tooltip("epoch:Q"), alt.Tooltip("loss:Q", format=".3f")]
    line = base.mark_line(strokeWidth=2.2, point=True).encode(x=x, y=y, color=colour, strokeDash=dash, tooltip=tips)
    return alt.LayerChart(layer=[line]).properties(height=260)


def leak_by_epoch(rows: pl.DataFrame) -> alt.LayerChart:
    """The loss attack's AUC after every epoch, with its interval, chance marked.

    Args:
        rows: epoch, auc, low, high.
    """
    shown = rows.drop_nulls("auc")
    scale = alt.Scale(domain=[min(0.4, float(shown["low"].min() or 0.4)), 1.0], nice=False, zero=False)  # type: ignore[arg-type]
    x = alt.X("epoch:Q", title="Epochs of training", axis=alt.Axis(format="d", tickMinStep=1))
    y = alt.Y("auc:Q", title="AUC (0.5 = chance)", scale=scale)
    base = alt.Chart(shown)
    band = base.mark_area(color=MEMBER, opacity=0.18).encode(
        x=x, y=alt.Y("low:Q", title="", scale=scale), y2=alt.Y2("high:Q")
    )
    line = base.mark_line(color=MEMBER, strokeWidth=2.2, point={"color": MEMBER}).encode(
        x=x, y=y, tooltip=[alt.Tooltip("epoch:Q"), *_INTERVAL]
    )
    chance = alt.Chart(pl.DataFrame({"auc": [0.5]})).mark_rule(color=QUIET, strokeDash=[3, 4]).encode(y=y)
    return alt.LayerChart(layer=[chance, band, line]).properties(height=260)
