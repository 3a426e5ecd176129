"""Set up an audit, launch it, watch it, find past ones."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import polars as pl
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from mia_core import estimate
from mia_core.data import library
from mia_core.data.interactions import Interactions
from mia_core.data.prompts import PROMPT_STYLES
from mia_core.errors import ConfigError, MemberScopeError
from mia_core.experiment import Experiment, parse_experiment, to_toml
from mia_core.types import StagePlan
from mia_core.ui import forms, frame, run_status
from mia_core.ui.attack_choice import choose_attacks

BUILT_IN = "built-in"
FAMILIES = {"t5": "T5", "gpt2": "GPT-2", "llama": "LLaMA"}
SOURCES = {
    "offline": "A small model, trained here",
    "local": "A model folder on this machine",
    "hub": "A model from the hub",
    "own": "My own fine-tuned model",
    "lists": "Only what it recommended (lists or text)",
}
TUNINGS = {"full": "All weights", "lora": "LoRA adapters", "prompt": "Not at all: it serves from its prompt"}


def choose_data() -> tuple[dict[str, Any], dict[str, Any]]:
    """(the data section, a summary of the data)."""
    saved = {entry.key: entry for entry in library.saved(frame.store())}
    options = [BUILT_IN, *saved]
    asked = st.query_params.get("data", BUILT_IN)
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
            "users": default.users,
            "interactions": default.users * default.mean_history,
            "ratings": True,
        }
    return {"source": "data-set", "key": key}, summary_of(key)


@st.cache_data(show_spinner=False, max_entries=20)
def summary_of(key: str) -> dict[str, Any]:
    """The summary of a saved data set."""
    return Interactions.read(library.load_folder(frame.store(), key)).summary()


def choose_model() -> dict[str, Any]:
    """The sections base and target, in plain words."""
    left, right = st.columns(2)
    source = left.selectbox(
        "Where the model comes from", list(SOURCES), format_func=SOURCES.__getitem__, key="model_source"
    )
    base: dict[str, Any] = {"source": source}
    target: dict[str, Any] = {}
    if source == "offline":
        base["family"] = (
            right.segmented_control(
                "Family", list(FAMILIES), default="t5", format_func=FAMILIES.__getitem__, key="family"
            )
            or "t5"
        )
    elif source == "local":
        base["path"] = right.text_input(
            "Model folder",
            key="base_path",
            help="As saved by save_pretrained: config.json, model.safetensors, tokenizer.",
        )
    elif source == "hub":
        base["hub_id"] = right.text_input(
            "Hub id",
            placeholder="google-t5/t5-small",
            key="hub_id",
            help="Needs a network. Safetensors only; no code of the model is run.",
        )
        base["revision"] = right.text_input(
            "Revision", key="revision", help="A commit, tag or branch; empty: the newest."
        )
    elif source == "own":
        return own_model()
    else:
        return only_lists()
    tuning = (
        st.segmented_control("Fine-tune", list(TUNINGS), default="full", format_func=TUNINGS.__getitem__, key="tuning")
        or "full"
    )
    if tuning == "prompt":
        target["serving"] = "prompt"
        st.info(
            "The recommender answers from a few examples in its prompt, and a member's own window is one of them. Attacks that "
            "ask what training left behind do not run: choose those of the group “Served from a prompt”, or Target minus base."
        )
    else:
        target["tuning"] = tuning
    return {"base": base, "target": target}


def own_model() -> dict[str, Any]:
    """A target that is brought along, with the lists of users whose membership is known."""
    st.markdown(
        "Bring the fine-tuned folder (or a LoRA adapter with its base), users you know were trained on, users you know were not, "
        "and the users to judge. The data set above must hold the interactions of all of them."
    )
    left, right = st.columns(2)
    target: dict[str, Any] = {
        "source": "own",
        "path": left.text_input("Folder of the fine-tuned model or adapter", key="own_path"),
    }
    target["no_base"] = right.checkbox(
        "The model before fine-tuning is not to be had",
        key="no_base",
        help="Attacks that need it are switched off, with the reason.",
    )
    base = {
        "source": "local",
        "path": "" if target["no_base"] else right.text_input("Folder of the base model", key="own_base"),
    }
    target |= known_lists()
    return {"base": base, "target": target}


def only_lists() -> dict[str, Any]:
    """A deployed system of which there is nothing but what it recommended."""
    st.markdown(
        "One recommendation a row: user, rank, and item, title or written text. A column question (history, no_history) may also "
        "hold what is recommended to nobody in particular. Everybody who is on none of the three lists below is a third party."
    )
    target: dict[str, Any] = {"source": "lists"}
    file = st.file_uploader(
        "What was recommended (CSV, TSV, Parquet or JSON lines)",
        type=["csv", "tsv", "txt", "parquet", "jsonl", "ndjson"],
        key="served_lists",
    )
    if file is not None:
        target["lists"] = str(_kept_list("served", file.getvalue(), Path(file.name).suffix))
    target |= known_lists()
    st.info(
        "Only attacks that look at lists alone can run: choose them in the group “Black box” or “Served from a prompt”."
    )
    return {"base": {"source": "offline"}, "target": target}


def known_lists() -> dict[str, str]:
    """Who is known, who is to be judged, and whether the two can be compared."""
    kept: dict[str, str] = {}
    for column, (name, label) in zip(
        st.columns(3),
        {"members": "Known members", "held_out": "Known held-out users", "judged": "Users to judge"}.items(),
        strict=True,
    ):
        file = column.file_uploader(f"{label} (one id a line)", type=["txt", "csv"], key=f"own_{name}")
        if file is not None:
            kept[name] = str(_kept_list(name, file.getvalue()))
    exchangeable = st.checkbox(
        "The users to judge, were they not members, would be like the held-out users I list: drawn from the same people, in "
        "the same way, at the same time.",
        key="exchangeable",
    )
    if not exchangeable:
        st.info("Without this the p-values do not hold: they compare each judged person with the held-out users.")
    return kept


def _kept_list(name: str, content: bytes, suffix: str = ".txt") -> Path:
    """The list in a private file that the background job can read."""
    folder = frame.store().home / "lists"
    folder.mkdir(mode=0o700, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=f"{name}-", suffix=suffix, delete=False) as stream:
        stream.write(content)
    return Path(stream.name)


def choose_rest(document: dict[str, Any]) -> dict[str, Any]:
    """Every other setting, with its default."""
    default = Experiment()
    with st.expander("All other settings"):
        names = ["Windows", "Split", "Training", "LoRA", "Base model", "Distillation", "Views", "Evaluation", "World"]
        tabs = st.tabs(names)
        with tabs[0]:
            document["prompt"] = {
                **forms.section_form(default.prompt, "prompt", frozenset({"style"})).model_dump(),
                **document["prompt"],
            }
        with tabs[1]:
            document["split"] = forms.section_form(default.split, "split").model_dump()
        with tabs[2]:
            skip = frozenset({"epochs"})
            document["target"]["training"] = {
                **forms.section_form(default.target.training, "training", skip).model_dump(),
                **document["target"].get("training", {}),
            }
        with tabs[3]:
            document["target"]["lora"] = forms.section_form(default.target.lora, "lora").model_dump()
        with tabs[4]:
            skip = frozenset({"family", "source", "path", "hub_id", "revision"})
            document["base"] = {**forms.section_form(default.base, "base", skip).model_dump(), **document["base"]}
        with tabs[5]:
            document["distillation"] = forms.section_form(default.distillation, "distillation").model_dump()
        with tabs[6]:
            st.caption("Ways of asking that only some attacks need; what no chosen attack needs is not asked.")
            document["views"] = forms.section_form(default.views, "views").model_dump()
        with tabs[7]:
            document["evaluation"] = forms.section_form(default.evaluation, "evaluation").model_dump()
        with tabs[8]:
            null = st.checkbox(
                "Null world: fine-tune on strangers, so that nobody audited is a member", key="null_world"
            )
            st.caption("A check of the whole line: honest attacks must then stay near 0.5.")
            document["target"]["world"] = "null" if null else "members"
    return document


def set_up() -> None:
    """The form of a new audit."""
    with st.container(border=True):
        st.subheader("1 · Data")
        data, summary = choose_data()
        styles = [n for n, s in PROMPT_STYLES.items() if summary["ratings"] or not s.needs_ratings]
        style = (
            st.segmented_control(
                "Question put to the model",
                styles,
                default=styles[0],
                format_func=lambda n: PROMPT_STYLES[n].title,
                key="style",
            )
            or styles[0]
        )
        st.caption(PROMPT_STYLES[style].summary)
    with st.container(border=True):
        st.subheader("2 · Model")
        model = choose_model()
        if "source" not in model["target"] and "serving" not in model["target"]:
            epochs = st.slider(
                "Epochs of fine-tuning",
                1,
                30,
                Experiment().target.training.epochs,
                key="epochs",
                help="More epochs, more memory of the members.",
            )
            model["target"]["training"] = {"epochs": epochs}
    with st.container(border=True):
        st.subheader("3 · Attacks")
        # Filled when every setting below is known.
        cost = st.container()
        attacks = choose_attacks()
    document = {"data": data, "prompt": {"style": style}, **model, "attacks": attacks}
    document = choose_rest(document)
    with st.container(border=True):
        left, right = st.columns([3, 1])
        suggested = suggested_name(document)
        entered = left.text_input("Name", placeholder=suggested, max_chars=80, key="audit_name")
        document["name"] = entered.strip() or suggested
        document["seed"] = int(right.number_input("Seed", 0, 2**31 - 1, 0, key="seed"))
        launch(document, summary, cost)


def suggested_name(document: dict[str, Any]) -> str:
    """What a new audit is called unless it is given a name: its data and its model."""
    saved = {entry.key: entry.name for entry in library.saved(frame.store())}
    data = saved.get(document["data"].get("key", ""), "Built-in data")
    source = document["target"].get("source") or document["base"]["source"]
    model = FAMILIES.get(document["base"].get("family", ""), "") if source == "offline" else SOURCES[source]
    how = "serving from its prompt" if "serving" in document["target"] else document["target"].get("tuning", "")
    return ", ".join(part for part in (data, model, {"full": "", "lora": "LoRA"}.get(how, how)) if part)[:80]


def launch(document: dict[str, Any], summary: dict[str, Any], cost: DeltaGenerator) -> None:
    """Estimate, launch, and the same audit for the command line."""
    try:
        experiment = parse_experiment(document)
    except ConfigError as error:
        frame.show_error(error)
        return
    stages = estimate.plan(experiment, summary)
    with cost:
        show_cost(stages)
    took = run_status.duration(sum(stage.seconds for stage in stages))
    st.markdown(f"Likely to take **{took}** on two CPU cores. It runs in the background.")
    if st.button("Launch the audit", type="primary", icon=":material/play_arrow:", key="launch"):
        st.query_params["job"] = run_status.launch(experiment)
        st.rerun()
    with st.expander("The same audit from the command line"):
        st.code(to_toml(experiment), language="toml")
        st.markdown("Save this as `audit.toml`, then `python -m mia_core audit audit.toml`.")


def show_cost(stages: list[StagePlan]) -> None:
    """How long the audit is likely to take as it is now, and what takes the time."""
    longest = sorted(stages, key=lambda stage: -stage.seconds)
    words, details = st.columns([3, 1], vertical_alignment="center")
    words.markdown(
        f":material/timer: Likely to take **{run_status.duration(sum(s.seconds for s in stages))}** as it is now."
    )
    with details.popover("What takes the time", width="stretch"):
        rows = [{"Stage": stage.name, "Seconds": round(stage.seconds, 1)} for stage in longest]
        st.dataframe(pl.DataFrame(rows), hide_index=True)
        st.caption("On two CPU cores. Stages that are in the store already take no time.")


st.title("Audit")
job_id = st.query_params.get("job")
if job_id:
    run_status.show_job(job_id)
    if st.button("Set up another audit", icon=":material/add:", key="another"):
        del st.query_params["job"]
        st.rerun()
else:
    try:
        set_up()
    except MemberScopeError as error:
        frame.show_error(error)
run_status.show_jobs()
