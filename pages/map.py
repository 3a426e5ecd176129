"""A flat map of people by what the target says of them, now and as its training went on."""

from __future__ import annotations

import polars as pl
import streamlit as st

from mia_core.report.results import AuditResult
from mia_core.ui import charts, frame
from mia_core.ui.twin import show_chart

DRAWN_FROM = {"outputs": "Its last answer", "correlation": "All its answers", "hidden": "Its hidden vectors"}
CAPTIONS = {
    "outputs": "Near one another lie users of whom the target expects much the same last item.",
    "correlation": "Near one another lie users whose items the target finds likely at the same places.",
    "hidden": "Near one another lie users whose latest window looks alike to the target's last layer.",
}
METHODS = {"t-SNE": "Neighbourhoods (t-SNE)", "PCA": "Distances (PCA)"}
METHOD_CAPTIONS = {
    "t-SNE": "Only neighbourhoods mean something: how far apart two clouds lie, and in which direction, does not.",
    "PCA": "The two directions in which these users differ most; distances mean something, but what lies in other directions "
    "is not seen.",
}
FINISHED = "finished"


def choose(places: pl.DataFrame) -> tuple[pl.DataFrame, str, str, str]:
    """(the places to draw, what they are drawn from, the method, the epoch in words), as the address says."""
    ways = [way for way in DRAWN_FROM if way in set(places["drawn_from"])]
    left, right = st.columns(2)
    way = left.segmented_control(
        "Drawn from",
        ways,
        default=ways[0],
        format_func=DRAWN_FROM.__getitem__,
        key="from",
        bind="query-params",
        required=True,
    )
    # Audits of earlier versions hold neighbourhoods alone.
    there = set(places["method"]) if "method" in places.columns else {"t-SNE"}
    methods = [method for method in METHODS if method in there]
    method = right.segmented_control(
        "Laid out by",
        methods,
        default=methods[0],
        format_func=METHODS.__getitem__,
        key="method",
        bind="query-params",
        required=True,
    )
    chosen = places.filter(pl.col("drawn_from") == way)
    if "method" not in places.columns:
        return chosen, way, method, FINISHED
    chosen = chosen.filter(pl.col("method") == method)
    epochs = [str(epoch) for epoch in chosen["epoch"].drop_nulls().unique().sort()]
    when = FINISHED
    if len(epochs) > 1:
        when = st.select_slider(
            "After so many epochs of training",
            [*epochs, FINISHED],
            value=FINISHED,
            key="epoch",
            bind="query-params",
            help="Along the epochs one plane is kept, that of the last, for those users who were watched.",
        )
    at = pl.col("epoch").is_null() if when == FINISHED else pl.col("epoch") == int(when)
    return chosen.filter(at), way, method, when


def axes(places: pl.DataFrame, way: str, when: str) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """The limits of both axes, the same for all epochs, so that who moves is seen to move."""
    if when == FINISHED or "epoch" not in places.columns:
        return None
    along = places.filter((pl.col("drawn_from") == way) & pl.col("epoch").is_not_null())
    limits = []
    for name in ("x", "y"):
        values = along[name].drop_nans().to_numpy()
        room = 0.05 * (values.max() - values.min() or 1.0)
        limits.append((float(values.min() - room), float(values.max() + room)))
    return limits[0], limits[1]


def show(result: AuditResult) -> None:
    """The map, and the way from a mark to the user behind it."""
    say, unit = result.unit.say, result.unit
    places = frame.table(result.key, "map")
    chosen, way, method, when = choose(places)
    label = say("A map of members and held-out users, by what the target says of them")
    table = charts.on_map(chosen, unit).select(
        pl.col("user").alias(unit.one.capitalize()), pl.col("role").alias("Role"), pl.col("x", "y").round(3)
    )
    picture = charts.people_map(chosen, unit, axes(places, way, when))
    event = show_chart(picture, label, table, f"map_{way}_{method}_{when}", selectable=True)
    st.caption(
        say(
            f"{CAPTIONS[way]} {METHOD_CAPTIONS[method]} Where members and held-out users lie mixed, this picture tells nobody "
            f"apart. Of {table.height:,} audited users, drawn at random."
        )
    )
    marks = event.get("selection", {}).get(charts.CHOSEN, []) if event else []
    if marks:
        user = str(marks[0]["user"])
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            st.text(user)
            frame.link("users", say("Look at this user"), ":material/person:", audit=result.key, user=user)
    else:
        st.caption(say("Click a mark to see which user it is; the table beneath the map names them all."))


st.title("Map")
key = frame.chosen_audit()
if key is None:
    frame.empty_state("A map needs a finished audit. The demo takes about a minute.", "Start", "start")
elif not frame.has_table(key, "map"):
    st.info(
        "No map was drawn in this audit: it looks at lists alone, or `evaluation.map_users` is 0. Set it to a few hundred and "
        "run the audit again; what was trained is kept."
    )
else:
    show(frame.result(key))
