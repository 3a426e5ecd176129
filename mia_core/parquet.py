"""Parquet files by their names: the folder they are in may be called anything, such as ``a[b]*c``, which is no pattern here."""

from __future__ import annotations

from pathlib import Path

import polars as pl


def read(path: Path, columns: list[str] | None = None) -> pl.DataFrame:
    """A table; columns: these alone."""
    return pl.read_parquet(path, columns=columns, glob=False)


def scan(path: Path, rows: int | None = None) -> pl.LazyFrame:
    """A table of which only what is asked for is read; rows: the first ones alone."""
    return pl.scan_parquet(path, n_rows=rows, glob=False)


def columns_of(path: Path) -> list[str]:
    """The names of a table's columns."""
    return scan(path).collect_schema().names()
