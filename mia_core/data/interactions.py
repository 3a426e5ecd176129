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

import numpy as np
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
    unit: str = "user"
    """What a user is: "user", a person, or "session", one visit of somebody whom the data do not name."""

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

    @property
    def popularity_gini(self) -> float:
        """How unequally the interactions are spread over the items: 0 = evenly, towards 1 = all on one item."""
        counts = np.sort(self.frame.group_by("item").len()["len"].to_numpy().astype(float))
        n = len(counts)
        return float((2 * np.arange(1, n + 1) - n - 1) @ counts / (n * counts.sum()))

    @cached_property
    def key(self) -> str:
        """Content key: equal data give equal keys, wherever they were read from."""
        digest = hashlib.sha256(b"" if self.unit == "user" else self.unit.encode())
        for table in (self.frame.select(*SCHEMA), self.items.select("item", "title")):
            for column in table.iter_columns():
                digest.update(json.dumps([column.name, str(column.dtype), len(column)]).encode())
                for part in column.to_frame().iter_slices(100_000):
                    values = part.to_series().to_list()
                    digest.update(json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode())
        return digest.hexdigest()

    def summary(self) -> dict[str, Any]:
        """What these data are, in figures. `users` counts units: people or sessions."""
        lengths = self.frame.group_by("user").len()["len"].to_numpy()
        return {
            "unit": self.unit,
            "users": len(lengths),
            "items": self.frame["item"].n_unique(),
            "interactions": self.frame.height,
            "ratings": self.has_ratings,
            "timestamps": self.has_timestamps,
            "titles": self.has_titles,
            "popularity_gini": self.popularity_gini,
            "median_length": float(np.median(lengths)),
            "longest": int(np.max(lengths)),
            "notes": list(self.notes),
        }

    def write(self, folder: Path) -> None:
        """Saves as Parquet."""
        self.frame.write_parquet(folder / "interactions.parquet")
        self.items.write_parquet(folder / "items.parquet")
        (folder / "notes.json").write_text(json.dumps(list(self.notes), ensure_ascii=False), encoding="utf-8")
        (folder / "unit.txt").write_text(self.unit, encoding="utf-8")

    @staticmethod
    def read(folder: Path) -> Interactions:
        """The interactions saved in a folder."""
        notes = tuple(json.loads((folder / "notes.json").read_text(encoding="utf-8")))
        frame = pl.read_parquet(folder / "interactions.parquet")
        # Data sets saved before there were sessions do not say what their users are.
        unit = folder / "unit.txt"
        kind = unit.read_text(encoding="utf-8") if unit.is_file() else "user"
        return Interactions(frame, pl.read_parquet(folder / "items.parquet"), notes, kind)


def validate(
    frame: pl.DataFrame,
    items: pl.DataFrame | None = None,
    notes: Sequence[str] = (),
    unit: str = "user",
    repeats: bool | None = None,
) -> Interactions:
    """Interactions from raw columns: checked, without repetitions, in order.

    Args:
        frame: user, item, and where known rating (number) and timestamp (seconds), or position (number) where the order is
            known and no time. A column ``line`` names the line of the file in messages; without it rows are counted from 1.
        items: item, title.
        notes: what the reader of the file has to say.
        unit: see `Interactions`.
        repeats: whether a user's later interactions with the same item stay; None: in sessions only.
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
    positions = [name for name in frame.columns if name == "position"]
    frame = frame.select("line", *positions, *(pl.col(name).cast(kind) for name, kind in SCHEMA.items()))
    frame, names = _numbered(frame, said)
    _check_numbers(frame)
    if not (unit == "session" if repeats is None else repeats):
        frame = _without_repetitions(frame, said)
    timed = frame["timestamp"].null_count()
    if 0 < timed < frame.height:
        said.append(f"{timed} interactions have no time, so no times are used: {unit}s keep the order of the file.")
        frame = frame.with_columns(timestamp=pl.lit(None, pl.Int64))
    # Equal times of a person are put in order of the item, so that the order of the file cannot change a result. In a
    # session the file tells which click came first within a second.
    by_time = ["line"] if timed else ["timestamp", "line" if unit == "session" else "item"]
    frame = frame.sort("user", *positions, *by_time)
    lonely = int((np.bincount(frame["user"]) == 1).sum())
    if lonely:
        said.append(f"{lonely} {unit}s have a single interaction; too few to be audited.")
    present = names["item"].gather(frame["item"].unique().sort())
    frame = frame.select(*(names[name].gather(frame[name]).alias(name) for name in names), "rating", "timestamp")
    return Interactions(frame, _titles(present, items), tuple(said), unit)


def _numbered(frame: pl.DataFrame, said: list[str]) -> tuple[pl.DataFrame, dict[str, pl.Series]]:
    """The rows that have a user and an item, with numbers instead of ids, and the sorted ids that the numbers stand for."""
    names: dict[str, pl.Series] = {}
    for name in ("user", "item"):
        ids = frame[name].str.strip_chars().replace("", None)
        names[name] = ids.drop_nulls().unique().sort()
        frame = frame.with_columns(ids.cast(pl.Enum(names[name])).to_physical().alias(name))
    empty = frame.filter(pl.any_horizontal(pl.col("user", "item").is_null()))
    if empty.height:
        said.append(f"{empty.height} rows without a user or an item were left out (first: line {empty['line'][0]}).")
        frame = frame.drop_nulls(["user", "item"])
    if frame.is_empty():
        raise DataError("the data hold no interactions; give a table with at least one row below its header")
    return frame, names


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
    frame = frame.sort("user", "item", "timestamp", "line", nulls_last=True)
    again = pl.all_horizontal(pl.col("user", "item") == pl.col("user", "item").shift()).fill_null(False)
    first = frame.filter(~again)
    same = again & pl.col("timestamp").eq_missing(pl.col("timestamp").shift())
    alike = frame.filter(same | same.shift(-1, fill_value=False))
    repeated = alike.height - alike.n_unique(["user", "item", "rating", "timestamp"])
    if repeated:
        said.append(f"{repeated} repeated rows were left out.")
    later = frame.height - first.height - repeated
    if later:
        said.append(f"{later} later interactions of a user with the same item were left out; the first counts.")
    return first


def _titles(ids: pl.Series, items: pl.DataFrame | None) -> pl.DataFrame:
    present = ids.to_frame("item")
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
