"""Was this person's data used? By id, or by a pasted history."""

from __future__ import annotations

import math

import polars as pl
import streamlit as st

from mia_core.errors import NotFound
from mia_core.jobs.run_job import read_lookup
from mia_core.jobs.supervisor import ensure_supervisor
from mia_core.report.lookup import lookup_user, weigh
from mia_core.report.results import AuditResult, LookupResult
from mia_core.report.wording import (
    COUNTED_WORDS,
    MANY_ATTACKS,
    explain_lookup,
    explain_posterior,
    format_p,
    no_posterior,
    use_of,
)
from mia_core.types import Unit
from mia_core.ui import charts, frame, run_status
from mia_core.ui.letter_form import show_letter
from mia_core.ui.twin import shares, show_chart

TITLE = "Was this person's data used?"
LARGEST_HISTORY = 1
"""Megabytes of a history that is given as a file."""
UNSET = None
PRIORS = (UNSET, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99)


def by_id(audit: str, unit: Unit) -> None:
    """The form for a user of the audit's data."""
    with st.form("lookup_form", border=True):
        user = st.text_input(
            unit.say("User id"),
            value=st.query_params.get("user", ""),
            placeholder="exactly as in the data",
            key="lookup_user",
        )
        asked = st.form_submit_button("Look up", type="primary", icon=":material/person_search:")
    if asked and user.strip():
        st.query_params["user"] = user.strip()
    wanted = st.query_params.get("user", "")
    if not wanted:
        st.caption(unit.say("Ids are compared as text, letter by letter. Nobody else's ids are shown here."))
        return
    frame.note_lookup(audit, wanted)
    show(lookup_user(frame.store(), audit, wanted), audit)


def by_history(audit: str) -> None:
    """The form for somebody whose history is pasted; scoring it is background work."""
    with st.form("history_form", border=True):
        pasted = st.text_area("Titles or item ids, one a line, the oldest first", height=220, key="pasted_history")
        file = st.file_uploader(
            "…or a text file", type=["txt", "csv"], max_upload_size=LARGEST_HISTORY, key="history_file"
        )
        asked = st.form_submit_button("Score this history", type="primary", icon=":material/search:")
    st.caption(
        "The history is erased from the job list when it has been scored; the result keeps the lines that were not found."
    )
    if asked:
        text = pasted or (file.getvalue().decode("utf-8-sig", errors="replace") if file else "")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        if not lines:
            st.warning("Paste at least one line, or choose a file.")
            return
        # The log has it from the job.
        frame.LOOKUPS.enter(str(frame.home()))
        job = frame.queue().submit("lookup", "Lookup of a pasted history", {"audit": audit, "history": lines})
        ensure_supervisor(frame.home())
        st.query_params["job"] = job.id
        st.rerun()
    job_id = st.query_params.get("job")
    if job_id:
        asked_job = run_status.show_job(job_id, "lookup")
        if asked_job is not None and asked_job.payload.get("audit") != audit:
            st.info(
                "The last history was scored against another audit. Choose that audit above, or score it again here."
            )
        elif asked_job is not None and asked_job.state == "finished":
            show(read_lookup(frame.store(), asked_job.result_key), audit)


def show(found: LookupResult, audit: str) -> None:
    """The answer, its place in both distributions, and its limits."""
    result = frame.result(audit)
    say = result.unit.say
    st.subheader("The answer", divider="gray")
    # Sentences may hold a title or an id from a file: shown as text, never as Markdown.
    first, *rest = explain_lookup(found, result)
    with st.container(border=True):
        st.text(first)
    if found.score is not None:
        p, like = ("–" if value is None else format_p(value) for value in (found.p_value, found.stratum_p_value))
        cards = (
            ("Score", f"{found.score:.3f}", "Higher = likelier member. It has no scale of its own: compare."),
            ("p-value", p, "Share of comparable held-out users at least so member-like, the person included."),
            (
                "p within like users",
                like,
                "The same among held-out users of like history length and popularity alone.",
            ),
            (
                "More member-like than",
                "–" if found.share_below is None else share(found.share_below),
                f"Share of the {found.calibration_users:,} comparable held-out users who look less member-like.",
            ),
        )
        frame.cards("answer", [(say(label), value, say(meaning), "") for label, value, meaning in cards])
        if found.held_out_scores:
            picture = charts.place(found.member_scores, found.held_out_scores, found.score, result.unit)
            label = say("Where this person's score lies among members and held-out users")
            steps = charts.score_steps(found.member_scores, found.held_out_scores, result.unit)
            show_chart(picture, label, shares(steps, "Score from"), "place")
    with st.container(gap="xsmall", width=800):
        for sentence in rest:
            st.text(sentence)
    with st.popover("How this is computed", icon=":material/function:"):
        st.latex(r"p_u=\frac{1+\#\{c: s_c\ge s_u\}}{n+1}")
        st.markdown(
            say(
                "c runs over the n calibration users: held-out people who were scored in the same way (Bates et al. 2023). The "
                "p-value is valid if this person, were they not a member, is exchangeable with them."
            )
        )
    if found.unmatched:
        with st.expander(f"{len(found.unmatched)} lines were not found in the catalogue"):
            st.code("\n".join(found.unmatched[:200]), language=None)
    show_prior(found, result)
    show_evidence(found, result)
    show_letter(found, result)


def show_prior(found: LookupResult, result: AuditResult) -> None:
    """What the evidence makes of a prior that the reader chooses; none is suggested."""
    st.subheader("How likely is it, then?", divider="gray")
    missing, say = no_posterior(found, result), result.unit.say
    if missing or found.flag is None:
        st.caption(missing)
        return
    st.markdown(
        say(
            f"That depends on how likely it was before anybody looked: how many people like this one are {use_of(result).place}? "
            "Nobody can read that off an audit, so it is for you to say."
        )
    )
    prior = st.select_slider(
        say("Share of such people who are members, before the audit"),
        PRIORS,
        value=UNSET,
        format_func=lambda prior: "choose" if prior is UNSET else share(prior),
        key="prior",
    )
    if prior is None:
        st.caption("Move the slider to see what the evidence makes of your choice.")
        return
    confidence = float(result.config["evaluation"]["confidence"])
    ratio, after = weigh(found.flag, prior, confidence)
    open_ended = ratio.value == math.inf
    times = f"≥ {ratio.low:.2g}" if open_ended else f"{ratio.value:.2g}"
    now = f"≥ {share(after.low)}" if open_ended else share(after.value)
    unknown = math.isnan(ratio.value)
    frame.cards(
        "prior",
        [
            ("Before", share(prior), "", ""),
            ("Times as common among members", "–" if unknown else times, "", ""),
            ("After", "–" if unknown else now, "", ""),
        ],
    )
    for sentence in explain_posterior(found.flag, ratio, after, confidence, result.unit):
        st.text(sentence)
    with st.popover("How the prior is brought up to date", icon=":material/function:"):
        st.latex(
            r"\frac{P(\text{member}\mid\text{verdict})}{1-P(\text{member}\mid\text{verdict})}"
            r"=\frac{\text{TPR}}{\text{FPR}}\cdot\frac{\pi}{1-\pi}"
        )
        st.markdown(
            say(
                f"π is the prior; TPR and FPR are counted on {COUNTED_WORDS[found.flag.counted]}. For a person who is not "
                "flagged, (1 − TPR)/(1 − FPR) stands in their place. Limits: exact ones of both rates, by Bonferroni."
            )
        )


def share(value: float) -> str:
    """A share in percent, with as many digits as tell it from none and from all."""
    digits = 0 if 0.1 <= value <= 0.9 or value in (0, 1) else 1
    return f"{100 * value:.{digits}f}%".replace(".0%", "%")


def show_evidence(found: LookupResult, result: AuditResult) -> None:
    """What each attack says of this person."""
    if len(found.evidence) < 2:
        return
    like = f"p within like {result.unit.many}"
    with st.expander(result.unit.say(f"What each of the {len(found.evidence)} attacks says of this person")):
        rows = [
            {
                "Attack": row.title + (" (lead)" if row.attack == result.lead else ""),
                "Group": row.group,
                "Score": row.score,
                "p-value": "–" if row.p_value is None else format_p(row.p_value),
                like: "–" if row.stratum_p_value is None else format_p(row.stratum_p_value),
                "Status": row.status,
            }
            for row in found.evidence
        ]
        table = pl.DataFrame(rows, infer_schema_length=None)
        columns = {
            "Attack": st.column_config.TextColumn(pinned=True),
            "Score": st.column_config.NumberColumn(format="%.4g", help="Each attack has a scale of its own"),
        }
        st.dataframe(table, hide_index=True, column_config=columns)
        st.caption(MANY_ATTACKS)


heading = st.empty()
heading.title(TITLE)
key = frame.chosen_audit()
if key is None:
    frame.empty_state("A lookup needs a finished audit. The demo takes about a minute.", "Run the demo", "start")
else:
    judged = frame.result(key).unit
    heading.title(judged.say(TITLE))
    frame.link("responsible", "Before you answer: check who is asking", ":material/balance:")
    ways = {"id": f"A {judged.one} of the data", "history": "A pasted history"}
    chosen = "history" if "job" in st.query_params else "id"
    way = (
        st.segmented_control("Look up", list(ways), default=chosen, format_func=ways.__getitem__, key="lookup_way")
        or "id"
    )
    try:
        if way == "id":
            by_id(key, judged)
        else:
            by_history(key)
    except NotFound as error:
        st.warning("Nothing was found.", icon=":material/search_off:")
        st.text(str(error))
        if way == "id":
            show_letter(None, frame.result(key), st.query_params.get("user", ""))
