"""Defences: what would close a leak, what it costs, and what it buys against an attacker who knows it."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import polars as pl
import streamlit as st

from mia_core.audit import estimate
from mia_core.data_rights.removal import remove_defenses
from mia_core.defenses.catalogue import DEFENSES
from mia_core.defenses.training import DpSgd
from mia_core.errors import MemberScopeError, NotFound
from mia_core.experiment import Experiment, parse_experiment
from mia_core.machines.tasks import spare_cores
from mia_core.report.defending import (
    TRADE_FIGURES,
    DefenseResult,
    Row,
    by_defense,
    defense_document,
    onion_sentences,
    read_defenses,
    read_trade,
    recommendation,
)
from mia_core.report.results import AuditResult
from mia_core.studies.defending import Tried, parse_defending, refused_of_panel, study_of
from mia_core.ui import frame, run_status, trade_charts
from mia_core.ui.twin import readable, show_chart

LEAKS = {"tpr": "Detections", "exposed": "Most exposed tenth", "auc": "AUC"}
QUALITIES = {"hit_rate_at_10": "HR@10", "ndcg_at_10": "NDCG@10", "likes_auc": "Liked from disliked"}


def set_up() -> None:
    """The form: which audit, which defences."""
    with st.container(border=True):
        st.subheader("1 · Which audit")
        key = frame.chosen_audit()
        if key is None:
            frame.empty_state(
                "Defences are tried on an audit. Run one first: it shows whether there is a leak to close.",
                "Run an audit",
                "audit",
            )
            return
    result = frame.result(key)
    try:
        experiment = _experiment(result)
        panel = list(refused_of_panel(experiment))
    except MemberScopeError as error:
        frame.show_error(error)
        return
    possible = [tried for tried, refused in panel if not refused]
    if not possible:
        st.info(
            "Nothing can be tried on this target: its training is not done here. Choose an audit that trains its target."
        )
        return
    with st.container(border=True):
        st.subheader("2 · Which defences")
        titles = [tried.title for tried in possible]
        chosen = st.pills(
            "Tried, each by itself",
            titles,
            selection_mode="multi",
            default=titles,
            key=f"tried_{key[:8]}",
            help=_help(possible),
        )
        refused = [(tried.title, reason) for tried, reason in panel if reason]
        if refused:
            with st.expander(f"Not for this audit: {len(refused)}"):
                for title, reason in refused:
                    st.text(f"{title}: {reason}")
        seeds = st.slider(
            "Seeds",
            1,
            5,
            3,
            key="defense_seeds",
            help="Each is another split and another training; three show what chance does.",
        )
    if not chosen:
        st.info("Choose at least one defence.")
        return
    document = {
        "name": f"Defences of {result.name}"[:200],
        "experiment": experiment.model_dump(mode="json"),
        "tried": [tried.model_dump(mode="json") for tried in possible if tried.title in chosen],
        "seeds": list(range(seeds)),
    }
    points = study_of(parse_defending(document)).points
    seconds = sum(stage.seconds for point in points for stage in estimate.plan(point.experiment, result.data))
    most = run_status.duration(seconds / (spare_cores() + 1))
    st.markdown(f"**{len(points)} audits**, likely **at most {most}** here: what they have in common is done once.")
    if st.button("Try these defences", type="primary", icon=":material/shield:", key="launch_defenses"):
        name = f"Defences of {result.name}"
        st.query_params.from_dict({"job": run_status.launch_work("defend", name, {"defending": document})})
        st.rerun()


def _experiment(result: AuditResult) -> Experiment:
    """The audit's config on the data that it read, without defences."""
    document = copy.deepcopy(result.config)
    document["data"] = {"source": "kept", "key": result.data["key"]}
    document["defense"] = {}
    return parse_experiment(document)


def _help(possible: list[Tried]) -> str:
    names = dict.fromkeys(name for tried in possible for name in tried.names)
    return "\n".join(f"- **{DEFENSES[name].title}**: {DEFENSES[name].summary}" for name in names)


@st.cache_data(show_spinner=False, max_entries=10)
def _opened(home: Path, key: str) -> tuple[DefenseResult, pl.DataFrame]:
    folder = frame.store().find(key)
    if folder is None or not (folder / "defenses.json").is_file():
        raise NotFound(
            "The address names a comparison that is not in this store. Choose another below, or run it again."
        )
    return read_defenses(folder), read_trade(folder)


def show_result(key: str) -> None:
    """A finished comparison: what to do, the picture, who finds out, every figure."""
    result, figures = _opened(frame.home(), key)
    rows = by_defense(figures)
    st.subheader("What to do", divider="gray")
    st.text(result.name)
    frame.show_erased(result.erased)
    first, *others = recommendation(result, figures)
    with st.container(border=True):
        st.text(first)
    for sentence in others:
        st.text(sentence)
    for one in result.tried:
        if one.broken:
            st.error("A promise of private training is refuted by this audit.", icon=":material/gpp_bad:")
            st.text(one.title)
        if one.failed:
            st.warning("A defence could not be tried under every seed.")
            st.text(f"{one.title}: {one.failed}")
        if one.invalid:
            st.warning("An audit of this defence did not pass its gates under some seed; its figures say nothing.")
            st.text(f"{one.title}: seeds {', '.join(map(str, one.invalid))}")
    _show_picture(result, rows)
    _show_attackers(result, rows)
    _show_promises(result, rows)
    onion = onion_sentences(result)
    if onion:
        st.subheader("Who is exposed once others are spared", divider="gray")
        for sentence in onion:
            st.text(sentence)
        st.caption("Sparing the members at most risk can make those next in line stand out: the onion effect.")
    _show_table(result, figures)


def _show_picture(result: DefenseResult, rows: dict[int, dict[str, Row]]) -> None:
    st.subheader("What it buys and what it costs", divider="gray")
    left, right = st.columns(2)
    leak = (
        left.segmented_control("Leakage", list(LEAKS), default="tpr", format_func=LEAKS.__getitem__, key="trade_leak")
        or "tpr"
    )
    there = [name for name in QUALITIES if any(mine.get(name, {}).get("value") is not None for mine in rows.values())]
    if not there:
        st.info("Recommendation quality was not measured in this audit (evaluation.ranked_users = 0).")
        return
    quality = (
        right.segmented_control(
            "Quality", there, default=there[0], format_func=QUALITIES.__getitem__, key="trade_quality"
        )
        or there[0]
    )
    points = [
        {
            "title": one.title,
            "kind": _kind(one.names),
            **{f"leak{end}": rows[one.number][leak][field] for end, field in FIELDS},
            **{f"quality{end}": rows[one.number][quality][field] for end, field in FIELDS},
        }
        for one in result.tried
        if one.number in rows and rows[one.number].get(quality, {}).get("value") is not None
    ]
    table = pl.DataFrame(points, infer_schema_length=None)
    table = table.with_columns(pl.Series("named", _sides(table)))
    if leak == "exposed":
        st.caption(
            "The most exposed tenth is chosen by who stood out most without a defence, so that its first figure is high by "
            "choice and any other training lowers it: compare the defences with each other."
        )
    words = {"tpr": f"Detected members at {100 * result.level:g}% FPR", "exposed": "Detected of the most exposed tenth"}
    chart = trade_charts.picture(table, words.get(leak, TRADE_FIGURES[leak]), TRADE_FIGURES[quality])
    named = {"title": "Defence", "kind": "Kind"}
    limits = {f"leak{end}": f"{LEAKS[leak]}{word}" for end, word in ENDS}
    limits |= {f"quality{end}": f"{QUALITIES[quality]}{word}" for end, word in ENDS}
    label = f"{LEAKS[leak]} against {QUALITIES[quality]} for every defence"
    show_chart(chart, label, readable(table, {**named, **limits}), "trade_picture")
    seeds = "1 seed" if len(result.seeds) == 1 else f"{len(result.seeds)} seeds"
    st.caption(
        f"Lower is safer, further right recommends better. {result.lead}, rebuilt for each defence; means over "
        f"{seeds} with {100 * result.confidence:.0f}% intervals over seeds and {result.unit.many}. Named are "
        "the defences that no other beats in both, and the target without any; point at a dot for the rest."
    )


ENDS = (("", ""), ("_low", ", from"), ("_high", ", to"))
FIELDS = (("", "value"), ("_low", "low"), ("_high", "high"))


def _kind(names: list[str]) -> str:
    if not names:
        return trade_charts.KINDS[0]
    if any(issubclass(DEFENSES[name], DpSgd) for name in names):
        return trade_charts.KINDS[1]
    return trade_charts.KINDS[2] if any(DEFENSES[name].where == "training" for name in names) else trade_charts.KINDS[3]


def _sides(points: pl.DataFrame) -> list[str]:
    """On which side each title is written: of the first, no defence, and of those that no other beats in both figures."""
    pairs = list(zip(points["leak"], points["quality"], strict=True))

    def beaten(leak: float, quality: float) -> bool:
        return any(o <= leak and q >= quality and (o, q) != (leak, quality) for o, q in pairs)

    named = [i for i, pair in enumerate(pairs) if i == 0 or not beaten(*pair)]
    # Neighbours along the edge get their titles on different sides, so that these do not run into each other.
    in_order = sorted(named, key=lambda i: pairs[i])
    sides = {i: ("left", "right")[place % 2] for place, i in enumerate(in_order)}
    return [sides.get(i, "") for i in range(len(pairs))]


def _show_attackers(result: DefenseResult, rows: dict[int, dict[str, Row]]) -> None:
    st.subheader("Against whom", divider="gray")
    parts = []
    for one in sorted(result.tried, key=lambda one: -(rows.get(one.number, {}).get("tpr", {}).get("value") or 0.0)):
        for attacker, name in ((trade_charts.ADAPTIVE, "tpr"), (trade_charts.OLD, "old_tpr")):
            row = rows.get(one.number, {}).get(name)
            if row is not None:
                limits = {field: row[field] for field in ("value", "low", "high")}
                parts.append({"title": one.title, "attacker": attacker, **limits})
    if not parts:
        st.info("No figure could be computed.")
        return
    detected = f"Detected at {100 * result.level:g}% FPR"
    table = pl.DataFrame(parts, infer_schema_length=None)
    titles = {"title": "Defence", "attacker": "Attacker", "value": detected, "low": "From", "high": "To"}
    label = "Detections by the attacker who knows each defence and by the attack of before"
    show_chart(trade_charts.attackers(table, detected), label, readable(table, titles), "trade_who")
    st.caption(
        "An attack that was built before the defence often fails where one that knows it does not: only the latter tells what a "
        "defence is worth. Where the second dot is missing, the attack of before cannot be asked about the defended target."
    )


def _show_promises(result: DefenseResult, rows: dict[int, dict[str, Row]]) -> None:
    parts = [
        {
            "title": one.title,
            "promised": rows[one.number]["promised_epsilon"]["value"],
            "proven": rows[one.number].get("epsilon", {}).get("value") or 0.0,
        }
        for one in result.tried
        if "promised_epsilon" in rows.get(one.number, {})
    ]
    if not parts:
        return
    st.subheader("What private training promises", divider="gray")
    table = pl.DataFrame(parts)
    titles = {"title": "Defence", "promised": "ε promised at most", "proven": "ε proven at least"}
    label = "Promised and proven epsilon of private training"
    show_chart(trade_charts.promises(table), label, readable(table, titles), "trade_promises")
    st.caption(
        "Bar: promised at most; mark: proven at least. The promise holds for everybody and every attack; what is proven is only "
        "what this attack could show. A promise by window is weaker for somebody with several. Proven above promised would mean "
        "a fault in the training."
    )


def _show_table(result: DefenseResult, figures: pl.DataFrame) -> None:
    st.subheader("Every figure", divider="gray")
    titles = {one.number: one.title for one in result.tried}
    view = figures.select(
        pl.col("tried").replace_strict(titles, return_dtype=pl.String).alias("defence"),
        pl.col("metric").replace_strict(TRADE_FIGURES, default=pl.col("metric")).alias("figure"),
        "value",
        "low",
        "high",
        pl.col("change").alias("change against no defence"),
        pl.col("change_low").alias("change, low"),
        pl.col("change_high").alias("change, high"),
    )
    st.dataframe(view, hide_index=True, height=330)
    with st.expander("What each defence does, and what is known of it"):
        for name in dict.fromkeys(name for one in result.tried for name in one.names):
            defense = DEFENSES[name]
            st.markdown(f"**{defense.title}.** {defense.summary} {defense.expected} *{defense.source}*")
    left, right, last = st.columns(3, vertical_alignment="bottom")
    with last:
        gone = "Its figures and the audits that were run for it alone go for good."
        run_status.delete_button("defenses", result.key, remove_defenses, gone)
    left.download_button(
        "All figures (CSV)",
        frame.exported(view.write_csv, "table", key=result.key),
        "defences.csv",
        "text/csv",
        icon=":material/download:",
        width="stretch",
    )
    right.download_button(
        "The whole comparison (JSON)",
        frame.exported(
            lambda: json.dumps(defense_document(result, figures), ensure_ascii=False, indent=1), "table", key=result.key
        ),
        "defences.json",
        "application/json",
        icon=":material/download:",
        width="stretch",
    )


st.title("Defences")
st.html(
    '<p class="ms-quiet">What would close a leak? Each defence is put on the target and audited anew by an attacker who knows '
    "it, on the same people, beside what it costs in recommendations.</p>"
)
defenses_key = run_status.result_asked_for("defend", "defenses")
working = bool(defenses_key) or "job" in st.query_params
if defenses_key:
    try:
        show_result(defenses_key)
    except NotFound as error:
        st.warning(str(error), icon=":material/search_off:")
        working = False
if working:
    if st.button("Try defences on an audit", icon=":material/add:", key="another_defense"):
        st.query_params.from_dict({})
        st.rerun()
else:
    set_up()
frame.show_finished("defenses", "Finished comparisons", "defenses", "defenses")
