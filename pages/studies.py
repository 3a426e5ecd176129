"""Studies: one setting of an audit varied, or two crossed."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import polars as pl
import streamlit as st

from mia_core.audit import estimate
from mia_core.data import library
from mia_core.data.interactions import Interactions
from mia_core.errors import ConfigError, NotFound
from mia_core.experiment import Experiment, Section
from mia_core.machines.tasks import spare_cores
from mia_core.report.studies import (
    STUDY_TABLES,
    StudyResult,
    Varied,
    metric_title,
    modality_sentences,
    read_study,
    read_study_table,
    study_document,
)
from mia_core.studies.study import Study, load_study, parse_study, presets, to_toml
from mia_core.ui import forms, frame, run_status, study_charts
from mia_core.ui.model_choice import FAMILIES, SEQUENCE_FAMILIES
from mia_core.ui.twin import readable, show_chart

BUILT_IN = "built-in"
WAYS = {"preset": "A prepared study", "own": "A setting of my choice"}
NOTHING = "nothing else"
BESIDE = ("hit_rate_at_10", "ndcg_at_10", "loss_gap", "agreement_top1", "agreement_kl", "density", "popularity_gini")
"""Figures of a whole audit that are worth seeing beside the leakage."""
SIMPLE_ATTACKS = ("loss", "target_minus_base", "fused_target", "distillation")


@st.cache_data(show_spinner=False)
def prepared() -> dict[str, Study]:
    """The studies that come with the product."""
    return {name: load_study(name) for name in presets()}


@st.cache_data(show_spinner=False)
def settings() -> dict[str, str]:
    """Every number and every choice of the config that can be varied, with its explanation."""
    return dict(_settings_of(Experiment, ""))


def _settings_of(section: type[Section], path: str) -> Iterator[tuple[str, str]]:
    texts = forms.help_texts(section)
    for name, field in section.model_fields.items():
        kinds = [kind for kind in (field.annotation, *get_args(field.annotation)) if isinstance(kind, type)]
        inner = next((kind for kind in kinds if issubclass(kind, Section)), None)
        place = f"{path}{name}"
        if inner is not None:
            yield from _settings_of(inner, f"{place}.")
        elif get_origin(field.annotation) is Literal or {int, float, bool} & set(kinds) or place == "prompt.style":
            yield place, texts.get(name, "")


def set_up() -> None:
    """The form of a new study."""
    with st.container(border=True):
        st.subheader("1 · What is varied")
        way = (
            st.segmented_control("Study", list(WAYS), default="preset", format_func=WAYS.__getitem__, key="study_way")
            or "preset"
        )
        try:
            study = _choose_preset() if way == "preset" else _choose_fields()
        except ConfigError as error:
            frame.show_error(error)
            return
        if study is None:
            return
    with st.container(border=True):
        st.subheader("2 · Around which audit")
        document = study.model_dump(mode="json")
        summary = _choose_audit(study, document)
    try:
        study = parse_study(document)
    except ConfigError as error:
        frame.show_error(error)
        return
    seconds = sum(stage.seconds for p in study.points for stage in estimate.plan(p.experiment, summary))
    most = run_status.duration(seconds / (spare_cores() + 1))
    st.markdown(
        f"**{len(study.points)} audits**, likely **at most {most}** here: what they have in common is done once."
    )
    if st.button("Launch the study", type="primary", icon=":material/play_arrow:", key="launch_study"):
        st.query_params["job"] = run_status.launch_study(study)
        st.rerun()
    with st.expander("The same study from the command line"):
        st.code(to_toml(study), language="toml")
        st.markdown("Save this as `study.toml`, then `python -m mia_core study study.toml`.")


def _choose_preset() -> Study | None:
    studies = prepared()
    if not studies:
        st.info("The prepared studies lie in `assets/studies`, which is not here. Choose a setting of your own.")
        return None
    name = st.selectbox("Study", list(studies), format_func=lambda name: studies[name].name, key="study_preset")
    study = studies[name]
    st.markdown(study.summary)
    for field in study.varied:
        st.caption(f"Varied: {field.title} = {', '.join(str(value) for value in field.values)}")
    return study


def _choose_fields() -> Study | None:
    known = settings()
    vary: dict[str, Any] = {}
    for i, (label, default, example) in enumerate(
        (("Setting", "target.training.epochs", "1, 3, 6"), ("Crossed with", NOTHING, ""))
    ):
        left, right = st.columns(2)
        options = list(known) if i == 0 else [NOTHING, *known]
        path = left.selectbox(label, options, index=options.index(default), key=f"vary_{i}")
        if path == NOTHING:
            continue
        written = right.text_input("Values, separated by commas", value=example, key=f"values_{i}", help=known[path])
        values = [_value(part.strip()) for part in written.split(",") if part.strip()]
        if not values:
            st.info("Give at least one value.")
            return None
        vary[path] = values
    name = st.text_input("Name", value=f"Study of {' and '.join(vary)}", max_chars=80, key="study_name").strip()
    base = next(iter(prepared().values()), None)
    experiment = base.experiment if base else Experiment()
    return parse_study(
        {
            "name": name or "Study",
            "vary": vary,
            "experiment": {
                **experiment.model_dump(mode="json"),
                "attacks": {"names": SIMPLE_ATTACKS, "lead": "distillation"},
            },
        }
    )


def _value(text: str) -> Any:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return {"true": True, "false": False}.get(text.lower(), text)
    return value if isinstance(value, int | float | bool | str) else text


def _choose_audit(study: Study, document: dict[str, Any]) -> dict[str, Any]:
    """Lays the data, the model and its training over the study's audit; returns a summary of the data."""
    saved = {entry.key: entry for entry in library.saved(frame.store())}
    experiment = document["experiment"]
    left, middle, right = st.columns(3)
    key = left.selectbox(
        "Data set",
        [BUILT_IN, *saved],
        format_func=lambda k: "Built-in data (invented users)" if k == BUILT_IN else saved[k].name,
        key="study_data",
    )
    kind = study.experiment.kind
    families = FAMILIES if kind == "language" else {name: title for name, (title, _) in SEQUENCE_FAMILIES.items()}
    if kind != "recommender" and "base.family" not in study.vary:
        names, usual = list(families), study.experiment.base.family
        experiment["base"]["family"] = middle.selectbox(
            "Family", names, names.index(usual), families.__getitem__, key=f"study_family_{kind}"
        )
    if kind != "recommender" and "target.training.epochs" not in study.vary:
        epochs = study.experiment.target.training.epochs
        experiment["target"]["training"]["epochs"] = int(
            right.number_input("Epochs of training", 1, 1_000, epochs, key="study_epochs")
        )
    synthetic = study.experiment.data.synthetic
    if key == BUILT_IN:
        if not any(path.startswith("data.synthetic") for path in study.vary):
            users = int(left.number_input("Invented users", 30, 20_000, synthetic.users, key="study_users"))
            experiment["data"]["synthetic"]["users"] = users
        users = experiment["data"]["synthetic"]["users"]
        return {"users": users, "interactions": users * synthetic.mean_history, "ratings": True}
    experiment["data"] |= {"source": "data-set", "key": key}
    return _summary_of(frame.home(), key)


@st.cache_data(show_spinner=False, max_entries=20)
def _summary_of(home: Path, key: str) -> dict[str, Any]:
    return Interactions.read(library.load_folder(frame.store(), key)).summary()


@st.cache_data(show_spinner=False, max_entries=10)
def _opened(home: Path, key: str) -> tuple[StudyResult, dict[str, pl.DataFrame]]:
    folder = frame.store().find(key)
    if folder is None or not (folder / "study.json").is_file():
        raise NotFound("The address names a study that is not in this store. Choose another below, or run it again.")
    return read_study(folder), {name: read_study_table(folder, name) for name in STUDY_TABLES}


def show_study(key: str) -> None:
    """A finished study: its charts, its table, what differs between seeds, and how the features are spread."""
    result, tables = _opened(frame.home(), key)
    st.subheader("Result", divider="gray")
    st.text(result.name)
    frame.show_erased(result.erased)
    if result.summary:
        st.text(result.summary)
    _show_failures(result)
    figures = tables["figures"]
    left, right = st.columns([2, 1], gap="medium")
    metric = (
        left.segmented_control(
            "Leakage", result.metrics, default=result.metrics[0], format_func=metric_title, key="study_metric"
        )
        or result.metrics[0]
    )
    beside = [name for name in BESIDE if name in figures["metric"].unique()]
    utility = right.selectbox("Beside it", beside, format_func=metric_title, key="study_beside") if beside else None
    fields = [field for field in result.varied if field.path != "seed" or len(result.varied) == 1]
    leaks = figures.filter((pl.col("metric") == metric) & pl.col("attack").is_in(list(result.attacks)))
    if len(fields) == 2:
        _show_crossed(result, leaks, figures, metric, utility)
    else:
        with left:
            _show_one(fields[0], _across_seeds(result, leaks), result.attacks, metric)
        if utility:
            with right:
                _show_one(fields[0], _across_seeds(result, figures.filter(metric=utility)), {"": ""}, utility)
    if "seed" in [field.path for field in result.varied] and len(result.varied) == 2:
        st.caption("Each dot is the mean over seeds, its bar reaches from the lowest to the highest of them.")
    elif len(fields) == 2:
        st.caption("The interval over users of each cell shows when it is pointed at, and stands in the table below.")
    else:
        st.caption("Bands and bars are intervals over users.")
    _show_tables(result, tables)


def _show_failures(result: StudyResult) -> None:
    if result.failures:
        st.warning(f"{len(result.failures)} of {result.points} audits could not be run. The others are shown.")
        for failure in result.failures:
            st.text(f"{failure.point}: {failure.reason}")
    if result.invalid:
        st.warning("These audits did not pass their gates; their figures say nothing about membership.")
        st.text("\n".join(result.invalid))


def _across_seeds(result: StudyResult, rows: pl.DataFrame) -> pl.DataFrame:
    """The rows themselves or, where the seed is crossed with a setting, their mean and range over seeds."""
    others = [field.path for field in result.varied if field.path != "seed"]
    if not others or len(others) == len(result.varied):
        return rows
    summed = rows.group_by([*others, "attack", "metric"], maintain_order=True)
    value = pl.col("value")
    return summed.agg(value.min().alias("low"), value.max().alias("high"), value.mean().alias("value"))


def _show_one(field: Varied, rows: pl.DataFrame, attacks: dict[str, str], metric: str) -> None:
    points = rows.select(
        pl.col(field.path).alias("x"), pl.col("attack").replace(attacks).alias("series"), "value", "low", "high"
    ).drop_nulls("value")
    if points.is_empty():
        st.info("These users cannot resolve this figure. Choose another one, or more users.")
        return
    draw = study_charts.over_numbers if field.numeric and field.path != "seed" else study_charts.over_words
    if field.path == "seed":
        points = points.with_columns(pl.col("x").cast(pl.Int64).cast(pl.String))
    label = f"{metric_title(metric)} for every value of {field.title}"
    titles = {"series": "Attack", "x": field.title, "value": metric_title(metric), "low": "From", "high": "To"}
    picture = draw(points, field.title, metric_title(metric))
    show_chart(picture, label, readable(points, titles), f"study_chart_{metric}")


def _show_crossed(
    result: StudyResult, leaks: pl.DataFrame, figures: pl.DataFrame, metric: str, utility: str | None
) -> None:
    attack = st.selectbox("Attack", list(result.attacks), format_func=result.attacks.__getitem__, key="study_attack")
    down, across = result.varied
    parts = [(metric, leaks.filter(attack=attack)), *([(utility, figures.filter(metric=utility))] if utility else [])]
    for column, (name, rows) in zip(st.columns(len(parts), gap="medium"), parts, strict=True):
        named = rows.select(
            pl.col(across.path).alias("x"), pl.col(down.path).alias("y"), "value", "low", "high"
        ).drop_nulls("value")
        with column:
            if named.is_empty():
                st.info("These users cannot resolve this figure. Choose another one, or more users.")
                continue
            chart = study_charts.crossed(named, across.title, down.title, metric_title(name))
            label = f"{metric_title(name)} for every pair of {down.title} and {across.title}"
            st.markdown(metric_title(name))
            titles = {"y": down.title, "x": across.title, "value": metric_title(name), "low": "From", "high": "To"}
            show_chart(chart, label, readable(named, titles), f"study_heat_{name}")


def _show_tables(result: StudyResult, tables: dict[str, pl.DataFrame]) -> None:
    titles = {field.path: field.title for field in result.varied}
    figures = tables["figures"]
    st.subheader("Every figure", divider="gray")
    words = pl.col("metric").map_elements(metric_title, pl.String).alias("figure")
    view = figures.select(*titles, pl.col("attack").replace(result.attacks), words, "value", "low", "high", "n")
    st.dataframe(view.rename(titles), hide_index=True, height=320)
    if tables["spread"].height:
        st.subheader("Between seeds", divider="gray")
        present = {path: title for path, title in titles.items() if path != "seed"}
        numbers = ("mean", "standard_deviation", "lowest", "highest", "seeds")
        spread = tables["spread"].select(*present, pl.col("attack").replace(result.attacks), words, *numbers)
        st.dataframe(spread.rename(present | {"standard_deviation": "standard deviation"}), hide_index=True, height=260)
        st.caption(
            "An interval over users does not contain what another split and another training would change; this does."
        )
    st.subheader("One mode or several?", divider="gray")
    for sentence in modality_sentences(tables["modality"]):
        st.text(sentence)
    st.caption(
        "Dip test of each feature's distribution over users, members and held-out users apart, p < 0.05 after Holm's "
        "correction within each audit. With few users only wide gaps are seen."
    )
    with st.expander("Every test"):
        st.dataframe(tables["modality"].drop("point").rename(titles), hide_index=True)
    places = figures.unique("point", maintain_order=True)
    points = {row["audit"]: ", ".join(f"{titles[p]} {_plain(row[p])}" for p in titles) for row in places.to_dicts()}
    left, middle, right = st.columns(3, vertical_alignment="bottom")
    with left:
        audit = st.selectbox("One of its audits", list(points), format_func=points.__getitem__, key="study_audit")
        frame.link("results", "Open this audit", ":material/monitoring:", audit=audit)
    middle.download_button(
        "All figures (CSV)",
        frame.exported(figures.write_csv, "table", key=result.key),
        "study.csv",
        "text/csv",
        icon=":material/download:",
        width="stretch",
    )
    right.download_button(
        "The whole study (JSON)",
        frame.exported(
            lambda: json.dumps(study_document(result, tables), ensure_ascii=False, indent=1), "table", key=result.key
        ),
        "study.json",
        "application/json",
        icon=":material/download:",
        width="stretch",
    )


def _plain(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"


st.title("Studies")
st.html(
    '<p class="ms-quiet">What makes a recommender give people away? Vary one setting of an audit, or cross two, and see '
    "leakage and usefulness side by side.</p>"
)
study_key = run_status.result_asked_for("study", "study")
working = bool(study_key) or "job" in st.query_params
if study_key:
    try:
        show_study(study_key)
    except NotFound as error:
        st.warning(str(error), icon=":material/search_off:")
if working:
    if st.button("Set up another study", icon=":material/add:", key="another_study"):
        st.query_params.from_dict({})
        st.rerun()
else:
    set_up()
frame.show_finished("study", "Finished studies", "studies", "study")
