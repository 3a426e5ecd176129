from __future__ import annotations

import os
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mia_core.data.formats import FORMATS, inspect_source, load
from mia_core.data.interactions import Interactions, validate
from mia_core.data.synthetic import generate
from mia_core.experiment import Synthetic

REAL = os.environ.get("MIA_REAL_DATA", "")
real_data = pytest.mark.skipif(not REAL, reason="MIA_REAL_DATA names no folder with real data")


@pytest.fixture(scope="module")
def made() -> Interactions:
    return generate(Synthetic(users=40, items=30), 0)


def same(one: Interactions, other: Interactions) -> None:
    assert one.frame.equals(other.frame)
    assert one.items.equals(other.items)
    assert one.key == other.key


@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet", "jsonl"])
def test_every_kind_of_table_gives_the_same_data_and_key(kind: str, made: Interactions, tmp_path: Path) -> None:
    table = made.frame.join(made.items, on="item").sample(fraction=1, shuffle=True, seed=1)
    path = tmp_path / f"data.{kind}"
    if kind == "parquet":
        table.write_parquet(path)
    elif kind == "jsonl":
        table.write_ndjson(path)
    else:
        table.write_csv(
            path, separator="\t" if kind == "tsv" else ",", quote_style="never" if kind == "tsv" else "necessary"
        )
    same(load(path), made)
    assert inspect_source(path).guess.user == "user"


def test_movielens_layouts_are_recognised(made: Interactions, tmp_path: Path) -> None:
    ratings = made.frame.with_columns(pl.col("rating").cast(pl.String), pl.col("timestamp").cast(pl.String))
    folders = {name: tmp_path / name for name in ("movielens-csv", "movielens-dat", "movielens-100k")}
    for folder in folders.values():
        folder.mkdir()
    csv = folders["movielens-csv"]
    made.frame.rename({"user": "userId", "item": "movieId"}).write_csv(csv / "ratings.csv")
    made.items.rename({"item": "movieId"}).with_columns(genres=pl.lit("Drama")).write_csv(csv / "movies.csv")
    dat, old = folders["movielens-dat"], folders["movielens-100k"]
    (dat / "ratings.dat").write_text("".join("::".join(row) + "\n" for row in ratings.iter_rows()))
    (dat / "movies.dat").write_text(
        "".join(f"{i}::{t}::Drama\n" for i, t in made.items.iter_rows()), encoding="latin-1"
    )
    (old / "u.data").write_text("".join("\t".join(row) + "\n" for row in ratings.iter_rows()))
    rest = "|" * 21
    (old / "u.item").write_text(
        "".join(f"{i}|{t}|01-Jan-1995{rest}\n" for i, t in made.items.iter_rows()), encoding="latin-1"
    )
    for name, folder in folders.items():
        assert inspect_source(folder).format == name
        same(load(folder), made)
    assert inspect_source(csv / "ratings.csv").format == "movielens-csv"


def test_a_table_of_titles_beside_the_interactions_is_found(made: Interactions, tmp_path: Path) -> None:
    made.frame.write_csv(tmp_path / "log.csv")
    made.items.rename({"item": "code", "title": "name"}).write_csv(tmp_path / "catalogue.csv")
    same(load(tmp_path), made)


@pytest.mark.parametrize(
    ("times", "expected"),
    [(["86400", "172800"], [86400, 172800]), (["1600000000000000", "1600000001000000"], [1600000000, 1600000001]),
     (["2020-01-01T00:00:00+05:30", "2020-01-01 00:00:00-0100"], [1577817000, 1577840400]),
     (["1600000000000", "1600000001000"], [1600000000, 1600000001]),
     (["1970-01-02", "1970-01-03"], [86400, 172800]), (["1970-01-02T00:00:01Z", "1970-01-03 00:00"], [86401, 172800])],
)  # fmt: skip
def test_times_are_read_in_any_usual_form(times: list[str], expected: list[int], tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("user,item,timestamp\n" + "".join(f"a,x{i},{t}\n" for i, t in enumerate(times)))
    assert load(path).frame["timestamp"].to_list() == expected


def test_a_parquet_table_keeps_whole_ids_and_the_moment_of_times(tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    times = (
        pl.Series([0, 3_600_000_000])
        .cast(pl.Datetime("us"))
        .dt.replace_time_zone("UTC")
        .dt.convert_time_zone("Asia/Tokyo")
    )
    pl.DataFrame({"user": [1.0, 1.0], "item": [10.0, 11.0], "time": times, "tags": [["a"], ["b"]]}).write_parquet(path)
    assert load(path).frame.rows() == [("1", "10", None, 0), ("1", "11", None, 3_600)]


def test_a_tab_separated_file_may_quote_its_fields(tmp_path: Path) -> None:
    path = tmp_path / "data.tsv"
    path.write_text('"user"\t"item"\t"title"\n"a"\t"x"\t"One ""two"""\n')
    assert load(path).items.rows() == [("x", 'One "two"')]
    path.write_text('user\titem\ttitle\na\tx\t"Weird Al" Y\n')
    assert load(path).items.rows() == [("x", '"Weird Al" Y')]


def test_other_tables_of_the_same_names_are_no_published_layout(tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").write_text("user,item\na,x\na,y\n")
    (tmp_path / "movies.csv").write_text("item,title\nx,Rain\n")
    assert inspect_source(tmp_path).format == "table"
    assert load(tmp_path).items.rows() == [("x", "Rain"), ("y", "y")]


def test_different_items_of_one_title_stay_different(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("user,item,title\na,1, Same \na,2,Same\n")
    assert load(path).items.rows() == [("1", "Same"), ("2", "Same")]


TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp", "Zs")), min_size=1, max_size=12)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=12))
def test_any_ids_survive_writing_and_reading(rows: list[tuple[str, str]], tmp_path: Path) -> None:
    frame = pl.DataFrame(rows, schema={"user": pl.String, "item": pl.String}, orient="row")
    before = validate(frame)
    before.write(tmp_path)
    same(Interactions.read(tmp_path), before)
    path = tmp_path / "data.csv"
    frame.write_csv(path)
    same(load(path), before)


@real_data
@pytest.mark.real_data
@pytest.mark.parametrize(
    ("folder", "users", "rows", "ratings", "times"),
    [
        ("ml-latest-small", 610, 100_836, True, True),
        ("lastfm-2k", 1_892, 92_834, False, False),
        ("book-crossing", 5_184, 60_110, True, False),
    ],
)
def test_published_files_have_their_published_sizes(
    folder: str, users: int, rows: int, ratings: bool, times: bool
) -> None:
    found = load(Path(REAL) / folder)
    summary = found.summary()
    assert (summary["users"], summary["interactions"]) == (users, rows)
    assert (summary["ratings"], summary["timestamps"]) == (ratings, times)
    assert inspect_source(Path(REAL) / folder).format in FORMATS


@real_data
@pytest.mark.real_data
def test_isbns_keep_their_leading_zeros_and_letters() -> None:
    found = load(Path(REAL) / "book-crossing")
    assert "034545104X" in set(found.items["item"])
    assert found.frame["rating"].min() == 1.0
