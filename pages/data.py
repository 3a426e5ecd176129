"""Bring interaction data: built-in, uploaded, or from a folder of this machine."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import streamlit as st

from mia_core.data import formats, library, server_folders, synthetic
from mia_core.data.interactions import Interactions
from mia_core.data.profile import Profile, profile, prompts_of
from mia_core.data.prompts import PROMPT_STYLES
from mia_core.data.split import FEWEST_USERS
from mia_core.data_rights.removal import remove_data_set
from mia_core.errors import DataError, MemberScopeError, shortened
from mia_core.experiment import Columns, Experiment, Prompt, Synthetic
from mia_core.limits import UPLOADED, check_kept
from mia_core.report.wording import file_size, minute
from mia_core.ui import charts, data_charts, forms, frame, uploads
from mia_core.ui.twin import show_chart

WAYS = {"upload": "Upload", "folder": "From this machine", "built-in": "Built-in data"}
NONE = "(not in these data)"
FEWEST_ITEMS = 2
"""Of a history that a recommender of items, not words, can be asked about."""


@dataclass(frozen=True)
class Source:
    """Where data come from."""

    path: Path | None
    """None: they are invented."""
    name: str
    """What they may be called."""
    stamp: str
    """Tells one state of the files from another; of invented data the seed."""
    invented: Synthetic | None = None

    def read_as(self, columns: Columns | None) -> tuple[str, str, str]:
        """What `interactions_of` reads."""
        asked = self.invented or columns
        return str(self.path or ""), self.stamp, asked.model_dump_json() if asked else ""


def uploaded() -> Source | None:
    """The uploaded files, in a private folder on the disk."""
    found = uploads.upload(
        "A table of interactions and, if you have one, a table of titles",
        ["csv", "tsv", "txt", "dat", "data", "item", "inter", "parquet", "pq", "json", "jsonl", "ndjson"],
        "One row per interaction: who (a person or a session), what, and where known rating and time.",
    )
    if found is not None:
        return Source(found.folder, found.name, found.token)
    limit = int(st.get_option("server.maxUploadSize"))
    together = f" each, {UPLOADED.most:,} MB until they are saved" if UPLOADED.most else ""
    st.caption(
        "CSV, TSV, Parquet or JSON lines with any column names, or the files of a well-known data set. "
        f"{limit:,} MB at most{together}; a larger file is read from a folder of the server."
    )
    with st.popover("Which data sets are recognised", icon=":material/fact_check:"):
        for layout in formats.FORMATS.values():
            st.markdown(f"**{layout.title}**  \n{layout.summary}")
    return None


def from_machine() -> Source | None:
    """A path on the machine where this app runs: any, for whoever sits there; else one that this server offers."""
    if uploads.any_path():
        text = st.text_input(
            "File or folder on the machine where this app runs",
            key="machine_path",
            placeholder="/data/ml-latest-small",
            bind="query-params",
        )
        if not text.strip():
            st.caption("Nothing is copied until you save.")
            return None
        path = Path(os.path.expanduser(text.strip()))
        return Source(path, path.name, str(_last_change(path)))
    offered = {one.name: one for one in uploads.offered()}
    if not offered:
        st.info(
            f"This server offers no folder. Whoever runs it names some, or puts tables into them, by the variable "
            f"{server_folders.VARIABLE}; files up to the limit can be uploaded.",
            icon=":material/folder_off:",
        )
        return None
    name = st.selectbox(
        "File, or folder of tables, that this server offers",
        list(offered),
        index=None,
        placeholder="Choose",
        format_func=lambda name: f"{name}/" if offered[name].folder else name,
        key="offered_path",
        bind="query-params",
    )
    if name is None:
        st.caption("Nothing is copied until you save.")
        return None
    path = server_folders.checked(offered[name].path, server_folders.named_folders())
    return Source(path, path.stem, str(_last_change(path)))


def ask_mapping(preview: formats.Preview) -> Columns | None:
    """Which column holds what; None where the layout is known."""
    if preview.format != "table":
        st.success(f"Recognised: {formats.FORMATS[preview.format].title}", icon=":material/check_circle:")
        return None
    for problem in preview.problems:
        st.warning(problem)
    chosen: dict[str, str] = {}
    fields = ("user", "item", "rating", "timestamp", "title")
    for column, name in zip(st.columns(len(fields)), fields, strict=True):
        needed = name in ("user", "item")
        options = [*preview.columns] if needed else [NONE, *preview.columns]
        guess = getattr(preview.guess, name)
        index = options.index(guess) if guess in options else (0 if not needed else None)
        picked = column.selectbox(name.capitalize(), options, index=index, key=f"map_{name}", placeholder="Choose")
        chosen[name] = "" if picked in (None, NONE) else str(picked)
    if not chosen["user"] or not chosen["item"]:
        st.info("Say which columns hold the user and the item.")
        st.stop()
    return Columns(**chosen)


def show(source: Source, columns: Columns | None) -> None:
    """What these data are, and what is wrong with them."""
    found = profiled(*source.read_as(columns))
    summary = found.summary
    unit = summary["unit"]
    show_figures(summary)
    if unit == "session":
        st.caption(
            ":material/schedule: These data are sessions: every figure of an audit of them is about a session, not about a "
            "person."
        )
    show_dropped(found)
    names = ["How long, how popular", "When"] if found.months.height else ["How long, how popular"]
    tabs = st.tabs([*names, "What the model sees", "First rows"], key="profile_tab")
    with tabs[0]:
        show_lengths(found, unit)
    if found.months.height:
        with tabs[1]:
            show_months(found)
    with tabs[-2]:
        show_prompts(source, columns, found)
    with tabs[-1]:
        show_rows(source, columns, unit)
    show_enough(found.lengths, unit)


def show_figures(summary: dict[str, Any]) -> None:
    """The size of the data, in eight figures."""
    unit = summary["unit"]
    present = [name for name in ("ratings", "timestamps", "titles") if summary[name]]
    figures = (
        (f"{unit.capitalize()}s", f"{summary['users']:,}", "One visit each, of people whom the data do not name."),
        ("Items", f"{summary['items']:,}", ""),
        ("Interactions", f"{summary['interactions']:,}", ""),
        ("Also known", f"{len(present)} of 3", f"Of ratings, timestamps and titles: {', '.join(present) or 'none'}."),
        ("Median length", f"{summary['median_length']:g}", f"Interactions that half of the {unit}s have at most."),
        ("Longest", f"{summary['longest']:,}", f"Interactions of the {unit} with most of them."),
        (
            "Popularity skew (Gini)",
            f"{summary['popularity_gini']:.2f}",
            "How unequally the interactions are spread over the items: 0 evenly, 1 all on one item.",
        ),
        (
            "Density",
            f"{summary['interactions'] / (summary['users'] * summary['items']):.2%}",
            f"Interactions, of all pairs of a {unit} and an item.",
        ),
    )
    if unit == "user":
        figures = ((*figures[0][:2], ""), *figures[1:])
    for i in (0, 4):
        frame.cards(f"data_{i}", [(*figure, "") for figure in figures[i : i + 4]])


def show_dropped(found: Profile) -> None:
    """What was left out of the file or changed, with how many rows, and what was assumed."""
    if found.dropped.height:
        st.markdown("**What was left out, and why**")
        st.dataframe(found.dropped.rename({"rows": "Rows", "what": "What"}), hide_index=True)
    for remark in found.remarks:
        st.text("• " + remark)


def show_lengths(found: Profile, unit: str) -> None:
    """How long histories are, and how unevenly items are had."""
    left, right = st.columns(2, gap="medium")
    with left:
        show_chart(
            charts.histogram(found.lengths.tolist(), f"Interactions per {unit}", f"{unit.capitalize()}s").properties(
                height=280
            ),
            f"How many {unit}s have histories of each length.",
            data_charts.counted(found.lengths, f"Interactions per {unit}", f"{unit.capitalize()}s"),
            "lengths",
        )
    with right:
        show_chart(
            data_charts.popularity(found.popularity, unit),
            f"How many {unit}s have each item, the most popular first; both axes are logarithmic.",
            found.popularity.rename({"rank": "Rank", "users": f"{unit.capitalize()}s who have it"}),
            "popular",
        )


def show_months(found: Profile) -> None:
    """When the interactions happened."""
    show_chart(
        data_charts.months(found.months),
        "Interactions by month.",
        found.months.rename({"month": "Month", "interactions": "Interactions"}),
        "months",
    )
    st.caption("From {:%B %Y} to {:%B %Y}, in UTC.".format(found.months["month"][0], found.months["month"][-1]))


def show_prompts(source: Source, columns: Columns | None, found: Profile) -> None:
    """The very text that a language model sees of one user, and the answer that is expected of it."""
    unit = found.summary["unit"]
    who, how, long = st.columns([2, 2, 1], vertical_alignment="bottom")
    fitting = [name for name, style in PROMPT_STYLES.items() if found.summary["ratings"] or not style.needs_ratings]
    user = who.selectbox(
        f"{unit.capitalize()}",
        found.some_users,
        accept_new_options=True,
        key="preview_user",
        help="Some of them are offered; any other id can be typed.",
    )
    style = how.selectbox("Prompt style", fitting, format_func=lambda n: PROMPT_STYLES[n].title, key="preview_style")
    history = long.number_input("Items of history", 1, 1_000, Experiment().prompt.history, key="preview_history")
    if not user:
        return
    try:
        asked = prompts_of(interactions_of(*source.read_as(columns)), user, Prompt(style=style, history=int(history)))
    except DataError as error:
        frame.show_error(error)
        return
    if not asked:
        needed = 2 if PROMPT_STYLES[style].whole else int(history) + 1
        st.info(
            f"This {unit} has fewer than {needed} interactions, which is one window: nothing can be asked about it."
        )
        return
    at = 1
    if len(asked) > 1:
        at = int(st.number_input(f"Window, of {len(asked)}, the latest first", 1, len(asked), 1, key="preview_window"))
    if asked[at - 1].prompt:
        st.caption("What the model reads")
        st.code(asked[at - 1].prompt, language=None, wrap_lines=True)
    st.caption("The answer: its likelihood is what most attacks look at")
    st.code(asked[at - 1].answer, language=None, wrap_lines=True)
    if PROMPT_STYLES[style].needs_ratings:
        st.caption(
            "Liked is what was rated at least as well as the median; an audit takes that of its third parties alone."
        )


def show_rows(source: Source, columns: Columns | None, unit: str) -> None:
    """The data as they were understood."""
    interactions = interactions_of(*source.read_as(columns))
    first = interactions.rows.head(50).collect().join(interactions.items, on="item", how="left")
    # Of what these data do not have there is nothing to see.
    shown = [
        c for c in first.columns if first[c].null_count() < first.height and (c != "title" or interactions.has_titles)
    ]
    st.dataframe(first.select(shown).rename({"user": unit}), hide_index=True, height=240)


def show_enough(lengths: np.ndarray, unit: str) -> None:
    """Whether there are enough long histories for an audit."""
    window = Experiment().prompt.history + 1
    enough, least = int((lengths >= window).sum()), int((lengths >= FEWEST_ITEMS).sum())
    said = (
        f"{enough:,} of {len(lengths):,} {unit}s have the {window} interactions that the audit of a language model needs "
        f"unless it is set otherwise; {least:,} have the {FEWEST_ITEMS} that any other recommender's needs."
    )
    if least < FEWEST_USERS:
        st.warning(
            f"{said} That is too few: give at least {FEWEST_USERS} such {unit}s, and several hundred for a useful audit."
        )
    elif enough < FEWEST_USERS:
        st.warning(
            f"{said} For a language model that is too few: choose another kind of recommender on the next page, or shorter "
            "windows."
        )
    else:
        st.caption(said)


def save(source: Source, columns: Columns | None) -> None:
    """Keeps the data for audits."""
    left, right = st.columns([3, 1], vertical_alignment="bottom")
    name = left.text_input("Name", value=source.name[:80], key="data_name")
    if right.button(
        "Save and go on", type="primary", icon=":material/arrow_forward:", width="stretch", key="save_data"
    ):
        check_kept(frame.store().size)
        key = library.save(frame.store(), interactions_of(*source.read_as(columns)), name.strip() or "Data")
        frame.note("data set saved", key=key)
        uploads.forget()
        frame.go("audit", data=key)


@st.cache_resource(show_spinner="Reading…", max_entries=4)
def interactions_of(path: str, stamp: str, asked: str) -> Interactions:
    """The interactions of a source. Shared, not copied, between sessions: never altered.

    Args:
        path: of a file or folder; empty for invented users.
        stamp: tells one state of it from another.
        asked: as JSON, which column holds what, or what is invented.
    """
    if path:
        return formats.load(Path(path), "auto", Columns.model_validate_json(asked) if asked else None)
    return synthetic.generate(Synthetic.model_validate_json(asked), int(stamp))


@st.cache_resource(show_spinner="Looking through the data…", max_entries=8)
def profiled(path: str, stamp: str, asked: str) -> Profile:
    """The profile of a source; as `interactions_of`."""
    return profile(interactions_of(path, stamp, asked))


def bring(source: Source) -> None:
    """Preview, mapping, check, save."""
    try:
        preview = previewed(str(source.path), source.stamp)
        if preview.unread:
            # Names come from outside: shown as text, never as Markdown.
            unread = shortened(", ".join(preview.unread))
            st.text(f"Not read: {unread}. Of several tables one of interactions is read, and one of titles.")
        columns = ask_mapping(preview)
        with st.expander("The file as it is", expanded=preview.format == "table"):
            st.dataframe(preview.rows, hide_index=True, height=200)
        interactions_of(*source.read_as(columns))
    except MemberScopeError as error:
        frame.show_error(error)
        return
    show(source, columns)
    save(source, columns)


@st.cache_resource(show_spinner=False, max_entries=8)
def previewed(path: str, stamp: str) -> formats.Preview:
    """What a source looks like before it is read."""
    return formats.inspect_source(Path(path))


def _last_change(path: Path) -> float:
    # A name that no disk takes is no error here, and nor is a link in the folder that leads nowhere.
    if not os.path.exists(path):
        raise DataError(
            f"{shortened(str(path))!r}: there is no such file or folder on this machine; check the spelling"
        )
    return max((p.lstat().st_mtime for p in [path, *(path.iterdir() if path.is_dir() else [])]), default=0.0)


st.title("Data")
st.html(
    '<p class="ms-quiet">Who interacted with what. Data stay on this machine, in a folder that only its user can read.</p>'
)
way = forms.choice("Where the data come from", WAYS, "data_way", "upload")
if way == "built-in":
    st.markdown("Invented users with latent tastes over invented titles. Nobody real is in it.")
    config = forms.section_form(Synthetic(), "synthetic")
    seed = int(st.number_input("Seed", 0, 2**31 - 1, 0, key="synthetic_seed"))
    invented = Source(None, f"Built-in, {config.users} users", str(seed), config)
    show(invented, None)
    save(invented, None)
else:
    try:
        found = uploaded() if way == "upload" else from_machine()
    except MemberScopeError as error:
        frame.show_error(error)
        found = None
    if found:
        bring(found)
kept = library.saved(frame.store())
if kept:
    st.subheader("Saved data sets", divider="gray")
    st.dataframe(
        pl.DataFrame([{"Name": e.name, "Saved": minute(e.created), "Size": file_size(e.bytes)} for e in kept]),
        hide_index=True,
    )
    left, right = st.columns(2, vertical_alignment="center")
    with left:
        frame.link("audit", "Set up an audit with one of them", ":material/science:")
    with right, st.popover("Delete one of them", icon=":material/delete:"):
        names = {entry.key: entry.name for entry in kept}
        chosen = st.selectbox("Data set", list(names), format_func=names.__getitem__, key="data_to_delete")
        st.markdown("Every audit of it goes with it, for good.")
        if st.button("Delete for good", type="primary", key="delete_data"):
            gone = remove_data_set(frame.store(), str(chosen))
            frame.note("data set deleted", key=chosen, with_it=gone)
            frame.forget_reads()
            st.rerun()
