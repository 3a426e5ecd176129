"""What other seeds of an audit gave, and a way to run them where none was."""

from __future__ import annotations

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from mia_core.audit import estimate
from mia_core.errors import ConfigError
from mia_core.jobs.queue import Job
from mia_core.report.repeats import Repeats
from mia_core.report.results import AuditResult
from mia_core.report.wording import explain_repeats, no_repeats
from mia_core.studies.study import Study, repetition
from mia_core.ui import frame, run_status


def show_other_seeds(result: AuditResult, repeats: Repeats) -> None:
    """How far chance moves the figures or, where nobody knows, how to find out."""
    if told := explain_repeats(repeats, result):
        st.markdown(told)
    if missing := no_repeats(repeats, result):
        with st.container(border=True):
            words, button = st.columns([2, 1], gap="medium", vertical_alignment="center")
            with words:
                st.markdown(missing)
                _offer(result, repeats, button)


def _offer(result: AuditResult, repeats: Repeats, button: DeltaGenerator) -> None:
    try:
        study = repetition(result, repeats)
    except ConfigError:
        st.caption("It was set up in another version of this program, and cannot be repeated as it was.")
        return
    running = _running(study)
    if running is not None:
        frame.link("studies", "Other seeds are being run", ":material/pending:", job=running.id)
        return
    if button.button("Run two more seeds", icon=":material/casino:", key="repeat_seeds", width="stretch"):
        frame.go("studies", job=run_status.launch_study(study))
    run = {*repeats.seeds, *repeats.refused}
    fresh = [point.experiment for point in study.points if point.experiment.seed not in run]
    seconds = sum(stage.seconds for experiment in fresh for stage in estimate.plan(experiment, result.data))
    st.caption(
        f"In the background, likely at most {run_status.duration(seconds)}. From the command line: "
        f"`python -m mia_core study --repeat {result.key[:12]}`"
    )


def _running(study: Study) -> Job | None:
    """The job that repeats this very audit, if there is one."""
    experiment = study.experiment.model_dump(mode="json")
    for job in frame.queue().active():
        asked = job.payload.get("study", {})
        if asked.get("experiment") == experiment and "seed" in asked["vary"]:
            return job
    return None
