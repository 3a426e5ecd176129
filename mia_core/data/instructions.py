"""Histories from instruction-tuning records that ask for a yes or no after liked and disliked titles (TALLRec)."""

from __future__ import annotations

import re

import polars as pl

from mia_core.errors import DataError

HEADS = [
    re.compile(head, re.IGNORECASE)
    for head in (r"User Preference:", r"\nUser Unpreference:", r"\nWhether the user will like the target \w+ ")
]
"""What the three parts of a record begin with. Each is looked for once, as one pattern would try every way to cut a text."""
SCHEMA = {"line": pl.UInt32, "user": pl.String, "item": pl.String, "title": pl.String, "rating": pl.Float64,
          "position": pl.Int64}  # fmt: skip


def histories(rows: pl.LazyFrame) -> pl.LazyFrame:
    """One row per title that a person liked or disliked, in order, from rows with ``line``, ``input`` and ``output``.

    Records are cut from histories by a window that moves on by one title: the record that continues the one before it is
    the same person's, and only the title that it asks for is new.

    Raises:
        DataError: a record does not hold both lists and a title with its answer.
    """
    names = rows.collect_schema().names()
    if missing := [name for name in ("input", "output") if name not in names]:
        raise DataError(
            f"there is no {missing[0]!r} in the records; instruction records have instruction, input and output: choose another "
            "layout"
        )
    found: list[tuple[int, str, str, str, float, int]] = []
    window: dict[str, float] = {}
    user, position = "", 0
    for line, text, output in rows.select("line", "input", "output").collect().iter_rows():
        shown, target, answer = _record(line, text, output)
        if not _continues(shown, window):
            user, position = str(line), 0
            for title, rating in shown.items():
                position += 1
                found.append((line, user, title, title, rating, position))
        position += 1
        found.append((line, user, target, target, answer, position))
        window = {**shown, target: answer}
    return pl.LazyFrame(found, schema=SCHEMA, orient="row")


def _continues(shown: dict[str, float], window: dict[str, float]) -> bool:
    """Whether a history is that of the record before and its target, but for at most one title."""
    return (
        bool(window) and shown.items() <= window.items() and len(shown) >= len(window) - 1 and list(window)[-1] in shown
    )


def _record(line: int, text: str | None, output: str | None) -> tuple[dict[str, float], str, float]:
    parts = _parts(text or "")
    answer = {"yes": 1.0, "no": 0.0}.get((output or "").strip().rstrip(".").casefold())
    if not parts or answer is None:
        raise DataError(
            f"record {line}: input must give User Preference, User Unpreference and one target title, and output Yes. or No.; "
            "correct the record, or leave it out"
        )
    liked, disliked, target = parts
    shown = dict.fromkeys(_titles(liked), 1.0)
    shown |= dict.fromkeys((title for title in _titles(disliked) if title not in shown), 0.0)
    return shown, _plain(target), answer


def _parts(text: str) -> tuple[str, str, str] | None:
    """(liked titles, disliked titles, the one that is asked for), or None where a record is none."""
    preference, unpreference, question = HEADS
    begin = preference.match(text)
    middle = begin and unpreference.search(text, begin.end())
    end = middle and question.search(text, middle.end())
    if not (begin and middle and end and text.rstrip().endswith("?")):
        return None
    return text[begin.end() : middle.start()], text[middle.end() : end.start()], text[end.end() :].rstrip()[:-1]


def _titles(text: str) -> list[str]:
    # Titles hold commas, too; only one before a quote ends a title.
    return [_plain(part) for part in re.split(r',\s*(?=")', text.strip()) if part]


def _plain(title: str) -> str:
    """A title without its quotes, whether it stands in a list or is asked for, where books come with their author."""
    title = title.strip()
    if len(title) > 1 and title[0] == title[-1] == '"':
        title = title[1:-1]
    return re.sub(r'^"(.*)"(?= written by )', r"\1", title)
