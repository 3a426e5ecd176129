"""A finished audit: the headline, the curves, the distributions, every attack and every user."""

from __future__ import annotations

import json

import polars as pl
import streamlit as st

from mia_core.report.export import metrics_document
from mia_core.report.results import AuditResult, Metric
from mia_core.report.wording import GATE_WORDS, claim_sentences, explain_metric, headline
from mia_core.types import Role
from mia_core.ui import charts, frame

FIGURES = (
    "auc",
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
    "tpr_at_fpr_0.001": "At 0.1% false alarms",
    "tpr_at_fpr_0.01": "At 1% false alarms",
    "tpr_at_fpr_0.05": "At 5% false alarms",
    "tpr_at_fpr_0.1": "At 10% false alarms",
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "precision": "Precision",
    "recall": "Recall",
    "f1": "F1",
    "precision_at_recall_0.1": "Precision at 10% recall",
    "precision_at_recall_0.5": "Precision at 50% recall",
    "precision_at_recall_0.9": "Precision at 90% recall",
}
FEATURES = {
    "loss": "Loss (nats per token)",
    "confidence": "Confidence (top probability)",
    "entropy": "Entropy (nats)",
    "hidden": "Hidden vector (first principal component)",
}
ROLES = {
    Role.AUDITED_MEMBER: "audited member",
    Role.AUDITED_HELD_OUT: "audited held-out",
    Role.KNOWN_MEMBER: "known member",
    Role.KNOWN_HELD_OUT: "known held-out",
    Role.JUDGED: "judged",
    Role.PUBLIC: "public",
}


def view_title(view: str) -> str:
    """A view's name in words."""
    kind, _, number = view.partition(" ")
    words = {"soft": "soft reference", "student": "student, fold", "leaking": "leaking student"}
    return f"{words.get(kind, kind)} {int(number) + 1}" if number else words.get(kind, kind)


def show_gates(result: AuditResult) -> None:
    """What must hold before anything else on this page is believed."""
    if not result.gates:
        return
    failed = [gate for gate in result.gates if not gate.passed]
    words = f"{len(failed)} of {len(result.gates)} gates failed" if failed else f"All {len(result.gates)} gates passed"
    with st.expander(words, expanded=bool(failed), icon=":material/block:" if failed else ":material/verified:"):
        for gate in result.gates:
            mark = ":green[:material/check_circle:]" if gate.passed else ":red[:material/cancel:]"
            st.markdown(f"{mark} **{GATE_WORDS[gate.name]}**")
            st.text(gate.sentence)
            if not gate.passed:
                st.text(f"What to do: {gate.way_out}")
        st.caption("Together the gates refuse a sound audit at most 1 time in 100.")


def show_claims(result: AuditResult) -> None:
    """What may be said of many users at once."""
    sentences = claim_sentences(result)
    if not sentences:
        return
    st.subheader("What may be said of many people at once", divider="gray")
    for sentence in sentences:
        st.markdown(sentence)
    bound = frame.table(result.key, "list_bound")
    if bound.height:
        st.altair_chart(
            charts.list_bound(bound), alt="Most wrong names in a list of the likeliest members", key="list_bound"
        )
        st.caption(
            "A list of the users with the smallest p-values, however long it is made after looking: with 95% confidence at most "
            "so many of it are not members."
        )


def show_headline(result: AuditResult) -> None:
    """What was found, and what a reader must know with it."""
    st.html(f'<p class="ms-lead">{headline(result)}</p>')
    if result.notes:
        with st.container(border=True):
            st.markdown(":material/info: **Please note**")
            for note in result.notes:
                st.text(note)
    cards = [
        result.metric(result.lead, name) for name in ("auc", "tpr_at_fpr_0.01", "tpr_at_fpr_0.05", "balanced_accuracy")
    ]
    shown = [metric for metric in cards if metric is not None]
    for column, metric in zip(st.columns(max(1, len(shown))), shown, strict=False):
        column.metric(LABELS[metric.metric], _value(metric), help=explain_metric(metric), border=True)
        column.caption(_interval(metric))


def show_curves(result: AuditResult) -> None:
    """ROC, linear and log-log, of one attack."""
    st.subheader("How many members are recognised, at what price in false accusations", divider="gray")
    ran = [attack for attack in result.attacks if not attack.skipped]
    names = [attack.name for attack in ran]
    titles = {attack.name: attack.title for attack in ran}
    name = st.selectbox(
        "Attack", names, index=names.index(result.lead) if result.lead in names else 0, format_func=titles.__getitem__
    )
    points = frame.table(result.key, "roc").filter(pl.col("attack") == name)
    if result.attack(name).status == "demonstration":
        st.warning(
            "This attack met the answers it is tested on. Its curve shows how figures inflate, nothing about anybody."
        )
    left, right = st.columns(2, gap="medium")
    with left:
        st.altair_chart(charts.roc(points, logarithmic=False), alt="ROC curve on linear axes", key="roc_linear")
        st.caption("Linear axes. The dotted diagonal is guessing; the band is the 95% interval over users.")
    with right:
        st.altair_chart(charts.roc(points, logarithmic=True), alt="ROC curve on logarithmic axes", key="roc_log")
        st.caption(
            "Logarithmic axes: the low end is what matters to a named person. Grey points rest on fewer than 10 false positives."
        )
    with st.popover("How this is computed", icon=":material/function:"):
        st.latex(
            r"\mathrm{AUC}=P(s_{\text{member}}>s_{\text{held-out}})+\tfrac12 P(s_{\text{member}}=s_{\text{held-out}})"
        )
        st.latex(r"\mathrm{TPR@}x=\max_t\{\mathrm{TPR}(t):\mathrm{FPR}(t)\le x\}")
        st.markdown(
            "One user is one observation. AUC intervals: DeLong on the logit scale; TPR: "
            "bootstrap over users that chooses the threshold anew; rates: Clopper–Pearson."
        )


def show_attacks(result: AuditResult) -> None:
    """Every attack with its figures; what leaks on purpose stands apart."""
    st.subheader("Every attack", divider="gray")
    rows = []
    for attack in result.attacks:
        auc = result.metric(attack.name, "auc")
        if auc is not None and auc.value is not None:
            lead = " (lead)" if attack.name == result.lead else ""
            rows.append(
                {
                    "title": attack.title + lead,
                    "status": attack.status,
                    "value": auc.value,
                    "low": auc.low,
                    "high": auc.high,
                }
            )
    if rows:
        st.altair_chart(
            charts.auc_by_attack(pl.DataFrame(rows)), alt="AUC of every attack with its interval", key="auc_by_attack"
        )
        st.caption(
            "Honest attacks are circles. Squares follow a published protocol. Triangles leak on purpose: they show how published "
            "figures come about."
        )
    table = [
        {
            "Attack": attack.title,
            "Status": attack.status,
            "Access": attack.access,
            **{LABELS[name]: _cell(result.metric(attack.name, name)) for name in FIGURES},
            "What it looks at": attack.skipped or attack.summary,
            "Passes": attack.passes,
            "Source": attack.source,
        }
        for attack in result.attacks
    ]
    st.dataframe(pl.DataFrame(table), hide_index=True, height=min(460, 38 + 35 * len(table)))
    st.caption(
        "“–” means that these users cannot resolve the figure: 1% FPR needs 299 held-out users, 5% needs 59, 10% needs 29."
    )


def show_features(result: AuditResult) -> None:
    """Distributions of every feature under every model."""
    st.subheader("What the models show of members and of held-out users", divider="gray")
    features = frame.table(result.key, "features")
    models = features["model"].unique(maintain_order=True).to_list()
    model = (
        st.segmented_control("Model", models, default=models[0], format_func=view_title, key="feature_model")
        or models[0]
    )
    if model == "leaking":
        st.warning("The leaking student met these very users, labels and all.")
    for pair in (("loss", "confidence"), ("entropy", "hidden")):
        for column, feature in zip(st.columns(2, gap="medium"), pair, strict=True):
            values = features.filter((pl.col("model") == model) & (pl.col("feature") == feature))
            with column:
                label = f"{FEATURES[feature]}: members and held-out users under {view_title(model)}"
                st.altair_chart(charts.densities(values, FEATURES[feature]), alt=label, key=f"density_{feature}")


def show_quality(result: AuditResult) -> None:
    """Does the target recommend, and do the references answer like it?"""
    left, right = st.columns(2, gap="medium")
    with left:
        st.subheader("Does it recommend?", divider="gray")
        rows = [
            {
                "Recommender": q.recommender,
                "HR@10": f"{q.hit_rate_at_10:.2f} ({q.hit_rate_low:.2f}–{q.hit_rate_high:.2f})",
                "NDCG@10": f"{q.ndcg_at_10:.2f} ({q.ndcg_low:.2f}–{q.ndcg_high:.2f})",
            }
            for q in result.quality
        ]
        if rows:
            st.dataframe(pl.DataFrame(rows), hide_index=True)
            negatives = result.config["evaluation"]["negatives"]
            st.caption(
                f"The true next item of {result.quality[0].n} held-out users against {negatives} sampled others."
            )
        else:
            st.caption("Not measured in this audit (evaluation.ranked_users is 0).")
    with right:
        st.subheader("Do the references agree with it?", divider="gray")
        rows = [
            {"Reference": view_title(a.reference), "KL (nats)": f"{a.kl:.3f}", "Same first choice": f"{a.top1:.0%}"}
            for a in result.agreement
        ]
        if rows:
            st.dataframe(pl.DataFrame(rows), hide_index=True)
            st.caption("Per answer token, on windows that the reference never met.")
        else:
            st.caption("No references in this audit.")


def show_users(result: AuditResult) -> None:
    """One row per user."""
    st.subheader("Every user", divider="gray")
    users = frame.table(result.key, "users")
    present = [role for role in ROLES if role in set(users["role"].unique()) and role != Role.PUBLIC]
    left, right = st.columns([2, 1])
    roles = left.multiselect(
        "Roles", present, default=[r for r in present if not r.known], format_func=ROLES.__getitem__
    )
    wanted = right.text_input("User id contains", key="user_search")
    chosen = users.filter(pl.col("role").is_in([str(role) for role in roles]))
    if wanted:
        chosen = chosen.filter(pl.col("user").str.contains(wanted, literal=True))
    score, p = f"score.{result.lead}", f"p.{result.lead}"
    if score in chosen.columns:
        chosen = chosen.sort(score, descending=True, nulls_last=True)
        view = chosen.select("user", "role", score, p, "windows", "history_length", "mean_popularity").rename(
            {score: "score", p: "p-value", "history_length": "history", "mean_popularity": "popularity"}
        )
    else:
        view = chosen.select("user", "role", "windows", "history_length")
    event = st.dataframe(
        view,
        hide_index=True,
        height=360,
        on_select="rerun",
        selection_mode="single-row",
        key="user_table",
        column_config={
            "score": st.column_config.NumberColumn(format="%.3f", help="Higher = likelier member"),
            "p-value": st.column_config.NumberColumn(
                format="%.3f", help="Share of comparable held-out users at least so member-like"
            ),
            "popularity": st.column_config.NumberColumn(
                format="%.3f", help="Mean share of public users who have the items"
            ),
        },
    )
    rows = event["selection"]["rows"]
    if rows and rows[0] < view.height:
        frame.link(
            "lookup", "Look this user up", ":material/person_search:", audit=result.key, user=str(view["user"][rows[0]])
        )
    else:
        st.caption("Choose a row to look that user up. Scores of known users are out of fold; they have no p-value.")
    document = json.dumps(metrics_document(result, users), ensure_ascii=False, indent=1)
    first, second = st.columns(2)
    first.download_button(
        "All users (CSV)", users.write_csv(), "users.csv", "text/csv", icon=":material/download:", width="stretch"
    )
    second.download_button(
        "All figures (JSON)", document, "audit.json", "application/json", icon=":material/download:", width="stretch"
    )


def show_origin(result: AuditResult) -> None:
    """How these figures came about."""
    with st.expander("How these figures came about"):
        roles = ", ".join(f"{count} {ROLES[Role(role)]}" for role, count in result.roles.items())
        st.markdown(f"**Users**: {roles}. **Device**: {result.device}. **Run**: {result.created}.")
        rows = [{"Stage": s.name, "Seconds": round(s.seconds, 1), "From the store": s.cached} for s in result.stages]
        st.dataframe(pl.DataFrame(rows), hide_index=True)
        st.json(result.config, expanded=False)
        st.caption(f"Audit {result.key}")


def _value(metric: Metric) -> str:
    if metric.value is None:
        return "–"
    return f"{metric.value:.3f}" if metric.metric in ("auc", "f1") else f"{metric.value:.0%}"


def _interval(metric: Metric) -> str:
    if metric.value is None or metric.low is None or metric.high is None:
        return metric.reason
    if metric.metric in ("auc", "f1"):
        return f"95% interval {metric.low:.3f}–{metric.high:.3f}, {metric.n} users"
    return f"95% interval {metric.low:.0%}–{metric.high:.0%}, {metric.n} users"


def _cell(metric: Metric | None) -> str:
    if metric is None or metric.value is None or metric.low is None or metric.high is None:
        return "–"
    return f"{metric.value:.3f} ({metric.low:.3f}–{metric.high:.3f})"


st.title("Results")
key = frame.chosen_audit()
if key is None:
    frame.empty_state("There is no finished audit yet. The demo takes about a minute.", "Run the demo", "start")
else:
    found = frame.result(key)
    st.text(found.name)
    show_gates(found)
    show_headline(found)
    show_curves(found)
    show_features(found)
    show_attacks(found)
    show_claims(found)
    show_quality(found)
    show_users(found)
    show_origin(found)
