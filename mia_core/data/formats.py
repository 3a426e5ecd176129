"""Reads interaction data: tables with any column names, and the published layouts of well-known data sets.

One rule for unreadable rows: a row whose rating or time is not a number, or that has more or fewer fields than the header, stops
the reading with its line; nothing is guessed. Ids are text, always.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from mia_core.data.columns import Mapping, as_text, guess_columns, interactions_frame, titles_frame
from mia_core.data.interactions import Interactions, validate
from mia_core.data.published import FORMATS
from mia_core.data.tables import column_names, open_table, read_rows
from mia_core.errors import ConfigError, DataError, shortened

if TYPE_CHECKING:
    from mia_core.experiment import Columns

TABLE_SUFFIXES = {".csv", ".tsv", ".txt", ".dat", ".data", ".parquet", ".pq", ".jsonl", ".ndjson", ".json", ".item",
                  ".inter"}  # fmt: skip


@dataclass(frozen=True)
class Preview:
    """What a source looks like before it is read."""

    format: str
    columns: list[str]
    guess: Mapping
    rows: pl.DataFrame
    """The first rows, as text."""
    problems: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    """Tables of the folder that are neither the interactions nor their titles."""


PACKED = (".gz", ".zip", ".bz2", ".xz", ".7z", ".zst")


def load(path: Path, format: str = "auto", columns: Columns | None = None, repeats: bool | None = None) -> Interactions:
    """Interactions from a file or folder.

    Args:
        path: a table, or a folder with one of the published layouts, or with a table of interactions and one of titles.
        format: a name in `FORMATS`, "table", or "auto".
        columns: which column holds what; None: guessed.
        repeats: whether a user's later interactions with the same item stay, as sessions cut from them need; None: where
            the data consist of sessions.
    Raises:
        DataError: the source is missing, damaged, or not interactions.
        ConfigError: the format is unknown.
    """
    path = Path(path)
    if format not in ("auto", "table", *FORMATS):
        raise ConfigError(f"data.format is {format!r}; it must be auto, table, {', '.join(FORMATS)}")
    _check_exists(path)
    if format == "auto":
        format = recognise(path) if columns is None else "table"
    if format != "table":
        return FORMATS[format].read(path, repeats)
    return _load_table(path, columns, repeats)


def inspect_source(path: Path) -> Preview:
    """What a source looks like: its layout, columns, a guess of what they hold, and its first rows.

    Raises:
        DataError: the source is missing or damaged.
    """
    path = Path(path)
    _check_exists(path)
    layout = recognise(path)
    found = None if layout == "table" else FORMATS[layout].find(path)
    read = _main_and_titles(path) if found is None else found
    table = open_table(read[0]) if found is None else FORMATS[layout].open(read[0])
    rows = read_rows(table, limit=20).drop("line")
    guess = guess_columns(rows.columns) if found is None else FORMATS[layout].mapping(table)
    missing = [name for name in ("user", "item") if not getattr(guess, name)]
    problems = [f"No column looks like the {name}. Say below which one it is." for name in missing]
    unread = [table.name for table in _tables_in(path) if table not in read] if path.is_dir() else []
    return Preview(layout, rows.columns, guess, rows, problems, unread)


def recognise(path: Path) -> str:
    """The published layout of a file or of what lies in a folder, else "table"."""
    return next((name for name, layout in FORMATS.items() if layout.find(path) is not None), "table")


def _check_exists(path: Path) -> None:
    # A name that no disk takes is no error here.
    if not os.path.exists(path):
        raise DataError(f"data.path is {shortened(str(path))!r}; there is no such file or folder; check the spelling")


def _tables_in(folder: Path) -> list[Path]:
    tables = [p for p in sorted(folder.iterdir()) if p.is_file() and p.suffix.casefold() in TABLE_SUFFIXES]
    return [p for p in tables if not p.name.casefold().startswith("readme")]


def _main_and_titles(path: Path) -> tuple[Path, Path | None]:
    """The table of interactions, and the table of titles beside it, if there is one."""
    if path.is_file():
        return path, None
    tables = _tables_in(path)
    if not tables:
        packed = next((p.name for p in sorted(path.iterdir()) if p.suffix.casefold() in PACKED), "")
        unpack = f"; unpack {packed!r} first" if packed else ""
        raise DataError(
            f"the folder {path.name!r} holds no table; it must hold a .csv, .tsv, .parquet or .jsonl file of interactions{unpack}"
        )
    mains, titles, others = [], [], []
    damage: DataError | None = None
    for table in tables:
        try:
            guess = guess_columns(read_rows(open_table(table), limit=20).columns)
        except DataError as error:
            damage = damage or error
            continue
        if guess.user and guess.item:
            mains.append(table)
        elif guess.title:
            titles.append(table)
        else:
            others.append(table)
    if not mains and damage is not None:
        raise damage
    found = mains or others or titles
    main = max(found, key=lambda table: table.stat().st_size)
    return main, next((table for table in titles if table != main), None)


def _load_table(path: Path, columns: Columns | None, repeats: bool | None) -> Interactions:
    main, beside = _main_and_titles(path)
    table = open_table(main)
    names = column_names(table)
    mapping = Mapping(**columns.model_dump()) if columns is not None else guess_columns(names)
    known = ", ".join(repr(c[:40]) for c in names[:20])
    for what in ("user", "item", "rating", "timestamp", "title"):
        name = getattr(mapping, what)
        if name and name not in names:
            raise DataError(f"{main.name!r} has no column {name!r} for the {what}; its columns are {known}")
        if what in ("user", "item") and not name:
            raise DataError(
                f"{main.name!r}: no column looks like the {what} (found {known}); name it in data.columns.{what}, and check "
                "that the fields are separated as the file says"
            )
    if mapping.user == mapping.item:
        raise ConfigError(f"data.columns: {mapping.user!r} is both the user and the item; choose a column for each")
    notes = list(table.notes)
    items = None
    if mapping.title:
        items = titles_frame(table, mapping.item, mapping.title)
    elif beside is not None:
        items = _titles_table(beside, titles_frame(table, mapping.item, mapping.item)["item"])
    return validate(interactions_frame(table, mapping, notes), items, notes, mapping.unit, repeats)


def _titles_table(path: Path, items: pl.Series) -> pl.DataFrame | None:
    """item, title from a table beside the interactions; its item column is the one whose values occur there."""
    rows = read_rows(open_table(path))
    title = guess_columns(rows.columns).title
    candidates = {name: as_text(rows, name, "item") for name in rows.columns if name not in (title, "line")}
    overlap = {name: int(text.is_in(items.implode()).sum()) for name, text in candidates.items()}
    best = max(overlap, key=lambda c: overlap[c], default="")
    if not best or not overlap[best]:
        return None
    return pl.DataFrame([candidates[best], as_text(rows, title, "title")])
