"""Everything that was derived from one person's data goes, and a search of every file shows it."""

from __future__ import annotations

from typing import cast

import polars as pl
import streamlit as st

from mia_core.data_rights.erasing import Audits, Models, Plan, erase, explain_erased, explain_plan, plan_erasing
from mia_core.errors import MemberScopeError
from mia_core.ui import frame

MODELS: dict[Models, str] = {
    "delete": "Delete them, with what rests on them",
    "retrain": "Delete them, and compute anew without the person what was computed with them",
}
AUDITS: dict[Audits, str] = {
    "keep": "Keep them in figures alone, marked, without the person's rows",
    "delete": "Delete them",
}


def ask_whom() -> str | None:
    """The id, as it was typed; None: nobody was asked about yet. It is kept out of the address, which a browser remembers."""
    if "erase_user" in st.session_state or "erased_user" not in st.session_state:
        # The page is come to anew, or its work is done: whom it was asked about before is over.
        st.session_state["erased_user"] = st.session_state.pop("erase_user", "")
        st.session_state.pop("erasing", None)
    with st.form("whom", border=True):
        user = st.text_input("User id", placeholder="exactly as in the data", key="erased_user")
        st.caption("It is taken just as it is typed: case, blanks and leading zeros count.")
        asked = st.form_submit_button("See what there is", type="primary", icon=":material/search:")
    if asked:
        st.session_state["erasing"] = user
        # Who was sure about somebody else is asked again.
        st.session_state["erase_sure"] = False
    return st.session_state.get("erasing")


def show_plan(plan: Plan) -> None:
    """What there is of the person."""
    st.subheader("What there is", divider="gray")
    for sentence in explain_plan(plan):
        # A path may be called anything: shown as text, never as Markdown.
        st.text(sentence)
    if plan.models:
        rows = [
            {"Model": model.name or "not known", "Of this person it was": model.learned, "Key": model.key[:12]}
            for model in plan.models
        ]
        st.dataframe(pl.DataFrame(rows), hide_index=True, alt="Models that rest on this person's data")
        st.caption("Weights cannot be edited: whatever rests on this person goes, and can only be trained anew.")


def ask_how(user: str, plan: Plan) -> None:
    """What becomes of models and audits, where there are any, and whether it is meant."""
    models, audits = "delete", "keep"
    if plan.models:
        models = st.radio("The models", list(MODELS), format_func=MODELS.__getitem__, key="erase_models")
    if plan.results:
        audits = st.radio("Finished audits", list(AUDITS), format_func=AUDITS.__getitem__, key="erase_audits")
    sure = st.checkbox("Erase this person for good. Nothing brings them back.", key="erase_sure")
    if st.button("Erase", type="primary", icon=":material/person_remove:", disabled=not sure, key="erase"):
        try:
            with st.spinner("Erasing, then searching every file"):
                done = erase(frame.store(), user, cast(Models, models), cast(Audits, audits))
        finally:
            frame.forget_everything()
            st.session_state.pop("erasing", None)
        st.session_state["erased"] = explain_erased(done)
        st.session_state["erase_user"] = ""
        st.rerun()


st.title("Erase a person")
st.html(
    '<p class="ms-quiet">Data sets are written anew without them; models, observations, scores, answers, lists and jobs that '
    "rest on their data go; then every file of this home folder is searched for what is left. The log keeps that it was done, "
    "and not whose data it was.</p>"
)
if said := st.session_state.pop("erased", []):
    st.success("Erased, and no trace was found.", icon=":material/task_alt:")
    for line in said:
        st.text(line)
    frame.link("log", "See the log", ":material/history:")
wanted = ask_whom()
if wanted is not None:
    try:
        found = plan_erasing(frame.store(), wanted)
        show_plan(found)
        if not found.empty:
            ask_how(wanted, found)
    except MemberScopeError as error:
        frame.show_error(error)
