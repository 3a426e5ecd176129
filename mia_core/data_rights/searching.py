"""Is anything of one person left in a home folder? Every file is opened and looked through, whatever it is.

Tables, arrays, JSON and databases are read cell by cell, and all files byte by byte, too, where an id is long and odd enough that
its bytes cannot be there by accident (``42`` is in every file; ``ana-4821`` is not). So are the person's histories: several items
in a row that nobody else has in this order.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet

from mia_core.data.tables import ROWS_AT_ONCE
from mia_core.storage.store import OWNERS

CHUNK = 2**22
SEPARATORS = ("\n", ", ", "; ", " | ", '", "')
"""Between the items of a history that was put into one text."""
LONG_HISTORY = 24
"""Bytes of a history in one text from which on it is nowhere by accident."""
USER_FIELDS = frozenset(
    {"user", "users", "subject", "forget", "roles", "members", "held_out", "judged", "known", "public"}
)
"""Columns and JSON fields that hold ids of users; elsewhere the same text may be an item's."""
TABLES, DATABASES = (".parquet", ".pq"), (".sqlite", ".db")
DOCUMENTS, LINES = (".json",), (".jsonl", ".ndjson")
TEXTS = (".csv", ".tsv", ".txt", ".dat", ".data", ".log", ".toml", ".item", ".inter")
HANDED_IN = {"uploads", "lists"}
"""Folders of what people handed in as it was."""
CELLS = re.compile(r"[\t,;|]|::")


@dataclass(frozen=True)
class Wanted:
    """What would be a trace of the person."""

    ids: frozenset[str]
    """The id, the ids of sessions that were cut from it, and the pseudonyms of both."""
    histories: tuple[tuple[str, ...], ...] = ()
    """Items in a row, by id and by title, that nobody else has in this order."""

    @property
    def telling(self) -> frozenset[str]:
        """The ids whose bytes nothing else holds by accident."""
        return frozenset(found for found in self.ids if is_telling(found))

    def names(self, text: str, of_users: bool) -> bool:
        """Whether a cell or a string is one of the ids; one that is not telling only where there are users."""
        return text in self.ids and (of_users or is_telling(text))


@dataclass
class Searched:
    """What was looked through, and what was found."""

    files: int = 0
    bytes: int = 0
    cells: int = 0
    """Of tables, arrays, documents and databases."""
    by_bytes: bool = False
    """Whether the id is telling enough to be looked for byte by byte, too."""
    histories: int = 0
    """Telling stretches of the person's histories that were looked for."""
    elsewhere: int = 0
    """Home folders of other people on this server, which were not looked into."""
    traces: list[tuple[str, str]] = field(default_factory=list)
    """(file, what of the person is in it)."""


def is_telling(text: str) -> bool:
    """Whether a text is long and odd enough that its bytes are nowhere by accident."""
    kinds = bool(re.search(r"[^\W\d_]", text)) + bool(re.search(r"\d", text)) + bool(re.search(r"[^\w]|_", text))
    size = len(text.encode())
    return size >= 12 or (size >= 6 and kinds >= 2) or (size >= 9 and text.isdigit())


def search(home: Path, wanted: Wanted) -> Searched:
    """Looks through every file of a home folder, but not into the homes of those who sign in."""
    found = Searched(by_bytes=bool(wanted.telling), histories=len(wanted.histories))
    owners = home / OWNERS
    found.elsewhere = sum(1 for _ in owners.glob("*/")) if owners.is_dir() else 0
    for path in sorted(home.rglob("*")):
        if path.is_file() and not path.is_symlink() and not path.is_relative_to(owners):
            try:
                of_file = search_file(path, wanted)
            except FileNotFoundError:
                # A lock or a log that went while the others were read.
                continue
            found.files += 1
            found.bytes += of_file.bytes
            found.cells += of_file.cells
            found.traces += [(str(path.relative_to(home)), what) for _, what in of_file.traces]
    return found


def search_file(path: Path, wanted: Wanted) -> Searched:
    """Looks through one file."""
    found = Searched()
    reader = {
        **dict.fromkeys(TABLES, _table),
        **dict.fromkeys(DATABASES, _database),
        **dict.fromkeys(DOCUMENTS, _document),
        **dict.fromkeys(LINES, _json_lines),
        **dict.fromkeys(TEXTS, _text),
        ".npy": _array,
    }.get(path.suffix.lower())
    said: list[str] = []
    if reader is not None:
        try:
            found.cells = reader(path, wanted, said)
        except FileNotFoundError:
            raise
        except (OSError, ValueError, pl.exceptions.PolarsError, pyarrow.ArrowException, sqlite3.Error):
            # What cannot be read as what it is called is still looked through byte by byte.
            found.cells = 0
    found.bytes = _bytes(path, wanted, said)
    found.traces = [(path.name, what) for what in dict.fromkeys(said)]
    return found


def strings(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """(field, string) of everything in JSON data, keys included; a key stands in the field that its object is the value of."""
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, list):
        for item in value:
            yield from strings(item, name)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield name, key
            yield from strings(item, key)


def holds(column: pl.Series, stretch: Sequence[str]) -> bool:
    """Whether these texts stand one below the other anywhere in a column."""
    here = column == stretch[0]
    for i, item in enumerate(stretch[1:], 1):
        here &= column.shift(-i) == item
    return bool(here.any())


def _in_a_row(sequence: Sequence[str], stretch: Sequence[str]) -> bool:
    size = len(stretch)
    starts = (i for i, item in enumerate(sequence[: len(sequence) - size + 1]) if item == stretch[0])
    return any(tuple(sequence[i : i + size]) == tuple(stretch) for i in starts)


def _table(path: Path, wanted: Wanted, said: list[str]) -> int:
    cells = 0
    longest = max((len(stretch) for stretch in wanted.histories), default=1)
    before: dict[str, pl.Series] = {}
    # A table may be larger than memory.
    with pyarrow.parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(ROWS_AT_ONCE):
            part = pl.from_arrow(batch)
            assert isinstance(part, pl.DataFrame)  # noqa: S101 - of rows it makes nothing else
            cells += part.height * part.width
            for column in part.select(pl.col(pl.String, pl.Categorical, pl.Enum).cast(pl.String)):
                name = column.name
                if column.is_in([one for one in wanted.ids if wanted.names(one, name in USER_FIELDS)]).any():
                    said.append(f"the id, in column {name}")
                joined = pl.concat([before[name], column]) if name in before else column
                if any(holds(joined, stretch) for stretch in wanted.histories):
                    said.append(f"a history, in column {name}")
                before[name] = joined.tail(longest - 1)
    return cells


def _array(path: Path, wanted: Wanted, said: list[str]) -> int:
    array = np.load(path, allow_pickle=False, mmap_mode="r")
    if array.dtype.kind in "US":
        texts = [text.decode(errors="replace") if isinstance(text, bytes) else text for text in array.ravel().tolist()]
        _judge_strings([("user", text) for text in texts], wanted, said)
    return int(array.size)


def _document(path: Path, wanted: Wanted, said: list[str]) -> int:
    return _json(json.loads(path.read_bytes()), wanted, said)


def _json_lines(path: Path, wanted: Wanted, said: list[str]) -> int:
    with path.open(encoding="utf-8", errors="replace") as stream:
        return sum(_json(json.loads(line), wanted, said) for line in stream if line.strip())


def _json(value: Any, wanted: Wanted, said: list[str]) -> int:
    found = list(strings(value))
    _judge_strings(found, wanted, said)
    return len(found)


def _judge_strings(found: Sequence[tuple[str, str]], wanted: Wanted, said: list[str]) -> None:
    for name, text in found:
        if wanted.names(text, name in USER_FIELDS):
            said.append(f"the id, in field {name or 'without a name'}")
    texts = [text for _, text in found]
    if any(_in_a_row(texts, stretch) for stretch in wanted.histories):
        said.append("a history, in a list")


def _text(path: Path, wanted: Wanted, said: list[str]) -> int:
    """Tables that somebody handed in: which column holds users is not known, so every cell counts."""
    cells = 0
    handed_in = bool(HANDED_IN & set(path.parts))
    with path.open(encoding="utf-8", errors="replace") as stream:
        for line in stream:
            parts = [part.strip().strip("\"'") for part in CELLS.split(line)]
            cells += len(parts)
            if any(wanted.names(part, handed_in) for part in (line.strip(), *parts)):
                said.append("the id, in a line")
    return cells


def _database(path: Path, wanted: Wanted, said: list[str]) -> int:
    cells = 0
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=20)) as connection:
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in names:
            cursor = connection.execute(f'SELECT * FROM "{table}"')  # noqa: S608 - the name comes from the database itself
            columns = [column[0] for column in cursor.description]
            for row in cursor:
                for column, cell in zip(columns, row, strict=True):
                    cells += 1
                    text = cell.decode(errors="replace") if isinstance(cell, bytes) else cell
                    if isinstance(text, str):
                        _judge_strings(list(strings(_parsed(text), column)), wanted, said)
    return cells


def _parsed(text: str) -> Any:
    try:
        return json.loads(text) if text[:1] in "{[" else text
    except ValueError:
        return text


def _bytes(path: Path, wanted: Wanted, said: list[str]) -> int:
    needles = {_whole_word(one): "the id, among its bytes" for one in wanted.telling}
    for joined in (by.join(stretch).encode() for stretch in wanted.histories for by in SEPARATORS):
        # A few short numbers in a row are in many files.
        if len(joined) >= LONG_HISTORY:
            needles[re.escape(joined)] = "a history, among its bytes"
    pattern = re.compile(b"|".join(needles)) if needles else None
    longest = max((len(needle) for needle in needles), default=1)
    before, size = b"", 0
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            size += len(chunk)
            found = pattern.search(before + chunk) if pattern else None
            if found:
                said.append(next(what for needle, what in needles.items() if re.search(needle, found[0])))
                pattern = None
            before = chunk[-longest:]
    return size


def _whole_word(text: str) -> bytes:
    """The bytes of an id, in each way that text is written; a longer id that begins with it is somebody else's."""
    written = {json.dumps(text)[1:-1].encode()}
    for way in ("utf-8", "utf-16-le", "utf-16-be", "cp1252"):
        # What a way of writing has no letters for is not written in it.
        with suppress(UnicodeEncodeError):
            written.add(text.encode(way))
    forms = sorted(written, key=len, reverse=True)
    return b"(?<![0-9A-Za-z_-])(?:" + b"|".join(map(re.escape, forms)) + b")(?![0-9A-Za-z_-])"
