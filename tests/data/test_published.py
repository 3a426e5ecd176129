"""Every published layout is told from its files and read as it is published."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from mia_core.data.formats import FORMATS, inspect_source, load
from mia_core.data.interactions import Interactions
from mia_core.errors import DataError

Write = Callable[[str, str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write_


def rows(interactions: Interactions) -> list[tuple[object, ...]]:
    return interactions.frame.rows()


def titles(interactions: Interactions) -> dict[str, str]:
    return dict(interactions.items.rows())


def lines(*objects: object) -> str:
    return "".join(json.dumps(one) + "\n" for one in objects)


def test_yoochoose_clicks_are_sessions_in_order_of_their_times(write: Write, tmp_path: Path) -> None:
    path = write(
        "yoochoose-clicks.dat",
        "2,2014-04-07T13:57:19.373Z,214662742,0\n1,2014-04-07T10:54:46.998Z,214536500,0\n"
        "1,2014-04-07T10:51:09.277Z,214536502,S\n2,2014-04-07T14:02:37.889Z,214662742,0\n",
    )
    found = load(tmp_path)
    assert inspect_source(tmp_path).format == inspect_source(path).format == "yoochoose-clicks"
    assert found.unit == "session"
    assert rows(found) == [
        ("1", "214536502", None, 1396867869),
        ("1", "214536500", None, 1396868086),
        ("2", "214662742", None, 1396879039),
        ("2", "214662742", None, 1396879357),
    ]


def test_clicks_within_one_second_keep_the_order_of_the_file(write: Write) -> None:
    path = write(
        "yoochoose-clicks.dat",
        "1,2014-04-07T10:51:09.100Z,30,0\n1,2014-04-07T10:51:09.500Z,10,0\n1,2014-04-07T10:51:09.900Z,20,0\n",
    )
    assert load(path).frame["item"].to_list() == ["30", "10", "20"]


def test_yoochoose_sessions_are_put_in_order_by_their_positions(write: Write, tmp_path: Path) -> None:
    write("sessions.csv", "session_id,position,item_id\n7,2,30\n7,0,10\n7,10,40\n7,1,30\n")
    found = load(tmp_path)
    assert inspect_source(tmp_path).format == "yoochoose-sessions"
    assert (found.unit, found.has_timestamps) == ("session", False)
    assert found.frame["item"].to_list() == ["10", "30", "30", "40"]


def test_hetrec_lastfm_has_histories_and_titles_in_many_scripts(write: Write, tmp_path: Path) -> None:
    write("user_artists.dat", "userID\tartistID\tweight\n2\t51\t13883\n2\t52\t11690\n")
    write("artists.dat", 'id\tname\turl\n51\t"Weird Al"\thttp://x\n52\t椎名林檎\thttp://y\n')
    found = load(tmp_path)
    assert inspect_source(tmp_path).format == "lastfm-2k"
    assert rows(found) == [("2", "51", None, None), ("2", "52", None, None)]
    assert titles(found) == {"51": '"Weird Al"', "52": "椎名林檎"}


def test_hetrec_delicious_counts_a_bookmark_once_at_its_first_tag(write: Write, tmp_path: Path) -> None:
    write(
        "user_taggedbookmarks-timestamps.dat",
        "userID\tbookmarkID\ttagID\ttimestamp\n8\t7\t1\t1289255362000\n8\t7\t6\t1289255159000\n8\t1\t1\t1289255362000\n",
    )
    write("bookmarks.dat", "id\tmd5\ttitle\turl\n1\tab\tIFLA - official site\thttp://ifla\n7\tcd\tcut off\n")
    found = load(tmp_path)
    assert inspect_source(tmp_path).format == "delicious-2k"
    assert rows(found) == [("8", "7", None, 1289255159), ("8", "1", None, 1289255362)]
    assert titles(found) == {"1": "IFLA - official site", "7": "7"}
    assert "bookmarks.dat: 1 rows that are cut off or too long were left out." in found.notes


def test_book_crossing_with_its_books(write: Write, tmp_path: Path) -> None:
    write(
        "BX-Book-Ratings.csv",
        '"User-ID";"ISBN";"Book-Rating"\r\n"8";"0195153448";"0"\r\n"8";"034545104X";"5"\r\n"9";"0000000001";"7"\r\n'.encode(
            "latin-1"
        ),
    )
    assert titles(load(tmp_path))["0195153448"] == "0195153448"
    write(
        "BX-Books.csv",
        '"ISBN";"Book-Title";"Book-Author"\r\n"0195153448";"Les Misérables; \\"abridged\\"";"Hugo"\r\n'
        '"0000000001";"Glued to its author\\";Somebody"\r\n"034545104X";"Flesh &amp; Blood";"J. K."\r\n'.encode(
            "latin-1"
        ),
    )
    found = load(tmp_path)
    assert inspect_source(tmp_path).format == "book-crossing"
    assert rows(found) == [
        ("8", "0195153448", None, None),
        ("8", "034545104X", 5.0, None),
        ("9", "0000000001", 7.0, None),
    ]
    assert titles(found)["0195153448"] == 'Les Misérables; "abridged"'
    assert titles(found)["0000000001"] == "0000000001"


def test_amazon_reviews_up_to_2018(write: Write, tmp_path: Path) -> None:
    write(
        "Books_5.json",
        lines(
            {
                "overall": 5.0,
                "reviewerID": "A2",
                "asin": "0001",
                "unixReviewTime": 1390435200,
                "style": {"Format:": "x"},
            },
            {
                "overall": 3.0,
                "vote": "4",
                "reviewerID": "A1",
                "asin": "B00X",
                "unixReviewTime": 1252800000,
                "image": ["u"],
            },
        ),
    )
    write("meta_Books.json", lines({"asin": "0001", "title": "Old Book", "also_buy": []}, {"asin": "0002"}))
    found = load(tmp_path)
    assert inspect_source(tmp_path).format == "amazon-2018"
    assert rows(found) == [("A1", "B00X", 3.0, 1252800000), ("A2", "0001", 5.0, 1390435200)]
    assert titles(found) == {"0001": "Old Book", "B00X": "B00X"}


def test_amazon_reviews_of_2023_take_the_title_of_the_product_not_of_the_review(write: Write, tmp_path: Path) -> None:
    review = {"rating": 4.0, "title": "Loved it", "images": [], "asin": "V1", "parent_asin": "P1", "user_id": "AE"}
    write("All_Beauty.jsonl", lines({**review, "timestamp": 1588687728923, "verified_purchase": True}))
    write("meta_All_Beauty.jsonl", lines({"title": "Howard Lotion", "parent_asin": "P1", "features": ["x"]}))
    found = load(tmp_path)
    assert inspect_source(tmp_path).format == "amazon-2023"
    assert rows(found) == [("AE", "P1", 4.0, 1588687728)]
    assert titles(found) == {"P1": "Howard Lotion"}


def test_amazon_ratings_have_no_header_line(write: Write, tmp_path: Path) -> None:
    path = write("ratings_Books.csv", "A1,0001,5.0,1362873600\nA2,0001,4.0,1362873601\n")
    assert inspect_source(tmp_path).format == inspect_source(path).format == "amazon-ratings"
    assert rows(load(tmp_path)) == [("A1", "0001", 5.0, 1362873600), ("A2", "0001", 4.0, 1362873601)]
    write("ratings_Books.csv", "user,item,rating,timestamp\nA1,0001,5.0,1362873600\n")
    assert inspect_source(tmp_path).format == "table"
    assert load(tmp_path).frame.height == 1


def test_recbole_files_tell_their_columns_by_kind(write: Write, tmp_path: Path) -> None:
    path = write(
        "ml-100k.inter",
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n196\t242\t3\t881250949\n186\t302\t3\t891717742\n",
    )
    write(
        "ml-100k.item", "item_id:token\tmovie_title:token_seq\tclass:token_seq\n242\tKolya\tComedy\n302\tL.A.\tCrime\n"
    )
    found = load(path)
    assert inspect_source(tmp_path).format == inspect_source(path).format == "recbole"
    assert found.unit == "user"
    assert rows(found) == [("186", "302", 3.0, 891717742), ("196", "242", 3.0, 881250949)]
    assert titles(found) == {"242": "Kolya", "302": "L.A."}


def test_recbole_sessions_and_histories_that_were_cut_already(write: Write, tmp_path: Path) -> None:
    path = write("diginetica.inter", "session_id:token\titem_id:token\ttimestamp:float\n1\t9\t5\n1\t8\t6\n1\t9\t7\n")
    found = load(tmp_path)
    assert found.unit == "session"
    assert found.frame["item"].to_list() == ["9", "8", "9"]
    write("diginetica.inter", "session_id:token\titem_id_list:token_seq\titem_id:token\n1\t9 8\t9\n")
    with pytest.raises(DataError, match="item_id_list:token_seq' holds whole histories"):
        load(path)


def record(liked: list[str], disliked: list[str], target: str, answer: str, kind: str = "movie") -> dict[str, str]:
    return {
        "instruction": f'Identify whether the user will like the target {kind} by answering "Yes." or "No.".',
        "input": f"User Preference: {', '.join(liked)}\nUser Unpreference: {', '.join(disliked)}\n"
        f"Whether the user will like the target {kind} {target}?",
        "output": answer,
    }


def test_tallrec_records_that_go_on_from_one_another_are_one_person(write: Write, tmp_path: Path) -> None:
    documents = [
        record(['"A, The (1991)"', '"B"'], ['"C"'], '"D"', "No."),
        record(['"A, The (1991)"', '"B"'], ['"C"', '"D"'], '"E"', "Yes."),
        # The oldest title has left the window.
        record(['"B"', '"E"'], ['"C"', '"D"'], '"F"', "Yes."),
        record(['"B"', '"E"'], [], '"F"', "No."),
    ]
    write("train.json", json.dumps(documents, indent=4))
    found = load(tmp_path)
    assert inspect_source(tmp_path).format == "tallrec"
    assert (found.unit, found.has_timestamps) == ("user", False)
    people = {
        user: (frame["item"].to_list(), frame["rating"].to_list()) for (user,), frame in found.frame.group_by("user")
    }
    assert people == {
        "1": (["A, The (1991)", "B", "C", "D", "E", "F"], [1.0, 1.0, 0.0, 0.0, 1.0, 1.0]),
        "4": (["B", "E", "F"], [1.0, 1.0, 0.0]),
    }
    assert any("name no people" in note for note in found.notes)


def test_a_tallrec_book_is_the_same_in_a_list_and_as_a_target(write: Write, tmp_path: Path) -> None:
    one = '"I, Claudius" written by Robert Graves'
    other = '"Fishing" written by Albert Jules, McClane'
    documents = [
        record([other, one], [], '""Friday" written by Robert Heinlein"', "Yes.", "book"),
        record([], ['"Dune" written by F. H."'], f'"{one}"', "No.", "book"),
    ]
    write("train.json", json.dumps(documents))
    found = load(tmp_path)
    liked = found.frame.filter(pl.col("user") == "1")["item"].to_list()
    assert liked == [
        "Fishing written by Albert Jules, McClane",
        "I, Claudius written by Robert Graves",
        "Friday written by Robert Heinlein",
    ]
    assert found.frame.filter(pl.col("user") == "2")["item"].to_list()[-1] == "I, Claudius written by Robert Graves"


def test_a_tallrec_record_without_an_answer_is_named(write: Write, tmp_path: Path) -> None:
    documents = [record(['"A"'], [], '"B"', "Yes."), record(['"A"'], [], '"B"', "Maybe.")]
    write("train.json", json.dumps(documents))
    with pytest.raises(DataError, match=r"record 2: .* output Yes\. or No\."):
        load(tmp_path)


def test_of_several_files_of_a_layout_the_largest_is_read_or_the_one_that_is_named(
    write: Write, tmp_path: Path
) -> None:
    small = write("valid.json", json.dumps([record(['"A"'], [], '"B"', "Yes.")]))
    write("train.json", json.dumps([record(['"A"'], [], f'"{title}"', "Yes.") for title in "CDEF"]))
    assert load(tmp_path).frame["user"].n_unique() == 4
    assert load(small).frame["item"].to_list() == ["A", "B"]


def test_a_layout_that_is_named_reads_a_file_of_any_name(write: Write) -> None:
    path = write("my clicks.txt", "1,2014-04-07T10:51:09.277Z,30,0\n1,2014-04-07T10:52:09.277Z,10,0\n")
    assert load(path, format="yoochoose-clicks").frame["item"].to_list() == ["30", "10"]


def test_a_layout_that_is_named_is_looked_for_in_its_folder_only(write: Write, tmp_path: Path) -> None:
    write("sessions.csv", "session_id,position,item_id\n7,0,10\n7,1,30\n")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="cannot be opened"):
        load(tmp_path / "empty", format="yoochoose-sessions")


def test_a_table_whose_column_is_called_session_holds_sessions(write: Write) -> None:
    path = write("log.csv", "sessionId,product,time\ns1,x,10\ns1,y,20\ns1,x,30\n")
    found = load(path)
    assert found.unit == "session"
    assert found.frame["item"].to_list() == ["x", "y", "x"]


def test_later_interactions_with_an_item_stay_where_visits_will_be_cut(write: Write) -> None:
    path = write("log.csv", "user,item,time\na,x,10\na,y,20\na,x,90000\n")
    assert load(path).frame["item"].to_list() == ["x", "y"]
    assert load(path, repeats=True).frame["item"].to_list() == ["x", "y", "x"]


def test_one_json_list_of_objects_is_a_table_too(write: Write) -> None:
    path = write("log.json", json.dumps([{"user": "a", "item": "x"}, {"user": "a", "item": "y", "rating": 2}]))
    assert rows(load(path)) == [("a", "x", None, None), ("a", "y", 2.0, None)]


def test_every_layout_describes_itself() -> None:
    for layout in FORMATS.values():
        assert layout.summary.endswith(".")
        assert layout.title
