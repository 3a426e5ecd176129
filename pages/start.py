"""The first page: what this answers, three doors, what an audit finds, and what was done here before."""

from __future__ import annotations

import polars as pl
import streamlit as st

from mia_core import example
from mia_core.experiment import Experiment, load_experiment
from mia_core.jobs.queue import Job
from mia_core.report.results import AuditResult
from mia_core.report.wording import headline, minute
from mia_core.storage.store import Entry
from mia_core.ui import charts, frame, prose, run_status
from mia_core.ui.twin import shares, show_chart

SHOWN_AUDITS = 5
SHOWN_STOPS = 3
STYLE = """
<style>
.st-key-hero h1 {font-size: clamp(1.9rem, 3.1vw, 2.6rem) !important; letter-spacing: -.03em; line-height: 1.1;
  text-wrap: balance;}
.st-key-hero .ms-lead {margin: .6rem 0 0;}
.st-key-door_example {background: rgba(47, 127, 181, .1); border-color: rgba(47, 127, 181, .6) !important;}
.st-key-doors {margin: .6rem 0 1.2rem;}
.st-key-doors [data-testid="stVerticalBlock"] > :last-child:has(button) {margin-top: auto;}
@media (max-width: 1200px) {
  .st-key-hero [data-testid="stHorizontalBlock"] {flex-wrap: wrap;}
  .st-key-hero [data-testid="stColumn"] {min-width: 100% !important;}
}
</style>
"""


def demo() -> Experiment:
    """The built-in demonstration."""
    return load_experiment(frame.ROOT / "assets" / "demo.toml")


def doors(has_example: bool) -> None:
    """The three ways in."""
    audits = frame.audits()
    with st.container(key="doors"):
        columns = st.columns(3, gap="medium")
    with columns[0], st.container(border=True, height="stretch", key="door_example"):
        prose.door(
            "See an example audit now",
            "A finished audit of invented people. Every page works on it: what leaked, about whom, and how sure one can be.",
        )
        if st.button(
            "Open the example",
            type="primary",
            icon=":material/monitoring:",
            width="stretch",
            key="see_example",
            disabled=not has_example,
        ):
            frame.go("results", audit=example.install(frame.store()))
    with columns[1], st.container(border=True, height="stretch"):
        prose.door(
            "Audit my data",
            "Bring interactions, choose a model to train on one half of the people, or bring a model that is trained already.",
        )
        if st.button("Bring your data", icon=":material/upload_file:", width="stretch", key="audit_my_data"):
            frame.go("data")
    with columns[2], st.container(border=True, height="stretch"):
        about = f"In the audit {_short(audits[0].name)}." if audits else "To begin with, in the example."
        prose.door("Look one person up", f"By id or by a pasted history: was this person's data used? {about}")
        if st.button(
            "Look somebody up",
            icon=":material/person_search:",
            width="stretch",
            key="look_up",
            disabled=not (audits or has_example),
        ):
            frame.go("lookup", audit=audits[0].key if audits else example.install(frame.store()))


def _short(name: str) -> str:
    return name if len(name) <= 60 else f"{name[:59]}…"


@st.cache_data(show_spinner=False)
def picture(key: str) -> tuple[AuditResult, pl.DataFrame]:
    """The example's result, and its lead attack's scores in bins; the key tells one example from another."""
    result, scores = example.shown()
    return result, charts.binned(scores, unit=result.unit)


def what_it_sees() -> None:
    """The scores of the example."""
    result, steps = picture(example.audit_keys()[0])
    show_chart(
        charts.steps_chart(steps, "Score (right = more member-like)", result.unit).properties(height=300),
        "How the scores of members and of held-out people of the example are spread: the members' lie further right.",
        shares(steps, "Score from"),
        "example_scores",
    )


def what_it_finds() -> None:
    """What the example's scores mean, and what follows from them."""
    result, _ = picture(example.audit_keys()[0])
    st.subheader("What an audit finds", divider="gray")
    left, right = st.columns(2, gap="medium")
    with left:
        prose.text(
            "Blue are people whose histories trained the recommender, orange are people like them whose histories did not. "
            "Who was which was decided by coins before the training.",
            "If the model had kept nothing of anybody, both shapes would lie on one another.",
        )
    with right:
        st.text(headline(result))
        st.caption("Picture and figures are those of the example audit, made on invented people.")


def show_work() -> None:
    """What runs, what stopped, and the newest finished audits; it keeps itself up to date while something runs."""
    active = any(job.kind in run_status.PAGE_OF for job in frame.queue().active())
    st.fragment(_list_work, run_every=3 if active else None)()


def _list_work() -> None:
    jobs = [job for job in frame.queue().jobs(20) if job.kind in run_status.PAGE_OF]
    running = [job for job in jobs if job.active]
    stopped = [job for job in jobs if job.state in ("failed", "cancelled")][:SHOWN_STOPS]
    audits = frame.audits()[:SHOWN_AUDITS]
    if running:
        st.subheader("Running now", divider="gray")
        for job in running:
            _show_job(job)
    if audits or stopped:
        st.subheader("Recent audits", divider="gray")
    for entry in audits:
        _show_audit(entry)
    for job in stopped:
        _show_job(job)
    if not (jobs or audits):
        st.info(
            "Nothing has been run here yet. The example opens at once; the live demo below trains a small model in front of "
            "you, in about a minute.",
            icon=":material/info:",
        )


def _show_job(job: Job) -> None:
    with st.container(border=True):
        name, state, way = st.columns([5, 3, 2], vertical_alignment="center")
        name.text(job.name)
        label, colour = run_status.BADGES[job.state]
        if job.state == "running":
            left = f" · {run_status.duration(job.seconds_left)} left" if job.seconds_left else ""
            state.progress(min(1.0, job.fraction), text=f"{job.stage or 'Starting'}{left}")
        else:
            state.badge(label, color=colour)  # type: ignore[arg-type]
        with way:
            frame.link(run_status.PAGE_OF[job.kind], "Watch" if job.active else "Open", None, job=job.id)


def _show_audit(entry: Entry) -> None:
    with st.container(border=True):
        name, when, way = st.columns([5, 3, 2], vertical_alignment="center")
        name.text(frame.name_of(entry))
        when.caption(f"{minute(entry.created)} UTC")
        with way:
            frame.link("results", "Results", None, audit=entry.key)


def live_demo() -> None:
    """An audit from beginning to end, for whoever wants to watch one or to show it to others."""
    st.subheader("Watch an audit happen", divider="gray")
    words, button = st.columns([5, 2], vertical_alignment="center", gap="medium")
    words.markdown(
        "Invented users, a small T5 trained in front of you, a whole audit in about a minute. No network is needed, and "
        "nothing leaves this machine."
    )
    if button.button("Run the demo", icon=":material/play_arrow:", width="stretch", key="run_demo"):
        st.query_params["job"] = run_status.launch(demo())
        st.rerun()


prose.style()
st.html(STYLE)
job_id = st.query_params.get("job")
if job_id is not None:
    st.title("The demo")
    run_status.show_job(job_id)
    if st.button("Back to the start", icon=":material/arrow_back:", key="back_to_start"):
        del st.query_params["job"]
        st.rerun()
else:
    shipped = bool(example.audit_keys())
    with st.container(key="hero"):
        words, image = st.columns(2, gap="large", vertical_alignment="center") if shipped else (st.container(), None)
    with words:
        st.title("Was this recommender trained on your data?")
        st.html(
            '<p class="ms-lead">A recommender that was trained on people\'s histories answers a little differently for exactly '
            "those people. MemberScope measures that difference, person by person, says how sure one can be, and says what "
            "the evidence does not show.</p>"
        )
    if image is not None:
        with image:
            what_it_sees()
    doors(shipped)
    if shipped:
        what_it_finds()
    st.subheader("How it works", divider="gray")
    prose.steps(
        {
            "A recorded coin flip": "People, never single records, become members or held-out. Only members train the model.",
            "References that never met the person": "Copies of the model show what it would say about a stranger.",
            "Evidence per person": "Each score is compared with held-out people, which gives a p-value and its limits.",
        }
    )
    show_work()
    live_demo()
    with st.container(horizontal=True):
        frame.link("methods", "Every method, with its formula and source", ":material/menu_book:")
        frame.link("responsible", "What a result is no basis for", ":material/balance:")
