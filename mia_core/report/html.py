"""A report as one HTML file: no script, no network, charts as vectors; it reads the same from a disk as from a server."""

from __future__ import annotations

import re
from html import escape
from importlib import resources
from itertools import groupby

from mia_core.report.document import Block, Chart, Code, Document, Facts, Notice, Paragraph, Points, Section, Table
from mia_core.report.wording import minute

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""What a browser may do with the file: show it."""


def as_html(document: Document, *, contents: bool = True) -> bytes:
    """The whole file, in UTF-8.

    Args:
        contents: whether its table of contents is there; inside another page its links would lead nowhere.
    """
    css = resources.files("mia_core.report").joinpath("report.css").read_text(encoding="utf-8")
    stamp = f'<p class="stamp {"passed" if document.valid else "failed"}">{escape(document.stamp)}</p>'
    links = "".join(f'<li><a href="#{section.name}">{escape(section.title)}</a></li>' for section in document.sections)
    nav = f'<nav aria-label="Contents"><h2>Contents</h2><ol>{links}</ol></nav>\n' if contents else ""
    drawings = _Drawings()
    body = "".join(_section(section, drawings) for section in document.sections)
    opening = _blocks(document.opening, drawings)
    made = escape(minute(document.created))
    text = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(document.title)} – {escape(document.subtitle)}</title>\n<style>\n{css}</style>\n</head>\n<body>\n"
        f'<header><p class="over">{escape(document.subtitle)}</p>\n<h1 dir="auto">{escape(document.title)}</h1>\n{stamp}\n'
        f"{opening}</header>\n"
        f"{nav}<main>\n{body}</main>\n"
        f"<footer><p>Audit {escape(document.key)}, run {made} UTC. “python -m mia_core verify” checks that this file is as it "
        "was sealed.</p></footer>\n</body>\n</html>\n"
    )
    return text.encode()


class _Drawings:
    """Numbers the drawings, whose inner names would clash in one page."""

    def __init__(self) -> None:
        self.count = 0

    def inline(self, chart: Chart) -> str:
        self.count += 1
        name = f"chart{self.count}"
        svg = re.sub(r'(id="|url\(#)', rf"\g<1>{name}-", chart.svg)
        opening, _, rest = svg.partition(">")
        size = re.search(r'viewBox="[^"]*"', opening)
        # What is drawn is told once, in words; its lines and letters are no content of their own.
        return (
            f'<svg {size[0] if size else ""} role="img" aria-labelledby="{name}-title {name}-desc">'
            f'<title id="{name}-title">{escape(chart.title)}</title><desc id="{name}-desc">{escape(chart.description)}</desc>'
            f'<g aria-hidden="true">{rest.removesuffix("</svg>")}</g></svg>'
        )


def _section(section: Section, drawings: _Drawings) -> str:
    return f'<section id="{section.name}"><h2>{escape(section.title)}</h2>\n{_blocks(section.blocks, drawings)}</section>\n'


def _blocks(blocks: tuple[Block, ...], drawings: _Drawings) -> str:
    told = ""
    for half, group in groupby(blocks, lambda block: isinstance(block, Chart) and block.half):
        inside = "".join(_block(block, drawings) for block in group)
        told += f'<div class="halves">{inside}</div>\n' if half else inside
    return told


def _block(block: Block, drawings: _Drawings) -> str:
    match block:
        case Paragraph(text, style):
            kind = "" if style == "plain" else f' class="{style}"'
            return f"<p{kind}>{escape(text)}</p>\n"
        case Notice(title, text, failed):
            lines = "".join(f'<p dir="auto">{escape(line)}</p>' for line in text.split("\n"))
            return (
                f'<div class="notice {"failed" if failed else "told"}"><strong>{escape(title)}</strong>{lines}</div>\n'
            )
        case Points(items):
            return f"<ul>{''.join(f'<li>{escape(item)}</li>' for item in items)}</ul>\n"
        case Facts(rows, wide):
            told = "".join(f"<dt>{escape(name)}</dt><dd><bdi>{escape(value)}</bdi></dd>" for name, value in rows)
            return f'<dl class="{"wide" if wide else "short"}">{told}</dl>\n'
        case Table():
            return _table(block)
        case Chart():
            caption = f"<figcaption>{escape(block.caption)}</figcaption>" if block.caption else ""
            return f"<figure><p>{escape(block.title)}</p>{drawings.inline(block)}{caption}</figure>\n"
        case Code(text, caption):
            return f'<p class="quiet">{escape(caption)}</p><pre tabindex="0">{escape(text)}</pre>\n'


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in table.columns)
    rows = []
    for first, *others in table.rows:
        cells = "".join(
            f'<td class="{"words" if _in_words(table, i) else "figure"}"><bdi>{escape(cell)}</bdi></td>'
            for i, cell in enumerate(others, start=1)
        )
        rows.append(f'<tr><th scope="row"><bdi>{escape(first)}</bdi></th>{cells}</tr>\n')
    return (
        f'<div class="scroll" role="region" aria-label="{escape(table.caption)}" tabindex="0"><table>'
        f"<caption>{escape(table.caption)}</caption>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{''.join(rows)}</tbody></table></div>\n"
    )


def _in_words(table: Table, column: int) -> bool:
    """Whether a column holds words: the first ones, and a last one of sentences."""
    longest = max((len(row[column]) for row in table.rows), default=0)
    return column < table.words or longest > 60
