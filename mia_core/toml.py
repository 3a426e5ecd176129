"""Plain data as TOML."""

from __future__ import annotations

import json
from typing import Any


def as_toml(document: dict[str, Any]) -> str:
    """Plain data as TOML; what is null is left out, since TOML has no word for it."""
    lines: list[str] = []

    def write(part: dict[str, Any], path: str) -> None:
        plain = {name: value for name, value in part.items() if not isinstance(value, dict) and value is not None}
        if path and (plain or not part):
            lines.extend(["", f"[{path}]"])
        lines.extend(f"{_key(name)} = {toml_value(value)}" for name, value in plain.items())
        for name, value in part.items():
            if isinstance(value, dict):
                write(value, f"{path}.{_key(name)}" if path else _key(name))

    write(document, "")
    return "\n".join(lines).strip() + "\n"


def toml_value(value: Any) -> str:
    """A text, number, truth value, or list or record of these, as TOML writes it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(k)} = {toml_value(v)}" for k, v in value.items() if v is not None) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(toml_value(item) for item in value if item is not None) + "]"
    # JSON's texts, numbers and booleans are TOML's too, but for one letter.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(name: str) -> str:
    bare = bool(name) and all(letter.isascii() and (letter.isalnum() or letter in "-_") for letter in name)
    return name if bare else toml_value(name)
