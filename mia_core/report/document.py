"""What a report consists of, whatever it is printed as: sections of paragraphs, tables and charts. Everything is plain text."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal

LONGEST = 200
"""Characters that are shown of an id, a title or a name."""
# Marks that turn the direction of what follows: a name that holds one would turn the report's own words, too.
_STEERING = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True)
class Paragraph:
    """Running text."""

    text: str
    style: Literal["plain", "lead", "quiet"] = "plain"


@dataclass(frozen=True)
class Notice:
    """A boxed sentence that nobody may miss."""

    title: str
    text: str
    failed: bool = False


@dataclass(frozen=True)
class Points:
    """A list of sentences."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Facts:
    """Names and what they stand for, a line each."""

    rows: tuple[tuple[str, str], ...]
    wide: bool = False
    """The values are sentences rather than short."""


@dataclass(frozen=True)
class Table:
    """A table; its first column names the rows."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: int = 1
    """So many columns from the left hold words; the others hold figures."""
    widths: tuple[float, ...] = ()
    """Of the columns, as shares; empty: as their contents need."""


@dataclass(frozen=True)
class Chart:
    """A drawing with what it shows in words."""

    svg: str
    title: str
    description: str
    """What somebody who cannot see it is told."""
    caption: str = ""
    half: bool = False
    """Stands beside the next one where there is room."""


@dataclass(frozen=True)
class Code:
    """Text that a machine reads."""

    text: str
    caption: str
    columns: int = 1
    """On paper."""


Block = Paragraph | Notice | Points | Facts | Table | Chart | Code


@dataclass(frozen=True)
class Section:
    """A part of a report under its own heading."""

    name: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Document:
    """A whole report."""

    title: str
    subtitle: str
    stamp: str
    """What holds for everything in it, in few words: whether the audit is valid."""
    valid: bool
    created: str
    """Of the audit, ISO 8601."""
    key: str
    opening: tuple[Block, ...]
    """Stands before the first section."""
    sections: tuple[Section, ...]


def inert(text: str, longest: int = LONGEST) -> str:
    """Somebody's text as it is shown: one line, no steering characters, cut where it is too long."""
    line = " ".join(_STEERING.sub("", text).split())
    plain = "".join("\ufffd" if unicodedata.category(letter) in ("Cc", "Cs", "Co", "Cn") else letter for letter in line)
    return plain if len(plain) <= longest else f"{plain[: longest - 1]}…"
