"""What every page stands in: style, calm errors, the store, and reads that are cached by content key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

import polars as pl
import streamlit as st
from streamlit.navigation.page import Page
from streamlit.runtime.scriptrunner_utils.exceptions import RerunException, StopException

from mia_core import example, limits, parquet
from mia_core.errors import NotFound
from mia_core.jobs.queue import Queue
from mia_core.jobs.supervisor import ensure_supervisor
from mia_core.limits import Turnstile
from mia_core.report.inert import visible
from mia_core.report.lookup import SHORTEST_PREFIX, told_of_loss
from mia_core.report.repeats import Repeats, find_repeats
from mia_core.report.results import AuditResult, read_result, read_table
from mia_core.report.wording import erased_mark, erased_sentence, minute
from mia_core.storage import journal
from mia_core.storage.seal import SealingKey
from mia_core.storage.store import Entry, Store, home_folder
from mia_core.ui.faults import explain
from mia_core.ui.faults import show_error as show_error
from mia_core.ui.sign_in import home

ROOT = Path(__file__).parents[2]
PAGES = {
    "start": ("", "Start", ":material/home:"),
    "data": ("Set up", "Data", ":material/table:"),
    "audit": ("Set up", "Audit", ":material/science:"),
    "running": ("Set up", "Running", ":material/pending_actions:"),
    "results": ("Inspect", "Results", ":material/monitoring:"),
    "users": ("Inspect", "Users", ":material/people:"),
    "cohorts": ("Inspect", "Cohorts", ":material/bubble_chart:"),
    "lookup": ("Inspect", "Lookup", ":material/person_search:"),
    "list": ("Inspect", "A list of people", ":material/groups:"),
    "map": ("Inspect", "Map", ":material/scatter_plot:"),
    "compare": ("Inspect", "Compare", ":material/compare:"),
    "studies": ("Explore", "Studies", ":material/tune:"),
    "defenses": ("Explore", "Defences", ":material/shield:"),
    "forgetting": ("Explore", "Forgetting", ":material/ink_eraser:"),
    "field": ("Explore", "Attacks compared", ":material/grid_on:"),
    "report": ("Take away", "Report", ":material/description:"),
    "erase": ("Keep safe", "Erase a person", ":material/person_remove:"),
    "log": ("Keep safe", "Log", ":material/history:"),
    "methods": ("About", "Methods", ":material/menu_book:"),
    "responsible": ("About", "Responsible use", ":material/balance:"),
}
"""Address: (section of the navigation, title, icon), in the order of the navigation."""

LOOKUPS = Turnstile(limits.LOOKUPS, "lookups")

STYLE = """
<style>
.block-container {max-width: 1180px; padding-top: 3.2rem; padding-bottom: 4rem;}
h1 {letter-spacing: -0.02em;}
[data-testid="stMetricLabel"] p {font-size: 0.9rem; opacity: 0.85;}
[data-testid="stCaptionContainer"] {opacity: 0.85 !important;}
[data-testid="stSidebar"] img {height: 2.2rem;}
[data-testid="stHeadingDivider"] {height: 1px !important;
  background: color-mix(in srgb, currentColor 24%, transparent) !important;}
[data-testid="stMetricValue"] {font-variant-numeric: tabular-nums; letter-spacing: -.01em;}
[data-testid="stMetricLabel"], [data-testid="stMetricLabel"] * {white-space: normal !important; overflow: visible !important;}
[class*="st-key-cards_"] [data-testid="stCaptionContainer"] {margin-bottom: 0 !important;}
[class*="st-key-cards_"] [data-testid="stCaptionContainer"] p {margin-bottom: 0;}
[class*="st-key-wide_"] {overflow-x: auto;}
/* As text, the primary colour is too dark on the dark page. */
[data-testid="stSliderThumbValue"], [data-testid="stSliderThumbValue"] *, [data-testid="stTab"],
[data-variant="pills"][data-selected="true"] {color: inherit !important;}
[data-testid="stTab"][aria-selected="true"] p {font-weight: 600;}
.ms-subject {padding: .4rem 0 0 !important; margin: 0 !important; overflow-wrap: anywhere;}
.ms-lead {font-size: 1.2rem; line-height: 1.55; max-width: 46rem; margin: 0 0 .4rem;}
.ms-quiet {opacity: 0.85; max-width: 46rem; line-height: 1.55; margin: 0 0 .4rem;}
[data-variant="segmented_control"][data-selected="true"] {color: inherit !important; font-weight: 650;}
@media (max-width: 1100px) {
  .block-container {padding-left: 2.5rem; padding-right: 2.5rem;}
  [class*="st-key-cards_"] [data-testid="stHorizontalBlock"] {flex-wrap: wrap;}
  [class*="st-key-cards_"] [data-testid="stColumn"] {min-width: calc(50% - .5rem) !important;
    flex: 1 1 calc(50% - .5rem) !important;}
}
@media (max-width: 640px) {
  .block-container {padding-left: 1rem; padding-right: 1rem;}
  h1 {font-size: 1.6rem !important;}
  .ms-lead {font-size: 1.05rem;}
  [class*="st-key-cards_claims"] [data-testid="stColumn"] {min-width: 100% !important;}
}
</style>
"""


def pages() -> dict[str, Page]:
    """Every page by its name, which is also its address."""
    return {
        name: st.Page(ROOT / "pages" / f"{name}.py", title=title, icon=icon, url_path=name, default=name == "start")
        for name, (_, title, icon) in PAGES.items()
    }


def sections() -> dict[str, list[Page]]:
    """The pages by section, for the navigation."""
    made = pages()
    found: dict[str, list[Page]] = {}
    for name, (section, _, _) in PAGES.items():
        found.setdefault(section, []).append(made[name])
    return found


def link(page: str, label: str, icon: str | None = None, **query: str) -> None:
    """A link to a page; `query` goes into its address."""
    st.page_link(pages()[page], label=label, icon=icon, query_params=query or None)


def go(page: str, **query: str) -> NoReturn:
    """Opens a page."""
    # Even an empty address is given: without one, an address that widgets are bound to could not be left.
    st.switch_page(pages()[page], query_params=query)


def style() -> None:
    """The few rules that the theme's settings cannot express."""
    st.html(STYLE)


def run_calmly(page: Callable[[], None]) -> bool:
    """Runs a page; what goes wrong in it is explained. Returns whether nothing did."""
    try:
        page()
        return True
    except (RerunException, StopException):
        raise
    except Exception as error:
        explain(error)
        return False


@st.cache_resource(show_spinner=False)
def _open_store(home: str) -> Store:
    return Store(Path(home))


def store() -> Store:
    """The store of this server."""
    return _open_store(str(home()))


def sealing_key() -> SealingKey:
    """The key of this installation, whoever is signed in: one public half checks all that leaves it."""
    return SealingKey(home_folder())


def queue() -> Queue:
    """The job queue of this server."""
    return Queue(home())


def note(what: str, **about: Any) -> None:
    """Adds an event to the log of whoever looks at this page."""
    journal.note(home(), what, **about)


def note_lookup(audit: str, user: str) -> None:
    """Notes that a person was looked up; once in a session, however often the page is drawn.

    Raises:
        LimitReached: too many people were looked up within a minute.
    """
    seen = st.session_state.setdefault("looked_up", set())
    person = journal.person(home(), user)
    if (audit, person) not in seen:
        LOOKUPS.enter(str(home()))
        note("looked up", audit=audit, person=person)
        seen.add((audit, person))


def note_list(audit: str, people: int) -> None:
    """Notes that a list of people was judged: one question and one lookup, however many stand on it.

    Raises:
        LimitReached: too much was looked up within a minute.
    """
    LOOKUPS.enter(str(home()))
    note("list looked up", audit=audit, people=people)


def exported(make: Callable[[], bytes | str], what: str, **about: Any) -> Callable[[], bytes | str]:
    """What makes a file, noted in the log when the file is taken away."""
    # When the file is asked for, nobody looks at a page: whose it is must be settled now.
    folder = home()

    def made() -> bytes | str:
        content = make()
        journal.note(folder, f"{what} exported", **about)
        return content

    return made


def audits() -> list[Entry]:
    """Finished audits but those of studies, the newest first; where that is an example, the one that Start opens."""
    found, examples = store().entries("audit"), example.audit_keys()
    first = next((entry for key in examples for entry in found if entry.key == key), None)
    return sorted(found, key=lambda entry: entry is not first) if found and found[0].key in examples else found


def result(key: str) -> AuditResult:
    """A finished audit's result.

    Raises:
        NotFound: there is none of that key.
    """
    return _result(str(folder(key)))


def table(key: str, name: str, *columns: str) -> pl.DataFrame:
    """One table of a finished audit, or some columns of it. It is shared, not copied, between sessions: never alter it."""
    return _table(str(folder(key)), name, *columns)


# What was read is kept by the folder that it was read from: nobody gets what lies in somebody else's home.
@st.cache_data(show_spinner=False, max_entries=40)
def _result(folder: str) -> AuditResult:
    return read_result(Path(folder))


@st.cache_resource(show_spinner=False, max_entries=80)
def _table(folder: str, name: str, *columns: str) -> pl.DataFrame:
    return read_table(Path(folder), name, columns)


def columns(key: str, name: str) -> list[str]:
    """The columns of one table of a finished audit; audits of earlier versions may lack some."""
    return parquet.columns_of(folder(key) / f"{name}.parquet")


def forget_reads() -> None:
    """After a deletion: nothing that was read before it is shown again."""
    st.cache_data.clear()
    _table.clear()


def forget_everything() -> None:
    """After somebody was erased: nothing that this server read before is in its memory."""
    st.cache_data.clear()
    st.cache_resource.clear()


@st.cache_data(show_spinner=False, max_entries=20)
def _repeats(folder: str, finished: list[str]) -> Repeats:
    return find_repeats(store(), _result(folder))


def repeats(key: str) -> Repeats:
    """The same audit under other seeds."""
    return _repeats(str(folder(key)), [entry.key for entry in store().entries("audit", "point")])


def show_erased(persons: int) -> None:
    """Says that persons were erased after a result was computed, where some were."""
    if persons:
        st.info(erased_sentence(persons), icon=":material/person_remove:")


def has_table(key: str, name: str) -> bool:
    """Whether a finished audit has such a table; some are there only if what they need was."""
    return (folder(key) / f"{name}.parquet").is_file()


def chosen_audit() -> str | None:
    """The audit that the address names, else the first of `audits`; the choice is put into the address.

    The address of an example puts it into the store, unless it was there before and is gone. A point of a study is chosen on
    the page of studies: it is offered only where its address is open, or nothing else is there.
    """
    asked = st.query_params.get("audit", "")
    examples = example.audit_keys()
    gone = asked in examples and not example.install_where_new(store(), asked)
    points = store().entries("point")
    found = audits() or points
    show_losses(asked)
    if gone:
        st.warning(
            "The address names an example audit that was here and was removed, or somebody was erased from it. It does not come "
            "back by itself; opened anew it has all of its invented people again."
        )
        link("start", "To Start, where the example is opened", ":material/arrow_forward:")
    if not found:
        return None
    # The command line prints the beginnings of keys: these lead here, too.
    begun = [entry.key for entry in [*found, *points] if len(asked) >= SHORTEST_PREFIX and entry.key.startswith(asked)]
    asked = begun[0] if len(set(begun)) == 1 else asked
    if asked not in [entry.key for entry in found]:
        found = [*(point for point in points if point.key == asked), *found]
    keys = [entry.key for entry in found]
    unknown = bool(asked) and asked not in keys
    if unknown and not gone and not told_of_loss(store(), asked):
        st.warning("The address names an audit that is not in this store. Choose one that is.")
    names = {entry.key: label_of(entry) for entry in found}
    if len(keys) == 1 and not unknown:
        key: str | None = keys[0]
        st.text(names[keys[0]])
    else:
        index = None if unknown else keys.index(asked or keys[0])
        key = st.selectbox(
            "Audit",
            keys,
            index=index,
            format_func=names.__getitem__,
            placeholder="Choose an audit",
            key="chosen_audit",
            help="Audits of a study are opened from the Studies page." if points else None,
        )
    if key is None:
        st.stop()
    if unknown:
        st.query_params["audit"] = key
        st.rerun()
    if st.query_params.get("audit") != key:
        st.query_params["audit"] = key
    return key


def name_of(entry: Entry) -> str:
    """What a finished audit is called, and whether somebody was erased from it."""
    try:
        return entry.name + erased_mark(_erased(str(entry.path)))
    except OSError:
        # It was deleted since it was listed.
        return entry.name


def label_of(entry: Entry) -> str:
    """A finished audit on one line: its name, when it was made, the beginning of its key."""
    return f"{visible(name_of(entry))} · {minute(entry.created)} · {entry.key[:8]}"


# Under one key this never changes: an audit that somebody is erased from gets another.
@lru_cache(maxsize=10_000)
def _erased(folder: str) -> int:
    # Few say anything of it, and the others need not be read as a whole to be named.
    says = b'"erased"' in (Path(folder) / "result.json").read_bytes()
    return read_result(Path(folder)).erased if says else 0


def show_losses(asked: str = "") -> None:
    """Says which audits were damaged on the disk, each with the way to run it again.

    Args:
        asked: a key that is wanted; a point of a study is told of only where its key is.
    """
    for loss in store().losses():
        if loss.kind != "audit" and loss.key != asked:
            continue
        with st.container(border=True):
            st.warning("This result was damaged on the disk.", icon=":material/heart_broken:")
            st.text(f"{loss.name} · {loss.key[:8]}")
            st.caption("Run it again: its intermediates are kept, so that only what was damaged is computed anew.")
            before = next((job for job in queue().jobs(1_000) if job.result_key == loss.key), None)
            if before is not None and st.button("Run it again", key=f"again_{loss.key}", icon=":material/replay:"):
                job = queue().retry(before.id)
                ensure_supervisor(home())
                go("running", job=job.id)
            if st.button("Do without it", key=f"without_{loss.key}", icon=":material/close:"):
                store().remove(loss.key)
                st.rerun()


def cards(name: str, shown: Sequence[tuple[str, str, str, str]]) -> None:
    """Figures side by side, each on a card; on a narrow screen two in a row.

    Args:
        name: of these cards on their page.
        shown: label, figure, what it means (behind a question mark), and what must be read with it; the last two may be empty.
    """
    with st.container(key=f"cards_{name}"):
        columns = st.columns(len(shown), gap="small")
    for column, (label, figure, meaning, note) in zip(columns, shown, strict=True):
        with column.container(border=True, height="stretch", gap="xsmall"):
            st.metric(label, figure, help=meaning or None)
            if note:
                st.caption(note)


def empty_state(text: str, label: str, page: str) -> None:
    """Says what is missing and leads to where it is made."""
    with st.container(border=True):
        st.markdown(text)
        link(page, label, ":material/arrow_forward:")


def show_finished(kind: str, heading: str, page: str, query: str) -> None:
    """What was finished of a kind, each with the way to it; `query` is what the page's address calls its key."""
    found = store().entries(kind)
    if found:
        st.subheader(heading, divider="gray")
    for entry in found:
        with st.container(border=True):
            name, when, way = st.columns([4, 2, 2], vertical_alignment="center")
            name.text(entry.name)
            when.caption(minute(entry.created) + " UTC")
            with way:
                link(page, "Open", None, **{query: entry.key})


def folder(key: str) -> Path:
    """Where a finished audit lies, for reading a few rows of a large table.

    Raises:
        NotFound: there is none of that key.
    """
    found = store().find(key)
    if found is None and (lost := told_of_loss(store(), key)):
        raise NotFound(lost)
    if found is None:
        raise NotFound("This audit is no longer in the store. Choose another under Results, or run it again.")
    return found
