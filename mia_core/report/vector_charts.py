"""Charts of a report on paper: still, labelled directly, drawn as vectors. Ink is `currentColor`, so they fit light and dark."""

from __future__ import annotations

import json
from functools import cache, lru_cache
from importlib import resources
from typing import Literal

import altair as alt
import numpy as np
import polars as pl
import vl_convert

from mia_core.types import USER, Role, Unit

MEMBER, HELD_OUT, QUIET = "#0072B2", "#D55E00", "#8a94a0"
"""The same colours as on the pages."""
BINS = 40
WIDTH, HEIGHT = 290, 215


def roc(points: pl.DataFrame, *, logarithmic: bool, unit: Unit = USER) -> alt.LayerChart:
    """The ROC curve of one attack with its interval band, and the diagonal of guessing.

    Args:
        points: fpr, tpr, low, high, false_positives, of one attack.
        logarithmic: both axes logarithmic, for the low false-positive rates that matter to a named person.
    """
    held_out = int(points["false_positives"].max() or 2)  # type: ignore[arg-type]
    floor = float(10.0 ** np.floor(np.log10(1 / max(2, held_out)))) if logarithmic else 0.0
    shown = points.with_columns(pl.col("fpr", "tpr", "low", "high").clip(lower_bound=floor))
    scale = alt.Scale(type="log", domain=[floor, 1]) if logarithmic else alt.Scale(domain=[0, 1])
    decades = [10.0**-power for power in range(round(-np.log10(floor)) + 1)] if logarithmic else [0, 0.25, 0.5, 0.75, 1]
    axis = alt.Axis(format="~p" if logarithmic else "~%", values=decades)
    x = alt.X("fpr:Q", title=unit.say("Held-out users wrongly accused (FPR)"), scale=scale, axis=axis)
    title = "Members recognised (TPR)"
    y, low = (alt.Y(f"{name}:Q", title=title, scale=scale, axis=axis) for name in ("tpr", "low"))
    base = alt.Chart(shown)
    band = base.mark_area(opacity=0.2, color=MEMBER, interpolate="step-after").encode(x=x, y=low, y2="high:Q")
    line = base.mark_line(color=MEMBER, strokeWidth=2, interpolate="step-after").encode(x=x, y=y)
    ends = pl.DataFrame({"fpr": np.geomspace(floor, 1, 20) if logarithmic else np.array([0.0, 1.0])})
    chance = alt.Chart(ends).mark_line(color=QUIET, strokeDash=[3, 4]).encode(x=x, y=alt.Y("fpr:Q"))
    return alt.LayerChart(layer=[band, chance, line]).properties(width=WIDTH, height=HEIGHT)


def densities(scores: pl.DataFrame, title: str, unit: Unit = USER) -> alt.LayerChart | None:
    """Step densities of a score, members against held-out users; None where one of the groups has none.

    Args:
        scores: role, value.
    """
    groups = {
        "Members": [Role.KNOWN_MEMBER, Role.AUDITED_MEMBER],
        unit.say("Held-out users"): [Role.KNOWN_HELD_OUT, Role.AUDITED_HELD_OUT],
    }
    arrays = {
        name: scores.filter(pl.col("role").is_in(roles))["value"].drop_nulls().to_numpy()
        for name, roles in groups.items()
    }
    if not all(len(array) for array in arrays.values()):
        return None
    everything = np.concatenate(list(arrays.values()))
    low, high = float(everything.min()), float(everything.max())
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    rows = pl.concat(
        pl.DataFrame({"value": edges, "share": [*(np.histogram(array, edges)[0] / len(array)), 0.0]}).with_columns(
            group=pl.lit(name)
        )
        for name, array in arrays.items()
    )
    names = list(arrays)
    colour = alt.Color("group:N", scale=alt.Scale(domain=names, range=[MEMBER, HELD_OUT]), legend=None)
    dash = alt.StrokeDash("group:N", scale=alt.Scale(domain=names, range=[[1, 0], [6, 4]]), legend=None)
    x = alt.X("value:Q", title=title, scale=alt.Scale(nice=False, zero=False), axis=alt.Axis(tickCount=6))
    y = alt.Y("share:Q", title="Share of group", axis=alt.Axis(format="~%", tickCount=4))
    base = alt.Chart(rows)
    area = base.mark_area(interpolate="step-after", opacity=0.14).encode(x=x, y=y.stack(None), color=colour)
    line = base.mark_line(interpolate="step-after", strokeWidth=2).encode(x=x, y=y, color=colour, strokeDash=dash)
    # Each group is named at its highest point, on the side away from the other group where there is room.
    tops = rows.group_by("group", maintain_order=True).agg(pl.all().sort_by("share").last())
    at = {row["group"]: (row["value"] - low) / (edges[-1] - low) for row in tops.iter_rows(named=True)}
    outward: tuple[Literal["left", "right"], ...] = (
        ("left", "right") if at[names[0]] >= at[names[1]] else ("right", "left")
    )
    sides: list[Literal["left", "right"]] = [
        "left" if at[name] < 0.25 else "right" if at[name] > 0.75 else side
        for name, side in zip(names, outward, strict=True)
    ]
    labels = [
        alt.Chart(tops.filter(pl.col("group") == name))
        .mark_text(align=side, dx=6 if side == "left" else -6, dy=-6, fontWeight=600, fontSize=12, color=ink)
        .encode(x=x, y=y, text="group:N")
        for name, ink, side in zip(names, (MEMBER, HELD_OUT), sides, strict=True)
    ]
    return alt.LayerChart(layer=[area, line, *labels]).properties(width=2 * WIDTH + 40, height=190)


def auc_by_attack(rows: pl.DataFrame) -> alt.LayerChart:
    """One mark with its interval per attack, guessing marked.

    Args:
        rows: title, lead (bool), value, low, high; in the order in which they are shown.
    """
    scale = alt.Scale(domain=[min(0.4, float(rows["low"].min() or 0)), 1], nice=False)  # type: ignore[arg-type]
    x, low = (alt.X(f"{name}:Q", title="AUC (0.5 = guessing, 1 = perfect)", scale=scale) for name in ("value", "low"))
    y = alt.Y("title:N", title=None, sort=None, axis=alt.Axis(labelLimit=260, ticks=False, domain=False, grid=False))
    shape = alt.Shape("lead:N", scale=alt.Scale(domain=[True, False], range=["diamond", "circle"]), legend=None)
    base = alt.Chart(rows)
    bars = base.mark_rule(strokeWidth=2, color=MEMBER).encode(x=low, x2="high:Q", y=y)
    dots = base.mark_point(filled=True, size=70, opacity=1, color=MEMBER).encode(x=x, y=y, shape=shape)
    chance = alt.Chart(pl.DataFrame({"value": [0.5]})).mark_rule(color=QUIET, strokeDash=[3, 4]).encode(x=x)
    return alt.LayerChart(layer=[chance, bars, dots]).properties(width=400, height=alt.Step(20))


def as_svg(chart: alt.LayerChart) -> str:
    """A chart as SVG text without a background."""
    dressed = (
        chart.configure(font="Inter", background="transparent")
        .configure_axis(
            labelColor="currentColor",
            titleColor="currentColor",
            gridColor=QUIET,
            gridOpacity=0.25,
            domainColor=QUIET,
            tickColor=QUIET,
            labelFontSize=11,
            titleFontSize=11,
            titleFontWeight="normal",
            titlePadding=8,
        )
        .configure_view(stroke=None)
    )
    # Its parts were checked as they were made.
    return _drawn(dressed.to_json(validate=False))


@lru_cache(maxsize=32)
def _drawn(spec: str) -> str:
    """Preview, HTML and PDF show the same drawing: it is made once."""
    _measure_as_set()
    return str(vl_convert.vegalite_to_svg(json.loads(spec)))


@cache
def _measure_as_set() -> None:
    """Letters are measured in the font in which they will be set."""
    vl_convert.register_font_directory(str(resources.files("fontpkg_inter") / "files"))


def draw_once() -> None:
    """Starts what draws: the first chart of a process takes as long as many later ones."""
    as_svg(alt.LayerChart(layer=[alt.Chart(pl.DataFrame({"value": [0.5]})).mark_rule().encode(x="value:Q")]))
