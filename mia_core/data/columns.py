"""Which column of a table holds what, and its values as ids, numbers and times."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from mia_core.errors import DataError

NAMES = {
    "user": ("user", "userid", "user_id", "uid", "customer", "customerid", "customer_id", "member", "session", "sessionid",
             "session_id", "reviewerid", "account", "visitor", "visitorid", "u"),
    "item": ("item", "itemid", "item_id", "iid", "movie", "movieid", "movie_id", "isbn", "product", "productid",
             "product_id", "asin", "artistid", "artist_id", "book", "bookid", "book_id", "song", "track", "article", "i"),
    "rating": ("rating", "ratings", "score", "stars", "bookrating", "book_rating", "overall", "preference", "r"),
    "timestamp": ("timestamp", "time", "date", "datetime", "unixtime", "unixreviewtime", "ts", "t", "when", "position"),
    "title": ("title", "name", "itemname", "item_name", "itemtitle", "item_title", "movietitle", "booktitle", "book_title"),
}  # fmt: skip
LONGEST_FIELD = 2_000
UNITS = ((1e17, 1e9, "nanoseconds"), (1e14, 1e6, "microseconds"), (1e11, 1e3, "milliseconds"))
"""Times from this size on are in this many parts of a second."""
LATEST_SECOND = 1e12


@dataclass(frozen=True)
class Mapping:
    """A guess of which column holds what; empty where none seems to."""

    user: str = ""
    item: str = ""
    rating: str = ""
    timestamp: str = ""
    title: str = ""


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


def interactions_frame(raw: pl.DataFrame, mapping: Mapping, notes: list[str]) -> pl.DataFrame:
    """line, user, item, and where mapped rating and timestamp, as `validate` wants them.

    Args:
        notes: what was assumed is added here.
    Raises:
        DataError: a field is absurdly long, a rating is not a number, a time is neither a number nor a date.
    """
    frame = raw.select("line").with_columns(as_text(raw, mapping.user, "user"), as_text(raw, mapping.item, "item"))
    if mapping.rating:
        frame = frame.with_columns(_numbers(raw, mapping.rating, "rating"))
    if mapping.timestamp:
        frame = frame.with_columns(_times(raw, mapping.timestamp, notes))
    return frame


def as_text(raw: pl.DataFrame, name: str, alias: str) -> pl.Series:
    """A column as text; whole numbers without a decimal point.

    Raises:
        DataError: a field is longer than any id or title.
    """
    values = raw[name]
    if values.dtype.is_float():
        # Tables with gaps often keep whole ids as floats.
        values = values.fill_nan(None)
        values = values.cast(pl.Int64, strict=False) if (values.drop_nulls() % 1 == 0).all() else values
    if values.dtype == pl.Binary:
        raise DataError(f"column {name!r} holds bytes, not text; save it as text in UTF-8, or choose another column")
    text = values.cast(pl.String)
    long = raw.filter(text.str.len_bytes() > LONGEST_FIELD)
    if long.height:
        raise DataError(
            f"line {long['line'][0]}, column {name!r}: the field is longer than {LONGEST_FIELD:,} bytes, which no id or title "
            "is; close the quote that is open there, or choose another column"
        )
    return text.alias(alias)


def _numbers(raw: pl.DataFrame, name: str, alias: str) -> pl.Series:
    values = raw[name]
    if values.dtype == pl.String:
        values = values.str.strip_chars().replace("", None)
    numbers = values.cast(pl.Float64, strict=False)
    bad = raw.filter(numbers.is_null() & values.is_not_null())
    if bad.height:
        raise DataError(
            f"line {bad['line'][0]}, column {name!r}: {str(bad[name][0])[:40]!r} is not a number ({bad.height} such rows); "
            f"correct them, or choose no column for the {alias}"
        )
    return numbers.alias(alias)


def _times(raw: pl.DataFrame, name: str, notes: list[str]) -> pl.Series:
    """Seconds since 1970, from numbers in any usual unit, or from dates."""
    values = raw[name]
    if values.dtype in (pl.Datetime, pl.Date):
        return values.dt.epoch("s").cast(pl.Int64).alias("timestamp")
    if values.dtype == pl.String and values.str.contains(r"^\s*\d{4}-\d\d-\d\d").any():
        notes.append("Dates without a time zone were read as UTC.")
        return _dates(raw, name)
    numbers = _numbers(raw, name, "timestamp")
    typical = numbers.fill_nan(None).median() or 0
    for size, parts, unit in UNITS:
        if typical >= size:  # type: ignore[operator]
            notes.append(f"Times were given in {unit}.")
            numbers = numbers / parts
            break
    bad = raw.filter(~(numbers.abs() < LATEST_SECOND))
    if bad.height:
        raise DataError(
            f"line {bad['line'][0]}, column {name!r}: {str(bad[name][0])[:40]} is not a time; give seconds since 1970, or "
            "choose no column for the time"
        )
    return numbers.floor().cast(pl.Int64).alias("timestamp")


def _dates(raw: pl.DataFrame, name: str) -> pl.Series:
    text = raw[name].str.strip_chars().replace("", None).str.replace("T", " ").str.replace("Z$", "")
    zone = text.str.extract(r"([+-]\d\d:?\d\d)$").str.replace(":", "").cast(pl.Int64)
    ahead = (zone.abs() // 100 * 3_600 + zone.abs() % 100 * 60) * zone.sign()
    local = text.str.replace(r" ?[+-]\d\d:?\d\d$", "")
    times = local.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", strict=False)
    times = times.fill_null(local.str.to_datetime("%Y-%m-%d %H:%M", strict=False))
    times = times.fill_null(local.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us")))
    bad = raw.filter(times.is_null() & text.is_not_null())
    if bad.height:
        raise DataError(
            f"line {bad['line'][0]}, column {name!r}: {str(bad[name][0])[:40]!r} is not a date; "
            "write 2024-12-31 or 2024-12-31 23:59:59"
        )
    return (times.dt.epoch("s") - ahead.fill_null(0)).alias("timestamp")
