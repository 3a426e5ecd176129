"""Among whom the leak is: groups of like users, bins of what is known of them, and the most exposed."""

from __future__ import annotations

import html
from pathlib import Path

import polars as pl
import streamlit as st

from mia_core.report import cohorts, people
from mia_core.report.cohorts import Cohort, Leak, Portraits
from mia_core.report.results import AuditResult
from mia_core.report.thresholds import Rate
from mia_core.ui import frame, leak_charts
from mia_core.ui.twin import readable, show_chart

FEWEST_COHORTS, MOST_COHORTS, USUAL = 2, 8, 4
TITLES_OF_AN_EXEMPLAR = 4
BASES = {
    "target": (
        "Everything they show",
        "The target's signals are among them: where it leaks, members gather in some cohorts, and less is left to tell within.",
    ),
    "others": (
        "Base and references alone",
        "Neither the base nor the references met anybody's data who is judged here: cohorts are of people as they were before.",
    ),
}
"""What cohorts are formed by: its name, and what follows from it."""
KINDS = {
    "history_length": ("History length", "Interactions in the history"),
    "rarity": ("Rarity of taste", "Rarity of taste (1 − mean share of public users who have the items)"),
    "last": ("Recency", "Last seen"),
}
"""What users are put into bins by: its name, and the title of its axis."""


@st.cache_resource(show_spinner="Reading what the models show of every user …", max_entries=4)
def portraits(key: str, by_target: bool) -> Portraits:
    """Kept between clicks: the number of cohorts changes, what they are formed of does not."""
    return cohorts.portraits(frame.folder(key), by_target=by_target)


@st.cache_data(show_spinner="Putting like users together …", max_entries=40)
def formed(key: str, k: int, by_target: bool) -> tuple[pl.DataFrame, list[Cohort]]:
    """The cohorts of an audit."""
    return cohorts.form_cohorts(portraits(key, by_target), k, int(frame.result(key).config["seed"]))


@st.cache_data(show_spinner="Comparing within each cohort …", max_entries=40)
def cohort_leaks(key: str, k: int, by_target: bool) -> dict[int, Leak]:
    """The leak within each of them."""
    return cohorts.leaks_by_cohort(lead_scores(key), formed(key, k, by_target)[0], frame.result(key))


@st.cache_data(show_spinner="Comparing within each bin …", max_entries=40)
def bins(key: str, kind: str) -> list[cohorts.Bin]:
    """The leak by history length, rarity of taste or recency."""
    return cohorts.leaks_by_value(with_value(key, kind), kind, frame.result(key))


def lead_scores(key: str) -> pl.DataFrame:
    """user, role and what the lead says of them."""
    lead = frame.result(key).lead
    return frame.table(key, "users", "user", "role", f"score.{lead}", f"p.{lead}")


def with_value(key: str, kind: str) -> pl.DataFrame:
    """The same with what bins are made by; null where it is not known."""
    users = lead_scores(key)
    if kind == "last":
        data = frame.store().find(str(frame.result(key).data.get("key", "")))
        times = (
            cohorts.last_times(data) if data is not None else pl.DataFrame(schema={"user": pl.String, "last": pl.Int64})
        )
        return users.join(times, on="user", how="left")
    column = {"history_length": "history_length", "rarity": "mean_popularity"}[kind]
    values = frame.table(key, "users", column)[column]
    return users.with_columns((1 - values if kind == "rarity" else values).alias(kind))


def show_cohorts(result: AuditResult) -> None:
    """Groups of users whom the models show alike, each with its exemplar and its leak."""
    say = result.unit.say
    st.subheader(say("Users whom the models show alike"), divider="gray")
    st.markdown(
        say(
            "Users are put together by what the models show of them, without anybody's label. The exemplar is a real user, the "
            "one in the middle of the cohort. Within a cohort, members are then compared with held-out users who look like them."
        )
    )
    left, right = st.columns([3, 2], gap="medium")
    basis = left.segmented_control(
        "Put together by",
        list(BASES),
        default="target",
        format_func=lambda basis: BASES[basis][0],
        key="alike",
        bind="query-params",
        required=True,
    )
    k = right.slider("Number of cohorts", FEWEST_COHORTS, MOST_COHORTS, USUAL, key="cohorts", bind="query-params")
    by_target = basis == "target"
    shown = portraits(result.key, by_target)
    if len(shown.users) < 2 * FEWEST_COHORTS:
        st.caption(say("This audit kept too few such signals of its users to put them into cohorts."))
        return
    st.caption(say(BASES[basis][1]))
    _, made = formed(result.key, k, by_target)
    leaks = cohort_leaks(result.key, k, by_target)
    rows = pl.DataFrame(
        [{"group": f"Cohort {one.number}", **figures(leaks[one.number])} for one in made], infer_schema_length=None
    )
    label = f"{lead_title(result)} within each cohort: AUC with its interval"
    show_chart(
        leak_charts.leak_by_group(rows, "Cohort, the largest first"), label, leak_table(rows, "Cohort"), "cohort_auc"
    )
    st.caption(intervals(result, len(made)))
    data = frame.store().find(str(result.data["key"])) if result.data.get("key") else None
    level = cohorts.found_at(lead_scores(result.key), result)
    usual = cohorts.share_of_members(lead_scores(result.key), result)
    for i in range(0, len(made), 2):
        # In pairs, so that they stand in their order on a narrow screen, too.
        for one, column in zip(made[i : i + 2], st.columns(2, gap="medium"), strict=False):
            with column.container(border=True, height="stretch"):
                show_cohort(result, one, leaks[one.number], level, usual, data)
    if shown.left_out:
        st.caption(say(f"{shown.left_out:,} users of whom a signal is missing are in no cohort."))
    with st.popover("How this is computed", icon=":material/function:"):
        st.latex(r"\min_{m_1,\dots,m_k}\;\sum_u\min_j\lVert z_u-z_{m_j}\rVert_2")
        st.markdown(
            say(
                "k-medoids (PAM; CLARA above 5,000 users) on standardised signals, each cut off at 4 standard deviations: loss, "
                "confidence, entropy and the first component of the hidden vector under each model, and the target's differences "
                "from the base and the references. Models that learned from labels take no part. The seed is the audit's."
            )
        )


def show_cohort(
    result: AuditResult, one: Cohort, leak: Leak, level: float | None, usual: float, data: Path | None
) -> None:
    """One cohort: how many they are, what sets them apart, their leak, and the real user in their middle."""
    st.markdown(f"**Cohort {one.number}** · {one.users:,} {result.unit.many}")
    st.caption(
        "Apart by " + "; ".join(f"{words(signal)} {step:+.1f} sd".replace("-", "−") for signal, step in one.apart)
    )
    st.markdown(result.unit.say(told(leak, level, usual)))
    # Id and titles come from a file: escaped, and nothing else of theirs is in it.
    name, lately = html.escape(one.exemplar[:80]), titles(data, one.exemplar)
    st.html(f'<p class="ms-quiet" dir="auto">Exemplar: <b>{name}</b>{lately}</p>')
    frame.link("users", "Open the exemplar", ":material/person:", audit=result.key, user=one.exemplar)


def show_bins(result: AuditResult) -> None:
    """The leak among users with short and long histories, common and rare tastes, long ago and lately."""
    say = result.unit.say
    st.subheader("By what is known of them", divider="gray")
    kind = st.segmented_control(
        "By",
        list(KINDS),
        default="history_length",
        format_func=lambda kind: KINDS[kind][0],
        key="by",
        bind="query-params",
        required=True,
    )
    found = bins(result.key, kind)
    if not found:
        st.caption(
            say(
                "The times of these users are not known."
                if kind == "last" and not result.data.get("timestamps")
                else "There are too few members or held-out users to divide: each bin needs 20 of both."
            )
        )
        return
    rows = pl.DataFrame(
        [{"group": span(one.lowest, one.highest, kind), **figures(one.leak)} for one in found], infer_schema_length=None
    )
    name, axis = KINDS[kind]
    label = say(f"{lead_title(result)} among users of like {name.lower()}: AUC with its interval")
    show_chart(leak_charts.leak_by_group(rows, say(axis)), label, leak_table(rows, name), "bins_auc")
    st.caption(say(f"Members and held-out users are compared within each bin. {intervals(result, len(found))}"))


def show_exposed(result: AuditResult) -> None:
    """The members with the highest scores."""
    say = result.unit.say
    st.subheader("The most exposed", divider="gray")
    table = cohorts.most_exposed(lead_scores(result.key), result)
    if table.is_empty():
        st.caption("No member could be scored.")
        return
    st.warning(
        say(
            "The top of a list is high by choice: measured again, these users would on average score lower (regression to the "
            "mean). Their scores say whom to look at first, not how exposed they are."
        ),
        icon=":material/trending_down:",
    )
    ids = table["user"].to_list()

    def chosen() -> None:
        rows = st.session_state["exposed"]["selection"]["rows"]
        if rows:
            st.session_state["exposed_user"] = ids[rows[0]]

    st.dataframe(
        table.select(
            people.shortened(pl.col("user")).alias(result.unit.one.capitalize()),
            pl.col("score").alias("Score"),
            people.printed(pl.col("p")).alias("p-value"),
        ),
        hide_index=True,
        height=38 + 35 * min(10, table.height),
        on_select=chosen,
        selection_mode="single-row",
        key="exposed",
        placeholder="–",
        column_config={
            "Score": st.column_config.NumberColumn(format="%.3f"),
        },
    )
    st.caption(
        say(
            f"The {table.height} members with the highest scores by {lead_title(result)}. Tick a row to open that user."
        )
    )
    if "exposed_user" in st.session_state:
        frame.go("users", audit=result.key, user=st.session_state.pop("exposed_user"))


def figures(leak: Leak) -> dict[str, float | int | None]:
    """A leak as a row."""
    there = leak.auc is not None
    found, alarms = (rate.value if rate else None for rate in (leak.found, leak.alarms))
    return {
        "auc": leak.auc,
        "low": leak.low if there else None,
        "high": leak.high if there else None,
        "members": leak.members,
        "held_out": leak.held_out,
        "found": found,
        "alarms": alarms,
    }


def leak_table(rows: pl.DataFrame, group: str) -> pl.DataFrame:
    """The same for readers."""
    names = {"auc": "AUC", "low": "From", "high": "To", "members": "Members", "held_out": "Held-out"}
    return readable(rows, {"group": group, **names, "found": "Members found", "alarms": "False alarms"})


def told(leak: Leak, level: float | None, usual: float) -> str:
    """The leak within a cohort, in words."""
    sentences = [f"{leak.members:,} members and {leak.held_out:,} held-out users are judged here."]
    if leak.share.n and not leak.share.low <= usual <= leak.share.high:
        sentences.append(
            f"That alone tells something: {share(leak.share)} are members, against {usual:.0%} of everybody."
        )
    if leak.auc is None:
        return " ".join(
            [*sentences, "One group is too small to tell how well members are recognised within the cohort."]
        )
    verdict = (
        "No further leak was detected within this cohort"
        if leak.low <= 0.5 <= leak.high
        else "Within the cohort members are told apart"
        if leak.low > 0.5
        else "Within the cohort held-out users look more like members than members do"
    )
    sentences.append(f"{verdict}: AUC **{leak.auc:.3f}** ({leak.low:.3f}–{leak.high:.3f}).")
    if leak.found is not None and leak.alarms is not None and level is not None:
        sentences.append(
            f"At the threshold of {level:.0%} false alarms among everybody, {share(leak.found)} of its members are found, and "
            f"{share(leak.alarms)} of its held-out users are wrongly accused."
        )
    return " ".join(sentences)


def share(rate: Rate) -> str:
    """A share of users with its interval."""
    return "–" if rate.value is None else f"{rate.value:.0%} ({rate.low:.0%}–{rate.high:.0%})"


def titles(data: Path | None, user: str) -> str:
    """A few titles of a user's history, escaped."""
    if data is None:
        return ""
    history = people.history_of(data, user)
    some = [html.escape(str(title)[:60]) for title in history["title"].head(TITLES_OF_AN_EXEMPLAR)]
    return f", lately with {' · '.join(some)}" if some else ""


def words(signal: str) -> str:
    """A signal's name as a reader knows it."""
    model, _, feature = signal.partition(" · ")
    return f"{'hidden component' if feature == 'hidden' else feature} ({model})"


def span(low: float, high: float, kind: str) -> str:
    """A bin's limits in words."""
    if kind == "last":
        days = pl.from_epoch(pl.Series([int(low), int(high)])).dt.strftime("%Y-%m-%d").to_list()
        return days[0] if days[0] == days[1] else f"{days[0]} to {days[1]}"
    shown = ".0f" if kind == "history_length" else ".3f"
    return f"{low:{shown}}" if low == high else f"{low:{shown}}–{high:{shown}}"


def lead_title(result: AuditResult) -> str:
    """The lead attack's name."""
    return result.attack(result.lead).title


def intervals(result: AuditResult, groups: int) -> str:
    """What the bars mean."""
    confidence = 100 * float(result.config["evaluation"]["confidence"])
    return (
        f"Bars are intervals (DeLong; Wilson where all members stand apart) that hold for all {groups} groups at once with "
        f"{confidence:g}% confidence (Bonferroni). A group with fewer than {cohorts.FEWEST} members or held-out users has none: "
        "it cannot tell."
    )


st.title("Cohorts")
key = frame.chosen_audit()
if key is None:
    frame.empty_state("Cohorts are those of a finished audit. The demo takes about a minute.", "Run the demo", "start")
else:
    audit = frame.result(key)
    if not audit.valid:
        st.error(
            "This audit is not valid: a gate failed, so no figure here says anything about membership.",
            icon=":material/block:",
        )
    if f"score.{audit.lead}" not in frame.columns(key, "users"):
        st.caption("The lead attack did not run, so there is nothing to compare.")
    else:
        show_cohorts(audit)
        show_bins(audit)
        show_exposed(audit)
