"""Two or more audits side by side, paired by user: what differs in them, and by how much."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import streamlit as st

from mia_core.report.comparing import (
    AuditComparison,
    common_attacks,
    compare_audits,
    differing_settings,
    explain_finding,
    smallest_fpr,
    title_of,
)
from mia_core.report.results import AuditResult
from mia_core.types import Role
from mia_core.ui import charts, compare_charts, frame
from mia_core.ui.attack_figures import cell
from mia_core.ui.twin import show_chart

MOST = 6
DOTS = 1_500
"""Users drawn of a pair of audits; of more, so many are drawn at random."""
MOVED = 20


def choose() -> list[str]:
    """The audits that the address names, in its order; the first is what the others are compared with."""
    # Pages about one audit call it so in their addresses; here it is the first.
    asked = [key for key in st.query_params.get("audits", st.query_params.get("audit", "")).split(",") if key]
    entries = frame.audits()
    named = [entry for entry in frame.store().entries("point") if entry.key in asked]
    names = {entry.key: frame.label_of(entry) for entry in [*entries, *named]}
    found = [key for key in dict.fromkeys(asked) if key in names]
    if len(found) < len(set(asked)):
        st.warning("The address names an audit that is not in this store. It is left out.")
    if not asked and len(entries) > 1:
        # A pair of the same data says most.
        found = [entries[1].key, entries[0].key]
    keys = st.multiselect(
        "Audits; the others are compared with the first",
        list(names),
        default=found[:MOST],
        format_func=names.__getitem__,
        max_selections=MOST,
        placeholder="Choose two audits or more",
        key="compared_audits",
    )
    if keys and ",".join(keys) != st.query_params.get("audits"):
        st.query_params["audits"] = ",".join(keys)
    return keys


@st.cache_data(show_spinner="Comparing…", max_entries=20)
def compared(first: Path, second: Path, attack: str) -> AuditComparison:
    """Two audits, paired; kept by the folders that they lie in."""
    return compare_audits(frame.result(first.name), first, frame.result(second.name), second, attack)


def overview(results: list[AuditResult], attack: str) -> None:
    """Each audit's own figures, numbered."""
    rows = []
    for number, result in enumerate(results, start=1):
        target = next((q for q in result.quality if q.recommender == "target"), None)
        rows.append(
            {
                "Audit": str(number),
                "Name": result.name,
                "Gates": "passed" if result.valid else "FAILED",
                "AUC": cell(result.metric(attack, "auc")),
                "HR@10": "–" if target is None else f"{target.hit_rate_at_10:.2f}",
                "Found at 1% false alarms": cell(result.metric(attack, "tpr_at_fpr_0.01")),
                "Found at 5% false alarms": cell(result.metric(attack, "tpr_at_fpr_0.05")),
                "Users": f"{sum(result.roles.values()):,}",
            }
        )
    pinned = {"Audit": st.column_config.TextColumn(pinned=True, width=50)}
    st.dataframe(pl.DataFrame(rows), hide_index=True, column_config=pinned)
    if not all(result.valid for result in results):
        st.error(
            "A gate of at least one of these audits failed: what it found is not to be believed.",
            icon=":material/block:",
        )


def show_differences(pairs: list[AuditComparison]) -> None:
    """How much more, or less, each audit shows than the first."""
    st.subheader("What differs in what was found", divider="gray")
    rows, sentences = [], []
    for number, pair in enumerate(pairs, start=2):
        if pair.reason:
            st.markdown(f"Audits 1 and {number} are not compared user by user: {pair.reason}")
        for finding in pair.findings:
            sentences.append(f"- {explain_finding(finding, number)}")
            limits = {"value": finding.value, "low": finding.low, "high": finding.high, "users": finding.n}
            rows.append({"audit": f"Audit {number}", "figure": title_of(finding), **limits})
    if not rows:
        return
    st.markdown("\n".join(sentences))
    table = pl.DataFrame(rows)
    figures = table["figure"].unique(maintain_order=True).to_list()
    for column, figure in zip(st.columns(len(figures), gap="medium"), figures, strict=True):
        part = table.filter(pl.col("figure") == figure)
        with column:
            st.markdown(f"**{figure}**")
            alt_text = f"How much more of this each audit shows than the first: {figure}"
            show_chart(compare_charts.differences(part), alt_text, part.drop("figure"), f"difference_{figure}")
    st.caption(
        "Paired: the same users, each in the same role in both audits. Where the interval holds 0, the audits cannot be told "
        "apart. Chance in training is not in it: for that, run each with other seeds."
    )
    with st.popover("How this is computed", icon=":material/function:"):
        st.latex(r"\mathrm{AUC}_2-\mathrm{AUC}_1,\qquad \mathrm{TPR}_2(f)-\mathrm{TPR}_1(f)")
        st.markdown(
            "AUC: limits of each (DeLong, on the logit scale), put together with the correlation of their placements. Members "
            "found: Poisson bootstrap over users, each audit at its own threshold. HR@10: bootstrap over users."
        )


def show_curves(results: list[AuditResult], attack: str) -> None:
    """The ROC curves over one another."""
    parts = [
        frame.table(result.key, "roc")
        .filter(pl.col("attack") == attack)
        .select(pl.lit(f"Audit {number}").alias("audit"), "fpr", "tpr")
        for number, result in enumerate(results, start=1)
        if frame.has_table(result.key, "roc")
    ]
    if not parts:
        return
    points = pl.concat(parts)
    st.subheader("ROC curves", divider="gray")
    held_out = [result.roles.get(Role.AUDITED_HELD_OUT, 2) for result in results]
    floor, resolved = 10.0 ** -len(str(max(held_out))), smallest_fpr(min(held_out))
    picture = compare_charts.rocs(points, floor, resolved, results[0].unit)
    show_chart(picture, "ROC curves of the audits, logarithmic axes", points, "rocs")
    st.caption(f"Below {resolved:.2%}, where it is grey, not all of these audits have users enough to resolve a rate.")


def show_users(results: list[AuditResult], pairs: list[AuditComparison]) -> None:
    """Each user in the first audit and in another."""
    drawn = {number: pair for number, pair in enumerate(pairs, start=2) if pair.pairs.height}
    if not drawn:
        return
    unit = results[0].unit
    st.subheader(unit.say("User by user"), divider="gray")
    number = next(iter(drawn))
    if len(drawn) > 1:
        number = (
            st.segmented_control(
                "Beside audit 1", list(drawn), default=number, format_func=lambda n: f"Audit {n}", key="beside"
            )
            or number
        )
    groups = {Role.AUDITED_MEMBER: charts.MEMBER_LABEL, Role.AUDITED_HELD_OUT: unit.say(charts.HELD_OUT_LABEL)}
    pair = (
        drawn[number]
        .pairs.drop_nans(["first", "second"])
        .with_columns(pl.col("role").replace_strict(groups, return_dtype=pl.String).alias("group"))
    )
    shown = pair.select("user", "group", "first", "second")
    shown = shown.sample(DOTS, seed=0) if shown.height > DOTS else shown
    label = unit.say("Each user's place among the held-out users in both audits")
    show_chart(compare_charts.user_by_user(shown, number, unit), label, shown, f"user_by_user_{number}")
    moved = (
        pair.with_columns((pl.col("second") - pl.col("first")).alias("moved"))
        .sort(pl.col("moved").abs(), descending=True)
        .head(MOVED)
        .select(
            pl.col("user").alias(unit.one),
            pl.col("group").alias("Group"),
            pl.col("first").alias("Audit 1"),
            pl.col("second").alias(f"Audit {number}"),
            pl.col("moved").alias("Moved by"),
        )
    )
    with st.expander(unit.say("The users who moved most")):
        percent = {
            name: st.column_config.NumberColumn(format="percent") for name in ("Audit 1", f"Audit {number}", "Moved by")
        }
        st.dataframe(moved, hide_index=True, column_config=percent)
        st.caption(
            "More member-like than so many of the held-out users. Those who moved most did so in part by chance."
        )


def show_settings(results: list[AuditResult]) -> None:
    """What was set differently."""
    st.subheader("What differs in how they were made", divider="gray")
    table = differing_settings(results)
    if table.is_empty():
        st.caption("Nothing: the settings and the data are the same.")
        return
    names = {str(number): f"Audit {number}" for number in range(1, len(results) + 1)}
    st.dataframe(table.rename({"setting": "Setting", **names}), hide_index=True)


st.title("Compare")
if not frame.store().entries("audit", "point"):
    frame.empty_state("To compare takes two finished audits. The demo takes about a minute.", "Start", "start")
else:
    chosen = choose()
    if len(chosen) < 2:
        st.info("Choose two audits or more: with and without a defence, full fine-tuning and LoRA, before and after.")
    else:
        opened = [frame.result(key) for key in chosen]
        attacks = common_attacks(opened)
        if not attacks:
            st.warning("No attack ran in all of these audits, so there is nothing to compare them by.")
            show_settings(opened)
        else:
            titles = {attack.name: attack.title for attack in opened[0].attacks}
            by = st.selectbox("Attack", attacks, format_func=titles.__getitem__, key="attack", bind="query-params")
            overview(opened, by)
            folders = [frame.folder(key) for key in chosen]
            paired = [compared(folders[0], other, by) for other in folders[1:]]
            show_differences(paired)
            show_curves(opened, by)
            show_users(opened, paired)
            show_settings(opened)
