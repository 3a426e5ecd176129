"""The tokens of an answer as a reader sees them: each shaded by how much fine-tuning raised or lowered it."""

from __future__ import annotations

import html

import numpy as np
import polars as pl

LEVELS = 4
"""Steps of shade, and of the underline's thickness, in either direction."""
STRONGEST = 2.0
"""Nats at and beyond which a token has the strongest shade: seven times as likely, or a seventh as likely."""

_SHADES = "".join(
    f".ms-up{level} {{background: rgba(0,114,178,{0.11 * level:.2f}); border-bottom: {level}px solid #3d95c9;}}\n"
    f".ms-down{level} {{background: rgba(213,94,0,{0.11 * level:.2f}); border-bottom: {level}px dotted #e0803a;}}\n"
    for level in range(1, LEVELS + 1)
)
STYLE = (
    "<style>\n"
    ".ms-tokens {line-height: 2.1; max-width: 62rem; overflow-wrap: anywhere; unicode-bidi: isolate; white-space: pre-wrap;}\n"
    ".ms-tokens span {border-radius: 3px; padding: 1px 0;}\n"
    f"{_SHADES}</style>"
)
LEGEND = (
    '<p class="ms-tokens">'
    + " ".join(
        f'<span class="ms-down{level}">{"less likely" if level == LEVELS else "&nbsp;&nbsp;"}</span>'
        for level in range(LEVELS, 0, -1)
    )
    + " <span>&nbsp;unchanged&nbsp;</span> "
    + " ".join(
        f'<span class="ms-up{level}">{"more likely" if level == LEVELS else "&nbsp;&nbsp;"}</span>'
        for level in range(1, LEVELS + 1)
    )
    + "</p>"
)


def shade(raised: np.ndarray) -> np.ndarray:
    """(n,) from −LEVELS to LEVELS, 0 for what hardly changed or is not known.

    Args:
        raised: (n,) nats.
    """
    steps = np.rint(np.nan_to_num(raised, nan=0.0) / STRONGEST * LEVELS)
    return np.clip(steps, -LEVELS, LEVELS).astype(int)


def token_html(tokens: pl.DataFrame) -> str:
    """One answer as HTML of our own: the tokens' text is escaped, and nothing else of theirs is in it.

    Args:
        tokens: text, raised (nats, may be null), in order.
    """
    levels = shade(tokens["raised"].cast(pl.Float64).fill_null(float("nan")).to_numpy())
    parts = []
    for text, raised, level in zip(tokens["text"], tokens["raised"], levels, strict=True):
        shown = html.escape(str(text))
        name = f"ms-up{level}" if level > 0 else f"ms-down{-level}" if level < 0 else ""
        tip = "" if raised is None else f' title="{raised:+.2f} nats"'
        parts.append(f'<span class="{name}"{tip}>{shown}</span>' if name else f"<span{tip}>{shown}</span>")
    return f'<p class="ms-tokens" dir="auto">{"".join(parts)}</p>'
