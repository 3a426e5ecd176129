"""Pieces of text that the widgets have no form for: a lead, numbered steps, questions with answers, formulas.

Every string that goes in is escaped here; the only markup is that of this module.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence

import streamlit as st

STYLE = """
<style>
.ms-text {max-width: 44rem; line-height: 1.6; margin: 0 0 .8rem;}
.ms-door {font-size: 1.25rem; font-weight: 640; letter-spacing: -.01em; line-height: 1.25; margin: 0 0 .35rem;}
.ms-about {opacity: .85; line-height: 1.5; margin: 0;}
.ms-steps {display: grid; grid-template-columns: repeat(auto-fit, minmax(12rem, 1fr)); gap: 1.6rem; padding: 0 !important;
  margin: .4rem 0 !important; list-style: none; counter-reset: step;}
.ms-steps > li {counter-increment: step; padding: 0; margin: 0 !important;}
.ms-steps > li::before {content: counter(step); display: inline-block; width: 1.7rem; height: 1.7rem; line-height: 1.7rem;
  margin-right: .6rem; border-radius: 50%; text-align: center; font-weight: 650; font-variant-numeric: tabular-nums;
  background: color-mix(in srgb, currentColor 11%, transparent);}
.ms-steps b {font-weight: 640;}
.ms-steps p {margin: .3rem 0 0; line-height: 1.55; opacity: .85;}
.ms-facts {display: grid; grid-template-columns: minmax(7rem, 11rem) minmax(0, 1fr); gap: .65rem 1.4rem;
  margin: .4rem 0 !important; padding: 0 !important;
  line-height: 1.55; max-width: 56rem;}
.ms-facts dt {font-weight: 620; opacity: .8;}
.ms-facts dd {margin: 0; overflow-wrap: anywhere;}
.ms-facts a, .ms-rows a {color: inherit; text-underline-offset: .2em; text-decoration-thickness: 1px;}
.ms-facts code, .ms-text code {font-size: .9em;}
.ms-formula {font-family: "JetBrains Mono", "SFMono-Regular", "Noto Sans Mono", Menlo, Consolas, monospace; font-size: .9rem;
  line-height: 1.6; white-space: pre-wrap; border-left: 3px solid currentColor; padding: .1rem 0 .1rem .9rem; margin: 0;}
.ms-rows {display: grid; grid-template-columns: minmax(11rem, 17rem) minmax(0, 1fr) minmax(6rem, 9rem); margin: 0 !important;
  padding: 0 !important; list-style: none; line-height: 1.5;}
.ms-rows > li {display: grid; grid-template-columns: subgrid; grid-column: 1 / -1; gap: 0 1.4rem; padding: .5rem 0;
  margin: 0 !important; border-top: 1px solid color-mix(in srgb, currentColor 14%, transparent);}
.ms-rows > li:first-child {border-top: 0;}
.ms-rows a {font-weight: 600; overflow-wrap: anywhere;}
.ms-rows span {opacity: .82;}
.ms-points {max-width: 46rem; line-height: 1.6; padding-left: 1.2rem; margin: 0 0 1rem;}
.ms-points li {margin-bottom: .35rem;}
.ms-pairs {display: grid; grid-template-columns: 1fr 1fr; gap: 0 2rem; max-width: 56rem;}
.ms-pairs > div {border-top: 1px solid color-mix(in srgb, currentColor 25%, transparent); padding: .55rem 0; line-height: 1.5;}
.ms-pairs > div.ms-head {border: 0; font-weight: 640;}
@media (max-width: 640px) {
  .ms-facts, .ms-pairs, .ms-rows {grid-template-columns: 1fr; gap: .15rem;}
  .ms-facts dd {margin-bottom: .7rem;}
  .ms-rows > li {grid-template-columns: 1fr;}
  .ms-pairs > div.ms-head {display: none;}
  .ms-pairs > div[data-head]::before {content: attr(data-head); font-weight: 640;}
  .ms-pairs > div:nth-child(even) {border-top: 0; padding-top: 0;}
}
</style>
"""
_CODE = re.compile(r"`([^`]+)`")
_ARXIV = re.compile(r"\barXiv (\d{4}\.\d{4,5})\b|\b(\d{4}\.\d{5})\b")


def style() -> None:
    """Once a page, before anything of this module."""
    st.html(STYLE)


def escaped(text: str) -> str:
    """A text as HTML that shows just what stands in it, with what stands between backticks as code."""
    return _CODE.sub(r"<code>\1</code>", html.escape(text))


def sources(text: str) -> str:
    """A text as HTML in which each arXiv number leads to its paper."""

    def link(found: re.Match[str]) -> str:
        number = found[1] or found[2]
        return f'<a href="https://arxiv.org/abs/{number}" target="_blank" rel="noreferrer noopener">{found[0]}</a>'

    return _ARXIV.sub(link, escaped(text))


def text(*paragraphs: str) -> None:
    """Paragraphs of a width that is easily read."""
    st.html("".join(f'<p class="ms-text">{escaped(paragraph)}</p>' for paragraph in paragraphs))


def points(*lines: str) -> None:
    """A list."""
    st.html(f'<ul class="ms-points">{"".join(f"<li>{escaped(line)}</li>" for line in lines)}</ul>')


def steps(named: Mapping[str, str]) -> None:
    """Numbered steps side by side."""
    rows = "".join(f"<li><b>{escaped(name)}</b><p>{escaped(about)}</p></li>" for name, about in named.items())
    st.html(f'<ol class="ms-steps">{rows}</ol>')


def door(title: str, about: str) -> None:
    """What is behind a button."""
    st.html(f'<p class="ms-door">{escaped(title)}</p><p class="ms-about">{escaped(about)}</p>')


def facts(rows: Mapping[str, str]) -> None:
    """Names with what they are; empty ones are left out. What is called Formula stands as one, a Source leads to its papers."""
    shown = []
    for name, value in rows.items():
        if not value:
            continue
        if name == "Formula":
            lines = html.escape(value).replace("; ", "\n")
            body = f'<pre class="ms-formula">{lines}</pre>'
        else:
            sentence = value[:1].upper() + value[1:]
            body = sources(sentence) if name == "Source" else escaped(sentence)
        shown.append(f"<dt>{escaped(name)}</dt><dd>{body}</dd>")
    st.html(f'<dl class="ms-facts">{"".join(shown)}</dl>')


def rows(found: Sequence[tuple[str, str, str, str]]) -> None:
    """Links within the page that is open, each with what is behind it.

    Args:
        found: what stands in the address after the question mark, name, about, note.
    """
    shown = "".join(
        f'<li><a href="?{html.escape(query)}">{escaped(name)}</a><span>{escaped(about)}</span><span>{escaped(note)}</span></li>'
        for query, name, about, note in found
    )
    st.html(f'<ul class="ms-rows">{shown}</ul>')


def pairs(heads: tuple[str, str], rows: Sequence[tuple[str, str]]) -> None:
    """Two columns of sentences that belong together."""
    cells = [f'<div class="ms-head">{escaped(head)}</div>' for head in heads]
    cells += [
        f'<div data-head="{html.escape(head)}: ">{escaped(cell)}</div>'
        for row in rows
        for head, cell in zip(heads, row, strict=True)
    ]
    st.html(f'<div class="ms-pairs">{"".join(cells)}</div>')
