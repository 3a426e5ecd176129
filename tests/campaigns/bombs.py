"""Small things that would unpack, nest, widen or match into enormous ones; all must be refused soon and in little memory."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet

from mia_core.data.formats import inspect_source, load
from tests.campaigns.fuzzing import Case

MILLION = 1_000_000
DEEP = 100_000


def _long(before: bytes, filler: bytes, after: bytes, size: int = 64 * MILLION) -> bytes:
    return before + filler * (size // len(filler)) + after


def _zipped() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../ratings.csv", b"0" * 50 * MILLION)
        archive.writestr("/etc/ratings.csv", b"user,item\n")
    return stream.getvalue()


def _wide_parquet() -> bytes:
    stream = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({f"c{i}": [1] for i in range(2_000)}), stream)
    return stream.getvalue()


def _repeating_parquet() -> bytes:
    """Run lengths: a few bytes that say a text a million times."""
    stream = io.BytesIO()
    column = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * MILLION, pyarrow.int32()), ["x" * 30_000])
    pyarrow.parquet.write_table(pyarrow.table({"user": column, "item": column}), stream)
    return stream.getvalue()


def _record(text: str) -> bytes:
    return json.dumps([{"instruction": "x", "input": text, "output": "Yes."}]).encode()


def _own_keys(count: int) -> list[str]:
    return [f'{{"user":"u{i}","item":"x","k{i}":1}}' for i in range(count)]


BOMBS: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "zip": ("data.csv", _zipped, "zip archive"),
    "gzip": ("data.csv", lambda: gzip.compress(b"0" * 50 * MILLION), "gzip archive"),
    "lists in lists": ("data.json", lambda: b"[" * DEEP + b"]" * DEEP, "cannot be read as json"),
    "a list that never ends": ("data.json", lambda: b"[" * DEEP, "cannot be read as json"),
    "lists in a line": (
        "data.jsonl",
        lambda: b'{"user":"a","item":' + b"[" * DEEP + b"]" * DEEP + b"}\n",
        "not one JSON object",
    ),
    "objects in objects": ("data.csv", lambda: b'{"user":' * DEEP, "not one JSON object"),
    "a line of CSV": ("data.csv", lambda: _long(b"user,item\na,", b"x", b"\n"), "line 2: the line is longer"),
    "a line of JSON": ("data.jsonl", lambda: _long(b'{"user":"', b"x", b'"}\n'), "line 1: the line is longer"),
    "a line with two colons": ("data.dat", lambda: _long(b"user::item\na::", b"x", b""), "line 2: the line is longer"),
    "a header": ("data.csv", lambda: _long(b"user,item,", b"x", b"\n"), "line is longer"),
    "a quote that never ends": (
        "data.csv",
        lambda: _long(b'user,item\na,"', b"x,y\n", b""),
        "line 2: field larger .* close the quote",
    ),
    "a quoted field": ("data.csv", lambda: _long(b'user,item\na,"', b"xxx\n", b'"\n'), "line 2: field larger"),
    "a million columns": (
        "data.csv",
        lambda: ",".join(f"c{i}" for i in range(MILLION)).encode() + b"\n1,2\n",
        "line is longer",
    ),
    "columns of JSON": (
        "data.jsonl",
        lambda: ("{" + ",".join(f'"k{i}":1' for i in range(DEEP)) + "}\n").encode(),
        "different names",
    ),
    "a column for each line": ("data.jsonl", lambda: "\n".join(_own_keys(20_000)).encode(), "different names"),
    "a column for each record": (
        "data.json",
        lambda: f"[{','.join(_own_keys(9_000))}]".encode(),
        "too many to be read at once",
    ),
    "columns of Parquet": ("data.parquet", _wide_parquet, "2,000 columns"),
    "a text a million times": ("data.parquet", _repeating_parquet, "unpacks to more than"),
    "a pattern tried in every way": (
        "train.json",
        lambda: _record("User Preference:" + "\n" * 30_000 + "x"),
        "record 1: input must give",
    ),
    "parts without end": (
        "train.json",
        lambda: _record(
            "User Preference:" + "\nUser Unpreference:" * 9_000 + "\nWhether the user will like the target"
        ),
        "record 1: input must give",
    ),
    "spaces": (
        "data.csv",
        lambda: _long(b"user,item\n", b" \n", b"", 8 * MILLION),
        "fields where the header|no interactions",
    ),
    "a list of lists": (
        "data.json",
        lambda: b"[" + b"{}," * 4 * MILLION + b"{}]",
        "too many to be read at once",
    ),
}
"""What it is: the file's name, its content, and what is said of it."""


def of_bombs(numbers: range) -> Case:
    """Each of the bombs, by its place."""
    bombs = list(BOMBS.values())

    def case(number: int, folder: Path) -> None:
        name, content, _ = bombs[number]
        path = folder / name
        path.write_bytes(content())
        inspect_source(path)
        load(path)

    return case


PARTS: dict[str, Callable[[range], Case]] = {"bombs": of_bombs}
