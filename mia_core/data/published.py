"""The published layouts of well-known data sets."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from pathlib import Path

import polars as pl

from mia_core.data.columns import Mapping, as_text, interactions_frame
from mia_core.data.interactions import Interactions, validate
from mia_core.data.tables import Table, open_table, read_rows


@dataclass(frozen=True)
class Format:
    """One published layout."""

    title: str
    summary: str
    files: tuple[str, ...]
    """Names of the interactions' file and, if any, of the titles' file."""
    columns: Mapping
    title_columns: tuple[str, str] = ("item", "title")
    """Columns of the titles' file that hold the item and its title."""
    headers: tuple[tuple[str, ...], ...] = ()
    """Column names of each file, where the files have no header lines."""
    zero_is_unrated: bool = False
    note: str = ""
    """What its reader should know."""

    def open(self, folder: Path, file: int = 0) -> Table:
        """One of the layout's files.

        Raises:
            DataError: the file is missing or damaged.
        """
        return open_table(folder / self.files[file], self.headers[file] if self.headers else None)

    def fits(self, folder: Path) -> bool:
        """Whether a folder holds the layout's files, with its columns: other tables go by the same names, too."""
        if not all((folder / file).is_file() for file in self.files):
            return False
        wanted = [{name for name in astuple(self.columns) if name}, set(self.title_columns)]
        return all(wanted[i] <= set(self.open(folder, i).header) for i in range(len(self.files)))

    def read(self, folder: Path) -> Interactions:
        """The interactions in a folder that `fits`.

        Raises:
            DataError: a file is missing or damaged, or a row cannot be read.
        """
        table = self.open(folder)
        notes = [self.note] * bool(self.note) + table.notes
        frame = interactions_frame(read_rows(table), self.columns, notes)
        if self.zero_is_unrated:
            zeros = int((frame["rating"] == 0).sum())
            notes.append(f"{zeros} ratings of 0 mean used but not rated; they count as interactions without a rating.")
            frame = frame.with_columns(pl.col("rating").replace(0.0, None))
        if len(self.files) == 1:
            return validate(frame, None, notes)
        rows = read_rows(self.open(folder, 1))
        item, title = self.title_columns
        return validate(frame, pl.DataFrame([as_text(rows, item, "item"), as_text(rows, title, "title")]), notes)


_RATINGS = ("user", "item", "rating", "timestamp")

FORMATS: dict[str, Format] = {
    "movielens-csv": Format(
        "MovieLens (ratings.csv, movies.csv)",
        "The newer releases: ml-latest, ml-latest-small, 20M, 25M, 32M.",
        ("ratings.csv", "movies.csv"),
        Mapping("userId", "movieId", "rating", "timestamp"),
        ("movieId", "title"),
    ),
    "movielens-dat": Format(
        "MovieLens (ratings.dat, movies.dat)",
        "1M and 10M, fields separated by two colons.",
        ("ratings.dat", "movies.dat"),
        Mapping(*_RATINGS),
        headers=(_RATINGS, ("item", "title", "genres")),
    ),
    "movielens-100k": Format(
        "MovieLens 100K (u.data, u.item)",
        "Tab-separated ratings, titles separated by bars.",
        ("u.data", "u.item"),
        Mapping(*_RATINGS),
        headers=(_RATINGS, ("item", "title", *(f"field {i}" for i in range(3, 25)))),
    ),
    "lastfm-2k": Format(
        "HetRec Last.FM (user_artists.dat, artists.dat)",
        "Artists that people listened to, with counts and without times.",
        ("user_artists.dat", "artists.dat"),
        Mapping("userID", "artistID"),
        ("id", "name"),
        note="Listening counts are not ratings: these data are histories only, in the order of the file.",
    ),
    "book-crossing": Format(
        "Book-Crossing (BX-Book-Ratings.csv)",
        "Books by ISBN; a rating of 0 means used but not rated.",
        ("BX-Book-Ratings.csv",),
        Mapping("User-ID", "ISBN", "Book-Rating"),
        zero_is_unrated=True,
    ),
}
