"""Files as people upload them, damaged in every way: by single bytes, by whole columns, and by what single cells hold.

Each case goes the way of an upload: opened, its columns guessed, cleaned, kept, profiled, split and put into words.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import random
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pyarrow
import pyarrow.parquet
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from mia_core.data import library
from mia_core.data.formats import FORMATS, inspect_source, load
from mia_core.data.interactions import Interactions, validate
from mia_core.data.lists import read_lists
from mia_core.data.profile import profile, prompts_of
from mia_core.data.prompts import PROMPT_STYLES, audit_samples, events_by_user, prompt_writer
from mia_core.data.sessions import sessions
from mia_core.data.split import read_lines, split_own, split_users
from mia_core.experiment import Columns, Prompt
from mia_core.report.export import read_sealed
from mia_core.storage.seal import SealingKey, check_seal
from mia_core.storage.store import Store
from tests.campaigns.fuzzing import Case

USERS, ITEMS, LENGTH = 40, 30, 8
BLOCK = 25
"""Documents that are drawn together, from one seed."""
HOSTILE = (
    "",
    " ",
    "0",
    "-1",
    "NaN",
    "inf",
    "-Infinity",
    "1e308",
    "1e999",
    "9" * 400,
    "-9223372036854775809",
    "18446744073709551616",
    "0x10",
    "1_000",
    "1,5",
    "00123",
    "null",
    "None",
    "true",
    "2020-01-01",
    "2020-13-45 99:99:99",
    "0000-00-00",
    "9999-12-31T23:59:59.999999+99:99",
    "-0001-01-01",
    "2014-04-07T10:51:09.277Z",
    '"',
    '""',
    '"open',
    "a\nb",
    "a\r\nb",
    "a\tb",
    "a,b;c|d::e",
    "\x00",
    "\x1a",
    "\x1f",
    "\x7f",
    "\ufeff",
    "\u202eabc\u202c",
    "\u2028",
    "\x85",
    "é",
    "e\u0301",
    "ﬁ",
    "İ",
    "ß",
    "👩\u200d👩\u200d👧",
    "\U0010ffff",
    "\ufffe",
    "../../etc/passwd",
    "C:\\con",
    "=1+1",
    "<script>alert(1)</script>",
    "{history}",
    "{0.__class__}",
    "%s%n",
    "'; DROP TABLE users; --",
    "x" * 5_000,
    "x" * 50_000,
    "z\u0300" * 500,
    "User Preference:",
)
SPLICED = (
    *tuple(text.encode("utf-8", "surrogatepass") for text in HOSTILE),
    b"\xff\xfe",
    b"\xfe\xff",
    b"\xef\xbb\xbf",
    b"\xed\xa0\x80",
    b"\xc3",
    b"\xf4\x90\x80\x80",
    b"PAR1",
    b"PK\x03\x04",
    b"\x1f\x8b",
    b"\x00" * 64,
    b"[" * 2000,
    b'{"a":' * 2000,
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"\r",
    b"\n\n\n",
    b"::",
    b"," * 600,
)
NAMES = (
    *("data.csv", "data.tsv", "data.txt", "data.dat", "data.json", "data.jsonl", "data.ndjson", "data.parquet", "data.pq"),
    *("ratings.csv", "movies.csv", "ratings.dat", "u.data", "u.item", "BX-Books.csv", "sessions.csv", "meta_x.json"),
    *("ratings_x.csv", "x.inter", "x.item", "train.json", "README.txt", ".csv", "a b;c.csv", "ä\u202e.csv", "x" * 200 + ".csv"),
    *("../up.csv", "/abs.csv", "-rf.csv", "*.csv", "[a].csv", "$HOME.csv", "data.CSV"),
)  # fmt: skip

Files = dict[str, bytes]


@dataclass(frozen=True)
class Upload:
    """What somebody uploads, and what they say of it."""

    files: Files
    format: str = "auto"
    columns: tuple[str, ...] = ()
    """The columns of user, item, rating, timestamp and title, where the person says them."""
    sessions_by: str = "auto"
    style: str = "next_item"
    alone: bool = False
    """Whether the path of the first file is given, instead of the folder's."""


def rows() -> list[dict[str, Any]]:
    """A small data set that every layout can hold."""
    rng = random.Random(0)
    found = []
    for user in range(USERS):
        for place, item in enumerate(rng.sample(range(ITEMS), LENGTH)):
            time = 1_260_759_144 + 86_400 * user + 600 * place
            title = f"Film {item}: café, the {'long ' * (item % 3)}way (19{item + 50})"
            found.append(
                {"user": user + 1, "item": item + 100, "rating": rng.randint(1, 5), "timestamp": time, "title": title}
            )
    return found


def separated(table: Sequence[Mapping[str, Any]], names: Mapping[str, str], delimiter: str, *, header: bool) -> bytes:
    """Columns of a table as lines of text; `names` gives the header's name of each."""
    lines = [delimiter.join(names.values())] if header else []
    for row in table:
        cells = [str(row[name]) for name in names]
        lines.append(delimiter.join(f'"{cell}"' if delimiter in cell else cell for cell in cells))
    return ("\n".join(lines) + "\n").encode()


def objects(table: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> bytes:
    """One JSON object a line."""
    return "".join(
        json.dumps({said: row[name] for name, said in names.items()}, ensure_ascii=False) + "\n" for row in table
    ).encode()


def parquet(columns: Mapping[str, Any], **options: Any) -> bytes:
    """A Parquet file."""
    stream = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), stream, **options)
    return stream.getvalue()


def layouts() -> list[Files]:
    """The same data in every layout that is recognised, and as plain tables of every kind."""
    table = rows()
    items = list({row["item"]: row for row in table}.values())
    plain = {name: name for name in ("user", "item", "rating", "timestamp", "title")}
    rated = {name: name for name in ("user", "item", "rating", "timestamp")}
    whole = separated(table, plain, ",", header=True)
    tallrec = [
        {
            "instruction": "Will they like it?",
            "input": f'User Preference:"{a["title"]}", "{b["title"]}"\nUser Unpreference:"{c["title"]}"\n'
            f'Whether the user will like the target movie "{d["title"]}"?',
            "output": "Yes." if d["rating"] > 2 else "No.",
        }
        for a, b, c, d in zip(table[::4], table[1::4], table[2::4], table[3::4], strict=True)
    ]
    clicks = [{**row, "timestamp": f"2014-04-07T10:{i % 60:02}:09.277Z", "c": 0} for i, row in enumerate(table)]
    ordered = [{**row, "position": i % LENGTH} for i, row in enumerate(table)]
    tagged = [{**row, "timestamp": row["timestamp"] * 1_000, "tag": i % 3} for i, row in enumerate(table)]
    columns = {name: [row[name] for row in table] for name in plain}
    return [
        {"data.csv": whole},
        {"data.tsv": separated(table, plain, "\t", header=True)},
        {"data.txt": separated(table, {"user": "customer", "item": "product_id"}, ";", header=True)},
        {"data.dat": separated(table, rated, "|", header=True)},
        {"data.csv": whole.decode().encode("utf-16")},
        {"data.csv": whole.decode().encode("latin-1")},
        {"data.csv": b"\xef\xbb\xbf" + whole.replace(b"\n", b"\r\n")},
        {"data.csv": separated(table, rated, "::", header=True)},
        {"data.jsonl": objects(table, plain)},
        {"data.json": json.dumps(table).encode()},
        {"data.parquet": parquet(columns)},
        {"data.parquet": parquet({name: list(map(str, cells)) for name, cells in columns.items()}, compression="zstd")},
        {"data.parquet": parquet(columns, use_dictionary=False, version="1.0", row_group_size=50)},
        {
            "likes.csv": separated(table, rated, ",", header=True),
            "names.csv": separated(items, {"item": "item", "title": "title"}, ",", header=True),
        },
        {
            "ratings.csv": separated(
                table, dict(zip(rated, ("userId", "movieId", "rating", "timestamp"), strict=True)), ",", header=True
            ),
            "movies.csv": separated(items, {"item": "movieId", "title": "title"}, ",", header=True),
        },
        {
            "ratings.dat": separated(table, rated, "::", header=False),
            "movies.dat": separated(items, {"item": "", "title": "", "user": ""}, "::", header=False),
        },
        {
            "u.data": separated(table, rated, "\t", header=False),
            "u.item": "".join(f"{row['item']}|{row['title']}{'|0' * 22}\n" for row in items).encode("latin-1"),
        },
        {
            "user_artists.dat": separated(
                table, {"user": "userID", "item": "artistID", "rating": "weight"}, "\t", header=True
            ),
            "artists.dat": separated(items, {"item": "id", "title": "name"}, "\t", header=True),
        },
        {
            "user_taggedbookmarks-timestamps.dat": separated(
                tagged,
                {"user": "userID", "item": "bookmarkID", "tag": "tagID", "timestamp": "timestamp"},
                "\t",
                header=True,
            ),
            "bookmarks.dat": separated(items, {"item": "id", "title": "title"}, "\t", header=True),
        },
        {
            "BX-Book-Ratings.csv": separated(
                table, {"user": '"User-ID"', "item": '"ISBN"', "rating": '"Book-Rating"'}, ";", header=True
            ),
            "BX-Books.csv": separated(items, {"item": '"ISBN"', "title": '"Book-Title"'}, ";", header=True),
        },
        {
            "yoochoose-clicks.dat": separated(
                clicks, dict.fromkeys(("user", "timestamp", "item", "c"), ""), ",", header=False
            )
        },
        {
            "sessions.csv": separated(
                ordered, {"user": "session_id", "position": "position", "item": "item_id"}, ",", header=True
            )
        },
        {
            "Books.json": objects(
                table, {"user": "reviewerID", "item": "asin", "rating": "overall", "timestamp": "unixReviewTime"}
            ),
            "meta_Books.json": objects(items, {"item": "asin", "title": "title"}),
        },
        {
            "Books.jsonl": objects(
                table, {"user": "user_id", "item": "parent_asin", "rating": "rating", "timestamp": "timestamp"}
            ),
            "meta_Books.jsonl": objects(items, {"item": "parent_asin", "title": "title"}),
        },
        {"ratings_Books.csv": separated(table, rated, ",", header=False)},
        {
            "ml.inter": separated(
                table,
                {
                    "user": "user_id:token",
                    "item": "item_id:token",
                    "rating": "rating:float",
                    "timestamp": "timestamp:float",
                },
                "\t",
                header=True,
            ),
            "ml.item": separated(items, {"item": "item_id:token", "title": "movie_title:token_seq"}, "\t", header=True),
        },
        {"train.json": json.dumps(tallrec).encode()},
        {"data.zip": zipped({"ratings.csv": whole, "../../outside.csv": whole})},
        {"ratings.csv": zipped({"ratings.csv": whole})},
        {"data.csv": gzip.compress(whole)},
        {"data.csv": bz2.compress(whole)},
    ]


def zipped(files: Files) -> bytes:
    """A zip archive."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


# Mutations of bytes


def _flipped(content: bytearray, rng: random.Random) -> bytearray:
    for _ in range(rng.choice((1, 1, 4, 40))):
        content[rng.randrange(len(content))] = rng.randrange(256)
    return content


def _spliced(content: bytearray, rng: random.Random) -> bytearray:
    at = rng.randrange(len(content) + 1)
    content[at : at + rng.choice((0, 0, 1, 8))] = rng.choice(SPLICED)
    return content


def _cut(content: bytearray, rng: random.Random) -> bytearray:
    at = rng.randrange(len(content))
    del content[at : at + rng.choice((1, 10, 1_000, len(content)))]
    return content


def _again(content: bytearray, rng: random.Random) -> bytearray:
    at = rng.randrange(len(content))
    part = content[at : at + rng.choice((1, 20, 500, len(content)))]
    content[at:at] = part * min(rng.choice((1, 3, 300)), 1 + 2_000_000 // max(1, len(part)))
    return content


def _lines(content: bytearray, rng: random.Random) -> bytearray:
    lines = content.split(b"\n")
    i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
    act = rng.randrange(5)
    if act == 0:
        lines[i], lines[j] = lines[j], lines[i]
    elif act == 1:
        lines[i:i] = [lines[j]] * rng.choice((1, 50))
    elif act == 2:
        del lines[i]
    elif act == 3:
        lines[i] = lines[i] + lines[j]
    else:
        rng.shuffle(lines)
    return bytearray(b"\n".join(lines))


def _cells(content: bytearray, rng: random.Random) -> bytearray:
    """Puts something hostile in the place of a field."""
    for _ in range(rng.choice((1, 3, 30))):
        at = rng.randrange(len(content) + 1)
        ends = [found for mark in b',;|\t\n:"' if (found := content.find(mark, at)) >= 0]
        start = min(ends, default=at)
        after = [found for mark in b',;|\t\n:"' if (found := content.find(mark, start + 1)) >= 0]
        content[start + 1 : min(after, default=len(content))] = rng.choice(SPLICED)
    return content


def _numbers(content: bytearray, rng: random.Random) -> bytearray:
    """Makes one number of a binary file large, small or negative: lengths and offsets are such numbers."""
    at = rng.randrange(max(1, len(content) - 8))
    width = rng.choice((1, 2, 4, 8))
    content[at : at + width] = rng.choice((b"\xff", b"\x7f", b"\x80", b"\x00")) * width
    return content


def _recoded(content: bytearray, rng: random.Random) -> bytearray:
    text = content.decode("utf-8", "replace")
    code = rng.choice(
        ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-7", "latin-1", "cp500", "shift_jis", "utf-8-sig")
    )
    return bytearray(text.encode(code, "replace"))


MUTATIONS: tuple[Callable[[bytearray, random.Random], bytearray], ...] = (
    *(_flipped, _flipped, _spliced, _spliced, _cut, _again, _lines, _cells, _cells, _cells, _numbers, _recoded),
)  # fmt: skip


def mutated(content: bytes, rng: random.Random) -> bytes:
    """A file after one to five changes."""
    found = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        if not found:
            break
        found = rng.choice(MUTATIONS)(found, rng)
    return bytes(found[:4_000_000])


def mutated_upload(files: Files, all_layouts: Sequence[Files], rng: random.Random) -> Upload:
    """An upload after changes of its bytes, its names and its number of files."""
    changed = dict(files)
    for name in changed:
        if rng.random() < 0.7:
            changed[name] = mutated(changed[name], rng)
    if rng.random() < 0.1:
        changed |= rng.choice(all_layouts)
    if rng.random() < 0.1:
        name = rng.choice(list(changed))
        changed[rng.choice(NAMES)] = changed.pop(name)
    return Upload(
        changed,
        format="auto" if rng.random() < 0.93 else rng.choice(("table", *FORMATS)),
        sessions_by=rng.choice(("auto", "auto", "auto", "gap", "id")),
        style=rng.choice(list(PROMPT_STYLES)),
        alone=rng.random() < 0.3,
    )


# Tables of hostile cells

CELLS = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(max_size=30),
    st.integers().map(str),
    st.floats().map(str),
    st.dates().map(str),
    st.datetimes().map(str),
)
HEADERS = st.one_of(
    st.sampled_from(("user", "item", "rating", "timestamp", "title", "line", "USER_ID", "Movie-ID", "date", "position")),
    st.sampled_from(("session_id", "user_id:token", "item_id_list:token_seq", "user read", "user 0", "0", "nan", " user ")),
    st.text(max_size=20),
)  # fmt: skip
KINDS = ("csv", "tsv", "semicolons", "colons", "jsonl", "json", "parquet", "typed parquet")
ENDINGS = st.sampled_from((*("\n",) * 6, "\r\n", "\r\n", "\r"))
CODES = st.sampled_from((*("utf-8",) * 12, "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1", "cp1252"))
ARROW = (
    pyarrow.int8(),
    pyarrow.uint64(),
    pyarrow.float16(),
    pyarrow.float64(),
    pyarrow.bool_(),
    pyarrow.date32(),
    pyarrow.timestamp("ns", "UTC"),
    pyarrow.duration("ms"),
    pyarrow.time64("us"),
    pyarrow.decimal128(38, 9),
    pyarrow.binary(),
    pyarrow.large_string(),
    pyarrow.null(),
    pyarrow.list_(pyarrow.string()),
    pyarrow.struct([("a", pyarrow.int64())]),
    pyarrow.dictionary(pyarrow.int8(), pyarrow.string()),
    pyarrow.map_(pyarrow.string(), pyarrow.int64()),
)


@st.composite
def tables(draw: st.DrawFn) -> Upload:
    """A table of a good size in which a header, some cells and the way it is written are anything."""
    table = rows()[: draw(st.sampled_from((len(rows()), len(rows()), len(rows()), 200, 3, 0)))]
    names = dict.fromkeys(("user", "item", "rating", "timestamp", "title"))
    heads = {name: name for name in names}
    for name in draw(st.sets(st.sampled_from(list(names)), max_size=2)):
        heads[name] = draw(HEADERS)
    for _ in range(draw(st.integers(0, 6)) if table else 0):
        row, name = draw(st.integers(0, len(table) - 1)), draw(st.sampled_from(list(names)))
        table[row] = {**table[row], name: draw(CELLS)}
    if table and draw(st.integers(0, 4)) == 0:
        # One column, or two, of one kind throughout: what a column's first cells say of it is then wrong of none.
        name, cells = draw(st.sampled_from(list(names))), draw(st.lists(CELLS, min_size=1, max_size=5))
        table = [{**row, name: cells[i % len(cells)]} for i, row in enumerate(table)]
    kind = draw(st.sampled_from(KINDS))
    code, ending = draw(CODES), draw(ENDINGS)
    content = written(table, heads, kind, draw(st.sampled_from(ARROW)), draw(st.sampled_from(list(names))))
    if kind in ("csv", "tsv", "semicolons", "colons"):
        content = content.decode().replace("\n", ending).encode(code, "replace")
    suffix = {"jsonl": "jsonl", "json": "json", "parquet": "parquet", "typed parquet": "parquet"}.get(kind, "csv")
    named = draw(st.permutations(list(heads.values()))) if draw(st.integers(0, 5)) == 0 else ()
    return Upload(
        {draw(st.sampled_from((*(f"data.{suffix}",) * 60, *NAMES))): content},
        draw(st.sampled_from((*("auto",) * 40, "table", *FORMATS))),
        tuple(named[: draw(st.integers(2, 5))]),
        draw(st.sampled_from(("auto", "auto", "none", "id", "gap"))),
        draw(st.sampled_from(list(PROMPT_STYLES))),
        draw(st.booleans()),
    )


def written(
    table: Sequence[Mapping[str, Any]], heads: Mapping[str, str], kind: str, arrow: pyarrow.DataType, odd: str
) -> bytes:
    """The table in one way of writing; `odd` is the column that a typed Parquet file has of an unusual type."""
    if kind == "jsonl":
        return objects(table, heads)
    if kind == "json":
        return json.dumps([{said: row[name] for name, said in heads.items()} for row in table]).encode()
    if "parquet" not in kind:
        delimiter = {"csv": ",", "tsv": "\t", "semicolons": ";", "colons": "::"}[kind]
        return separated(table, heads, delimiter, header=True)
    columns: dict[str, Any] = {}
    for name, said in heads.items():
        cells: Any = [row[name] for row in table]
        try:
            columns[said] = pyarrow.array(cells)
        except (pyarrow.ArrowException, OverflowError):
            columns[said] = pyarrow.array(list(map(str, cells)))
        if kind == "typed parquet" and name == odd:
            columns[said] = _typed(columns[said], arrow)
    return parquet(columns)


def _typed(column: pyarrow.Array, kind: pyarrow.DataType) -> pyarrow.Array:
    try:
        return column.cast(kind, safe=False)
    except (pyarrow.ArrowException, ValueError):
        filler = {"list": [["a"]], "struct": [{"a": 1}], "map": [[("a", 1)]]}
        some = next((cells for name, cells in filler.items() if str(kind).startswith(name)), [None])
        return pyarrow.array(some * len(column), kind)


def drawn(strategy: st.SearchStrategy[Any], numbers: range) -> dict[int, Any]:
    """What Hypothesis draws for each number: those of a block together, from the block's seed.

    It draws constants of the code under test, too, so that a number means the same case as long as the code is the same.
    """
    found: dict[int, Any] = {}
    for block in range(numbers.start // BLOCK, (numbers.stop - 1) // BLOCK + 1):
        documents: list[Any] = []

        @seed(block)
        @settings(
            max_examples=BLOCK + 1,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(strategy)
        def collect(document: Any) -> None:
            documents.append(document)  # noqa: B023 - called at once

        collect()
        # The first is always the simplest.
        found |= {block * BLOCK + i: documents[1:][i % (len(documents) - 1)] for i in range(BLOCK)}
    return found


# What is done with an upload


class Reader:
    """Goes the way of an upload, with a store of its own."""

    def __init__(self) -> None:
        self._home = tempfile.TemporaryDirectory()
        self.store = Store(Path(self._home.name) / "home")

    def read(self, upload: Upload, folder: Path) -> None:
        """Opens, cleans, keeps, profiles, splits and words an upload."""
        for i, (name, content) in enumerate(upload.files.items()):
            # As pages do: only the last part of a name.
            (folder / (Path(name).name or f"table-{i}.csv")).write_bytes(content)
        path = sorted(folder.iterdir())[0] if upload.alone else folder
        inspect_source(path)
        names = ("user", "item", "rating", "timestamp", "title")
        columns = Columns(**dict(zip(names, upload.columns, strict=False))) if upload.columns else None
        found = load(path, upload.format, columns, repeats=True if upload.sessions_by in ("id", "gap") else None)
        key = library.save(self.store, found, "Fuzz")
        kept = library.load_saved(self.store, key)
        assert kept.key == found.key
        self.store.remove(key)
        told = profile(kept)
        prompt = Prompt(style=upload.style, history=3 if upload.style != "whole_history" else 100, windows=2)
        for user in told.some_users[:3]:
            prompts_of(kept, user, prompt)
        visits = sessions(kept, upload.sessions_by)
        split = split_users(visits, 0.2, 0.5, 1 / 3, 0)
        writer = prompt_writer(visits, prompt, [])
        samples = audit_samples(sorted(split.roles), events_by_user(visits, writer), writer, 2)
        assert all(isinstance(text, str) for text in (*samples.prompts, *samples.answers))


def of_layouts(numbers: range) -> Case:
    """Bytes of every layout."""
    reader, all_layouts = Reader(), layouts()

    def case(number: int, folder: Path) -> None:
        rng = random.Random(f"layouts {number}")
        reader.read(mutated_upload(all_layouts[number % len(all_layouts)], all_layouts, rng), folder)

    return case


def of_tables(numbers: range) -> Case:
    """Tables whose headers and cells are anything."""
    reader, uploads = Reader(), drawn(tables(), numbers)
    return lambda number, folder: reader.read(uploads[number], folder)


def known_interactions() -> Interactions:
    """The same data, read without a fault."""
    table = pl.DataFrame(rows()).with_columns(pl.col("user", "item").cast(pl.String))
    return validate(table.select("user", "item", "rating", "timestamp"), table.select("item", "title").unique())


def of_lists(numbers: range) -> Case:
    """Ranked lists and generated texts of a deployed recommender."""
    interactions = known_interactions()
    titles = dict(interactions.items.iter_rows())
    served = [
        {"user": u, "rank": r, "item": (u * 7 + r) % ITEMS + 100, "question": ("history", "no_history")[r % 2]}
        for u in range(1, USERS + 1)
        for r in range(1, 6)
    ]
    served = [{**row, "title": titles[str(row["item"])], "text": f"Try {titles[str(row['item'])]}!"} for row in served]
    ways = [
        separated(served, {name: name for name in names}, delimiter, header=True)
        for delimiter in (",", "\t", ";")
        for names in (("user", "rank", "item"), ("user", "rank", "title", "question"), ("user", "rank", "text"))
    ]
    ways += [objects(served, {name: name for name in served[0]}), json.dumps(served).encode()]
    ways += [parquet({name: [row[name] for row in served] for name in served[0]})]

    def case(number: int, folder: Path) -> None:
        rng = random.Random(f"lists {number}")
        path = folder / f"lists.{rng.choice(('csv', 'tsv', 'jsonl', 'json', 'parquet', 'txt'))}"
        path.write_bytes(mutated(ways[number % len(ways)], rng))
        read_lists(path, interactions)

    return case


def of_id_lists(numbers: range) -> Case:
    """Lists of known members, of held-out users and of people to judge."""
    interactions = known_interactions()
    users = sorted(set(interactions.frame["user"]))

    def case(number: int, folder: Path) -> None:
        rng = random.Random(f"id lists {number}")
        shuffled = rng.sample(users, len(users))
        lists = {"members": shuffled[:12], "held_out": shuffled[12:34], "judged": shuffled[34:]}
        spoiled = rng.choice((*lists, "none"))
        read = {}
        for name, ids in lists.items():
            content = "\n".join(ids).encode()
            path = folder / f"{name}.txt"
            path.write_bytes(mutated(content, rng) if name == spoiled else content)
            read[name] = read_lines(path, f"target.{name}", "user id", 1_000_000)
        split_own(interactions, **read, seed=0)

    return case


def of_seals(numbers: range) -> Case:
    """Sealed reports that were edited."""
    with tempfile.TemporaryDirectory() as home:
        key = SealingKey(Path(home))
    sealed = [
        key.seal(content)
        for content in (b"<!doctype html><p>Report</p>\n" * 50, b"%PDF-1.7\n" + b"0" * 2_000, zipped({"a": b"b" * 500}))
    ]

    def case(number: int, folder: Path) -> None:
        rng = random.Random(f"seals {number}")
        original = sealed[number % len(sealed)]
        path = folder / "report"
        content = mutated(original[-600:] if rng.random() < 0.2 else original, rng)
        if rng.random() < 0.3:
            at = len(original) - rng.randrange(1, 500)
            content = original[:at] + mutated(original[at:], rng)
        path.write_bytes(content)
        found = check_seal(read_sealed(path))
        assert content == original, f"an edited file counts as sealed by {found.fingerprint}"

    return case


def of_kept(numbers: range) -> Case:
    """Data sets that were damaged where they are kept."""
    reader, interactions = Reader(), known_interactions()

    def case(number: int, folder: Path) -> None:
        rng = random.Random(f"kept {number}")
        key = library.save(reader.store, interactions, "Fuzz")
        artifact = reader.store.find(key)
        assert artifact is not None
        path = rng.choice(sorted(artifact.iterdir()))
        original = path.read_bytes()
        path.write_bytes(mutated(original, rng))
        unchanged = path.read_bytes() == original
        found = library.load_saved(Store(reader.store.home), key)
        assert unchanged or found.key == interactions.key, "damaged data were read"

    return case


def of_models(numbers: range) -> Case:
    """Folders of models that were brought along, and histories that were pasted."""
    import torch

    from mia_core.experiment import Base, Lora
    from mia_core.models.llm.loading import (
        add_lora,
        build_offline,
        load_adapter,
        load_local,
        save_model,
        train_tokenizer,
    )
    from mia_core.studies.lookup import match

    titles = sorted({row["title"] for row in rows()})
    device = torch.device("cpu")
    tokenizer = train_tokenizer(titles, ["History: "], 320)
    folders: list[Files] = []
    base = build_offline(Base(family="gpt2", width=16, layers=2), tokenizer, 0, device)
    for family in ("t5", "gpt2", "llama"):
        made = build_offline(Base(family=family, width=16, layers=2), tokenizer, 0, device)
        folders.append(_saved(lambda folder, made=made: save_model(made, folder)))
    folders.append(_saved(lambda folder: save_model(add_lora(base, Lora(rank=2), 0), folder)))
    interactions = known_interactions()
    writer = prompt_writer(interactions, Prompt(), [])

    def case(number: int, folder: Path) -> None:
        rng = random.Random(f"models {number}")
        if number % 5 == 0:
            path = folder / "history.txt"
            path.write_bytes(mutated("\n".join(rng.choices(titles, k=20)).encode(), rng))
            match(read_lines(path, "--history", "title or item id", 1_000_000), SimpleNamespace(writer=writer))
            return
        files = dict(folders[number % 4])
        name = rng.choice(list(files))
        files[name] = (
            _edited(files[name], rng) if name.endswith(".json") and rng.random() < 0.6 else mutated(files[name], rng)
        )
        if rng.random() < 0.1:
            files.pop(rng.choice(list(files)))
        for name, content in files.items():
            (folder / name).write_bytes(content)
        if number % 4 == 3:
            load_adapter(base, folder)
        else:
            load_local(folder, device)

    return case


def _saved(save: Callable[[Path], None]) -> Files:
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder))
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def _edited(content: bytes, rng: random.Random) -> bytes:
    """A JSON document in which one value is another."""
    document = json.loads(content)
    values = (None, -1, 0, 1, 7, 10**6, 2**63, 1e308, "", "x", [], {}, True, ["a"], {"a": 1}, "../../x")
    place: Any = document
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = rng.choice(keys)
        if not isinstance(place[key], dict | list) or not place[key] or rng.random() < 0.3:
            place[key] = rng.choice(values)
            return json.dumps(document).encode()
        place = place[key]


PARTS: dict[str, Callable[[range], Case]] = {
    "layouts": of_layouts,
    "tables": of_tables,
    "lists": of_lists,
    "id-lists": of_id_lists,
    "seals": of_seals,
    "kept": of_kept,
    "models": of_models,
}
