"""A report or a letter as a tagged PDF, set by Typst. What is printed is handed over as data, never as markup."""

from __future__ import annotations

import dataclasses
import json
import re
from functools import cache
from importlib import resources
from typing import Any, Literal

from mia_core.report.document import Chart, Document, inert

FONT_PACKAGES = ("fontpkg_inter", "fontpkg_ibm_plex_sans_arabic", "justmytype_intl_cjk")
"""Latin, Cyrillic and Greek; Arabic; Chinese, Japanese and Korean. Typst itself brings Hebrew."""
FONTS = (
    "Inter",
    "IBM Plex Sans Arabic",
    "Noto Sans JP",
    "Noto Sans SC",
    "Noto Sans KR",
    "Noto Sans TC",
    "Libertinus Serif",
)
INK = "#1d2733"


def as_pdf(document: Document) -> bytes:
    """The whole report, with bookmarks, tags and words for its charts."""
    year, month, day = (int(part) for part in document.created[:10].split("-"))
    data = {
        "title": document.title,
        "running": inert(document.title, 80),
        "subtitle": document.subtitle,
        "stamp": document.stamp,
        "valid": document.valid,
        "key": document.key,
        "date": {"year": year, "month": month, "day": day},
        "opening": [_plain(block) for block in document.opening],
        "sections": [
            {"title": section.title, "blocks": [_plain(block) for block in section.blocks]}
            for section in document.sections
        ],
    }
    return typeset("report.typ", data)


def typeset(template: str, data: dict[str, Any]) -> bytes:
    """A PDF from one of our own templates and what it says.

    It is PDF/UA-1 wherever there is a letter form for every character; where a name has one that the fonts lack, the PDF is
    tagged all the same, but may not call itself so.
    """
    import typst

    source = resources.files("mia_core.report").joinpath(template).read_bytes()
    inputs = {"document": json.dumps({**data, "fonts": FONTS}, ensure_ascii=False)}

    def compiled(standard: Literal["ua-1", "1.7"]) -> bytes:
        made: bytes = typst.compile(
            source, font_paths=_fonts(), format="pdf", sys_inputs=inputs, pdf_standards=[standard]
        )
        return made

    try:
        return compiled("ua-1")
    except typst.TypstError as error:
        if "could not be displayed" not in str(error):
            raise
        return compiled("1.7")


@cache
def _fonts() -> Any:
    import typst

    folders = [str(resources.files(package)) for package in FONT_PACKAGES]
    # Only fonts that were installed with this program: every machine sets the same pages.
    return typst.Fonts(include_system_fonts=False, include_embedded_fonts=True, font_paths=folders)


def _plain(block: Any) -> dict[str, Any]:
    """A block as plain data for the template."""
    data = {"kind": type(block).__name__, **{f.name: getattr(block, f.name) for f in dataclasses.fields(block)}}
    if isinstance(block, Chart):
        width = re.search(r'width="(\d+)', block.svg)
        data["svg"] = block.svg.replace("currentColor", INK)
        data["points"] = int(width[1]) if width else 600
    return data
