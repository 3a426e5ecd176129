"""Every attack of an audit with its figures: one chart per kind of evidence, one table, what found nothing in words."""

from __future__ import annotations

import polars as pl
import streamlit as st

from mia_core.report.overlap import MOST, compared_attacks, overlap
from mia_core.report.results import AttackSummary, AuditResult, Metric
from mia_core.report.wording import explain_chance, format_p, percent_at_most
from mia_core.ui import charts, frame, leak_charts
from mia_core.ui.twin import readable, show_chart

FIGURES = (
    "tpr_at_fpr_0.01",
    "tpr_at_fpr_0.05",
    "tpr_at_fpr_0.1",
    "accuracy",
    "balanced_accuracy",
    "precision",
    "recall",
    "f1",
    "precision_at_recall_0.1",
    "precision_at_recall_0.5",
    "precision_at_recall_0.9",
)
LABELS = {
    "auc": "AUC",
    "tpr_at_fpr_0.001": "Found at 0.1% false alarms",
    "tpr_at_fpr_0.01": "Found at 1% false alarms",
    "tpr_at_fpr_0.05": "Found at 5% false alarms",
    "tpr_at_fpr_0.1": "Found at 10% false alarms",
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "precision": "Precision",
    "recall": "Recall",
    "f1": "F1",
    "precision_at_recall_0.1": "Precision at 10% recall",
    "precision_at_recall_0.5": "Precision at 50% recall",
    "precision_at_recall_0.9": "Precision at 90% recall",
}
MARKS = {
    "honest": "Honest attacks are circles.",
    "published": "Squares follow a published protocol.",
    "confounded": "Crosses follow a protocol in which members and others are served differently.",
    "demonstration": "Triangles leak on purpose: they show how published figures come about.",
}
UNGROUPED = "Attacks"
STRONGEST = 12
"""Attacks in one chart; more are shown by group."""


def group_of(attack: AttackSummary) -> str:
    """Title of the kind of evidence an attack looks at."""
    return attack.group or UNGROUPED


def choose_attack(result: AuditResult, label: str, key: str) -> str:
    """A select box over the attacks that ran: the lead first, then by group. The choice stands in the address."""
    ran = [attack for attack in result.attacks if not attack.skipped]
    groups = list(dict.fromkeys(group_of(attack) for attack in ran))
    ran.sort(key=lambda attack: (attack.name != result.lead, groups.index(group_of(attack))))
    titles = {
        attack.name: f"{attack.title} (lead)"
        if attack.name == result.lead
        else f"{attack.group}: {attack.title}"
        if attack.group
        else attack.title
        for attack in ran
    }
    asked = st.query_params.get(key, result.lead)
    st.session_state[key] = asked if asked in titles else next(iter(titles))

    def changed() -> None:
        st.query_params[key] = st.session_state[key]

    return str(st.selectbox(label, list(titles), format_func=titles.__getitem__, key=key, on_change=changed))


def show_attacks(result: AuditResult) -> None:
    """Every attack with its figures; what leaks on purpose stands apart."""
    st.subheader("Every attack", divider="gray")
    for sentence in explain_chance(result):
        st.markdown(sentence)
    rows = _rows(result)
    if rows.height:
        _chart(rows)
        if rows["status"].n_unique() > 1:
            present = set(rows["status"])
            st.caption(" ".join(sentence for status, sentence in MARKS.items() if status in present))
    _table(result, rows)


def _rows(result: AuditResult) -> pl.DataFrame:
    """name, title, group, status, value, low, high of every attack that has an AUC, the highest first."""
    rows = []
    for attack in result.attacks:
        auc = result.metric(attack.name, "auc")
        if auc is not None and auc.value is not None:
            title = attack.title + (" (lead)" if attack.name == result.lead else "")
            limits = {"value": auc.value, "low": auc.low, "high": auc.high}
            rows.append(
                {"name": attack.name, "title": title, "group": group_of(attack), "status": attack.status, **limits}
            )
    return pl.DataFrame(rows).sort("value", descending=True, maintain_order=True) if rows else pl.DataFrame()


def _chart(rows: pl.DataFrame) -> None:
    if rows.height <= STRONGEST:
        _picture(rows, "auc_by_attack")
        return
    ways = ("The strongest", "By group")
    way = st.segmented_control("Shown", ways, default=ways[0], key="attacks_shown", label_visibility="collapsed")
    if way != "By group":
        kept = rows.with_row_index("place").filter(
            (pl.col("place") < STRONGEST) | pl.col("title").str.ends_with(" (lead)") | (pl.col("status") != "honest")
        )
        _picture(kept, "auc_by_attack")
        st.caption(
            f"The {STRONGEST} highest of {rows.height}, the lead, and what is no honest attack. The highest of many is a "
            "little too high by chance: the lead was named before the run."
        )
        return
    domain = charts.auc_domain(rows)
    left, right = st.columns(2, gap="medium")
    heights = [0, 0]
    for (group,), part in rows.group_by("group", maintain_order=True):
        # Each goes where there is more room, so that both columns end at about the same height.
        shorter = heights.index(min(heights))
        heights[shorter] += part.height + 3
        with (left, right)[shorter]:
            st.markdown(f"**{group}**")
            _picture(part, f"auc_by_attack.{group}", domain)


def _picture(rows: pl.DataFrame, key: str, domain: tuple[float, float] | None = None) -> None:
    table = readable(rows, {"title": "Attack", "value": "AUC", "low": "From", "high": "To", "status": "Status"})
    show_chart(charts.auc_by_attack(rows, domain), "AUC of attacks, each with its interval", table, key)


def _table(result: AuditResult, rows: pl.DataFrame) -> None:
    groups = list(dict.fromkeys(group_of(attack) for attack in result.attacks))
    wanted = groups
    if len(groups) > 1:
        wanted = st.multiselect("Groups", groups, placeholder="All groups", key="attack_groups") or groups
    place = {name: i for i, name in enumerate(rows["name"])} if rows.height else {}
    shown = [attack for attack in result.attacks if group_of(attack) in wanted]
    shown.sort(key=lambda attack: (attack.name != result.lead, place.get(attack.name, len(place))))
    compared = {row.attack: row for row in (result.claims.comparisons if result.claims else [])}
    table = []
    for attack in shown:
        row = compared.get(attack.name)
        table.append(
            {
                "Attack": attack.title + (" (lead)" if attack.name == result.lead else ""),
                "AUC": cell(result.metric(attack.name, "auc")),
                **(
                    {
                        "Adjusted p": "–" if row is None or row.adjusted_p is None else format_p(row.adjusted_p),
                        "AUC minus the lead's": "–"
                        if row is None or row.difference is None or row.low is None or row.high is None
                        else f"{row.difference:+.3f} ({row.low:+.3f} to {row.high:+.3f})",
                    }
                    if compared
                    else {}
                ),
                **{LABELS[name]: cell(result.metric(attack.name, name)) for name in FIGURES},
                "Group": group_of(attack),
                "Status": attack.status,
                "Sees": attack.access,
                "What it looks at": attack.skipped or attack.summary,
                "Passes": attack.passes,
                "Source": attack.source,
            }
        )
    height = min(460, 38 + 35 * len(table))
    column = {"Attack": st.column_config.TextColumn(pinned=True)}
    st.dataframe(pl.DataFrame(table), hide_index=True, height=height, column_config=column)
    if compared:
        st.caption(
            "Adjusted p: how often the best of all these attacks would do as well by chance. Where the interval of the "
            "difference holds 0, the attack and the lead cannot be told apart."
        )
    if any(metric.fpr_limit is not None for metric in result.metrics):
        confidence = 100 * float(result.config["evaluation"]["confidence"])
        st.caption(
            "“Found at 5% false alarms” counts the false alarms among these held-out users. “FPR ≤” beside it says how high "
            f"their share may be among all users like them, with {confidence:g}% confidence."
        )
    st.caption(
        "“–” means that these users cannot resolve the figure: 1% FPR needs 299 held-out users, 5% needs 59, 10% needs 29."
    )


def show_overlap(result: AuditResult) -> None:
    """Whether the attacks find the same members."""
    there = frame.columns(result.key, "users")
    names = [name for name in compared_attacks(result) if f"score.{name}" in there]
    if len(names) < 2:
        return
    st.subheader("Do they find the same members?", divider="gray")
    found = overlap(frame.table(result.key, "users", "role", *(f"score.{name}" for name in names)), result, names)
    say = result.unit.say
    if found is None:
        st.caption(say("That takes at least 29 held-out users whom all of these attacks could score; here are fewer."))
        return
    best = max(found.attacks["found"])
    many = "they" if len(names) < MOST else f"the {len(names)} strongest"
    st.markdown(
        say(
            f"Each attack calls a member whoever scores higher than all but {found.level:.0%} of the held-out users. The best "
            f"single one finds {best:,} of {found.members:,} members; {many} together find {found.together:,}, with more false "
            f"alarms than {found.level:.0%}."
        )
    )
    pairs = found.pairs.pivot("second", index="first", values="jaccard").rename({"first": "Attack"})
    pairs = pairs.with_columns(pl.exclude("Attack").round(3))
    label = say("Of the members found by either of two attacks, the share found by both")
    show_chart(leak_charts.overlap(found.pairs), label, pairs, "overlap", width="content")
    st.caption(f"{label}. Two attacks that find half of the members each, by chance alone, would share a third.")
    table = found.attacks.select(
        pl.col("title").alias("Attack"), pl.col("found").alias("Finds"), pl.col("alone").alias("Found by it alone")
    )
    st.dataframe(table, hide_index=True, height=38 + 35 * table.height)


def cell(metric: Metric | None) -> str:
    """A figure with its interval and, for a TPR, the upper limit of its FPR; or a dash."""
    if metric is None or metric.value is None or metric.low is None or metric.high is None:
        return "–"
    limit = "" if metric.fpr_limit is None else f", FPR ≤ {percent_at_most(metric.fpr_limit)}"
    return f"{metric.value:.3f} ({metric.low:.3f}–{metric.high:.3f}){limit}"
