"""The first page: what this is for, one button for the demonstration, the way to one's own data."""

from __future__ import annotations

import streamlit as st

from mia_core.experiment import Experiment, load_experiment
from mia_core.ui import frame, run_status


def demo() -> Experiment:
    """The built-in demonstration."""
    return load_experiment(frame.ROOT / "assets" / "demo.toml")


st.title("Was this recommender trained on your data?")
st.html(
    '<p class="ms-lead">A recommender that was fine-tuned on people\'s histories answers a little differently for '
    "exactly those people. MemberScope measures that difference, person by person, says how sure one can be, and says "
    "what the evidence does not show.</p>"
)
job_id = st.query_params.get("job")
if job_id is None:
    left, right = st.columns([1, 1], gap="medium")
    with left, st.container(border=True, height="stretch"):
        st.subheader("See it work")
        st.markdown(
            "Invented users, a small T5 trained in front of you, a whole audit in about a minute. "
            "Nothing leaves this machine."
        )
        if st.button("Run the demo", type="primary", icon=":material/play_arrow:", key="run_demo"):
            st.query_params["job"] = run_status.launch(demo())
            st.rerun()
    with right, st.container(border=True, height="stretch"):
        st.subheader("Audit your own recommender")
        st.markdown(
            "Bring interaction data and choose a model to fine-tune on one half of the users, or bring a model that is "
            "already fine-tuned with the users you know about."
        )
        frame.link("data", "Bring your data", ":material/upload_file:")
        frame.link("audit", "Set up an audit", ":material/science:")
else:
    run_status.show_job(job_id)
    if st.button("Back to the start", icon=":material/arrow_back:", key="back_to_start"):
        del st.query_params["job"]
        st.rerun()

st.subheader("How it works", divider="gray")
steps = {
    "1 · A recorded coin flip": "Users, never single records, become members or held-out. Only members train the model.",
    "2 · References that never met the user": "Copies distilled from the model show what it would say about a stranger.",
    "3 · Evidence per person": "Each score is compared with held-out people, which gives a p-value and its limits.",
}
for column, (name, text) in zip(st.columns(3), steps.items(), strict=True):
    with column, st.container(border=True, height="stretch"):
        st.markdown(f"**{name}**")
        st.markdown(text)
run_status.show_jobs()
