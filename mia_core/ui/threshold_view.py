"""A threshold that the reader moves: precision, recall, false alarms and the users called members move with it."""

from __future__ import annotations

import polars as pl
import streamlit as st

from mia_core.report import people
from mia_core.report.results import AuditResult
from mia_core.report.thresholds import Rate, call, fixed_threshold, scores_of, thresholds, with_truth
from mia_core.ui import charts, frame
from mia_core.ui.attack_figures import choose_attack
from mia_core.ui.twin import shares, show_chart

LISTED = 10


def show_threshold(result: AuditResult) -> None:
    """The slider, what it does, and whom it calls members."""
    say = result.unit.say
    st.subheader("Where to draw the line", divider="gray")
    attack = choose_attack(result, "Attack", "threshold_attack")
    score = f"score.{attack}"
    users = frame.table(result.key, "users", "user", "role", score)
    judged = with_truth(users, result)
    members, held_out = scores_of(judged, score)
    if not len(members) or not len(held_out):
        st.caption(say("There are no members and held-out users with scores to draw a line between."))
        return
    fixed = fixed_threshold(users, score)
    values = thresholds(members, held_out).tolist() + ([] if fixed is None else [fixed])
    # Two scores that read alike are one choice, and the address holds what is read.
    by_text = {f"{value:.6g}": value for value in sorted(values)} | ({} if fixed is None else {f"{fixed:.6g}": fixed})
    choices = list(by_text)
    usual = choices[-1] if fixed is None else f"{fixed:.6g}"
    text = st.select_slider(
        say("Whoever scores at least this is called a member"),
        choices,
        value=usual,
        key="threshold",
        bind="query-params",
    )
    threshold = by_text[text]
    confidence = float(result.config["evaluation"]["confidence"])
    called = call(members, held_out, threshold, confidence)
    rates = {
        "Precision": (called.precision, "Of those called members, the share who are."),
        "Recall": (called.recall, "Of the members, the share who are called so."),
        "False alarms (FPR)": (called.false_alarms, "Of the held-out users, the share wrongly called members."),
    }
    frame.cards(
        "rates",
        [
            (name, "–" if rate.value is None else f"{rate.value:.1%}", say(meaning), _limits(rate, confidence))
            for name, (rate, meaning) in rates.items()
        ],
    )
    if text == usual and fixed is not None:
        st.caption("This is the threshold of the report, fixed on known users before anybody audited was looked at.")
    else:
        st.info(
            "A threshold chosen after looking at the result is exploration, not a claim: its intervals do not cover the "
            "choosing. What the report claims stands at its own threshold.",
            icon=":material/travel_explore:",
        )
    steps = charts.score_steps(members, held_out, result.unit)
    label = say("Scores of members and held-out users, with the chosen threshold and that of the report")
    picture = charts.at_threshold(steps, threshold, fixed, result.unit)
    show_chart(picture, label, shares(steps, "Score from"), "threshold_picture")
    _show_called(result, judged, score, threshold)


def _show_called(result: AuditResult, judged: pl.DataFrame, score: str, threshold: float) -> None:
    """Those who reach it, the least certain first, a few at a time."""
    found = judged.filter(pl.col(score) >= threshold).sort(score, "user")
    say = result.unit.say
    st.markdown(say(f"**Called members: {found.height:,} users**, those nearest to the line first"))
    if found.is_empty():
        return
    pages = -(-found.height // LISTED)
    asked = st.query_params.get("called", "1")
    number = min(int(asked), pages) if asked.isdecimal() and int(asked) else 1
    if pages > 1:
        # Another threshold calls others: its list begins at its first page.
        pager = f"called.{score}.{found.height}"

        def turned() -> None:
            st.query_params["called"] = str(st.session_state[pager])

        st.pagination(pages, default=number, key=pager, on_change=turned)
    some = found.slice((number - 1) * LISTED, LISTED)
    ids = some["user"].to_list()

    def chosen() -> None:
        rows = st.session_state[key]["selection"]["rows"]
        if rows:
            st.session_state["called_user"] = ids[rows[0]]

    key = f"called_table.{number}.{found.height}"
    st.dataframe(
        some.select(
            people.shortened(pl.col("user")).alias(result.unit.one.capitalize()),
            pl.col(score).alias("Score"),
            pl.when("member").then(pl.lit("member")).otherwise(pl.lit("held-out")).alias("Is"),
        ),
        hide_index=True,
        on_select=chosen,
        selection_mode="single-row",
        key=key,
        height=38 + 35 * some.height,
        column_config={"Score": st.column_config.NumberColumn(format="%.4g")},
    )
    st.caption(say("Tick a row to open that user."))
    if "called_user" in st.session_state:
        frame.go("users", audit=result.key, user=st.session_state.pop("called_user"))


def _limits(rate: Rate, confidence: float) -> str:
    return f"{rate.hits:,} of {rate.n:,}; {100 * confidence:g}% interval {rate.low:.1%}–{rate.high:.1%}"
