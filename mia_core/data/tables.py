"""Opens one table file safely: delimiter and encoding found, sizes bounded, damaged files explained."""

from __future__ import annotations

import codecs
import csv
import glob
import io
import itertools
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow
import pyarrow.compute
import pyarrow.parquet

from mia_core import parquet
from mia_core.errors import DataError

MOST_COLUMNS = 500
MOST_ROWS = 100_000_000
MOST_IN_MEMORY = 10_000_000
"""Rows; more are read piece by piece into a file and worked on there."""
LONGEST_HEADER = 1_000_000
MOST_NAMES = 10_000
"""Of fields of JSON objects, at any depth."""
MOST_OBJECTS = 2_000_000
MOST_CELLS = 50_000_000
"""Of a JSON list."""
LONGEST_LINE = 4 * 2**20
"""Bytes: readers hold a line many times over."""
LARGEST_LIST = 64 * 2**20
"""Bytes of a JSON list, which cannot be read piece by piece."""
LARGEST_UNPACKED = 4 * 2**30
FEW_ROWS = 1_000
"""So many rows are read without a look at how long their texts are."""
ROWS_AT_ONCE = 500_000
"""Of a file that is worked on piece by piece."""
CELL = 16
"""Bytes that a cell takes at the least, however well it is packed."""
JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
JSON_NAME = r'"(?:[^"\\]|\\.)*"\s*:'
DELIMITERS = ("::", "\t", ";", ",", "|")
MAGIC = {
    b"PK\x03\x04": "a zip archive or an Excel workbook",
    b"\x1f\x8b": "a gzip archive",
    b"BZh91AY&SY": "a bzip2 archive",
    b"\x28\xb5\x2f\xfd": "a zstd archive",
    b"\xfd7zXZ": "an xz archive",
    b"7z\xbc\xaf": "a 7z archive",
    b"%PDF": "a PDF",
    b"\xd0\xcf\x11\xe0": "an old Office file",
}


@dataclass(frozen=True)
class Table:
    """A file that can be read as a table."""

    path: Path
    kind: str
    """text, parquet or json."""
    encoding: str = "utf-8"
    delimiter: str = ","
    header: tuple[str, ...] = ()
    """Column names; for a file without a header line, those given; for JSON, those of the first object."""
    has_header: bool = True
    quoted: bool = True
    """Whether quotes enclose fields; in tab-separated files they are mostly part of names."""
    escape: str = ""
    """What stands before a quote that belongs to a quoted field; empty: such a quote is written twice."""
    patient: bool = False
    """Whether rows with more or fewer fields than the header are left out and counted, instead of stopping the reading."""
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class RowsOnDisk:
    """Rows that are too many to be held in memory."""

    rows: pl.LazyFrame
    """Of a Parquet file in the folder."""
    folder: tempfile.TemporaryDirectory[str]
    """Goes with this object."""


DAMAGE = (
    pl.exceptions.PolarsError,
    pl.exceptions.PanicException,
    pyarrow.ArrowException,
    csv.Error,
    OSError,
    ValueError,
)
"""What readers raise of a damaged file; a reader in Rust panics at some."""

Wanted = Callable[[pl.LazyFrame], pl.LazyFrame]
"""Chooses and changes columns and rows while a file is read, so that the rest never lies in memory."""


def open_table(path: Path, header: Sequence[str] | None = None, escape: str = "", patient: bool = False) -> Table:
    """Finds out how a file is to be read, from its first bytes.

    Args:
        header: column names, for a file that has none of its own.
        escape: see `Table`.
        patient: see `Table`.
    Raises:
        DataError: the file is empty, an archive, not text, or absurdly wide.
    """
    try:
        with path.open("rb") as stream:
            start = stream.read(LONGEST_HEADER)
    except OSError as error:
        raise DataError(
            f"{path.name!r} cannot be opened ({error.strerror}); check the name and who may read it"
        ) from None
    if not start.strip():
        raise DataError(f"{path.name!r} is empty; give a file with a header line and at least one row")
    for magic, what in MAGIC.items():
        if start.startswith(magic):
            raise DataError(f"{path.name!r} is {what}, not a table; unpack it, or save it as CSV, and give that table")
    if start.startswith(b"PAR1") or path.suffix.casefold() in (".parquet", ".pq"):
        return _open_parquet(path)
    encoding, notes = _encoding(path, start)
    _check_lengths(path)
    text = start.decode(encoding, errors="ignore").lstrip("\ufeff")
    if path.suffix.casefold() in JSON_SUFFIXES or text.lstrip().startswith("{"):
        return Table(path, "json", encoding, header=_first_keys(text), notes=notes)
    first = text.splitlines()[0] if text else ""
    if len(start) >= LONGEST_HEADER and "\n" not in text:
        raise DataError(
            f"{path.name!r}: the header line is longer than {LONGEST_HEADER:,} characters; is the delimiter right?"
        )
    delimiter = max(DELIMITERS, key=lambda d: (first.count(d) * len(d), -DELIMITERS.index(d)))
    names = list(header) if header else _names(path, first, delimiter)
    _check_width(path, len(names))
    if header is None and len(names) < 2:
        raise DataError(
            f"{path.name!r}, line 1: only one column was found ({first[:60]!r}); fields must be separated by a comma, semicolon, "
            "tab, bar or two colons"
        )
    if header is None and all(_is_number(name) for name in names):
        raise DataError(
            f"{path.name!r}, line 1: every column name is a number ({first[:60]!r}); write a first line that names the columns, "
            "such as user,item,rating"
        )
    unnamed = names.count("")
    if unnamed > 1:
        raise DataError(f"{path.name!r}, line 1: {unnamed} columns have no name; name them, or remove them")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(
            f"{path.name!r}, line 1: the column {twice[0][:40]!r} is there twice; give every column a name of its own"
        )
    quoted = delimiter != "\t" or first.startswith('"')
    return Table(path, "text", encoding, delimiter, tuple(names), header is None, quoted, escape, patient, notes)


def _check_lengths(path: Path) -> None:
    if path.suffix.casefold() in JSON_SUFFIXES and _is_list(path):
        if path.stat().st_size > LARGEST_LIST:
            raise DataError(
                f"{path.name!r} is one JSON list of {path.stat().st_size / 2**20:,.0f} MiB; at most "
                f"{LARGEST_LIST // 2**20} MiB are read so: write one object a line (JSON lines), which may be of any size"
            )
    elif line := _seen(path).long_line:
        raise DataError(
            f"{path.name!r}, line {line}: the line is longer than {LONGEST_LINE // 2**20} MiB; give one interaction a line, and "
            "end each line with a line break"
        )


def _names(path: Path, first: str, delimiter: str) -> list[str]:
    if len(delimiter) > 1:
        return first.split(delimiter)
    try:
        return [name.strip() for name in next(csv.reader([first], delimiter=delimiter))]
    except csv.Error as error:
        raise DataError(
            f"{path.name!r}, line 1: {_plain(error)}; close the quote that is open there, or shorten the column's name"
        ) from error


def read_rows(table: Table, limit: int | None = None, wanted: Wanted = lambda rows: rows) -> pl.DataFrame:
    """What is wanted of a table: of all its columns as text (numbers stay numbers in Parquet and JSON), with the line of
    the file in a column ``line``. Large files are read piece by piece.

    Raises:
        DataError: a row has more fields than the header, a quote never ends, or the JSON is broken.
    """
    with _explained(table):
        if table.kind == "parquet":
            if limit is None or limit > FEW_ROWS:
                _check_unpacked(table.path)
            return wanted(_with_line(parquet.scan(table.path, limit), 1)).collect(engine="streaming")
        if table.kind == "json":
            return wanted(_with_line(_scan_json(table, limit), 1)).collect(engine="streaming")
        return _read_text(table, limit, wanted)


@contextmanager
def _explained(table: Table) -> Iterator[None]:
    """Turns what readers complain of into an error that names the file."""
    try:
        yield
    except DAMAGE as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{table.path.name!r} cannot be read as {table.kind}: {_plain(error)}; save the table again and retry"
        ) from error


def many_rows(table: Table) -> bool:
    """Whether a table has more rows than are held in memory; guessed from the length of its first ones, where it is text."""
    if table.kind == "parquet":
        return bool(pyarrow.parquet.read_metadata(table.path).num_rows > MOST_IN_MEMORY)
    if not _fast(table) or (table.kind == "json" and _is_list(table.path)):
        return False
    with table.path.open("rb") as stream:
        start = stream.read(LONGEST_HEADER)
    return table.path.stat().st_size > MOST_IN_MEMORY * len(start) / max(1, start.count(b"\n"))


def rows_on_disk(table: Table, wanted: Wanted) -> RowsOnDisk:
    """What is wanted of a table, as `read_rows`, in a temporary file; never more than a piece of it is in memory.

    Raises:
        DataError: as `read_rows`.
    """
    folder = tempfile.TemporaryDirectory(prefix="memberscope-")
    path = Path(folder.name) / "rows.parquet"
    with _explained(table):
        if table.kind == "parquet":
            _check_unpacked(table.path)
        if table.kind != "text":
            rows = parquet.scan(table.path) if table.kind == "parquet" else _scan_json(table, None)
            wanted(_with_line(rows, 1)).sink_parquet(path, row_group_size=ROWS_AT_ONCE)
        else:
            _text_on_disk(table, wanted, path)
    return RowsOnDisk(parquet.scan(path), folder)


def _text_on_disk(table: Table, wanted: Wanted, path: Path) -> None:
    _check_quotes(table)
    written = False
    try:
        rows = _scan_text(table)
        cut_off = rows.select(pl.col(table.header[-1]).is_null().any())
        sink = wanted(rows).sink_parquet(path, row_group_size=ROWS_AT_ONCE, lazy=True)
        _, doubt = pl.collect_all([sink, cut_off], engine="streaming")
        written = True
        if not doubt.item():
            return
    except pl.exceptions.PolarsError:
        pass
    # As in `_read_text`.
    for _ in _whole_rows(table):
        pass
    if not written:
        wanted(_read_slowly(table, None).lazy()).collect().write_parquet(path)


def column_names(table: Table) -> list[str]:
    """The columns that `read_rows` gives, the line aside: those that hold lists or records are left out."""
    if table.kind == "text":
        return [name for name in table.header if name != "line"]
    # Objects of a JSON file need not all have the same keys.
    return read_rows(table, 1 if table.kind == "parquet" else None, lambda rows: rows.head(0)).columns[1:]


def _with_line(rows: pl.LazyFrame, first: int) -> pl.LazyFrame:
    nested = [name for name, kind in rows.collect_schema().items() if kind.is_nested()]
    return rows.drop("line", *nested, strict=False).with_row_index("line", offset=first)


def _fast(table: Table) -> bool:
    """Whether the fast reader knows such a table."""
    return not (len(table.delimiter) > 1 or table.encoding != "utf-8" or table.escape)


def _read_text(table: Table, limit: int | None, wanted: Wanted) -> pl.DataFrame:
    if limit is not None or not _fast(table):
        return wanted(_read_slowly(table, limit).lazy()).collect()
    _check_quotes(table)
    found = None
    try:
        rows = _scan_text(table)
        # The fast reader fills up rows that are cut off.
        cut_off = rows.select(pl.col(table.header[-1]).is_null().any())
        found, doubt = pl.collect_all([wanted(rows), cut_off], engine="streaming")
        if not doubt.item():
            return found
    except pl.exceptions.PolarsError:
        pass
    if not table.patient:
        # The slow reader names the line.
        for _ in _whole_rows(table):
            pass
        if found is not None:
            return found
    return wanted(_read_slowly(table, None).lazy()).collect()


def _check_quotes(table: Table) -> None:
    # The fast reader would hold a field without end many times over; the slow one stops at it and names its line.
    if table.quoted and _seen(table.path).long_quote:
        for _ in _whole_rows(replace(table, notes=[])):
            pass


def _scan_text(table: Table) -> pl.LazyFrame:
    rows = pl.scan_csv(
        table.path,
        separator=table.delimiter,
        has_header=table.has_header,
        new_columns=list(table.header),
        infer_schema=False,
        quote_char='"' if table.quoted else None,
        encoding="utf8",
        glob=False,
    )
    # A quoted field may go over several lines of the file.
    extra = pl.sum_horizontal(pl.all().str.count_matches("\n", literal=True).fill_null(0)).alias("extra lines")
    rows = _with_line(rows.with_columns(extra), 2 if table.has_header else 1)
    earlier = (pl.col("extra lines").cum_sum() - pl.col("extra lines")).cast(pl.UInt32)
    rows = rows.with_columns(pl.col("line") + earlier).drop("extra lines")
    return rows.filter(~pl.all_horizontal(pl.exclude("line").is_null()))


def _read_slowly(table: Table, limit: int | None) -> pl.DataFrame:
    columns: list[list[str]] = [[] for _ in table.header]
    lines: list[int] = []
    for number, row in itertools.islice(_whole_rows(table), limit):
        lines.append(number)
        for column, value in zip(columns, row, strict=True):
            column.append(value)
    data = dict(zip(table.header, columns, strict=True))
    rows = pl.DataFrame(data, schema=dict.fromkeys(table.header, pl.String)).drop("line", strict=False)
    return rows.insert_column(0, pl.Series("line", lines, pl.UInt32))


def _whole_rows(table: Table) -> Iterator[tuple[int, list[str]]]:
    """The rows below the header with their lines, blank ones left out; a row cut off or too long is an error, or left out."""
    width, left_out = len(table.header), 0
    with table.path.open(encoding="utf-8-sig" if table.encoding == "utf-8" else table.encoding, newline="") as stream:
        for number, row in itertools.islice(_rows(stream, table), int(table.has_header), None):
            if row and len(row) != width and table.patient:
                left_out += 1
            elif row and len(row) != width:
                raise DataError(
                    f"{table.path.name!r}, line {number}: {len(row)} fields where the header has {width}; check the delimiter "
                    f"({table.delimiter!r}) and quotes around fields that contain it"
                )
            elif row:
                yield number, row
    if left_out:
        table.notes.append(f"{table.path.name}: {left_out} rows that are cut off or too long were left out.")


def _rows(stream: io.TextIOWrapper, table: Table) -> Iterator[tuple[int, list[str]]]:
    if len(table.delimiter) > 1:
        for number, line in enumerate(stream, start=1):
            stripped = line.rstrip("\r\n")
            yield number, stripped.split(table.delimiter) if stripped else []
        return
    dialect: dict[str, Any] = {} if table.quoted else {"quoting": csv.QUOTE_NONE}
    if table.escape:
        dialect["escapechar"] = table.escape
    reader = csv.reader(stream, delimiter=table.delimiter, **dialect)
    last = number = 1
    try:
        for row in reader:
            yield number, row
            last, number = number, reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{table.path.name!r}, line {number}: {_plain(error)}; close the quote that is open there, or shorten the field"
        ) from error
    # The reader takes an open quote for closed at the end of the file, and every row until there for one field.
    if number - last > 1 and table.quoted and table.encoding != "utf-16" and table.path.read_bytes().count(b'"') % 2:
        raise DataError(
            f"{table.path.name!r}, line {last}: the quote that is open there never ends; close or remove it"
        )


def _scan_json(table: Table, limit: int | None) -> pl.LazyFrame:
    _check_names(table.path)
    if _is_list(table.path):
        return pl.read_json(table.path, infer_schema_length=None).head(limit or MOST_ROWS).lazy()
    # A file may be called "*.jsonl": that one is meant, not all that are called like it.
    rows = pl.scan_ndjson(glob.escape(str(table.path)), n_rows=limit, infer_schema_length=limit)
    try:
        _check_width(table.path, len(rows.collect_schema()))
    except pl.exceptions.PolarsError:
        _find_broken_json(table)
        raise
    return rows


def _check_names(path: Path) -> None:
    """Records that have each a field of their own make a table of enormous width, empty but for a few cells."""
    status = path.stat()
    names, objects = _names_and_objects(path, status.st_size, status.st_mtime_ns)
    if names > MOST_NAMES:
        raise DataError(
            f"{path.name!r} has fields of {names:,} different names; at most {MOST_NAMES:,} are told apart: keep user, item, "
            "rating, time, title"
        )
    if _is_list(path) and (objects > MOST_OBJECTS or names * objects > MOST_CELLS):
        raise DataError(
            f"{path.name!r} is one JSON list of {objects:,} objects with {names:,} names of fields, too many to be read at once: "
            "write one object a line (JSON lines), with user, item, rating, time and title alone"
        )


@lru_cache(maxsize=64)
def _names_and_objects(path: Path, size: int, changed: int) -> tuple[int, int]:
    """How many names of fields a JSON file holds, at any depth, and objects; see `_look_through`."""
    names, objects = pl.Series([], dtype=pl.String), 0
    with path.open("rb") as stream:
        while lines := stream.readlines(16 * LONGEST_LINE):
            part = b"".join(lines)
            objects += part.count(b"{")
            found = pl.Series([part.decode(errors="replace")]).str.extract_all(JSON_NAME).explode().drop_nulls()
            names = pl.concat([names, found.unique()]).unique()
            if len(names) > MOST_NAMES:
                break
    return len(names), objects


def _check_width(path: Path, columns: int) -> None:
    if columns > MOST_COLUMNS:
        raise DataError(
            f"{path.name!r} has {columns:,} columns; at most {MOST_COLUMNS} are read; keep user, item, rating, time, title"
        )


def _is_list(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(64).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")


def _first_keys(text: str) -> tuple[str, ...]:
    """The keys of the first object, if the text starts with one or with a list of them."""
    try:
        first, _ = json.JSONDecoder().raw_decode(text, text.index("{"))
    except (ValueError, RecursionError):
        return ()
    return tuple(first)


def _find_broken_json(table: Table) -> None:
    with table.path.open(encoding=table.encoding) as stream:
        for number, line in enumerate(stream, start=1):
            try:
                whole = not line.strip() or isinstance(json.loads(line), dict)
            except (ValueError, RecursionError):
                whole = False
            if not whole:
                raise DataError(
                    f"{table.path.name!r}, line {number}: {line.strip()[:40]!r} is not one JSON object; write one whole object "
                    'a line, such as {"user": "a", "item": "x"}'
                )


def _open_parquet(path: Path) -> Table:
    """Looks at the metadata only: a small file can unpack to an enormous table."""
    try:
        file = pyarrow.parquet.ParquetFile(path)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path.name!r} is not a whole Parquet file ({_plain(error)}); write it again") from error
    meta = file.metadata
    packed = sum(meta.row_group(i).total_byte_size for i in range(meta.num_row_groups))
    # Of more rows than these only pieces are ever unpacked.
    unpacked = max(packed, min(meta.num_rows, MOST_IN_MEMORY) * meta.num_columns * CELL)
    if meta.num_columns > MOST_COLUMNS or meta.num_rows > MOST_ROWS or unpacked > LARGEST_UNPACKED:
        raise DataError(
            f"{path.name!r} says it holds {meta.num_rows:,} rows of {meta.num_columns:,} columns, {unpacked / 2**30:.1f} GiB "
            f"unpacked; at most {MOST_ROWS:,} rows, {MOST_COLUMNS} columns and {LARGEST_UNPACKED // 2**30} GiB are read"
        )
    if not meta.num_rows:
        raise DataError(f"{path.name!r} has no rows; give at least one interaction")
    return Table(path, "parquet", header=tuple(file.schema_arrow.names))


def _check_unpacked(path: Path) -> None:
    """Adds up how long the texts are without unpacking them: the metadata count a text that recurs only once."""
    is_text = (
        pyarrow.types.is_string,
        pyarrow.types.is_large_string,
        pyarrow.types.is_binary,
        pyarrow.types.is_dictionary,
    )
    schema = pyarrow.parquet.read_schema(path)
    names = [field.name for field in schema if any(check(field.type) for check in is_text)]
    unpacked = 0
    with pyarrow.parquet.ParquetFile(path, read_dictionary=names) as file:
        for batch in file.iter_batches(columns=names):
            for column in batch.columns:
                if isinstance(column, pyarrow.DictionaryArray) and not pyarrow.types.is_primitive(
                    column.dictionary.type
                ):
                    lengths = pyarrow.compute.binary_length(column.dictionary)
                    unpacked += pyarrow.compute.sum(lengths.take(column.indices)).as_py() or 0
            if unpacked > LARGEST_UNPACKED:
                raise DataError(
                    f"{path.name!r} unpacks to more than {LARGEST_UNPACKED / 2**30:.1f} GiB of text; keep user, item, "
                    "rating, time and title, or give fewer rows"
                )


def _encoding(path: Path, start: bytes) -> tuple[str, list[str]]:
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16", ["The file was read as UTF-16."]
    if b"\x00" in start[:4096]:
        raise DataError(f"{path.name!r} is not text (it holds zero bytes); save it as CSV in UTF-8")
    if not _seen(path).utf8:
        return "latin-1", ["The file is not UTF-8 and was read as Latin-1; check that accented letters look right."]
    return "utf-8", []


@dataclass(frozen=True)
class _Seen:
    """What one look through a whole file of text has found."""

    utf8: bool
    long_line: int
    """The first line that is longer than `LONGEST_LINE`; 0: none."""
    long_quote: bool
    """Whether what may be one field in quotes is longer than that."""


def _seen(path: Path) -> _Seen:
    status = path.stat()
    return _look_through(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=64)
def _look_through(path: Path, size: int, changed: int) -> _Seen:
    """A file is opened several times before it is read; `size` and `changed` tell it from an older one of the same name."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    utf8, lines, quotes, of_line, of_quote, long_line, long_quote = True, 0, 0, 0, 0, 0, False
    with path.open("rb") as stream:
        # No part is as long as what is looked for, so that only its ends count.
        while part := stream.read(1 << 20):
            try:
                if utf8:
                    decoder.decode(part)
            except UnicodeDecodeError:
                utf8 = False
            of_line += len(part) if (at := part.find(b"\n")) < 0 else at
            long_line = long_line or (lines + 1 if of_line > LONGEST_LINE else 0)
            of_line = of_line if at < 0 else len(part) - 1 - part.rfind(b"\n")
            lines += part.count(b"\n")
            of_quote += len(part) if (at := part.find(b'"')) < 0 else at
            long_quote |= bool(quotes % 2) and of_quote > LONGEST_LINE
            of_quote = of_quote if at < 0 else len(part) - 1 - part.rfind(b'"')
            quotes += part.count(b'"')
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        utf8 = False
    return _Seen(utf8, long_line, long_quote)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _plain(error: BaseException) -> str:
    return str(error).splitlines()[0][:160] if str(error) else type(error).__name__
