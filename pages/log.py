"""The log: who ran, looked up, exported, deleted or erased what, and when; and whether it is as it was written."""

from __future__ import annotations

import re
from collections.abc import Sequence

import polars as pl
import streamlit as st

from mia_core.storage import journal
from mia_core.storage.journal import Event
from mia_core.ui import frame, prose

MOST = 1_000
HASH = re.compile(r"\b[0-9a-f]{12,}\b")


def show_events(events: Sequence[Event]) -> None:
    """The latest events as a table, and one of them whole."""
    kinds = sorted({event.what for event in events})
    chosen = st.multiselect("Only", kinds, placeholder="Everything", key="events")
    shown = [event for event in events if not chosen or event.what in chosen]
    rows = [
        {
            "No.": event.number,
            "When (UTC)": when(event),
            "What": event.what,
            "Who": event.who,
            "Way": event.way,
            "About": journal.describe(event),
        }
        for event in shown
    ]
    table = st.dataframe(
        pl.DataFrame(rows),
        hide_index=True,
        height=min(460, 38 + 35 * len(rows)),
        on_select="rerun",
        selection_mode="single-row",
        key=f"lines_{'_'.join(chosen)}",
        column_config={"No.": st.column_config.NumberColumn(width=60)},
        alt="The latest events of the log",
    )
    st.caption("Tick a row to read its line whole, here below; without one, it is the latest.")
    ticked = [number for number in table["selection"]["rows"] if number < len(shown)]
    show_line(shown[ticked[0] if ticked else 0])
    st.caption(
        "Persons are keyed hashes: the same person has the same one, and nobody can tell who it is without the key in the home "
        "folder. When somebody is erased, that key is thrown away. Keys of audits and data are shown by their beginnings."
    )


def when(event: Event) -> str:
    """To the second."""
    return event.at[:19].replace("T", " ")


def show_line(event: Event) -> None:
    """One line of the log, whole."""
    st.subheader(f"Line {event.number}", divider="gray")
    told = {"When": f"{when(event)} UTC", "What": event.what, "Who": event.who, "Way": event.way}
    # A hash is shown as it stands, with no capital.
    about = {name.capitalize(): HASH.sub(r"`\g<0>`", ", ".join(all_)) for name, all_ in journal.subjects(event).items()}
    prose.facts(told | about)


def show_check() -> None:
    """Whether every line is as it was written."""
    noted = st.text_input(
        "A mark that you noted before, if you have one",
        placeholder=f"such as {journal.EXAMPLE_MARK}",
        key="noted",
        max_chars=90,
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


prose.style()
st.title("Log")
st.html(
    '<p class="ms-quiet">Who ran, looked up, exported, deleted or erased what, and when. It is only ever added to: each line is '
    "chained to the one before, and the end is sealed with the key of this installation.</p>"
)
found = journal.read(frame.home(), MOST)
if found:
    show_events(found)
else:
    frame.empty_state(
        "Nothing was done here yet. From the first audit on, each line will say who did what, when and by which way.",
        "Set up an audit",
        "audit",
    )
st.subheader("Is it as it was written?", divider="gray")
show_check()
