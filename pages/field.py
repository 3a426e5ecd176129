"""Every attack beside the others, on every family, data set and way of tuning that was run."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
import streamlit as st

from mia_core.attacks.catalogue import ATTACKS, GROUPS
from mia_core.ui import charts, frame
from mia_core.ui.twin import legible

ASSET = frame.ROOT / "assets" / "battery.json"
TUNING = {"full": "all weights", "lora": "LoRA"}
FAMILY = {"t5": "T5", "gpt2": "GPT-2", "llama": "LLaMA"}


def title(cell: list[str]) -> str:
    """One audit in words."""
    data, family, tuning = cell
    return f"{data}, {FAMILY[family]}, {TUNING[tuning]}"


@st.cache_data(show_spinner=False)
def measured(changed: float) -> dict[str, Any]:
    """The figures; `changed` is when the file was written."""
    document: dict[str, Any] = json.loads(ASSET.read_text(encoding="utf-8"))
    return document


def tidy(document: dict[str, Any]) -> pl.DataFrame:
    """One row per attack and audit of the first seed, in the order of the catalogue."""
    place = {name: i for i, name in enumerate(ATTACKS)}
    rows = []
    for row in document["rows"]:
        auc, tpr = row["auc"], row["tpr_at_fpr_0.05"]
        if row["attack"] not in place or row["seed"] != document["rows"][0]["seed"] or not auc or auc[0] is None:
            continue
        rows.append(
            {
                "place": place[row["attack"]],
                "name": row["attack"],
                "attack": ATTACKS[row["attack"]].title,
                "audit": title([row["data"], row["family"], row["tuning"]]),
                "value": auc[0],
                "low": auc[1],
                "high": auc[2],
                "text": f"{auc[0]:.2f}",
                "TPR at 5% FPR": tpr[0] if tpr else None,
                **{
                    f"Precision at {r:.0%} recall": (row[f"precision_at_recall_{r}"] or [None])[0]
                    for r in (0.1, 0.5, 0.9)
                },
            }
        )
    return pl.DataFrame(rows).sort("place", maintain_order=True)


def show(document: dict[str, Any]) -> None:
    """The chart, group by group, then the figures."""
    rows = tidy(document)
    groups = {name: group.title for name, group in GROUPS.items()}
    chosen = st.multiselect(
        "Kinds of evidence",
        list(groups),
        default=["likelihood", "calibrated", "trained"],
        format_func=groups.__getitem__,
    )
    wanted = [name for group in chosen for name in GROUPS[group].attacks]
    part = rows.filter(pl.col("name").is_in(wanted))
    if part.is_empty():
        st.info("Choose at least one kind of evidence.")
        return
    with st.container(key="wide_battery"):
        st.altair_chart(
            legible(charts.battery(part)), alt="AUC of every attack in every audit", key="battery", width="content"
        )
    st.caption(
        "AUC: 0.5 is guessing, 1 is perfect. Grey: the 95% interval over users holds 0.5, so the attack is at chance there."
    )
    names = {"attack": "Attack", "audit": "Audit", "value": "AUC", "low": "From", "high": "To"}
    table = part.select(*(pl.col(name).alias(shown) for name, shown in names.items()), pl.col("^(TPR|Precision).*$"))
    st.dataframe(
        table,
        hide_index=True,
        height=380,
        column_config={
            "Attack": st.column_config.TextColumn(pinned=True),
            **{name: st.column_config.NumberColumn(format="%.3f") for name in table.columns[2:]},
        },
    )
    ran = {title([row["data"], row["family"], row["tuning"]]) for row in document["rows"]}
    missing = [title(cell) for cell in document["cells"] if title(cell) not in ran]
    if missing:
        st.caption(f"Not run within the budget of time: {'; '.join(missing)}.")
    st.caption(
        f"Small models built here (width 128, four layers), one seed, {document['shadows']} shadow models, audited users only. "
        "Made by `python benchmarks/battery.py`."
    )


st.title("Every attack, measured")
st.html(
    '<p class="ms-quiet">The same audits with every attack, so that they can be compared on the same people and the same models. '
    "Which attack works best depends on the model: look at the column that is like yours.</p>"
)
if ASSET.is_file():
    show(measured(ASSET.stat().st_mtime))
else:
    frame.empty_state(
        "The comparison has not been run on this machine. An audit of your own shows all its attacks.",
        "Set up an audit",
        "audit",
    )
