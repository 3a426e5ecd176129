"""The log: who ran, looked up, exported, deleted or erased what, and when; and whether it is as it was written."""

from __future__ import annotations

import polars as pl
import streamlit as st

from mia_core import journal
from mia_core.journal import Event
from mia_core.ui import frame

MOST = 1_000


def show_events(events: list[Event]) -> None:
    """The latest events, as a table."""
    kinds = sorted({event.what for event in events})
    chosen = st.multiselect("Only", kinds, placeholder="Everything", key="events")
    rows = [
        {
            "No.": event.number,
            "When (UTC)": event.at[:19].replace("T", " "),
            "Who": event.who,
            "Way": event.way,
            "What": event.what,
            "About": journal.describe(event),
        }
        for event in events
        if not chosen or event.what in chosen
    ]
    height = min(460, 38 + 35 * max(1, len(rows)))
    st.dataframe(pl.DataFrame(rows), hide_index=True, height=height, alt="The latest events of the log")
    st.caption(
        "Persons are keyed hashes: the same person has the same one, and nobody can tell who it is without the key in the home "
        "folder. When somebody is erased, that key is thrown away. Keys of audits and data are shown by their beginnings."
    )


def show_check() -> None:
    """Whether every line is as it was written."""
    noted = st.text_input(
        "A mark that you noted before, if you have one", placeholder="NUMBER:HASH", key="noted", max_chars=90
    )
    if not st.button("Check every line", icon=":material/verified:", key="check_log"):
        return
    verdict = journal.verify(frame.home(), (noted,) if noted.strip() else ())
    if verdict.intact:
        st.success(f"Intact: {verdict.lines:,} lines, and the end.", icon=":material/verified:")
    else:
        st.error("The log is not as it was written.", icon=":material/gpp_bad:")
        for line, what in verdict.faults[:50]:
            st.text(f"Line {line} {what}.")
    st.caption("The mark of its end. Noted elsewhere, it shows later that nothing up to here was changed:")
    st.code(verdict.mark, language=None, wrap_lines=True)


st.title("Log")
st.html(
    '<p class="ms-quiet">Who ran, looked up, exported, deleted or erased what, and when. It is only ever added to: each line is '
    "chained to the one before, and the end is sealed with the key of this installation.</p>"
)
found = journal.read(frame.home(), MOST)
if found:
    show_events(found)
    st.subheader("Is it as it was written?", divider="gray")
    show_check()
else:
    frame.empty_state("Nothing was done here yet. The demo takes about a minute.", "Run the demo", "start")
