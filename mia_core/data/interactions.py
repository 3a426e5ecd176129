"""Who interacted with what: one validated, ordered table, and the titles of the items."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet

from mia_core import parquet
from mia_core.data.tables import MOST_IN_MEMORY, ROWS_AT_ONCE, RowsOnDisk
from mia_core.errors import DataError

SCHEMA = {"user": pl.String, "item": pl.String, "rating": pl.Float64, "timestamp": pl.Int64}
KEYED_AT_ONCE = 100_000
"""Values of a column that go into the content key together: a part of its definition."""
ROWS_OF_A_BUCKET = 4_000_000
"""Of data that are too many to be held: about so many, of whole users, are put in order at a time."""


@dataclass(frozen=True)
class Interactions:
    """Validated interactions, each user's together and in order of time (or of the file, where there are no times)."""

    table: pl.DataFrame | Path
    """user, item (text), rating (float, null where unknown), timestamp (seconds since 1970, null where unknown); of data that
    are too many to be held the Parquet file that they lie in."""
    items: pl.DataFrame
    """item, title (the item's id where no title is known)."""
    notes: tuple[str, ...] = ()
    """Plain sentences on what was dropped or assumed."""
    unit: str = "user"
    """What a user is: "user", a person, or "session", one visit of somebody whom the data do not name."""
    folder: tempfile.TemporaryDirectory[str] | None = field(default=None, compare=False, repr=False)
    """Where the file lies that was not kept yet; it goes with this object."""

    @cached_property
    def frame(self) -> pl.DataFrame:
        """All interactions in memory."""
        return self.table if isinstance(self.table, pl.DataFrame) else self.rows.collect()

    @property
    def rows(self) -> pl.LazyFrame:
        """All interactions, for questions that can be answered piece by piece."""
        return self.table.lazy() if isinstance(self.table, pl.DataFrame) else parquet.scan(self.table)

    def parts(self) -> Iterator[pl.DataFrame]:
        """The interactions in order, in parts that hold whole users: a single one where they are in memory."""
        if isinstance(self.table, pl.DataFrame):
            yield self.table
            return
        begun = pl.DataFrame(schema=SCHEMA)
        with pyarrow.parquet.ParquetFile(self.table) as file:
            for i in range(file.num_row_groups):
                both = pl.concat([begun, _of_row_group(file, i)])
                # The last user may go on in the next part.
                ended = both["user"] != both["user"][-1]
                yield both.filter(ended)
                begun = both.filter(~ended)
        yield begun

    def changed(self, change: Callable[[pl.DataFrame], pl.DataFrame]) -> Interactions:
        """The interactions after a change that asks of each user alone; `change` is given parts of whole users."""
        if isinstance(self.table, pl.DataFrame):
            return replace(self, table=change(self.table))
        folder = tempfile.TemporaryDirectory(prefix="memberscope-")
        path = Path(folder.name) / "interactions.parquet"
        if _write_parts(path, map(change, self.parts())) > MOST_IN_MEMORY:
            return replace(self, table=path, folder=folder)
        return replace(self, table=parquet.read(path), folder=None)

    def _figure(self, figure: pl.Expr) -> Any:
        return self.rows.select(figure).collect(engine="streaming").item()

    @cached_property
    def has_ratings(self) -> bool:
        """Whether any interaction has a rating."""
        return bool(self._figure(pl.col("rating").is_not_null().any()))

    @cached_property
    def has_timestamps(self) -> bool:
        """Whether every interaction has a time."""
        return bool(self._figure(pl.col("timestamp").is_not_null().all()))

    @cached_property
    def users(self) -> pl.Series:
        """Every user, sorted."""
        return self.rows.select(pl.col("user").unique()).collect(engine="streaming")["user"].sort()

    @cached_property
    def lengths(self) -> np.ndarray:
        """(users,) interactions of each user, in no order."""
        return self.rows.group_by("user").len().collect(engine="streaming")["len"].to_numpy()

    @cached_property
    def counts(self) -> np.ndarray:
        """(items,) interactions with each item, in no order."""
        return self.rows.group_by("item").len().collect(engine="streaming")["len"].to_numpy()

    @property
    def has_titles(self) -> bool:
        """Whether any item has a title of its own."""
        return bool((self.items["item"] != self.items["title"]).any())

    @property
    def popularity_gini(self) -> float:
        """How unequally the interactions are spread over the items: 0 = evenly, towards 1 = all on one item."""
        counts = np.sort(self.counts.astype(float))
        n = len(counts)
        return float((2 * np.arange(1, n + 1) - n - 1) @ counts / (n * counts.sum()))

    @cached_property
    def key(self) -> str:
        """Content key: equal data give equal keys, wherever they were read from."""
        digest = hashlib.sha256(b"" if self.unit == "user" else self.unit.encode())
        size = int(self._figure(pl.len()))
        columns = [(name, str(kind()), size, self._slices(name)) for name, kind in SCHEMA.items()]
        for name in ("item", "title"):
            column = self.items[name]
            columns.append((name, str(column.dtype), len(column), _slices_of(column)))
        for name, kind, length, slices in columns:
            digest.update(json.dumps([name, kind, length]).encode())
            for part in slices:
                digest.update(json.dumps(part.to_list(), ensure_ascii=False, separators=(",", ":")).encode())
        return digest.hexdigest()

    def _slices(self, name: str) -> Iterator[pl.Series]:
        """A column in slices of one length, the last one aside, however it is kept."""
        if isinstance(self.table, pl.DataFrame):
            yield from _slices_of(self.table[name])
            return
        begun = pl.Series(name, [], SCHEMA[name])
        with pyarrow.parquet.ParquetFile(self.table) as file:
            for i in range(file.num_row_groups):
                both = pl.concat([begun, _of_row_group(file, i, name)[name]])
                whole = len(both) // KEYED_AT_ONCE * KEYED_AT_ONCE
                yield from _slices_of(both.head(whole))
                begun = both.slice(whole)
        if len(begun):
            yield begun

    def summary(self) -> dict[str, Any]:
        """What these data are, in figures. `users` counts units: people or sessions."""
        lengths = self.lengths
        return {
            "unit": self.unit,
            "users": len(lengths),
            "items": len(self.counts),
            "interactions": int(lengths.sum()),
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
        if isinstance(self.table, pl.DataFrame):
            self.table.write_parquet(folder / "interactions.parquet")
        else:
            shutil.copyfile(self.table, folder / "interactions.parquet")
        self.items.write_parquet(folder / "items.parquet")
        (folder / "notes.json").write_text(json.dumps(list(self.notes), ensure_ascii=False), encoding="utf-8")
        (folder / "unit.txt").write_text(self.unit, encoding="utf-8")

    @staticmethod
    def read(folder: Path) -> Interactions:
        """The interactions saved in a folder; too many of them stay there."""
        notes = tuple(json.loads((folder / "notes.json").read_text(encoding="utf-8")))
        file = folder / "interactions.parquet"
        many = pyarrow.parquet.read_metadata(file).num_rows > MOST_IN_MEMORY
        table = file if many else parquet.read(file)
        # Data sets saved before there were sessions do not say what their users are.
        unit = folder / "unit.txt"
        kind = unit.read_text(encoding="utf-8") if unit.is_file() else "user"
        return Interactions(table, parquet.read(folder / "items.parquet"), notes, kind)


def _slices_of(column: pl.Series) -> Iterator[pl.Series]:
    return (column.slice(start, KEYED_AT_ONCE) for start in range(0, len(column), KEYED_AT_ONCE))


def _of_row_group(file: pyarrow.parquet.ParquetFile, i: int, *names: str) -> pl.DataFrame:
    """Some columns of a piece of a file, or all."""
    found = pl.from_arrow(file.read_row_group(i, columns=list(names) or None))
    assert isinstance(found, pl.DataFrame)  # noqa: S101 - of a table it makes nothing else
    return found


def _write_parts(path: Path, parts: Iterable[pl.DataFrame]) -> int:
    """Writes interactions one part behind the other; returns how many there are."""
    rows = 0
    with pyarrow.parquet.ParquetWriter(path, pl.DataFrame(schema=SCHEMA).to_arrow().schema, compression="zstd") as file:
        for part in parts:
            file.write_table(part.select(*SCHEMA).to_arrow(), row_group_size=ROWS_AT_ONCE)
            rows += part.height
    return rows


def validate(
    frame: pl.DataFrame | RowsOnDisk,
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
    cleaning = _Cleaning(unit, unit == "session" if repeats is None else repeats)
    if isinstance(frame, RowsOnDisk):
        return cleaning.on_disk(frame, items, notes)
    # One name for every stage of the rows, so that each goes as soon as the next is there.
    frame, names = cleaning.numbered(_whole(frame))
    if frame.is_empty():
        raise DataError(NOTHING)
    _check_numbers(frame.lazy())
    frame = cleaning.without_repetitions(frame)
    without_time = frame["timestamp"].null_count()
    mixed = without_time if without_time < frame.height else 0
    frame = cleaning.in_order(frame, timed=not without_time)
    present = names["item"].gather(frame["item"].unique().sort())
    return Interactions(_named(frame, names), _titles(present, items), cleaning.said(notes, mixed), unit)


class _Cleaning:
    """What is done to raw rows, and the counts of what was left out on the way."""

    def __init__(self, unit: str, repeats: bool) -> None:
        self.unit = unit
        self.repeats = repeats
        self.empty = self.first_empty = self.repeated = self.later = self.lonely = 0

    def on_disk(self, raw: RowsOnDisk, items: pl.DataFrame | None, notes: Sequence[str]) -> Interactions:
        """What `validate` makes of rows that are too many: they go into buckets of whole users, whose order is that of all."""
        folder = tempfile.TemporaryDirectory(prefix="memberscope-")
        buckets = self._put_into_buckets(raw.rows, Path(folder.name))
        without_time = kept = 0
        present = pl.Series("item", [], pl.String)
        for bucket in buckets:
            rows, names = self.numbered(parquet.read(bucket))
            rows = self.without_repetitions(rows)
            without_time += rows["timestamp"].null_count()
            kept += rows.height
            of_file = {name: values.gather(rows[name]).alias(name) for name, values in names.items()}
            rows.with_columns(**of_file).write_parquet(bucket)
            present = pl.concat([present, of_file["item"].unique()]).unique()

        def ordered(bucket: Path) -> pl.DataFrame:
            rows, names = self.numbered(parquet.read(bucket))
            bucket.unlink()
            return _named(self.in_order(rows, timed=not without_time), names)

        path = Path(folder.name) / "interactions.parquet"
        _write_parts(path, map(ordered, buckets))
        mixed = without_time if 0 < without_time < kept else 0
        return Interactions(path, _titles(present.sort(), items), self.said(notes, mixed), self.unit, folder)

    def _put_into_buckets(self, raw: pl.LazyFrame, folder: Path) -> list[Path]:
        rows = _typed(raw)
        there = pl.all_horizontal(pl.col("user", "item").is_not_null())
        left_out = rows.filter(~there).select("line").collect(engine="streaming")["line"]
        self.empty, self.first_empty = len(left_out), int(left_out[0]) if len(left_out) else 0
        rows = rows.filter(there)
        _check_numbers(rows)
        users = rows.group_by("user").len().collect(engine="streaming").sort("user")
        if users.is_empty():
            raise DataError(NOTHING)
        bucket_of = users.select("user", bucket=pl.col("len").cum_sum() // ROWS_OF_A_BUCKET)
        paths = {number: folder / f"bucket-{number}.parquet" for number in bucket_of["bucket"].unique().sort()}
        writers: dict[int, pyarrow.parquet.ParquetWriter] = {}
        for start in range(0, int(raw.select(pl.len()).collect(engine="streaming").item()), ROWS_AT_ONCE):
            part = _typed(raw.slice(start, ROWS_AT_ONCE)).filter(there).collect()
            placed = part.join(bucket_of, on="user", how="left", maintain_order="left")
            for (number,), some in placed.partition_by("bucket", as_dict=True, include_key=False).items():
                written = some.to_arrow()
                if number not in writers:
                    writers[number] = pyarrow.parquet.ParquetWriter(paths[number], written.schema, compression="lz4")
                writers[number].write_table(written)
        for writer in writers.values():
            writer.close()
        return list(paths.values())

    def numbered(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, pl.Series]]:
        """The rows that have a user and an item, with numbers instead of ids, and the sorted ids that they stand for."""
        names: dict[str, pl.Series] = {}
        for name in ("user", "item"):
            ids = frame[name]
            names[name] = ids.drop_nulls().unique().sort()
            frame = frame.with_columns(ids.cast(pl.Enum(names[name])).to_physical().alias(name))
        empty = frame.filter(pl.any_horizontal(pl.col("user", "item").is_null()))
        if empty.height:
            self.empty, self.first_empty = empty.height, int(empty["line"][0])
            frame = frame.drop_nulls(["user", "item"])
        return frame, names

    def without_repetitions(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The first of a user's interactions with each item, where repetitions do not count."""
        if self.repeats:
            return frame
        frame = frame.sort("user", "item", "timestamp", "line", nulls_last=True)
        again = pl.all_horizontal(pl.col("user", "item") == pl.col("user", "item").shift()).fill_null(False)
        first = frame.filter(~again)
        same = again & pl.col("timestamp").eq_missing(pl.col("timestamp").shift())
        alike = frame.filter(same | same.shift(-1, fill_value=False))
        repeated = alike.height - alike.n_unique(["user", "item", "rating", "timestamp"])
        self.repeated += repeated
        self.later += frame.height - first.height - repeated
        return first

    def in_order(self, frame: pl.DataFrame, *, timed: bool) -> pl.DataFrame:
        """Each user's interactions in order of time, or of the file."""
        if not timed:
            frame = frame.with_columns(timestamp=pl.lit(None, pl.Int64))
        # Equal times of a person are put in order of the item, so that the order of the file cannot change a result. In a
        # session the file tells which click came first within a second.
        by_time = ["timestamp", "line" if self.unit == "session" else "item"] if timed else ["line"]
        positions = [name for name in frame.columns if name == "position"]
        frame = frame.sort("user", *positions, *by_time)
        self.lonely += int((np.bincount(frame["user"]) == 1).sum())
        return frame

    def said(self, notes: Sequence[str], without_time: int) -> tuple[str, ...]:
        """What the reader of the file said, and what was left out here.

        Args:
            without_time: interactions that have none, where others do.
        """
        unit = self.unit
        told = (
            (
                self.empty,
                f"{self.empty} rows without a user or an item were left out (first: line {self.first_empty}).",
            ),
            (self.repeated, f"{self.repeated} repeated rows were left out."),
            (
                self.later,
                f"{self.later} later interactions of a user with the same item were left out; the first counts.",
            ),
            (
                without_time,
                f"{without_time} interactions have no time, so no times are used: {unit}s keep the order of the file.",
            ),
            (self.lonely, f"{self.lonely} {unit}s have a single interaction; too few to be audited."),
        )
        return (*notes, *(sentence for count, sentence in told if count))


NOTHING = "the data hold no interactions; give a table with at least one row below its header"


def _whole(frame: pl.DataFrame) -> pl.DataFrame:
    """The columns that rows are checked by, those that may be missing filled up."""
    for name in ("user", "item"):
        if name not in frame.columns:
            raise DataError(f"there is no column for the {name}; say which column holds it")
    if "line" not in frame.columns:
        frame = frame.with_row_index("line", offset=1)
    return _typed(frame.lazy()).collect()


def _typed(rows: pl.LazyFrame) -> pl.LazyFrame:
    """line, position where it is known, user, item, rating, timestamp; ids without spaces around them, null where empty."""
    there = rows.collect_schema().names()
    rows = rows.with_columns(pl.lit(None).alias(name) for name in ("rating", "timestamp") if name not in there)
    positions = [name for name in there if name == "position"]
    rows = rows.select("line", *positions, *(pl.col(name).cast(kind) for name, kind in SCHEMA.items()))
    # Not by `replace`, for which all rows would have to be there at once.
    rows = rows.with_columns(pl.col("user", "item").str.strip_chars())
    return rows.with_columns(pl.when(pl.col(name) != "").then(name).alias(name) for name in ("user", "item"))


def _named(rows: pl.DataFrame, names: dict[str, pl.Series]) -> pl.DataFrame:
    """The rows with ids instead of numbers."""
    return rows.select(*(names[name].gather(rows[name]).alias(name) for name in names), "rating", "timestamp")


def _check_numbers(rows: pl.LazyFrame) -> None:
    wrong = pl.col("rating").is_not_null() & ~pl.col("rating").is_finite()
    bad = rows.filter(wrong).select("line", "rating").collect(engine="streaming")
    if bad.height:
        raise DataError(
            f"line {bad['line'][0]}, column rating: {bad['rating'][0]} is not a finite number ({bad.height} such rows); "
            "leave the field empty where there is no rating"
        )
    latest = int(time.time()) + 2 * 86_400
    wrong = (pl.col("timestamp") < 0) | (pl.col("timestamp") > latest)
    bad = rows.filter(wrong).select("line", "timestamp").collect(engine="streaming")
    if bad.height:
        what = "negative" if bad["timestamp"][0] < 0 else "in the future"
        raise DataError(
            f"line {bad['line'][0]}, column timestamp: {bad['timestamp'][0]} is {what} ({bad.height} such rows); it must be "
            "seconds since 1970 and not after today, or choose no column for the time"
        )


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
