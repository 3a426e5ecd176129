"""Reads interaction data: tables with any column names, and the published layouts of well-known data sets.

One rule for unreadable rows: a row whose rating or time is not a number, or that has more fields than the header, stops
the reading with its line; nothing is guessed. Ids are text, always.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from mia_core.data.interactions import Interactions, validate
from mia_core.data.tables import open_table, read_rows
from mia_core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from mia_core.experiment import Columns

NAMES = {
    "user": ("user", "userid", "user_id", "uid", "customer", "customerid", "customer_id", "member", "session", "sessionid",
             "session_id", "reviewerid", "account", "visitor", "visitorid", "u"),
    "item": ("item", "itemid", "item_id", "iid", "movie", "movieid", "movie_id", "isbn", "product", "productid",
             "product_id", "asin", "artistid", "artist_id", "book", "bookid", "book_id", "song", "track", "article", "i"),
    "rating": ("rating", "ratings", "score", "stars", "bookrating", "book_rating", "overall", "preference", "r"),
    "timestamp": ("timestamp", "time", "date", "datetime", "unixtime", "unixreviewtime", "ts", "t", "when", "position"),
    "title": ("title", "name", "itemname", "item_name", "itemtitle", "item_title", "movietitle", "booktitle", "book_title"),
}  # fmt: skip
TABLE_SUFFIXES = {".csv", ".tsv", ".txt", ".dat", ".data", ".parquet", ".pq", ".jsonl", ".ndjson", ".json", ".item"}
MILLISECONDS_FROM = 100_000_000_000


@dataclass(frozen=True)
class Format:
    """One published layout."""

    title: str
    summary: str
    files: tuple[str, ...]
    """Names of the interactions' file and, if any, of the titles' file."""
    read: Callable[[Path], Interactions]


@dataclass(frozen=True)
class Mapping:
    """A guess of which column holds what; empty where none seems to."""

    user: str = ""
    item: str = ""
    rating: str = ""
    timestamp: str = ""
    title: str = ""


@dataclass(frozen=True)
class Preview:
    """What a source looks like before it is read."""

    format: str
    columns: list[str]
    guess: Mapping
    rows: pl.DataFrame
    """The first rows, as text."""
    problems: list[str] = field(default_factory=list)


def load(path: Path, format: str = "auto", columns: Columns | None = None) -> Interactions:
    """Interactions from a file or folder.

    Args:
        path: a table, or a folder with one of the published layouts, or with a table of interactions and one of titles.
        format: a name in `FORMATS`, "table", or "auto".
        columns: which column holds what; None: guessed.
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
        return FORMATS[format].read(path if path.is_dir() else path.parent)
    return _load_table(path, columns)


def inspect_source(path: Path) -> Preview:
    """What a source looks like: its layout, columns, a guess of what they hold, and its first rows.

    Raises:
        DataError: the source is missing or damaged.
    """
    path = Path(path)
    _check_exists(path)
    layout = recognise(path)
    main, _ = _main_and_titles(path)
    if layout != "table" and path.is_dir():
        main = path / FORMATS[layout].files[0]
    table = open_table(main)
    rows = read_rows(table, limit=20).drop("line")
    guess = guess_columns(rows)
    problems: list[str] = []
    if layout == "table":
        missing = [name for name in ("user", "item") if not getattr(guess, name)]
        problems += [f"No column looks like the {name}. Say below which one it is." for name in missing]
    return Preview(layout, rows.columns, guess, rows, problems)


def recognise(path: Path) -> str:
    """The published layout of a folder (or of the folder that a file lies in, for a file of that name), else "table"."""
    folder = path if path.is_dir() else path.parent
    for name, layout in FORMATS.items():
        if path.is_file() and path.name != layout.files[0]:
            continue
        if (folder / layout.files[0]).is_file() and (
            name == "book-crossing" or all((folder / f).is_file() for f in layout.files)
        ):
            return name
    return "table"


def guess_columns(rows: pl.DataFrame) -> Mapping:
    """A guess by the columns' names."""
    plain = {"".join(c for c in name.casefold() if c.isalnum() or c == "_"): name for name in reversed(rows.columns)}
    squeezed = {key.replace("_", ""): name for key, name in plain.items()}
    found: dict[str, str] = {}
    for what, candidates in NAMES.items():
        for candidate in candidates:
            name = plain.get(candidate) or squeezed.get(candidate.replace("_", ""))
            if name and name not in found.values():
                found[what] = name
                break
    return Mapping(**found)


def _check_exists(path: Path) -> None:
    if not path.exists():
        raise DataError(f"data.path is {str(path)!r}; there is no such file or folder; check the spelling")


def _main_and_titles(path: Path) -> tuple[Path, Path | None]:
    """The table of interactions, and the table of titles beside it, if there is one."""
    if path.is_file():
        return path, None
    tables = [p for p in sorted(path.iterdir()) if p.is_file() and p.suffix.casefold() in TABLE_SUFFIXES]
    tables = [p for p in tables if not p.name.casefold().startswith("readme")]
    if not tables:
        raise DataError(
            f"the folder {path.name!r} holds no table; it must hold a .csv, .tsv, .parquet or .jsonl file of interactions"
        )
    mains, titles = [], []
    for table in tables:
        try:
            guess = guess_columns(read_rows(open_table(table), limit=20))
        except DataError:
            if len(tables) == 1:
                raise
            continue
        if guess.user and guess.item:
            mains.append(table)
        elif guess.title:
            titles.append(table)
    return (mains or tables)[0], titles[0] if titles else None


def _load_table(path: Path, columns: Columns | None) -> Interactions:
    main, beside = _main_and_titles(path)
    table = open_table(main)
    raw = read_rows(table)
    mapping = Mapping(**columns.model_dump()) if columns is not None else guess_columns(raw)
    for what in ("user", "item", "rating", "timestamp", "title"):
        name = getattr(mapping, what)
        if name and name not in raw.columns:
            known = ", ".join(repr(c[:40]) for c in raw.columns[:20])
            raise DataError(f"{main.name!r} has no column {name!r} for the {what}; its columns are {known}")
        if what in ("user", "item") and not name:
            known = ", ".join(repr(c[:40]) for c in raw.columns[:20])
            raise DataError(
                f"{main.name!r}: no column looks like the {what} (found {known}); name it in data.columns.{what}, and check "
                "that the fields are separated as the file says"
            )
    notes = list(table.notes)
    frame = _frame(raw, mapping, notes)
    items = None
    if mapping.title:
        items = raw.select(pl.col(mapping.item).alias("item"), pl.col(mapping.title).alias("title"))
    elif beside is not None:
        items = _titles_table(beside, frame)
    return validate(frame, items, notes)


def _titles_table(path: Path, frame: pl.DataFrame) -> pl.DataFrame | None:
    """item, title from a table beside the interactions; its item column is the one whose values occur there."""
    rows = read_rows(open_table(path))
    title = guess_columns(rows).title
    items = frame["item"].unique()
    overlap = {
        c: int(rows[c].cast(pl.String).is_in(items.implode()).sum()) for c in rows.columns if c not in (title, "line")
    }
    best = max(overlap, key=lambda c: overlap[c], default="")
    if not best or not overlap[best]:
        return None
    return rows.select(pl.col(best).alias("item"), pl.col(title).alias("title"))


def _frame(raw: pl.DataFrame, mapping: Mapping, notes: list[str]) -> pl.DataFrame:
    frame = raw.select(
        "line",
        pl.col(mapping.user).cast(pl.String).alias("user"),
        pl.col(mapping.item).cast(pl.String).alias("item"),
        *([pl.col(mapping.rating).alias("rating")] if mapping.rating else []),
        *([pl.col(mapping.timestamp).alias("timestamp")] if mapping.timestamp else []),
    )
    if mapping.rating:
        frame = frame.with_columns(_numbers(frame, "rating", mapping.rating, pl.Float64))
    if mapping.timestamp:
        frame = frame.with_columns(_times(frame, mapping.timestamp, notes))
    return frame


def _numbers(frame: pl.DataFrame, column: str, name: str, kind: pl.DataType | type[pl.DataType]) -> pl.Series:
    text = frame[column]
    if text.dtype == pl.String:
        text = text.str.strip_chars().replace("", None)
    numbers = text.cast(kind, strict=False)
    bad = frame.filter(numbers.is_null() & text.is_not_null())
    if bad.height:
        raise DataError(
            f"line {bad['line'][0]}, column {name!r}: {str(bad[column][0])[:40]!r} is not a number ({bad.height} such rows); "
            f"correct them, or choose no column for the {column}"
        )
    return numbers.alias(column)


def _times(frame: pl.DataFrame, name: str, notes: list[str]) -> pl.Series:
    """Seconds since 1970, from seconds, milliseconds or ISO text."""
    text = frame["timestamp"]
    if text.dtype in (pl.Datetime, pl.Date):
        return text.cast(pl.Datetime("us")).dt.epoch("s").alias("timestamp")
    if text.dtype == pl.String and text.str.contains(r"^\s*\d{4}-\d\d-\d\d").any():
        stripped = text.str.strip_chars().str.replace("T", " ").str.replace(r"(Z|[+-]\d\d:?\d\d)$", "")
        times = stripped.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", strict=False)
        times = times.fill_null(stripped.str.to_datetime("%Y-%m-%d %H:%M", strict=False))
        times = times.fill_null(stripped.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us")))
        bad = frame.filter(times.is_null() & text.is_not_null())
        if bad.height:
            raise DataError(
                f"line {bad['line'][0]}, column {name!r}: {str(bad['timestamp'][0])[:40]!r} is not a date; "
                "write 2024-12-31 or 2024-12-31 23:59:59"
            )
        notes.append("Dates were read as UTC.")
        return times.dt.epoch("s").alias("timestamp")
    seconds = _numbers(frame, "timestamp", name, pl.Float64)
    if (seconds.median() or 0) >= MILLISECONDS_FROM:  # type: ignore[operator]
        notes.append("Times were given in milliseconds.")
        seconds = seconds / 1_000
    bad = frame.filter(seconds.is_nan() | seconds.is_infinite())
    if bad.height:
        raise DataError(
            f"line {bad['line'][0]}, column {name!r}: {seconds.filter(~seconds.is_finite())[0]} is not a time; "
            "give seconds since 1970"
        )
    return seconds.floor().cast(pl.Int64).alias("timestamp")


# Published layouts


def _published(
    main: str,
    columns: Mapping,
    titles: tuple[str, str, str] | None = None,
    header: tuple[list[str], list[str]] | None = None,
) -> Callable[[Path], Interactions]:
    """A reader of a layout: its file of interactions, and (file, item column, title column) of its titles."""

    def read(folder: Path) -> Interactions:
        table = open_table(folder / main, header[0] if header else None)
        notes = list(table.notes)
        frame = _frame(read_rows(table), columns, notes)
        items = None
        if titles:
            rows = read_rows(open_table(folder / titles[0], header[1] if header else None))
            items = rows.select(pl.col(titles[1]).alias("item"), pl.col(titles[2]).alias("title"))
        return validate(frame, items, notes)

    return read


def _read_lastfm(folder: Path) -> Interactions:
    read = _published("user_artists.dat", Mapping("userID", "artistID"), ("artists.dat", "id", "name"))
    found = read(folder)
    note = "Listening counts are not ratings: these data are histories only, in the order of the file."
    return Interactions(found.frame, found.items, (note, *found.notes))


def _read_book_crossing(folder: Path) -> Interactions:
    table = open_table(folder / "BX-Book-Ratings.csv")
    notes = list(table.notes)
    frame = _frame(read_rows(table), Mapping("User-ID", "ISBN", "Book-Rating"), notes)
    implicit = int((frame["rating"] == 0).sum())
    notes.append(
        f"{implicit} ratings of 0 mean that a book was used but not rated; they count as interactions without a rating."
    )
    rating = pl.when(pl.col("rating") == 0).then(None).otherwise(pl.col("rating")).alias("rating")
    return validate(frame.with_columns(rating), None, notes)


_RATINGS = ["user", "item", "rating", "timestamp"]
_U_ITEM = ["item", "title", *(f"field {i}" for i in range(3, 25))]

FORMATS: dict[str, Format] = {
    "movielens-csv": Format(
        "MovieLens (ratings.csv, movies.csv)",
        "The newer releases: ml-latest, ml-latest-small, 20M, 25M, 32M.",
        ("ratings.csv", "movies.csv"),
        _published(
            "ratings.csv", Mapping("userId", "movieId", "rating", "timestamp"), ("movies.csv", "movieId", "title")
        ),
    ),
    "movielens-dat": Format(
        "MovieLens (ratings.dat, movies.dat)",
        "1M and 10M, fields separated by two colons.",
        ("ratings.dat", "movies.dat"),
        _published(
            "ratings.dat", Mapping(*_RATINGS), ("movies.dat", "item", "title"), (_RATINGS, ["item", "title", "genres"])
        ),
    ),
    "movielens-100k": Format(
        "MovieLens 100K (u.data, u.item)",
        "Tab-separated ratings, titles separated by bars.",
        ("u.data", "u.item"),
        _published("u.data", Mapping(*_RATINGS), ("u.item", "item", "title"), (_RATINGS, _U_ITEM)),
    ),
    "lastfm-2k": Format(
        "HetRec Last.FM (user_artists.dat, artists.dat)",
        "Artists that people listened to, with counts and without times.",
        ("user_artists.dat", "artists.dat"),
        _read_lastfm,
    ),
    "book-crossing": Format(
        "Book-Crossing (BX-Book-Ratings.csv)",
        "Books by ISBN; a rating of 0 means used but not rated.",
        ("BX-Book-Ratings.csv",),
        _read_book_crossing,
    ),
}
