"""Which column of a table holds what, and its values as ids, numbers and times."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import polars as pl

from mia_core.data.tables import RowsOnDisk, Table, Wanted, many_rows, read_rows, rows_on_disk
from mia_core.errors import DataError

SESSIONS = ("session", "sessionid", "session_id")
POSITIONS = ("position",)
"""Columns that put interactions in order and tell no time."""
NAMES = {
    "user": ("user", "userid", "user_id", "uid", "customer", "customerid", "customer_id", "member", *SESSIONS,
             "reviewerid", "account", "visitor", "visitorid", "u"),
    "item": ("item", "itemid", "item_id", "iid", "movie", "movieid", "movie_id", "isbn", "product", "productid",
             "product_id", "parent_asin", "asin", "artistid", "artist_id", "book", "bookid", "book_id", "song", "track",
             "article", "i"),
    "rating": ("rating", "ratings", "score", "stars", "bookrating", "book_rating", "overall", "preference", "r"),
    "timestamp": ("timestamp", "time", "date", "datetime", "unixtime", "unixreviewtime", "ts", "t", "when", *POSITIONS),
    "title": ("title", "name", "itemname", "item_name", "itemtitle", "item_title", "movietitle", "booktitle", "book_title"),
}  # fmt: skip
KIND = re.compile(":(token|float)(_seq)?$")
LONGEST_FIELD = 40_000
UNITS = ((1e17, 1e9, "nanoseconds"), (1e14, 1e6, "microseconds"), (1e11, 1e3, "milliseconds"))
"""Times from this size on are in this many parts of a second."""
LATEST_SECOND = 1e12
TRIED = 100_000
"""The first rows, from which it is told what a column's times are."""


@dataclass(frozen=True)
class Mapping:
    """A guess of which column holds what; empty where none seems to."""

    user: str = ""
    item: str = ""
    rating: str = ""
    timestamp: str = ""
    title: str = ""

    @property
    def unit(self) -> str:
        """What a "user" of the table is: a session where the column is called so, else a user."""
        return "session" if _plain(self.user) in SESSIONS else "user"


def guess_columns(names: Sequence[str]) -> Mapping:
    """A guess by the columns' names."""
    plain = {_plain(name): name for name in reversed(names)}
    squeezed = {key.replace("_", ""): name for key, name in plain.items()}
    found: dict[str, str] = {}
    for what, candidates in NAMES.items():
        for candidate in candidates:
            name = plain.get(candidate) or squeezed.get(candidate.replace("_", ""))
            if name and name not in found.values():
                found[what] = name
                break
    return Mapping(**found)


def _plain(name: str) -> str:
    """A column's name in lower case, without the kind that atomic files add to it (``user_id:token``)."""
    return "".join(c for c in KIND.sub("", name.casefold()) if c.isalnum() or c == "_")


def interactions_frame(
    table: Table, mapping: Mapping, notes: list[str], prepare: Wanted = lambda rows: rows, limit: int | None = None
) -> pl.DataFrame | RowsOnDisk:
    """line, user, item, and where mapped rating and timestamp (or position), as `validate` wants them; on disk where there
    are too many.

    Args:
        notes: what was assumed is added here.
        prepare: makes rows of one interaction each of the file's rows.
        limit: reads only so many rows of the file.
    Raises:
        DataError: a field is absurdly long, a rating is not a number, a time is neither a number nor a date.
    """
    ordered = _plain(mapping.timestamp) in POSITIONS
    parts = _parts_of_a_second(table, mapping.timestamp, prepare, notes) if mapping.timestamp and not ordered else None

    def readings(kinds: pl.Schema) -> list[_Reading]:
        found = [_text(mapping.user, "user", kinds), _text(mapping.item, "item", kinds)]
        if mapping.rating:
            found.append(_number(mapping.rating, "rating", kinds))
        if mapping.timestamp:
            time = mapping.timestamp
            found.append(_number(time, "position", kinds) if ordered else _time(time, parts, kinds))
        return found

    if limit is None and many_rows(table):
        return _read_on_disk(table, prepare, readings)
    return _read(table, prepare, readings, limit=limit)


def titles_frame(table: Table, item: str, title: str, prepare: Wanted = lambda rows: rows) -> pl.DataFrame:
    """item, title: every pair in a table, once.

    Raises:
        DataError: a field is absurdly long.
    """
    found = _read(
        table, prepare, lambda kinds: [_text(item, "item", kinds), _text(title, "title", kinds)], distinct=True
    )
    return found.drop("line")


def as_text(raw: pl.DataFrame, name: str, alias: str) -> pl.Series:
    """A column as text; whole numbers without a decimal point.

    Raises:
        DataError: a field is longer than any id or title.
    """
    reading = _text(name, alias, raw.schema)
    frame = reading.apply(raw.lazy()).select("line", *reading.columns()).collect()
    reading.check(frame.lazy(), lambda line: raw.row(by_predicate=pl.col("line") == line, named=True)[name])
    return frame[alias]


@dataclass(frozen=True)
class _Reading:
    """How one column is read, and what is said where a field is something else."""

    name: str
    alias: str
    steps: tuple[Sequence[pl.Expr], ...]
    """Columns to be added one after the other; the last is called `read`."""
    wrong: tuple[tuple[str, pl.Expr], ...] = ()
    """(complaint, true where it applies)"""

    def apply(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        """Adds the columns. Step by step, because what is used twice in one expression is computed twice."""
        for step in self.steps:
            rows = rows.with_columns(step)
        return rows

    def columns(self) -> list[pl.Expr]:
        """The values, and a column of truth values for each complaint."""
        wrong = [bad.alias(f"{self.alias} {i}") for i, (_, bad) in enumerate(self.wrong)]
        return [_step(self.alias, "read").alias(self.alias), *wrong]

    def check(self, rows: pl.LazyFrame, field: Callable[[int], Any]) -> None:
        """Raises the first complaint that applies to any row; `field` gives what a line of the file holds."""
        for i, (complaint, _) in enumerate(self.wrong):
            bad = rows.filter(pl.col(f"{self.alias} {i}")).select("line").collect(engine="streaming")
            if bad.height:
                line = int(bad["line"][0])
                value = field(line)
                shown = repr(value[:40]) if isinstance(value, str) else str(value)[:40]
                raise DataError(f"line {line}, column {self.name!r}: {complaint.format(value=shown, rows=bad.height)}")


def _step(alias: str, what: str) -> pl.Expr:
    return pl.col(f"{alias} {what}")


def _read(
    table: Table,
    prepare: Wanted,
    readings: Callable[[pl.Schema], list[_Reading]],
    *,
    limit: int | None = None,
    distinct: bool = False,
) -> pl.DataFrame:
    wanted, used = _wanted(prepare, readings, distinct=distinct)
    frame = read_rows(table, limit, wanted)
    _check(frame.lazy(), used, table, limit, prepare)
    return frame.select("line", *(reading.alias for reading in used))


def _read_on_disk(table: Table, prepare: Wanted, readings: Callable[[pl.Schema], list[_Reading]]) -> RowsOnDisk:
    wanted, used = _wanted(prepare, readings)
    found = rows_on_disk(table, wanted)
    _check(found.rows, used, table, None, prepare)
    return RowsOnDisk(found.rows.select("line", *(reading.alias for reading in used)), found.folder)


def _wanted(
    prepare: Wanted, readings: Callable[[pl.Schema], list[_Reading]], *, distinct: bool = False
) -> tuple[Wanted, list[_Reading]]:
    """What is wanted of a table, and the readings that it is made of: these are known once it was asked for."""
    used: list[_Reading] = []

    def wanted(rows: pl.LazyFrame) -> pl.LazyFrame:
        rows = prepare(rows)
        used[:] = readings(rows.collect_schema())
        for reading in used:
            rows = reading.apply(rows)
        rows = rows.select("line", *(column for reading in used for column in reading.columns()))
        return rows.unique([reading.alias for reading in used], keep="first", maintain_order=True) if distinct else rows

    return wanted, used


def _check(rows: pl.LazyFrame, used: list[_Reading], table: Table, limit: int | None, prepare: Wanted) -> None:
    def field(name: str, line: int) -> Any:
        return read_rows(table, limit, lambda rows: prepare(rows).filter(line=line).select(name).head(1)).item()

    for reading in used:
        reading.check(rows, partial(field, reading.name))


def _text(name: str, alias: str, kinds: pl.Schema) -> _Reading:
    values, kind = pl.col(name), _kind(name, alias, kinds)
    if kind == pl.Binary:
        raise DataError(f"column {name!r} holds bytes, not text; save it as text in UTF-8, or choose another column")
    text = values.cast(pl.String)
    if kind.is_float():
        # Tables with gaps often keep whole ids as floats.
        values = values.fill_nan(None)
        whole = (values.drop_nulls() % 1 == 0).all()
        text = (
            pl.when(whole).then(values.cast(pl.Int64, strict=False).cast(pl.String)).otherwise(values.cast(pl.String))
        )
    complaint = (
        f"the field is longer than {LONGEST_FIELD:,} bytes, which no id or title is; close the quote that is open there, "
        "or choose another column"
    )
    too_long = _step(alias, "read").str.len_bytes() > LONGEST_FIELD
    return _Reading(name, alias, ([text.alias(f"{alias} read")],), ((complaint, too_long),))


def _number(name: str, alias: str, kinds: pl.Schema) -> _Reading:
    numbers = _step(alias, "given").cast(pl.Float64, strict=False)
    complaint = f"{{value}} is not a number ({{rows}} such rows); correct them, or choose no column for the {alias}"
    return _Reading(
        name, alias, (_given(name, alias, kinds), [numbers.alias(f"{alias} read")]), (_unread(alias, complaint),)
    )


def _kind(name: str, what: str, kinds: pl.Schema) -> pl.DataType:
    if name not in kinds:
        found = ", ".join(repr(other[:40]) for other in list(kinds)[:20] if other != "line")
        raise DataError(
            f"there is no column {name!r} for the {what} (found {found}); check that the file has the layout that was chosen, "
            "or say which column holds what"
        )
    return kinds[name]


def _given(name: str, alias: str, kinds: pl.Schema) -> list[pl.Expr]:
    """A column whose empty fields are null."""
    values = pl.col(name)
    filled = values.str.strip_chars().replace("", None) if _kind(name, alias, kinds) == pl.String else values
    return [filled.alias(f"{alias} given")]


def _unread(alias: str, complaint: str) -> tuple[str, pl.Expr]:
    return complaint, _step(alias, "read").is_null() & _step(alias, "given").is_not_null()


def _parts_of_a_second(table: Table, name: str, prepare: Wanted, notes: list[str]) -> float | None:
    """How many of a column's units make a second; None for dates."""

    def wanted(rows: pl.LazyFrame) -> pl.LazyFrame:
        rows = prepare(rows)
        kinds = rows.collect_schema()
        if _kind(name, "time", kinds) in (pl.Datetime, pl.Date):
            return rows.select(dates=pl.lit(None), typical=pl.lit(None)).head(1)
        dates = pl.col(name).str.contains(r"^\s*\d{4}-\d\d-\d\d").any() if kinds[name] == pl.String else pl.lit(False)
        rows = _number(name, "time", kinds).apply(rows)
        return rows.select(dates=dates, typical=_step("time", "read").fill_nan(None).median())

    ((dates, typical),) = read_rows(table, TRIED, wanted).rows() or [(False, 0)]
    if dates:
        notes.append("Dates without a time zone were read as UTC.")
    if dates is not False:
        return None
    for size, parts, unit in UNITS:
        if (typical or 0) >= size:
            notes.append(f"Times were given in {unit}.")
            return parts
    return 1.0


def _time(name: str, parts: float | None, kinds: pl.Schema) -> _Reading:
    """Seconds since 1970, from numbers in any usual unit, or from dates."""
    if kinds[name] in (pl.Datetime, pl.Date):
        return _Reading(name, "timestamp", ([pl.col(name).dt.epoch("s").cast(pl.Int64).alias("timestamp read")],))
    if parts is None:
        return _date(name, kinds)
    number = _number(name, "timestamp", kinds)
    read, seconds = _step("timestamp", "read"), _step("timestamp", "in seconds")
    not_a_number, wrong = number.wrong[0]
    not_a_time = "{value} is not a time; give seconds since 1970, or choose no column for the time"
    steps = (
        *number.steps,
        [(read / parts).alias("timestamp in seconds"), wrong.alias("timestamp no number")],
        [seconds.floor().cast(pl.Int64, strict=False).alias("timestamp read")],
    )
    far = ~(seconds.abs() < LATEST_SECOND)
    return _Reading(name, "timestamp", steps, ((not_a_number, _step("timestamp", "no number")), (not_a_time, far)))


def _date(name: str, kinds: pl.Schema) -> _Reading:
    given, plain, local, zone, read = (_step("timestamp", what) for what in ("given", "plain", "local", "zone", "read"))
    complaint = "{value} is not a date; write 2024-12-31 or 2024-12-31 23:59:59"
    # The zone is hours and minutes as one number: 530 is five and a half hours.
    ahead = (zone * 60 - (zone / 100).cast(pl.Int64) * 2_400).fill_null(0)
    without_zone = plain.str.replace(r" ?[+-]\d\d:?\d\d$", "").str.replace(r"(:\d\d:\d\d)\.\d+$", "$1")
    steps = (
        _given(name, "timestamp", kinds),
        [given.str.replace("T", " ", literal=True).str.strip_suffix("Z").alias("timestamp plain")],
        [
            plain.str.extract(r"([+-]\d\d:?\d\d)$")
            .str.replace(":", "", literal=True)
            .cast(pl.Int64)
            .alias("timestamp zone"),
            without_zone.alias("timestamp local"),
        ],
        [local.str.to_datetime("%Y-%m-%d %H:%M:%S", strict=False).alias("timestamp read")],
        [pl.when(read.is_null()).then(local).alias("timestamp local")],
        [
            pl.coalesce(
                read,
                local.str.to_datetime("%Y-%m-%d %H:%M", strict=False),
                local.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us")),
            ).alias("timestamp read")
        ],
        [(read.dt.epoch("s") - ahead).alias("timestamp read")],
    )
    return _Reading(name, "timestamp", steps, (_unread("timestamp", complaint),))
