"""Background jobs as pages show them: launch, live progress, cancel, what to do when one failed."""

from __future__ import annotations

from collections.abc import Callable
from itertools import takewhile
from typing import Any

import streamlit as st

from mia_core import __version__
from mia_core.errors import NotFound
from mia_core.experiment import Experiment, Runtime, runtime_of_machine
from mia_core.jobs.queue import Job
from mia_core.jobs.run_job import WORDS
from mia_core.jobs.supervisor import ensure_supervisor
from mia_core.report.results import read_result
from mia_core.report.wording import minute
from mia_core.storage import journal
from mia_core.storage.store import Store
from mia_core.studies.study import Study
from mia_core.ui import frame
from mia_core.ui.first_figures import first_figures

BADGES = {
    "queued": ("Waiting", "gray"),
    "running": ("Running", "blue"),
    "finished": ("Finished", "green"),
    "failed": ("Failed", "red"),
    "cancelled": ("Cancelled", "orange"),
}
PAGE_OF = {"audit": "running", "study": "studies", "defend": "defenses", "forget": "forgetting"}
"""Where a job of each kind is watched."""
LOG_SHOWN = 4_000
"""Characters of a log, from its end."""
MARKS = {"done": ":material/check_circle:", "cached": ":material/bolt:", "running": ":material/pending:"}


def launch(experiment: Experiment, runtime: Runtime | None = None) -> str:
    """Queues an audit and returns the job's id; one that was run before and is still in the store is opened at once."""
    payload = {
        "experiment": experiment.model_dump(mode="json"),
        "runtime": (runtime or runtime_of_machine()).model_dump(mode="json"),
        "version": __version__,
    }
    before = frame.queue().finished("audit", payload)
    if before is not None and _on_fixed_data(experiment) and _nothing_missing(before.result_key):
        st.session_state["open_result"] = before.result_key
        return before.id
    job = frame.queue().submit("audit", experiment.name, payload)
    ensure_supervisor(frame.home())
    return job.id


def launch_study(study: Study) -> str:
    """Queues a study and returns the job's id."""
    return launch_work("study", study.name, {"study": study.model_dump(mode="json")})


def launch_work(kind: str, name: str, document: dict[str, Any]) -> str:
    """Queues work of a kind that is described by a document, and returns the job's id."""
    payload = {**document, "runtime": runtime_of_machine().model_dump(mode="json"), "version": __version__}
    job = frame.queue().submit(kind, name, payload)
    ensure_supervisor(frame.home())
    return job.id


def _nothing_missing(key: str) -> bool:
    """Whether a result is in the store with the data that it kept, if it is still to have any: run again, it reads them anew."""
    folder = frame.store().find(key)
    if folder is None:
        return False
    result = read_result(folder)
    parted = bool(result.pseudonyms_of or result.erased)
    return parted or frame.store().find(result.data["key"]) is not None


def _on_fixed_data(experiment: Experiment) -> bool:
    """Whether nothing that this audit reads can have changed since: no file or folder that was named or handed in."""
    return (
        experiment.data.source != "file"
        and experiment.base.source == "offline"
        and experiment.target.source not in ("own", "lists")
    )


def duration(seconds: float | None) -> str:
    """A length of time in plain words."""
    if seconds is None:
        return "a moment"
    if seconds < 50:
        return f"{max(1, round(seconds / 5)) * 5} seconds"
    if seconds < 90:
        return "about a minute"
    if seconds < 5_400:
        return f"about {round(seconds / 60)} minutes"
    return f"about {seconds / 3_600:.1f} hours"


def tab_title(*parts: str) -> None:
    """What the browser's tab is called: news are seen there while another tab is open."""
    st.set_page_config(page_title=" · ".join([*parts, "MemberScope"]))


def show_job(job_id: str, kind: str = "audit") -> Job | None:
    """Everything about one job of a kind; it keeps itself up to date while the job is active."""
    try:
        job = frame.queue().get(job_id)
    except NotFound:
        job = None
    if job is None or job.kind != kind:
        st.info(f"The address names {'an' if kind == 'audit' else 'a'} {WORDS.get(kind, kind)} that is not known here.")
        return None
    if job.active:
        _live(job_id)
    elif job.state == "finished":
        _finished(job)
    else:
        _stopped(job)
    return job


def result_asked_for(kind: str, query: str) -> str | None:
    """The key of the result that the address names, or that of the job it names, once that is finished."""
    key, job_id = st.query_params.get(query), st.query_params.get("job")
    if job_id and not key:
        job = show_job(job_id, kind)
        if job is not None and job.state == "finished" and job.result_key:
            key = job.result_key
            st.query_params.from_dict({query: key})
    return key


def delete_button(kind: str, key: str, remove: Callable[[Store, str], object], what_goes: str) -> None:
    """Deletes a result for good, and the jobs that made it; then the page opens without it."""
    with st.popover("Delete this", icon=":material/delete:", width="stretch"):
        st.markdown(what_goes)
        if st.button("Delete for good", type="primary", key=f"delete_{kind}"):
            remove(frame.store(), key)
            frame.note(f"{journal.KINDS[kind]} deleted", key=key)
            for job in frame.queue().jobs(1_000):
                if job.result_key == key:
                    frame.queue().remove(job.id)
            frame.forget_reads()
            st.query_params.from_dict({})
            st.rerun()


@st.fragment(run_every=2)
def _live(job_id: str) -> None:
    job = frame.queue().get(job_id)
    if not job.active:
        # The whole page changes with the state: results, or what to do next.
        if job.state == "finished" and job.kind == "audit" and job.result_key:
            st.session_state["open_result"] = job.result_key
        st.rerun(scope="app")
    ensure_supervisor(frame.home())
    with st.container(border=True):
        head, button = st.columns([4, 1], vertical_alignment="center")
        with head:
            st.text(job.name)
            waiting = _turn(job) if job.state == "queued" else (job.stage or "Starting")
            tab_title(f"{job.fraction:.0%}" if job.state == "running" else "Waiting", job.name[:60])
            left = f" · {duration(job.seconds_left)} left" if job.state == "running" and job.seconds_left else ""
            st.progress(min(1.0, job.fraction), text=f"{waiting}{left}")
        with button:
            if st.button("Cancel", key=f"cancel_{job.id}", icon=":material/stop_circle:", width="stretch"):
                frame.queue().cancel(job.id)
                st.rerun(scope="app")
        _stages(job)
        first_figures(job.figures)
        st.caption("You may close this page: the work goes on, and this address shows it again.")
    _log(job)


def _turn(job: Job) -> str:
    before = len(list(takewhile(lambda other: other.id != job.id, frame.queue().active())))
    return f"Waiting for its turn, after {before} other{'s' * (before > 1)}" if before else "Waiting for its turn"


def _stages(job: Job) -> None:
    if not job.stages:
        return
    done = sum(stage["state"] in ("done", "cached") for stage in job.stages)
    with st.expander(f"{done} of {len(job.stages)} stages done", expanded=job.state == "running"):
        lines = [
            f"{MARKS.get(stage['state'], ':material/radio_button_unchecked:')} {stage['name']}"
            + (" (from the store)" if stage["state"] == "cached" else "")
            for stage in job.stages
        ]
        half = (len(lines) + 1) // 2
        for column, some in zip(st.columns(2), (lines[:half], lines[half:]), strict=True):
            # Lines of one paragraph: they stand as closely as those of a list.
            column.caption("  \n".join(some))


def _finished(job: Job) -> None:
    tab_title("Finished", job.name[:60])
    if job.kind == "audit" and job.result_key:
        if st.session_state.pop("open_result", None) == job.result_key:
            st.session_state["just_finished"] = job.name
            frame.go("results", audit=job.result_key)
        st.success("This audit is finished.", icon=":material/check_circle:")
        frame.link("results", "Open the results", ":material/monitoring:", audit=job.result_key)


def _stopped(job: Job) -> None:
    # A pasted history is erased with the end of its job, so that a lookup cannot go on.
    lookup = job.kind == "lookup"
    kept = "The history was erased; paste it again to retry." if lookup else "What was done is kept."
    tab_title("Stopped", job.name[:60])
    if job.state == "failed":
        st.error(
            f"This {WORDS.get(job.kind, job.kind)} stopped before it was finished. {kept}", icon=":material/error:"
        )
        st.text(job.message)
    else:
        st.warning(f"This {WORDS.get(job.kind, job.kind)} was cancelled. {kept}", icon=":material/stop_circle:")
    _log(job)
    if not lookup and st.button("Go on from where it stopped", key=f"retry_{job.id}", icon=":material/replay:"):
        again = frame.queue().retry(job.id)
        ensure_supervisor(frame.home())
        st.query_params["job"] = again.id
        st.rerun()


def _log(job: Job) -> None:
    """What the job's process wrote: where in the program it was, never anybody's data."""
    path = frame.home() / "logs" / f"{job.id}.log"
    text = path.read_text(encoding="utf-8", errors="replace")[-LOG_SHOWN:] if path.is_file() else ""
    with st.expander("Log"):
        if text.strip():
            st.code(text, language=None)
        else:
            st.caption("Nothing was written to it.")


def show_jobs() -> None:
    """Past and present work of every kind, each with the way to it."""
    active = bool(frame.queue().active())
    st.fragment(_list_jobs, run_every=4 if active else None)()


def _list_jobs() -> None:
    # A lookup is the business of whoever asked.
    jobs = [job for job in frame.queue().jobs(30) if job.kind in PAGE_OF]
    if not jobs:
        return
    st.subheader("All work", divider="gray")
    for job in jobs:
        with st.container(border=True):
            name, state, link = st.columns([4, 2, 2], vertical_alignment="center")
            with name:
                st.text(job.name)
                st.caption(f"{WORDS.get(job.kind, job.kind).capitalize()} · {minute(job.created)} UTC")
            label, colour = BADGES[job.state]
            state.badge(label, color=colour)  # type: ignore[arg-type]
            with link:
                if job.state == "finished" and job.kind == "audit":
                    frame.link("results", "Results", None, audit=job.result_key)
                else:
                    frame.link(PAGE_OF[job.kind], "Open", None, job=job.id)
