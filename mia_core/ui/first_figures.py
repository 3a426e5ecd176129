"""What is known of an audit before it is finished: the training so far, and the first scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
import streamlit as st

from mia_core.types import USER, Unit
from mia_core.ui import charts
from mia_core.ui.leak_charts import leak_by_epoch, losses_by_epoch
from mia_core.ui.twin import readable, show_chart

STRONGEST = 12
"""Scores drawn at once."""


def first_figures(figures: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Draws the rows that a running job has told so far.

    Args:
        figures: rows of `training` and of `scores`, as `Progress.tell` gives them.
    """
    training, scores = (
        pl.DataFrame(figures.get(name, []), infer_schema_length=None) for name in ("training", "scores")
    )
    if training.height > 1:
        _training(training)
    if scores.height:
        _scores(scores)


def _training(rows: pl.DataFrame) -> None:
    st.markdown("**The training so far**")
    training_charts(rows, USER)
    st.caption(
        f"{rows['n_members'][-1]} members and {rows['n_held_out'][-1]} held-out users are asked about as the training goes on. "
        "Where the lines part, the model does better on those it has met."
    )


def training_charts(rows: pl.DataFrame, unit: Unit) -> None:
    """Loss of members and of held-out users after every epoch, and how far it tells them apart.

    Args:
        rows: as `read_table` describes the table `training`.
        unit: what is judged.
    """
    left, right = st.columns(2, gap="medium")
    with left:
        names = {"epoch": "Epoch", "members": "Members (nats)", "held_out": "Held-out (nats)"}
        label = unit.say("Mean loss of members and of held-out users after every epoch")
        show_chart(losses_by_epoch(rows, unit), label, readable(rows, names), "training_loss")
    with right:
        names = {"epoch": "Epoch", "auc": "AUC", "low": "From", "high": "To"}
        label = "AUC of the loss attack after every epoch, with its interval"
        show_chart(leak_by_epoch(rows), label, readable(rows, names), "training_auc")


def _scores(rows: pl.DataFrame) -> None:
    st.markdown("**First scores**")
    shown = rows.select(pl.col("attack").alias("title"), "status", pl.col("auc").alias("value"), "low", "high")
    shown = shown.sort("value", descending=True).head(STRONGEST)
    show_chart(
        charts.auc_by_attack(shown, None),
        "AUC of the attacks that have run so far, on known users, each with its interval",
        rows,
        "live_scores",
    )
    st.caption(
        "On known users alone, whose part in the training the attacks may learn from. The result is counted on the audited "
        "ones, whom no attack has met."
    )
