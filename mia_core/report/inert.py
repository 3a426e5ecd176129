"""Text from a file, so that it is seen as it is."""

from __future__ import annotations

import re

import polars as pl

TURNING = "[\u200e\u200f\u202a-\u202e\u2066-\u2069]"
"""Characters that are not seen themselves and turn what stands around them the other way."""
MARK = "\ufffd"


def visible(text: str) -> str:
    """The text with a mark where a character would turn its neighbours around; letters of any script keep their direction."""
    return re.sub(TURNING, MARK, text)


def visible_column(text: pl.Expr) -> pl.Expr:
    """The same for a column."""
    return text.str.replace_all(TURNING, MARK)
