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
        lines.extend(f"{_toml_key(name)} = {_toml_value(value)}" for name, value in plain.items())
        for name, value in part.items():
            if isinstance(value, dict):
                write(value, f"{path}.{_toml_key(name)}" if path else _toml_key(name))

    write(document, "")
    return "\n".join(lines).strip() + "\n"


def _toml_key(name: str) -> str:
    bare = bool(name) and all(letter.isascii() and (letter.isalnum() or letter in "-_") for letter in name)
    return name if bare else _toml_value(name)


def _toml_value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml_key(k)} = {_toml_value(v)}" for k, v in value.items() if v is not None) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_toml_value(item) for item in value if item is not None) + "]"
    # JSON's texts, numbers and booleans are TOML's too, but for one letter.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
