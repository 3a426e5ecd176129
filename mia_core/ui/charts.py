"""Charts of an audit. Each gets binned or thinned data: at most 2,000 marks.

Members are blue and solid, held-out users vermillion and dashed, everywhere, in light and in dark.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import altair as alt
import numpy as np
import polars as pl

from mia_core.types import USER, Role, Unit

MEMBER, HELD_OUT = "#0072B2", "#D55E00"
MEMBER_LABEL, HELD_OUT_LABEL = "Members", "Held-out users"
SUBJECT = "#C2528B"
QUIET = "#8a94a0"
LABEL = "#7d8791"
"""Text in a chart: dark enough on light, light enough on dark."""
BINS = 40
FEWEST_FALSE_POSITIVES = 10
MOST_MARKS = 2_000

_LEGEND = alt.Legend(title=None, orient="top", symbolType="square", symbolOpacity=1, symbolStrokeWidth=0)


def densities(values: pl.DataFrame, title: str, bins: int = BINS, unit: Unit = USER) -> alt.Chart | alt.LayerChart:
    """Two step densities of one value, members against held-out users.

    Args:
        values: role, value; other roles than members and held-out users are left out, nulls too.
    """
    return alt.LayerChart(layer=_steps(binned(values, bins, unit), title, unit)).properties(height=230)


def binned(values: pl.DataFrame, bins: int = BINS, unit: Unit = USER) -> pl.DataFrame:
    """group, value (left edge), share: each group's histogram over common bins, as shares of the group."""
    groups = {
        MEMBER_LABEL: values.filter(pl.col("role").is_in([Role.KNOWN_MEMBER, Role.AUDITED_MEMBER])),
        unit.say(HELD_OUT_LABEL): values.filter(pl.col("role").is_in([Role.KNOWN_HELD_OUT, Role.AUDITED_HELD_OUT])),
    }
    arrays = {name: part["value"].drop_nulls().to_numpy() for name, part in groups.items()}
    return _binned(arrays, bins)


def _binned(arrays: dict[str, np.ndarray], bins: int) -> pl.DataFrame:
    everything = np.concatenate(list(arrays.values()))
    if not len(everything):
        return pl.DataFrame(schema={"group": pl.String, "value": pl.Float64, "share": pl.Float64})
    low, high = float(everything.min()), float(everything.max())
    edges = np.linspace(low, high if high > low else low + 1, bins + 1)
    rows = []
    for name, array in arrays.items():
        counts = np.histogram(array, edges)[0] / max(1, len(array))
        # A last point at the right edge closes the step.
        rows += [
            {"group": name, "value": float(x), "share": float(y)} for x, y in zip(edges, [*counts, 0.0], strict=True)
        ]
    return pl.DataFrame(rows)


def _steps(steps: pl.DataFrame, title: str, unit: Unit) -> list[alt.Chart]:
    groups = [MEMBER_LABEL, unit.say(HELD_OUT_LABEL)]
    colour = alt.Color("group:N", scale=alt.Scale(domain=groups, range=[MEMBER, HELD_OUT]), legend=_LEGEND)
    dash = alt.StrokeDash("group:N", scale=alt.Scale(domain=groups, range=[[1, 0], [6, 4]]), legend=None)
    x = alt.X("value:Q", title=title, scale=alt.Scale(nice=False, zero=False), axis=alt.Axis(tickCount=5))
    y = alt.Y("share:Q", title="Share of group", axis=alt.Axis(format="%", tickCount=4))
    tips = ["group:N", alt.Tooltip("value:Q", format=".3f"), alt.Tooltip("share:Q", format=".1%")]
    base = alt.Chart(steps)
    area = base.mark_area(interpolate="step-after", opacity=0.16).encode(x=x, y=y.stack(None), color=colour)
    line = base.mark_line(interpolate="step-after", strokeWidth=2)
    return [area, line.encode(x=x, y=y, color=colour, strokeDash=dash, tooltip=tips)]


def place(
    member_scores: Sequence[float], held_out_scores: Sequence[float], score: float, unit: Unit = USER
) -> alt.Chart | alt.LayerChart:
    """Where one person's score lies in both distributions."""
    groups = [MEMBER_LABEL, unit.say(HELD_OUT_LABEL)]
    arrays = {
        name: np.asarray(scores, float) for name, scores in zip(groups, (member_scores, held_out_scores), strict=True)
    }
    everything = np.concatenate([*arrays.values(), [score]])
    arrays = {name: array[np.isfinite(array)] for name, array in arrays.items()}
    distributions = _steps(_binned(arrays, 30), "Score (further right = more member-like)", unit)
    subject = alt.Chart(pl.DataFrame({"value": [score], "label": [unit.say("this person")]}))
    rule = subject.mark_rule(color=SUBJECT, strokeWidth=3).encode(
        x="value:Q", tooltip=[alt.Tooltip("value:Q", title="score", format=".3f")]
    )
    middle = float(np.nanmedian(everything))
    label = subject.mark_text(
        align="right" if score > middle else "left",
        dx=-7 if score > middle else 7,
        baseline="bottom",
        color=SUBJECT,
        fontSize=13,
        fontWeight="bold",
    ).encode(x="value:Q", y=alt.value(-3), text="label:N")
    return alt.LayerChart(layer=[*distributions, rule, label]).properties(height=290)


def roc(points: pl.DataFrame, *, logarithmic: bool, unit: Unit = USER) -> alt.Chart | alt.LayerChart:
    """The ROC curve of one attack with its interval band, and the diagonal of chance.

    Args:
        points: fpr, tpr, low, high, false_positives (`AuditResult` table roc, one attack).
        logarithmic: both axes logarithmic, for the low false-positive rates that matter to a named person.
    """
    floor = 10.0 ** np.floor(np.log10(1 / max(2, _held_out(points))))
    if logarithmic:
        points = points.with_columns(pl.col("fpr", "tpr", "low", "high").clip(lower_bound=floor))
    points = points.with_columns(few=pl.col("false_positives") < FEWEST_FALSE_POSITIVES)
    kind = {"type": "log", "domain": [floor, 1]} if logarithmic else {"domain": [0, 1]}
    decades = [10.0**-power for power in range(round(-np.log10(floor)) + 1)]
    axis = alt.Axis(format="~p", values=decades) if logarithmic else alt.Axis(format="~%", tickCount=5)
    accused = unit.say("Held-out users wrongly accused (FPR)")
    x = alt.X("fpr:Q", title=accused, scale=alt.Scale(**kind), axis=axis)
    y = alt.Y("tpr:Q", title="Members recognised (TPR)", scale=alt.Scale(**kind), axis=axis)
    tips = [alt.Tooltip(f"{name}:Q", format=".1%") for name in ("fpr", "tpr", "low", "high")] + ["false_positives:Q"]
    base = alt.Chart(points)
    band = base.mark_area(opacity=0.18, color=MEMBER, interpolate="step-after").encode(
        x=x, y=alt.Y("low:Q", title=""), y2="high:Q"
    )
    line = base.mark_line(color=MEMBER, strokeWidth=2.2, interpolate="step-after").encode(x=x, y=y, tooltip=tips)
    few = (
        base.transform_filter("datum.few")
        .mark_point(color=QUIET, size=22, filled=True, opacity=1)
        .encode(x=x, y=y, tooltip=tips)
    )
    ends = pl.DataFrame({"fpr": np.geomspace(floor, 1, 20) if logarithmic else [0.0, 1.0]}).with_columns(
        tpr=pl.col("fpr")
    )
    chance = alt.Chart(ends).mark_line(color=QUIET, strokeDash=[3, 4]).encode(x=x, y=y)
    return alt.LayerChart(layer=[band, chance, line, few]).properties(height=330)


def _held_out(points: pl.DataFrame) -> int:
    return int(points["false_positives"].max() or 2)  # type: ignore[arg-type]


def auc_by_attack(rows: pl.DataFrame, domain: tuple[float, float] | None = None) -> alt.Chart | alt.LayerChart:
    """One dot with its interval per attack, chance marked; each name beside its interval, where there is room.

    Args:
        rows: title, status, value, low, high.
        domain: of the axis; charts under one another share it.
    """
    low, high = domain or auc_domain(rows)
    scale = alt.Scale(domain=[low, high], nice=False, zero=False)
    x = alt.X("value:Q", title="AUC (0.5 = chance, 1 = perfect)", scale=scale, axis=alt.Axis(tickCount=5))
    y = alt.Y("title:N", title=None, sort=rows["title"].to_list(), axis=None)
    statuses = ["honest", "published", "confounded", "demonstration"]
    # What kind of attack it is matters only where there are several kinds.
    present = [status for status in statuses if status in set(rows["status"])]
    legend = alt.Legend(title=None, orient="top", values=present) if len(present) > 1 else None
    colour = alt.Color(
        "status:N", scale=alt.Scale(domain=statuses, range=[MEMBER, QUIET, "#CC79A7", "#9a6b00"]), legend=legend
    )
    shape = alt.Shape(
        "status:N", scale=alt.Scale(domain=statuses, range=["circle", "square", "cross", "triangle-up"]), legend=legend
    )
    base = alt.Chart(rows)
    bars = base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", title="", scale=scale), x2="high:Q", y=y, color=colour)
    tips = ["title:N", "status:N", *(alt.Tooltip(f"{name}:Q", format=".3f") for name in ("value", "low", "high"))]
    dots = base.mark_point(filled=True, size=80, opacity=1).encode(x=x, y=y, color=colour, shape=shape, tooltip=tips)
    # Each name stands on the side of its interval where there is more room.
    right = f"datum.value > {(low + high) / 2}"
    before = base.transform_filter(right).mark_text(align="right", dx=-8, color=LABEL, fontSize=12)
    after = base.transform_filter(f"!({right})").mark_text(align="left", dx=8, color=LABEL, fontSize=12)
    names = [
        text.encode(x=alt.X(f"{end}:Q", scale=scale), y=y, text="title:N")
        for text, end in ((before, "low"), (after, "high"))
    ]
    chance = alt.Chart(pl.DataFrame({"value": [0.5]})).mark_rule(color=QUIET, strokeDash=[3, 4]).encode(x=x)
    return alt.LayerChart(layer=[chance, bars, dots, *names]).properties(height=alt.Step(26))


def auc_domain(rows: pl.DataFrame) -> tuple[float, float]:
    """From a little below chance, or from the lowest interval, to 1."""
    return min(0.4, float(rows["low"].min() or 0)), 1.0  # type: ignore[arg-type]


def battery(rows: pl.DataFrame) -> alt.Chart | alt.LayerChart:
    """AUC of every attack in every audit, as a table of coloured cells; what is at chance is grey.

    Args:
        rows: attack, audit, value, low, high, text; in the order in which they are shown.
    """
    shown = rows.with_columns(chance=(pl.col("low") <= 0.5) & (pl.col("high") >= 0.5))
    x = alt.X("audit:N", title=None, sort=None, axis=alt.Axis(orient="top", labelAngle=-40, labelLimit=220))
    y = alt.Y("attack:N", title=None, sort=None, axis=alt.Axis(labelLimit=240))
    tips = ["attack:N", "audit:N", *(alt.Tooltip(f"{name}:Q", format=".3f") for name in ("value", "low", "high"))]
    colour = alt.condition(
        "datum.chance",
        alt.value("#b8bec6"),
        alt.Color("value:Q", scale=alt.Scale(scheme="viridis", domain=[0.5, 1.0]), legend=alt.Legend(title="AUC")),
    )
    cells = alt.Chart(shown).mark_rect(stroke="white", strokeWidth=1).encode(x=x, y=y, color=colour, tooltip=tips)
    ink = alt.condition("datum.chance || datum.value > 0.8", alt.value("#10151c"), alt.value("white"))
    text = alt.Chart(shown).mark_text(fontSize=11).encode(x=x, y=y, text="text:N", color=ink, tooltip=tips)
    return alt.LayerChart(layer=[cells, text]).properties(height=alt.Step(22), width=alt.Step(74))


def list_bound(rows: pl.DataFrame, unit: Unit = USER) -> alt.Chart | alt.LayerChart:
    """How many of a list may be wrong at most, for every length of the list.

    Args:
        rows: listed, wrong_at_most.
    """
    thinned = rows.gather(np.unique(np.linspace(0, rows.height - 1, 400).round().astype(int)))
    x = alt.X("listed:Q", title=unit.say("Users on the list, smallest p-values first"))
    base = alt.Chart(thinned)
    tips = ["listed:Q", "wrong_at_most:Q"]
    wrong = base.mark_area(color=HELD_OUT, opacity=0.25, line={"color": HELD_OUT, "strokeDash": [6, 4]}).encode(
        x=x, y=alt.Y("wrong_at_most:Q", title="Wrong at most"), tooltip=tips
    )
    everybody = base.mark_line(color=QUIET, strokeDash=[3, 4]).encode(x=x, y="listed:Q")
    return alt.LayerChart(layer=[wrong, everybody]).properties(height=230)


def people_map(places: pl.DataFrame, unit: Unit = USER) -> alt.Chart | alt.LayerChart:
    """Who lies beside whom: members as blue circles, held-out users as vermillion triangles.

    Args:
        places: user, role, x, y; of other roles, or without a place, nobody is shown; of more than 2,000, as many are.
    """
    members = pl.col("role").is_in([Role.KNOWN_MEMBER, Role.AUDITED_MEMBER])
    others = pl.col("role").is_in([Role.KNOWN_HELD_OUT, Role.AUDITED_HELD_OUT])
    shown = places.filter((members | others) & pl.col("x").is_finite() & pl.col("y").is_finite())
    # Drawn in a mixed order, so that neither group covers the other.
    shown = shown.sample(min(shown.height, MOST_MARKS), seed=0, shuffle=True)
    groups = [MEMBER_LABEL, unit.say(HELD_OUT_LABEL)]
    shown = shown.select(
        "user",
        "x",
        "y",
        group=pl.when(members).then(pl.lit(groups[0])).otherwise(pl.lit(groups[1])),
        role=pl.col("role").str.replace("held_out", "held-out").str.replace("_", " "),
    )
    legend = alt.Legend(title=None, orient="top", symbolOpacity=1, symbolSize=70)
    nowhere = alt.Axis(labels=False, ticks=False, grid=False, title=None, domain=False)
    tips = [alt.Tooltip("user:N", title=unit.one), alt.Tooltip("role:N")]
    return (
        alt.Chart(shown)
        .mark_point(filled=True, opacity=0.65, size=42)
        .encode(
            x=alt.X("x:Q", axis=nowhere, scale=alt.Scale(zero=False, padding=12)),
            y=alt.Y("y:Q", axis=nowhere, scale=alt.Scale(zero=False, padding=12)),
            color=alt.Color("group:N", scale=alt.Scale(domain=groups, range=[MEMBER, HELD_OUT]), legend=legend),
            shape=alt.Shape("group:N", scale=alt.Scale(domain=groups, range=["circle", "triangle-up"]), legend=legend),
            tooltip=tips,
        )
        .properties(height=440)
    )


def histogram(values: Sequence[int], title: str, count_title: str, bins: int = 30) -> alt.Chart | alt.LayerChart:
    """A plain histogram of whole numbers from 0 on; the long tail is gathered in the last bin."""
    array = np.asarray(values, float)
    top = float(np.quantile(array, 0.99)) if len(array) else 1.0
    # Each bin holds equally many whole numbers: with fractional edges some would hold none.
    width = max(1, math.ceil((top + 1) / bins))
    edges = np.arange(0, top + 1 + width, width)
    counts = np.histogram(np.minimum(array, edges[-1]), edges)[0]
    rows = pl.DataFrame({"left": edges[:-1], "right": edges[1:], "count": counts})
    return (
        alt.Chart(rows)
        .mark_bar(color=MEMBER, opacity=0.85, binSpacing=1)
        .encode(
            x=alt.X("left:Q", bin="binned", title=title),
            x2="right:Q",
            y=alt.Y("count:Q", title=count_title),
            tooltip=["left:Q", "right:Q", "count:Q"],
        )
        .properties(height=180)
    )
