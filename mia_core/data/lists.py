"""The black-box way in: ranked lists, or generated text, of a deployed recommender, read from one table.

One row is one recommendation: the user, its rank, and the item by id, title, or a text that names its title.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mia_core.data.columns import as_text, guess_columns
from mia_core.data.interactions import Interactions
from mia_core.data.tables import open_table, read_rows
from mia_core.errors import DataError

RANK = ("rank", "place", "position")
TEXT = ("text", "generated", "output", "response")
QUESTION = ("question",)
QUESTIONS = ("history", "no_history")
"""What the system was asked with: the user's own history, or none."""
LONGEST_TEXT = 100_000
LARGEST_RANK = 1_000_000


@dataclass(frozen=True)
class ServedLists:
    """What a deployed recommender recommended."""

    lists: Mapping[str, Mapping[str, np.ndarray]]
    """By question, then user: (length,) int32 catalogue positions, best first; -1: not an item of the catalogue."""
    unmatched: int
    """Recommendations that are no item of the catalogue."""
    notes: tuple[str, ...] = ()
    """Plain sentences on what was assumed."""


def read_lists(path: Path, interactions: Interactions) -> ServedLists:
    """The lists that a file holds, as positions in `interactions.items`.

    Args:
        path: CSV, TSV, Parquet or JSON lines with columns user, rank (whole numbers, the smallest is best), at least one
            of item, title and text, and, where the system was asked twice, question: history or no_history.
    Raises:
        DataError: the file is empty or damaged, a column is missing, a user is not in the data, a rank is not a whole
            number or stands twice, a question is unknown, or nothing is in the catalogue.
    """
    path = Path(path)
    table = open_table(path)
    raw = read_rows(table)
    columns = _columns(raw, path)
    if raw.is_empty():
        raise DataError(f"{path.name!r} holds no recommendations; give at least one row below the header")
    rows = pl.DataFrame(
        [
            raw["line"],
            _users(raw, columns["user"], interactions),
            _ranks(raw, columns["rank"]),
            _questions(raw, columns["question"]),
            _positions(raw, columns, interactions),
        ]
    )
    _check_ranks(rows, raw, columns)
    strange = raw.filter(rows["position"] < 0)
    notes = [*table.notes, *_strangers(strange, raw.height, columns), *_notes(rows, interactions, columns)]
    lists: dict[str, dict[str, np.ndarray]] = {}
    served = rows.sort("rank").group_by("question", "user", maintain_order=True).agg("position")
    for question, user, positions in served.rows():
        lists.setdefault(question, {})[user] = np.array(positions, dtype=np.int32)
    return ServedLists(lists, strange.height, tuple(notes))


def _columns(raw: pl.DataFrame, path: Path) -> dict[str, str]:
    """The column of each meaning; empty where there is none."""
    names = [name for name in raw.columns if name != "line"]
    guess = guess_columns(names)

    def called(candidates: Sequence[str]) -> str:
        return next((n for c in candidates for n in names if n.strip().casefold() == c), "")

    columns = {"user": guess.user, "item": guess.item, "title": guess.title, "rank": called(RANK), "text": called(TEXT)}
    columns["question"] = called(QUESTION)
    found = ", ".join(repr(name[:40]) for name in names[:20])
    for what in ("user", "rank"):
        if not columns[what]:
            raise DataError(
                f"{path.name!r} has no column {what!r} (found {found}); add it, one row for each recommendation"
            )
    if not (columns["item"] or columns["title"] or columns["text"]):
        raise DataError(
            f"{path.name!r} has no column 'item', 'title' or 'text' (found {found}); one of them must say what was recommended"
        )
    return columns


def _users(raw: pl.DataFrame, name: str, interactions: Interactions) -> pl.Series:
    users = as_text(raw, name, "user").str.strip_chars().fill_null("")
    bad = raw.filter(~users.is_in(interactions.users.implode()))
    if bad.height:
        raise DataError(
            f"line {bad['line'][0]}, column {name!r}: {_shown(bad[name][0])} is not a user of the data ({bad.height} such "
            "rows); ids are compared as text, letter by letter (00123 is not 123); correct them, or leave these rows out"
        )
    return users


def _ranks(raw: pl.DataFrame, name: str) -> pl.Series:
    values = raw[name].str.strip_chars() if raw[name].dtype == pl.String else raw[name]
    numbers = values.cast(pl.Float64, strict=False)
    whole = numbers.is_between(0, LARGEST_RANK) & (numbers.floor() == numbers)
    bad = raw.filter(~whole.fill_null(False))
    if bad.height:
        raise DataError(
            f"line {bad['line'][0]}, column {name!r}: {_shown(bad[name][0])} is not a whole number from 0 to "
            f"{LARGEST_RANK:,} ({bad.height} such rows); number each user's recommendations 1, 2, 3 …, the best first"
        )
    return numbers.cast(pl.Int64).alias("rank")


def _questions(raw: pl.DataFrame, name: str) -> pl.Series:
    if not name:
        return pl.Series("question", [QUESTIONS[0]] * raw.height, pl.String)
    asked = as_text(raw, name, "question").str.strip_chars().str.to_lowercase().fill_null("")
    bad = raw.filter(~asked.is_in(QUESTIONS))
    if bad.height:
        raise DataError(
            f"line {bad['line'][0]}, column {name!r}: {_shown(bad[name][0])} is no question ({bad.height} such rows); write "
            "history where the system knew the user's history and no_history where it did not"
        )
    if QUESTIONS[0] not in asked:
        raise DataError(
            f"column {name!r}: every row says {QUESTIONS[1]}; the lists served to users with their history must be there too"
        )
    return asked


def _check_ranks(rows: pl.DataFrame, raw: pl.DataFrame, columns: Mapping[str, str]) -> None:
    again = rows.filter(~pl.struct("user", "question", "rank").is_first_distinct())
    if not again.height:
        return
    line, user, rank, question, _ = again.row(0)
    once = rows.filter((pl.col("user") == user) & (pl.col("rank") == rank) & (pl.col("question") == question))["line"][
        0
    ]
    raise DataError(
        f"line {line}, column {columns['rank']!r}: user {_shown(user)} has rank {rank} a second time (first: line {once}; "
        f"{again.height} such rows); give every recommendation of a list a rank of its own, and put lists served "
        "without a history under question no_history"
    )


def _strangers(strange: pl.DataFrame, total: int, columns: Mapping[str, str]) -> list[str]:
    """What is to be said of the rows that are not in the catalogue."""
    if strange.is_empty():
        return []
    name = next(columns[what] for what in ("item", "title", "text") if columns[what])
    line, value = strange.item(0, "line"), _shown(strange.item(0, name))
    if strange.height == total:
        raise DataError(
            f"line {line}, column {name!r}: {value} is not in the catalogue, and nor is any other of the {total} "
            "recommendations; write ids or titles as the interaction data do"
        )
    return [
        f"{strange.height} of {total} recommendations are not in the catalogue and count as invented (first: line {line}, "
        f"{value})."
    ]


def _notes(rows: pl.DataFrame, interactions: Interactions, columns: Mapping[str, str]) -> list[str]:
    notes = []
    spans = rows.group_by("user", "question").agg(length=pl.len(), low=pl.min("rank"), high=pl.max("rank"))
    gaps = spans.filter((pl.col("high") - pl.col("low") + 1 > pl.col("length")) | (pl.col("low") > 1)).height
    if gaps:
        notes.append(f"{gaps} lists leave ranks out; what follows a gap moved up.")
    lengths = spans["length"].unique().sort().to_list()
    if len(lengths) > 1:
        notes.append(f"Lists are between {lengths[0]} and {lengths[-1]} items long.")
    if columns["question"]:
        once = spans.group_by("user").len().filter(pl.col("len") < len(QUESTIONS)).height
        if once:
            notes.append(f"{once} users have a list for one of the two questions only.")
    if columns["title"] or columns["text"]:
        shared = interactions.items.with_columns(pl.col("title").map_elements(_plain, pl.String))
        twice = int(shared["title"].is_duplicated().sum())
        if twice:
            notes.append(f"{twice} items have a title that another has too; it stands for the first of them by id.")
    return notes


def _positions(raw: pl.DataFrame, columns: Mapping[str, str], interactions: Interactions) -> pl.Series:
    """Position in the catalogue of each row, by id, else by title, else by the longest title that a text holds."""
    ids, titles = interactions.items["item"].to_list(), interactions.items["title"].to_list()
    by_id = {item: i for i, item in enumerate(ids)}
    # The first of equal titles wins.
    by_title = {_plain(title): i for i, title in reversed(list(enumerate(titles)))}
    mentions = _Mentions(titles)
    position = pl.Series("position", [None] * raw.height, pl.Int64)
    for what in ("item", "title", "text"):
        name = columns[what]
        if not name:
            continue
        values = _texts(raw, name) if what == "text" else as_text(raw, name, what)
        found: dict[str, int | None] = {}
        for value in values.drop_nulls().unique():
            place = by_id.get(value.strip())
            if place is None:
                place = by_title.get(_plain(value))
            if place is None and what == "text":
                place = mentions.longest(value)
            found[value] = place
        matched = values.replace_strict(list(found), list(found.values()), default=None, return_dtype=pl.Int64)
        position = position.fill_null(matched)
    return position.fill_null(-1)


def _texts(raw: pl.DataFrame, name: str) -> pl.Series:
    text = raw[name].cast(pl.String)
    long = raw.filter(text.str.len_bytes() > LONGEST_TEXT)
    if long.height:
        raise DataError(
            f"line {long['line'][0]}, column {name!r}: {_shown(long[name][0])} goes on for more than {LONGEST_TEXT:,} bytes; "
            "close the quote that is open there, or give one recommendation a row"
        )
    return text


class _Mentions:
    """Finds catalogue titles in running text, word by word, so that "It" is not found in "Italian"."""

    def __init__(self, titles: Sequence[str]) -> None:
        # Words lead to the words that follow them in a title, and no word to the position of the title that ends there:
        # titles that begin alike are walked through together.
        self.begin: dict[str, Any] = {}
        for i, title in enumerate(titles):
            place = self.begin
            for word in _words(title):
                place = place.setdefault(word, {})
            place.setdefault("", i)
        self.begin.pop("", None)

    def longest(self, text: str) -> int | None:
        """Position of the longest title in the text, the earliest of equals; None where there is none."""
        words, longest, found = _words(text), 0, None
        for start in range(len(words)):
            place, length = self.begin, 0
            for end in range(start, len(words)):
                place = place.get(words[end], {})
                length += len(words[end])
                if not place:
                    break
                if "" in place and length > longest:
                    longest, found = length, place[""]
        return found


def _plain(text: str) -> str:
    """Text without what differs between two spellings of one title: case, spaces, composed letters."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _words(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\w+", _plain(text)))


def _shown(value: object) -> str:
    text = "" if value is None else str(value)
    return repr(text[:40]) if text.strip() else "an empty field"
