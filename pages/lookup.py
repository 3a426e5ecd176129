"""Was this person's data used? By id, or by a pasted history."""

from __future__ import annotations

import streamlit as st

from mia_core.errors import NotFound
from mia_core.jobs.run_job import read_lookup
from mia_core.jobs.supervisor import ensure_supervisor
from mia_core.report.lookup import lookup_user
from mia_core.report.results import LookupResult
from mia_core.report.wording import explain_lookup
from mia_core.store import home_folder
from mia_core.ui import charts, frame, run_status

LARGEST_HISTORY = 1_000_000


def by_id(audit: str) -> None:
    """The form for a user of the audit's data."""
    with st.form("lookup_form", border=True):
        user = st.text_input(
            "User id", value=st.query_params.get("user", ""), placeholder="exactly as in the data", key="lookup_user"
        )
        asked = st.form_submit_button("Look up", type="primary", icon=":material/person_search:")
    if asked and user.strip():
        st.query_params["user"] = user.strip()
    wanted = st.query_params.get("user", "")
    if not wanted:
        st.caption("Ids are compared as text, letter by letter. Nobody else's ids are shown here.")
        return
    show(lookup_user(frame.store(), audit, wanted), audit)


def by_history(audit: str) -> None:
    """The form for somebody whose history is pasted; scoring it is background work."""
    with st.form("history_form", border=True):
        pasted = st.text_area("Titles or item ids, one a line, the oldest first", height=220, key="pasted_history")
        file = st.file_uploader("…or a text file", type=["txt", "csv"], key="history_file")
        asked = st.form_submit_button("Score this history", type="primary", icon=":material/search:")
    st.caption(
        "The history is erased from the job list when it has been scored; the result keeps the lines that were not found."
    )
    if asked:
        text = pasted or (file.getvalue()[:LARGEST_HISTORY].decode("utf-8-sig", errors="replace") if file else "")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        if not lines:
            st.warning("Paste at least one line, or choose a file.")
            return
        job = frame.queue().submit("lookup", "Lookup of a pasted history", {"audit": audit, "history": lines})
        ensure_supervisor(home_folder())
        st.query_params["job"] = job.id
        st.rerun()
    job_id = st.query_params.get("job")
    if job_id:
        asked_job = run_status.show_job(job_id)
        if asked_job is not None and asked_job.state == "finished":
            show(read_lookup(frame.store(), asked_job.result_key), audit)


def show(found: LookupResult, audit: str) -> None:
    """The answer, its place in both distributions, and its limits."""
    result = frame.result(audit)
    st.subheader("The answer", divider="gray")
    # Sentences may hold a title or an id from a file: shown as text, never as Markdown.
    first, *rest = explain_lookup(found, result)
    with st.container(border=True):
        st.text(first)
    if found.score is not None:
        cards = st.columns(3)
        cards[0].metric(
            "Score",
            f"{found.score:.3f}",
            border=True,
            help="Higher = likelier member. It has no scale of its own: compare.",
        )
        cards[1].metric(
            "p-value",
            "–" if found.p_value is None else f"{found.p_value:.3f}",
            border=True,
            help="Share of comparable held-out users at least so member-like, the person included.",
        )
        cards[2].metric(
            "More member-like than",
            "–" if found.share_below is None else f"{found.share_below:.1%}",
            border=True,
            help=f"of {found.calibration_users} calibration users",
        )
        if found.held_out_scores:
            picture = charts.place(found.member_scores, found.held_out_scores, found.score)
            st.altair_chart(picture, alt="Where this person's score lies among members and held-out users", key="place")
    for sentence in rest:
        st.text(sentence)
    if found.unmatched:
        with st.expander(f"{len(found.unmatched)} lines were not found in the catalogue"):
            st.code("\n".join(found.unmatched[:200]), language=None)
    with st.popover("How this is computed", icon=":material/function:"):
        st.latex(r"p_u=\frac{1+\#\{c: s_c\ge s_u\}}{n+1}")
        st.markdown(
            "c runs over the n calibration users: held-out people who were scored in the same way (Bates et al. 2023). The "
            "p-value is valid if this person, were they not a member, is exchangeable with them."
        )


st.title("Was this person's data used?")
key = frame.chosen_audit()
if key is None:
    frame.empty_state("A lookup needs a finished audit. The demo takes about a minute.", "Run the demo", "start")
else:
    ways = {"id": "A user of the data", "history": "A pasted history"}
    chosen = "history" if "job" in st.query_params else "id"
    way = (
        st.segmented_control("Look up", list(ways), default=chosen, format_func=ways.__getitem__, key="lookup_way")
        or "id"
    )
    try:
        if way == "id":
            by_id(key)
        else:
            by_history(key)
    except NotFound as error:
        st.warning("Nothing was found.", icon=":material/search_off:")
        st.text(str(error))
