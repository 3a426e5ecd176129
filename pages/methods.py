"""Every attack, target, defence, gate and figure: what it asks, its formula and source, what it costs, where it fails."""

from __future__ import annotations

from urllib.parse import urlencode

import polars as pl
import streamlit as st

from mia_core.report.methods import KINDS, Method, find_method, matching, methods_of
from mia_core.ui import forms, frame, prose

STATUSES = {
    "honest": "evidence",
    "published": "as published, for comparison",
    "confounded": "confounded: shown for comparison",
    "demonstration": "leaks on purpose, to show how",
}
COLOURS = {"honest": "green", "published": "gray", "confounded": "orange", "demonstration": "orange"}


def show_method(method: Method) -> None:
    """All about one method."""
    st.subheader(method.title, divider="gray")
    with st.container(horizontal=True):
        st.badge(KINDS[method.kind])
        st.badge(method.group, color="gray")
        if method.status:
            st.badge(STATUSES[method.status], color=COLOURS[method.status])  # type: ignore[arg-type]
    prose.facts(
        {
            "What it asks": method.asks,
            "How": method.text if method.text != method.asks else "",
            "Formula": method.formula,
            "Access": method.access,
            "Cost, in passes" if method.kind == "attack" else "Cost": method.cost,
            "Where it fails": method.fails,
            "Expected effect": method.expected,
            "Source": method.source,
            "What differs here": method.differs,
            "Relations": method.relations,
            "Called in configs": f"`{method.name}`" if method.kind not in ("gate", "figure") else "",
        }
    )
    if method.settings:
        st.markdown("**Settings**")
        rows = [{"Setting": one.name, "Default": one.default, "What it is": one.text} for one in method.settings]
        st.dataframe(pl.DataFrame(rows), hide_index=True)


def choose(kind: str) -> list[Method]:
    """The methods of a kind that the reader asks for."""
    everything = methods_of(kind)
    search, *filters = st.columns([2, 1, 1, 1] if kind == "attack" else [2, 1], vertical_alignment="bottom")
    words = search.text_input(
        "Search", placeholder="a word, an author, an arXiv number", key="words", bind="query-params", live=True
    )
    found = matching(everything, words)
    names = {"Group": "group", "Access": "access", "Status": "status"} if kind == "attack" else {"Group": "group"}
    for column, (label, field) in zip(filters, names.items(), strict=True):
        options = list(dict.fromkeys(str(getattr(method, field)) for method in everything))
        chosen = column.selectbox(
            label,
            options,
            index=None,
            placeholder="All",
            format_func=lambda value: STATUSES.get(value, value),
            key=f"{kind}_{field}",
            bind="query-params",
        )
        found = [method for method in found if chosen in (None, getattr(method, field))]
    return found


def _row(method: Method) -> tuple[str, str, str, str]:
    status = "" if method.status in ("", "honest") else f"{method.access}, {method.status}"
    return (
        urlencode({"kind": method.kind, "method": method.address}),
        method.title,
        method.asks,
        status or method.access,
    )


def show_list(kind: str) -> None:
    """What there is of a kind, by group, each with the way to all about it."""
    found = choose(kind)
    count = len(methods_of(kind))
    st.caption(f"{len(found)} of {count}. Choose a name to read its formula, its source and where it fails.")
    for group in dict.fromkeys(method.group for method in found):
        st.subheader(group, divider="gray")
        prose.rows([_row(method) for method in found if method.group == group])
    if not found:
        st.info("Nothing here has all of these words. Take one out, or look under another kind.")


prose.style()
st.title("Methods")
asked = st.query_params.get("method", "")
chosen = find_method(asked) if asked else None
if asked and chosen is None:
    st.warning("The address names a method that is not known here. Choose one below.")
if chosen is not None:
    frame.link("methods", f"All {KINDS[chosen.kind].lower()}", ":material/arrow_back:", kind=chosen.kind)
    show_method(chosen)
    alike = [one for one in methods_of(chosen.kind) if one.group == chosen.group and one != chosen]
    if alike:
        st.markdown("**Of the same group**")
        prose.rows([_row(one) for one in alike])
else:
    st.html(
        '<p class="ms-quiet">What each method asks, on which paper it rests, what it needs, and where it fails. The texts '
        "are those of the program itself.</p>"
    )
    kind = forms.choice("Kind", KINDS, "kind", "attack") or "attack"
    show_list(kind)
