"""The published layouts of well-known data sets."""

from __future__ import annotations

from dataclasses import astuple, dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

import polars as pl

from mia_core.data.columns import Mapping, guess_columns, interactions_frame, titles_frame
from mia_core.data.instructions import histories
from mia_core.data.interactions import Interactions, validate
from mia_core.data.tables import RowsOnDisk, Table, Wanted, column_names, open_table
from mia_core.errors import DataError


@dataclass(frozen=True)
class Format:
    """One published layout."""

    title: str
    summary: str
    files: tuple[str, ...]
    """Names of the interactions' file and of the titles' file, which may be missing; ``*`` stands for any letters."""
    columns: Mapping = Mapping()  # noqa: RUF009
    """Empty: told by the columns' names."""
    title_columns: tuple[str, str] = ("", "")
    """Columns of the titles' file that hold the item and its title; empty: told by their names."""
    headers: tuple[tuple[str, ...], ...] = ()
    """Column names of each file, where the files have no header lines."""
    zero_is_unrated: bool = False
    escape: str = ""
    """What stands before a quote inside a quoted title; empty: such a quote is written twice."""
    raw_columns: tuple[str, ...] = ()
    """Columns of the file itself, where `prepare` makes others of them."""
    prepare: Wanted = lambda rows: rows
    """Makes rows of one interaction each of the file's rows."""
    note: str = ""
    """What its reader should know."""

    def find(self, path: Path) -> tuple[Path, Path | None] | None:
        """The file of interactions and that of titles, if `path` is such a file or a folder that holds one.

        Files count only if they have the layout's columns: other tables go by the same names, too.
        """
        folder = path.parent if path.is_file() else path
        files = sorted(file for file in folder.iterdir() if file.is_file()) if folder.is_dir() else []
        named = [[file for file in files if fnmatchcase(file.name, pattern)] for pattern in self.files]
        mains = [file for file in named[0] if (path.is_dir() or file.name == path.name) and self._fits(file)]
        if not mains:
            return None
        main = max(mains, key=lambda file: file.stat().st_size)
        if len(self.files) == 1 or not named[1]:
            return main, None
        titles = [file for file in named[1] if self._names_items(file)]
        if len(titles) > 1:
            titles = [file for file in titles if main.stem in file.stem]
        return (main, titles[0]) if titles else None

    def open(self, path: Path) -> Table:
        """The interactions' file.

        Raises:
            DataError: the file is missing or damaged.
        """
        return open_table(path, self.headers[0] if self.headers else None)

    def mapping(self, table: Table) -> Mapping:
        """Which column of the interactions' file holds what."""
        return self.columns if self.columns.user else guess_columns(column_names(table))

    def read(self, path: Path, repeats: bool | None = None) -> Interactions:
        """The interactions of a file or folder.

        Raises:
            DataError: a file is missing or damaged, or a row cannot be read.
        """
        found = self.find(path) or (self.find(path.parent) if path.is_file() else None)
        main, beside = found or (path if path.is_file() else path / self.files[0], None)
        table = self.open(main)
        mapping = self.mapping(table)
        notes = [self.note] * bool(self.note) + table.notes
        items = None
        if mapping.title:
            items = titles_frame(table, mapping.item, mapping.title, self.prepare)
        elif beside is not None:
            items = self._titles(beside, notes)
        # The rows are handed on without a name of their own here, so that they can go as soon as they are sorted.
        return validate(self._rows(table, mapping, notes), items, notes, mapping.unit, repeats)

    def _rows(self, table: Table, mapping: Mapping, notes: list[str]) -> pl.DataFrame | RowsOnDisk:
        frame = interactions_frame(table, mapping, notes, self.prepare)
        if not self.zero_is_unrated:
            return frame
        rows = frame.rows if isinstance(frame, RowsOnDisk) else frame.lazy()
        zeros = int(rows.select((pl.col("rating") == 0).sum()).collect(engine="streaming").item())
        notes.append(f"{zeros} ratings of 0 mean used but not rated; they count as interactions without a rating.")
        rated = rows.with_columns(pl.col("rating").replace(0.0, None))
        return replace(frame, rows=rated) if isinstance(frame, RowsOnDisk) else rated.collect()

    def _titles(self, path: Path, notes: list[str]) -> pl.DataFrame | None:
        table = self._open_titles(path)
        item, title = self._title_columns(table)
        told = len(table.notes)
        titles = titles_frame(table, item, title) if item and title else None
        notes += table.notes[told:]
        return titles

    def _open_titles(self, path: Path) -> Table:
        # A damaged title costs that title, not the audit.
        return open_table(path, self.headers[1] if self.headers else None, self.escape, patient=True)

    def _title_columns(self, table: Table) -> tuple[str, str]:
        guess = guess_columns(column_names(table))
        return self.title_columns if self.title_columns[0] else (guess.item, guess.title)

    def _names_items(self, path: Path) -> bool:
        try:
            table = self._open_titles(path)
            return {name for name in self.title_columns if name} <= set(table.header)
        except DataError:
            return False

    def _fits(self, path: Path) -> bool:
        try:
            table = self.open(path)
            if self.headers:
                # Without a header line only the fields tell.
                interactions_frame(table, self.columns, [], limit=1)
                return True
            mapping = Mapping(*self.raw_columns[:2]) if self.raw_columns else self.mapping(table)
        except DataError:
            return False
        wanted = self.raw_columns or tuple(name for name in astuple(mapping) if name)
        return bool(mapping.user and mapping.item) and set(wanted) <= set(table.header)


def _one_item_a_row(rows: pl.LazyFrame) -> pl.LazyFrame:
    lists = [name for name in rows.collect_schema().names() if name.startswith("item_id_list")]
    if lists:
        raise DataError(
            f"column {lists[0]!r} holds whole histories that were cut into overlapping parts; give the .inter file that "
            "they were cut from, with one interaction a row"
        )
    return rows


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
        ("item", "title"),
        headers=(_RATINGS, ("item", "title", "genres")),
    ),
    "movielens-100k": Format(
        "MovieLens 100K (u.data, u.item)",
        "Tab-separated ratings, titles separated by bars.",
        ("u.data", "u.item"),
        Mapping(*_RATINGS),
        ("item", "title"),
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
    "delicious-2k": Format(
        "HetRec Delicious (user_taggedbookmarks-timestamps.dat, bookmarks.dat)",
        "Pages that people bookmarked, a row for each tag, with times.",
        ("user_taggedbookmarks-timestamps.dat", "bookmarks.dat"),
        Mapping("userID", "bookmarkID", timestamp="timestamp"),
        ("id", "title"),
        note="A bookmark has a row for each of its tags; it counts once, at its first time.",
    ),
    "book-crossing": Format(
        "Book-Crossing (BX-Book-Ratings.csv, BX-Books.csv)",
        "Books by ISBN; a rating of 0 means used but not rated.",
        ("BX-Book-Ratings.csv", "BX-Books.csv"),
        Mapping("User-ID", "ISBN", "Book-Rating"),
        ("ISBN", "Book-Title"),
        zero_is_unrated=True,
        escape="\\",
    ),
    "yoochoose-clicks": Format(
        "YooChoose clicks (yoochoose-clicks.dat)",
        "RecSys Challenge 2015: session, time, item and category of each click.",
        ("yoochoose-clicks*.dat",),
        Mapping("session", "item", timestamp="timestamp"),
        headers=(("session", "timestamp", "item", "category"),),
    ),
    "yoochoose-sessions": Format(
        "YooChoose sessions (sessions.csv)",
        "The shortened version, 1/64: session, position and item, without times.",
        ("sessions.csv",),
        Mapping("session_id", "item_id", timestamp="position"),
    ),
    "amazon-2018": Format(
        "Amazon reviews up to 2018 (JSON lines)",
        "reviewerID, asin, overall and unixReviewTime; titles from the file that begins with meta_.",
        ("*.json", "meta_*.json"),
        Mapping("reviewerID", "asin", "overall", "unixReviewTime"),
        ("asin", "title"),
    ),
    "amazon-2023": Format(
        "Amazon reviews of 2023 (JSON lines)",
        "user_id, parent_asin, rating and timestamp; titles from the file that begins with meta_.",
        ("*.jsonl", "meta_*.jsonl"),
        Mapping("user_id", "parent_asin", "rating", "timestamp"),
        ("parent_asin", "title"),
    ),
    "amazon-ratings": Format(
        "Amazon ratings (ratings_*.csv)",
        "User, item, rating and time of each review, without a header line.",
        ("ratings_*.csv",),
        Mapping(*_RATINGS),
        headers=(_RATINGS,),
    ),
    "recbole": Format(
        "RecBole atomic files (.inter, .item)",
        "Tab-separated, the kind of each column in its name, such as user_id:token.",
        ("*.inter", "*.item"),
        prepare=_one_item_a_row,
    ),
    "tallrec": Format(
        "TALLRec instructions (train.json)",
        "Liked titles, disliked titles, and whether one more was liked.",
        ("*.json",),
        Mapping("user", "item", "rating", "position", "title"),
        raw_columns=("instruction", "input", "output"),
        prepare=histories,
        note="The records name no people. A record that goes on from the one before it, its oldest title dropped and the one "
        "that was asked for added, is taken for the same person's; every other record for a person of its own. Of the "
        "titles of a first record, the liked ones stand before the disliked ones. Yes and liked are 1, No and disliked 0.",
    ),
}
