"""Forgetting: has a model that was told to forget somebody forgotten them?"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import polars as pl
import streamlit as st

from mia_core.data_rights.removal import remove_forgetting
from mia_core.errors import ConfigError, NotFound
from mia_core.report.forgetting import (
    VERDICT_TITLES,
    ForgettingResult,
    cost_sentence,
    forgetting_document,
    read_forgetting,
    verdict_sentences,
)
from mia_core.report.results import AuditResult
from mia_core.studies.forgetting import FEWEST_SEEDS, parse_forgetting
from mia_core.ui import forgetting_charts, frame, run_status
from mia_core.ui.twin import readable, show_chart

COLOURS = {"forgotten": "green", "not forgotten": "red", "over-forgotten": "orange", "undecided": "gray"}
WHO = {"share": "Some members, drawn at random", "ids": "Members I name"}


def set_up() -> None:
    """The form: which audit, who is to be forgotten, how."""
    with st.container(border=True):
        st.subheader("1 · Which model")
        key = frame.chosen_audit()
        if key is None:
            frame.empty_state(
                "What a model has forgotten is checked on the target of an audit. Run one first.",
                "Run an audit",
                "audit",
            )
            return
    result = frame.result(key)
    document = _document(result)
    try:
        every = parse_forgetting(document).chosen
    except ConfigError as error:
        frame.show_error(error)
        return
    with st.container(border=True):
        st.subheader("2 · Who is to be forgotten")
        who = (
            st.segmented_control("Who", list(WHO), default="share", format_func=WHO.__getitem__, key="forget_who")
            or "share"
        )
        if who == "share":
            percent = st.slider("Share of the members", 1, 50, 10, format="%d%%", key="forget_share")
            document["forget"] = percent / 100
        else:
            written = st.text_area(
                "Ids, one a line", key="forget_ids", help="Exactly as in the data; only members can be forgotten."
            )
            document["forget"] = [line.strip() for line in written.splitlines() if line.strip()]
            if not document["forget"]:
                st.info("Name at least one member.")
                return
    with st.container(border=True):
        st.subheader("3 · How")
        titles = {method.title: name for name, method in every.items()}
        chosen = st.pills(
            "Ways to forget",
            list(titles),
            selection_mode="multi",
            default=list(titles),
            key=f"ways_{key[:8]}",
            help="\n".join(f"- **{method.title}**: {method.summary}" for method in every.values()),
        )
        left, right = st.columns(2)
        document["seeds"] = int(
            left.number_input(
                "Trainings of each kind",
                FEWEST_SEEDS,
                30,
                FEWEST_SEEDS,
                key="forget_seeds",
                help="Two trainings differ by chance, too: what is forgotten is told from that.",
            )
        )
        margin = right.slider(
            "What may be left of the memory",
            5,
            50,
            20,
            format="%d%%",
            key="forget_margin",
            help="Fixed before anything is looked at.",
        )
        document["margin"] = margin / 100
    if not chosen:
        st.info("Choose at least one way to forget.")
        return
    document["methods"] = [titles[title] for title in chosen]
    try:
        forgetting = parse_forgetting(document)
    except ConfigError as error:
        frame.show_error(error)
        return
    trainings = 2 * forgetting.seeds + len(chosen) * forgetting.seeds
    st.markdown(
        f"About **{trainings} trainings** like the audit's own: with everybody, without those to be forgotten, and each way to "
        "forget, several times. It runs in the background."
    )
    if st.button("Check what is forgotten", type="primary", icon=":material/ink_eraser:", key="launch_forgetting"):
        plain = forgetting.model_dump(mode="json")
        st.query_params.from_dict({"job": run_status.launch_work("forget", forgetting.name, {"forgetting": plain})})
        st.rerun()


def _document(result: AuditResult) -> dict[str, Any]:
    experiment = copy.deepcopy(result.config)
    experiment["data"] = {"source": "kept", "key": result.data["key"]}
    return {"name": f"Forgetting in {result.name}"[:200], "experiment": experiment}


@st.cache_data(show_spinner=False, max_entries=10)
def _opened(home: Path, key: str) -> ForgettingResult:
    folder = frame.store().find(key)
    if folder is None or not (folder / "forgetting.json").is_file():
        raise NotFound("The address names a check that is not in this store. Choose another below, or run it again.")
    return read_forgetting(folder)


def show_result(key: str) -> None:
    """A finished check: each verdict in words, the picture, what it cost."""
    result = _opened(frame.home(), key)
    say = result.unit.say
    st.subheader("Has it forgotten?", divider="gray")
    st.text(result.name)
    frame.show_erased(result.erased)
    st.markdown(
        say(
            f"**{result.forgotten:,}** of {result.members:,} members are to be forgotten. Models that were told to are compared "
            f"with models that were trained without them from the start, **{result.seeds}** of each."
        )
    )
    rows = [
        {
            "title": outcome.title,
            "verdict": outcome.judgement.verdict,
            "left": outcome.judgement.left,
            "low": outcome.judgement.left_low,
            "high": outcome.judgement.left_high,
        }
        for outcome in result.outcomes
        if outcome.judgement.left is not None
    ]
    if rows:
        floats = dict.fromkeys(("left", "low", "high"), pl.Float64)
        memory = pl.DataFrame(rows, schema_overrides=floats)
        titles = {"title": "Way to forget", "verdict": "Verdict", "left": "Memory left", "low": "From", "high": "To"}
        label = "What is left of the memory for every way to forget"
        show_chart(forgetting_charts.memory_left(memory, result.margin), label, readable(memory, titles), "memory_left")
        st.caption(
            f"Green band: what counts as forgotten, fixed beforehand. Bars: {1 - 2 * result.alpha:.0%} intervals over "
            f"{result.unit.many} and trainings."
        )
    for outcome in result.outcomes:
        with st.container(border=True):
            title, badge = st.columns([3, 1], vertical_alignment="center")
            title.markdown(f"**{outcome.title}**")
            verdict = outcome.judgement.verdict
            badge.badge(VERDICT_TITLES[verdict], color=COLOURS[verdict])  # type: ignore[arg-type]
            st.caption(f"{outcome.summary} {outcome.source}")
            first, *statistics = verdict_sentences(outcome, result.unit)
            st.text(first)
            for sentence in statistics:
                st.caption(sentence)
            st.caption(cost_sentence(outcome, result.unit))
    st.caption(
        say(
            "A verdict compares with models that never saw these users, not with 0.5: held-out users, too, are scored by chance. "
            "It holds for this model, these users and this score; it does not reach copies, backups or lists that were served "
            "before."
        )
    )
    left, right = st.columns(2, vertical_alignment="bottom")
    left.download_button(
        "The whole check (JSON)",
        frame.exported(
            lambda: json.dumps(forgetting_document(result), ensure_ascii=False, indent=1), "table", key=result.key
        ),
        "forgetting.json",
        "application/json",
        icon=":material/download:",
        width="stretch",
    )
    with right:
        gone = "Its models and scores go for good, unless another check or audit rests on them."
        run_status.delete_button("forgetting", result.key, remove_forgetting, gone)


st.title("Forgetting")
st.html(
    '<p class="ms-quiet">Somebody asked to be forgotten. Was the model told to, and has it? It is compared with models that were '
    "trained without them from the start: the only truth there is.</p>"
)
check_key = run_status.result_asked_for("forget", "check")
working = bool(check_key) or "job" in st.query_params
if check_key:
    try:
        show_result(check_key)
    except NotFound as error:
        st.warning(str(error), icon=":material/search_off:")
        working = False
if working:
    if st.button("Set up another check", icon=":material/add:", key="another_check"):
        st.query_params.from_dict({})
        st.rerun()
else:
    set_up()
frame.show_finished("forgetting", "Finished checks", "forgetting", "check")
