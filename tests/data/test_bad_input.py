"""Each kind of bad input gets a message that names the place and the way out."""

from __future__ import annotations

import gzip
import io
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet
import pytest

from mia_core.data import tables
from mia_core.data.formats import FORMATS, inspect_source, load
from mia_core.errors import ConfigError, DataError
from mia_core.experiment import Columns

GOOD = "user,item,rating,timestamp\na,x,3,100\na,y,4,200\nb,x,5,300\n"


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write_(content: str | bytes, name: str = "data.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write_


def zipped() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("data.csv", GOOD)
    return stream.getvalue()


FUTURE = int(time.time()) + 10 * 86_400


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        ("   \n\n", "is empty"),
        ("user,item\n", "no interactions"),
        ("a text without any delimiter\nmore\n", "only one column"),
        ("name,age\nx,3\n", "no column looks like the user"),
        ("user,item,rating\na,x,3\na,y,good\n", "line 3, column 'rating': 'good' is not a number"),
        ("user,item,rating\na,x,3\na,y,NaN\n", "line 3, column rating: nan is not a finite number"),
        ("user,item,rating\na,x,inf\n", "line 2, column rating: inf"),
        ("user,item,timestamp\na,x,5\na,y,-7\n", "line 3, column timestamp: -7 is negative"),
        (f"user,item,timestamp\na,x,5\na,y,{FUTURE}\n", f"line 3, column timestamp: {FUTURE} is in the future"),
        ("user,item,date\na,x,2020-01-01\na,y,yesterday\n", "line 3, column 'date'"),
        ("user,item,rating\na,x,3\na,y,4,5,6\n", "line 3: 5 fields where the header has 3"),
        ("user,item,rating\na,x,3\na,y\nb,z,1\n", "line 3: 2 fields where the header has 3"),
        ('user,item,title,rating\na,x,"two\nlines",3\na,y,t,oops\n', "line 4, column 'rating': 'oops'"),
        ("user,item,rating\n\n\na,x,3\na,y,NaN\n", "line 5, column rating: nan"),
        ('user,item\na,"x\n' + "b,y\n" * 60_000, "line 2: field larger than .* quote"),
        ("user,item\na,x\na," + "y" * 50_000 + "\n", "line 3, column 'item': the field is longer"),
        ("user,item,timestamp\na,x,1e30\na,y,5\n", "line 2, column 'timestamp': '1e30' is not a time"),
        ('{"user":"a","item":"x"}\n{"user":"b",\n', "line 2: .* is not one JSON object"),
        ('[{"user":"a","item":"x"}]', "one JSON list|only one column|no column"),
        ("user,user,item\na,b,c\n", "'user' is there twice"),
        ("user,item,,\na,b,,\n", "2 columns have no name"),
        ("1,31,2.5,1260759144\n1,32,3,1260759145\n", "line 1: every column name is a number"),
        ('user,item,junk\na,x,k\na,y,"k\nb,x,k\n', "line 3: the quote that is open there never ends"),
        (zipped(), "zip archive"),
        (gzip.compress(GOOD.encode()), "gzip archive"),
        (b"user,item\na\x00b,c\n" * 3, "zero bytes"),
        ('user,"' + "x" * 200_000 + ",item\n", "line 1: field larger than .* close the quote"),
        (",".join(f"c{i}" for i in range(1_000_000)) + "\n1,2\n", r"1,000,000 columns|longer than"),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, str) else "bytes",
)
def test_a_bad_table_is_explained(content: str | bytes, said: str, write: Callable[..., Path]) -> None:
    started = time.monotonic()
    with pytest.raises(DataError, match=said):
        load(write(content))
    assert time.monotonic() - started < 10


def test_a_path_that_is_not_there_and_a_folder_without_tables(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        load(tmp_path / "nowhere.csv")
    (tmp_path / "picture.png").write_bytes(b"x")
    with pytest.raises(DataError, match="holds no table"):
        load(tmp_path)


def test_a_mapping_to_a_column_that_is_not_there(write: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match=r"no column 'person' for the user; its columns are .*'item'"):
        load(write(GOOD), columns=Columns(user="person", item="item"))
    with pytest.raises(ConfigError, match=r"data\.format is 'excel'"):
        load(write(GOOD), format="excel")


def test_a_column_cannot_be_both_the_user_and_the_item(write: Callable[..., Path]) -> None:
    with pytest.raises(ConfigError, match="'user' is both"):
        load(write(GOOD), columns=Columns(user="user", item="user"))


def test_a_text_that_recurs_a_million_times_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.parquet"
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 1_000_000, pa.int32()), pa.array(["x" * 100_000]))
    pyarrow.parquet.write_table(pa.table({"user": column, "item": column}), path)
    assert path.stat().st_size < 1_000_000
    with pytest.raises(DataError, match="unpacks to more than 4"):
        load(path)


def test_one_broken_file_of_two_is_the_one_that_is_named(write: Callable[..., Path], tmp_path: Path) -> None:
    write("movieId,title\nx,Rain\n", "movies.csv")
    write("userId,movieId,rating,timestamp\na,x,3\n", "ratings.csv")
    with pytest.raises(DataError, match=r"'ratings\.csv', line 2: 3 fields"):
        load(tmp_path)
    write("", "ratings.csv")
    with pytest.raises(DataError, match=r"'ratings\.csv' is empty"):
        inspect_source(tmp_path)


@pytest.mark.parametrize("format", [name for name in FORMATS if name != "recbole"])
def test_a_layout_that_the_file_does_not_have_is_named(format: str, write: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match=r"data\.csv|there is no|no column|line \d"):
        load(write("who,what\na,x\n"), format=format)


def test_a_published_format_without_its_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'u\.data' cannot be opened"):
        load(tmp_path, format="movielens-100k")


def test_a_parquet_bomb_is_refused_by_its_own_metadata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.parquet"
    column = pa.array(["x" * 1000] * 200_000)
    pyarrow.parquet.write_table(
        pa.table({"user": column, "item": column}), path, compression="zstd", use_dictionary=False
    )
    assert path.stat().st_size < 1_000_000
    monkeypatch.setattr(tables, "LARGEST_UNPACKED", 100 * 2**20)
    monkeypatch.setattr(pl, "read_parquet", lambda *a, **k: pytest.fail("unpacked it"))
    with pytest.raises(DataError, match="GiB unpacked"):
        load(path)
    (tmp_path / "cut.parquet").write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match="not a whole Parquet file"):
        load(tmp_path / "cut.parquet")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
def test_other_encodings_are_read(encoding: str, write: Callable[..., Path]) -> None:
    found = load(write("user,item,title\r\na,x,Amélie\r\nb,x,Amélie\r\n".encode(encoding)))
    assert found.items["title"].to_list() == ["Amélie"]


def test_ids_stay_text_and_odd_ones_survive(write: Callable[..., Path]) -> None:
    found = load(write('user,item\r\n00123,"a, b"\r\n"Zoë 🎬","say ""hi"""\r\n two words ,x\r\n'))
    assert set(found.frame["user"]) == {"00123", "Zoë 🎬", "two words"}
    assert {"a, b", 'say "hi"', "x"} == set(found.frame["item"])


def test_repetitions_and_lonely_users_are_dropped_or_noted_not_fatal(write: Callable[..., Path]) -> None:
    found = load(write(GOOD + "a,x,3,100\na,x,1,900\n,x,3,1\n"))
    notes = " ".join(found.notes)
    assert found.frame.height == 3
    assert "1 repeated rows" in notes
    assert "1 later interactions" in notes
    assert "1 rows without a user" in notes
    assert "line 7" in notes
    assert "1 users have a single interaction" in notes
    assert found.frame.filter(pl.col("user") == "a", pl.col("item") == "x")["rating"].to_list() == [3.0]


def test_a_preview_says_what_is_missing_and_costs_little(write: Callable[..., Path]) -> None:
    preview = inspect_source(write("who;what\n1;2\n"))
    assert preview.columns == ["who", "what"]
    assert len(preview.problems) == 2
    found = load(write("who;what\n1;2\n1;3\n"), columns=Columns(user="who", item="what"))
    assert found.frame.height == 2


def test_a_packed_file_is_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "reviews_Books.json.gz").write_bytes(b"\x1f\x8b")
    with pytest.raises(DataError, match=r"unpack 'reviews_Books.json.gz' first"):
        load(tmp_path)
