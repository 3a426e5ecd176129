"""Who interacted with what: one validated, ordered table, and the titles of the items."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from mia_core.errors import DataError

SCHEMA = {"user": pl.String, "item": pl.String, "rating": pl.Float64, "timestamp": pl.Int64}


@dataclass(frozen=True)
class Interactions:
    """Validated interactions, each user's in order of time (or of the file, where there are no times)."""

    frame: pl.DataFrame
    """user, item (text), rating (float, null where unknown), timestamp (seconds since 1970, null where unknown)."""
    items: pl.DataFrame
    """item, title (the item's id where no title is known)."""
    notes: tuple[str, ...] = ()
    """Plain sentences on what was dropped or assumed."""

    @property
    def has_ratings(self) -> bool:
        """Whether any interaction has a rating."""
        return self.frame["rating"].null_count() < self.frame.height

    @property
    def has_timestamps(self) -> bool:
        """Whether every interaction has a time."""
        return self.frame["timestamp"].null_count() == 0

    @property
    def has_titles(self) -> bool:
        """Whether any item has a title of its own."""
        return bool((self.items["item"] != self.items["title"]).any())

    @cached_property
    def key(self) -> str:
        """Content key: equal data give equal keys, wherever they were read from."""
        digest = hashlib.sha256()
        for table in (self.frame.select(*SCHEMA), self.items.select("item", "title")):
            for column in table.iter_columns():
                digest.update(json.dumps([column.name, str(column.dtype), len(column)]).encode())
                for part in column.to_frame().iter_slices(100_000):
                    values = part.to_series().to_list()
                    digest.update(json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode())
        return digest.hexdigest()

    def summary(self) -> dict[str, Any]:
        """What these data are, in figures."""
        return {
            "users": self.frame["user"].n_unique(),
            "items": self.frame["item"].n_unique(),
            "interactions": self.frame.height,
            "ratings": self.has_ratings,
            "timestamps": self.has_timestamps,
            "titles": self.has_titles,
            "notes": list(self.notes),
        }

    def write(self, folder: Path) -> None:
        """Saves as Parquet."""
        self.frame.write_parquet(folder / "interactions.parquet")
        self.items.write_parquet(folder / "items.parquet")
        (folder / "notes.json").write_text(json.dumps(list(self.notes), ensure_ascii=False), encoding="utf-8")

    @staticmethod
    def read(folder: Path) -> Interactions:
        """The interactions saved in a folder."""
        notes = tuple(json.loads((folder / "notes.json").read_text(encoding="utf-8")))
        frame = pl.read_parquet(folder / "interactions.parquet")
        return Interactions(frame, pl.read_parquet(folder / "items.parquet"), notes)


def validate(frame: pl.DataFrame, items: pl.DataFrame | None = None, notes: Sequence[str] = ()) -> Interactions:
    """Interactions from raw columns: checked, without repetitions, in order.

    Args:
        frame: user, item, and where known rating (number) and timestamp (seconds). A column ``line`` names the line
            of the file in messages; without it rows are counted from 1.
        items: item, title.
        notes: what the reader of the file has to say.
    Raises:
        DataError: a column is missing, nothing is left, a rating is not finite, a time is negative or in the future.
    """
    said = list(notes)
    for name in ("user", "item"):
        if name not in frame.columns:
            raise DataError(f"there is no column for the {name}; say which column holds it")
    if "line" not in frame.columns:
        frame = frame.with_row_index("line", offset=1)
    for name in ("rating", "timestamp"):
        if name not in frame.columns:
            frame = frame.with_columns(pl.lit(None).alias(name))
    frame = frame.select("line", *(pl.col(name).cast(kind) for name, kind in SCHEMA.items()))
    frame = frame.with_columns(pl.col("user", "item").str.strip_chars())
    empty = frame.filter(pl.any_horizontal(pl.col("user", "item").is_null() | (pl.col("user", "item") == "")))
    if empty.height:
        said.append(f"{empty.height} rows without a user or an item were left out (first: line {empty['line'][0]}).")
        frame = frame.join(empty.select("line"), on="line", how="anti", maintain_order="left")
    if frame.is_empty():
        raise DataError("the data hold no interactions; give a table with at least one row below its header")
    _check_numbers(frame)
    frame = _without_repetitions(frame, said)
    timed = frame["timestamp"].null_count()
    if 0 < timed < frame.height:
        said.append(f"{timed} interactions have no time, so no times are used: users keep the order of the file.")
        frame = frame.with_columns(timestamp=pl.lit(None, pl.Int64))
    # Equal times are put in order of the item, so that the order of the file cannot change a result.
    order = ["user", "line"] if frame["timestamp"].null_count() else ["user", "timestamp", "item"]
    frame = frame.sort(order).select(*SCHEMA)
    lonely = frame.group_by("user").len().filter(pl.col("len") == 1).height
    if lonely:
        said.append(f"{lonely} users have a single interaction; too few to be audited.")
    return Interactions(frame, _titles(frame, items), tuple(said))


def _check_numbers(frame: pl.DataFrame) -> None:
    bad = frame.filter(pl.col("rating").is_not_null() & ~pl.col("rating").is_finite())
    if bad.height:
        raise DataError(
            f"line {bad['line'][0]}, column rating: {bad['rating'][0]} is not a finite number ({bad.height} such rows); "
            "leave the field empty where there is no rating"
        )
    latest = int(time.time()) + 2 * 86_400
    bad = frame.filter((pl.col("timestamp") < 0) | (pl.col("timestamp") > latest))
    if bad.height:
        what = "negative" if bad["timestamp"][0] < 0 else "in the future"
        raise DataError(
            f"line {bad['line'][0]}, column timestamp: {bad['timestamp'][0]} is {what} ({bad.height} such rows); it must be "
            "seconds since 1970 and not after today, or choose no column for the time"
        )


def _without_repetitions(frame: pl.DataFrame, said: list[str]) -> pl.DataFrame:
    distinct = frame.unique(["user", "item", "rating", "timestamp"], keep="first", maintain_order=True)
    if distinct.height < frame.height:
        said.append(f"{frame.height - distinct.height} repeated rows were left out.")
    first = distinct.sort(["user", "timestamp", "line"], nulls_last=True).unique(
        ["user", "item"], keep="first", maintain_order=True
    )
    if first.height < distinct.height:
        said.append(
            f"{distinct.height - first.height} later interactions of a user with the same item were left out; the first counts."
        )
    return first


def _titles(frame: pl.DataFrame, items: pl.DataFrame | None) -> pl.DataFrame:
    present = frame.select("item").unique().sort("item")
    if items is None or items.is_empty():
        return present.with_columns(title=pl.col("item"))
    # A line break inside a title would look like two titles to a reader.
    title = pl.col("title").cast(pl.String).str.replace_all(r"\s+", " ").str.strip_chars()
    known = items.select(pl.col("item").cast(pl.String).str.strip_chars(), title).filter(
        pl.col("title").is_not_null() & (pl.col("title") != "")
    )
    known = known.unique("item", keep="first", maintain_order=True)
    joined = present.join(known, on="item", how="left")
    return joined.with_columns(pl.col("title").fill_null(pl.col("item"))).sort("item")
