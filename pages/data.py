"""Bring interaction data: built-in, uploaded, or from a folder of this machine."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path

import polars as pl
import streamlit as st

from mia_core.data import formats, library, synthetic
from mia_core.data.interactions import Interactions
from mia_core.data.split import FEWEST_USERS
from mia_core.errors import DataError, MemberScopeError
from mia_core.experiment import Columns, Experiment, Synthetic
from mia_core.report.removal import remove_data_set
from mia_core.ui import charts, forms, frame

WAYS = {"upload": "Upload", "folder": "From this machine", "built-in": "Built-in data"}
NONE = "(not in these data)"
FEWEST_ITEMS = 2
"""Of a history that a recommender of items, not words, can be asked about."""


def uploaded() -> tuple[Path, str] | None:
    """The uploaded files in a private folder of their own, and a name for them."""
    files = st.file_uploader(
        "A table of interactions and, if you have one, a table of titles",
        type=["csv", "tsv", "txt", "dat", "data", "item", "inter", "parquet", "pq", "json", "jsonl", "ndjson"],
        accept_multiple_files=True,
        key="upload",
        help="One row per interaction: who (a person or a session), what, and where known rating and time.",
    )
    if not files:
        st.caption("CSV, TSV, Parquet or JSON lines with any column names, or the files of a well-known data set.")
        with st.popover("Which data sets are recognised", icon=":material/fact_check:"):
            for layout in formats.FORMATS.values():
                st.markdown(f"**{layout.title}**  \n{layout.summary}")
        return None
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + file.getvalue())
    name = ", ".join(sorted(Path(file.name).stem for file in files))
    if st.session_state.get("upload_digest") != digest.hexdigest():
        forget_upload()
        folder = Path(tempfile.mkdtemp(prefix="memberscope-"))
        for i, file in enumerate(files):
            # Only the last part of a name, so that no upload leaves its folder.
            (folder / (Path(file.name).name or f"table-{i}.csv")).write_bytes(file.getvalue())
        st.session_state["upload_digest"], st.session_state["upload_folder"] = digest.hexdigest(), str(folder)
    return Path(st.session_state["upload_folder"]), name


def forget_upload() -> None:
    """Removes uploaded bytes from the disk."""
    folder = st.session_state.pop("upload_folder", None)
    st.session_state.pop("upload_digest", None)
    if folder:
        shutil.rmtree(folder, ignore_errors=True)


def from_machine() -> tuple[Path, str] | None:
    """A path on the machine where this app runs."""
    text = st.text_input(
        "File or folder on the machine where this app runs", key="machine_path", placeholder="/data/ml-latest-small"
    )
    if not text.strip():
        st.caption("Nothing is copied until you save.")
        return None
    path = Path(text.strip()).expanduser()
    return path, path.name


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


def show(interactions: Interactions) -> None:
    """What these data are, and what is wrong with them."""
    summary = interactions.summary()
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
    for row in (figures[:4], figures[4:]):
        for card, (label, value, explanation) in zip(st.columns(len(row)), row, strict=True):
            card.metric(label, value, border=True, help=explanation or None)
    if unit == "session":
        st.caption(
            ":material/schedule: These data are sessions: every figure of an audit of them is about a session, not about a "
            "person."
        )
    for note in interactions.notes:
        st.text("• " + note)
    lengths = interactions.frame.group_by("user").len()["len"]
    popular = interactions.frame.group_by("item").len()["len"]
    left, right = st.columns(2, gap="medium")
    with left:
        st.altair_chart(
            charts.histogram(lengths.to_list(), f"Interactions per {unit}", f"{unit.capitalize()}s"),
            alt="How long histories are",
            key="lengths",
        )
    with right:
        st.altair_chart(
            charts.histogram(popular.to_list(), f"{unit.capitalize()}s per item", "Items"),
            alt="How popular items are",
            key="popular",
        )
    with st.expander("First rows", expanded=True):
        first = interactions.frame.head(50).join(interactions.items, on="item", how="left")
        # Of what these data do not have there is nothing to see.
        shown = [
            c for c in first.columns if first[c].null_count() < first.height and (c != "title" or summary["titles"])
        ]
        st.dataframe(first.select(shown).rename({"user": unit}), hide_index=True, height=240)
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


def save(interactions: Interactions, suggestion: str) -> None:
    """Keeps the data for audits."""
    left, right = st.columns([3, 1], vertical_alignment="bottom")
    name = left.text_input("Name", value=suggestion[:80], key="data_name")
    if right.button(
        "Save and go on", type="primary", icon=":material/arrow_forward:", width="stretch", key="save_data"
    ):
        key = library.save(frame.store(), interactions, name.strip() or "Data")
        forget_upload()
        frame.go("audit", data=key)


@st.cache_data(show_spinner="Reading…", max_entries=4)
def read(path: str, digest: str, _columns: Columns | None, mapping: str) -> Interactions:
    """The interactions of a source; `digest` and `mapping` tell one reading from another."""
    return formats.load(Path(path), "auto", _columns)


def bring(source: tuple[Path, str]) -> None:
    """Preview, mapping, check, save."""
    path, name = source
    try:
        preview = formats.inspect_source(path)
        columns = ask_mapping(preview)
        with st.expander("The file as it is", expanded=preview.format == "table"):
            st.dataframe(preview.rows, hide_index=True, height=200)
        stamp = st.session_state.get("upload_digest") or str(_last_change(path))
        interactions = read(str(path), stamp, columns, columns.model_dump_json() if columns else "")
    except MemberScopeError as error:
        frame.show_error(error)
        return
    show(interactions)
    save(interactions, name)


def _last_change(path: Path) -> float:
    if not path.exists():
        raise DataError(f"{str(path)!r}: there is no such file or folder on this machine; check the spelling")
    return max((p.stat().st_mtime for p in [path, *(path.iterdir() if path.is_dir() else [])]), default=0.0)


st.title("Data")
st.html(
    '<p class="ms-quiet">Who interacted with what. Data stay on this machine, in a folder that only its user can read.</p>'
)
way = (
    st.segmented_control(
        "Where the data come from", list(WAYS), default="upload", format_func=WAYS.__getitem__, key="data_way"
    )
    or "upload"
)
if way == "built-in":
    st.markdown("Invented users with latent tastes over invented titles. Nobody real is in it.")
    config = forms.section_form(Synthetic(), "synthetic")
    seed = int(st.number_input("Seed", 0, 2**31 - 1, 0, key="synthetic_seed"))
    made = synthetic.generate(config, seed)
    show(made)
    save(made, f"Built-in, {config.users} users")
else:
    found = uploaded() if way == "upload" else from_machine()
    if found:
        bring(found)
kept = library.saved(frame.store())
if kept:
    st.subheader("Saved data sets", divider="gray")
    st.dataframe(
        pl.DataFrame(
            [
                {"Name": e.name, "Saved": e.created[:16].replace("T", " "), "Size": f"{e.bytes / 2**20:.1f} MB"}
                for e in kept
            ]
        ),
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
            remove_data_set(frame.store(), str(chosen))
            frame.forget_reads()
            st.rerun()
