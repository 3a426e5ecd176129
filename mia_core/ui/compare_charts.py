"""Charts of several audits beside one another. Audits are told apart by number, colour and dash."""

from __future__ import annotations

import math

import altair as alt
import polars as pl

from mia_core.types import USER, Unit
from mia_core.ui.charts import HELD_OUT, HELD_OUT_LABEL, MEMBER, MEMBER_LABEL, MOST_MARKS, QUIET

COLOURS = ["#0072B2", "#AA4499", "#1b8a45", "#9a6b00", "#7079ad", "#b84c6e"]
DASHES = [[1, 0], [7, 4], [2, 3], [10, 3, 2, 3], [4, 2], [1, 4]]


def differences(rows: pl.DataFrame) -> alt.LayerChart:
    """How much more of one figure each audit shows than the first, with its interval; 0 is marked.

    Args:
        rows: audit ("Audit 2"), value, low, high.
    """
    reach = 1.05 * max(0.02, *rows["low"].abs(), *rows["high"].abs())
    scale = alt.Scale(domain=[-reach, reach], nice=False)
    x = alt.X(
        "value:Q",
        title="← less · than audit 1 · more →",
        scale=scale,
        axis=alt.Axis(labelExpr="datum.value == 0 ? '0' : datum.label", format="+.2~", tickCount=5),
    )
    y = alt.Y("audit:N", title=None, sort=None)
    figures = [alt.Tooltip(f"{name}:Q", format="+.3f") for name in ("value", "low", "high")]
    base = alt.Chart(rows).encode(y=y, tooltip=[alt.Tooltip("audit:N"), *figures])
    zero = alt.Chart(pl.DataFrame({"value": [0.0]})).mark_rule(color=QUIET, strokeDash=[3, 4]).encode(x=x)
    bars = base.mark_rule(color=MEMBER, strokeWidth=2).encode(
        x=alt.X("low:Q", title="", scale=scale), x2=alt.X2("high:Q")
    )
    dots = base.mark_point(color=MEMBER, filled=True, size=80, opacity=1).encode(x=x)
    return alt.LayerChart(layer=[zero, bars, dots]).properties(height=alt.Step(34))


def rocs(points: pl.DataFrame, floor: float, resolved: float, unit: Unit = USER) -> alt.LayerChart:
    """ROC curves of one attack in several audits, on logarithmic axes.

    Args:
        points: audit, fpr, tpr.
        floor: where both axes begin.
        resolved: the FPR from which all of them resolve a rate; what lies below is grey.
    """
    audits = points["audit"].unique(maintain_order=True).to_list()
    points = points.with_columns(pl.col("fpr", "tpr").clip(lower_bound=floor))
    points = points.gather_every(max(1, points.height // MOST_MARKS))
    scale = alt.Scale(type="log", domain=[floor, 1])
    axis = alt.Axis(format="~p", values=[10.0**-power for power in range(round(-math.log10(floor)) + 1)])
    x = alt.X("fpr:Q", title=unit.say("Held-out users accused (FPR)"), scale=scale, axis=axis)
    y = alt.Y("tpr:Q", title="Members recognised (TPR)", scale=scale, axis=axis)
    legend = alt.Legend(title=None, orient="top", symbolStrokeWidth=2.5, symbolSize=260)
    colour = alt.Color("audit:N", scale=alt.Scale(domain=audits, range=COLOURS), legend=legend)
    dash = alt.StrokeDash("audit:N", scale=alt.Scale(domain=audits, range=DASHES), legend=legend)
    tips = [alt.Tooltip("audit:N"), *(alt.Tooltip(f"{name}:Q", format=".1%") for name in ("fpr", "tpr"))]
    line = alt.Chart(points).mark_line(interpolate="step-after", strokeWidth=2.2)
    ends = pl.DataFrame({"fpr": [floor, 1.0], "tpr": [floor, 1.0]})
    chance = alt.Chart(ends).mark_line(color=QUIET, strokeDash=[3, 4]).encode(x=x, y=y)
    below = alt.Chart(pl.DataFrame({"start": [floor], "end": [max(floor, resolved)]}))
    shade = below.mark_rect(color=QUIET, opacity=0.16).encode(x=alt.X("start:Q", scale=scale), x2=alt.X2("end:Q"))
    return alt.LayerChart(
        layer=[shade, chance, line.encode(x=x, y=y, color=colour, strokeDash=dash, tooltip=tips)]
    ).properties(height=340)


def user_by_user(pairs: pl.DataFrame, number: int, unit: Unit = USER) -> alt.LayerChart:
    """Each user's place among the held-out users in the first audit and in another.

    Args:
        pairs: user, group (members or held-out users), first, second: from 0 to 1.
        number: of the other audit.
    """
    groups = [MEMBER_LABEL, unit.say(HELD_OUT_LABEL)]
    axis = alt.Axis(format="%", tickCount=5)
    x = alt.X("first:Q", title="More member-like than, in audit 1", axis=axis, scale=alt.Scale(domain=[0, 1]))
    y = alt.Y("second:Q", title=f"…in audit {number}", axis=axis, scale=alt.Scale(domain=[0, 1]))
    legend = alt.Legend(title=None, orient="top", symbolOpacity=1, symbolSize=70)
    colour = alt.Color("group:N", scale=alt.Scale(domain=groups, range=[MEMBER, HELD_OUT]), legend=legend)
    shape = alt.Shape("group:N", scale=alt.Scale(domain=groups, range=["circle", "triangle-up"]), legend=legend)
    tips = [
        alt.Tooltip("user:N", title=unit.one),
        alt.Tooltip("group:N"),
        *(alt.Tooltip(f"{c}:Q", format=".0%") for c in ("first", "second")),
    ]
    dots = alt.Chart(pairs).mark_point(filled=True, opacity=1, size=32)
    same = alt.Chart(pl.DataFrame({"first": [0, 1], "second": [0, 1]})).mark_line(color=QUIET, strokeDash=[3, 4])
    return alt.LayerChart(
        layer=[same.encode(x=x, y=y), dots.encode(x=x, y=y, color=colour, shape=shape, tooltip=tips)]
    ).properties(height=380)
