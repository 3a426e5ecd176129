"""Is anything of one person left in a home folder? Every file is opened and looked through, whatever it is.

Tables, arrays, JSON and databases are read cell by cell, and all files byte by byte, too, where an id is long and odd enough that
its bytes cannot be there by accident (``42`` is in every file; ``ana-4821`` is not). So are the person's histories: several items
in a row that nobody else has in this order.

What somebody handed in is read in bounded pieces, as the reader of tables reads it, and every cell of it counts: which column
holds users is not known there. What is too large or too broken to be searched so may hide anybody. It is clean only where it is
plain text, the ids are telling, and none of them is among its bytes; else it counts as a trace, so that it goes: the reader of
tables has mostly refused it, too, and whoever needs it has the file.
"""

from __future__ import annotations

import codecs
import io
import json
import re
import sqlite3
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import polars as pl
import pyarrow
import pyarrow.compute
import pyarrow.parquet

from mia_core.data.tables import DAMAGE, LONGEST_LINE, MAGIC, ROWS_AT_ONCE, open_table
from mia_core.errors import DataError
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
HANDED_IN = ("uploads", "lists")
"""Folders of what people handed in as it was."""
LARGEST_DOCUMENT = 16 * 2**20
"""Bytes of JSON that was handed in and is read at once; in memory it takes some twenty times as much."""
LARGEST_COLUMN = 512 * 2**20
"""Bytes, unpacked, of a column in one piece of a Parquet file that was handed in."""
PACKED = (b"PAR1", *MAGIC)
"""How files begin whose bytes do not show what is in them."""
CELLS = re.compile(r"[\t\r,;|]|::")
UNREAD = "something that cannot be searched"
"""What is said of such a trace."""
UNREADABLE = (*DAMAGE, DataError, RecursionError, sqlite3.Error)
"""What readers raise of a file that is not what it is called, or is too large for them."""


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

    @property
    def all_telling(self) -> bool:
        """Whether the bytes of a file show each of the ids."""
        return self.telling == self.ids

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
    found = Searched(by_bytes=wanted.all_telling, histories=len(wanted.histories))
    owners = home / OWNERS
    found.elsewhere = sum(1 for _ in owners.glob("*/")) if owners.is_dir() else 0
    for path in sorted(home.rglob("*")):
        if path.is_file() and not path.is_symlink() and not path.is_relative_to(owners):
            try:
                of_file = search_file(path, wanted, handed_in=was_handed_in(home, path))
            except FileNotFoundError:
                # A lock or a log that went while the others were read.
                continue
            found.files += 1
            found.bytes += of_file.bytes
            found.cells += of_file.cells
            found.traces += [(str(path.relative_to(home)), what) for _, what in of_file.traces]
    return found


def was_handed_in(home: Path, path: Path) -> bool:
    """Whether a file of a home folder is one that somebody handed in, and so may be anything."""
    return path.relative_to(home).parts[0] in HANDED_IN


def search_file(path: Path, wanted: Wanted, *, handed_in: bool = False) -> Searched:
    """Looks through one file.

    Args:
        handed_in: whether somebody handed it in; then it is a trace, too, where it cannot be searched.
    """
    found, whole = Searched(), True
    said: list[str] = []
    try:
        found.cells = _reader(path, handed_in)(path, wanted, said, handed_in)
    except FileNotFoundError:
        raise
    except UNREADABLE:
        # What cannot be read as what it is called is still looked through byte by byte.
        whole = False
    found.bytes = _bytes(path, wanted, said)
    if handed_in and not whole and not said and not (wanted.all_telling and not _start(path).startswith(PACKED)):
        said.append(UNREAD)
    found.traces = [(path.name, what) for what in dict.fromkeys(said)]
    return found


Reader = Callable[[Path, Wanted, list[str], bool], int]


def _reader(path: Path, handed_in: bool) -> Reader:
    """What looks through the cells of a file; what was handed in may be called anything."""
    suffix = path.suffix.lower()
    of_tables: dict[str, Reader] = {
        **dict.fromkeys(TABLES, _table),
        **dict.fromkeys(DOCUMENTS, _document),
        **dict.fromkeys(LINES, _json_lines),
        **dict.fromkeys(TEXTS, _text),
    }
    if not handed_in:
        return {**of_tables, **dict.fromkeys(DATABASES, _database), ".npy": _array}.get(suffix, _nothing)
    start = _start(path)
    if start.startswith(b"PAR1"):
        return _table
    if start.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"{"):
        return _document
    return of_tables.get(suffix, _text)


def _start(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(4096)


def bounded_lines(stream: BinaryIO) -> Iterator[bytes]:
    """The lines of a file, none of which is longer than the reader of tables allows.

    Raises:
        ValueError: one is.
    """
    while line := stream.readline(LONGEST_LINE + 1):
        if len(line) > LONGEST_LINE:
            raise ValueError("a line without end")
        yield line


def cells_of(line: bytes | str) -> list[str]:
    """A line and its cells, whatever parts them, without quotes."""
    text = line if isinstance(line, str) else _decoded(line)
    return [text.strip(), *(part.strip().strip("\"'") for part in CELLS.split(text))]


def _decoded(line: bytes) -> str:
    try:
        return line.decode("utf-8-sig")
    except UnicodeDecodeError:
        return line.decode("latin-1")


def strings(value: Any, name: str = "", *, numbers: bool = False) -> Iterator[tuple[str, str]]:
    """(field, string) of everything in JSON data, keys included; a key stands in the field that its object is the value of.

    Args:
        numbers: whether numbers count as what they are written as; a whole one is written with and without ``.0``.
    """
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, list):
        for item in value:
            yield from strings(item, name, numbers=numbers)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield name, key
            yield from strings(item, key, numbers=numbers)
    elif numbers and isinstance(value, int | float) and not isinstance(value, bool):
        yield from ((name, text) for text in dict.fromkeys((str(value), str(value).removesuffix(".0"))))


def holds(column: pl.Series, stretch: Sequence[Any]) -> bool:
    """Whether these values stand one below the other anywhere in a column."""
    here = column == stretch[0]
    for i, item in enumerate(stretch[1:], 1):
        here &= column.shift(-i) == item
    return bool(here.any())


def _nothing(path: Path, wanted: Wanted, said: list[str], handed_in: bool) -> int:
    """A file without cells."""
    return 0


def _table(path: Path, wanted: Wanted, said: list[str], handed_in: bool) -> int:
    """A table may be larger than memory, and a small one may unpack to more than that: texts that recur are never unpacked."""
    schema = pyarrow.parquet.read_schema(path)
    names = schema.names if handed_in else [field.name for field in schema if _is_text(field.type)]
    if handed_in:
        open_table(path)
        _check_columns(path, schema)
        _judge_strings((("", name) for name in names), wanted, said, handed_in)
    needles = list(dict.fromkeys([*wanted.ids, *(item for stretch in wanted.histories for item in stretch)]))
    stretches = [[needles.index(item) for item in stretch] for stretch in wanted.histories]
    longest = max(map(len, stretches), default=1)
    cells = 0
    with pyarrow.parquet.ParquetFile(path, read_dictionary=names) as file:
        for name in names:
            ids = [i for i, one in enumerate(needles) if wanted.names(one, handed_in or name in USER_FIELDS)]
            before = pl.Series([], dtype=pl.Int32)
            for batch in file.iter_batches(ROWS_AT_ONCE, columns=[name]):
                places = pl.concat([before, _places(batch.column(0), needles)])
                cells += batch.num_rows
                if places.is_in(ids).any():
                    said.append(f"the id, in column {name}")
                if any(holds(places, stretch) for stretch in stretches):
                    said.append(f"a history, in column {name}")
                before = places.tail(longest - 1)
    return cells


def _is_text(kind: pyarrow.DataType) -> bool:
    values = kind.value_type if pyarrow.types.is_dictionary(kind) else kind
    return bool(pyarrow.types.is_string(values) or pyarrow.types.is_large_string(values))


def _check_columns(path: Path, schema: pyarrow.Schema) -> None:
    """Refuses lists, columns that are called alike, and those that unpack to more than is held in memory."""
    meta = pyarrow.parquet.read_metadata(path)
    pieces = (meta.row_group(i).column(j) for i in range(meta.num_row_groups) for j in range(meta.num_columns))
    nested = any(pyarrow.types.is_nested(field.type) for field in schema)
    alike = len(set(schema.names)) < len(schema.names)
    if nested or alike or any(piece.total_uncompressed_size > LARGEST_COLUMN for piece in pieces):
        raise ValueError("its columns cannot be looked through one by one")


def _places(column: pyarrow.Array, needles: Sequence[str]) -> pl.Series:
    """Which of the needles each cell is, by its place among them; null: none."""
    packed = isinstance(column, pyarrow.DictionaryArray)
    values = (column.dictionary if packed else column).cast(pyarrow.string())
    if pyarrow.types.is_floating(column.type):
        # Here whole numbers are written without it.
        needles = [needle.removesuffix(".0") for needle in needles]
    found = pyarrow.compute.index_in(values, value_set=pyarrow.array(needles, pyarrow.string()))
    return pl.Series(pl.from_arrow(found.take(column.indices) if packed else found), dtype=pl.Int32)


def _array(path: Path, wanted: Wanted, said: list[str], handed_in: bool) -> int:
    array = np.load(path, allow_pickle=False, mmap_mode="r")
    if array.dtype.kind in "US":
        texts = [text.decode(errors="replace") if isinstance(text, bytes) else text for text in array.ravel().tolist()]
        _judge_strings((("user", text) for text in texts), wanted, said)
    return int(array.size)


def _document(path: Path, wanted: Wanted, said: list[str], handed_in: bool) -> int:
    """One JSON value, or one a line: both are called ``.json``."""
    if not handed_in or path.stat().st_size <= LARGEST_DOCUMENT:
        with suppress(ValueError):
            return _json(json.loads(path.read_bytes()), wanted, said, handed_in)
    return _json_lines(path, wanted, said, handed_in)


def _json_lines(path: Path, wanted: Wanted, said: list[str], handed_in: bool) -> int:
    return sum(_json(json.loads(line), wanted, said, handed_in) for line in _lines(path) if line.strip())


def _json(value: Any, wanted: Wanted, said: list[str], handed_in: bool) -> int:
    return _judge_strings(strings(value, numbers=handed_in), wanted, said, handed_in)


def _judge_strings(found: Iterable[tuple[str, str]], wanted: Wanted, said: list[str], of_users: bool = False) -> int:
    """Looks through strings with their fields; returns how many there are."""
    ends: dict[str, list[tuple[str, ...]]] = {}
    for stretch in wanted.histories:
        ends.setdefault(stretch[-1], []).append(stretch)
    latest = deque[str](maxlen=max(map(len, wanted.histories), default=1))
    count = 0
    for name, text in found:
        count += 1
        latest.append(text)
        if wanted.names(text, of_users or name in USER_FIELDS):
            said.append(f"the id, in field {name or 'without a name'}")
        if any(tuple(latest)[-len(stretch) :] == stretch for stretch in ends.get(text, ())):
            said.append("a history, in a list")
    return count


def _text(path: Path, wanted: Wanted, said: list[str], handed_in: bool) -> int:
    cells = 0
    for line in _lines(path):
        whole, *parts = cells_of(line)
        cells += len(parts)
        if any(wanted.names(cell, handed_in) for cell in (whole, *parts)):
            said.append("the id, in a line")
    return cells


def _lines(path: Path) -> Iterator[str]:
    """The lines of a text, as the reader of tables decodes it.

    Raises:
        ValueError: it is no text, or a line has no end.
    """
    start = _start(path)
    with path.open("rb") as stream:
        if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            text = io.TextIOWrapper(stream, encoding="utf-16", errors="replace")
            while line := text.readline(LONGEST_LINE + 1):
                if len(line) > LONGEST_LINE:
                    raise ValueError("a line without end")
                yield line
        elif start.startswith(PACKED) or b"\0" in start:
            raise ValueError("no text")
        else:
            yield from map(_decoded, bounded_lines(stream))


def _database(path: Path, wanted: Wanted, said: list[str], handed_in: bool) -> int:
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
                        _judge_strings(strings(_parsed(text), column), wanted, said)
    return cells


def _parsed(text: str) -> Any:
    try:
        return json.loads(text) if text[:1] in "{[" else text
    except (ValueError, RecursionError):
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
