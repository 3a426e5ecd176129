"""Charts of an audit. Each gets binned or thinned data: at most 2,000 marks.

Members are blue and solid, held-out users vermillion and dashed, everywhere, in light and in dark.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import altair as alt
import numpy as np
import polars as pl

from mia_core.evaluate.metrics import smallest_fpr
from mia_core.types import USER, Role, Unit

MEMBER, HELD_OUT, CALIBRATION = "#0072B2", "#D55E00", "#009E73"
MEMBER_LABEL, HELD_OUT_LABEL, CALIBRATION_LABEL = "Members", "Held-out users", "Calibration users"
LOOKS = {MEMBER_LABEL: (MEMBER, [1, 0]), HELD_OUT_LABEL: (HELD_OUT, [6, 4]), CALIBRATION_LABEL: (CALIBRATION, [2, 3])}
"""Colour and dash of each group."""
SUBJECT = "#C2528B"
QUIET = "#7f8995"
PINK, GOLD, SKY = "#C4679B", "#B87A00", "#2E8FC7"
"""Further colours; all of them stand out 3 : 1 from the page, be it light or dark."""
BINS = 40
CHOSEN = "chosen"
"""Name of what was clicked on a map."""
FEWEST_FALSE_POSITIVES = 10
MOST_MARKS = 2_000

LEGEND = alt.Legend(title=None, orient="top", columns=2, symbolType="square", symbolOpacity=1, symbolStrokeWidth=0)


def densities(
    values: pl.DataFrame, title: str, bins: int = BINS, unit: Unit = USER, *, calibration: bool = False
) -> alt.Chart | alt.LayerChart:
    """Step densities of one value, members against held-out users.

    Args:
        values: role, value; other roles than members and held-out users are left out, nulls too.
        calibration: the held-out users who calibrate the p-values get a curve of their own.
    """
    steps = binned(values, bins, unit, calibration=calibration)
    return steps_chart(steps, title, unit)


def steps_chart(steps: pl.DataFrame, title: str, unit: Unit = USER) -> alt.LayerChart:
    """The densities that were binned before.

    Args:
        steps: by `binned`.
    """
    return alt.LayerChart(layer=_steps(steps, title, unit)).properties(height=230)


def binned(values: pl.DataFrame, bins: int = BINS, unit: Unit = USER, *, calibration: bool = False) -> pl.DataFrame:
    """group, value (left edge), share: each group's histogram over common bins, as shares of the group."""
    roles = {
        MEMBER_LABEL: [Role.KNOWN_MEMBER, Role.AUDITED_MEMBER],
        HELD_OUT_LABEL: [Role.KNOWN_HELD_OUT, *([] if calibration else [Role.AUDITED_HELD_OUT])],
        **({CALIBRATION_LABEL: [Role.AUDITED_HELD_OUT]} if calibration else {}),
    }
    groups = {unit.say(name): values.filter(pl.col("role").is_in(wanted)) for name, wanted in roles.items()}
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
    present = set(steps["group"])
    looks = {unit.say(name): look for name, look in LOOKS.items() if unit.say(name) in present}
    groups = list(looks)
    colour = alt.Color(
        "group:N", scale=alt.Scale(domain=groups, range=[colour for colour, _ in looks.values()]), legend=LEGEND
    )
    dash = alt.StrokeDash(
        "group:N", scale=alt.Scale(domain=groups, range=[dash for _, dash in looks.values()]), legend=None
    )
    x = alt.X("value:Q", title=title, scale=alt.Scale(nice=False, zero=False), axis=alt.Axis(tickCount=5))
    y = alt.Y("share:Q", title="Share of group", axis=alt.Axis(format="%", tickCount=4))
    tips = [alt.Tooltip("group:N"), alt.Tooltip("value:Q", format=".3f"), alt.Tooltip("share:Q", format=".1%")]
    base = alt.Chart(steps)
    area = base.mark_area(interpolate="step-after", opacity=0.16).encode(x=x, y=y.stack(None), color=colour)
    line = base.mark_line(interpolate="step-after", strokeWidth=2)
    return [area, line.encode(x=x, y=y, color=colour, strokeDash=dash, tooltip=tips)]


def place(
    member_scores: Sequence[float] | np.ndarray,
    held_out_scores: Sequence[float] | np.ndarray,
    score: float,
    unit: Unit = USER,
) -> alt.Chart | alt.LayerChart:
    """Where one person's score lies in both distributions."""
    steps = score_steps(member_scores, held_out_scores, unit)
    distributions = _steps(steps, "Score (further right = more member-like)", unit)
    everything = np.concatenate([np.asarray(member_scores, float), np.asarray(held_out_scores, float), [score]])
    subject = alt.Chart(pl.DataFrame({"value": [score], "label": [unit.say("this person")]}))
    rule = subject.mark_rule(color=SUBJECT, strokeWidth=3).encode(
        x=alt.X("value:Q"), tooltip=[alt.Tooltip("value:Q", title="score", format=".3f")]
    )
    middle = float(np.nanmedian(everything))
    label = subject.mark_text(
        align="right" if score > middle else "left",
        dx=-7 if score > middle else 7,
        baseline="bottom",
        fontSize=13,
        fontWeight="bold",
    ).encode(x=alt.X("value:Q"), y=alt.YValue(-3), text=alt.Text("label:N"))
    return alt.LayerChart(layer=[*distributions, rule, label]).properties(height=290)


def score_steps(
    member_scores: Sequence[float] | np.ndarray, held_out_scores: Sequence[float] | np.ndarray, unit: Unit = USER
) -> pl.DataFrame:
    """Both groups' scores, binned as `binned` does; what is not finite is left out."""
    groups = (MEMBER_LABEL, unit.say(HELD_OUT_LABEL))
    arrays = [np.asarray(scores, float) for scores in (member_scores, held_out_scores)]
    return _binned({name: array[np.isfinite(array)] for name, array in zip(groups, arrays, strict=True)}, 30)


def at_threshold(
    steps: pl.DataFrame, threshold: float, fixed: float | None, unit: Unit = USER
) -> alt.Chart | alt.LayerChart:
    """Where a chosen threshold, and that of the report, cut through both distributions of scores.

    Args:
        steps: by `score_steps`.
        threshold: whoever reaches it is called a member.
        fixed: the threshold of the report.
    """
    layers = _steps(steps, "Score (further right = more member-like)", unit)
    low, high = float(steps["value"].min()), float(steps["value"].max())  # type: ignore[arg-type]
    marks = [] if threshold == fixed else [(threshold, "chosen", SUBJECT, [1, 0])]
    marks += [] if fixed is None else [(fixed, "of the report", QUIET, [4, 3])]
    for value, name, colour, dash in marks:
        at = alt.Chart(pl.DataFrame({"value": [min(max(value, low), high)], "name": [name]}))
        # The names of two lines stand on their outer sides; that of a single one, where there is more room.
        right = value == min(threshold, fixed) if len(marks) > 1 and fixed is not None else value > (low + high) / 2
        rule = at.mark_rule(color=colour, strokeWidth=2.5, strokeDash=dash).encode(x=alt.X("value:Q"))
        text = at.mark_text(align="right" if right else "left", dx=-4 if right else 4, baseline="bottom", fontSize=13)
        layers += [rule, text.encode(x=alt.X("value:Q"), y=alt.YValue(-3), text=alt.Text("name:N"))]
    return alt.LayerChart(layer=layers).properties(height=260)


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
    accused = unit.say("Held-out users accused (FPR)")
    x = alt.X("fpr:Q", title=accused, scale=alt.Scale(**kind), axis=axis)
    y = alt.Y("tpr:Q", title="Members recognised (TPR)", scale=alt.Scale(**kind), axis=axis)
    tips = [alt.Tooltip(f"{name}:Q", format=".1%") for name in ("fpr", "tpr", "low", "high")] + [
        alt.Tooltip("false_positives:Q")
    ]
    base = alt.Chart(points)
    band = base.mark_area(opacity=0.18, color=MEMBER, interpolate="step-after").encode(
        x=x, y=alt.Y("low:Q", title=""), y2=alt.Y2("high:Q")
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
    limit = smallest_fpr(_held_out(points))
    unresolved = alt.Chart(pl.DataFrame({"start": [floor if logarithmic else 0.0], "end": [limit]}))
    shade = unresolved.mark_rect(color=QUIET, opacity=0.14).encode(
        x=alt.X("start:Q", scale=alt.Scale(**kind)), x2=alt.X2("end:Q")
    )
    edge = unresolved.mark_rule(color=QUIET, strokeWidth=1.5).encode(
        x=alt.X("end:Q", scale=alt.Scale(**kind)), tooltip=[alt.Tooltip("end:Q", format=".2%", title="resolved from")]
    )
    # Above the plot: within it the curve would run through the words.
    label = unresolved.mark_text(align="left", dx=-4, baseline="bottom", fontSize=12).encode(
        x=alt.X("end:Q", scale=alt.Scale(**kind)), y=alt.YValue(-4), text=alt.TextValue(f"resolved from {limit:.2%} on")
    )
    return alt.LayerChart(layer=[shade, edge, band, chance, line, few, label]).properties(height=330)


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
        "status:N", scale=alt.Scale(domain=statuses, range=[MEMBER, QUIET, PINK, "#9a6b00"]), legend=legend
    )
    shape = alt.Shape(
        "status:N", scale=alt.Scale(domain=statuses, range=["circle", "square", "cross", "triangle-up"]), legend=legend
    )
    base = alt.Chart(rows)
    bars = base.mark_rule(strokeWidth=2).encode(
        x=alt.X("low:Q", title="", scale=scale), x2=alt.X2("high:Q"), y=y, color=colour
    )
    tips = [
        alt.Tooltip("title:N"),
        alt.Tooltip("status:N"),
        *(alt.Tooltip(f"{name}:Q", format=".3f") for name in ("value", "low", "high")),
    ]
    dots = base.mark_point(filled=True, size=80, opacity=1).encode(x=x, y=y, color=colour, shape=shape, tooltip=tips)
    # Each name stands on the side of its interval where there is more room.
    right = f"datum.value > {(low + high) / 2}"
    before = base.transform_filter(right).mark_text(align="right", dx=-8, fontSize=12)
    after = base.transform_filter(f"!({right})").mark_text(align="left", dx=8, fontSize=12)
    names = [
        text.encode(x=alt.X(f"{end}:Q", scale=scale), y=y, text=alt.Text("title:N"))
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
    x = alt.X(
        "audit:N",
        title=None,
        sort=None,
        axis=alt.Axis(orient="top", labelAngle=-40, labelLimit=220, labelOverlap=False),
    )
    y = alt.Y("attack:N", title=None, sort=None, axis=alt.Axis(labelLimit=240))
    tips = [
        alt.Tooltip("attack:N"),
        alt.Tooltip("audit:N"),
        *(alt.Tooltip(f"{name}:Q", format=".3f") for name in ("value", "low", "high")),
    ]
    colour = alt.condition(
        "datum.chance",
        alt.value("#b8bec6"),
        alt.Color("value:Q", scale=alt.Scale(scheme="viridis", domain=[0.5, 1.0]), legend=alt.Legend(title="AUC")),
    )
    cells = alt.Chart(shown).mark_rect(stroke="white", strokeWidth=1).encode(x=x, y=y, color=colour, tooltip=tips)
    ink = alt.condition("datum.chance || datum.value > 0.72", alt.value("#10151c"), alt.value("white"))
    text = alt.Chart(shown).mark_text(fontSize=11).encode(x=x, y=y, text=alt.Text("text:N"), color=ink, tooltip=tips)
    return alt.LayerChart(layer=[cells, text]).properties(height=alt.Step(22), width=alt.Step(74))


def list_bound(rows: pl.DataFrame, unit: Unit = USER) -> alt.Chart | alt.LayerChart:
    """How many of a list may be wrong at most, for every length of the list.

    Args:
        rows: listed, wrong_at_most.
    """
    x = alt.X("listed:Q", title=unit.say("Users on the list, smallest p-values first"), axis=alt.Axis(tickCount=8))
    base = alt.Chart(thinned(rows))
    tips = [alt.Tooltip("listed:Q"), "wrong_at_most:Q"]
    wrong = base.mark_area(color=HELD_OUT, opacity=0.25, line={"color": HELD_OUT, "strokeDash": [6, 4]}).encode(
        x=x, y=alt.Y("wrong_at_most:Q", title=unit.say("Users wrong at most"), axis=alt.Axis(tickCount=4)), tooltip=tips
    )
    everybody = base.mark_line(color=QUIET, strokeDash=[3, 4]).encode(x=x, y=alt.Y("listed:Q"))
    return alt.LayerChart(layer=[wrong, everybody]).properties(height=230)


def thinned(rows: pl.DataFrame, most: int = 400) -> pl.DataFrame:
    """At most so many of the rows, evenly spaced, the first and the last among them."""
    return rows.gather(np.unique(np.linspace(0, rows.height - 1, most).round().astype(int)))


def on_map(places: pl.DataFrame, unit: Unit = USER) -> pl.DataFrame:
    """user, group, role in words, x, y of those whom `people_map` shows, in a mixed order."""
    members = pl.col("role").is_in([Role.KNOWN_MEMBER, Role.AUDITED_MEMBER])
    others = pl.col("role").is_in([Role.KNOWN_HELD_OUT, Role.AUDITED_HELD_OUT])
    shown = places.filter((members | others) & pl.col("x").is_finite() & pl.col("y").is_finite())
    # Drawn in a mixed order, so that neither group covers the other.
    shown = shown.sample(min(shown.height, MOST_MARKS), seed=0, shuffle=True)
    groups = [MEMBER_LABEL, unit.say(HELD_OUT_LABEL)]
    return shown.select(
        "user",
        "x",
        "y",
        group=pl.when(members).then(pl.lit(groups[0])).otherwise(pl.lit(groups[1])),
        role=pl.col("role").str.replace("held_out", "held-out").str.replace("_", " "),
    )


def people_map(
    places: pl.DataFrame,
    unit: Unit = USER,
    limits: tuple[tuple[float, float], tuple[float, float]] | None = None,
) -> alt.Chart:
    """Who lies beside whom: members as blue circles, held-out users as vermillion triangles; a click chooses one.

    Args:
        places: user, role, x, y; of other roles, or without a place, nobody is shown; of more than 2,000, as many are.
        limits: of both axes; by default as far as there are marks.
    """
    groups = [MEMBER_LABEL, unit.say(HELD_OUT_LABEL)]
    shown = on_map(places, unit)
    legend = alt.Legend(title=None, orient="top", symbolOpacity=1, symbolSize=70)
    nowhere = alt.Axis(labels=False, ticks=False, grid=False, title=None, domain=False)
    tips = [alt.Tooltip("user:N", title=unit.one), alt.Tooltip("role:N")]
    scales = [
        alt.Scale(zero=False, padding=12) if limits is None else alt.Scale(domain=list(limits[axis]), nice=False)
        for axis in (0, 1)
    ]
    chosen = alt.selection_point(name=CHOSEN, fields=["user"], empty=False)
    return (
        alt.Chart(shown)
        .mark_point(filled=True, opacity=1)
        .encode(
            x=alt.X("x:Q", axis=nowhere, scale=scales[0]),
            y=alt.Y("y:Q", axis=nowhere, scale=scales[1]),
            color=alt.Color("group:N", scale=alt.Scale(domain=groups, range=[MEMBER, HELD_OUT]), legend=legend),
            shape=alt.Shape("group:N", scale=alt.Scale(domain=groups, range=["circle", "triangle-up"]), legend=legend),
            size=alt.condition(chosen, alt.value(260), alt.value(42)),
            tooltip=tips,
        )
        .add_params(chosen)
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
            x2=alt.X2("right:Q"),
            y=alt.Y("count:Q", title=count_title),
            tooltip=[alt.Tooltip("left:Q"), alt.Tooltip("right:Q"), "count:Q"],
        )
        .properties(height=180)
    )
