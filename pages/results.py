"""A finished audit: the headline, the curves, the distributions, every attack and every user."""

from __future__ import annotations

import json

import polars as pl
import streamlit as st

from mia_core.report.export import metrics_document, users_csv
from mia_core.report.removal import remove_audit
from mia_core.report.results import AuditResult, Metric
from mia_core.report.wording import explain_metric, headline
from mia_core.types import Role
from mia_core.ui import charts, frame
from mia_core.ui.attack_figures import LABELS, choose_attack, show_attacks
from mia_core.ui.claim_cards import show_claims, show_gates

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
    words = {
        "soft": "soft reference",
        "student": "student, fold",
        "leaking": "leaking student",
        "self_prompted": "self-prompted reference",
    }
    return f"{words.get(kind, kind)} {int(number) + 1}" if number else words.get(kind, kind)


def show_headline(result: AuditResult) -> None:
    """What was found, and what a reader must know with it."""
    st.html(f'<p class="ms-lead">{headline(result)}</p>')
    if result.config["target"]["world"] == "members":
        st.caption("Members: users whose data trained the model. Held-out users: comparable users whose data did not.")
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
        column.metric(
            LABELS[metric.metric], _value(metric), help=explain_metric(metric, _confidence(result)), border=True
        )
        column.caption(_interval(metric, _confidence(result)))


def show_curves(result: AuditResult) -> None:
    """ROC, linear and log-log, of one attack."""
    st.subheader("How many members are recognised, at what price in false accusations", divider="gray")
    name = choose_attack(result, "Attack", "roc_attack")
    points = frame.table(result.key, "roc").filter(pl.col("attack") == name)
    if result.attack(name).status == "demonstration":
        st.warning(
            "This attack met the answers it is tested on. Its curve shows how figures inflate, nothing about anybody."
        )
    left, right = st.columns(2, gap="medium")
    with left:
        st.altair_chart(charts.roc(points, logarithmic=False), alt="ROC curve on linear axes", key="roc_linear")
        st.caption(
            f"Linear axes. The dotted diagonal is guessing; the band is the {100 * _confidence(result):g}% interval over users."
        )
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
    chosen = chosen.with_columns(pl.col("role").replace_strict(ROLES, return_dtype=pl.String))
    if score in chosen.columns:
        chosen = chosen.sort(score, descending=True, nulls_last=True)
        names = {
            "user": "user",
            "role": "role",
            score: "score",
            p: "p-value",
            f"p_stratum.{result.lead}": "p, like users",
            "named": "named",
            "windows": "windows",
            "history_length": "history",
            "mean_popularity": "popularity",
        }
        view = chosen.select(pl.col(name).alias(short) for name, short in names.items() if name in chosen.columns)
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
                format="%.2g", help="Share of comparable held-out users at least so member-like"
            ),
            "p, like users": st.column_config.NumberColumn(
                format="%.3f", help="The same among held-out users of like history length and popularity alone"
            ),
            "named": st.column_config.CheckboxColumn(
                help="Stands out by the lead attack at the false discovery rate of this audit"
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
        "All users (CSV)", users_csv(users), "users.csv", "text/csv", icon=":material/download:", width="stretch"
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
        with st.popover("Delete this audit", icon=":material/delete:"):
            st.markdown(
                "Its figures, models and observations go for good, and its copy of the data, unless another audit rests on "
                "them. A data set that was saved on the Data page stays there."
            )
            if st.button("Delete for good", type="primary", key="delete_audit"):
                remove_audit(frame.store(), result.key)
                for job in frame.queue().jobs(1_000):
                    if job.result_key == result.key:
                        frame.queue().remove(job.id)
                st.cache_data.clear()
                frame.go("start")


def _value(metric: Metric) -> str:
    if metric.value is None:
        return "–"
    return f"{metric.value:.3f}" if metric.metric in ("auc", "f1") else f"{metric.value:.0%}"


def _confidence(result: AuditResult) -> float:
    return float(result.config["evaluation"]["confidence"])


def _interval(metric: Metric, confidence: float) -> str:
    if metric.value is None or metric.low is None or metric.high is None:
        return metric.reason[:1].upper() + metric.reason[1:]
    shown = ".3f" if metric.metric in ("auc", "f1") else ".0%"
    return f"{100 * confidence:g}% interval {metric.low:{shown}}–{metric.high:{shown}}, {metric.n:,} users"


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
