"""Set up an audit, launch it, watch it, find past ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from mia_core.data import library
from mia_core.data.interactions import Interactions
from mia_core.data.sessions import sessions
from mia_core.errors import MemberScopeError
from mia_core.experiment import (
    Base,
    Experiment,
    Prompt,
    Section,
    Sessions,
    Target,
    parse_experiment,
    read_experiment,
    to_toml,
)
from mia_core.planning.capacity import DEAREST, GIGABYTE, Forecast, PastAudit, forecast, memory, past_audits
from mia_core.ui import forms, frame, run_status, uploads
from mia_core.ui.attack_choice import WANTED, choose_attacks
from mia_core.ui.defense_choice import choose_defenses
from mia_core.ui.live_text import live_text_area
from mia_core.ui.model_choice import (
    FAMILIES,
    RECOMMENDERS,
    SEQUENCE_FAMILIES,
    SOURCES,
    choose_model,
    choose_source,
    defaults,
    lists_of_sequences,
    other_recommender_settings,
)

BUILT_IN = "built-in"
PRESETS = {
    "quick": ("Quick", "Quick", ""),
    "thorough": ("Thorough", "Thorough", ""),
    "black_box": ("Black box only", "Black box", ""),
    "own": ("Bring your own model", "Quick", "own"),
}
"""What it is called, the set of attacks that it ticks, and where its model comes from, if that matters."""
UNITS = {"none": "A person", "gap": "A session, ended by a pause"}
SESSION_LABELS = {"gap_minutes": "Minutes of pause that end it", "shortest": "Fewest items", "longest": "Most items"}
TABS = {
    "language": ("Windows", "Split", "Training", "LoRA", "Base model", "Distillation", "Views", "Evaluation", "World"),
    "sequence": ("History", "Split", "Training", "Base model", "Lists", "Distillation", "Views", "Evaluation", "World"),
    "recommender": ("Recommender", "Split", "Evaluation", "World"),
}
"""The other settings of each kind of target."""
NOT_ASKED: dict[str, dict[str, set[str]]] = {
    "language": {},
    "sequence": {
        "prompt": {"windows", "template", "separator"},
        "base": {"vocabulary"},
        "views": {
            *("shots", "exercises", "list_length", "answer_tokens", "temperatures", "repeats"),
            *("self_prompted_windows",),
        },
    },
    "recommender": {"evaluation": {"map_users"}},
}
"""Settings that mean nothing to a kind of target: it has no words, or no probabilities."""
CHOSEN_ABOVE = {
    "prompt": {"style"},
    "base": {"family", "source", "path", "hub_id", "revision"},
    "training": {"epochs"},
}


def choose_data() -> tuple[dict[str, Any], dict[str, Any]]:
    """(the data section, a summary of the data)."""
    saved = {entry.key: entry for entry in library.saved(frame.store())}
    options = [BUILT_IN, *saved]
    asked = st.query_params.get("data", BUILT_IN)
    if asked not in options:
        st.warning(
            "The address names a data set that is not in this store. Choose one here, or save it on the Data page."
        )
    key = st.selectbox(
        "Data set",
        options,
        index=options.index(asked) if asked in options else 0,
        format_func=lambda k: "Built-in data (invented users)" if k == BUILT_IN else saved[k].name,
        key="audit_data",
    )
    if key == BUILT_IN:
        default = Experiment().data.synthetic
        return {"source": "built-in"}, {
            "unit": "user",
            "users": default.users,
            "items": default.items,
            "interactions": default.users * default.mean_history,
            "ratings": True,
        }
    whole = summary_of(frame.home(), key, **Sessions(by="none").model_dump())
    chosen = choose_unit(whole)
    people = whole["unit"] == "user" and chosen.by != "gap"
    summary = whole if people else summary_of(frame.home(), key, **chosen.model_dump())
    return {"source": "data-set", "key": key, "sessions": chosen.model_dump()}, summary


def choose_unit(whole: dict[str, Any]) -> Sessions:
    """Whether a figure is about a person or about a visit, where the data leave a choice."""
    if whole["unit"] == "session":
        st.caption(
            ":material/schedule: These data are sessions, one visit each: every figure of this audit is about a session, "
            "not about a person."
        )
        labels = {name: label for name, label in SESSION_LABELS.items() if name != "gap_minutes"}
        return forms.section_form(Sessions(), "sessions", labels=labels)
    if not whole["timestamps"]:
        return Sessions()
    units = list(UNITS)
    by = st.segmented_control("A user is", units, default="none", format_func=UNITS.__getitem__, key="unit")
    if by != "gap":
        return Sessions()
    chosen = forms.section_form(Sessions(by="gap"), "sessions", labels=SESSION_LABELS)
    st.caption(
        "Each session gets a role of its own: of one person, one session can be a member and another held out. What a person "
        "had more than once counts at its first time."
    )
    return chosen


@st.cache_data(show_spinner="Reading…", max_entries=20)
def summary_of(home: Path, key: str, by: str, gap_minutes: float, shortest: int, longest: int) -> dict[str, Any]:
    """The summary of a saved data set, cut into sessions where it is asked for."""
    whole = Interactions.read(library.load_folder(frame.store(), key))
    return sessions(whole, by, gap_minutes, shortest, longest).summary()


def asked_so_far(model: dict[str, Any], default: Experiment) -> Experiment:
    """What is asked of which target. What is still empty, such as a path, does not decide which attacks can run."""
    parts: dict[str, type[Section]] = {"prompt": Prompt, "base": Base, "target": Target}
    return default.model_copy(
        update={
            name: kind.model_construct(**{**getattr(default, name).model_dump(), **model.get(name, {})})
            for name, kind in parts.items()
        }
    )


def choose_rest(document: dict[str, Any], default: Experiment, summary: dict[str, Any]) -> dict[str, Any]:
    """Every other setting, with its default; what was chosen above stays as it was chosen."""
    kind, target = default.kind, document["target"]

    def ask(name: str, section: Section, above: dict[str, Any] | None = None) -> dict[str, Any]:
        skip = frozenset(CHOSEN_ABOVE.get(name, set()) | NOT_ASKED[kind].get(name, set()))
        # Each kind of target has widgets of its own, as it has defaults of its own.
        key = name if kind == "language" else f"{kind}.{name}"
        return {**forms.section_form(section, key, skip).model_dump(), **(above or {})}

    with st.expander("All other settings"):
        for title, tab in zip(TABS[kind], st.tabs(TABS[kind]), strict=True):
            with tab:
                if title in ("Windows", "History"):
                    document["prompt"] = ask("prompt", default.prompt, document.get("prompt"))
                elif title == "Split":
                    document["split"] = ask("split", default.split)
                elif title == "Training":
                    target["training"] = ask("training", default.target.training, target.get("training"))
                elif title == "LoRA":
                    target["lora"] = ask("lora", default.target.lora)
                elif title == "Base model":
                    document["base"] = ask("base", default.base, document["base"])
                elif title == "Distillation":
                    document["distillation"] = ask("distillation", default.distillation)
                elif title == "Views":
                    st.caption("Ways of asking that only some attacks need; what no chosen attack needs is not asked.")
                    document["views"] = ask("views", default.views)
                elif title == "Evaluation":
                    document["evaluation"] = ask("evaluation", default.evaluation)
                elif title == "Recommender":
                    document |= other_recommender_settings(document["recommender"], document["shadow"])
                elif title == "Lists":
                    document["recommender"] = lists_of_sequences(summary["items"])
                else:
                    target["world"] = choose_world()
    return document


def choose_world() -> str:
    """Whether the members are those who are audited, or strangers."""
    null = st.checkbox("Null world: train on strangers, so that nobody audited is a member", key="null_world")
    st.caption("A check of the whole line: honest attacks must then stay near 0.5.")
    return "null" if null else "members"


def set_up() -> tuple[Experiment | None, dict[str, Any]]:
    """The form of a new audit; returns what it stands for, and a summary of its data."""
    with st.container(border=True):
        st.subheader("1 · Data")
        data, summary = choose_data()
    with st.container(border=True):
        st.subheader("2 · Model")
        source = choose_source(summary["unit"])
        default = defaults(source)
        model = choose_model(source, summary)
    with st.container(border=True):
        st.subheader("3 · Attacks")
        # Filled when every setting below is known.
        cost = st.container()
        asked = asked_so_far(model, default)
        attacks = choose_attacks(asked)
    defense = choose_defenses(asked)
    document = choose_rest({"data": data, **model, "attacks": attacks, "defense": defense}, default, summary)
    with st.container(border=True):
        left, right = st.columns([3, 1])
        suggested = suggested_name(document, source)
        entered = left.text_input("Name", placeholder=suggested, max_chars=80, key="audit_name")
        document["name"] = entered.strip() or suggested
        document["seed"] = int(right.number_input("Seed", 0, 2**31 - 1, 0, key="seed"))
        return launch(document, summary, cost), summary


def suggested_name(document: dict[str, Any], source: str) -> str:
    """What a new audit is called unless it is given a name: its data and its model."""
    saved = {entry.key: entry.name for entry in library.saved(frame.store())}
    data = saved.get(document["data"].get("key", ""), "Built-in data")
    target = document["target"]
    if source == "offline":
        model = FAMILIES[document["base"]["family"]]
    elif source == "sequence":
        model = SEQUENCE_FAMILIES[document["base"]["family"]][0]
    elif source == "recommender":
        model = RECOMMENDERS[document["recommender"]["kind"]][0].lower()
    else:
        model = SOURCES[source]
    how = "serving from its prompt" if "serving" in target else {"lora": "LoRA"}.get(target.get("tuning", ""), "")
    return ", ".join(part for part in (data, model, how) if part)[:80]


def launch(document: dict[str, Any], summary: dict[str, Any], cost: DeltaGenerator) -> Experiment | None:
    """Estimate, launch, and the same audit for the command line; None where the settings do not fit together."""
    target = document["target"]
    if target.get("source") == "own" and not target.get("path"):
        st.info("Name the folder of your model above; then this audit can be launched.", icon=":material/arrow_upward:")
        return None
    try:
        experiment = parse_experiment(document)
        uploads.check_paths(experiment)
    except MemberScopeError as error:
        frame.show_error(error)
        return None
    with cost:
        found = show_cost(experiment, summary, "form")
    st.markdown(
        f"Likely to take **{run_status.duration(found.seconds)}** here ({found.accuracy}). It runs in the background."
    )
    if st.button("Launch the audit", type="primary", icon=":material/play_arrow:", key="launch"):
        start(experiment)
    with st.expander("The same audit from the command line"):
        st.code(to_toml(experiment), language="toml")
        st.markdown("Save this as `audit.toml`, then `python -m mia_core audit audit.toml`.")
    return experiment


def start(experiment: Experiment) -> None:
    """Launches an audit and shows it."""
    frame.go("running", job=run_status.launch(experiment))


@st.cache_data(show_spinner=False, max_entries=20)
def measured_audits(home: Path, finished: list[str]) -> list[PastAudit]:
    """What audits took on this machine; the keys of finished ones tell one state of the store from another."""
    return past_audits(frame.store())


def expected(experiment: Experiment, summary: dict[str, Any]) -> Forecast:
    """How long an audit is likely to take here."""
    finished = [entry.key for entry in frame.store().entries("audit", "point")]
    return forecast(frame.store(), experiment, summary, measured_audits(frame.home(), finished))


def show_cost(experiment: Experiment, summary: dict[str, Any], where: str) -> Forecast:
    """How long the audit is likely to take as it is now, what that costs, how much memory it needs, and what takes the time.

    Args:
        where: it stands, of the two views of this page.
    """
    found, needed = expected(experiment, summary), memory(experiment, summary)
    words, details = st.columns([3, 1], vertical_alignment="center")
    size = (
        "the memory it needs is known once the model is here"
        if needed.needed is None
        else f"about **{needed.needed / GIGABYTE:.1f} GB** of memory"
    )
    with details.popover("What takes the time", width="stretch"):
        price = st.number_input(
            "Price of this machine for an hour", 0.0, DEAREST, 0.0, key=f"price_{where}", help="In any currency."
        )
        longest = sorted(found.stages, key=lambda stage: -stage.seconds)
        # Seconds first: on a narrow screen the rest is cut off.
        rows = [{"Seconds": round(stage.seconds), "Stage": stage.name} for stage in longest]
        money = f", about **{found.money(price):,.2f}** in money" if price else ""
        st.markdown(f"All stages: **{run_status.duration(found.seconds)}**{money}")
        st.dataframe(pl.DataFrame(rows), hide_index=True)
        st.caption(f"{found.basis} Stages that are in the store already take no time.")
    words.markdown(
        f":material/timer: Likely to take **{run_status.duration(found.seconds)}** as it is now ({found.accuracy}){money}, and "
        f"{size}."
    )
    if not needed.enough:
        st.warning(
            f"This machine has {needed.available / GIGABYTE:.1f} GB free. Take a smaller model or fewer views, leave the "
            "placebo out (Evaluation), or bring fewer users.",
            icon=":material/memory:",
        )
    if not found.measured:
        _offer_to_measure(experiment, where)
    return found


def _offer_to_measure(experiment: Experiment, where: str) -> None:
    """A rough plan becomes a near one once this machine was measured."""
    running = next((job for job in frame.queue().active() if job.kind == "measure"), None)
    if running is not None:
        _while_measuring(running.id)
    elif experiment.base.source != "hub" and st.button(
        "Measure this machine for a nearer estimate (seconds)", icon=":material/speed:", key=f"measure_{where}"
    ):
        run_status.launch_work("measure", "Measure this machine", {"experiment": experiment.model_dump(mode="json")})
        st.session_state.pop("measure_failed", None)
        st.rerun()
    if told := st.session_state.get("measure_failed"):
        st.text(told)


@st.fragment(run_every=2)
def _while_measuring(job_id: str) -> None:
    job = frame.queue().get(job_id)
    if not job.active:
        if job.state == "failed":
            st.session_state["measure_failed"] = job.message
        st.rerun(scope="app")
    st.caption(":material/speed: This machine is being measured; the estimate follows in some seconds.")


def expert(form: Experiment | None, summary: dict[str, Any] | None) -> None:
    """The whole config as text: filled from the form, and from then on the reader's own."""
    st.caption(
        "All that the form asks, and more, as one document. What is left out has its default. It follows the form until you "
        "change something here."
    )
    written = to_toml(form) if form is not None else st.session_state.get("expert_form", "")
    if st.session_state.get("expert_toml") in (None, "", st.session_state.get("expert_form")):
        st.session_state["expert_toml"] = written
    st.session_state["expert_form"] = written
    st.html("<style>.st-key-expert_toml textarea {font-family: ui-monospace, Menlo, Consolas, monospace;}</style>")
    text = live_text_area("Config (TOML)", "expert_toml", 460)
    if text != written and st.button("Take the form's settings again", icon=":material/undo:", key="expert_reset"):
        del st.session_state["expert_toml"]
        st.rerun()
    try:
        experiment = read_experiment(text)
        uploads.check_paths(experiment)
    except MemberScopeError as error:
        frame.show_error(error)
        return
    st.success("This is a valid config.", icon=":material/check_circle:")
    if summary is not None and form is not None and experiment.data == form.data:
        show_cost(experiment, summary, "expert")
    if st.button("Launch this audit", type="primary", icon=":material/play_arrow:", key="launch_expert"):
        start(experiment)


def take_preset() -> None:
    """What a preset stands for, before any other widget is drawn; what is chosen afterwards is the reader's own."""
    preset = forms.choice("Begin with", {name: title for name, (title, _, _) in PRESETS.items()}, "preset")
    if preset is None or preset == st.session_state.get("preset_taken"):
        return
    st.session_state["preset_taken"] = preset
    _, attacks, source = PRESETS[preset]
    if source:
        st.session_state["model_source"] = source
    elif st.session_state.get("model_source") in ("own", "lists"):
        del st.session_state["model_source"]
    st.session_state[WANTED] = attacks


st.title("Audit")
try:
    take_preset()
    guided, written = st.tabs(["Guided form", "Expert: the config as text"], key="audit_view")
    with guided:
        form, summary = set_up()
    with written:
        expert(form, summary)
except MemberScopeError as error:
    frame.show_error(error)
