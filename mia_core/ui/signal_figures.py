"""What the models show of members and of held-out users: one distribution per signal and model."""

from __future__ import annotations

import polars as pl
import streamlit as st

from mia_core.experiment import SEQUENCE_FAMILIES
from mia_core.report.results import AuditResult
from mia_core.report.signals import DIFFERENT_AXES, OVER_BASE, OVER_REFERENCE, shown_models, signal
from mia_core.ui import charts, frame
from mia_core.ui.twin import shares, show_chart

FEATURES = {
    "loss": "Loss (nats per token)",
    "confidence": "Confidence (top probability)",
    "entropy": "Entropy (nats)",
    "hidden": "Hidden vector (first principal component)",
}


def view_title(view: str) -> str:
    """A view's name in words."""
    kind, _, number = view.partition(" ")
    words = {
        "soft": "soft reference",
        "student": "student, fold",
        "leaking": "leaking student",
        "self_prompted": "self-prompted reference",
    }
    if view in (OVER_BASE, OVER_REFERENCE):
        return view
    return f"{words.get(kind, kind)} {int(number) + 1}" if number else words.get(kind, kind)


@st.cache_data(show_spinner=False, max_entries=20)
def models_of(key: str) -> list[str]:
    """The models, and differences between them, of which an audit kept signals."""
    return shown_models(frame.folder(key))


@st.cache_data(show_spinner=False, max_entries=200)
def _binned(key: str, model: str, feature: str, calibration: bool) -> pl.DataFrame:
    """Bins, not users, are kept between clicks."""
    values = signal(frame.folder(key), model, feature)
    return charts.binned(values, unit=frame.result(key).unit, calibration=calibration)


def show_signals(result: AuditResult) -> None:
    """Distributions of every signal under every model, for an audit that has any (see `models_of`)."""
    models, say = models_of(result.key), result.unit.say
    st.subheader(say("What the models show of members and of held-out users"), divider="gray")
    model = st.segmented_control(
        "Model", models, default=models[0], format_func=view_title, key="model", bind="query-params", required=True
    )
    calibration = st.toggle(
        "Calibration users apart",
        key="calibration",
        bind="query-params",
        help=say("The audited held-out users: p-values compare everybody with them."),
    )
    if model == "leaking":
        st.warning(say("The leaking student met these very users, labels and all."))
    difference = model in (OVER_BASE, OVER_REFERENCE)
    features = [feature for feature in FEATURES if not difference or feature != DIFFERENT_AXES]
    for i in range(0, len(features), 2):
        for column, feature in zip(st.columns(2, gap="medium"), features[i : i + 2], strict=False):
            steps = _binned(result.key, model, feature, calibration)
            title = FEATURES[feature]
            if result.config["base"]["family"] in SEQUENCE_FAMILIES:
                title = title.replace("per token", "per item")
            if difference:
                title = f"{title}: {model}"
            with column:
                if steps.is_empty():
                    st.caption(f"{title}: nobody has a value.")
                    continue
                label = say(f"{title}: members and held-out users under {view_title(model)}")
                show_chart(
                    charts.steps_chart(steps, title, result.unit), label, shares(steps, "From"), f"density_{feature}"
                )
    if difference:
        st.caption(
            "Of hidden vectors there is no difference: each model's first component points in a direction of its own. "
            + (
                say("Each user's own value under the base is taken off.")
                if model == OVER_BASE
                else say("Each user's own mean over the soft references is taken off.")
            )
        )
