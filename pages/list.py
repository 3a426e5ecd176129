"""Was this list of users used? Their evidence taken together."""

from __future__ import annotations

import json

import streamlit as st

from mia_core.data.split import lines_of
from mia_core.report.results import AuditResult, CohortResult
from mia_core.report.wording import cohort_limits, explain_cohort, format_p, use_of
from mia_core.studies.cohort import FEWEST_LISTED, cohort_document, judge_cohort
from mia_core.types import Unit
from mia_core.ui import frame

LARGEST_LIST = 5_000_000


def ask(audit: str, unit: Unit) -> CohortResult | None:
    """The form for a list; the answer stays until another list or audit is chosen."""
    with st.form("cohort_form", border=True):
        pasted = st.text_area(
            unit.say("User ids, one a line"), height=180, placeholder="exactly as in the data", key="cohort_ids"
        )
        file = st.file_uploader("…or a text file", type=["txt", "csv"], key="cohort_file")
        asked = st.form_submit_button("Judge this list", type="primary", icon=":material/groups:")
    st.caption(
        "The list stays in this session: it is neither saved nor put into the address. It must have been drawn up without "
        "looking at the scores of this audit."
    )
    if asked:
        st.session_state.pop("cohort", None)
        content = file.getvalue()[:LARGEST_LIST].decode("utf-8-sig", errors="replace") if file else ""
        ids = lines_of(pasted or content)
        if not ids:
            st.warning(f"Paste at least {FEWEST_LISTED} ids, or choose a file.")
            return None
        frame.note_list(audit, len(ids))
        st.session_state["cohort"] = (audit, judge_cohort(frame.store(), audit, ids))
    kept = st.session_state.get("cohort")
    return kept[1] if kept and kept[0] == audit else None


def show(found: CohortResult, result: AuditResult) -> None:
    """The answer, its figures, and what it does not establish."""
    st.subheader("The answer", divider="gray")
    first, *rest = explain_cohort(found, result)
    with st.container(border=True):
        st.markdown(first)
    if found.repeated:
        st.caption(f"{found.repeated:,} repeated ids were counted once.")
    if not result.valid:
        return
    unit = result.unit
    share = "–" if found.share is None else f"{found.share:.0%}"
    cards = [
        (
            unit.say("Users on the list"),
            f"{found.listed:,}",
            f"{found.scored:,} could be scored by every attack used here.",
        ),
        (
            "p-value",
            "–" if found.p_value is None else _p(found.p_value),
            f"One-sided, against the control {unit.many}.",
        ),
        (
            "Higher than controls by",
            "–" if found.effect is None else f"{found.effect:.1f} SD",
            f"Mean score, against {found.control_users:,} audited held-out {unit.many}.",
        ),
        (
            f"Share {use_of(result).people}",
            share,
            "The attack is too weak to count with."
            if found.share is None
            else f"{100 * found.confidence:g}% interval {100 * found.share_low:.0f}–{found.share_high:.0%}",
        ),
    ]
    frame.cards("list", [(label, value, "", caption) for label, value, caption in cards])
    for sentence in rest:
        st.markdown(f"- {sentence}")
    st.subheader("What it rests on, and what it does not establish", divider="gray")
    for sentence in cohort_limits(found, result):
        st.markdown(f"- {sentence}")
    left, right = st.columns(2)
    with left.popover("How this is computed", icon=":material/function:", width="stretch"):
        explain(found, result)
    right.download_button(
        "The answer (JSON, no ids)",
        frame.exported(
            lambda: json.dumps(cohort_document(found, result), ensure_ascii=False, indent=1), "table", audit=result.key
        ),
        "cohort.json",
        "application/json",
        icon=":material/download:",
        width="stretch",
    )


def explain(found: CohortResult, result: AuditResult) -> None:
    """Formulas and sources."""
    titles = {attack.name: attack.title for attack in result.attacks}
    many = result.unit.many
    st.markdown(
        f"**Test**: the scores of several honest attacks are put together by a linear classifier that learned from known {many} "
        f"only; the list is compared with the control {many} by Welch's one-sided t-test (Maini et al. 2024, arXiv 2406.06443)."
    )
    st.caption(f"Attacks: {'; '.join(titles[name] for name in found.attacks)}.")
    st.markdown("**Share**: how often the lead attack says yes, corrected for its mistakes (Tong et al. 2025).")
    st.latex(r"\hat s=\frac{\text{share of yes}-\text{FPR}}{\text{TPR}-\text{FPR}}")
    st.caption(
        result.unit.say(
            "TPR and FPR from known users, who were scored by attacks that had not met them; interval by bootstrap."
        )
    )


def _p(value: float) -> str:
    return "< .0001" if value < 1e-4 else format_p(value)


st.title("Was this list used?")
key = frame.chosen_audit()
if key is None:
    frame.empty_state("A list is judged by a finished audit. The demo takes about a minute.", "Run the demo", "start")
else:
    chosen = frame.result(key)
    st.markdown(
        chosen.unit.say(
            "One person may look too much like others to tell. A list of people, such as all customers of one shop, adds up what "
            "little each of them shows: was the list used, and how much of it?"
        )
    )
    answer = ask(key, chosen.unit)
    if answer is not None:
        show(answer, chosen)
