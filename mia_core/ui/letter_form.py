"""The answer to one person as a letter: the form for what only the officer knows, and the files."""

from __future__ import annotations

import streamlit as st

from mia_core.report.letter import LANGUAGES, Office, as_text, compose_letter, letter_pdf
from mia_core.report.results import AuditResult, LookupResult
from mia_core.storage import journal
from mia_core.ui import frame


def show_letter(found: LookupResult | None, result: AuditResult, user: str = "") -> None:
    """Offers the letter about what a lookup found; None: the id is not in the data, which is an answer, too."""
    st.subheader("A letter with this answer", divider="gray")
    language = st.segmented_control(
        "Language",
        list(LANGUAGES),
        default="en",
        format_func=LANGUAGES.__getitem__,
        required=True,
        key="letter_language",
    )
    fields = st.columns(3)
    names = ("Your organisation", "Contact for questions", "Reference number")
    office = Office(
        *(
            column.text_input(name, key=f"letter_{i}", max_chars=200, placeholder="stays a blank")
            for i, (column, name) in enumerate(zip(fields, names, strict=True))
        )
    )
    letter = compose_letter(found, result, language, office, subject=user)
    key = frame.sealing_key()
    # A pasted history is nobody's whom the log could name.
    told = user or (found.subject if found is not None and found.role else "")
    person = {"person": journal.person(frame.home(), told)} if told else {}
    left, right = st.columns(2)
    left.download_button(
        "Letter (PDF, sealed)",
        frame.exported(lambda: letter_pdf(letter, key), "letter", audit=result.key, **person),
        f"letter-{language}.pdf",
        icon=":material/mail:",
        width="stretch",
        on_click="ignore",
        key="letter_pdf",
    )
    right.download_button(
        "Letter (text, to be edited)",
        frame.exported(lambda: as_text(letter), "letter", audit=result.key, **person),
        f"letter-{language}.txt",
        "text/plain",
        icon=":material/edit:",
        width="stretch",
        on_click="ignore",
        key="letter_text",
    )
    with st.expander("Read it here"):
        # Ids and titles of somebody's data: shown as text, never as Markdown.
        st.code(as_text(letter), language=None, wrap_lines=True)
    st.caption("Read the letter before you send it, and check where the question comes from.")
