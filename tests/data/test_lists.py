"""What a deployed system recommended, read from a file; each kind of bad input names the place and the way out."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from mia_core.data.interactions import Interactions, validate
from mia_core.data.lists import QUESTIONS, ServedLists, read_lists
from mia_core.errors import DataError
from mia_core.observe.views import Catalogue

TITLES = {
    "1": "It",
    "2": "The Italian Job (1969)",
    "3": "Italian",
    "4": "Amélie",
    "5": "Heat",
    "6": "heat",
    "7": "City of God: Part 2",
    "8": "City of God",
    "9": "???",
}
GOOD = "user,rank,item\na,1,4\na,2,3\nb,1,1\nb,2,2\n"


@pytest.fixture
def interactions() -> Interactions:
    rows = [(user, item) for user in ("a", "b", "00123") for item in TITLES]
    items = pl.DataFrame({"item": list(TITLES), "title": list(TITLES.values())})
    return validate(pl.DataFrame(rows, schema=["user", "item"], orient="row"), items)


@pytest.fixture
def read(tmp_path: Path, interactions: Interactions) -> Callable[..., ServedLists]:
    def read_(content: str, name: str = "lists.csv") -> ServedLists:
        path = tmp_path / name
        path.write_text(content, encoding="utf-8")
        return read_lists(path, interactions)

    return read_


def named(served: ServedLists, interactions: Interactions) -> dict[str, dict[str, list[str]]]:
    """The lists as item ids, "" for what is not in the catalogue."""
    ids = [*interactions.items["item"].to_list(), ""]
    return {
        question: {u: [ids[i] for i in mine] for u, mine in lists.items()} for question, lists in served.lists.items()
    }


def test_lists_by_id(read: Callable[..., ServedLists], interactions: Interactions) -> None:
    served = read(GOOD)
    assert named(served, interactions) == {"history": {"a": ["4", "3"], "b": ["1", "2"]}}
    assert served.unmatched == 0
    assert served.notes == ()
    assert str(served.lists["history"]["a"].dtype) == "int32"


def test_positions_are_those_of_the_catalogue_that_attacks_use(
    read: Callable[..., ServedLists], interactions: Interactions
) -> None:
    catalogue = Catalogue.of(interactions.items["item"].to_list()[::-1], [])
    assert [catalogue.items[i] for i in read(GOOD).lists["history"]["a"]] == ["4", "3"]


@pytest.mark.parametrize("kind", ["tsv", "jsonl", "parquet"])
def test_every_table_kind_gives_the_same_lists(
    kind: str, read: Callable[..., ServedLists], interactions: Interactions, tmp_path: Path
) -> None:
    rows = [{"user": "a", "rank": 2, "item": 3}, {"user": "a", "rank": 1, "item": 4}]
    path = tmp_path / f"lists.{kind}"
    if kind == "parquet":
        pl.DataFrame(rows).write_parquet(path)
    elif kind == "tsv":
        path.write_text("user\trank\titem\na\t2\t3\na\t1\t4\n", encoding="utf-8")
    else:
        path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    assert named(read_lists(path, interactions), interactions) == {"history": {"a": ["4", "3"]}}


def test_ranks_decide_the_order_not_lines(read: Callable[..., ServedLists], interactions: Interactions) -> None:
    served = read("rank,user,item\n10,a,1\n2,a,2\n1.0,a,3\n 9 ,a,4\n")
    assert named(served, interactions)["history"]["a"] == ["3", "2", "4", "1"]
    assert any("leave ranks out" in note for note in served.notes)
    assert not any("ranks" in note for note in read("user,rank,item\na,0,1\na,1,2\n").notes)


def test_titles_are_compared_without_case_spaces_and_composition(
    read: Callable[..., ServedLists], interactions: Interactions
) -> None:
    served = read("user,rank,title\na,1,  THE ITALIAN  job (1969)\na,2,ame\u0301lie\na,3,???\na,4,italia\n")
    assert named(served, interactions)["history"]["a"] == ["2", "4", "9", ""]
    assert served.unmatched == 1
    assert any("1 of 4 recommendations are not in the catalogue" in n and "line 5, 'italia'" in n for n in served.notes)


def test_a_title_of_several_items_stands_for_the_first(
    read: Callable[..., ServedLists], interactions: Interactions
) -> None:
    served = read("user,rank,title\na,1,HEAT\n")
    assert named(served, interactions)["history"]["a"] == ["5"]
    assert any("2 items have a title that another has too" in note for note in served.notes)


def test_an_id_comes_before_a_title_and_an_item_column_before_the_others(
    read: Callable[..., ServedLists], interactions: Interactions
) -> None:
    served = read("user,rank,item,title,text\na,1,4,It,Heat\na,2,,It,Heat\na,3,,,I say Heat\na,4,,,\na,5,amélie,,\n")
    assert named(served, interactions)["history"]["a"] == ["4", "1", "5", "", "4"]


@pytest.mark.parametrize(
    ("text", "item"),
    [
        ("You will enjoy The Italian Job (1969), I am sure.", "2"),
        ("the italian job 1969", "2"),
        ("An Italian classic", "3"),
        ("Italians like Amelie", ""),
        ("Watch City of God!", "8"),
        ("Watch City of God - part 2 - and Heat", "7"),
        ("I'd say it is Heat", "5"),
        ("", ""),
        ("...", ""),
        ("Try “Amélie”.", "4"),
    ],
)
def test_generated_text_names_the_longest_title_it_holds(
    text: str, item: str, interactions: Interactions, tmp_path: Path
) -> None:
    path = tmp_path / "text.jsonl"
    rows = [{"user": "a", "rank": 1, "text": text}, {"user": "b", "rank": 1, "text": "Heat"}]
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    assert named(read_lists(path, interactions), interactions)["history"]["a"] == [item]


def test_the_longest_title_by_trying_every_one(interactions: Interactions, tmp_path: Path) -> None:
    rng = random.Random(0)
    words = "it the italian job 1969 heat city of god part 2 amélie then".split()
    texts = [" ".join(rng.choices(words, k=12)) for _ in range(200)]
    path = tmp_path / "text.jsonl"
    rows = [{"user": "a", "rank": i, "text": text} for i, text in enumerate(texts, start=1)]
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    found = named(read_lists(path, interactions), interactions)["history"]["a"]
    plain = {item: " ".join(re.sub(r"\W", " ", title).casefold().split()) for item, title in TITLES.items()}
    for text, item in zip(texts, found, strict=True):
        held = [title for title in plain.values() if title and f" {title} " in f" {text} "]
        longest = max((len(title.replace(" ", "")) for title in held), default=0)
        assert len(plain.get(item, "").replace(" ", "")) == longest


def test_a_second_question_is_kept_apart(read: Callable[..., ServedLists], interactions: Interactions) -> None:
    served = read(
        "user,rank,item,Question\na,1,4,history\na,1,3,no_history\na,2,2,No_History\nb,1,1,history\n00123,1,1,history\n"
    )
    assert named(served, interactions) == {
        "history": {"a": ["4"], "b": ["1"], "00123": ["1"]},
        "no_history": {"a": ["3", "2"]},
    }
    assert any("2 users have a list for one of the two questions only" in note for note in served.notes)
    assert any("between 1 and 2 items long" in note for note in served.notes)
    assert set(served.lists) == set(QUESTIONS)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is empty"),
        ("user,rank,item\n", "holds no recommendations; give at least one row"),
        ("rank,item\n1,4\n", "no column 'user' (found 'rank', 'item'); add it"),
        ("user,item\na,4\n", "no column 'rank' (found 'user', 'item'); add it"),
        ("user,rank\na,1\n", "no column 'item', 'title' or 'text' (found 'user', 'rank')"),
        ("user,rank,item\na,1,4\na,first,3\n", "line 3, column 'rank': 'first' is not a whole number"),
        ("user,rank,item\na,1.5,4\n", "line 2, column 'rank': '1.5' is not a whole number"),
        ("user,rank,item\na,-1,4\n", "line 2, column 'rank': '-1' is not a whole number"),
        ("user,rank,item\na,,4\n", "line 2, column 'rank': an empty field is not a whole number"),
        ("user,rank,item\na,nan,4\na,inf,3\n", "line 2, column 'rank': 'nan' is not a whole number from 0"),
        ("user,rank,item\na,1,4\nb,1,4\na,1,3\n", "line 4, column 'rank': user 'a' has rank 1 a second time (first: line 2"),
        ("user,rank,item\na,1,4\nzed,1,4\n", "line 3, column 'user': 'zed' is not a user of the data (1 such rows)"),
        ("user,rank,item\n123,1,4\n", "'123' is not a user of the data"),
        ("user,rank,item\na,1,4\n,1,4\n", "line 3, column 'user': an empty field is not a user"),
        ("user,rank,item\na,1,x\nb,1,y\n", "line 2, column 'item': 'x' is not in the catalogue, and nor is any other of the 2"),
        ("user,rank,item,question\na,1,4,history\na,2,3,why\n", "line 3, column 'question': 'why' is no question"),
        ("user,rank,item,question\na,1,4,history\na,2,3,\n", "line 3, column 'question': an empty field is no question"),
        ("user,rank,item,question\na,1,4,no_history\n", "every row says no_history"),
        ("user,rank,item\na,1,4,5\n", "line 2: 4 fields where the header has 3"),
        (f"user,rank,item\na,1,{'x' * 50_000}\n", "line 2, column 'item': the field is longer than"),
        (f"user,rank,text\na,1,{'x' * 100_001}\n", "line 2, column 'text': 'xxx"),
    ],
)  # fmt: skip
def test_bad_files_are_explained(content: str, said: str, read: Callable[..., ServedLists]) -> None:
    with pytest.raises(DataError) as error:
        read(content)
    assert said in str(error.value)


def test_a_missing_file_is_explained(interactions: Interactions, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be opened"):
        read_lists(tmp_path / "nothing.csv", interactions)


def test_ids_that_parquet_keeps_as_numbers(interactions: Interactions, tmp_path: Path) -> None:
    path = tmp_path / "lists.parquet"
    pl.DataFrame({"user": ["a", "a"], "rank": [1, 2], "item": [4.0, None]}).write_parquet(path)
    served = read_lists(path, interactions)
    assert named(served, interactions)["history"]["a"] == ["4", ""]
    pl.DataFrame({"user": ["a"], "rank": [1], "item": [None]}, schema_overrides={"item": pl.String}).write_parquet(path)
    with pytest.raises(DataError, match="an empty field is not in the catalogue"):
        read_lists(path, interactions)
