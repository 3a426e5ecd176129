"""What runs here: stages, time left, the first figures as they come, and all work of before."""

from __future__ import annotations

import streamlit as st

from mia_core.errors import NotFound
from mia_core.ui import frame, run_status

st.title("Running")
asked = st.query_params.get("job", "")
if asked:
    try:
        kind = frame.queue().get(asked).kind
    except NotFound:
        kind = ""
    if kind not in run_status.PAGE_OF:
        st.info("The address names work that is not known here. What was done here stands below.")
    elif run_status.PAGE_OF[kind] == "running":
        run_status.show_job(asked, kind)
    else:
        frame.go(run_status.PAGE_OF[kind], job=asked)
if not any(job.kind in run_status.PAGE_OF for job in frame.queue().jobs(30)):
    frame.empty_state("Nothing has been run here yet.", "Set up an audit", "audit")
run_status.show_jobs()
