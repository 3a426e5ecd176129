"""An audit to take away: the report as HTML and PDF, its tables and settings, sealed so that readers can check them."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import streamlit as st

from mia_core.report.contents import ALWAYS, SECTIONS, compose
from mia_core.report.finished import Annex, Finished, read_finished
from mia_core.report.html import as_html
from mia_core.report.package import CONTENTS, NAMED, OF_USERS, exported, sealed_package
from mia_core.report.results import AuditResult
from mia_core.storage.seal import SealingKey, in_groups
from mia_core.ui import frame

ANNEXES: dict[Annex, str] = {"none": "Nobody", "pseudonyms": "By pseudonyms", "ids": "By real ids"}
PREVIEW_HEIGHT = 760


def choose(result: AuditResult) -> tuple[Annex, tuple[str, ...]]:
    """(how users are named, which sections are left out); both stand in the address."""
    say = result.unit.say
    annex = st.segmented_control(
        say("Users listed one by one"),
        list(ANNEXES),
        default="none",
        format_func=ANNEXES.__getitem__,
        required=True,
        key="annex",
        bind="query-params",
    )
    st.caption(say(NAMED[annex]))
    optional = [name for name in SECTIONS if name not in ALWAYS and name != "annex"]
    left_out = st.multiselect(
        "Leave out",
        optional,
        format_func=lambda name: say(SECTIONS[name][0]),
        placeholder="Nothing: the whole report",
        key="without",
        bind="query-params",
    )
    return cast(Annex, annex), tuple(left_out)


def show_downloads(finished: Finished, key: SealingKey, annex: Annex, left_out: tuple[str, ...]) -> None:
    """Every file; each is made when it is asked for."""
    files = exported(finished, key, annex, left_out)
    name = f"memberscope-{finished.result.key[:8]}"
    main: tuple[tuple[str, str, Callable[[], bytes], str], ...] = (
        ("Report (PDF)", f"{name}.pdf", files["report.pdf"], ":material/picture_as_pdf:"),
        ("Report (HTML)", f"{name}.html", files["report.html"], ":material/article:"),
        (
            "Everything (ZIP)",
            f"{name}.zip",
            lambda: sealed_package(finished, key, annex, left_out),
            ":material/folder_zip:",
        ),
    )
    for column, (label, file, make, icon) in zip(st.columns(3), main, strict=True):
        column.download_button(
            label,
            frame.exported(make, "report", audit=finished.result.key, file=file.partition(".")[2], users=annex),
            file,
            icon=icon,
            width="stretch",
            key=f"take_{label}",
            on_click="ignore",
            type="primary" if file.endswith(".pdf") else "secondary",
        )
    with st.expander("Single files"):
        for single in [single for single in CONTENTS if not single.startswith("report.")]:
            what, way = st.columns([3, 2], vertical_alignment="center")
            what.caption(f"{finished.result.unit.say(CONTENTS[single]).capitalize()}.")
            way.download_button(
                single,
                frame.exported(files.get(single, bytes), "report", audit=finished.result.key, file=single, users=annex),
                single,
                icon=":material/download:",
                width="stretch",
                key=f"take_{single}",
                on_click="ignore",
                disabled=single not in files,
            )
        if not all(single in files for single in OF_USERS):
            st.caption(finished.result.unit.say("Tables of users are there when users are listed: choose so above."))


@st.cache_data(show_spinner="Drawing the report", max_entries=10)
def _preview(folder: str, annex: Annex, left_out: tuple[str, ...], _finished: Finished) -> str:
    return as_html(compose(_finished, annex, left_out), contents=False).decode()


def show_preview(finished: Finished, annex: Annex, left_out: tuple[str, ...]) -> None:
    """The report as a browser shows it, once somebody wants to see it: its charts take a moment to draw."""
    with st.expander("What it looks like", icon=":material/preview:", key="preview", bind="query-params") as part:
        if part.open:
            drawn = _preview(str(finished.folder), annex, left_out, finished)
            st.iframe(drawn, height=PREVIEW_HEIGHT, tab_index=0, alt="The report")


def show_seal(key: SealingKey) -> None:
    """What a reader needs in order to check a report."""
    st.subheader("How readers check it", divider="gray")
    st.markdown(
        "Report and package end with a seal. Whoever has this fingerprint can see that nothing was changed since: give it to "
        "them by another way than the report itself."
    )
    st.code(in_groups(key.fingerprint), language=None, wrap_lines=True)
    st.code(f"python -m mia_core verify REPORT --key {key.fingerprint}", language=None, wrap_lines=True)
    with st.popover("Whole public key", icon=":material/key:"):
        st.code(key.public_key, language=None, wrap_lines=True)
    st.caption(
        "A seal shows that a file was not edited after it was sealed here. It does not show that the audit was set up well, nor "
        "when exactly it was sealed: the time is this machine's own."
    )


st.title("Report")
chosen = frame.chosen_audit()
if chosen is None:
    frame.empty_state("A report needs a finished audit. The demo takes about a minute.", "Run the demo", "start")
else:
    finished = read_finished(frame.store(), chosen)
    if not finished.result.valid:
        st.error("A gate of this audit failed: its report says so first, on every page.", icon=":material/block:")
    annex, left_out = choose(finished.result)
    key = frame.sealing_key()
    show_downloads(finished, key, annex, left_out)
    show_preview(finished, annex, left_out)
    show_seal(key)
