"""What an audit may say: its gates and its claims about many people, each to be taken in at a glance."""

from __future__ import annotations

import streamlit as st

from mia_core.report.results import AuditResult
from mia_core.report.wording import GATE_WORDS, claims_of, format_p, interaction_sentences
from mia_core.ui import charts, frame
from mia_core.ui.twin import show_chart


def show_gates(result: AuditResult) -> None:
    """What must hold before anything else on the page is believed."""
    if not result.gates:
        return
    failed = [gate for gate in result.gates if not gate.passed]
    say = result.unit.say
    words = f"{len(failed)} of {len(result.gates)} gates failed" if failed else f"All {len(result.gates)} gates passed"
    with st.expander(words, expanded=bool(failed), icon=":material/block:" if failed else ":material/verified:"):
        for gate, column in zip(result.gates, st.columns(len(result.gates), gap="medium"), strict=True):
            name, _, question = say(GATE_WORDS[gate.name]).partition(": ")
            with column:
                head = st.container(horizontal=True, vertical_alignment="center")
                head.markdown(f"**{name}**")
                head.badge("passed" if gate.passed else "failed", color="green" if gate.passed else "red")
                st.caption(question[:1].upper() + question[1:])
                if gate.p_value is not None:
                    st.markdown(f"p = {format_p(gate.p_value)} · {gate.n:,} {result.unit.many}")
                st.text(gate.sentence)
                if not gate.passed:
                    st.text(f"What to do: {gate.way_out}")
        st.caption("Together the gates refuse a sound audit at most 1 time in 100.")


def show_claims(result: AuditResult) -> None:
    """What may be said of many users at once."""
    claims = claims_of(result)
    if not claims:
        return
    say = result.unit.say
    st.subheader(say("What may be said of many people at once"), divider="gray")
    for about in ("people", "privacy"):
        row = [claim for claim in claims if claim.about == about]
        if row:
            frame.cards(f"claims_{about}", [(claim.label, claim.value, "", claim.sentence) for claim in row])
    bound = frame.table(result.key, "list_bound")
    if bound.height:
        st.markdown("**How long may a list of likely members be?**")
        table = charts.thinned(bound).rename({"listed": "Listed", "wrong_at_most": "Wrong at most"})
        label = "Most wrong names in a list of the likeliest members"
        show_chart(charts.list_bound(bound, result.unit), label, table, "list_bound")
        st.caption(
            say(
                "The users with the smallest p-values, however many are listed after looking: with 95% confidence at most so "
                "many of them are not members. The dotted line is a list that may be wrong throughout."
            )
        )
    if result.interactions:
        st.markdown("**Was this one rating used?**")
        for sentence in interaction_sentences(result):
            st.text(sentence)
