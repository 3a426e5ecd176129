"""A finished audit: the headline, the curves, the distributions, every attack and every user."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl
import streamlit as st

from mia_core.attacks.contract import NO_EVIDENCE
from mia_core.data_rights.pseudonyms import pseudonymise
from mia_core.data_rights.removal import remove_audit
from mia_core.defenses.catalogue import DEFENSES
from mia_core.report.follow_ups import follow_ups
from mia_core.report.protocols import ServedBothWays, both_ways, explain_both_ways
from mia_core.report.results import AuditResult, Metric
from mia_core.report.wording import (
    ROLE_NAMES,
    STATUS_CAVEATS,
    explain_metric,
    headline,
    minute,
    percent_at_most,
    spread_in_short,
    use_of,
)
from mia_core.types import Role
from mia_core.ui import charts, frame, run_status
from mia_core.ui.attack_figures import LABELS, cell, choose_attack, show_attacks, show_overlap
from mia_core.ui.claim_cards import show_claims, show_gates
from mia_core.ui.first_figures import training_charts
from mia_core.ui.other_seeds import show_other_seeds
from mia_core.ui.signal_figures import models_of, show_signals, view_title
from mia_core.ui.threshold_view import show_threshold
from mia_core.ui.twin import readable, show_chart


def show_headline(result: AuditResult) -> None:
    """What was found, and what a reader must know with it."""
    st.html(f'<p class="ms-lead">{headline(result)}</p>')
    if result.promise_broken:
        st.error("The promise of private training is refuted: see the claims below.", icon=":material/gpp_bad:")
    defended = result.config.get("defense", {}).get("names", [])
    if defended:
        titles = [DEFENSES[name].title for name in defended if name in DEFENSES]
        st.markdown(f":material/shield: **Defended target**: {', '.join(titles)}. The attacks know of it.")
    if result.config["target"]["world"] == "members":
        use = use_of(result)
        st.caption(
            result.unit.say(
                f"Members: users whose data {use.does}. Held-out users: comparable users whose data {use.does_not}."
            )
        )
    if result.notes:
        with st.container(border=True):
            st.markdown(":material/info: **Please note**")
            for note in result.notes:
                st.text(note)
    names = ("auc", "tpr_at_fpr_0.01", "tpr_at_fpr_0.05", "balanced_accuracy")
    shown = [metric for name in names if (metric := result.metric(result.lead, name)) is not None]
    repeats = frame.repeats(result.key)
    cards = []
    for metric in shown:
        told = [_interval(metric, result)]
        if metric.fpr_limit is not None:
            limit = f"{percent_at_most(metric.fpr_limit)}, with {100 * _confidence(result):g}% confidence"
            told.append(f"False alarms among all such {result.unit.many}: at most {limit}")
        if result.valid and metric.metric in repeats.spread:
            told.append(spread_in_short(metric.metric, repeats.spread[metric.metric]))
        meaning = explain_metric(metric, _confidence(result))
        cards.append((LABELS[metric.metric], _value(metric), meaning, "  \n".join(told)))
    if cards:
        frame.cards("headline", cards)


def show_seeds(result: AuditResult) -> None:
    """What other seeds gave, or the way to run some."""
    show_other_seeds(result, frame.repeats(result.key))


def show_curves(result: AuditResult) -> None:
    """ROC, linear and log-log, of one attack."""
    if not frame.has_table(result.key, "roc"):
        return
    st.subheader("How many members are recognised, at what price in false accusations", divider="gray")
    name = choose_attack(result, "Attack", "roc_attack")
    points = frame.table(result.key, "roc").filter(pl.col("attack") == name)
    if result.attack(name).status in NO_EVIDENCE:
        st.warning(STATUS_CAVEATS[result.attack(name).status])
    names = {"fpr": "FPR", "tpr": "TPR", "low": "TPR from", "high": "TPR to", "false_positives": "False positives"}
    table = readable(points, names)
    left, right = st.columns(2, gap="medium")
    with left:
        picture = charts.roc(points, logarithmic=False, unit=result.unit)
        show_chart(picture, "ROC curve on linear axes", table, "roc_linear")
        st.caption(
            f"Linear axes. The dotted diagonal is guessing; the band is the {100 * _confidence(result):g}% interval over "
            f"{result.unit.many}."
        )
    with right:
        picture = charts.roc(points, logarithmic=True, unit=result.unit)
        show_chart(picture, "ROC curve on logarithmic axes", table, "roc_log")
        st.caption(
            result.unit.say(
                "Logarithmic axes: the low end is what matters to a named person. Grey points rest on fewer than 10 false "
                "positives; in the grey area so few held-out users cannot resolve the FPR at all (95% confidence)."
            )
        )
    with st.popover("How this is computed", icon=":material/function:"):
        st.latex(
            r"\mathrm{AUC}=P(s_{\text{member}}>s_{\text{held-out}})+\tfrac12 P(s_{\text{member}}=s_{\text{held-out}})"
        )
        st.latex(r"\mathrm{TPR@}x=\max_t\{\mathrm{TPR}(t):\mathrm{FPR}(t)\le x\}")
        st.markdown(
            f"One {result.unit.one} is one observation. AUC intervals: DeLong on the logit scale. TPR: binomial ranks of the "
            f"held-out {result.unit.many} for the threshold, and Jeffreys limits of the members passed there. Rates, and the "
            "upper limit of the FPR beside a TPR: Clopper–Pearson."
        )


def show_both_ways(result: AuditResult) -> None:
    """Attacks that ran as published, beside the same attacks with one recommender for everybody."""
    rows = both_ways(result)
    if not rows:
        return
    st.subheader("Two ways of serving", divider="gray")
    say = result.unit.say
    st.markdown(
        say(
            "As published, members are served by the recommender and everybody else is served what is popular: an attack then "
            "tells two ways of serving apart. With one recommender for everybody, only what training left behind can tell."
        )
    )
    if result.valid:
        for sentence in explain_both_ways(rows):
            st.markdown(f"- {say(sentence)}")
    own = any(row.own_vectors is not None for row in rows)
    known = any(row.explained is not None for row in rows)
    table = [
        {
            "Attack": row.title + (" (the rule)" if row.is_rule else ""),
            "One recommender for everybody": cell(row.one_recommender),
            **({"Members by their own vectors": cell(row.own_vectors)} if own else {}),
            "As published": cell(row.published),
            **({"Explained by the rule": _explained(row)} if known else {}),
        }
        for row in rows
    ]
    st.dataframe(pl.DataFrame(table), hide_index=True, height=min(460, 38 + 35 * len(table)))
    st.caption(
        f"AUC with its {100 * _confidence(result):g}% interval. A published figure is explained where the interval of the rule "
        "reaches at least the attack's estimate. “–” was not run."
        + (
            " Served by their own vectors, members get what was learned for them, others what fits their history."
            if own
            else ""
        )
    )


def _explained(row: ServedBothWays) -> str:
    return "–" if row.explained is None else "yes" if row.explained else "no"


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
                "Likes AUC": "–"
                if q.likes_auc is None
                else f"{q.likes_auc:.2f} ({q.likes_low:.2f}–{q.likes_high:.2f})",
            }
            for q in result.quality
        ]
        if rows:
            st.dataframe(pl.DataFrame(rows), hide_index=True)
            negatives = result.config["evaluation"]["negatives"]
            st.caption(
                f"The true next item of {result.quality[0].n} held-out {result.unit.many} against {negatives} sampled others. "
                "Likes AUC: how often an item they rated as liked scores above one they did not like (AUC)."
            )
        else:
            st.caption("Not measured in this audit (evaluation.ranked_users is 0).")
    if not result.agreement:
        return
    with right:
        st.subheader("Do the references agree with it?", divider="gray")
        rows = [
            {"Reference": view_title(a.reference), "KL (nats)": f"{a.kl:.3f}", "Same first choice": f"{a.top1:.0%}"}
            for a in result.agreement
        ]
        st.dataframe(pl.DataFrame(rows), hide_index=True)
        st.caption("Per answer token, on windows that the reference never met.")


def show_files(result: AuditResult) -> None:
    """The way to what may be taken away."""
    st.subheader("To take away", divider="gray")
    frame.link("report", "Report, tables and settings", ":material/description:", audit=result.key)


def offer_pseudonyms(result: AuditResult) -> None:
    """Keeps the audit with pseudonyms in place of ids."""
    if result.pseudonyms_of:
        return
    with st.popover("Keep it with pseudonyms", icon=":material/badge:", width="stretch"):
        st.markdown(
            result.unit.say(
                "Ids give way to keyed hashes, which only the key in the home folder can trace back; a lookup still takes the "
                "real id. What each user had, and the data and models that only this audit rests on, go for good. The audit gets "
                "another address."
            )
        )
        if st.button("Replace the ids for good", type="primary", key="pseudonymise"):
            done = pseudonymise(frame.store(), result.key)
            frame.forget_reads()
            frame.go("results", audit=done.key)


def show_origin(result: AuditResult) -> None:
    """How these figures came about."""
    with st.expander("How these figures came about"):
        roles = ", ".join(f"{count} {ROLE_NAMES[Role(role)]}" for role, count in result.roles.items())
        st.markdown(
            f"**{result.unit.many.capitalize()}**: {roles}. **Device**: {result.device}. **Run**: {minute(result.created)} UTC."
        )
        rows = [{"Stage": s.name, "Seconds": round(s.seconds, 1), "From the store": s.cached} for s in result.stages]
        st.dataframe(pl.DataFrame(rows), hide_index=True)
        st.json(result.config, expanded=False)
        st.caption(f"Audit {result.key}")
        offer_pseudonyms(result)
        run_status.delete_button(
            "audit",
            result.key,
            remove_audit,
            "Its figures, models and observations go for good, and its copy of the data, unless another audit rests on "
            "them. A data set that was saved on the Data page stays there.",
        )


def show_follow_ups(result: AuditResult) -> None:
    """What was done about a leak, and the way to do more."""
    found = follow_ups(frame.store(), result)
    defended = result.config.get("defense", {}).get("names")
    if not found and (result.brought or defended):
        return
    st.subheader("What can be done about it", divider="gray")
    for one in found:
        with st.expander("Defences that were tried" if one.kind == "defenses" else "What it has forgotten"):
            st.text(one.name)
            for sentence in one.sentences:
                st.text(sentence)
            if one.kind == "defenses":
                frame.link("defenses", "Open", None, defenses=one.key)
            else:
                frame.link("forgetting", "Open", None, check=one.key)
    if not result.brought and not defended:
        left, right = st.columns(2)
        with left:
            frame.link("defenses", "Try what would close a leak", ":material/shield:", audit=result.key)
        with right:
            frame.link("forgetting", "Check whether it can forget", ":material/ink_eraser:", audit=result.key)


def _value(metric: Metric) -> str:
    if metric.value is None:
        return "–"
    return f"{metric.value:.3f}" if metric.metric in ("auc", "f1") else f"{metric.value:.0%}"


def _confidence(result: AuditResult) -> float:
    return float(result.config["evaluation"]["confidence"])


def _interval(metric: Metric, result: AuditResult) -> str:
    if metric.value is None or metric.low is None or metric.high is None:
        return metric.reason[:1].upper() + metric.reason[1:]
    shown = ".3f" if metric.metric in ("auc", "f1") else ".0%"
    limits = f"{metric.low:{shown}}–{metric.high:{shown}}"
    return f"{100 * _confidence(result):g}% interval {limits}, {metric.n:,} {result.unit.many}"


def show_training(result: AuditResult) -> None:
    """What every epoch did to the loss of members and of held-out users, and to how far it tells them apart."""
    say = result.unit.say
    st.subheader("How the leak grew with training", divider="gray")
    if not frame.has_table(result.key, "training"):
        st.caption(
            "This audit kept no figures of single epochs: its target was not trained here, or it was run before they were kept."
        )
        return
    rows = frame.table(result.key, "training")
    training_charts(rows, result.unit)
    if rows.height:
        members, held_out = max(rows["n_members"]), max(rows["n_held_out"])
        st.caption(
            say(
                f"{members:,} members and {held_out:,} held-out users were watched; epoch 0 is before training. Where the lines "
                "part, the target begins to know its members better than others. The lead attack may tell more than the loss."
            )
        )


def show_one_view(result: AuditResult) -> None:
    """One view at a time, named in the address; gates and headline stand above all of them."""
    views: dict[str, tuple[Callable[[AuditResult], None], ...]] = {
        "Overview": (show_seeds, show_curves, show_claims, show_follow_ups),
        "Attacks": (show_attacks, show_overlap, show_both_ways),
        "Threshold": (show_threshold,),
        "Signals": (show_signals,),
        "Training": (show_training,),
        "Usefulness": (show_quality,),
        "Record": (show_files, show_origin),
    }
    # A recommender that shows lists alone has no signals.
    if not models_of(result.key):
        views.pop("Signals")
    view = st.segmented_control(
        "View",
        list(views),
        default="Overview",
        key="view",
        bind="query-params",
        required=True,
        label_visibility="collapsed",
    )
    for show in views[view]:
        show(result)


st.title("Results")
if finished := st.session_state.pop("just_finished", ""):
    # Whoever waits in another tab sees it there.
    run_status.tab_title("Finished", finished[:60])
key = frame.chosen_audit()
if key is None:
    frame.empty_state("There is no finished audit yet. The demo takes about a minute.", "Run the demo", "start")
else:
    found = frame.result(key)
    show_gates(found)
    show_headline(found)
    with st.container(horizontal=True):
        frame.link("users", found.unit.say("Every user"), ":material/people:", audit=key)
        frame.link("cohorts", "Among whom the leak is", ":material/bubble_chart:", audit=key)
        if frame.has_table(key, "map"):
            frame.link("map", "Who lies beside whom", ":material/scatter_plot:", audit=key)
    show_one_view(found)
