"""A text area whose text is read while it is typed, not only when the reader leaves it."""

from __future__ import annotations

import streamlit as st

PAUSE = 600
"""Milliseconds without a key after which the text is read."""

# The text area's own way of handing over its text is Control and Enter; nothing is sent past it.
LISTENER = """
export default function ({ data }) {
    const area = document.querySelector(`.st-key-${data.key} textarea`)
    if (!area) return
    let timer
    const heard = () => {
        clearTimeout(timer)
        timer = setTimeout(
            () => area.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", ctrlKey: true, bubbles: true })),
            data.pause,
        )
    }
    area.addEventListener("input", heard)
    return () => { clearTimeout(timer); area.removeEventListener("input", heard) }
}
"""
_LISTENER = st.components.v2.component("memberscope_live_text", js=LISTENER)


def live_text_area(label: str, key: str, height: int) -> str:
    """`st.text_area`, with the page run again at every pause in the typing."""
    text = st.text_area(label, key=key, height=height)
    _LISTENER(key=f"{key}_listener", data={"key": key, "pause": PAUSE}, height=1)
    return text or ""
