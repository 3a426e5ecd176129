"""What is kept of one user, for the user's page: scores, tokens, titles, history, and what each interaction does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import streamlit as st

from mia_core.jobs.run_job import read_without
from mia_core.report import people
from mia_core.report.results import AuditResult, WithoutResult
from mia_core.report.wording import MANY_ATTACKS, format_p
from mia_core.types import Role
from mia_core.ui import charts, frame, run_status
from mia_core.ui.attack_figures import choose_attack
from mia_core.ui.token_text import LEGEND, STYLE, token_html
from mia_core.ui.twin import shares, show_chart

WINDOWS_AT_ONCE = 3
MOST_TITLES = 20
LONGEST_HISTORY = 1_000


def show_scores(result: AuditResult, row: dict[str, Any], role: Role) -> None:
    """The user's place in the distributions of one attack, and what every attack says."""
    say, user = result.unit.say, str(row["user"])
    attack = choose_attack(result, "Scores of", "attack")
    score, p, like = (row.get(f"{kind}.{attack}") for kind in ("score", "p", "p_stratum"))
    said = people.said_by_attacks(frame.folder(result.key), result, row)
    above = said.filter(pl.col("attack") == attack)["above"].item()
    meaning = "Higher = likelier member. It has no scale of its own: compare."
    below = say("Share of the other calibration users, held-out ones, with a lower score.")
    frame.cards(
        "user",
        [
            ("Score", "–" if score is None else f"{score:.3f}", meaning, ""),
            ("p-value", "–" if p is None else format_p(p), _why_no_p(role, say), ""),
            (f"p within like {result.unit.many}", "–" if like is None else format_p(like), "", ""),
            ("More member-like than", "–" if above is None else f"{above:.1%}".replace(".0%", "%"), below, ""),
        ],
    )
    if score is None:
        st.caption(say("This user could not be scored: the history fills no window."))
    left, right = st.columns(2, gap="medium")
    with left:
        if score is not None:
            member = Role.KNOWN_MEMBER if result.brought else Role.AUDITED_MEMBER
            members, held_out = people.scores_beside(frame.folder(result.key), attack, user, member)
            picture = charts.place(members.to_numpy(), held_out.to_numpy(), score, result.unit)
            steps = charts.score_steps(members.to_numpy(), held_out.to_numpy(), result.unit)
            label = say("Where this user's score lies among the other members and held-out users")
            show_chart(picture, label, shares(steps, "Score from"), "user_place")
    with right:
        many = say(f"What each of the {said.height} attacks says") if said.height > 1 else "The attack"
        st.markdown(f"**{many}**")
        table = said.select(
            pl.col("title").alias("Attack"),
            people.printed(pl.col("p")).alias("p-value"),
            people.printed(pl.col("p_stratum")).alias("p, alike"),
            (100 * pl.col("above")).alias("Above"),
            pl.col("score").alias("Score"),
            pl.col("group").alias("Group"),
            pl.col("status").alias("Status"),
        )
        columns = {
            "Attack": st.column_config.TextColumn(pinned=True),
            "Score": st.column_config.NumberColumn(format="%.4g", help="Each attack has a scale of its own"),
            "p, alike": st.column_config.TextColumn(help=say("Among like users alone")),
            "Above": st.column_config.NumberColumn(format="%.0f%%", help=say("Calibration users with a lower score")),
        }
        st.dataframe(
            table, hide_index=True, height=38 + 35 * min(9, said.height), column_config=columns, placeholder="–"
        )
        if said.height > 1:
            st.caption(MANY_ATTACKS)


def _why_no_p(role: Role, say: Any) -> str:
    if role.known:
        return say(
            "Known users have none: the attacks were fitted on users like them, and scored this one out of fold."
        )
    return say("Share of comparable held-out users at least so member-like, this one included.")


def show_tokens(result: AuditResult, user: str) -> None:
    """The user's own answers, each token shaded by what fine-tuning did to it, and the titles that were raised most."""
    say = result.unit.say
    st.subheader("What the model learned of these answers", divider="gray")
    tokens = people.tokens_of(frame.folder(result.key), user)
    if tokens.is_empty():
        st.caption(
            "This audit kept no figures of single tokens: it was run before they were kept, its recommender shows lists alone, "
            "or this history fills no window."
        )
        return
    known = tokens["raised"].count() > 0
    compared = "the base model" if tokens["before"][0] == "base" else "the references, on average"
    if known:
        st.markdown(f"Blue and a full line: the target expects this more than {compared} does. Orange and dots: less.")
    else:
        st.caption("There is neither a base model nor a reference to compare with, so nothing is shaded.")
    numbers = tokens["window"].unique().sort(descending=True).to_list()
    pages = -(-len(numbers) // WINDOWS_AT_ONCE)
    at = st.pagination(pages, key="windows", bind="query-params") if pages > 1 else 1
    shown = numbers[(at - 1) * WINDOWS_AT_ONCE : at * WINDOWS_AT_ONCE]
    parts = [STYLE, LEGEND if known else ""]
    for number in shown:
        answer = tokens.filter(pl.col("window") == number)
        raised = answer["raised"].sum() if known else None
        total = "" if raised is None else f" · raised by {raised:+.2f} nats in all"
        when = " (the latest)" if number == numbers[0] and len(numbers) > 1 else ""
        parts.append(f'<p class="ms-quiet">Window {number + 1}{when}{total}</p>{token_html(answer)}')
    left, right = st.columns([5, 4], gap="medium")
    with left:
        st.html("".join(parts))
        with st.popover("As a table", icon=":material/table_rows:", type="tertiary", key="tokens_table"):
            table = tokens.filter(pl.col("window").is_in(shown)).select(
                (pl.col("window") + 1).alias("Window"),
                pl.col("text").alias("Token"),
                pl.col("target").alias("Log-probability (nats)"),
                pl.col("raised").alias("Raised by (nats)"),
            )
            st.dataframe(table, hide_index=True, height=420, placeholder="–")
    with right:
        titles = people.telling_titles(tokens, _data(result))
        if titles.height:
            st.markdown(
                "**Which titles gave them away**" if result.unit.one == "user" else "**Which titles gave it away**"
            )
            table = titles.head(MOST_TITLES).select(
                pl.col("title").alias("Title"),
                pl.col("raised").alias("Raised by (nats)"),
                pl.col("tokens").alias("Tokens"),
            )
            st.dataframe(
                table,
                hide_index=True,
                height=38 + 35 * min(9, table.height),
                column_config={"Raised by (nats)": st.column_config.NumberColumn(format="%+.2f")},
            )
            st.caption(
                say(
                    "Sums over the tokens of a title. Training on similar people raises titles of held-out users, too: a raised "
                    "title alone does not make a member."
                )
            )
    with st.popover("How this is computed", icon=":material/function:"):
        st.latex(r"\Delta_t=\log p_{\text{target}}(x_t\mid x_{<t})-\log p_{\text{base}}(x_t\mid x_{<t})")
        st.markdown(
            "Natural logarithms. Where there is no base, the mean over the soft references stands in its place."
        )


def show_history(result: AuditResult, user: str) -> None:
    """The interactions that the audit kept of a user."""
    st.subheader("History", divider="gray")
    data = _data(result)
    if data is None:
        st.caption("The data of this audit are no longer in the store.")
        return
    history = people.history_of(data, user)
    names = {"title": "Title", "rating": "Rating", "timestamp": "Time (UTC)"}
    table = history.head(LONGEST_HISTORY).rename({name: names[name] for name in history.columns})
    if "Time (UTC)" in table.columns:
        table = table.with_columns(pl.from_epoch("Time (UTC)"))
    st.dataframe(
        table,
        hide_index=True,
        height=38 + 35 * min(12, max(1, table.height)),
        column_config={"Time (UTC)": st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm")},
        placeholder="–",
    )
    more = f" The {LONGEST_HISTORY:,} latest are shown." if history.height > LONGEST_HISTORY else ""
    st.caption(f"{history.height:,} interactions, the latest first.{more}")


def _data(result: AuditResult) -> Path | None:
    """Where the interactions of an audit lie; None where they are gone."""
    key = result.data.get("key")
    return frame.store().find(str(key)) if key else None


def show_without(result: AuditResult, user: str) -> None:
    """What the score becomes when one interaction is taken away; asking that is background work."""
    say = result.unit.say
    st.subheader("Without one interaction", divider="gray")
    st.markdown(
        say(
            "Which single interaction makes this user look most like a member? Each is taken away in turn and the user "
            "scored again."
        )
    )
    job_id = st.query_params.get("job")
    job = run_status.show_job(job_id, "without") if job_id else None
    mine = job is not None and job.payload.get("user") == user and job.payload.get("audit") == result.key
    if job is not None and mine and job.state == "finished":
        answer = read_without(frame.store(), job.result_key)
        _show_answer(result, answer)
        return
    if job is not None and mine and job.active:
        return
    if st.button("Take each away in turn", icon=":material/playlist_remove:", key="without"):
        st.query_params["job"] = run_status.launch_work(
            "without", "One user without each interaction", {"audit": result.key, "user": user}
        )
        st.rerun()


def _show_answer(result: AuditResult, answer: WithoutResult) -> None:
    """The score without each interaction, those first that make the user look most like a member."""
    say = result.unit.say
    rows = pl.DataFrame([vars(row) for row in answer.rows], infer_schema_length=None)
    if answer.score is None or rows.is_empty():
        st.caption("There is nothing to score without one of them.")
        return
    table = rows.sort("change", nulls_last=True).select(
        people.shortened(pl.col("title")).alias("Without"),
        pl.col("change").cast(pl.Float64).alias("Change"),
        pl.col("score").cast(pl.Float64).alias("Score"),
        pl.col("part").alias("Stands in the"),
        (pl.col("window") + 1).alias("Window"),
    )
    st.dataframe(
        table,
        hide_index=True,
        height=38 + 35 * min(12, table.height),
        column_config={
            "Change": st.column_config.NumberColumn(format="%+.3f"),
            "Score": st.column_config.NumberColumn(format="%.3f"),
        },
        placeholder="–",
    )
    title = result.attack(answer.attack).title
    st.caption(
        say(
            f"By {title}; the whole history scores {answer.score:.3f}. A change below 0: with this interaction the user "
            "looks more like a member than without it."
        )
    )
