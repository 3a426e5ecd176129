"""How histories are put into words."""

from __future__ import annotations

import polars as pl

from mia_core.data.interactions import validate
from mia_core.data.prompts import prompt_writer
from mia_core.experiment import Prompt


def test_with_mostly_thumbs_down_a_thumb_up_is_what_counts_as_liked() -> None:
    rows = {"user": ["a"] * 5, "item": list("12345"), "rating": [0.0, 0.0, 0.0, 1.0, 0.0]}
    data = validate(pl.DataFrame(rows))
    writer = prompt_writer(data, Prompt(style="like_dislike"), ["a"])
    assert [writer.words([*map(writer.event, "12"), writer.event("3", rating)])[1] for rating in (0.0, 1.0)] == [
        "No",
        "Yes",
    ]
